//! Several policies side by side on the same seeds.

use std::{collections::BTreeMap, sync::Mutex};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use serde::{Serialize, Serializer, ser::SerializeMap};
use stornx_core::units::Span;

use super::{
    figures::Figures,
    policy::PolicyName,
    recovery::{Level, recovery},
    run::{Run, RunError, run},
    statistics::Figure,
};
use crate::scenario::{Event, Scenario};

/// What came of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Name of the scenario.
    pub scenario: String,
    /// The seeds of the runs.
    pub seeds: Vec<u64>,
    /// By policy, in the order asked for.
    #[serde(serialize_with = "by_name")]
    pub policies: Vec<(PolicyName, PolicyFigures)>,
}

/// What came of one policy.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyFigures {
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
    /// Cycles from the event to steady state, for scenarios with one. A run that does
    /// not get back counts with all the cycles that it had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_cycles: Option<Figure>,
    /// Share of the runs that got back to steady state before their end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered_share: Option<f64>,
    /// Cycles in a row without a write at the end of the run, the least over the
    /// seeds.
    pub quiet_cycles: u64,
    /// Plans that the checker refused, over all seeds.
    pub refused_plans: u64,
}

fn by_name<S: Serializer>(
    policies: &[(PolicyName, PolicyFigures)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(policies.len()))?;
    for (name, figures) in policies {
        map.serialize_entry(name.as_str(), figures)?;
    }
    map.end()
}

/// Runs every policy on every seed, side by side on all cores. `done` is called after
/// each run, from any thread.
///
/// # Errors
/// The first [`RunError`], in the order of policies and seeds.
pub fn compare(
    scenario: &Scenario,
    policies: &[PolicyName],
    seeds: &[u64],
    done: impl Fn(&Run) + Sync,
) -> Result<(Comparison, Vec<Run>), RunError> {
    let jobs: Vec<(PolicyName, u64)> =
        policies.iter().flat_map(|policy| seeds.iter().map(|seed| (*policy, *seed))).collect();
    let finished = Mutex::new(());
    let runs = jobs
        .par_iter()
        .map(|(policy, seed)| {
            let run = run(scenario, *policy, *seed, &mut |_| {})?;
            let _guard = finished.lock();
            done(&run);
            Ok(run)
        })
        .collect::<Vec<Result<Run, RunError>>>()
        .into_iter()
        .collect::<Result<Vec<Run>, RunError>>()?;
    let comparison = summarise(scenario, policies, seeds, &runs);
    Ok((comparison, runs))
}

fn summarise(
    scenario: &Scenario,
    policies: &[PolicyName],
    seeds: &[u64],
    runs: &[Run],
) -> Comparison {
    let recoveries = recoveries(scenario, runs);
    let policies = policies
        .iter()
        .map(|policy| {
            let own: Vec<&Run> = runs.iter().filter(|run| run.policy == *policy).collect();
            let figures: Vec<_> = own.iter().map(|run| run.figures).collect();
            let taken: Vec<_> = own
                .iter()
                .filter_map(|run| recoveries.as_ref()?.get(&(run.policy, run.seed)).copied())
                .collect();
            let cycles: Vec<f64> = taken.iter().map(|(cycles, _)| *cycles).collect();
            let back = taken.iter().filter(|(_, back)| *back).count();
            #[allow(clippy::cast_precision_loss)] // A few runs.
            let summary = PolicyFigures {
                figures: Figures::of(&figures),
                recovery_cycles: (!taken.is_empty()).then(|| Figure::of(&cycles)),
                recovered_share: (!taken.is_empty()).then(|| back as f64 / taken.len() as f64),
                quiet_cycles: own.iter().map(|run| run.quiet_cycles()).min().unwrap_or(0),
                refused_plans: own.iter().map(|run| run.refused_plans()).sum(),
            };
            (*policy, summary)
        })
        .collect();
    Comparison { scenario: scenario.name.clone(), seeds: seeds.to_vec(), policies }
}

/// The event from which recovery is counted, where a scenario has one that is not of
/// the users' making.
#[must_use]
pub fn disturbance(scenario: &Scenario) -> Option<Span> {
    let disturbs = |event: &&Event| {
        matches!(event, Event::ZoneLoss(_) | Event::SlowReplica(_) | Event::SlowNode(_))
    };
    scenario.events.iter().find(disturbs).map(|event| event.at().span())
}

/// Cycles to steady state by policy and seed, and whether it was reached.
fn recoveries(
    scenario: &Scenario,
    runs: &[Run],
) -> Option<BTreeMap<(PolicyName, u64), (f64, bool)>> {
    let event = disturbance(scenario)?;
    let cycle = scenario.cycle.as_seconds_f64();
    let left = scenario.duration.as_seconds_f64() - event.as_seconds_f64();
    let mut levels: BTreeMap<u64, Vec<Level>> = BTreeMap::new();
    for run in runs {
        levels.entry(run.seed).or_default().extend(Level::settled(&run.samples, event));
    }
    let taken = runs.iter().filter_map(|run| {
        let own = Level::before(&run.samples, scenario.warm_up.span(), event)?;
        let best = Level::best(levels.get(&run.seed)?)?;
        let took = recovery(&run.samples, event, own, best);
        let cycles = took.map_or(left / cycle, |took| took.as_seconds_f64() / cycle);
        Some(((run.policy, run.seed), (cycles, took.is_some())))
    });
    Some(taken.collect())
}
