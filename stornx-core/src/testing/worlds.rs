//! Random small clusters with every flag of the model in them: what a planner may
//! meet, legal but often odd.
//!
//! The facts agree with each other as they would in a cluster: traffic follows the
//! rule that stands, usage follows traffic, records of moves are those of moves that
//! really began. The snapshots have no [`problems`](Snapshot::problems).

use std::collections::BTreeMap;

use super::{SplitMix64, memories::random_memory, places, traces};
use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    memory::Memory,
    model::{
        ApiVersion, Autoscaler, AutoscalerKind, Constraints, DefaultSplit, DisruptionBudget,
        Distribution, Edge, Facts, ForeignRule, Host, Latency, Mesh, Node, NodeExpression,
        NodeOperator, NodeRoundTrip, NodeTerm, Pod, PodPhase, PodTraffic, PodUsage, Protocol,
        Rollout, RouteTable, RouteTraffic, Rule, Snapshot, Source, Steering, Taint, TaintEffect,
        Toleration, Traces, Traffic, Workload, WorkloadPolicy, ZoneRoundTrip,
    },
    policy::{MetricsType, Policy, TargetRule},
    units::{
        Bytes, BytesPerSecond, MilliCpu, Millis, Percent, Resources, Rps, Share, Span, Timestamp,
    },
};

/// Everything that a plan is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// The cluster.
    pub snapshot: Snapshot,
    /// The settings: defaults with a few turned.
    pub policy: Policy,
    /// What is remembered of it.
    pub memory: Memory,
    /// The instant of the plan: when the snapshot was taken.
    pub now: Timestamp,
}

/// The instant of every random case: late enough for ages to be subtracted from it.
pub const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);

const NAMESPACE: &str = "shop";

/// A random cluster of 1 to 5 zones, 1 to 12 nodes and 1 to 8 workloads, with settings
/// and a memory that fit it.
#[must_use]
pub fn random_case(seed: u64) -> Case {
    let mut random = SplitMix64::new(seed);
    let policy = random_policy(&mut random);
    let snapshot = random_snapshot(&mut random);
    let memory = random_memory(&mut random, &snapshot);
    let mut case = Case { snapshot, policy, memory, now: NOW };
    traces::leave(seed, &mut case);
    places::add(seed, &mut case);
    case
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("generated names are valid")
}

pub(super) fn earlier(random: &mut SplitMix64, most: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - random.between(0, most * 1000))
}

fn random_policy(random: &mut SplitMix64) -> Policy {
    let mut policy = Policy::default();
    policy.scaler.metrics =
        *random.pick(&[MetricsType::Cpu, MetricsType::Memory, MetricsType::Combined]);
    policy.fault_tolerance.max_zones = random.between_u32(1, 4);
    policy.fault_tolerance.max_skew = random.between_u32(1, 4);
    policy.moves.max_per_cycle = random.between_u32(0, 4);
    policy.moves.max_per_zone = random.between_u32(1, 3);
    policy.scaler.max_actions = random.between_u32(1, 5);
    policy.scaler.max_step = random.between_u32(1, 4);
    if random.chance(30) {
        policy.balancer.rule = TargetRule::Proportional;
    }
    if random.chance(30) {
        policy.balancer.reserve = Percent::saturating(random.real(1.0, 10.0));
        policy.balancer.min_step = Percent::saturating(random.real(1.0, 10.0));
        policy.balancer.max_step = Percent::saturating(random.real(10.0, 40.0));
    }
    if random.chance(20) {
        policy.fault_tolerance.survive = Percent::saturating(random.real(0.0, 100.0));
        policy.scaler.min_replicas = random.between_u32(1, 3);
        policy.scaler.max_replicas = random.between_u32(3, 10);
    }
    policy.moves.enabled = !random.chance(10);
    policy.scaler.enabled = !random.chance(10);
    policy.balancer.enabled = !random.chance(10);
    policy.scaler.respect_autoscalers = !random.chance(10);
    policy.scaler.respect_budgets = !random.chance(10);
    if random.chance(20) {
        policy.namespaces = [parsed(NAMESPACE)].into();
    } else if random.chance(5) {
        policy.namespaces = [parsed("elsewhere")].into();
    }
    policy
}

fn random_snapshot(random: &mut SplitMix64) -> Snapshot {
    let nodes = random_nodes(random);
    let mut workloads: Vec<_> = (0..random.between_usize(1, 8))
        .map(|number| random_workload(random, number, &nodes))
        .collect();
    let hosts: Vec<_> =
        workloads.iter().filter_map(|workload| random_host(random, workload, &nodes)).collect();
    let mut traffic = random_traffic(random, &nodes, &workloads, &hosts);
    let usage = random_usage(random, &workloads, &traffic);
    // Some replicas serve without anybody reporting it.
    traffic.pods.retain(|_| random.chance(90));
    // What is unmanaged is known as caller and callee only, usage included.
    for workload in &mut workloads {
        workload.managed = !random.chance(8);
    }
    let mesh = if random.chance(90) {
        Mesh::Routable
    } else {
        *random.pick(&[Mesh::Absent, Mesh::NotRoutable, Mesh::Unnamed])
    };
    let latency = random_latency(random, &nodes);
    let mut snapshot = Snapshot {
        api_version: ApiVersion::V1Alpha1,
        taken_at: NOW,
        nodes,
        workloads,
        hosts,
        mesh,
        steering: Steering::default(),
        quiet: false,
        usage: random_facts(random, usage, Source::MetricsServer),
        traffic: random_facts(random, traffic, Source::Prometheus),
        latency: random_facts(random, latency, Source::LatencyExporter),
        warnings: Vec::new(),
        memory: crate::memory::Memory::default(),
    };
    snapshot.sort();
    snapshot
}

/// Mostly fresh.
fn random_facts<T>(random: &mut SplitMix64, value: T, source: Source) -> Facts<T> {
    match random.between(0, 9) {
        0 => Facts::Missing { reason: "nobody answers".to_owned() },
        1 => Facts::Stale { as_of: earlier(random, 1000), source, value },
        _ => Facts::Fresh { as_of: earlier(random, 60), source, value },
    }
}

fn random_nodes(random: &mut SplitMix64) -> Vec<Node> {
    let count = random.between_usize(1, 12);
    let zones = random.between_usize(1, count.min(5));
    (0..count)
        .map(|number| {
            // The first nodes fill the zones, the others fall where they may.
            let zone = if number < zones { number } else { random.between_usize(0, zones - 1) };
            let taint = Taint {
                key: parsed("team"),
                value: parsed(random.word(&["", "red", "blue"])),
                effect: *random.pick(&[
                    TaintEffect::NoSchedule,
                    TaintEffect::PreferNoSchedule,
                    TaintEffect::NoExecute,
                ]),
            };
            let mut labels = BTreeMap::new();
            if random.chance(70) {
                labels.insert(parsed("disk"), parsed(random.word(&["ssd", "hdd"])));
            }
            if random.chance(50) {
                labels.insert(parsed("generation"), parsed(random.word(&["1", "2", "3"])));
            }
            Node {
                name: parsed(&format!("n{number:02}")),
                zone: parsed(&format!("z{}", zone + 1)),
                region: parsed(if zone < 3 { "r1" } else { "r2" }),
                ready: !random.chance(6),
                schedulable: !random.chance(6),
                allocatable: Resources {
                    cpu: MilliCpu::new(random.between(1000, 8000)),
                    memory: Bytes::new(random.between(1, 16) << 30),
                },
                pod_capacity: random.between_u32(5, 30),
                reserved: Resources {
                    cpu: MilliCpu::new(random.between(0, 500)),
                    memory: Bytes::new(random.between(0, 512) << 20),
                },
                reserved_pods: random.between_u32(0, 4),
                labels,
                taints: if random.chance(15) { vec![taint] } else { Vec::new() },
                named_since: None,
            }
        })
        .collect()
}

fn random_constraints(random: &mut SplitMix64) -> Constraints {
    let mut constraints = Constraints::default();
    if random.chance(10) {
        constraints.node_selector.insert(parsed("disk"), parsed("ssd"));
    }
    if random.chance(10) {
        let (operator, values) = match random.between(0, 5) {
            0 => (NodeOperator::In, vec!["1", "3"]),
            1 => (NodeOperator::NotIn, vec!["2"]),
            2 => (NodeOperator::Exists, vec![]),
            3 => (NodeOperator::DoesNotExist, vec![]),
            4 => (NodeOperator::Gt, vec!["1"]),
            _ => (NodeOperator::Lt, vec!["3"]),
        };
        let values = values.into_iter().map(parsed).collect();
        let expression = NodeExpression { key: parsed("generation"), operator, values };
        constraints.node_affinity = vec![NodeTerm { expressions: vec![expression] }];
    }
    if random.chance(20) {
        constraints.tolerations = vec![Toleration {
            key: random.chance(80).then(|| parsed("team")),
            value: random.chance(50).then(|| parsed("red")),
            effect: random.chance(50).then_some(TaintEffect::NoSchedule),
        }];
    }
    constraints.one_per_node = random.chance(10);
    constraints.max_zone_skew = random.chance(15).then(|| random.between_u32(1, 2));
    constraints.pinned = random.chance(5);
    constraints
}

fn random_workload(random: &mut SplitMix64, number: usize, nodes: &[Node]) -> Workload {
    let kind = if random.chance(85) { "Deployment" } else { "StatefulSet" };
    let id: WorkloadRef = parsed(&format!("{NAMESPACE}/{kind}/w{number}"));
    let requests = match random.between(0, 9) {
        0 => Resources::default(),
        _ => Resources {
            cpu: MilliCpu::new(random.between(50, 1000)),
            memory: Bytes::new(random.between(32, 1024) << 20),
        },
    };
    let limits = random.chance(50).then(|| requests + requests);
    let constraints = random_constraints(random);
    let replicas = random.between_usize(0, 7);
    let pods: Vec<_> =
        (0..replicas).map(|ordinal| random_pod(random, &id, ordinal, nodes)).collect();
    let active = pods.iter().filter(|pod| pod.phase != PodPhase::Terminating).count();
    let active = u32::try_from(active).unwrap_or(u32::MAX);
    let desired = if random.chance(90) { active } else { random.between_u32(0, 8) };
    Workload {
        id,
        managed: true,
        desired,
        requests,
        limits,
        constraints,
        autoscaler: random.chance(12).then(|| Autoscaler {
            kind: *random.pick(&[
                AutoscalerKind::Hpa,
                AutoscalerKind::Keda,
                AutoscalerKind::Controller,
            ]),
            min: 1,
            max: 10,
            held: None,
        }),
        budget: random
            .chance(25)
            .then(|| DisruptionBudget { min_ready: random.between_u32(0, desired) }),
        rollout: match random.between(0, 19) {
            0 => Rollout::InProgress,
            1 => Rollout::Paused,
            _ => Rollout::Settled,
        },
        policy: WorkloadPolicy {
            opted_out: random.chance(5),
            no_scaling: random.chance(5),
            no_moves: random.chance(5),
            no_routing: random.chance(5),
            min_replicas: random.chance(20).then(|| random.between_u32(1, 4)),
            max_replicas: random.chance(20).then(|| random.between_u32(4, 8)),
            response_time: random.chance(10).then(|| Millis::saturating(50.0)),
        },
        startup: random.chance(50).then(|| Span::from_seconds(random.between(1, 60))),
        min_ready: Span::ZERO,
        counted_by: crate::model::CountBy::Unknown,
        ready_counted: None,
        proxied: false,
        pods,
    }
}

fn random_pod(random: &mut SplitMix64, id: &WorkloadRef, ordinal: usize, nodes: &[Node]) -> Pod {
    let phase = match random.between(0, 29) {
        0 => PodPhase::Pending,
        1 => PodPhase::Starting,
        2 => PodPhase::Unready,
        3 => PodPhase::Terminating,
        _ => PodPhase::Ready,
    };
    let node = random.pick(nodes).name.clone();
    let node = match phase {
        PodPhase::Pending => None,
        // A node that is gone.
        _ if random.chance(1) => Some(parsed("gone")),
        _ => Some(node),
    };
    let created_at = earlier(random, 7200);
    let ready_since = (phase == PodPhase::Ready).then(|| {
        let age = NOW.as_millis() - created_at.as_millis();
        Timestamp::from_millis(created_at.as_millis() + random.between(0, age))
    });
    let name = parsed(&format!("{NAMESPACE}/{}-{ordinal}", id.name()));
    Pod { name, node, phase, created_at, ready_since, traces: Traces::default() }
}

fn random_host(random: &mut SplitMix64, workload: &Workload, nodes: &[Node]) -> Option<Host> {
    if random.chance(10) {
        return None;
    }
    let zones: Vec<&ZoneName> = {
        let set: std::collections::BTreeSet<_> = nodes.iter().map(|node| &node.zone).collect();
        set.into_iter().collect()
    };
    let rule = match random.between(0, 9) {
        0 => Rule::Foreign(*random.pick(&[
            ForeignRule::SeveralRules,
            ForeignRule::Distribute,
            ForeignRule::Failover,
            ForeignRule::ZoneAware,
            ForeignRule::Subsets,
            ForeignRule::NotAService,
            ForeignRule::Wildcard,
            ForeignRule::Elsewhere,
            ForeignRule::Partial,
            ForeignRule::SwitchedOff,
            ForeignRule::Sticky,
        ])),
        1..=4 => Rule::None,
        _ => Rule::Ours(random_routes(random, &zones)),
    };
    let leftover = matches!(rule, Rule::Foreign(ForeignRule::SeveralRules | ForeignRule::Failover));
    let mut backends = vec![workload.id.clone()];
    if random.chance(4) {
        backends.clear();
    }
    Some(Host {
        name: host_of(&workload.id),
        backends,
        rule,
        default_split: if random.chance(80) {
            DefaultSplit::ByReplicas
        } else {
            DefaultSplit::OwnZoneFirst
        },
        adoptable: false,
        leftover,
        displaced: false,
        old_pod: None,
        foreign_endpoints: false,
        ztunnel_only: false,
    })
}

fn host_of(id: &WorkloadRef) -> HostName {
    parsed(&format!("{}.{NAMESPACE}.svc.cluster.local", id.name()))
}

/// Routes that cover every zone; now and then a zone is missing, or one is named that
/// is gone.
pub(super) fn random_routes(random: &mut SplitMix64, zones: &[&ZoneName]) -> RouteTable {
    let gone: ZoneName = parsed("z9");
    let mut table = RouteTable::new();
    let (forget, ghost) = (random.chance(10), random.chance(5));
    for caller in zones {
        if forget && random.chance(20) {
            continue;
        }
        let mut named = zones.to_vec();
        if forget && named.len() > 1 && random.chance(30) {
            named.remove(random.between_usize(0, named.len() - 1));
        }
        if ghost {
            named.push(&gone);
        }
        table.insert((*caller).clone(), random_distribution(random, &named));
    }
    table
}

/// Weights over zones, each at least 1.
pub fn random_distribution(random: &mut SplitMix64, zones: &[&ZoneName]) -> Distribution {
    let mut weights: BTreeMap<ZoneName, u8> =
        zones.iter().map(|zone| ((*zone).clone(), 1)).collect();
    let mut left = 100_u8.saturating_sub(u8::try_from(zones.len()).unwrap_or(100));
    while left > 0 {
        let part = u8::try_from(random.between(1, left.into())).unwrap_or(left);
        if let Some(weight) = weights.get_mut(*random.pick(zones)) {
            *weight += part;
        }
        left -= part;
    }
    Distribution::new(weights).expect("the parts of 100 sum to 100")
}

/// Ready replicas by zone.
fn endpoints<'a>(workload: &Workload, nodes: &'a [Node]) -> BTreeMap<&'a ZoneName, f64> {
    let zone_of: BTreeMap<&NodeName, &ZoneName> =
        nodes.iter().map(|node| (&node.name, &node.zone)).collect();
    let mut ready = BTreeMap::new();
    for pod in workload.ready() {
        if let Some(zone) = pod.node.as_ref().and_then(|node| zone_of.get(node)) {
            *ready.entry(*zone).or_insert(0.0) += 1.0;
        }
    }
    ready
}

/// How a caller's requests fall on the zones with endpoints, as shares that sum to 1.
fn shares<'a>(
    host: Option<&Host>,
    caller: &ZoneName,
    ready: &BTreeMap<&'a ZoneName, f64>,
) -> BTreeMap<&'a ZoneName, f64> {
    let ruled = match host.map(|host| &host.rule) {
        Some(Rule::Ours(table)) => table.get(caller),
        _ => None,
    };
    let own_first = host.is_some_and(|host| host.default_split == DefaultSplit::OwnZoneFirst);
    let raw: BTreeMap<_, _> = ready
        .iter()
        .map(|(zone, replicas)| {
            let share = match ruled {
                Some(distribution) => f64::from(distribution.weight(zone)),
                None if own_first && ready.contains_key(caller) => f64::from(*zone == caller),
                None => *replicas,
            };
            (*zone, share)
        })
        .collect();
    let sum: f64 = raw.values().sum();
    raw.into_iter().map(|(zone, share)| (zone, if sum > 0.0 { share / sum } else { 0.0 })).collect()
}

fn random_traffic(
    random: &mut SplitMix64,
    nodes: &[Node],
    workloads: &[Workload],
    hosts: &[Host],
) -> Traffic {
    let mut edges = Vec::new();
    let mut served: BTreeMap<(&WorkloadRef, &ZoneName), f64> = BTreeMap::new();
    for caller in workloads {
        for callee in workloads {
            if caller.id == callee.id || !random.chance(25) {
                continue;
            }
            let name = host_of(&callee.id);
            let host = hosts.iter().find(|host| host.name == name);
            let ready = endpoints(callee, nodes);
            let rate = random.real(0.0, 200.0);
            let bytes = random.real(100.0, 20_000.0);
            let mut routes = Vec::new();
            for (from, callers) in endpoints(caller, nodes) {
                for (to, share) in shares(host, from, &ready) {
                    let requests = rate * callers * share;
                    if requests <= 0.0 {
                        continue;
                    }
                    *served.entry((&callee.id, to)).or_insert(0.0) += requests;
                    routes.push(RouteTraffic {
                        from: from.clone(),
                        to: to.clone(),
                        requests: Rps::saturating(requests),
                        request_bytes: BytesPerSecond::saturating(requests * bytes * 0.1),
                        response_bytes: BytesPerSecond::saturating(requests * bytes),
                        p95: random.chance(90).then(|| Millis::saturating(random.real(1.0, 300.0))),
                        errors: Share::saturating(if random.chance(5) { 0.2 } else { 0.0 }),
                    });
                }
            }
            edges.push(Edge {
                caller: caller.id.clone(),
                callee: callee.id.clone(),
                host: name,
                protocol: if random.chance(90) { Protocol::Http } else { Protocol::Tcp },
                routes,
            });
        }
    }
    let zone_of: BTreeMap<&NodeName, &ZoneName> =
        nodes.iter().map(|node| (&node.name, &node.zone)).collect();
    let mut pods = Vec::new();
    for workload in workloads {
        let ready = endpoints(workload, nodes);
        for pod in workload.ready() {
            let Some(zone) = pod.node.as_ref().and_then(|node| zone_of.get(node)) else { continue };
            let rate = served.get(&(&workload.id, *zone)).copied().unwrap_or(0.0);
            let replicas = ready.get(zone).copied().unwrap_or(1.0);
            pods.push(PodTraffic {
                pod: pod.name.clone(),
                requests: Rps::saturating(rate / replicas * random.real(0.95, 1.05)),
                p95: random.chance(90).then(|| Millis::saturating(random.real(1.0, 400.0))),
                errors: Share::default(),
            });
        }
    }
    Traffic {
        window: Span::from_seconds(*random.pick(&[15, 60, 300])),
        edges,
        pods,
        by_node: Vec::new(),
    }
}

/// Usage that grows with the requests served.
fn random_usage(
    random: &mut SplitMix64,
    workloads: &[Workload],
    traffic: &Traffic,
) -> Vec<PodUsage> {
    let rates: BTreeMap<&PodName, f64> =
        traffic.pods.iter().map(|pod| (&pod.pod, pod.requests.get())).collect();
    let mut usage = Vec::new();
    for workload in workloads {
        let per_request = random.real(0.1, 4.0);
        let memory = random.real(0.05, 1.1);
        for pod in &workload.pods {
            if pod.phase == PodPhase::Pending || random.chance(3) {
                continue;
            }
            let rate = rates.get(&pod.name).copied().unwrap_or(0.0);
            // Whole numbers of both units; far below 2^53.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let (cpu, memory) = (
                (5.0 + rate * per_request * random.real(0.9, 1.1)) as u64,
                (workload.requests.memory.as_f64() * memory * random.real(0.9, 1.1)) as u64,
            );
            usage.push(PodUsage {
                pod: pod.name.clone(),
                cpu: MilliCpu::new(cpu),
                memory: Bytes::new(memory),
                throttled: random.chance(30).then(|| Share::saturating(random.unit())),
            });
        }
    }
    usage
}

fn random_latency(random: &mut SplitMix64, nodes: &[Node]) -> Latency {
    let mut latency = Latency::default();
    let zones: std::collections::BTreeSet<_> = nodes.iter().map(|node| &node.zone).collect();
    for from in &zones {
        for to in &zones {
            if random.chance(50) {
                let far = if from == to { 0.5 } else { 3.0 };
                let rtt = Millis::saturating(random.real(0.1, far));
                latency.zones.push(ZoneRoundTrip { from: (*from).clone(), to: (*to).clone(), rtt });
            }
        }
    }
    for from in nodes {
        for to in nodes {
            if random.chance(5) {
                let rtt = Millis::saturating(random.real(0.02, 2.0));
                let (from, to) = (from.name.clone(), to.name.clone());
                latency.nodes.push(NodeRoundTrip { from, to, rtt });
            }
        }
    }
    latency
}

#[cfg(test)]
mod tests;
