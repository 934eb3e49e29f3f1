//! `stornx-sim run`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use stornx_core::{memory::Memory, plan::Plan, report::Report};
use stornx_sim::{
    experiment::{self, Moment, PolicyName, Run, RunFigures},
    scenario::Timespan,
    world::Failures,
};

use super::{Failure, Output, draw, policies, print, print_json, scenario, write};

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// A built-in name, or the path of a YAML file.
    scenario: String,
    /// The policy under test.
    #[arg(long, default_value = "stornx")]
    policy: String,
    /// The seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Another duration than the scenario's, e.g. 1000m.
    #[arg(long)]
    duration: Option<Timespan>,
    /// How to print the result.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Draw the curves into this SVG file.
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Write what every cycle of StornX planned, why, and what it remembered, into this
    /// file, a line of JSON each.
    #[arg(long, value_name = "FILE.jsonl")]
    cycles: Option<PathBuf>,
}

/// A line of the file of cycles.
#[derive(Serialize)]
struct CycleLine<'a> {
    minute: f64,
    plan: &'a Plan,
    report: &'a Report,
    memory: Option<&'a Memory>,
}

#[derive(Serialize)]
struct Outcome<'a> {
    scenario: &'a str,
    policy: &'a str,
    seed: u64,
    figures: RunFigures,
    quiet_cycles: u64,
    refused_plans: u64,
    hops: u64,
    failures: Failures,
    retries: u64,
}

pub(super) fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let scenario = scenario(&arguments.scenario, arguments.duration)?;
    let policy = policies(std::slice::from_ref(&arguments.policy))?
        .first()
        .copied()
        .unwrap_or(PolicyName::Stornx);
    let begun = std::time::Instant::now();
    let mut lines = String::new();
    let mut watch = |moment: Moment<'_>| {
        if arguments.cycles.is_some() {
            lines.extend(line(&moment));
        }
        narrate(moment);
    };
    let run =
        experiment::run(&scenario, policy, arguments.seed, &mut watch).map_err(Failure::work)?;
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!(
        "{} calls in {seconds:.1} s, {:.2} million/s",
        run.hops,
        run.hops as f64 / seconds / 1e6
    );
    if let Some(path) = &arguments.plot {
        draw(&experiment::chart(&scenario, &[&run]), path)?;
    }
    if let Some(path) = &arguments.cycles {
        write(path, &lines)?;
    }
    match arguments.output {
        Output::Json => print_json(&Outcome {
            scenario: &scenario.name,
            policy: policy.as_str(),
            seed: run.seed,
            figures: run.figures,
            quiet_cycles: run.quiet_cycles(),
            refused_plans: run.refused_plans(),
            hops: run.hops,
            failures: run.measured.failures,
            retries: run.measured.retries,
        }),
        Output::Table => print(&table(&run)),
    }
}

/// A cycle as a line of JSON.
fn line(moment: &Moment<'_>) -> Option<String> {
    let Moment::Cycle { record, outcome, .. } = moment else { return None };
    let planned = outcome.planned.as_ref()?;
    let line = CycleLine {
        minute: record.at.as_seconds_f64() / 60.0,
        plan: &planned.plan,
        report: &planned.report,
        memory: outcome.memory.as_ref(),
    };
    // Plain data with names as keys: writing it cannot fail.
    serde_json::to_string(&line).ok().map(|text| text + "\n")
}

/// What cycles do, for whoever watches.
fn narrate(moment: Moment<'_>) {
    let Moment::Cycle { record, outcome, .. } = moment else { return };
    if record.quiet() {
        return;
    }
    let minute = record.at.as_seconds_f64() / 60.0;
    for violation in &outcome.violations {
        eprintln!("{minute:6.1} min  refused by the checker: {violation}");
    }
    let Some(planned) = &outcome.planned else { return };
    for (index, action) in planned.plan.actions.iter().enumerate() {
        let why = planned.report.actions.get(index).map(|report| report.why.to_string());
        let failed = match outcome.outcomes.get(index) {
            Some(Err(error)) => format!(" FAILED: {error}"),
            _ => String::new(),
        };
        eprintln!("{minute:6.1} min  {action}: {}{failed}", why.unwrap_or_default());
    }
}

fn table(run: &Run) -> String {
    let f = &run.figures;
    let rows = [
        ("policy", run.policy.to_string()),
        ("seed", run.seed.to_string()),
        ("p50", format!("{:.1} ms", f.p50_ms)),
        ("p95", format!("{:.1} ms", f.p95_ms)),
        ("p99", format!("{:.1} ms", f.p99_ms)),
        ("errors", format!("{:.3} %", f.error_share * 100.0)),
        ("cross-zone calls", format!("{:.1} %", f.cross_zone_share * 100.0)),
        ("cross-node calls", format!("{:.1} %", f.cross_node_share * 100.0)),
        ("cross-zone bytes", format!("{:.2} GB", f.cross_zone_gb)),
        ("their price", format!("{:.2} USD/month", f.usd_per_month)),
        ("peak utilisation of a zone", format!("{:.0} %", f.peak_zone_utilisation * 100.0)),
        ("of a service in a zone", format!("{:.0} %", f.peak_service_utilisation * 100.0)),
        ("replica hours", format!("{:.2}", f.replica_hours)),
        ("rule writes", f.rule_writes.to_string()),
        ("moves", f.moves.to_string()),
        ("scale actions", f.scale_actions.to_string()),
        ("quiet cycles at the end", run.quiet_cycles().to_string()),
        ("plans refused", run.refused_plans().to_string()),
    ];
    rows.into_iter().map(|(name, value)| format!("{name:<27} {value}\n")).collect()
}
