//! The ports of the core, over the simulated world. Nothing here waits: the futures are
//! ready at once.

use async_trait::async_trait;
use stornx_core::{
    memory::Memory,
    model::{ClusterFacts, MetricsFacts},
    plan::Action,
    ports::{Actuator, Clock, ClusterSource, LeaderGate, MetricsSource, PortError, StateStore},
    units::Timestamp,
};

use super::{SimWorld, state::World};

#[async_trait]
impl ClusterSource for SimWorld {
    async fn observe(&self) -> Result<ClusterFacts, PortError> {
        Ok(self.world().cluster_facts())
    }
}

#[async_trait]
impl MetricsSource for SimWorld {
    async fn observe(&self, _cluster: &ClusterFacts, _now: Timestamp) -> MetricsFacts {
        self.world().metrics_facts()
    }
}

#[async_trait]
impl Actuator for SimWorld {
    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        self.world().apply(action)
    }
}

#[async_trait]
impl StateStore for SimWorld {
    async fn load(&self) -> Result<Memory, PortError> {
        Ok(self.world().memory.clone())
    }

    async fn save(&self, memory: &Memory) -> Result<(), PortError> {
        self.world().memory = memory.clone();
        Ok(())
    }
}

#[async_trait]
impl LeaderGate for SimWorld {
    async fn may_write(&self) -> bool {
        self.world().leader
    }
}

impl Clock for SimWorld {
    fn now(&self) -> Timestamp {
        World::stamp(self.world().now)
    }
}
