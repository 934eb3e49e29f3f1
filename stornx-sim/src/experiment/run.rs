//! One run: a scenario, a policy, a seed.
//!
//! Cycles come as they do for the daemon: at a fixed interval, and early when
//! endpoints or nodes have changed, once things have been quiet for a moment. Rules
//! that live in proxies act where proxies act: at every change of endpoints, and those
//! that follow load every few seconds.

use std::{collections::BTreeMap, sync::Arc};

use stornx_core::{
    engine::{CycleOutcome, Engine, EngineOptions, Pace, Ports},
    ids::WorkloadRef,
    model::Snapshot,
    plan::{Action, ActionKind},
    ports::{Actuator, Clock, ClusterSource, MetricsSource},
    units::{Span, Timestamp},
};
use thiserror::Error;

use super::{demand, figures::RunFigures, policy::PolicyName, proxies::Proxies};
use crate::{
    baseline::{classic, default_spread, greedy_delay, netmarks},
    scenario::{Scenario, service::Placement},
    world::{Measurements, Sample, SimWorld, WorldError},
};

/// How often proxies that follow load look at it: the default of Envoy. Looking less
/// often would be unfair, since such a rule swings with the period of its looks.
const PROXY_TICK: Span = Span::from_seconds(1);

/// A run that could not be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RunError {
    /// The world could not be made.
    #[error("{scenario}, {policy}, seed {seed}: {source}")]
    World {
        /// Name of the scenario.
        scenario: String,
        /// The policy.
        policy: PolicyName,
        /// The seed.
        seed: u64,
        /// What came of it.
        source: WorldError,
    },
}

/// What one cycle of a deciding policy did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CycleRecord {
    /// When, from the start of the run.
    pub at: Span,
    /// Triggered by a change, or by a glance, instead of the schedule.
    pub early: bool,
    /// Rules written.
    pub writes: u64,
    /// Steps of moves: begun, finished, given up.
    pub moves: u64,
    /// Replica counts changed.
    pub scale_actions: u64,
    /// Actions that the world refused.
    pub failed: u64,
    /// The checker refused the plan.
    pub refused: bool,
}

impl CycleRecord {
    /// Nothing was changed, and nothing was tried.
    #[must_use]
    pub const fn quiet(&self) -> bool {
        self.writes + self.moves + self.scale_actions + self.failed == 0 && !self.refused
    }
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Run {
    /// The policy.
    pub policy: PolicyName,
    /// The seed.
    pub seed: u64,
    /// The figures.
    pub figures: RunFigures,
    /// Everything measured, the curves apart.
    pub measured: Measurements,
    /// The curves.
    pub samples: Vec<Sample>,
    /// Cycles, for policies that have them.
    pub cycles: Vec<CycleRecord>,
    /// Calls that were simulated, warm-up included.
    pub hops: u64,
}

impl Run {
    /// Cycles in a row at the end that changed nothing.
    #[must_use]
    pub fn quiet_cycles(&self) -> u64 {
        self.cycles.iter().rev().take_while(|cycle| cycle.quiet()).count() as u64
    }

    /// Plans that the checker refused.
    #[must_use]
    pub fn refused_plans(&self) -> u64 {
        self.cycles.iter().filter(|cycle| cycle.refused).count() as u64
    }
}

/// What can be watched while a run goes on.
#[derive(Debug)]
pub enum Moment<'a> {
    /// A cycle of the product has ended.
    Cycle {
        /// The world after it.
        world: &'a SimWorld,
        /// What it did, in short.
        record: CycleRecord,
        /// What it saw, planned and did.
        outcome: &'a CycleOutcome,
    },
    /// Time has passed without a cycle.
    Passed {
        /// From the start of the run.
        at: Span,
    },
}

/// Runs a scenario to its end. `watch` is called at every moment of interest.
///
/// # Errors
/// [`RunError`] when the world cannot be made.
pub fn run(
    scenario: &Scenario,
    policy: PolicyName,
    seed: u64,
    watch: &mut dyn FnMut(Moment<'_>),
) -> Result<Run, RunError> {
    let scenario = &placed(scenario, policy);
    let world = SimWorld::new(scenario, seed).map_err(|source| RunError::World {
        scenario: scenario.name.clone(),
        policy,
        seed,
        source,
    })?;
    let world = Arc::new(world);
    let cycles = match policy {
        PolicyName::Stornx => {
            let engine = engine(&world, scenario);
            let mut cycle = |at, cause| {
                let outcome = match cause {
                    Cause::Glance => pollster::block_on(engine.glance())?,
                    Cause::Due | Cause::Changed => pollster::block_on(engine.cycle()),
                };
                let record = record(&outcome, at, cause != Cause::Due);
                watch(Moment::Cycle { world: &world, record, outcome: &outcome });
                Some(record)
            };
            decide(&world, scenario, &mut cycle)
        }
        PolicyName::Classic => {
            let mut scaled_at = BTreeMap::new();
            let mut cycle = |at, cause| {
                // Its schedule is all it has: nothing else wakes it.
                let due = (cause == Cause::Due)
                    .then(|| classic_cycle(&world, scenario, &mut scaled_at, at));
                watch(Moment::Passed { at });
                due
            };
            decide(&world, scenario, &mut cycle)
        }
        _ => {
            route(&world, scenario, policy, watch);
            Vec::new()
        }
    };
    let mut measured = world.measurements();
    let samples = std::mem::take(&mut measured.samples);
    let figures = RunFigures::of(&measured, &scenario.policy.price);
    Ok(Run { policy, seed, figures, measured, samples, cycles, hops: world.hops() })
}

/// The scenario as a placement baseline would have deployed it.
fn placed(scenario: &Scenario, policy: PolicyName) -> Scenario {
    let mut scenario = scenario.clone();
    let place = match policy {
        PolicyName::DefaultSpread => default_spread::place,
        PolicyName::Netmarks => netmarks::place,
        PolicyName::GreedyDelay => greedy_delay::place,
        _ => return scenario,
    };
    let mut assignment = place(&demand::placement_problem(&scenario));
    for service in &mut scenario.services {
        // What found no room is left to the scheduler of the world.
        service.placement = assignment.remove(&service.name).map(Placement::Nodes);
    }
    scenario
}

fn engine(world: &Arc<SimWorld>, scenario: &Scenario) -> Engine {
    let ports = Ports {
        cluster: world.clone(),
        metrics: world.clone(),
        actuator: world.clone(),
        store: world.clone(),
        leader: world.clone(),
        clock: world.clone(),
    };
    Engine::new(ports, scenario.policy.clone(), EngineOptions::default())
}

/// What makes a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// The schedule.
    Due,
    /// Endpoints or nodes have changed.
    Changed,
    /// Time for a glance, which becomes a cycle only if something is pressing.
    Glance,
}

/// Lets a run pass with cycles: `cycle` is called with the time and the cause; a glance
/// may come to nothing.
fn decide(
    world: &SimWorld,
    scenario: &Scenario,
    cycle: &mut dyn FnMut(Span, Cause) -> Option<CycleRecord>,
) -> Vec<CycleRecord> {
    let start = SimWorld::start();
    let end = world.end();
    let mut records = Vec::new();
    let mut scheduled = start.after(scenario.first_cycle.span());
    world.advance_to(scheduled.min(end));
    while scheduled < end {
        records.extend(cycle(scheduled.since(start), Cause::Due));
        scheduled = scheduled.after(scenario.cycle.span());
        while let Some((at, cause)) = next_early(world, scheduled.min(end)) {
            records.extend(cycle(at.since(start), cause));
        }
    }
    records
}

/// Lets time pass until `scheduled`, or until something before it deserves a look: a
/// change that has been quiet for a moment, or the time of a glance.
fn next_early(world: &SimWorld, scheduled: Timestamp) -> Option<(Timestamp, Cause)> {
    let glance = world.now().after(Pace::default().glance);
    if world.advance_until_notice(glance.min(scheduled)).is_empty() {
        return (glance < scheduled).then_some((glance, Cause::Glance));
    }
    // Each further change begins the wait anew, but a stream of changes does not put
    // it off for ever, and the schedule does not wait.
    let pace = Pace::default();
    let last = world.now().after(pace.longest_wait());
    loop {
        let quiet = world.now().after(pace.debounce).min(last);
        if quiet >= scheduled {
            world.advance_to(scheduled);
            return None;
        }
        if world.advance_until_notice(quiet).is_empty() {
            return Some((quiet, Cause::Changed));
        }
    }
}

fn record(outcome: &CycleOutcome, at: Span, early: bool) -> CycleRecord {
    let mut record = empty(at, early);
    record.refused = !outcome.violations.is_empty();
    if let (Some(planned), false) = (&outcome.planned, record.refused) {
        for (action, result) in planned.plan.actions.iter().zip(&outcome.outcomes) {
            count(&mut record, action.kind(), result.is_ok());
        }
    }
    record
}

const fn empty(at: Span, early: bool) -> CycleRecord {
    CycleRecord { at, early, writes: 0, moves: 0, scale_actions: 0, failed: 0, refused: false }
}

const fn count(record: &mut CycleRecord, kind: ActionKind, done: bool) {
    if !done {
        record.failed += 1;
        return;
    }
    match kind {
        ActionKind::SetRoutes | ActionKind::GiveBackRoutes => record.writes += 1,
        ActionKind::AddReplicas | ActionKind::RemoveReplicas => record.scale_actions += 1,
        ActionKind::StartMove
        | ActionKind::FinishMove
        | ActionKind::AbortMove
        | ActionKind::GiveBackMinimum => record.moves += 1,
        ActionKind::CloseMove | ActionKind::Unmark | ActionKind::Release => {}
    }
}

fn classic_cycle(
    world: &SimWorld,
    scenario: &Scenario,
    scaled_at: &mut BTreeMap<WorkloadRef, Timestamp>,
    at: Span,
) -> CycleRecord {
    let mut record = empty(at, false);
    let Some(snapshot) = observe(world) else { return record };
    for action in classic::plan(&snapshot, &scenario.policy, scaled_at) {
        let done = pollster::block_on(world.apply(&action)).is_ok();
        if done && !matches!(action, Action::SetRoutes { .. }) {
            scaled_at.extend(action.workload().map(|id| (id.clone(), snapshot.taken_at)));
        }
        count(&mut record, action.kind(), done);
    }
    record
}

fn observe(world: &SimWorld) -> Option<Snapshot> {
    let now = world.now();
    let cluster = pollster::block_on(ClusterSource::observe(world)).ok()?;
    let metrics = pollster::block_on(MetricsSource::observe(world, &cluster, now));
    Some(Snapshot::assemble(cluster, metrics, now))
}

/// Lets a run pass with a rule that lives in the proxies.
fn route(
    world: &SimWorld,
    scenario: &Scenario,
    policy: PolicyName,
    watch: &mut dyn FnMut(Moment<'_>),
) {
    let start = SimWorld::start();
    let end = world.end();
    let mut proxies = Proxies::new(scenario, policy);
    let tick = if proxies.follow_load() { PROXY_TICK } else { scenario.cycle.span() };
    let mut last = start;
    proxies.update(world, 0.0);
    while last < end {
        let until = last.after(tick).min(end);
        let changed = !world.advance_until_notice(until).is_empty();
        let now = world.now();
        if changed || proxies.follow_load() {
            proxies.update(world, now.since(last).as_seconds_f64());
        }
        watch(Moment::Passed { at: now.since(start) });
        last = now;
    }
}
