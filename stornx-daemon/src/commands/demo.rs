//! `stornx demo`: one application in a simulated cluster, once as Kubernetes and the
//! mesh leave it and once with StornX, in the same world with the same seed; then the
//! figures side by side and the actions that were worth most. The settings are the
//! defaults, whatever the environment says, so that everybody sees the same.

use std::fmt::Write as _;

use anyhow::anyhow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stornx_core::units::Span;
use stornx_sim::{
    builtin,
    experiment::{Moment, PolicyName, Run, run},
    scenario::Scenario,
};

use crate::show::demo::{Done, Figure, Unit, figures, most_valuable, reasons};

/// How many actions are explained.
const EXPLAINED: usize = 3;

/// Command line of `stornx demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A built-in scenario (`stornx-sim list`) or a file
    #[arg(default_value = "online-boutique")]
    scenario: String,
    /// Seed of everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { scenario: "online-boutique".to_owned(), seed: 1 }
    }
}

/// Runs the scenario twice and prints the comparison.
pub(crate) fn run_demo(arguments: &Arguments) -> anyhow::Result<()> {
    let scenario = builtin::find(&arguments.scenario)?;
    let bars = MultiProgress::new();
    let [before_bar, after_bar] =
        ["without StornX", "with StornX"].map(|name| bars.add(bar(&scenario, name)));

    let mut done = Vec::new();
    let (before, after) = std::thread::scope(|scope| {
        let without = scope
            .spawn(|| watched(&scenario, PolicyName::Random, arguments.seed, &before_bar, None));
        let with =
            watched(&scenario, PolicyName::Stornx, arguments.seed, &after_bar, Some(&mut done));
        (without.join(), with)
    });
    let before = before.map_err(|_| anyhow!("the run without StornX broke off"))??;
    let after = after?;

    super::print(&report(&scenario, arguments.seed, &before, &after, done))
}

/// One run with its progress; what was carried out goes into `done`.
fn watched(
    scenario: &Scenario,
    policy: PolicyName,
    seed: u64,
    bar: &ProgressBar,
    mut done: Option<&mut Vec<Done>>,
) -> anyhow::Result<Run> {
    let run = run(scenario, policy, seed, &mut |moment| match moment {
        Moment::Passed { at } => show(bar, at),
        Moment::Cycle { record, outcome, .. } => {
            show(bar, record.at);
            let (Some(done), Some(planned)) = (done.as_deref_mut(), &outcome.planned) else {
                return;
            };
            let with_reasons = planned.plan.actions.iter().zip(&planned.report.actions);
            for ((action, reason), _) in
                with_reasons.zip(&outcome.outcomes).filter(|(_, result)| result.is_ok())
            {
                done.push(Done { at: record.at, action: action.clone(), reason: reason.clone() });
            }
        }
    })?;
    bar.finish();
    Ok(run)
}

/// A bar on standard error, in simulated minutes; none where that is no terminal.
fn bar(scenario: &Scenario, name: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(minutes(scenario.duration.span()));
    // A template that cannot be read would only lose the looks of the bar.
    if let Ok(style) =
        ProgressStyle::with_template("{prefix:>15} {bar:40} {pos:>3}/{len} simulated minutes")
    {
        bar.set_style(style);
    }
    bar.with_prefix(name)
}

fn show(bar: &ProgressBar, at: Span) {
    bar.set_position(minutes(at));
}

const fn minutes(span: Span) -> u64 {
    span.as_millis() / 60_000
}

fn report(scenario: &Scenario, seed: u64, before: &Run, after: &Run, done: Vec<Done>) -> String {
    let mut text = format!(
        "{}: {} simulated minutes, the first {} not measured, seed {seed}\n\n",
        scenario.name,
        minutes(scenario.duration.span()),
        minutes(scenario.warm_up.span()),
    );
    text.push_str(&figures(&comparison(before, after)));
    let count = done.len();
    let best = most_valuable(done, &scenario.policy.price, EXPLAINED);
    if best.is_empty() {
        let _ = write!(text, "\nStornX did {count} things, none for a gain of its own.\n");
    } else {
        let _ = write!(text, "\nOf the {count} things that StornX did, these were worth most:\n\n");
        text.push_str(&reasons(&best));
    }
    text
}

/// The figures of both runs. "Without" is what Kubernetes and the mesh do by themselves.
fn comparison(before: &Run, after: &Run) -> Vec<Figure> {
    let figure = |name, unit, get: fn(&Run) -> f64| Figure {
        name,
        unit,
        before: get(before),
        after: get(after),
    };
    vec![
        figure("p50", Unit::Millis, |run| run.figures.p50_ms),
        figure("p95", Unit::Millis, |run| run.figures.p95_ms),
        figure("p99", Unit::Millis, |run| run.figures.p99_ms),
        figure("calls across zones", Unit::Share, |run| run.figures.cross_zone_share),
        figure("bytes across zones", Unit::Bytes, |run| run.figures.cross_zone_gb * 1e9),
        figure("transfer cost a month", Unit::Usd, |run| run.figures.usd_per_month),
        figure("busiest zone", Unit::Share, |run| run.figures.peak_zone_utilisation),
        figure("failed requests", Unit::Share, |run| run.figures.error_share),
        figure("routing writes", Unit::Count, |run| run.figures.rule_writes),
        figure("moves", Unit::Count, |run| run.figures.moves),
        figure("scale actions", Unit::Count, |run| run.figures.scale_actions),
        figure("replica-hours", Unit::Hours, |run| run.figures.replica_hours),
    ]
}
