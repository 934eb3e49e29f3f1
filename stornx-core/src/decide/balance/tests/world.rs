//! A small world in closed loop for the tests of this room: one host, its callers, and
//! replicas that answer as queues do. Decisions see only a snapshot; what they write takes
//! effect in the next cycle.

use std::collections::BTreeSet;

use crate::{
    decide::{Proposal, balance},
    ids::{
        HostName, Namespace, NodeName, PodName, RegionName, WorkloadKind, WorkloadRef, ZoneName,
    },
    memory::Memory,
    model::{
        ApiVersion, DefaultSplit, Edge, Facts, Host, Latency, Mesh, Node, Pod, PodPhase,
        PodTraffic, PodUsage, Protocol, Rollout, RouteTable, RouteTraffic, Rule, SUBZONE, Snapshot,
        Source, Steering, Traces, Traffic, Workload, WorkloadPolicy, ZoneRoundTrip,
    },
    plan::{Action, Plan, Planned, RoutePurpose},
    policy::Policy,
    report::{HostReport, Report},
    units::{Bytes, BytesPerSecond, MilliCpu, Millis, Resources, Rps, Share, Span, Timestamp},
    view::{Remembered, View},
};

use super::super::testing::Random;

const WINDOW: Span = Span::from_seconds(60);
const SAME_ZONE: f64 = 0.3;
const OTHER_ZONE: f64 = 1.0;

/// The world and the memory of its controller.
pub(super) struct World {
    /// Replicas by zone.
    pub(super) replicas: Vec<u32>,
    /// Requests per second by caller zone.
    pub(super) demand: Vec<f64>,
    /// Milliseconds of CPU for one request, by destination zone.
    pub(super) service: Vec<f64>,
    /// Milliseconds that an answer takes beyond work and waiting, by destination zone.
    pub(super) stall: Vec<f64>,
    /// Share of failures by destination zone.
    pub(super) errors: Vec<f64>,
    /// Whether counts are random.
    pub(super) noisy: bool,
    /// Whether the metrics answer.
    pub(super) metrics: bool,
    /// Whether usage is known.
    pub(super) usage: bool,
    pub(super) rule: Rule,
    pub(super) default_split: DefaultSplit,
    pub(super) mesh: Mesh,
    pub(super) managed: bool,
    pub(super) owner: WorkloadPolicy,
    /// State of the rollout of the workload behind the host.
    pub(super) rollout: Rollout,
    pub(super) policy: Policy,
    pub(super) memory: Memory,
    pub(super) now: Timestamp,
    /// Since when the replicas have been Ready, by zone.
    pub(super) ready_since: Vec<Timestamp>,
    pub(super) random: Random,
    /// Replicas that go in this cycle.
    pub(super) leaving: BTreeSet<PodName>,
    /// Zones that exist; the first so many of the lists.
    pub(super) zones: usize,
    /// Whether callers do what the rule says, or call every replica alike.
    pub(super) obeys: bool,
    /// How long ago the metrics are of.
    pub(super) lag: Span,
    /// Whether something of ours stands in a rule of somebody else.
    pub(super) leftover: bool,
    /// Whether a label puts a pod elsewhere than its node.
    pub(super) displaced: bool,
    /// Whether an endpoint is no pod of this cluster.
    pub(super) foreign_endpoints: bool,
    /// Whether the pods behind it are in ambient mode and no waypoint is before them.
    pub(super) ztunnel_only: bool,
    /// Whether its caller has a proxy of its own.
    pub(super) proxied: bool,
    /// Whether a second workload stands behind the host.
    pub(super) shared: bool,
    /// Whether no workload stands behind the host.
    pub(super) alone: bool,
    /// Nodes of each zone, each a subzone where there are several; replicas are dealt out to
    /// them one by one.
    pub(super) divided: u32,
    /// p95 of another host that nobody here touches, if there is one.
    pub(super) other: Option<f64>,
}

/// What a cycle did.
pub(super) struct Cycle {
    pub(super) report: HostReport,
    /// The write, with its purpose and both tables.
    pub(super) write: Option<(RoutePurpose, RouteTable, RouteTable)>,
    /// Bytes of everything decided, for comparing.
    pub(super) text: String,
}

impl World {
    pub(super) fn new(replicas: &[u32], demand: &[f64], service: f64, seed: u64) -> Self {
        let zones = replicas.len();
        Self {
            replicas: replicas.to_vec(),
            demand: demand.to_vec(),
            service: vec![service; zones],
            stall: vec![0.0; zones],
            errors: vec![0.0; zones],
            noisy: false,
            metrics: true,
            usage: true,
            rule: Rule::None,
            default_split: DefaultSplit::ByReplicas,
            mesh: Mesh::Routable,
            managed: true,
            owner: WorkloadPolicy::default(),
            rollout: Rollout::Settled,
            policy: Policy::default(),
            memory: Memory::default(),
            now: Timestamp::from_millis(1_000_000_000),
            ready_since: vec![Timestamp::from_millis(0); zones],
            random: Random::new(seed),
            leaving: BTreeSet::new(),
            zones,
            obeys: true,
            lag: Span::ZERO,
            leftover: false,
            displaced: false,
            foreign_endpoints: false,
            ztunnel_only: false,
            proxied: false,
            shared: false,
            alone: false,
            divided: 1,
            other: None,
        }
    }

    /// Share of each caller zone's requests that each destination gets.
    pub(super) fn shares(&self) -> Vec<Vec<f64>> {
        (0..self.zones)
            .map(|from| {
                let weights: Vec<f64> = (0..self.zones)
                    .map(|to| match (&self.rule, self.replicas[to]) {
                        (_, 0) => 0.0,
                        (Rule::Ours(table), replicas) if self.obeys => {
                            let row = table.get(&zone(from));
                            self.weight_of(replicas, row.map_or(0, |row| row.weight(&zone(to))))
                        }
                        (_, replicas) => f64::from(replicas),
                    })
                    .collect();
                let total: f64 = weights.iter().sum();
                weights.iter().map(|w| if total > 0.0 { w / total } else { 0.0 }).collect()
            })
            .collect()
    }

    /// What a weight of a zone comes to: each subzone gets its part by replicas, rounded up.
    fn weight_of(&self, replicas: u32, weight: u8) -> f64 {
        let in_subzone =
            |at: u32| replicas / self.divided + u32::from(at < replicas % self.divided);
        let part = |at| {
            (f64::from(weight) * f64::from(in_subzone(at)) / f64::from(replicas) - 1e-9).ceil()
        };
        (0..self.divided).map(part).sum()
    }

    /// Requests per second at each destination.
    pub(super) fn loads(&self) -> Vec<f64> {
        let shares = self.shares();
        (0..self.zones)
            .map(|to| (0..self.zones).map(|from| self.demand[from] * shares[from][to]).sum())
            .collect()
    }

    /// True utilisation of each destination.
    pub(super) fn utilisation(&self) -> Vec<f64> {
        let each = |(zone, load): (usize, f64)| {
            let replicas = f64::from(self.replicas[zone]);
            if replicas > 0.0 { load * self.service[zone] / 1000.0 / replicas } else { 0.0 }
        };
        self.loads().into_iter().enumerate().map(each).collect()
    }

    /// Share of requests that cross zones.
    pub(super) fn cross_zone(&self) -> f64 {
        let shares = self.shares();
        let crossing: f64 =
            (0..self.zones).map(|zone| self.demand[zone] * (1.0 - shares[zone][zone])).sum();
        crossing / self.demand.iter().sum::<f64>()
    }

    fn counted(&mut self, rate: f64) -> f64 {
        if !self.noisy {
            return rate;
        }
        let count = rate * WINDOW.as_seconds_f64();
        (count + count.sqrt() * self.random.normal()).max(0.0) / WINDOW.as_seconds_f64()
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        let mut routes = Vec::new();
        let mut served = vec![0.0; self.zones];
        for (from, shares) in self.shares().into_iter().enumerate() {
            for (to, share) in shares.into_iter().enumerate() {
                let rate = self.counted(self.demand[from] * share);
                if rate <= 0.0 {
                    continue;
                }
                served[to] += rate;
                let travel = if from == to { SAME_ZONE } else { OTHER_ZONE };
                routes.push(RouteTraffic {
                    from: zone(from),
                    to: zone(to),
                    requests: Rps::saturating(rate),
                    request_bytes: BytesPerSecond::saturating(rate * 1_000.0),
                    response_bytes: BytesPerSecond::saturating(rate * 4_000.0),
                    p95: Some(Millis::saturating(travel + self.p95(to))),
                    errors: Share::saturating(self.errors[to]),
                });
            }
        }
        let mut pods = Vec::new();
        let mut usage = Vec::new();
        let mut reported = Vec::new();
        for (to, served) in served.into_iter().enumerate() {
            for replica in 0..self.replicas[to] {
                let name = PodName::new(&namespace(), &format!("svc-{to}-{replica}")).unwrap();
                pods.push(Pod {
                    name: name.clone(),
                    node: Some(part_name(to, replica % self.divided)),
                    phase: PodPhase::Ready,
                    created_at: Timestamp::from_millis(0),
                    ready_since: Some(self.ready_since[to]),
                    traces: Traces::default(),
                });
                let each = served / f64::from(self.replicas[to]);
                // More than requested where that is not enough.
                let mut used = each * self.service[to] / 1000.0;
                if self.noisy {
                    let count = (each * WINDOW.as_seconds_f64()).max(1.0);
                    used *= (1.0 + self.random.normal() / count.sqrt()).max(0.0);
                }
                // Never quite idle.
                let cpu = (1000.0 * used + 2.0).round() as u64;
                usage.push(PodUsage {
                    pod: name.clone(),
                    cpu: MilliCpu::new(cpu),
                    memory: Bytes::new(1 << 26),
                    throttled: None,
                });
                let noise = if self.noisy { 1.0 + 0.08 * self.random.normal() } else { 1.0 };
                reported.push(PodTraffic {
                    pod: name,
                    requests: Rps::saturating(each),
                    p95: Some(Millis::saturating(self.p95(to) * noise)),
                    errors: Share::saturating(self.errors[to]),
                });
            }
        }
        let callers = (0..self.zones).map(|at| Pod {
            name: PodName::new(&namespace(), &format!("caller-{at}")).unwrap(),
            node: Some(node_name(at)),
            phase: PodPhase::Ready,
            created_at: Timestamp::from_millis(0),
            ready_since: Some(Timestamp::from_millis(0)),
            traces: Traces::default(),
        });
        let mut caller = self.workload("caller", callers.collect());
        caller.proxied = self.proxied;
        let callee = self.workload("svc", pods);
        let (caller_id, callee_id) = (caller.id.clone(), callee.id.clone());
        let fresh = |now| (now, Source::Simulator);
        let as_of = Timestamp::from_millis(self.now.as_millis() - self.lag.as_millis());
        let (as_of, source) = fresh(as_of);
        let missing = || "no answer".to_owned();
        let mut snapshot = Snapshot {
            api_version: ApiVersion::V1Alpha1,
            taken_at: self.now,
            nodes: (0..self.zones)
                .flat_map(|at| (0..self.divided).map(move |part| (at, part)))
                .map(|(at, part)| node(at, part, self.divided))
                .collect(),
            workloads: vec![caller, callee],
            hosts: vec![Host {
                name: host_name(),
                backends: (!self.alone)
                    .then(|| callee_id.clone())
                    .into_iter()
                    .chain(self.shared.then(|| caller_id.clone()))
                    .collect(),
                rule: self.rule.clone(),
                default_split: self.default_split,
                adoptable: false,
                leftover: self.leftover,
                displaced: self.displaced,
                old_pod: None,
                foreign_endpoints: self.foreign_endpoints,
                ztunnel_only: self.ztunnel_only,
            }],
            mesh: self.mesh,
            steering: Steering::default(),
            quiet: false,
            usage: if self.metrics && self.usage {
                Facts::Fresh { as_of, source, value: usage }
            } else {
                Facts::Missing { reason: missing() }
            },
            traffic: if self.metrics {
                let edge = Edge {
                    caller: caller_id,
                    callee: callee_id,
                    host: host_name(),
                    protocol: Protocol::Http,
                    routes,
                };
                let value = Traffic {
                    window: WINDOW,
                    edges: vec![edge],
                    pods: reported,
                    by_node: Vec::new(),
                };
                Facts::Fresh { as_of, source, value }
            } else {
                Facts::Missing { reason: missing() }
            },
            latency: Facts::Fresh { as_of, source, value: self.latency() },
            warnings: Vec::new(),
            memory: crate::memory::Memory::default(),
        };
        if let Some(p95) = self.other {
            self.add_other(&mut snapshot, p95);
        }
        snapshot.sort();
        snapshot
    }

    /// A host beside the one that is decided about, with a caller of its own; it is left
    /// alone by its owner.
    fn add_other(&self, snapshot: &mut Snapshot, p95: f64) {
        let [caller, callee] = ["elsewhere", "other"].map(|name| {
            let pod = Pod {
                name: PodName::new(&namespace(), &format!("{name}-0")).unwrap(),
                node: Some(node_name(0)),
                phase: PodPhase::Ready,
                created_at: Timestamp::from_millis(0),
                ready_since: Some(Timestamp::from_millis(0)),
                traces: Traces::default(),
            };
            let mut workload = self.workload(name, vec![pod]);
            workload.policy.opted_out = true;
            workload
        });
        let host = Host {
            name: self.other_host(),
            backends: vec![callee.id.clone()],
            ..snapshot.hosts[0].clone()
        };
        let route = RouteTraffic {
            from: zone(0),
            to: zone(0),
            requests: Rps::saturating(50.0),
            request_bytes: BytesPerSecond::ZERO,
            response_bytes: BytesPerSecond::ZERO,
            p95: Some(Millis::saturating(p95)),
            errors: Share::ZERO,
        };
        let edge = Edge {
            caller: caller.id.clone(),
            callee: callee.id.clone(),
            host: host.name.clone(),
            protocol: Protocol::Http,
            routes: vec![route],
        };
        snapshot.hosts.push(Host { rule: Rule::None, ..host });
        snapshot.workloads.extend([caller, callee]);
        if let Facts::Fresh { value, .. } = &mut snapshot.traffic {
            value.edges.push(edge);
        }
    }

    pub(super) fn other_host(&self) -> HostName {
        HostName::of_service(&namespace(), "other").unwrap()
    }

    fn latency(&mut self) -> Latency {
        let mut latency = Latency::default();
        for from in 0..self.zones {
            for to in 0..self.zones {
                let rtt = if from == to { SAME_ZONE } else { OTHER_ZONE };
                let noise =
                    if self.noisy { 1.0 + 0.05 * (2.0 * self.random.unit() - 1.0) } else { 1.0 };
                let rtt = Millis::saturating(rtt * noise);
                latency.zones.push(ZoneRoundTrip { from: zone(from), to: zone(to), rtt });
            }
        }
        latency
    }

    /// p95 of a destination: three times the mean answer of one queue for all replicas,
    /// the probability of waiting by Erlang's formula.
    fn p95(&self, to: usize) -> f64 {
        let utilisation = self.utilisation()[to].min(0.97);
        let servers = self.replicas[to].max(1);
        let offered = utilisation * f64::from(servers);
        let blocked = (1..=servers).fold(1.0, |b, c| offered * b / (f64::from(c) + offered * b));
        let waits = blocked / (1.0 - utilisation * (1.0 - blocked));
        let wait = waits / (f64::from(servers) * (1.0 - utilisation));
        3.0 * self.service[to] * (1.0 + wait) + self.stall[to]
    }

    fn workload(&self, name: &str, pods: Vec<Pod>) -> Workload {
        let callee = name == "svc";
        Workload {
            id: WorkloadRef::new(&namespace(), WorkloadKind::Deployment, name).unwrap(),
            managed: self.managed || !callee,
            desired: pods.len() as u32,
            requests: Resources { cpu: MilliCpu::new(1000), memory: Bytes::new(1 << 27) },
            limits: None,
            constraints: crate::model::Constraints::default(),
            autoscaler: None,
            budget: None,
            rollout: if callee { self.rollout } else { Rollout::Settled },
            policy: if callee { self.owner.clone() } else { WorkloadPolicy::default() },
            startup: None,
            min_ready: Span::ZERO,
            counted_by: crate::model::CountBy::Unknown,
            ready_counted: None,
            proxied: false,
            pods,
        }
    }

    /// One cycle: decide, write, remember, a minute later.
    pub(super) fn cycle(&mut self) -> Cycle {
        let snapshot = self.snapshot();
        let view = View::new(&snapshot, &self.policy, self.now);
        let balance::Routed { proposals, reports } =
            balance::decide(&view, &Remembered::of(&view, &self.memory), &self.leaving, |_| true);
        let report = reports[&host_name()].clone();
        let mut planned = Planned {
            plan: Plan { at: self.now, ..Plan::default() },
            report: Report { at: self.now, hosts: reports, ..Report::default() },
        };
        for Proposal { action, report } in proposals {
            planned.plan.actions.push(action);
            planned.report.actions.push(report);
        }
        let outcomes = planned.plan.actions.iter().map(|_| Ok(())).collect();
        let policy = self.policy.clone();
        let view = View::new(&snapshot, &policy, self.now);
        balance::remember_hosts(&mut self.memory, &view, &planned, &outcomes);
        let text = format!("{}{:?}", serde_json::to_string(&planned).unwrap(), report);
        let write = planned.plan.actions.into_iter().next().map(|action| match action {
            Action::SetRoutes { from, to, purpose, .. } => (purpose, from, to),
            other => unreachable!("{other}"),
        });
        if let Some((_, _, to)) = &write {
            self.rule = Rule::Ours(to.clone());
        }
        self.now = self.now.after(WINDOW);
        Cycle { report, write, text }
    }

    /// Cycles until nothing has been written for ten of them. Returns the writes.
    pub(super) fn settle(&mut self) -> Vec<RoutePurpose> {
        let mut writes = Vec::new();
        let mut silent = 0;
        while silent < 10 {
            match self.cycle().write {
                Some((purpose, ..)) => {
                    writes.push(purpose);
                    silent = 0;
                }
                None => silent += 1,
            }
            assert!(writes.len() < 200, "never settles");
        }
        writes
    }
}

pub(super) fn zone(at: usize) -> ZoneName {
    ZoneName::new(&format!("z{at}")).unwrap()
}

pub(super) fn host_name() -> HostName {
    HostName::of_service(&namespace(), "svc").unwrap()
}

pub(super) fn namespace() -> Namespace {
    Namespace::new("shop").unwrap()
}

fn node_name(at: usize) -> NodeName {
    NodeName::new(&format!("n{at}")).unwrap()
}

fn part_name(at: usize, part: u32) -> NodeName {
    match part {
        0 => node_name(at),
        part => NodeName::new(&format!("n{at}-{part}")).unwrap(),
    }
}

fn node(at: usize, part: u32, parts: u32) -> Node {
    let divided = (parts > 1).then(|| format!("s{part}"));
    let label = divided.map(|name| (SUBZONE.parse().unwrap(), name.parse().unwrap()));
    Node {
        name: part_name(at, part),
        zone: zone(at),
        region: RegionName::new("r").unwrap(),
        ready: true,
        schedulable: true,
        allocatable: Resources { cpu: MilliCpu::new(64_000), memory: Bytes::new(1 << 38) },
        pod_capacity: 110,
        reserved: Resources::default(),
        reserved_pods: 0,
        labels: label.into_iter().collect(),
        taints: Vec::new(),
        named_since: None,
    }
}
