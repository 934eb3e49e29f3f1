//! A world whose nodes, pods and rules are dictated from outside, and which shows itself
//! as what Prometheus scrapes: the simulation side of a workload emulator on a real
//! control plane.
//!
//! Decides nothing about pods: one that is seen Ready serves, one that is not seen any
//! more is gone, and its series with it. Users, calls, proxies, queues and service times
//! are those of the scenario, as are slow replicas, slow nodes and shifts of traffic; its
//! zone losses, rollouts and metrics outages are not, since whoever owns the pods makes
//! them happen.
//!
//! Users enter at the ingress. Where the pods seen include some of the service `ingress`,
//! the first by name in each zone lends its name to what enters there (a zone without one
//! shows what enters there on the callees' side alone); where there are none at all, users
//! come from outside of the mesh.
//!
//! Refuses: nodes in zones that the scenario does not have (there is no distance to
//! them), pods of services that it does not have.

mod expose;
mod follow;
#[cfg(test)]
mod tests;

use stornx_core::{
    ids::{HostName, NodeName, PodName, ZoneName},
    ports::PortError,
    units::{MilliCpu, Span, Timestamp},
};
use thiserror::Error;

use super::{Measurements, Routing, SimWorld, WorldError, state::World};
use crate::scenario::Scenario;

/// A node of the world that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSeen {
    /// Its name.
    pub name: NodeName,
    /// Its zone, one of the scenario's.
    pub zone: ZoneName,
    /// Whether it has power: what runs on it is gone without a word when not.
    pub ready: bool,
    /// What its pods share.
    pub cpu: MilliCpu,
}

/// A pod of the world that is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSeen {
    /// The service of the scenario that it is a replica of, or `ingress`.
    pub service: String,
    /// Its namespace and name.
    pub pod: PodName,
    /// The node that it is bound to.
    pub node: Option<NodeName>,
    /// Whether it is an endpoint: Ready, and not being deleted.
    pub ready: bool,
}

/// A cluster that cannot be followed. Nothing of it was taken over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EmulatorError {
    /// A zone without distances.
    #[error("node {node} is in zone {zone}, which the scenario does not have")]
    UnknownZone {
        /// Which node.
        node: NodeName,
        /// In which zone.
        zone: ZoneName,
    },
    /// A pod of nothing that the scenario knows.
    #[error("pod {pod} is of service {service}, which the scenario does not have")]
    UnknownService {
        /// Which pod.
        pod: PodName,
        /// Of which service.
        service: String,
    },
    /// A pod on no node.
    #[error("pod {pod} is on node {node}, which was not seen")]
    UnknownNode {
        /// Which pod.
        pod: PodName,
        /// On which node.
        node: NodeName,
    },
    /// A factor that is none.
    #[error("time factor {factor} is not valid: a number from 0.001 to 1000")]
    TimeFactor {
        /// The factor.
        factor: String,
    },
}

/// The workloads of a scenario on somebody else's pods.
#[derive(Debug)]
pub struct Emulator {
    world: World,
    /// By zone: the pod that users enter by, where one was seen.
    entrances: Vec<Option<PodName>>,
    factor: f64,
}

impl Emulator {
    /// Users that find no replica yet.
    ///
    /// # Errors
    /// [`WorldError`] when the scenario is not valid.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self, WorldError> {
        let world = World::following(scenario, seed)?;
        let entrances = vec![None; world.model.zones.len()];
        Ok(Self { world, entrances, factor: 1.0 })
    }

    /// The same, in fast time: `factor` seconds pass here in one of the scraper's. What
    /// counters show is divided by it, so that a rate per second of the scraper is the rate
    /// per second of this world.
    ///
    /// # Errors
    /// [`EmulatorError::TimeFactor`] when it is no factor.
    pub fn with_time_factor(mut self, factor: f64) -> Result<Self, EmulatorError> {
        if !(0.001..=1000.0).contains(&factor) {
            return Err(EmulatorError::TimeFactor { factor: factor.to_string() });
        }
        self.factor = factor;
        Ok(self)
    }

    /// Takes over the nodes and pods that there are now; the order of the lists does not
    /// matter. A node that is not seen has no power.
    ///
    /// # Errors
    /// [`EmulatorError`] when they do not fit the scenario; nothing has changed then.
    pub fn set_cluster(
        &mut self,
        nodes: &[NodeSeen],
        pods: &[PodSeen],
    ) -> Result<(), EmulatorError> {
        self.entrances = self.world.follow(nodes, pods)?;
        Ok(())
    }

    /// Sets how the callers of a host choose.
    ///
    /// # Errors
    /// [`PortError::Conflict`] when there is no such host.
    pub fn set_routing(&mut self, host: &HostName, routing: Routing) -> Result<(), PortError> {
        let service = super::known_host(&self.world, host, "set routing")?;
        if self.world.services[service].routing != routing {
            self.world.route(service, routing);
        }
        Ok(())
    }

    /// Lets time pass, in the time of this world.
    pub fn advance(&mut self, span: Span) {
        let until = self.now().after(span);
        // Changes of endpoints are what we were told of ourselves.
        let _ = self.world.run(until, false);
    }

    /// The instant that this world has come to; it begins at [`SimWorld::start`].
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        World::stamp(self.world.now)
    }

    /// How long this world has run.
    #[must_use]
    pub const fn elapsed(&self) -> Span {
        self.now().since(SimWorld::start())
    }

    /// What was measured so far: the truth, without the division by the time factor.
    #[must_use]
    pub fn measurements(&self) -> Measurements {
        self.world.measurements()
    }

    /// Everything that a mesh, cAdvisor and an exporter of round-trip times would show, in
    /// the text format 0.0.4 of Prometheus. Each series carries the labels `namespace` and
    /// `pod` that its scrape target would give it.
    #[must_use]
    pub fn expose(&mut self) -> String {
        expose::expose(&mut self.world, &self.entrances, self.factor)
    }
}
