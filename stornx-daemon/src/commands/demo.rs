//! `stornx demo`: one application in a simulated cluster, once as Kubernetes and the
//! mesh leave it and once with StornX, in the same world with the same seed; then the
//! figures side by side and the actions that were worth most. The settings are the
//! defaults, whatever the environment says, so that everybody sees the same.
//!
//! While it runs, the web page shows the world with StornX, on `APP_PORT` of this machine.
//! With `--serve` that world goes so slowly that it can be watched, and begins anew with
//! another seed when it has ended.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use stornx_core::{plan::ActionKind, units::Span};
use stornx_sim::{
    builtin,
    experiment::{Moment, PolicyName, Run, run},
    scenario::Scenario,
};

use super::page::{self, LocalPage};
use crate::show::demo::{Done, Figure, Unit, figures, most_valuable, reasons};
use crate::web::view::Source;

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
    /// Go slowly, and keep the web page up until it is interrupted
    #[arg(long)]
    serve: bool,
    /// Simulated seconds that pass in a second, with `--serve`
    #[arg(long, value_name = "N", default_value_t = SPEED, value_parser = speed, requires = "serve")]
    speed: f64,
}

/// A cycle of the schedule each second.
const SPEED: f64 = 60.0;

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.1..=1e6).contains(speed));
    speed.ok_or_else(|| "allowed is a number from 0.1 to 1000000".to_owned())
}

impl Default for Arguments {
    fn default() -> Self {
        Self { scenario: "online-boutique".to_owned(), seed: 1, serve: false, speed: SPEED }
    }
}

/// Runs the scenario twice and prints the comparison.
pub(crate) fn run_demo(arguments: &Arguments) -> anyhow::Result<()> {
    let scenario = builtin::find(&arguments.scenario)?;
    let bars = MultiProgress::new();
    let [before_bar, after_bar] =
        ["without StornX", "with StornX"].map(|name| bars.add(bar(&scenario, name)));

    let page = match serve(&scenario) {
        Ok(page) => {
            let line = format!("The page is at {}", page.address);
            // Without `--serve` it is up for seconds: of use only to somebody who looks.
            if arguments.serve {
                eprintln!("{line}")
            } else {
                drop(bars.println(line))
            }
            Some(page)
        }
        Err(error) if arguments.serve => return Err(error),
        Err(error) => {
            let _ = bars.println(format!("There is no page: {error:#}"));
            None
        }
    };
    let pace = arguments.serve.then_some(arguments.speed);
    let stage = Stage { page: page.as_ref(), pace };

    let mut done = Vec::new();
    let (before, after) = thread::scope(|scope| {
        let without = scope.spawn(|| {
            let stage = Stage { page: None, pace: None };
            watched(
                &scenario,
                PolicyName::Random,
                arguments.seed,
                &before_bar,
                stage,
                &mut Vec::new(),
            )
        });
        let with =
            watched(&scenario, PolicyName::Stornx, arguments.seed, &after_bar, stage, &mut done);
        (without.join(), with)
    });
    let before = before.map_err(|_| anyhow!("the run without StornX broke off"))??;
    let after = after?;

    super::print(&report(&scenario, arguments.seed, &before, &after, done))?;
    if !arguments.serve {
        return Ok(());
    }
    let mut seed = arguments.seed;
    loop {
        seed = seed.wrapping_add(1);
        page.iter().for_each(LocalPage::begin_anew);
        after_bar.reset();
        watched(&scenario, PolicyName::Stornx, seed, &after_bar, stage, &mut Vec::new())?;
    }
}

fn serve(scenario: &Scenario) -> anyhow::Result<LocalPage> {
    let banner = page::banner(
        Source::Simulation,
        Some(&scenario.name),
        false,
        vec![scenario.namespace.to_string()],
    );
    LocalPage::start(banner, scenario.policy.price.clone())
}

/// Where a run is watched from.
#[derive(Clone, Copy)]
struct Stage<'a> {
    page: Option<&'a LocalPage>,
    /// Simulated seconds that pass in a second; `None` is as fast as can be.
    pace: Option<f64>,
}

/// One run with its progress; what was carried out goes into `done`.
fn watched(
    scenario: &Scenario,
    policy: PolicyName,
    seed: u64,
    bar: &ProgressBar,
    stage: Stage<'_>,
    done: &mut Vec<Done>,
) -> anyhow::Result<Run> {
    let began = Instant::now();
    let run = run(scenario, policy, seed, &mut |moment| match moment {
        Moment::Passed { at } => show(bar, at),
        Moment::Cycle { record, outcome, .. } => {
            if let Some(speed) = stage.pace {
                let due = Duration::from_secs_f64(record.at.as_seconds_f64() / speed);
                thread::sleep(due.saturating_sub(began.elapsed()));
            }
            stage.page.iter().for_each(|page| page.show(outcome.clone()));
            show(bar, record.at);
            let Some(planned) = &outcome.planned else { return };
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
    text.push_str(&figures(&comparison(before, after, &done)));
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
/// What StornX did is counted over the whole run: most of it happens before measuring
/// begins.
fn comparison(before: &Run, after: &Run, done: &[Done]) -> Vec<Figure> {
    let figure = |name, unit, get: fn(&Run) -> f64| Figure {
        name,
        unit,
        before: get(before),
        after: get(after),
    };
    let counted = |name, is_one: fn(&ActionKind) -> bool| {
        let count = done.iter().filter(|done| is_one(&done.action.kind())).count();
        // Far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        let after = count as f64;
        Figure { name, unit: Unit::Count, before: 0.0, after }
    };
    vec![
        figure("p50", Unit::Millis, |run| run.figures.p50_ms),
        figure("p95", Unit::Millis, |run| run.figures.p95_ms),
        figure("p99", Unit::Millis, |run| run.figures.p99_ms),
        figure("calls across zones", Unit::Share, |run| run.figures.cross_zone_share),
        figure("bytes across zones", Unit::Bytes, |run| run.figures.cross_zone_gb * 1e9),
        figure("transfer cost a month", Unit::Usd, |run| run.figures.usd_per_month),
        figure("busiest zone", Unit::Share, |run| run.figures.peak_zone_utilisation),
        figure("busiest service in a zone", Unit::Share, |run| {
            run.figures.peak_service_utilisation
        }),
        figure("failed requests", Unit::Share, |run| run.figures.error_share),
        figure("replica-hours", Unit::Hours, |run| run.figures.replica_hours),
        counted("routing writes", |kind| *kind == ActionKind::SetRoutes),
        counted("moves", |kind| *kind == ActionKind::StartMove),
        counted("scale actions", |kind| {
            matches!(kind, ActionKind::AddReplicas | ActionKind::RemoveReplicas)
        }),
    ]
}
