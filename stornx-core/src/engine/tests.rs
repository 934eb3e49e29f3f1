//! The engine over hand-written ports that record what they are asked, in order.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, atomic::AtomicU32},
};

use async_trait::async_trait;

use super::*;
use crate::{
    memory::{MoveInFlight, WorkloadMemory},
    model::{ClusterFacts, Facts, MetricsFacts, Source, Traffic},
    plan::{MoveWay, Plan},
    report::{HostReport, Report, RouteReason},
};

/// A world that writes a diary.
#[derive(Default)]
struct World {
    diary: Mutex<Vec<String>>,
    /// What observing gives; a default cluster when `None`.
    observe_fails: bool,
    load_fails: bool,
    /// Saves that fail, by their number from 0.
    failing_saves: Vec<usize>,
    saves: Mutex<Vec<Memory>>,
    stored: Memory,
    /// No action is carried out.
    reported_only: bool,
    /// Answers of the gate; the last one stays.
    leader: Mutex<VecDeque<bool>>,
    /// Failures by text of the action.
    failures: Vec<(&'static str, PortError)>,
    metrics_at: Timestamp,
    /// What passes from one look at the clock to the next.
    tick: Span,
    looks: AtomicU32,
}

impl World {
    fn note(&self, text: impl Into<String>) {
        self.diary.lock().unwrap().push(text.into());
    }
    fn diary(&self) -> Vec<String> {
        self.diary.lock().unwrap().clone()
    }
    fn saves(&self) -> Vec<Memory> {
        self.saves.lock().unwrap().clone()
    }
}

fn refused(what: &str) -> PortError {
    PortError::Conflict { what: what.to_owned(), detail: "the count is another".to_owned() }
}

fn silent(what: &str) -> PortError {
    PortError::Unavailable { what: what.to_owned(), detail: "timed out".to_owned() }
}

#[async_trait]
impl ClusterSource for World {
    async fn observe(&self) -> Result<ClusterFacts, PortError> {
        if self.observe_fails { Err(silent("list pods")) } else { Ok(ClusterFacts::default()) }
    }
}

#[async_trait]
impl MetricsSource for World {
    async fn observe(&self, _: &ClusterFacts, _: Timestamp) -> MetricsFacts {
        let (as_of, source) = (self.metrics_at, Source::Simulator);
        MetricsFacts {
            usage: Facts::Fresh { as_of, source, value: Vec::new() },
            traffic: Facts::Fresh { as_of, source, value: Traffic::default() },
            latency: Facts::Missing { reason: "no exporter".to_owned() },
            warnings: Vec::new(),
        }
    }
}

#[async_trait]
impl Actuator for World {
    fn carries_out(&self, _: ActionKind) -> bool {
        !self.reported_only
    }
    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        let text = action.to_string();
        self.note(format!("apply {text}"));
        match self.failures.iter().find(|(start, _)| text.starts_with(start)) {
            Some((_, error)) => Err(error.clone()),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl StateStore for World {
    async fn load(&self) -> Result<Memory, PortError> {
        if self.load_fails {
            return Err(silent("load"));
        }
        Ok(self.stored.clone())
    }
    async fn save(&self, memory: &Memory) -> Result<(), PortError> {
        let number = {
            let mut saves = self.saves.lock().unwrap();
            saves.push(memory.clone());
            saves.len() - 1
        };
        self.note("save");
        if self.failing_saves.contains(&number) { Err(silent("save")) } else { Ok(()) }
    }
}

#[async_trait]
impl LeaderGate for World {
    async fn may_write(&self) -> bool {
        let mut answers = self.leader.lock().unwrap();
        if answers.len() > 1 {
            answers.pop_front().unwrap()
        } else {
            answers.front() != Some(&false)
        }
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        let looks = self.looks.fetch_add(1, Ordering::SeqCst);
        Timestamp::from_millis(1_000_000 + u64::from(looks) * self.tick.as_millis())
    }
}

fn workload(name: &str) -> WorkloadRef {
    format!("shop/Deployment/{name}").parse().unwrap()
}

fn scale(name: &str) -> Action {
    Action::AddReplicas {
        workload: workload(name),
        observed: 1,
        nodes: vec!["n1".parse().unwrap()],
    }
}

fn start_move(name: &str) -> Action {
    Action::StartMove {
        workload: workload(name),
        observed: 2,
        way: MoveWay::Surge,
        victim: format!("shop/{name}-a").parse().unwrap(),
        from: "n1".parse().unwrap(),
        to: "n2".parse().unwrap(),
    }
}

/// Sets and clears records as the real step does: a begun move has one.
fn remember_moves(
    mut memory: Memory,
    _: &Snapshot,
    planned: &Planned,
    outcomes: &Outcomes,
    _: &Policy,
    now: Timestamp,
) -> Memory {
    for (action, result) in planned.plan.actions.iter().zip(outcomes) {
        match action {
            Action::StartMove { workload, observed, way, victim, from, to } if result.is_ok() => {
                memory.workloads.entry(workload.clone()).or_default().in_flight =
                    Some(MoveInFlight {
                        started_at: now,
                        way: *way,
                        victim: victim.clone(),
                        from: from.clone(),
                        to: to.clone(),
                        replicas_before: *observed,
                        known_pods: Vec::new(),
                        predicted_saving: 1.0,
                        ending: None,
                    });
            }
            Action::FinishMove { workload, .. } if result.is_ok() => {
                memory.workloads.entry(workload.clone()).or_default().in_flight = None;
            }
            Action::AddReplicas { workload, .. } if result.is_ok() => {
                memory.workloads.entry(workload.clone()).or_default().scaled_at = Some(now);
            }
            _ => {}
        }
    }
    memory
}

fn engine(world: &Arc<World>, actions: Vec<Action>, dry_run: bool) -> Engine {
    let ports = Ports {
        cluster: world.clone(),
        metrics: world.clone(),
        actuator: world.clone(),
        store: world.clone(),
        leader: world.clone(),
        clock: world.clone(),
    };
    let options = EngineOptions { dry_run, ..EngineOptions::default() };
    let mut engine = Engine::new(ports, Policy::default(), options).with_planner(Arc::new(
        move |_: &Snapshot, _: &Policy, _: &Memory, at| Planned {
            plan: Plan { at, actions: actions.clone(), ..Plan::default() },
            report: Report::default(),
        },
    ));
    engine.checker = |_, _, _, _| Vec::new();
    engine.rememberer = remember_moves;
    engine
}

fn run(world: World, actions: Vec<Action>) -> (Arc<World>, CycleOutcome) {
    let world = Arc::new(world);
    let outcome = pollster::block_on(engine(&world, actions, false).cycle());
    (world, outcome)
}

fn in_flight(memory: &Memory, name: &str) -> bool {
    memory.workloads.get(&workload(name)).is_some_and(|w| w.in_flight.is_some())
}

#[test]
fn a_clean_cycle_remembers_once_and_acts_in_order() {
    let (world, outcome) = run(World::default(), vec![scale("a"), scale("b")]);
    assert!(outcome.is_clean());
    assert_eq!(
        world.diary(),
        ["save", "apply scale a from 1 to 2: new on n1", "apply scale b from 1 to 2: new on n1"]
    );
    assert_eq!(outcome.memory.unwrap(), world.saves()[0]);
}

#[test]
fn nothing_is_saved_when_nothing_changed() {
    let (world, outcome) = run(World::default(), vec![]);
    assert!(outcome.is_clean() && world.diary().is_empty());
}

/// An engine whose plan scales `a`, and says whether that cannot wait.
fn glance(world: World, pressing: bool) -> (Arc<World>, Option<CycleOutcome>) {
    let world = Arc::new(world);
    let host = HostReport {
        destinations: [].into(),
        delta: 0.0,
        reason: RouteReason::NoDemand,
        whole_zones: None,
        verification: None,
        pressing,
    };
    let engine = engine(&world, vec![], false).with_planner(Arc::new(
        move |_: &Snapshot, _: &Policy, _: &Memory, at| Planned {
            plan: Plan { at, actions: vec![scale("a")], ..Plan::default() },
            report: Report {
                hosts: [("a.shop.svc.cluster.local".parse().unwrap(), host.clone())].into(),
                ..Report::default()
            },
        },
    ));
    let outcome = pollster::block_on(engine.glance());
    (world, outcome)
}

#[test]
fn a_glance_acts_only_on_what_is_pressing() {
    let (world, outcome) = glance(World::default(), false);
    assert!(outcome.is_none() && world.diary().is_empty());
    let (world, outcome) = glance(World::default(), true);
    assert!(outcome.unwrap().is_clean());
    assert_eq!(world.diary(), ["save", "apply scale a from 1 to 2: new on n1"]);
    // What cannot be seen is the next cycle's to report.
    let (world, outcome) = glance(World { observe_fails: true, ..World::default() }, true);
    assert!(outcome.is_none() && world.diary().is_empty());
}

#[test]
fn the_record_of_a_move_is_stored_before_its_surge() {
    let (world, outcome) = run(World::default(), vec![start_move("a")]);
    assert!(outcome.is_clean());
    assert_eq!(world.diary(), ["save", "apply move shop/a-a from n1 to n2"]);
    assert!(in_flight(&world.saves()[0], "a"));
}

#[test]
fn storing_intents_takes_nothing_out_of_the_memory() {
    let mut stored = Memory::default();
    let (_, begun) = run(World::default(), vec![start_move("b")]);
    stored.workloads.insert(workload("b"), begun.memory.unwrap().workloads[&workload("b")].clone());
    let finish = Action::FinishMove {
        workload: workload("b"),
        observed: 3,
        victim: "shop/b-a".parse().unwrap(),
        replacement: "shop/b-n".parse().unwrap(),
    };
    let world = World { stored, ..World::default() };
    let (world, outcome) = run(world, vec![finish, start_move("a")]);
    assert!(outcome.is_clean());
    let saves = world.saves();
    assert!(in_flight(&saves[0], "b") && in_flight(&saves[0], "a"));
    assert!(!in_flight(&saves[1], "b") && in_flight(&saves[1], "a"));
}

#[test]
fn a_refused_surge_clears_its_record() {
    let world = World { failures: vec![("move", refused("surge"))], ..World::default() };
    let (world, outcome) = run(world, vec![start_move("a")]);
    let saves = world.saves();
    assert!(in_flight(&saves[0], "a") && !in_flight(&saves[1], "a"));
    assert_eq!(outcome.outcomes, [Err(refused("surge"))]);
}

#[test]
fn a_surge_without_an_answer_keeps_its_record() {
    let world = World { failures: vec![("move", silent("surge"))], ..World::default() };
    let (_, outcome) = run(world, vec![start_move("a")]);
    assert!(in_flight(&outcome.memory.unwrap(), "a"));
}

#[test]
fn nothing_begins_while_the_store_refuses() {
    let world = Arc::new(World { failing_saves: vec![0, 1, 2], ..World::default() });
    let engine = engine(&world, vec![start_move("a"), scale("b")], false);
    for _ in 0..2 {
        let outcome = pollster::block_on(engine.cycle());
        assert!(outcome.outcomes.iter().all(|r| matches!(r, Err(PortError::NotTried { .. }))));
        assert_eq!(outcome.errors[0].phase(), Phase::StoreIntents);
    }
    assert!(!world.diary().iter().any(|line| line.starts_with("apply")));
    let outcome = pollster::block_on(engine.cycle());
    assert!(outcome.is_clean());
}

#[test]
fn what_is_not_carried_out_is_planned_and_not_remembered() {
    let world = Arc::new(World { reported_only: true, ..World::default() });
    let outcome = pollster::block_on(engine(&world, vec![start_move("a")], false).cycle());
    assert!(matches!(outcome.outcomes[0], Err(PortError::NotTried { .. })));
    assert!(world.diary().is_empty() && outcome.is_clean());
}

#[test]
fn a_store_that_failed_once_is_written_again_even_when_nothing_else_changed() {
    let world = World { failing_saves: vec![0], ..World::default() };
    let (world, _) = run(world, vec![start_move("a")]);
    assert_eq!(world.diary(), ["save", "save"]);
    assert_eq!(world.saves()[1], Memory::default());
}

#[test]
fn without_leadership_nothing_is_written() {
    let world = World { leader: Mutex::new([false].into()), ..World::default() };
    let (world, outcome) = run(world, vec![start_move("a"), scale("b")]);
    assert!(world.diary().is_empty());
    assert!(outcome.outcomes.iter().all(|r| matches!(r, Err(PortError::NotLeader { .. }))));
    assert_eq!(outcome.memory, Some(Memory::default()));
    assert!(outcome.planned.is_some());
}

#[test]
fn leadership_lost_in_the_middle_stops_the_rest_for_good() {
    // Before acting, before the first action, before the second; then it comes back.
    let world = World { leader: Mutex::new([true, true, false, true].into()), ..World::default() };
    let (world, outcome) = run(world, vec![scale("a"), scale("b"), scale("c")]);
    assert_eq!(world.diary(), ["save", "apply scale a from 1 to 2: new on n1"]);
    assert!(outcome.outcomes[0].is_ok());
    for result in &outcome.outcomes[1..] {
        assert!(matches!(result, Err(PortError::NotLeader { .. })));
    }
    assert_eq!(outcome.errors.len(), 1);
    assert_eq!(outcome.errors[0].phase(), Phase::Save);
}

#[test]
fn an_actuator_that_finds_the_lease_gone_stops_the_rest() {
    let gone = PortError::NotLeader { what: "scale a".to_owned() };
    let world = World { failures: vec![("scale a", gone)], ..World::default() };
    let (world, outcome) = run(world, vec![scale("a"), scale("b")]);
    assert_eq!(world.diary(), ["save", "apply scale a from 1 to 2: new on n1"]);
    assert!(matches!(outcome.outcomes[1], Err(PortError::NotLeader { .. })));
}

#[test]
fn a_failed_action_stops_only_its_own_workload() {
    let world = World { failures: vec![("scale a", refused("scale"))], ..World::default() };
    let (world, outcome) = run(world, vec![scale("a"), start_move("a"), scale("b")]);
    assert_eq!(
        world.diary(),
        [
            "save",
            "apply scale a from 1 to 2: new on n1",
            "apply scale b from 1 to 2: new on n1",
            "save"
        ]
    );
    assert_eq!(outcome.outcomes[0], Err(refused("scale")));
    assert!(matches!(outcome.outcomes[1], Err(PortError::NotTried { .. })));
    assert!(outcome.outcomes[2].is_ok());
    let memory = outcome.memory.unwrap();
    assert!(!in_flight(&memory, "a"));
    assert_eq!(
        memory.workloads.get(&workload("a")).cloned().unwrap_or_default(),
        WorkloadMemory::default()
    );
    assert!(memory.workloads[&workload("b")].scaled_at.is_some());
}

#[test]
fn a_cluster_that_cannot_be_read_is_left_alone() {
    let (world, outcome) = run(World { observe_fails: true, ..World::default() }, vec![scale("a")]);
    assert!(world.diary().is_empty() && outcome.planned.is_none() && outcome.snapshot.is_none());
    assert_eq!(outcome.errors[0].phase(), Phase::Observe);
}

#[test]
fn without_memory_nothing_is_planned() {
    let (world, outcome) = run(World { load_fails: true, ..World::default() }, vec![scale("a")]);
    assert!(world.diary().is_empty() && outcome.planned.is_none());
    assert!(outcome.snapshot.is_some());
    assert_eq!(outcome.errors[0].phase(), Phase::Load);
}

#[test]
fn a_failed_save_is_told() {
    let failures = vec![("scale b", refused("scale"))];
    let world = World { failing_saves: vec![1], failures, ..World::default() };
    let (_, outcome) = run(world, vec![scale("a"), scale("b")]);
    assert!(outcome.outcomes[0].is_ok());
    assert_eq!(outcome.errors[0].phase(), Phase::Save);
}

#[test]
fn a_plan_that_fails_its_check_is_dropped_whole() {
    let world = Arc::new(World::default());
    let mut engine = engine(&world, vec![scale("a"), start_move("b")], false);
    engine.checker = check::check;
    let outcome = pollster::block_on(engine.cycle());
    assert!(!outcome.violations.is_empty());
    assert!(world.diary().is_empty());
    assert!(outcome.outcomes.iter().all(|r| matches!(r, Err(PortError::NotTried { .. }))));
    assert_eq!(outcome.outcomes.len(), 2);
}

#[test]
fn a_dry_run_writes_and_remembers_nothing() {
    let world = Arc::new(World::default());
    let outcome = pollster::block_on(engine(&world, vec![scale("a")], true).cycle());
    assert!(world.diary().is_empty());
    assert!(matches!(outcome.outcomes[0], Err(PortError::NotTried { .. })));
    assert_eq!(outcome.memory, Some(Memory::default()));
    assert_eq!(outcome.planned.unwrap().plan.actions.len(), 1);
}

#[test]
fn metrics_are_judged_by_their_age() {
    let recent = World { metrics_at: Timestamp::from_millis(880_000), ..World::default() };
    let (_, outcome) = run(recent, vec![]);
    assert!(outcome.snapshot.unwrap().traffic.fresh().is_some());
    let old = World { metrics_at: Timestamp::from_millis(879_999), ..World::default() };
    let (_, outcome) = run(old, vec![]);
    let snapshot = outcome.snapshot.unwrap();
    assert!(snapshot.traffic.fresh().is_none() && snapshot.traffic.known().is_some());
    assert!(snapshot.usage.fresh().is_none());
}

#[test]
fn the_same_world_gives_the_same_outcome() {
    let actions = vec![scale("a"), start_move("b"), scale("c")];
    let once = run(World::default(), actions.clone());
    let again = run(World::default(), actions);
    assert_eq!(once.1, again.1);
    assert_eq!(once.0.diary(), again.0.diary());
}

#[test]
fn a_stopped_engine_begins_no_action_and_still_remembers() {
    let world = Arc::new(World::default());
    let engine = engine(&world, vec![scale("a"), scale("b")], false);
    engine.stopper().stop();
    let outcome = pollster::block_on(engine.cycle());
    let stopping = |action: &Action| Err(not_tried(action, "StornX is stopping"));
    assert_eq!(outcome.outcomes, [stopping(&scale("a")), stopping(&scale("b"))]);
    assert!(!world.diary().iter().any(|line| line.starts_with("apply")));
}

#[test]
fn no_action_is_begun_after_the_deadline() {
    let world = Arc::new(World { tick: Span::from_seconds(10), ..World::default() });
    let mut engine = engine(&world, vec![scale("a"), scale("b"), scale("c")], false);
    // The clock shows ten seconds more each time it is looked at. It is looked at five
    // times before acting (start, four steps), then once before each action.
    engine.options.deadline = Span::from_seconds(70);
    let outcome = pollster::block_on(engine.cycle());
    let late = |action: &Action| Err(not_tried(action, "the deadline of the cycle has passed"));
    assert_eq!(outcome.outcomes, [Ok(()), Ok(()), late(&scale("c"))]);
    assert_eq!(outcome.took[&Phase::Plan], Span::from_seconds(10));
    // What was done is remembered.
    assert!(world.diary().contains(&"save".to_owned()));
}
