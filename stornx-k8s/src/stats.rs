//! Counters of errors, for `/metrics`: who met them and of which kind they were.
//!
//! Watches count their own ([`WatchStats`](crate::WatchStats)), and what becomes of an
//! action is counted by whoever asked for it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use stornx_core::ports::PortError;

pub(crate) const DISCOVERY: &str = "discovery";
pub(crate) const EVENTS: &str = "events";
pub(crate) const LEASE: &str = "lease";
pub(crate) const POD_METRICS: &str = "pod-metrics";
pub(crate) const STORE: &str = "store";
pub(crate) const WEBHOOK: &str = "webhook";

/// How often what went wrong, since the start.
#[derive(Debug, Default)]
pub(crate) struct ErrorStats(Mutex<BTreeMap<(&'static str, &'static str), u64>>);

impl ErrorStats {
    /// Counts an error.
    pub(crate) fn count(&self, what: &'static str, error: &PortError) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((what, kind(error))).or_default() += 1;
    }

    /// Counts the error of a result, and hands the result on.
    pub(crate) fn counted<T>(
        &self,
        what: &'static str,
        result: Result<T, PortError>,
    ) -> Result<T, PortError> {
        result.inspect_err(|error| self.count(what, error))
    }

    /// All counts, by what and kind; none for what never went wrong.
    pub(crate) fn all(&self) -> Vec<(&'static str, &'static str, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().map(|((what, kind), count)| (*what, *kind, *count)).collect()
    }
}

/// The name of a kind of error; the same as of results of actions.
const fn kind(error: &PortError) -> &'static str {
    match error {
        PortError::Unavailable { .. } => "unavailable",
        PortError::Conflict { .. } => "conflict",
        PortError::Rejected { .. } => "rejected",
        PortError::NotTried { .. } => "not-tried",
        PortError::NotLeader { .. } => "not-leader",
    }
}
