//! `stornx explain`: every decision about one workload, of the live cluster or of
//! a recorded snapshot.

use std::path::{Path, PathBuf};

use anyhow::bail;
use stornx_core::{ids::WorkloadRef, model::Snapshot};

use crate::{config, show};

/// Command line of `stornx explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The workload: namespace/Kind/name, or its name alone when only one has it
    workload: String,
    /// A recorded snapshot (YAML or JSON) instead of the live cluster
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
}

/// Prints every decision about the workload.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    let (snapshot, planned) = super::decided(arguments.snapshot.as_deref(), &effective)?;
    let workload = find(&snapshot, &arguments.workload)?;
    super::print(&show::explain(&snapshot, &planned, &workload))
}

/// The workload that `wanted` means: the whole reference, or a name that is unique.
fn find(snapshot: &Snapshot, wanted: &str) -> anyhow::Result<WorkloadRef> {
    let all = || snapshot.workloads.iter().map(|workload| &workload.id);
    let named: Vec<_> =
        all().filter(|id| id.as_str() == wanted || id.name() == wanted).cloned().collect();
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let near = near(all(), wanted);
            if near.is_empty() {
                bail!(
                    "no workload {wanted:?} in this snapshot, which has {} of them",
                    all().count()
                );
            }
            bail!("no workload {wanted:?} in this snapshot; near names: {}", join(&near));
        }
        several => bail!("{wanted:?} is the name of several workloads: {}", join(several)),
    }
}

fn join(ids: &[WorkloadRef]) -> String {
    ids.iter().map(WorkloadRef::as_str).collect::<Vec<_>>().join(", ")
}

/// The workloads whose names are most like `wanted`, best first, three at most.
fn near<'a>(all: impl Iterator<Item = &'a WorkloadRef>, wanted: &str) -> Vec<WorkloadRef> {
    // Half of the letters in place: enough for a slip or a part of a name.
    const LIKE: f64 = 0.5;
    let wanted_name = wanted.rsplit('/').next().unwrap_or(wanted);
    let mut near: Vec<_> = all
        .map(|id| (strsim::normalized_damerau_levenshtein(id.name(), wanted_name), id))
        .filter(|(likeness, id)| {
            *likeness >= LIKE || (wanted_name.len() > 2 && id.name().contains(wanted_name))
        })
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.into_iter().take(3).map(|(_, id)| id.clone()).collect()
}
