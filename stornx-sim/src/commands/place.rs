//! `stornx-sim place`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use serde::Serialize;
use stornx_core::policy::Policy;
use stornx_sim::{
    dataset::{affinity, feasibility, place as search, rasa, snapshot},
    files,
};

use super::{Failure, Output, print, print_json};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum Format {
    /// The JSON of the published RASA data sets.
    #[default]
    Rasa,
    /// A recorded snapshot.
    Snapshot,
}

#[derive(Debug, Args)]
pub(super) struct PlaceArguments {
    /// The data set.
    #[arg(long, value_name = "FILE")]
    dataset: PathBuf,
    /// Its format.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Zones of a data set that names none: machine number modulo this. A snapshot has
    /// its own.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    zones: u32,
    /// Most containers moved.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    max_moves: u64,
    /// Most seconds spent.
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    time_limit: f64,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "a number of seconds is allowed".to_owned())?;
    if (0.0..=1e6).contains(&value) {
        Ok(value)
    } else {
        Err("0 to 1000000 seconds are allowed".to_owned())
    }
}

#[derive(Serialize)]
struct Change {
    before: f64,
    after: f64,
}

#[derive(Serialize)]
struct Placed {
    gained_affinity: Change,
    gained_affinity_zone: Change,
    moves: usize,
    feasible: bool,
    seconds: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    violations: Vec<String>,
    placement: BTreeMap<String, String>,
}

pub(super) fn place(arguments: &PlaceArguments) -> Result<(), Failure> {
    let moves = usize::try_from(arguments.max_moves).unwrap_or(usize::MAX);
    let time = Duration::from_secs_f64(arguments.time_limit);
    let begun = std::time::Instant::now();
    let (before, zones, placement, moves) = match arguments.format {
        Format::Rasa => {
            let dataset = rasa::load(&arguments.dataset).map_err(Failure::input)?;
            let placed = search::search(&dataset, search::Limits { moves, time });
            let zones = dataset.zones(arguments.zones as usize);
            (dataset, zones, placed.placement, placed.moves)
        }
        Format::Snapshot => {
            let snapshot = files::load_snapshot(&arguments.dataset).map_err(Failure::input)?;
            let (dataset, zones) = snapshot::dataset(&snapshot);
            let done = snapshot::reschedule(&snapshot, &Policy::default(), moves, time);
            let (after, _) = snapshot::dataset(&done.snapshot);
            (dataset, zones, after.deployed, done.moves)
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let machines: Vec<usize> = (0..before.machines.len()).collect();
    let change = |groups: &[usize]| Change {
        before: affinity::gained(&before, &before.deployed, groups),
        after: affinity::gained(&before, &placement, groups),
    };
    let violations = feasibility::violations(&before, &placement);
    let names = before.services.iter().zip(&placement).flat_map(|(service, places)| {
        let named = service.containers.iter().zip(places);
        named.map(|(name, place)| (name.clone(), before.machines[*place].name.clone()))
    });
    let result = Placed {
        gained_affinity: change(&machines),
        gained_affinity_zone: change(&zones),
        moves,
        feasible: violations.is_empty(),
        seconds,
        placement: names.collect(),
        violations,
    };
    match arguments.output {
        Output::Json => print_json(&result),
        Output::Table => print(&table(&result)),
    }
}

fn table(placed: &Placed) -> String {
    let change = |change: &Change| format!("{:.4} -> {:.4}", change.before, change.after);
    let mut text = String::new();
    for (name, value) in [
        ("gained affinity by machine", change(&placed.gained_affinity)),
        ("gained affinity by zone", change(&placed.gained_affinity_zone)),
        ("containers moved", placed.moves.to_string()),
        ("feasible", if placed.feasible { "yes" } else { "no" }.to_owned()),
        ("seconds", format!("{:.2}", placed.seconds)),
    ] {
        text.push_str(&format!("{name:<27} {value}\n"));
    }
    for violation in &placed.violations {
        text.push_str(&format!("  {violation}\n"));
    }
    text
}
