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

/// The workload that `wanted` means: the whole reference, namespace and name, or a name that is
/// unique.
fn find(snapshot: &Snapshot, wanted: &str) -> anyhow::Result<WorkloadRef> {
    let all = || snapshot.workloads.iter().map(|workload| &workload.id);
    let named: Vec<_> = all().filter(|id| means(id, wanted)).cloned().collect();
    match named.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            let near = near(all(), wanted);
            if near.is_empty() {
                let some: Vec<_> = all().take(SHOWN).cloned().collect();
                let more = all().count() - some.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                bail!("no workload {wanted:?}; there are: {}{more}", join(&some));
            }
            bail!("no workload {wanted:?}; near names: {}", join(&near));
        }
        several => bail!("{wanted:?} is the name of several workloads: {}", join(several)),
    }
}

/// Names in a message when none is near.
const SHOWN: usize = 20;

/// Whether somebody who says `wanted` may mean this one.
fn means(id: &WorkloadRef, wanted: &str) -> bool {
    let namespaced = || {
        let (namespace, name) = wanted.split_once('/')?;
        Some(id.as_str().split('/').next() == Some(namespace) && id.name() == name)
    };
    id.as_str() == wanted || id.name() == wanted || namespaced() == Some(true)
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
