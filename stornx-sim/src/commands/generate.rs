//! `stornx-sim generate`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use clap::Args;
use stornx_core::model::Snapshot;
use stornx_sim::generate::{self, LARGEST, Options, Size};

use super::Failure;

#[derive(Debug, Args)]
pub(super) struct GenerateArguments {
    /// Nodes.
    #[arg(long, default_value_t = LARGEST.nodes)]
    nodes: usize,
    /// Pods in all.
    #[arg(long, default_value_t = LARGEST.pods)]
    pods: usize,
    /// Workloads.
    #[arg(long, default_value_t = LARGEST.workloads)]
    workloads: usize,
    /// Edges of the call graph.
    #[arg(long, default_value_t = LARGEST.edges)]
    edges: usize,
    /// Over how many zones nodes are spread.
    #[arg(long, default_value_t = 3)]
    zones: usize,
    /// CPU requested by all pods as a share of what nodes have.
    #[arg(long, default_value_t = 0.88)]
    requested_cpu: f64,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where to write the snapshot, in JSON; standard output when absent.
    #[arg(long, value_name = "FILE.json")]
    output: Option<PathBuf>,
}

pub(super) fn generate(arguments: &GenerateArguments) -> Result<(), Failure> {
    let &GenerateArguments { nodes, pods, workloads, edges, zones, requested_cpu, seed, .. } =
        arguments;
    let size = Size { nodes, pods, workloads, edges };
    let options = Options { size, zones, requested_cpu, seed };
    let snapshot = generate::generate(&options).map_err(Failure::input)?;
    match &arguments.output {
        None => match write(&snapshot, std::io::stdout().lock()) {
            // A reader that has seen enough (`| head`) is no failure.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            other => other.map_err(Failure::work),
        },
        Some(path) => {
            let written = File::create(path).and_then(|file| write(&snapshot, file));
            written.map_err(|error| {
                Failure::Work(anyhow::anyhow!("{}: cannot be written: {error}", path.display()))
            })
        }
    }
}

/// Straight into the file: the text of the largest is a hundred megabytes.
fn write(snapshot: &Snapshot, to: impl Write) -> std::io::Result<()> {
    let mut to = BufWriter::new(to);
    serde_json::to_writer(&mut to, snapshot)?;
    writeln!(to)?;
    to.flush()
}
