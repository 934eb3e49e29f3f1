//! The world at the start of a run: nodes with power, the first replicas Ready and an
//! hour old, the agenda filled.

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
    state::{
        FIRST_REPLICAS_AGE_MILLIS, NodeState, Phase, START_MILLIS, ServiceState, Slowness, World,
    },
};
use crate::scenario::{Scenario, Timespan, service::Placement};

impl World {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Result<Self, WorldError> {
        let problems = scenario.problems();
        if let Some(problem) = problems.first() {
            return Err(WorldError::Invalid { problem: problem.to_string() });
        }
        let model = Model::new(scenario)
            .map_err(|error: IdError| WorldError::Invalid { problem: error.to_string() })?;
        let mut world = Self::empty(model, scenario.clone(), seed);
        world.place_ingress();
        for service in 0..world.model.ingress() {
            world.place_service(service)?;
        }
        world.notices.clear();
        world.fill_agenda();
        Ok(world)
    }

    fn empty(model: Model, scenario: Scenario, seed: u64) -> Self {
        let zones = model.zones.len();
        let nodes = model
            .nodes
            .iter()
            .map(|node| NodeState {
                up: true,
                ready: true,
                down_since: None,
                not_ready_since: None,
                requested: stornx_core::units::Resources::default(),
                pods: 0,
                slowness: Slowness::NONE,
                pressure: 0,
                capacity: node.allocatable.cpu.get().saturating_mul(1000),
                demand: 0,
            })
            .collect();
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

    fn fill_agenda(&mut self) {
        let metrics = &self.scenario.metrics;
        let first = [
            (0, Kind::Control),
            (nanos(metrics.scrape_interval), Kind::Scrape),
            (nanos(self.scenario.cluster.hpa_interval), Kind::Autoscale),
            (self.piece_length(), Kind::Piece),
            (nanos(self.scenario.measure.sample_interval), Kind::Sample),
        ];
        for (at, kind) in first {
            self.agenda.add(at, kind, 0, 0);
        }
        // Without a warm-up everything counts, also what is done before the first instant.
        if self.scenario.warm_up > Timespan::ZERO {
            self.agenda.add(nanos(self.scenario.warm_up), Kind::MeasureStart, 0, 0);
        }
        self.expect_happenings();
        for inflow in 0..self.arrivals.len() {
            self.expect_arrival(u32::try_from(inflow).unwrap_or(u32::MAX));
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
