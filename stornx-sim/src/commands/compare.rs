//! `stornx-sim compare`.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Instant,
};

use clap::Args;
use stornx_sim::{
    experiment::{self, PolicyName, Run},
    scenario::Timespan,
};

use super::{Failure, Output, draw, policies, print, print_json, scenario};

#[derive(Debug, Args)]
pub(super) struct CompareArguments {
    /// A built-in name, or the path of a YAML file.
    scenario: String,
    /// Policies, separated by commas; all of them when absent.
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// How many seeds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// The first of them; others than the default are for figures that no choice was
    /// made on.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    first_seed: u64,
    /// Another duration than the scenario's, e.g. 1000m.
    #[arg(long)]
    duration: Option<Timespan>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Draw the curves of the first seed, policies overlaid, into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
}

pub(super) fn compare(arguments: &CompareArguments) -> Result<(), Failure> {
    let scenario = scenario(&arguments.scenario, arguments.duration)?;
    let mut chosen = policies(&arguments.policies)?;
    if chosen.is_empty() {
        chosen = PolicyName::ALL.to_vec();
    }
    let first = arguments.first_seed;
    let seeds: Vec<u64> = (first..first + arguments.seeds).collect();
    let (begun, finished, all) = (Instant::now(), AtomicUsize::new(0), chosen.len() * seeds.len());
    let done = |run: &Run| {
        let number = finished.fetch_add(1, Ordering::Relaxed) + 1;
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("{number}/{all} after {seconds:.0} s: {} seed {}", run.policy, run.seed);
    };
    let (comparison, runs) =
        experiment::compare(&scenario, &chosen, &seeds, done).map_err(Failure::work)?;
    if let Some(path) = &arguments.plot {
        let first: Vec<&Run> = runs.iter().filter(|run| run.seed == seeds[0]).collect();
        draw(&experiment::chart(&scenario, &first), path)?;
    }
    match arguments.output {
        Output::Json => print_json(&comparison),
        Output::Table => print(&experiment::comparison_table(&comparison)),
    }
}
