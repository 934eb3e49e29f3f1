//! The cycle: observe, plan, check, act, remember. One engine for the daemon, the
//! simulator and other people's controllers.
//!
//! It decides the order of things and nothing else:
//!
//! - A plan that fails its check is dropped whole: nothing is written, the memory
//!   neither.
//! - What an action leaves in the memory is stored before it: the record of a move, the
//!   time of a change of a count, where new replicas are to run, how a move is about to
//!   end. A crash in between leaves a record without a surge, which the next cycle clears,
//!   or a cooldown too many; the other way round it would
//!   leave a replica that nobody knows of, or a workload that grows twice. While the
//!   store refuses, nothing is done: without memory there is no cooldown. Nothing is
//!   taken *out* of the memory before acting: a crash then still finds what is to be
//!   finished.
//! - The right to write is asked for again before each write. Once it is lost, the
//!   rest of the plan is not tried, not even when it comes back: the plan was made for
//!   another reign.
//! - A failed action does not stop the others, except those on the same workload; one on
//!   routes stops nothing.
//! - A cycle ends early between two actions only, at its deadline or when it is told to
//!   stop: what was done is remembered, what was not is an outcome that says why.
//!
//! It assumes that every port comes back: time-outs are the adapters' work, since a
//! time-out needs a clock that runs by itself. It refuses to act on memory that could
//! not be loaded, and to begin moves whose records could not be stored.

mod outcome;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

pub use self::outcome::{CycleError, CycleOutcome, DRY_RUN, Phase};
use crate::{
    check::{self, Violation},
    decide,
    ids::WorkloadRef,
    memory::{Memory, WorkloadMemory},
    model::Snapshot,
    plan::{Action, ActionKind, Planned},
    policy::Policy,
    ports::{Actuator, Clock, ClusterSource, LeaderGate, MetricsSource, PortError, StateStore},
    remember::{self, Outcomes},
    units::{Span, Timestamp},
};

/// The world that an engine turns in.
#[derive(Clone)]
pub struct Ports {
    /// Topology, workloads, routing.
    pub cluster: Arc<dyn ClusterSource>,
    /// Usage, traffic, latency.
    pub metrics: Arc<dyn MetricsSource>,
    /// Carries out actions.
    pub actuator: Arc<dyn Actuator>,
    /// Keeps the memory.
    pub store: Arc<dyn StateStore>,
    /// Says who may write.
    pub leader: Arc<dyn LeaderGate>,
    /// Says what time it is.
    pub clock: Arc<dyn Clock>,
}

/// How an engine runs, apart from what it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Plan and check, write nothing, remember nothing.
    pub dry_run: bool,
    /// `METRICS_MAX_AGE_SECONDS`: metrics older than this are stale.
    pub metrics_max_age: Span,
    /// `CYCLE_DEADLINE_SECONDS`: no action is begun later than this after the start of
    /// its cycle. What it was decided on is then too old.
    pub deadline: Span,
}

impl Default for EngineOptions {
    /// Metrics: 120 seconds, two scrapes at the slowest common interval of a minute, so
    /// that a single missed scrape changes nothing. Deadline: 50 seconds, so that a cycle
    /// is over before the next one of the default schedule.
    fn default() -> Self {
        Self {
            dry_run: false,
            metrics_max_age: Span::from_seconds(120),
            deadline: Span::from_seconds(50),
        }
    }
}

/// When cycles come between those of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// `DEBOUNCE_SECONDS`: how long a change of endpoints or nodes waits for others to
    /// join it before it triggers a cycle.
    pub debounce: Span,
    /// `GLANCE_SECONDS`: least time from one look at the metrics to the next.
    pub glance: Span,
}

impl Default for Pace {
    /// Debounce: half a second, in which the pods of one node or of one scale action become
    /// one change; with the longest wait and a cycle, a new rule is stored within two
    /// seconds of a change. Glance: 15 seconds, since before the next scrape one would see
    /// the same figures again and act on them twice.
    fn default() -> Self {
        Self { debounce: Span::from_millis(500), glance: Span::from_seconds(15) }
    }
}

impl Pace {
    /// How long the first of a stream of changes waits, however many follow: twice the
    /// debounce.
    #[must_use]
    pub const fn longest_wait(&self) -> Span {
        Span::from_millis(self.debounce.as_millis().saturating_mul(2))
    }
}

/// Stops an engine between two actions, for good.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// No action is begun from now on.
    pub fn stop(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// A planner: what [`decide::plan`] is, and what baselines may be instead.
pub type Planner =
    Arc<dyn Fn(&Snapshot, &Policy, &Memory, Timestamp) -> Planned + Send + Sync + 'static>;
/// Whether an instant lies in a quiet hour, in which no move begins.
pub type QuietHours = Arc<dyn Fn(Timestamp) -> bool + Send + Sync + 'static>;
type Checker = fn(&Snapshot, &Policy, &Memory, &Planned) -> Vec<Violation>;
type Rememberer = fn(Memory, &Snapshot, &Planned, &Outcomes, &Policy, Timestamp) -> Memory;

/// Runs cycles over ports.
pub struct Engine {
    ports: Ports,
    policy: Policy,
    options: EngineOptions,
    planner: Planner,
    checker: Checker,
    rememberer: Rememberer,
    quiet: Option<QuietHours>,
    stop: Stop,
}

impl Engine {
    /// An engine that decides by [`decide::plan`].
    #[must_use]
    pub fn new(ports: Ports, policy: Policy, options: EngineOptions) -> Self {
        Self {
            ports,
            policy,
            options,
            planner: Arc::new(decide::plan),
            checker: check::check,
            rememberer: remember::remember,
            quiet: None,
            stop: Stop::default(),
        }
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// The same engine with another planner. Its plans are checked all the same.
    #[must_use]
    pub fn with_planner(mut self, planner: Planner) -> Self {
        self.planner = planner;
        self
    }

    /// The same engine with quiet hours. Whether it was one is written into the snapshot.
    #[must_use]
    pub fn with_quiet_hours(mut self, quiet: QuietHours) -> Self {
        self.quiet = Some(quiet);
        self
    }

    /// The settings that it decides with.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// One cycle, from observing to remembering. Never fails as a whole: what went
    /// wrong is in the outcome, by phase and by action.
    pub async fn cycle(&self) -> CycleOutcome {
        match self.think().await {
            Ok(thought) => self.go_on(thought).await,
            Err(outcome) => outcome,
        }
    }

    /// A look between two cycles of the schedule: observes and plans, and goes on as a
    /// cycle only when the report says that something is pressing. `None` when nothing
    /// is, or nothing could be seen: then nothing was written and nothing remembered.
    pub async fn glance(&self) -> Option<CycleOutcome> {
        let thought = self.think().await.ok()?;
        // What is pressing is routes; where they are not written, nothing is.
        let writes = self.ports.actuator.carries_out(ActionKind::SetRoutes);
        if !(writes && thought.planned.report.is_pressing()) {
            return None;
        }
        Some(self.go_on(thought).await)
    }

    /// Observes, recalls and plans. What went wrong is the outcome of the cycle.
    async fn think(&self) -> Result<Thought, CycleOutcome> {
        let now = self.ports.clock.now();
        let mut outcome = CycleOutcome::at(now);
        let mut watch = Stopwatch { clock: self.ports.clock.clone(), last: now };
        let seen = self.observe(now, &mut outcome).await;
        watch.lap(Phase::Observe, &mut outcome);
        let Some(mut snapshot) = seen else { return Err(outcome) };
        let recalled = self.recall(&mut outcome).await;
        watch.lap(Phase::Load, &mut outcome);
        let Some(memory) = recalled else {
            outcome.snapshot = Some(snapshot);
            return Err(outcome);
        };
        snapshot.memory = memory;
        snapshot.quiet = self.quiet.as_ref().is_some_and(|quiet| quiet(now));
        let planned = (self.planner)(&snapshot, &self.policy, &snapshot.memory, now);
        watch.lap(Phase::Plan, &mut outcome);
        Ok(Thought { snapshot, planned, outcome, watch })
    }

    /// Checks, acts and remembers.
    async fn go_on(&self, thought: Thought) -> CycleOutcome {
        let Thought { snapshot, planned, mut outcome, mut watch } = thought;
        outcome.violations = (self.checker)(&snapshot, &self.policy, &snapshot.memory, &planned);
        watch.lap(Phase::Check, &mut outcome);

        if let Some(reason) = self.not_acting(&outcome.violations) {
            outcome.outcomes = none_tried(&planned, reason);
            outcome.memory = Some(snapshot.memory.clone());
        } else {
            let memory = snapshot.memory.clone();
            let next = self.act(&snapshot, &planned, memory, &mut outcome, &mut watch).await;
            outcome.memory = Some(next);
        }
        outcome.snapshot = Some(snapshot);
        outcome.planned = Some(planned);
        outcome
    }

    async fn observe(&self, now: Timestamp, outcome: &mut CycleOutcome) -> Option<Snapshot> {
        let cluster = match self.ports.cluster.observe().await {
            Ok(cluster) => cluster,
            Err(error) => {
                outcome.errors.push(CycleError::Observe(error));
                return None;
            }
        };
        let mut metrics = self.ports.metrics.observe(&cluster, now).await;
        let limit = self.options.metrics_max_age;
        metrics.usage = metrics.usage.judged(now, limit);
        metrics.traffic = metrics.traffic.judged(now, limit);
        metrics.latency = metrics.latency.judged(now, limit);
        Some(Snapshot::assemble(cluster, metrics, now))
    }

    async fn recall(&self, outcome: &mut CycleOutcome) -> Option<Memory> {
        match self.ports.store.load().await {
            Ok(memory) => Some(memory),
            Err(error) => {
                outcome.errors.push(CycleError::Load(error));
                None
            }
        }
    }

    fn not_acting(&self, violations: &[Violation]) -> Option<&'static str> {
        if !violations.is_empty() {
            Some("the plan failed its check")
        } else if self.options.dry_run {
            Some(DRY_RUN)
        } else {
            None
        }
    }

    /// Carries a checked plan out and gives the memory after it.
    async fn act(
        &self,
        snapshot: &Snapshot,
        planned: &Planned,
        memory: Memory,
        outcome: &mut CycleOutcome,
        watch: &mut Stopwatch,
    ) -> Memory {
        let now = outcome.at;
        if !self.ports.leader.may_write().await {
            outcome.outcomes = planned.plan.actions.iter().map(|a| Err(not_leader(a))).collect();
            return memory;
        }
        let intents = self.intents(snapshot, planned, &memory, now);
        let (stored, unrecorded) = self.store_intents(&intents, &memory, outcome).await;
        watch.lap(Phase::StoreIntents, outcome);
        let (outcomes, leading) = self.apply(planned, &intents, unrecorded, now).await;
        watch.lap(Phase::Act, outcome);

        let mut next = (self.rememberer)(memory, snapshot, planned, &outcomes, &self.policy, now);
        keep_uncertain(&mut next, planned, &outcomes, &intents);
        outcome.outcomes = outcomes;
        let next = self.save(next, &stored, leading, outcome).await;
        watch.lap(Phase::Save, outcome);
        next
    }

    /// What the plan will leave in the memory of workloads when everything succeeds, as
    /// far as it has to be known before.
    fn intents(
        &self,
        snapshot: &Snapshot,
        planned: &Planned,
        memory: &Memory,
        now: Timestamp,
    ) -> Intents {
        let begun = |action: &&Action| {
            let scales =
                matches!(action.kind(), ActionKind::AddReplicas | ActionKind::RemoveReplicas);
            self.carries_out(action) && (scales || action.moves())
        };
        let begun: Vec<_> = planned.plan.actions.iter().filter(begun).collect();
        if begun.is_empty() {
            return Intents::new();
        }
        let all_done = planned.plan.actions.iter().map(|_| Ok(())).collect();
        let hoped =
            (self.rememberer)(memory.clone(), snapshot, planned, &all_done, &self.policy, now);
        let mut intents = Intents::new();
        for action in begun {
            let Some(workload) = action.workload() else { continue };
            let Some(hoped) = hoped.workloads.get(workload) else { continue };
            let entry = intents
                .entry(workload.clone())
                .or_insert_with(|| memory.workloads.get(workload).cloned().unwrap_or_default());
            if action.moves() {
                // Nothing is taken out before it is over.
                let record = hoped.in_flight.clone();
                entry.in_flight = record.or_else(|| entry.in_flight.take());
            } else {
                entry.scaled_at = hoped.scaled_at;
            }
            entry.intents.clone_from(&hoped.intents);
        }
        intents
    }

    fn carries_out(&self, action: &Action) -> bool {
        self.ports.actuator.carries_out(action.kind())
    }

    /// Stores the memory with the intents added. Gives what the store holds
    /// afterwards, and why nothing may begin when that is not certain.
    async fn store_intents(
        &self,
        intents: &Intents,
        memory: &Memory,
        outcome: &mut CycleOutcome,
    ) -> (Memory, Option<&'static str>) {
        if intents.is_empty() {
            return (memory.clone(), None);
        }
        let mut with_intents = memory.clone();
        for (workload, intent) in intents {
            with_intents.workloads.insert(workload.clone(), intent.clone());
        }
        match self.ports.store.save(&with_intents).await {
            Ok(()) => (with_intents, None),
            Err(error) => {
                outcome.errors.push(CycleError::StoreIntents(error));
                // Saved or not, it is no longer known to be what was loaded.
                (with_intents, Some("what it leaves could not be remembered"))
            }
        }
    }

    /// Applies the actions one at a time. Also says whether the right to write held to
    /// the end.
    async fn apply(
        &self,
        planned: &Planned,
        intents: &Intents,
        unrecorded: Option<&'static str>,
        began: Timestamp,
    ) -> (Outcomes, bool) {
        let mut outcomes = Outcomes::with_capacity(planned.plan.actions.len());
        let mut failed: BTreeSet<&WorkloadRef> = BTreeSet::new();
        let mut leading = true;
        for action in &planned.plan.actions {
            let begins = matches!(action, Action::StartMove { .. });
            let workload = action.workload();
            let intent = workload.and_then(|workload| intents.get(workload));
            let recorded = intent.is_some_and(|intent| intent.in_flight.is_some());
            let result = if !self.carries_out(action) {
                Err(not_tried(action, "this is planned and reported, and not carried out here"))
            } else if !leading {
                Err(not_leader(action))
            } else if let Some(reason) = self.not_going_on(began) {
                Err(not_tried(action, reason))
            } else if workload.is_some_and(|workload| failed.contains(workload)) {
                Err(not_tried(action, "an earlier action on the same workload failed"))
            } else if let Some(reason) = unrecorded {
                Err(not_tried(action, reason))
            } else if begins && !recorded {
                Err(not_tried(action, "it has no record"))
            } else if !self.ports.leader.may_write().await {
                leading = false;
                Err(not_leader(action))
            } else {
                self.ports.actuator.apply(action).await
            };
            if let Err(error) = &result
                && self.carries_out(action)
            {
                // What routes could not be told says nothing about counts and moves.
                let routes =
                    matches!(action.kind(), ActionKind::SetRoutes | ActionKind::GiveBackRoutes);
                if !routes {
                    failed.extend(workload);
                }
                leading &= !matches!(error, PortError::NotLeader { .. });
            }
            outcomes.push(result);
        }
        (outcomes, leading)
    }

    /// Why no further action is begun.
    fn not_going_on(&self, began: Timestamp) -> Option<&'static str> {
        if self.stop.is_stopped() {
            Some("StornX is stopping")
        } else if self.ports.clock.now().since(began) > self.options.deadline {
            Some("the deadline of the cycle has passed")
        } else {
            None
        }
    }

    /// Saves the memory when it differs from what the store holds and we still may.
    async fn save(
        &self,
        next: Memory,
        stored: &Memory,
        leading: bool,
        outcome: &mut CycleOutcome,
    ) -> Memory {
        let uncertain = outcome.errors.iter().any(|e| matches!(e, CycleError::StoreIntents(_)));
        if next == *stored && !uncertain {
            return next;
        }
        let what = "save the memory".to_owned();
        if !leading || !self.ports.leader.may_write().await {
            outcome.errors.push(CycleError::Save(PortError::NotLeader { what }));
        } else if let Err(error) = self.ports.store.save(&next).await {
            outcome.errors.push(CycleError::Save(error));
        }
        next
    }
}

/// What a cycle knows before it acts.
struct Thought {
    snapshot: Snapshot,
    planned: Planned,
    outcome: CycleOutcome,
    watch: Stopwatch,
}

/// Measures the steps of a cycle.
struct Stopwatch {
    clock: Arc<dyn Clock>,
    last: Timestamp,
}

impl Stopwatch {
    fn lap(&mut self, phase: Phase, outcome: &mut CycleOutcome) {
        let now = self.clock.now();
        outcome.took.insert(phase, now.since(self.last));
        self.last = now;
    }
}

/// What the memory of workloads will hold once what is about to begin has been done.
type Intents = std::collections::BTreeMap<WorkloadRef, WorkloadMemory>;

/// What was asked for without an answer may or may not come: what it leaves in the memory
/// stays, and the next cycle sees which.
fn keep_uncertain(next: &mut Memory, planned: &Planned, outcomes: &Outcomes, intents: &Intents) {
    for (action, result) in planned.plan.actions.iter().zip(outcomes) {
        let Err(PortError::Unavailable { .. }) = result else { continue };
        let Some(workload) = action.workload() else { continue };
        let Some(intent) = intents.get(workload) else { continue };
        let entry = next.workloads.entry(workload.clone()).or_default();
        if action.moves() {
            entry.in_flight.clone_from(&intent.in_flight);
        } else {
            entry.scaled_at = intent.scaled_at;
        }
        entry.intents.clone_from(&intent.intents);
    }
}

fn none_tried(planned: &Planned, reason: &str) -> Outcomes {
    planned.plan.actions.iter().map(|action| Err(not_tried(action, reason))).collect()
}

fn not_tried(action: &Action, reason: &str) -> PortError {
    PortError::NotTried { what: action.to_string(), detail: reason.to_owned() }
}

fn not_leader(action: &Action) -> PortError {
    PortError::NotLeader { what: action.to_string() }
}
