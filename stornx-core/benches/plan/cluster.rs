//! A large cluster with heavy tails: few workloads have many replicas and carry most of
//! the traffic, as in published production traces; three zones, calls go down a
//! layered graph. Constraints of several kinds occur, and some workloads are not ours to
//! scale. Names are shared where those who read metrics share them: edges, routes and what is
//! known of a pod mention what the cluster defines.

use stornx_core::{
    ids::{
        HostName, Namespace, NodeName, PodName, RegionName, WorkloadKind, WorkloadRef, ZoneName,
    },
    model::{
        Autoscaler, AutoscalerKind, ClusterFacts, Constraints, DefaultSplit, Edge, Facts, Host,
        Latency, Mesh, MetricsFacts, Node, NodeRoundTrip, Pod, PodPhase, PodTraffic, PodUsage,
        Protocol, Rollout, RouteTraffic, Rule, Snapshot, Source, Steering, Traces, Traffic,
        Workload, WorkloadPolicy,
    },
    units::{Bytes, BytesPerSecond, MilliCpu, Millis, Resources, Rps, Share, Span, Timestamp},
};

const ZONES: usize = 3;

/// Requests per second that a replica serves, on the mean.
const EACH_SERVES: f64 = 30.0;

/// Which pairs of nodes have a measured round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probes {
    None,
    /// Each node probes this many others.
    Some(usize),
    All,
}

/// A small generator of reproducible numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A cluster of `size` times the limits, and the instant it is seen at.
pub(crate) fn of_size(size: f64, probes: Probes, seed: u64) -> (Snapshot, Timestamp) {
    let scaled = |count: f64| (count * size).round().max(1.0) as usize;
    let mut numbers = Numbers(seed);
    let replicas = replica_counts(&mut numbers, scaled(10_000.0), scaled(150_000.0));
    of(numbers, scaled(5_000.0), &replicas, scaled(50_000.0), probes)
}

/// One service and its one caller, both with a replica for each of so many nodes.
#[allow(dead_code)] // Only the bench of times asks for it.
pub(crate) fn of_one_service(nodes: usize) -> (Snapshot, Timestamp) {
    of(Numbers(7), nodes, &[nodes, nodes], 1, Probes::None)
}

fn of(
    mut numbers: Numbers,
    node_count: usize,
    replicas: &[usize],
    edge_count: usize,
    probes: Probes,
) -> (Snapshot, Timestamp) {
    let now = Timestamp::from_millis(1_800_000_000_000);
    let nodes: Vec<Node> = (0..node_count).map(node).collect();
    let pod_count = replicas.iter().sum();
    let mut workloads = Vec::with_capacity(replicas.len());
    let mut usage = Vec::with_capacity(pod_count);
    let mut pod_traffic = Vec::with_capacity(pod_count);
    for (index, count) in replicas.iter().enumerate() {
        let workload = workload(&mut numbers, &nodes, index, *count, now);
        let busy = busy_percent(index);
        for pod in &workload.pods {
            usage.push(PodUsage {
                pod: pod.name.clone(),
                cpu: MilliCpu::new((60 + numbers.below(60) as u64) * busy / 100),
                memory: Bytes::new(((80 + numbers.below(40) as u64) << 20) * busy / 100),
                throttled: None,
            });
            pod_traffic.push(PodTraffic {
                pod: pod.name.clone(),
                requests: Rps::saturating(EACH_SERVES * (0.8 + 0.4 * numbers.unit())),
                p95: Some(Millis::saturating(10.0 + 20.0 * numbers.unit())),
                errors: Share::ZERO,
            });
        }
        workloads.push(workload);
    }
    let hosts: Vec<Host> = workloads.iter().map(host).collect();
    let edges = edges(&mut numbers, &nodes, (&workloads, &hosts), edge_count);
    let traffic =
        Traffic { window: Span::from_seconds(60), edges, pods: pod_traffic, by_node: Vec::new() };
    let latency = latency(&nodes, probes, now);
    let cluster = ClusterFacts {
        nodes,
        workloads,
        hosts,
        mesh: Mesh::Routable,
        steering: Steering::default(),
    };
    let metrics = MetricsFacts {
        usage: Facts::Fresh { as_of: now, source: Source::Prometheus, value: usage },
        traffic: Facts::Fresh { as_of: now, source: Source::Prometheus, value: traffic },
        latency,
        warnings: Vec::new(),
    };
    (Snapshot::assemble(cluster, metrics, now), now)
}

/// Round trips of 0.1 to 0.3 ms within a zone, of 0.6 to 1.2 ms between two. Probed
/// nodes are spread evenly over the cluster.
fn latency(nodes: &[Node], probes: Probes, now: Timestamp) -> Facts<Latency> {
    let probed = match probes {
        Probes::None => return Facts::Missing { reason: "no exporter".to_owned() },
        Probes::Some(probed) => probed.min(nodes.len()),
        Probes::All => nodes.len(),
    };
    let mut numbers = Numbers(11);
    let mut pairs = Vec::with_capacity(nodes.len() * probed);
    for (at, from) in nodes.iter().enumerate() {
        for step in 0..probed {
            let to = &nodes[(at + step * nodes.len() / probed) % nodes.len()];
            let (least, spread) = if from.zone == to.zone { (0.1, 0.2) } else { (0.6, 0.6) };
            pairs.push(NodeRoundTrip {
                from: from.name.clone(),
                to: to.name.clone(),
                rtt: Millis::saturating(least + spread * numbers.unit()),
            });
        }
    }
    let value = Latency { nodes: pairs, zones: Vec::new() };
    Facts::Fresh { as_of: now, source: Source::LatencyExporter, value }
}

/// How busy the replicas of a workload are, as a share of those of most others: two in a
/// hundred need more replicas, two need fewer.
const fn busy_percent(index: usize) -> u64 {
    match index % 50 {
        0 => 200,
        1 => 30,
        _ => 100,
    }
}

fn zone(index: usize) -> ZoneName {
    ZoneName::new(&format!("zone-{}", index % ZONES)).unwrap()
}

fn node(index: usize) -> Node {
    Node {
        name: NodeName::new(&format!("node-{index:05}")).unwrap(),
        zone: zone(index),
        region: RegionName::new("region").unwrap(),
        ready: true,
        schedulable: true,
        allocatable: Resources { cpu: MilliCpu::new(8_000), memory: Bytes::new(32 << 30) },
        pod_capacity: 110,
        reserved: Resources { cpu: MilliCpu::new(300), memory: Bytes::new(1 << 30) },
        reserved_pods: 4,
        labels: Default::default(),
        taints: Vec::new(),
        named_since: None,
    }
}

/// Counts with a heavy tail that sum to about `pods`: rank^-0.6, as steep as lets the
/// largest of 10,000 have a few hundred.
fn replica_counts(numbers: &mut Numbers, workloads: usize, pods: usize) -> Vec<usize> {
    let weights: Vec<f64> = (1..=workloads).map(|rank| (rank as f64).powf(-0.6)).collect();
    let total: f64 = weights.iter().sum();
    let mut counts: Vec<usize> = weights
        .iter()
        .map(|weight| ((weight / total * pods as f64).round() as usize).clamp(2, 300))
        .collect();
    for at in (1..counts.len()).rev() {
        counts.swap(at, numbers.below(at + 1));
    }
    counts
}

fn workload(
    numbers: &mut Numbers,
    nodes: &[Node],
    index: usize,
    replicas: usize,
    now: Timestamp,
) -> Workload {
    let namespace = Namespace::new(&format!("team-{}", index % 50)).unwrap();
    let name = format!("service-{index:05}");
    let start = numbers.below(nodes.len());
    let pods = (0..replicas)
        .map(|replica| Pod {
            name: PodName::new(&namespace, &format!("{name}-{replica:03}")).unwrap(),
            node: Some(nodes[(start + replica * 7) % nodes.len()].name.clone()),
            phase: PodPhase::Ready,
            created_at: Timestamp::from_millis(now.as_millis() - 86_400_000),
            ready_since: Some(Timestamp::from_millis(now.as_millis() - 86_000_000)),
            traces: Traces::default(),
        })
        .collect();
    Workload {
        id: WorkloadRef::new(&namespace, WorkloadKind::Deployment, &name).unwrap(),
        managed: true,
        desired: replicas as u32,
        requests: Resources { cpu: MilliCpu::new(200), memory: Bytes::new(256 << 20) },
        limits: None,
        constraints: constraints(index, replicas, nodes.len()),
        autoscaler: (index % 10 == 9).then_some(Autoscaler {
            kind: AutoscalerKind::Hpa,
            min: 1,
            max: 500,
            held: None,
        }),
        budget: None,
        rollout: Rollout::Settled,
        policy: WorkloadPolicy::default(),
        startup: Some(Span::from_seconds(20)),
        min_ready: Span::ZERO,
        counted_by: stornx_core::model::CountBy::Unknown,
        ready_counted: None,
        proxied: false,
        pods,
    }
}

/// A fifth spreads its replicas over nodes, another one over zones.
fn constraints(index: usize, replicas: usize, nodes: usize) -> Constraints {
    Constraints {
        one_per_node: index % 5 == 1 && replicas < nodes,
        max_zone_skew: (index % 5 == 2).then_some(1),
        ..Constraints::default()
    }
}

fn host(workload: &Workload) -> Host {
    Host {
        name: HostName::of_service(&workload.id.namespace(), workload.id.name()).unwrap(),
        backends: vec![workload.id.clone()],
        rule: Rule::None,
        default_split: DefaultSplit::ByReplicas,
        adoptable: false,
        leftover: false,
        displaced: false,
        old_pod: None,
        foreign_endpoints: false,
        ztunnel_only: false,
    }
}

/// Calls from workloads to later ones, popular callees more often (the square of a
/// uniform number). What reaches a callee is what its replicas serve, shared among its
/// callers with a heavy tail.
fn edges(
    numbers: &mut Numbers,
    nodes: &[Node],
    (workloads, hosts): (&[Workload], &[Host]),
    count: usize,
) -> Vec<Edge> {
    let zones: Vec<ZoneName> = (0..ZONES)
        .map(|at| nodes.get(at).map_or_else(|| zone(at), |node| node.zone.clone()))
        .collect();
    let last = workloads.len() - 1;
    let calls: Vec<(usize, usize, f64)> = (0..count)
        .map(|_| {
            let caller = numbers.below(last.max(1));
            let span = (last - caller) as f64;
            let callee = (caller + 1 + (numbers.unit().powi(2) * span) as usize).min(last);
            (caller, callee, 1.0 / numbers.unit().max(0.005))
        })
        .collect();
    let mut weights = vec![0.0; workloads.len()];
    for (_, callee, weight) in &calls {
        weights[*callee] += weight;
    }
    let edge = |(caller, callee, weight): (usize, usize, f64)| {
        let share = weight / weights[callee];
        let host = hosts[callee].name.clone();
        let (caller, callee) = (&workloads[caller], &workloads[callee]);
        let rate = share * EACH_SERVES * callee.pods.len() as f64;
        let routes = (0..ZONES * ZONES)
            .map(|pair| RouteTraffic {
                from: zones[pair / ZONES].clone(),
                to: zones[pair % ZONES].clone(),
                requests: Rps::saturating(rate * (0.5 + numbers.unit()) / 9.0),
                request_bytes: BytesPerSecond::saturating(rate * 50.0),
                response_bytes: BytesPerSecond::saturating(rate * 500.0),
                p95: Some(Millis::saturating(12.0)),
                errors: Share::ZERO,
            })
            .collect();
        Edge {
            caller: caller.id.clone(),
            callee: callee.id.clone(),
            host,
            protocol: Protocol::Http,
            routes,
        }
    };
    calls.into_iter().map(edge).collect()
}
