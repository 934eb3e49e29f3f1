//! The world at the start of a run: nodes with power and the agenda filled.
//!
//! Pods are owned in one of two ways. A world of its own ([`World::new`]) has its control
//! plane, its Prometheus and all events of the scenario, and begins with replicas that are
//! Ready and an hour old. A world that follows another ([`World::following`]) has users,
//! proxies and processes; its nodes and pods are those that it is told of, and what a
//! control plane or Prometheus would do is not in its agenda.

use std::collections::VecDeque;

use stornx_core::{ids::IdError, memory::Memory, units::Timestamp};

use super::{
    Routing, WorldError,
    agenda::{Agenda, Kind},
    arrivals::Arrivals,
    balance::Endpoints,
    hpa::HpaState,
    meter::Meter,
    model::{Model, nanos},
    prometheus::{Counters, Prometheus},
    random::{Purpose, Stream},
    state::{FIRST_REPLICAS_AGE_MILLIS, NodeState, Phase, START_MILLIS, ServiceState, World},
    tally::Tally,
};
use crate::scenario::{Event, Scenario, Timespan, service::Placement};

impl World {
    /// A world of its own.
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Result<Self, WorldError> {
        let mut world = Self::empty(Self::checked_model(scenario)?, scenario.clone(), seed);
        world.place_ingress();
        for service in 0..world.model.ingress() {
            world.place_service(service)?;
        }
        world.notices.clear();
        world.expect_users();
        world.expect_control_plane();
        world.expect_happenings(|_| true);
        Ok(world)
    }

    /// A world that follows another: it begins with the places where users enter, and
    /// counts by series.
    pub(crate) fn following(scenario: &Scenario, seed: u64) -> Result<Self, WorldError> {
        let mut model = Self::checked_model(scenario)?;
        model.nodes.retain(|node| node.gateway);
        let mut world = Self::empty(model, scenario.clone(), seed);
        world.tally = Some(Tally::default());
        world.place_ingress();
        // Proxies know that there are no endpoints yet.
        for service in 0..world.model.ingress() {
            world.publish(service);
        }
        world.notices.clear();
        world.expect_users();
        // What becomes of zones, pods and metrics, the world that is followed decides.
        world.expect_happenings(|event| match event {
            Event::SlowReplica(_)
            | Event::SlowNode(_)
            | Event::NodePressure(_)
            | Event::TrafficShift(_) => true,
            Event::ZoneLoss(_) | Event::MetricsOutage(_) | Event::Rollout(_) => false,
        });
        Ok(world)
    }

    fn checked_model(scenario: &Scenario) -> Result<Model, WorldError> {
        let problems = scenario.problems();
        if let Some(problem) = problems.first() {
            return Err(WorldError::Invalid { problem: problem.to_string() });
        }
        Model::new(scenario)
            .map_err(|error: IdError| WorldError::Invalid { problem: error.to_string() })
    }

    fn empty(model: Model, scenario: Scenario, seed: u64) -> Self {
        let zones = model.zones.len();
        let nodes = model.nodes.iter().map(|node| NodeState::new(node.allocatable.cpu)).collect();
        let services = (0..model.services.len())
            .map(|service| ServiceState {
                desired: scenario.services.get(service).map_or(0, |s| s.replicas),
                revision: 1,
                rolling: false,
                pods: Vec::new(),
                created: 0,
                endpoints: Endpoints::default(),
                routing: initial_routing(&scenario, service),
                hpa: HpaState::default(),
                work: Stream::new(seed, Purpose::Work, service),
                fan_out: Stream::new(seed, Purpose::FanOut, service),
                choice: Stream::new(seed, Purpose::Routing, service),
            })
            .collect();
        Self {
            seed,
            now: 0,
            agenda: Agenda::default(),
            calls: Vec::new(),
            free: Vec::new(),
            pods: Vec::new(),
            nodes,
            services,
            arrivals: model
                .inflows
                .iter()
                .enumerate()
                .map(|(index, inflow)| Arrivals::new(inflow, seed, index))
                .collect(),
            backoff: Stream::new(seed, Purpose::Backoff, 0),
            failover: Stream::new(seed, Purpose::Failover, 0),
            entry_blocked_until: vec![0; zones],
            timeouts: vec![VecDeque::new(); model.timeout_groups],
            routes: vec![Counters::default(); model.edges.len() * zones * zones],
            meter: Meter::new(&model, nanos(scenario.warm_up)),
            prometheus: Prometheus::default(),
            notices: Vec::new(),
            happenings: Vec::new(),
            memory: Memory::default(),
            leader: true,
            hops: 0,
            tally: None,
            model,
            scenario,
        }
    }

    fn place_ingress(&mut self) {
        let ingress = self.model.ingress();
        for zone in 0..self.model.zones.len() {
            let gateway = |node: &super::model::NodeModel| node.gateway && node.zone == zone;
            if let Some(node) = self.model.nodes.iter().position(gateway) {
                self.services[ingress].desired += 1;
                let pod = self.create(ingress, None);
                self.bind(pod, node);
                self.first_replica(pod);
            }
        }
        self.publish(ingress);
    }

    fn place_service(&mut self, service: usize) -> Result<(), WorldError> {
        let placement = self.scenario.services[service].placement.clone();
        match placement {
            Some(Placement::Zones(zones)) => {
                for (name, count) in zones {
                    let zone = self.model.zone(&name);
                    for _ in 0..count {
                        self.place(service, |world, node| {
                            Some(world.model.nodes[node].zone) == zone
                        })?;
                    }
                }
            }
            Some(Placement::Nodes(nodes)) => {
                for (name, count) in nodes {
                    let wanted = self.model.node(&name);
                    for _ in 0..count {
                        self.place(service, |_, node| Some(node) == wanted)?;
                    }
                }
            }
            None => {}
        }
        let left = self.services[service].desired as usize - self.services[service].pods.len();
        for _ in 0..left {
            self.place(service, |_, _| true)?;
        }
        self.publish(service);
        Ok(())
    }

    fn place(
        &mut self,
        service: usize,
        among: impl Fn(&Self, usize) -> bool,
    ) -> Result<(), WorldError> {
        let node = self.schedule_among(service, None, |node| among(self, node));
        let Some(node) = node else {
            return Err(WorldError::NoRoom {
                service: self.scenario.services[service].name.clone(),
            });
        };
        let pod = self.create(service, None);
        self.bind(pod, node);
        self.first_replica(pod);
        Ok(())
    }

    /// Makes a pod one that was there before the run.
    fn first_replica(&mut self, pod: u32) {
        let since = Timestamp::from_millis(START_MILLIS - FIRST_REPLICAS_AGE_MILLIS);
        let state = &mut self.pods[pod as usize];
        state.life += 1; // Not to become Ready once more.
        state.phase = Phase::Ready;
        state.alive = true;
        state.was_ready = true;
        state.created_at = since;
        state.ready_since = Some(since);
        state.cpu_seen = Some(0.0);
    }

    /// Users come, and what becomes of them is measured.
    fn expect_users(&mut self) {
        self.agenda.add(self.piece_length(), Kind::Piece, 0, 0);
        // Without a warm-up everything counts, also what is done before the first instant.
        if self.scenario.warm_up > Timespan::ZERO {
            self.agenda.add(nanos(self.scenario.warm_up), Kind::MeasureStart, 0, 0);
        }
        for inflow in 0..self.arrivals.len() {
            self.expect_arrival(u32::try_from(inflow).unwrap_or(u32::MAX));
        }
    }

    /// The control plane, the autoscalers and Prometheus look, and curves are drawn.
    fn expect_control_plane(&mut self) {
        let metrics = &self.scenario.metrics;
        let first = [
            (0, Kind::Control),
            (nanos(metrics.scrape_interval), Kind::Scrape),
            (nanos(self.scenario.cluster.hpa_interval), Kind::Autoscale),
            (nanos(self.scenario.measure.sample_interval), Kind::Sample),
        ];
        for (at, kind) in first {
            self.agenda.add(at, kind, 0, 0);
        }
    }
}

fn initial_routing(scenario: &Scenario, service: usize) -> Routing {
    let name = scenario.services.get(service).map(|service| &service.name);
    match name.and_then(|name| scenario.routes.get(name)) {
        Some(table) => Routing::Weights(table.clone()),
        None => Routing::of(scenario.default_split),
    }
}
