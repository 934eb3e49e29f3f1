//! The world: a cluster simulated request by request.
//!
//! A [`SimWorld`] is made of a [`Scenario`] and a seed, implements every port of the
//! core, and moves through virtual time only when told to
//! ([`advance_to`](SimWorld::advance_to)). Decisions see it through the ports alone:
//! the API server's view of pods and nodes, and metrics as Prometheus would show them.
//! [`Measurements`] are the truth, for judging only.
//!
//! | room | what it simulates |
//! | --- | --- |
//! | `agenda`, `random`, `state`, `model` | time, chance, and what there is |
//! | `arrivals`, `traffic`, `balance` | users, calls, proxies: the hot path |
//! | `kubernetes`, `scheduler`, `hpa` | the control plane |
//! | `happenings` | the timed events of the scenario |
//! | `prometheus`, `observe`, `act` | what the ports show and do |
//! | `outside`, `tally` | a world whose pods are dictated from outside, and its series |
//! | `meter`, `measure`, `histogram` | the truth |
//!
//! What is simplified: network time is half a round trip each way without jitter or
//! bandwidth; TCP edges choose a replica for each exchange instead of each connection;
//! rules and endpoints reach all proxies at once; there is no outlier ejection.

mod act;
mod agenda;
mod arrivals;
mod balance;
mod build;
mod happenings;
mod histogram;
mod hpa;
mod kubernetes;
mod measure;
mod meter;
mod model;
mod observe;
mod outside;
mod ports;
mod prometheus;
pub(crate) mod random;
mod run;
mod scheduler;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod traffic;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use stornx_core::{
    ids::{HostName, NodeName, WorkloadRef, ZoneName},
    model::{DefaultSplit, RouteTable, Rule},
    ports::PortError,
    units::Timestamp,
};
use thiserror::Error;

pub use histogram::Histogram;
pub use measure::{ByDistance, Failures, Measurements, RequestCounts, Sample, ServiceZonePeak};
pub use outside::{Emulator, EmulatorError, NodeSeen, PodSeen};

use crate::scenario::Scenario;
use state::{START_MILLIS, World};

/// A world that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WorldError {
    /// The scenario is not valid.
    #[error("the scenario cannot be run: {problem}")]
    Invalid {
        /// What is wrong with it.
        problem: String,
    },
    /// The first replicas do not fit.
    #[error("no node can take a replica of {service}: topology or placement must leave room")]
    NoRoom {
        /// Replicas of which service.
        service: String,
    },
}

/// How the callers of a host choose a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// Every ready replica alike.
    ByReplicas,
    /// The own zone while it has an endpoint, else the own region, else anywhere.
    OwnZoneFirst,
    /// By weights; zones that a caller's weights do not name are cut off. Callers that
    /// are not named do what the scenario's `defaultSplit` says.
    Weights(RouteTable),
}

impl Routing {
    /// What a mesh without a rule does.
    #[must_use]
    pub const fn of(default: DefaultSplit) -> Self {
        match default {
            DefaultSplit::ByReplicas => Self::ByReplicas,
            DefaultSplit::OwnZoneFirst => Self::OwnZoneFirst,
        }
    }
}

/// A change of the cluster that may trigger a cycle early.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The endpoints of a workload have changed.
    Endpoints {
        /// When.
        at: Timestamp,
        /// Of which workload.
        workload: WorkloadRef,
    },
    /// A node has become ready or not ready.
    Node {
        /// When.
        at: Timestamp,
        /// Which node.
        node: NodeName,
        /// What it is now.
        ready: bool,
    },
}

/// A simulated world. Shared by reference; every method takes it as a whole for a
/// moment.
#[derive(Debug)]
pub struct SimWorld {
    world: Mutex<World>,
}

impl SimWorld {
    /// The world at the start of a run.
    ///
    /// # Errors
    /// [`WorldError`] when the scenario is not valid or its replicas do not fit.
    pub fn new(scenario: &Scenario, seed: u64) -> Result<Self, WorldError> {
        Ok(Self { world: Mutex::new(World::new(scenario, seed)?) })
    }

    /// A panic elsewhere leaves a world that can still be looked at.
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The instant at which every run starts.
    #[must_use]
    pub const fn start() -> Timestamp {
        Timestamp::from_millis(START_MILLIS)
    }

    /// The instant at which the scenario ends.
    #[must_use]
    pub fn end(&self) -> Timestamp {
        Self::start().after(self.world().scenario.duration.span())
    }

    /// Lets time pass until `until` and says what has changed on the way. An instant in
    /// the past changes nothing.
    pub fn advance_to(&self, until: Timestamp) -> Vec<Notice> {
        self.world().run(until, false)
    }

    /// Lets time pass until `until` or until something has changed, whichever is first,
    /// and says what; [`Clock::now`](stornx_core::ports::Clock::now) says when.
    pub fn advance_until_notice(&self, until: Timestamp) -> Vec<Notice> {
        self.world().run(until, true)
    }

    /// Sets how the callers of a host choose, from outside of the ports: not counted as
    /// a write.
    ///
    /// # Errors
    /// [`PortError::Conflict`] when there is no such host.
    pub fn set_routing(&self, host: &HostName, routing: Routing) -> Result<(), PortError> {
        let mut world = self.world();
        let service = known_host(&world, host, "set routing")?;
        world.route(service, routing);
        Ok(())
    }

    /// Sets how the callers of every host choose: not counted as writes.
    pub fn set_routing_everywhere(&self, routing: &Routing) {
        let mut world = self.world();
        for service in 0..world.model.ingress() {
            world.route(service, routing.clone());
        }
    }

    /// Writes the weights of a host, counted as a write.
    ///
    /// # Errors
    /// [`PortError::Conflict`] when there is no such host.
    pub fn write_routes(&self, host: &HostName, table: RouteTable) -> Result<(), PortError> {
        let mut world = self.world();
        let service = known_host(&world, host, "write routes")?;
        world.write_rule(service, table);
        Ok(())
    }

    /// The rule that stands for a host; `None` when there is no such host.
    #[must_use]
    pub fn rule(&self, host: &HostName) -> Option<Rule> {
        self.world().rule_of(host)
    }

    /// Endpoints by host and zone, as every proxy knows them at any moment. Zones
    /// without are absent.
    #[must_use]
    pub fn endpoints(&self) -> BTreeMap<HostName, BTreeMap<ZoneName, u32>> {
        let world = self.world();
        (0..world.model.ingress())
            .map(|service| {
                (world.model.services[service].host.clone(), world.ready_by_zone(service))
            })
            .collect()
    }

    /// Utilisation of the workers of a host's replicas by zone (0 to 1, averaged since
    /// it was last asked for, ten seconds at most with the usual measuring window), as
    /// replicas report it to proxies with their answers. Zones that do not report are
    /// absent.
    #[must_use]
    pub fn reported_utilisation(&self, host: &HostName) -> BTreeMap<ZoneName, f64> {
        let mut world = self.world();
        let Some(service) = world.model.host(host) else { return BTreeMap::new() };
        (0..world.model.zones.len())
            .filter_map(|zone| {
                let utilisation = world.reported_utilisation(service, zone)?;
                Some((world.model.zones[zone].name.clone(), utilisation))
            })
            .collect()
    }

    /// Whether this process may write, from now on.
    pub fn set_leader(&self, leader: bool) {
        self.world().leader = leader;
    }

    /// What was measured so far.
    #[must_use]
    pub fn measurements(&self) -> Measurements {
        self.world().measurements()
    }

    /// Calls served by a replica since the start of the run, warm-up included.
    #[must_use]
    pub fn hops(&self) -> u64 {
        self.world().hops
    }
}

fn known_host(world: &World, host: &HostName, what: &str) -> Result<usize, PortError> {
    world.model.host(host).ok_or_else(|| PortError::Conflict {
        what: format!("{what} of {host}"),
        detail: "there is no such host".to_owned(),
    })
}
