//! The scenario as the hot path needs it: everything a number, every name an index.

use stornx_core::{
    ids::{HostName, IdError, NodeName, RegionName, WorkloadRef, ZoneName},
    model::Protocol,
    units::{Bytes, Resources},
};

use super::{
    agenda::{MILLISECOND, Nanos},
    random::Shape,
};
use crate::scenario::{
    Entry, Event, INGRESS, Point, Scenario, Service, Timespan,
    event::shifted,
    service::{Call, FanOut, Hpa, Stage},
};

/// A zone.
#[derive(Debug)]
pub(crate) struct ZoneModel {
    pub(crate) name: ZoneName,
    pub(crate) region: usize,
}

/// A node before anything happens to it.
#[derive(Debug)]
pub(crate) struct NodeModel {
    pub(crate) name: NodeName,
    pub(crate) zone: usize,
    pub(crate) allocatable: Resources,
    pub(crate) pod_capacity: u32,
    /// Carries the ingress of its zone and nothing else.
    pub(crate) gateway: bool,
}

/// A service, or the ingress.
#[derive(Debug)]
pub(crate) struct ServiceModel {
    pub(crate) workload: WorkloadRef,
    /// The ingress has a host only in name: nobody calls it.
    pub(crate) host: HostName,
    pub(crate) workers: u32,
    pub(crate) queue: usize,
    pub(crate) blocking: bool,
    pub(crate) work: f64,
    pub(crate) shape: Shape,
    /// Cores of one worker, in millionths.
    pub(crate) share: u64,
    /// CPU limit of a replica, in millionths of a core.
    pub(crate) limit: Option<u64>,
    pub(crate) startup: Nanos,
    pub(crate) grace: Nanos,
    pub(crate) memory_base: Bytes,
    pub(crate) memory_per_request: Bytes,
    pub(crate) requests: Resources,
    pub(crate) hpa: Option<Hpa>,
    /// Edges that it is the caller of.
    pub(crate) edges: usize,
}

impl ServiceModel {
    /// Whether so many workers at work want more CPU than the limit lets them have.
    #[inline]
    pub(crate) fn throttles(&self, working: u32) -> bool {
        self.limit.is_some_and(|limit| u64::from(working) * self.share > limit)
    }
}

/// A kind of request of a service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OperationModel {
    pub(crate) factor: f64,
    pub(crate) first_stage: u32,
    pub(crate) stages: u32,
}

/// A stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StageModel {
    pub(crate) first_call: u32,
    pub(crate) calls: u32,
    pub(crate) sequential: bool,
}

/// A call that a request makes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallModel {
    pub(crate) to: u32,
    pub(crate) operation: u32,
    pub(crate) edge: u32,
    /// Index of the edge among those of the caller.
    pub(crate) local: u32,
    pub(crate) whole: u32,
    pub(crate) fraction: f64,
    pub(crate) poisson: bool,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) timeout: Nanos,
    pub(crate) timeout_group: u32,
    pub(crate) retries: u8,
    pub(crate) optional: bool,
}

/// An edge of the service graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EdgeModel {
    pub(crate) caller: usize,
    pub(crate) callee: usize,
    pub(crate) protocol: Protocol,
}

/// The load that enters one service in one zone.
#[derive(Debug)]
pub(crate) struct Inflow {
    pub(crate) zone: usize,
    pub(crate) call: u32,
    /// Kinds of request with the sum of weights up to and with each.
    pub(crate) operations: Vec<(f64, u32)>,
    pub(crate) points: Vec<Point>,
}

/// The whole.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) zones: Vec<ZoneModel>,
    pub(crate) regions: Vec<RegionName>,
    pub(crate) nodes: Vec<NodeModel>,
    /// Half a round trip by caller zone times zones plus callee zone.
    pub(crate) half_trip: Vec<Nanos>,
    pub(crate) half_same_node: Nanos,
    pub(crate) connect_timeout: Nanos,
    /// Services in the order of the scenario, then the ingress.
    pub(crate) services: Vec<ServiceModel>,
    pub(crate) operations: Vec<OperationModel>,
    pub(crate) stages: Vec<StageModel>,
    pub(crate) calls: Vec<CallModel>,
    pub(crate) edges: Vec<EdgeModel>,
    pub(crate) inflows: Vec<Inflow>,
    pub(crate) timeout_groups: usize,
}

impl Model {
    /// Index of the ingress among the services.
    pub(crate) fn ingress(&self) -> usize {
        self.services.len() - 1
    }

    pub(crate) fn zone(&self, name: &ZoneName) -> Option<usize> {
        self.zones.iter().position(|zone| &zone.name == name)
    }

    pub(crate) fn node(&self, name: &NodeName) -> Option<usize> {
        self.nodes.iter().position(|node| &node.name == name)
    }

    pub(crate) fn service(&self, workload: &WorkloadRef) -> Option<usize> {
        self.services.iter().position(|service| &service.workload == workload)
    }

    pub(crate) fn host(&self, host: &HostName) -> Option<usize> {
        let found = self.services.iter().position(|service| &service.host == host)?;
        (found != self.ingress()).then_some(found)
    }

    pub(crate) fn new(scenario: &Scenario) -> Result<Self, IdError> {
        let mut builder = Builder::new(scenario)?;
        for service in &scenario.services {
            builder.operations(service);
        }
        for entry in &scenario.entries {
            builder.entry(entry);
        }
        let mut model = builder.model;
        for service in 0..model.services.len() {
            let edges = model.edges.iter().filter(|edge| edge.caller == service).count();
            model.services[service].edges = edges;
        }
        Ok(model)
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked ranges.
fn nanos_of_ms(millis: f64) -> Nanos {
    (millis * 1e6).round() as Nanos
}

pub(crate) const fn nanos(time: Timespan) -> Nanos {
    time.as_millis() * MILLISECOND
}

/// Indices of a model are counted in `u32`: a checked scenario is far smaller.
fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

struct Builder<'a> {
    scenario: &'a Scenario,
    model: Model,
    /// First operation of each service: the plain one, then those with names.
    first_operation: Vec<u32>,
    timeouts: Vec<Nanos>,
}

impl<'a> Builder<'a> {
    fn new(scenario: &'a Scenario) -> Result<Self, IdError> {
        let mut regions: Vec<_> =
            scenario.topology.zones.iter().map(|zone| zone.region.clone()).collect();
        regions.sort();
        regions.dedup();
        let zones: Vec<_> = scenario
            .topology
            .zones
            .iter()
            .map(|zone| ZoneModel {
                name: zone.name.clone(),
                region: regions.iter().position(|r| r == &zone.region).unwrap_or(0),
            })
            .collect();
        let mut services = Vec::new();
        let mut first_operation = Vec::new();
        let mut operations = 0;
        for service in &scenario.services {
            services.push(service_model(scenario, service)?);
            first_operation.push(index(operations));
            operations += 1 + service.operations.len();
        }
        services.push(ingress_model(scenario)?);
        Ok(Self {
            scenario,
            first_operation,
            timeouts: Vec::new(),
            model: Model {
                half_trip: half_trips(scenario, &zones),
                half_same_node: nanos_of_ms(scenario.network.same_node_ms.get()) / 2,
                connect_timeout: nanos(scenario.network.connect_timeout),
                nodes: nodes(scenario)?,
                zones,
                regions,
                services,
                operations: Vec::new(),
                stages: Vec::new(),
                calls: Vec::new(),
                edges: Vec::new(),
                inflows: Vec::new(),
                timeout_groups: 0,
            },
        })
    }

    fn operations(&mut self, service: &Service) {
        let caller = self.service(&service.name);
        self.operation(caller, 1.0, &service.stages);
        for operation in service.operations.values() {
            self.operation(caller, operation.work_factor, &operation.stages);
        }
    }

    fn service(&self, name: &str) -> usize {
        let services = &self.scenario.services;
        services.iter().position(|service| service.name == name).unwrap_or(services.len())
    }

    fn operation(&mut self, caller: usize, factor: f64, stages: &[Stage]) {
        let first_stage = index(self.model.stages.len());
        for stage in stages {
            let first_call = index(self.model.calls.len());
            for call in &stage.calls {
                let call = self.call(caller, call);
                self.model.calls.push(call);
            }
            self.model.stages.push(StageModel {
                first_call,
                calls: index(stage.calls.len()),
                sequential: stage.sequential,
            });
        }
        self.model.operations.push(OperationModel {
            factor,
            first_stage,
            stages: index(stages.len()),
        });
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Checked ranges.
    fn call(&mut self, caller: usize, call: &Call) -> CallModel {
        let callee = self.service(&call.to);
        let edge = self.edge(EdgeModel { caller, callee, protocol: call.protocol });
        let local = self.model.edges[..edge].iter().filter(|e| e.caller == caller).count();
        let timeout = nanos(call.timeout);
        CallModel {
            to: index(callee),
            operation: self.operation_of(callee, call.operation.as_deref()),
            edge: index(edge),
            local: index(local),
            whole: call.mean.floor() as u32,
            fraction: if call.fan_out == FanOut::Poisson { call.mean } else { call.mean.fract() },
            poisson: call.fan_out == FanOut::Poisson,
            request_bytes: call.request_bytes.get(),
            response_bytes: call.response_bytes.get(),
            timeout,
            timeout_group: self.timeout_group(timeout),
            retries: u8::try_from(call.retries).unwrap_or(u8::MAX),
            optional: call.optional,
        }
    }

    fn edge(&mut self, edge: EdgeModel) -> usize {
        let edges = &mut self.model.edges;
        edges.iter().position(|e| e == &edge).unwrap_or_else(|| {
            edges.push(edge);
            edges.len() - 1
        })
    }

    fn timeout_group(&mut self, timeout: Nanos) -> u32 {
        let group = self.timeouts.iter().position(|t| *t == timeout).unwrap_or_else(|| {
            self.timeouts.push(timeout);
            self.timeouts.len() - 1
        });
        self.model.timeout_groups = self.timeouts.len();
        index(group)
    }

    fn operation_of(&self, service: usize, name: Option<&str>) -> u32 {
        let among = &self.scenario.services[service].operations;
        let number = name.and_then(|name| among.keys().position(|key| key == name));
        self.first_operation[service] + number.map_or(0, |number| index(number + 1))
    }

    fn entry(&mut self, entry: &Entry) {
        let service = self.service(&entry.service);
        let call = self.call(
            self.model.ingress(),
            &Call {
                to: entry.service.clone(),
                operation: None,
                mean: 1.0,
                fan_out: FanOut::Nearest,
                request_bytes: entry.request_bytes,
                response_bytes: entry.response_bytes,
                timeout: entry.timeout,
                retries: entry.retries,
                protocol: Protocol::Http,
                optional: false,
            },
        );
        let at = index(self.model.calls.len());
        self.model.calls.push(call);
        let mut sum = 0.0;
        let mut operations: Vec<(f64, u32)> = entry
            .operations
            .iter()
            .map(|(name, weight)| {
                sum += weight;
                (sum, self.operation_of(service, Some(name)))
            })
            .collect();
        if operations.is_empty() {
            operations.push((1.0, call.operation));
        }
        for (zone, name) in self.scenario.topology.zones.iter().map(|z| &z.name).enumerate() {
            let points = points(self.scenario, entry, name);
            if points.iter().any(|point| !point.per_second.is_zero()) {
                let operations = operations.clone();
                self.model.inflows.push(Inflow { zone, call: at, operations, points });
            }
        }
    }
}

/// The rate of an entry in a zone, with every shift laid over it.
fn points(scenario: &Scenario, entry: &Entry, zone: &ZoneName) -> Vec<Point> {
    let mut points =
        entry.rates.get(zone).map(crate::scenario::Profile::points).unwrap_or_default();
    let mut shifts: Vec<_> = scenario
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TrafficShift(shift) => Some(shift),
            _ => None,
        })
        .filter(|shift| shift.entry.as_ref().is_none_or(|name| name == &entry.service))
        .collect();
    shifts.sort_by_key(|shift| shift.at);
    for shift in shifts {
        if let Some(rate) = shift.rates.get(zone) {
            points = shifted(&points, shift, *rate);
        }
    }
    points
}

fn nodes(scenario: &Scenario) -> Result<Vec<NodeModel>, IdError> {
    let mut nodes: Vec<_> = scenario
        .node_names()
        .into_iter()
        .map(|(zone, group, name)| {
            let group = &scenario.topology.zones[zone].nodes[group];
            NodeModel {
                name,
                zone,
                allocatable: Resources { cpu: group.cpu, memory: group.memory },
                pod_capacity: group.pods,
                gateway: false,
            }
        })
        .collect();
    for (zone, named) in scenario.topology.zones.iter().enumerate() {
        nodes.push(NodeModel {
            name: NodeName::new(&format!("{INGRESS}-{}", named.name))?,
            zone,
            allocatable: Resources::default(),
            pod_capacity: 1,
            gateway: true,
        });
    }
    Ok(nodes)
}

fn half_trips(scenario: &Scenario, zones: &[ZoneModel]) -> Vec<Nanos> {
    let network = &scenario.network;
    let mut half = Vec::with_capacity(zones.len() * zones.len());
    for from in zones {
        for to in zones {
            let pair = network.pairs.iter().find(|pair| {
                let (a, b) = &pair.between;
                (a == &from.name && b == &to.name) || (b == &from.name && a == &to.name)
            });
            let rtt = match pair {
                Some(pair) => pair.rtt_ms,
                None if from.name == to.name => network.same_zone_ms,
                None if from.region == to.region => network.same_region_ms,
                None => network.other_region_ms,
            };
            half.push(nanos_of_ms(rtt.get()) / 2);
        }
    }
    half
}

fn service_model(scenario: &Scenario, service: &Service) -> Result<ServiceModel, IdError> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 1.
    let share = (service.work.cpu_share.get() * 1e6).round() as u64;
    Ok(ServiceModel {
        workload: scenario.workload(&service.name)?,
        host: scenario.host(&service.name)?,
        workers: service.concurrency.workers,
        queue: service.concurrency.queue as usize,
        blocking: service.concurrency.blocking,
        work: service.work.mean_ms.get() * 1e6,
        shape: Shape::new(service.work.distribution, service.work.variation),
        share,
        limit: service
            .limits
            .map(|limits| limits.cpu.get().saturating_mul(1000))
            .filter(|limit| *limit > 0),
        startup: nanos(service.startup),
        grace: nanos(service.termination_grace),
        memory_base: service.memory.base,
        memory_per_request: service.memory.per_request,
        requests: service.requests,
        hpa: service.autoscaler.clone(),
        edges: 0,
    })
}

fn ingress_model(scenario: &Scenario) -> Result<ServiceModel, IdError> {
    Ok(ServiceModel {
        workload: scenario.workload(INGRESS)?,
        host: scenario.host(INGRESS)?,
        workers: 1,
        queue: 0,
        blocking: false,
        work: 0.0,
        shape: Shape::Deterministic,
        share: 0,
        limit: None,
        startup: 0,
        grace: 0,
        memory_base: Bytes::ZERO,
        memory_per_request: Bytes::ZERO,
        requests: Resources::default(),
        hpa: None,
        edges: 0,
    })
}
