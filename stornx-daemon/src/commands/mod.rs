//! The commands. Each reads its input, calls the decisions, and writes one result.

pub(crate) mod cleanup;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod explain;
mod live;
mod page;
pub(crate) mod plan;
pub(crate) mod record;
pub(crate) mod run;

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

/// The runtime of the commands that talk to a cluster.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What is decided: on a recorded snapshot, or on the live cluster.
fn decided(recorded: Option<&Path>, effective: &Effective) -> anyhow::Result<(Snapshot, Planned)> {
    match recorded {
        Some(path) => {
            let snapshot = snapshot(path)?;
            let planned = decide(&snapshot, effective);
            Ok((snapshot, planned))
        }
        None => live::look_once(&effective.settings),
    }
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
