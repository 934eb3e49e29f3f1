//! What the daemon shows of us at `/metrics`: plain counts, nothing else.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::error::QueryError;

/// Counts since the start, of one query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QueryStats {
    /// Answers by result: `ok`, or the [kind](QueryError::kind) of the error.
    pub results: BTreeMap<&'static str, u64>,
    /// Time spent on those that were asked.
    pub duration: Duration,
    /// Samples that were no number, and native histograms: left out.
    pub skipped: u64,
    /// Rows read.
    pub rows: u64,
    /// Bytes read, decompressed.
    pub bytes: u64,
    /// Warnings that came with answers: their text is in the facts.
    pub warnings: u64,
    /// Remarks (`infos`) that came with answers: their text is in the log, level debug.
    pub remarks: u64,
}

/// Counts since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// By name of the query.
    pub queries: BTreeMap<&'static str, QueryStats>,
    /// How long ago a query was last answered; `None` when none ever was.
    pub last_success_age: Option<Duration>,
}

#[derive(Debug, Default)]
struct Counts {
    queries: BTreeMap<&'static str, QueryStats>,
    last_success: Option<Instant>,
}

/// Counts as they go on.
#[derive(Debug, Default)]
pub(crate) struct Counter(Mutex<Counts>);

/// What one answer adds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Read {
    pub(crate) rows: u64,
    pub(crate) skipped: u64,
    pub(crate) bytes: u64,
    pub(crate) warnings: u64,
    pub(crate) remarks: u64,
}

impl Counter {
    pub(crate) fn count(
        &self,
        query: &'static str,
        took: Duration,
        result: Result<Read, &QueryError>,
    ) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = counts.queries.entry(query).or_default();
        stats.duration += took;
        match result {
            Ok(read) => {
                *stats.results.entry("ok").or_default() += 1;
                stats.rows += read.rows;
                stats.skipped += read.skipped;
                stats.bytes += read.bytes;
                stats.warnings += read.warnings;
                stats.remarks += read.remarks;
                counts.last_success = Some(Instant::now());
            }
            Err(error) => *stats.results.entry(error.kind()).or_default() += 1,
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            queries: counts.queries.clone(),
            last_success_age: counts.last_success.map(|at| at.elapsed()),
        }
    }
}
