//! The simulated world keeps the contracts of the ports, and a daemon that dies at any
//! point of a move leaves nothing behind that its successor does not finish or undo.

// Everything here is test code, helpers included.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use stornx_core::{
    engine::{CycleOutcome, Engine, EngineOptions, Ports},
    ids::WorkloadRef,
    memory::Memory,
    plan::{Action, ActionKind},
    ports::{Actuator, Clock, ClusterSource, PortError, StateStore},
    testing::contract,
    units::Span,
};
use stornx_sim::{builtin, scenario::Scenario, world::SimWorld};

fn world(name: &str, minutes: u64) -> SimWorld {
    let scenario = builtin::find(name).expect("a built-in scenario");
    let world = SimWorld::new(&scenario, 1).expect("a valid scenario");
    world.advance_to(SimWorld::start().after(Span::from_seconds(60 * minutes)));
    world
}

#[test]
fn the_world_is_a_cluster_source() {
    pollster::block_on(contract::cluster_source(&world("steady", 3)));
}

#[test]
fn the_world_is_a_metrics_source() {
    // Before the first scrape, and afterwards.
    for minutes in [0, 4] {
        let world = world("steady", minutes);
        let cluster = pollster::block_on(ClusterSource::observe(&world)).expect("a cluster");
        pollster::block_on(contract::metrics_source(&world, &cluster, world.now()));
    }
}

#[test]
fn the_world_is_a_state_store() {
    pollster::block_on(contract::state_store(&world("steady", 0)));
}

#[test]
fn the_world_is_a_leader_gate_and_a_clock() {
    let world = world("steady", 0);
    contract::clock(&world);
    pollster::block_on(contract::leader_gate(&world, true));
    world.set_leader(false);
    pollster::block_on(contract::leader_gate(&world, false));
}

#[test]
fn the_world_refuses_what_does_not_find_what_it_expects() {
    let world = world("steady", 3);
    pollster::block_on(contract::actuator_refuses(&world, &world));
}

#[test]
fn the_world_applies_what_does() {
    let world = world("steady", 3);
    let cluster = pollster::block_on(ClusterSource::observe(&world)).expect("a cluster");
    let workload = cluster.workloads.iter().find(|w| w.managed && w.desired > 1).expect("one");
    let node = workload.pods[0].node.clone().expect("a placed replica");
    let actions = [
        Action::AddReplicas {
            workload: workload.id.clone(),
            observed: workload.desired,
            nodes: vec![node],
        },
        Action::RemoveReplicas {
            workload: workload.id.clone(),
            observed: workload.desired + 1,
            victims: vec![workload.pods[0].name.clone()],
        },
    ];
    for action in actions {
        pollster::block_on(contract::actuator_applies(&world, &world, &action));
    }
}

/// A write to the world, as a daemon that may die on it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Write {
    /// The memory, with a move in flight in it or not.
    Save {
        in_flight: bool,
    },
    Apply(ActionKind),
}

/// The world for a daemon that dies at the first write of a kind, before or after it.
struct Mortal {
    world: Arc<SimWorld>,
    dies_at: Mutex<Option<(Write, bool)>>,
    moved: Mutex<bool>,
}

impl Mortal {
    /// Whether this is the moment; it comes once.
    fn dies(&self, write: Write, done: bool) -> bool {
        let mut dies_at = self.dies_at.lock().unwrap();
        let now = *dies_at == Some((write, done));
        // A memory without a move in flight is saved in every cycle: the one that
        // counts comes after a move.
        if now && (write != Write::Save { in_flight: false } || *self.moved.lock().unwrap()) {
            *dies_at = None;
            return true;
        }
        false
    }
}

fn has_move(memory: &Memory) -> bool {
    memory.workloads.values().any(|workload| workload.in_flight.is_some())
}

#[async_trait]
impl Actuator for Mortal {
    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        let write = Write::Apply(action.kind());
        if self.dies(write, false) {
            std::future::pending::<()>().await;
        }
        let result = Actuator::apply(&*self.world, action).await;
        *self.moved.lock().unwrap() |= action.kind() == ActionKind::FinishMove;
        if self.dies(write, true) {
            std::future::pending::<()>().await;
        }
        result
    }
}

#[async_trait]
impl StateStore for Mortal {
    async fn load(&self) -> Result<Memory, PortError> {
        self.world.load().await
    }
    async fn save(&self, memory: &Memory) -> Result<(), PortError> {
        let write = Write::Save { in_flight: has_move(memory) };
        if self.dies(write, false) {
            std::future::pending::<()>().await;
        }
        let result = self.world.save(memory).await;
        if self.dies(write, true) {
            std::future::pending::<()>().await;
        }
        result
    }
}

/// Runs a cycle; `None` when the daemon died in it. The ports of the world never wait,
/// so a future that is not ready at once is a dead one.
fn cycle(mortal: &Arc<Mortal>, scenario: &Scenario) -> Option<CycleOutcome> {
    let world = &mortal.world;
    let ports = Ports {
        cluster: world.clone(),
        metrics: world.clone(),
        actuator: mortal.clone(),
        store: mortal.clone(),
        leader: world.clone(),
        clock: world.clone(),
    };
    // A new engine for each cycle: nothing is kept outside the ports.
    let engine = Engine::new(ports, scenario.policy.clone(), EngineOptions::default());
    let mut future = pin!(engine.cycle());
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}

fn counts(world: &SimWorld) -> BTreeMap<WorkloadRef, (u32, usize)> {
    let cluster = pollster::block_on(ClusterSource::observe(world)).expect("a cluster");
    cluster.workloads.iter().map(|w| (w.id.clone(), (w.desired, w.ready().count()))).collect()
}

/// Lets the daemon die at a write and its successors go on until the world is as it was
/// but for the place of a replica; gives whether it died at all.
fn survives(dies_at: Option<(Write, bool)>) -> bool {
    let mut scenario = builtin::find("slow-replica").expect("a built-in scenario");
    // Only moves change counts here.
    scenario.policy.scaler.enabled = false;
    let world = Arc::new(SimWorld::new(&scenario, 3).expect("a valid scenario"));
    let mortal = Arc::new(Mortal {
        world: world.clone(),
        dies_at: Mutex::new(dies_at),
        moved: Mutex::new(false),
    });
    world.advance_to(SimWorld::start().after(scenario.first_cycle.span()));
    let before = counts(&world);
    let (mut died, mut at_rest) = (false, 0);
    while world.now() < world.end() {
        match cycle(&mortal, &scenario) {
            None => died = true,
            Some(outcome) => {
                assert_eq!(outcome.violations, [], "{dies_at:?}");
                let resting = !has_move(&outcome.memory.expect("a memory"));
                at_rest = if resting { at_rest + 1 } else { 0 };
            }
        }
        let done = dies_at.is_none() && *mortal.moved.lock().unwrap();
        if (died || done) && at_rest >= 3 {
            assert_eq!(counts(&world), before, "{dies_at:?}");
            return died;
        }
        world.advance_to(world.now().after(scenario.cycle.span()));
    }
    panic!("{dies_at:?}: no rest by the end (died: {died})");
}

#[test]
fn a_daemon_that_lives_moves_the_slow_replica() {
    assert!(!survives(None));
}

#[test]
fn a_daemon_that_dies_in_a_move_leaves_nothing_behind() {
    for write in [
        Write::Save { in_flight: true },
        Write::Apply(ActionKind::StartMove),
        Write::Apply(ActionKind::FinishMove),
        Write::Save { in_flight: false },
    ] {
        for done in [false, true] {
            assert!(survives(Some((write, done))), "{write:?} never came");
        }
    }
}
