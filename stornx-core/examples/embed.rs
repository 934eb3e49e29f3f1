//! The engine inside another controller: ports over a world of its own, and a strategy of
//! its own in the place of the planner.
//!
//! `cargo run -p stornx-core --example embed --features testing`

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use stornx_core::{
    decide,
    engine::{CycleOutcome, Engine, EngineOptions, Planner, Ports},
    memory::Memory,
    model::{ClusterFacts, Facts, MetricsFacts, Snapshot},
    plan::{Action, ActionKind},
    policy::Policy,
    ports::{Actuator, Clock, ClusterSource, LeaderGate, MetricsSource, PortError, StateStore},
    units::Timestamp,
};

/// All ports over one value. Yours would ask an API server, a database, a message bus.
struct World {
    snapshot: Snapshot,
    memory: Mutex<Memory>,
    applied: AtomicUsize,
}

#[async_trait]
impl ClusterSource for World {
    async fn observe(&self) -> Result<ClusterFacts, PortError> {
        Ok(ClusterFacts {
            nodes: self.snapshot.nodes.clone(),
            workloads: self.snapshot.workloads.clone(),
            hosts: self.snapshot.hosts.clone(),
            mesh: self.snapshot.mesh,
            steering: self.snapshot.steering.clone(),
        })
    }
}

#[async_trait]
impl MetricsSource for World {
    async fn observe(&self, _: &ClusterFacts, _: Timestamp) -> MetricsFacts {
        MetricsFacts {
            usage: self.snapshot.usage.clone(),
            traffic: self.snapshot.traffic.clone(),
            latency: Facts::Missing { reason: "nothing measures it here".to_owned() },
            warnings: Vec::new(),
        }
    }
}

#[async_trait]
impl Actuator for World {
    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        self.applied.fetch_add(1, Ordering::Relaxed);
        println!("apply: {action}");
        Ok(())
    }
}

#[async_trait]
impl StateStore for World {
    async fn load(&self) -> Result<Memory, PortError> {
        Ok(self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
    async fn save(&self, memory: &Memory) -> Result<(), PortError> {
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory.clone();
        Ok(())
    }
}

#[async_trait]
impl LeaderGate for World {
    async fn may_write(&self) -> bool {
        true
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.snapshot.taken_at
    }
}

/// The strategy: what StornX would do, without the removal of replicas. The report keeps
/// one entry for each action, so that both are filtered alike. The engine checks the plan
/// as it checks its own.
fn never_shrink() -> Planner {
    Arc::new(|snapshot, policy, memory, now| {
        let mut planned = decide::plan(snapshot, policy, memory, now);
        let stays: Vec<bool> = planned
            .plan
            .actions
            .iter()
            .map(|action| action.kind() != ActionKind::RemoveReplicas)
            .collect();
        let mut of_plan = stays.iter();
        planned.plan.actions.retain(|_| of_plan.next() == Some(&true));
        let mut of_report = stays.iter();
        planned.report.actions.retain(|_| of_report.next() == Some(&true));
        planned
    })
}

/// One cycle over a snapshot: what came of it, and how many actions were applied.
fn embed(snapshot: Snapshot) -> (CycleOutcome, usize) {
    let world = Arc::new(World {
        snapshot,
        memory: Mutex::new(Memory::default()),
        applied: AtomicUsize::new(0),
    });
    let ports = Ports {
        cluster: world.clone(),
        metrics: world.clone(),
        actuator: world.clone(),
        store: world.clone(),
        leader: world.clone(),
        clock: world.clone(),
    };
    let engine = Engine::new(ports, Policy::default(), EngineOptions::default())
        .with_planner(never_shrink());
    let outcome = pollster::block_on(engine.cycle());
    (outcome, world.applied.load(Ordering::Relaxed))
}

fn main() {
    let world = stornx_core::testing::worlds::random_case(7);
    let (outcome, applied) = embed(world.snapshot);
    println!("{applied} actions, clean: {}", outcome.is_clean());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Test code.

    use super::*;

    /// Over many worlds: plans of the strategy pass the check, nothing is removed, and
    /// something is done in some of them.
    #[test]
    fn an_embedded_strategy_acts_and_never_shrinks() {
        let mut all = 0;
        for seed in 0..60 {
            let (outcome, applied) =
                embed(stornx_core::testing::worlds::random_case(seed).snapshot);
            assert!(outcome.violations.is_empty(), "seed {seed}: {:?}", outcome.violations);
            let plan = outcome.planned.unwrap().plan;
            assert!(plan.actions.iter().all(|one| one.kind() != ActionKind::RemoveReplicas));
            all += applied;
        }
        assert!(all > 0);
    }
}
