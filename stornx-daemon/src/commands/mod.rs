//! The commands. Each reads its input, calls the decisions, and writes one result.

pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod plan;

use std::{
    io::{self, Write as _},
    path::Path,
};

use stornx_core::{decide, model::Snapshot, plan::Planned};

use crate::config::Effective;

/// The formats of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one object with `plan` and `report`.
    Json,
    /// The same as YAML.
    Yaml,
}

/// Writes a result to standard output.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Reads a recorded snapshot.
pub(crate) fn snapshot(path: &Path) -> anyhow::Result<Snapshot> {
    let mut snapshot = stornx_sim::files::load_snapshot(path)?;
    snapshot.sort();
    Ok(snapshot)
}

/// Decides on a recorded snapshot, as of the time it was taken, with what was
/// remembered then.
pub(crate) fn decide(snapshot: &Snapshot, effective: &Effective) -> Planned {
    let policy = effective.policy_for_recorded();
    decide::plan(snapshot, &policy, &snapshot.memory, snapshot.taken_at)
}
