//! The ports: what the engine needs of the world. Small, object-safe, and free of
//! every foreign type; each adapter implements the ones it is for.

use async_trait::async_trait;
use thiserror::Error;

use crate::{
    ids::HostName,
    memory::Memory,
    model::{ClusterFacts, MetricsFacts, RouteTable},
    plan::{Action, ActionKind},
    units::Timestamp,
};

/// A port that could not do its work. Says what was tried and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PortError {
    /// The other side did not answer, or not in time.
    #[error("{what}: no answer: {detail}")]
    Unavailable {
        /// What was tried, with ids.
        what: String,
        /// What came of it.
        detail: String,
    },
    /// The world has moved on since the plan was made.
    #[error("{what}: refused, {detail}")]
    Conflict {
        /// What was tried, with ids.
        what: String,
        /// What was found instead.
        detail: String,
    },
    /// The other side understood and said no.
    #[error("{what}: rejected: {detail}")]
    Rejected {
        /// What was tried, with ids.
        what: String,
        /// What it said.
        detail: String,
    },
    /// Nothing was tried.
    #[error("{what}: not tried: {detail}")]
    NotTried {
        /// What would have been tried, with ids.
        what: String,
        /// Why it was not.
        detail: String,
    },
    /// The right to write was lost before the write.
    #[error("{what}: not the leader any more")]
    NotLeader {
        /// What was about to be written.
        what: String,
    },
}

/// Gives topology, workloads and routing.
#[async_trait]
pub trait ClusterSource: Send + Sync {
    /// The cluster as it is known now.
    ///
    /// # Errors
    /// [`PortError`] when nothing current is known.
    async fn observe(&self) -> Result<ClusterFacts, PortError>;
}

/// Gives usage, traffic and latency.
#[async_trait]
pub trait MetricsSource: Send + Sync {
    /// The metrics for a cluster. Never fails as a whole: what could not be had is
    /// [`Facts::Missing`](crate::model::Facts::Missing) with its reason.
    async fn observe(&self, cluster: &ClusterFacts, now: Timestamp) -> MetricsFacts;
}

/// Carries out one action.
#[async_trait]
pub trait Actuator: Send + Sync {
    /// Whether actions of this kind are carried out at all. Others are planned and
    /// reported, and nothing is remembered of them.
    fn carries_out(&self, _kind: ActionKind) -> bool {
        true
    }

    /// Applies `action`, or refuses when what it expects is not there.
    ///
    /// # Errors
    /// [`PortError`]; after an error the world is as before, or the next cycle sees
    /// what was done of it.
    async fn apply(&self, action: &Action) -> Result<(), PortError>;
}

/// Makes the mesh split the requests to a host. An [`Actuator`] of a real cluster has one
/// for `SetRoutes` and `GiveBackRoutes`; Istio's DestinationRules are the first, and hints
/// in `EndpointSlices` or routes of the Gateway API could be others. It is small on purpose:
/// what is planned is a split between zones, and how a mesh is told is its own business.
#[async_trait]
pub trait RoutingBackend: Send + Sync {
    /// Makes `to` stand in the place of `from`, whole or not at all; in that of nothing where
    /// no weights of ours are to stand yet.
    ///
    /// # Errors
    /// [`PortError::Conflict`] when another split stands, or one where there was none, or none
    /// any more, or it is not ours to write (any more); [`PortError::Rejected`] when it cannot say such a split.
    async fn write(
        &self,
        host: &HostName,
        from: Option<&RouteTable>,
        to: &RouteTable,
    ) -> Result<(), PortError>;

    /// Takes back everything that was written for a host. Nothing there is no error.
    ///
    /// # Errors
    /// [`PortError`] when something of it may still stand.
    async fn give_back(&self, host: &HostName) -> Result<(), PortError>;
}

/// Keeps the memory.
#[async_trait]
pub trait StateStore: Send + Sync {
    /// The memory last saved; empty when there is none.
    ///
    /// # Errors
    /// [`PortError`] when it is not known whether there is one.
    async fn load(&self) -> Result<Memory, PortError>;

    /// Saves the memory.
    ///
    /// # Errors
    /// [`PortError`] when it is not certain that it was saved.
    async fn save(&self, memory: &Memory) -> Result<(), PortError>;
}

/// Says who may write.
#[async_trait]
pub trait LeaderGate: Send + Sync {
    /// Whether this process holds a lease that has not run out.
    async fn may_write(&self) -> bool;
}

/// Says what time it is.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}
