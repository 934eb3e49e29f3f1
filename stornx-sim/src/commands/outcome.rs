//! `stornx-sim outcome`.

use clap::Args;
use serde::Serialize;
use stornx_sim::{
    builtin,
    experiment::{self, Comparison, Outcome, PolicyName},
    scenario::Timespan,
};

use super::{Failure, Output, policies, print, print_json, scenario};

#[derive(Debug, Args)]
pub(super) struct OutcomeArguments {
    /// Built-in names or paths of YAML files, separated by commas; every built-in scenario
    /// when absent.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Policies, separated by commas; all of them when absent.
    #[arg(long, value_delimiter = ',')]
    policies: Vec<String>,
    /// How many seeds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1001, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
    first_seed: u64,
    /// Another duration than the scenarios' own, e.g. 1000m.
    #[arg(long)]
    duration: Option<Timespan>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Outcomes {
    comparisons: Vec<Comparison>,
    outcomes: Vec<Outcome>,
}

pub(super) fn outcome(arguments: &OutcomeArguments) -> Result<(), Failure> {
    let mut chosen = policies(&arguments.policies)?;
    if chosen.is_empty() {
        chosen = PolicyName::ALL.to_vec();
    }
    let names: Vec<String> = if arguments.scenarios.is_empty() {
        builtin::names().into_iter().map(str::to_owned).collect()
    } else {
        arguments.scenarios.iter().map(|name| name.trim().to_owned()).collect()
    };
    let scenarios = names
        .iter()
        .map(|name| scenario(name, arguments.duration))
        .collect::<Result<Vec<_>, _>>()?;
    let seeds: Vec<u64> = (arguments.first_seed..).take(arguments.seeds as usize).collect();
    let begun = std::time::Instant::now();
    let mut result = Outcomes { comparisons: Vec::new(), outcomes: Vec::new() };
    for (number, scenario) in scenarios.iter().enumerate() {
        let (comparison, _) =
            experiment::compare(scenario, &chosen, &seeds, |_| {}).map_err(Failure::work)?;
        result.outcomes.extend(Outcome::of(scenario, &comparison).map_err(Failure::work)?);
        result.comparisons.push(comparison);
        let (done, all, seconds) = (number + 1, scenarios.len(), begun.elapsed().as_secs_f64());
        eprintln!("{done}/{all} after {seconds:.0} s: {}", scenario.name);
    }
    match arguments.output {
        Output::Json => print_json(&result),
        Output::Table => print(&experiment::outcome_tables(&result.comparisons, &result.outcomes)),
    }
}
