//! The cluster as it would be observed.

use stornx_core::{
    ids::{
        HostName, IdError, Namespace, NodeName, PodName, RegionName, WorkloadKind, WorkloadRef,
        ZoneName,
    },
    model::{
        ClusterFacts, Constraints, CountBy, DefaultSplit, Edge, Facts, Host, Latency, Mesh,
        MetricsFacts, Node, Pod, PodPhase, PodTraffic, PodUsage, Protocol, Rollout, RouteTraffic,
        Rule, Snapshot, Source, Steering, Traces, Traffic, Workload, WorkloadPolicy, ZoneRoundTrip,
    },
    units::{Bytes, BytesPerSecond, MilliCpu, Millis, Resources, Rps, Share, Span, Timestamp},
};

use super::{
    GenerateError, Options, Quantity,
    graph::{Graph, Role},
    place::{Places, zone_of},
    sizes::{Amount, PODS_PER_NODE, Sizes, Spread},
    stream,
    traffic::{REQUESTS_PER_POD, Rates},
};
use crate::scenario::Network;

/// When every generated cluster is seen: 1 January 2026.
const TAKEN_AT: Timestamp = Timestamp::from_millis(1_767_225_600_000);
/// Since when its pods run.
const CREATED_AT: Timestamp = Timestamp::from_millis(TAKEN_AT.as_millis() - 86_400_000);

/// Median and spread (of the logarithm) of bytes of a request and of a response, so that
/// the hundredth largest are 196 KB and 563 KB; the most of either (Seemakhupt et al.,
/// SOSP 2023: methods at Google).
const REQUEST_BYTES: (f64, f64) = (1_530.0, 2.09);
const RESPONSE_BYTES: (f64, f64) = (315.0, 3.22);
const MOST_BYTES: f64 = 1_048_576.0;

/// Used of the CPU that a replica asks for: median and spread of the logarithm by
/// workload, and its bounds; our own choice, low as clusters are. And of its memory.
const CPU_USED: (f64, f64) = (0.35, 0.4);
const CPU_USED_BOUNDS: (f64, f64) = (0.05, 0.75);
const MEMORY_USED: f64 = 0.6;
/// p95 of a workload's answers in ms: median and spread of the logarithm, our own choice.
const RESPONSE_MS: (f64, f64) = (15.0, 0.7);

pub(super) fn assemble(
    graph: &Graph,
    rates: &Rates,
    sizes: &Sizes,
    places: &Places,
    options: &Options,
) -> Result<Snapshot, GenerateError> {
    let names = Names::new(graph, options)?;
    let nodes = (0..sizes.nodes.len()).map(|at| node(&names, at, sizes.nodes[at], options));
    let nodes: Vec<Node> = nodes.collect();
    let mut workloads = Vec::with_capacity(places.len());
    for (at, places) in places.iter().enumerate() {
        workloads.push(workload(&names, at, places, sizes)?);
    }
    let mut slow = stream(options.seed, Quantity::Response);
    let response: Vec<f64> = (0..workloads.len())
        .map(|_| RESPONSE_MS.0 * (RESPONSE_MS.1 * slow.normal()).exp())
        .collect();
    let usage = usage(&workloads, options);
    let traffic = traffic(&names, graph, rates, places, &workloads, &response, options);
    let hosts = workloads.iter().zip(&names.hosts).map(|(workload, name)| Host {
        name: name.clone(),
        backends: vec![workload.id.clone()],
        rule: Rule::None,
        default_split: DefaultSplit::ByReplicas,
        adoptable: false,
        leftover: false,
        displaced: false,
        old_pod: None,
        foreign_endpoints: false,
        ztunnel_only: false,
    });
    let hosts = hosts.collect();
    let steering = Steering::default();
    let cluster = ClusterFacts { nodes, workloads, hosts, mesh: Mesh::Routable, steering };
    let metrics = MetricsFacts {
        usage: fresh(usage),
        traffic: fresh(traffic),
        latency: fresh(latency(&names)),
        warnings: Vec::new(),
    };
    Ok(Snapshot::assemble(cluster, metrics, TAKEN_AT))
}

fn fresh<T>(value: T) -> Facts<T> {
    Facts::Fresh { as_of: TAKEN_AT, source: Source::Dataset, value }
}

struct Names {
    zones: Vec<ZoneName>,
    region: RegionName,
    nodes: Vec<NodeName>,
    namespaces: Vec<Namespace>,
    /// By workload.
    workloads: Vec<WorkloadRef>,
    hosts: Vec<HostName>,
}

impl Names {
    fn new(graph: &Graph, options: &Options) -> Result<Self, IdError> {
        let zones = ('a'..='z').take(options.zones).map(|z| ZoneName::new(&format!("zone-{z}")));
        let nodes = (0..options.size.nodes).map(|at| NodeName::new(&format!("node-{at:05}")));
        let teams = graph.roles.len().div_ceil(100).min(50);
        let namespaces = (0..teams).map(|team| Namespace::new(&format!("team-{team:02}")));
        let mut names = Self {
            zones: zones.collect::<Result<_, _>>()?,
            region: RegionName::new("region-1")?,
            nodes: nodes.collect::<Result<_, _>>()?,
            namespaces: namespaces.collect::<Result<_, _>>()?,
            workloads: Vec::with_capacity(graph.roles.len()),
            hosts: Vec::with_capacity(graph.roles.len()),
        };
        for (at, role) in graph.roles.iter().enumerate() {
            let role = match role {
                Role::Entry => "entry",
                Role::Middle => "middle",
                Role::Leaf => "leaf",
            };
            let (namespace, name) = (&names.namespaces[at % teams], format!("{role}-{at:05}"));
            names.hosts.push(HostName::of_service(namespace, &name)?);
            names.workloads.push(WorkloadRef::new(namespace, WorkloadKind::Deployment, &name)?);
        }
        Ok(names)
    }
}

fn resources(amount: Amount) -> Resources {
    Resources { cpu: MilliCpu::new(amount.cpu), memory: Bytes::new(amount.memory << 20) }
}

fn node(names: &Names, at: usize, size: Amount, options: &Options) -> Node {
    Node {
        name: names.nodes[at].clone(),
        zone: names.zones[zone_of(at, options.zones)].clone(),
        region: names.region.clone(),
        ready: true,
        schedulable: true,
        allocatable: resources(size),
        pod_capacity: u32::try_from(PODS_PER_NODE).unwrap_or(u32::MAX),
        reserved: Resources::default(),
        reserved_pods: 0,
        labels: Default::default(),
        taints: Vec::new(),
        named_since: None,
    }
}

fn workload(
    names: &Names,
    at: usize,
    places: &[u32],
    sizes: &Sizes,
) -> Result<Workload, GenerateError> {
    let id = names.workloads[at].clone();
    let namespace = &names.namespaces[at % names.namespaces.len()];
    let mut pods = Vec::with_capacity(places.len());
    for (replica, node) in places.iter().enumerate() {
        pods.push(Pod {
            name: PodName::new(namespace, &format!("{}-{replica:04}", id.name()))?,
            node: Some(names.nodes[*node as usize].clone()),
            phase: PodPhase::Ready,
            created_at: CREATED_AT,
            ready_since: Some(CREATED_AT.after(Span::from_seconds(20))),
            traces: Traces::default(),
        });
    }
    Ok(Workload {
        id,
        managed: true,
        desired: sizes.replicas[at],
        counted_by: CountBy::Unknown,
        ready_counted: None,
        requests: resources(sizes.requests[at]),
        limits: None,
        constraints: Constraints {
            one_per_node: sizes.spread[at] == Spread::Nodes,
            max_zone_skew: (sizes.spread[at] == Spread::Zones).then_some(1),
            ..Constraints::default()
        },
        autoscaler: None,
        budget: None,
        rollout: Rollout::Settled,
        policy: WorkloadPolicy::default(),
        startup: Some(Span::from_seconds(20)),
        min_ready: Span::ZERO,
        proxied: false,
        pods,
    })
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn usage(workloads: &[Workload], options: &Options) -> Vec<PodUsage> {
    let mut level = stream(options.seed, Quantity::Usage);
    let mut jitter = stream(options.seed, Quantity::PodUsage);
    let mut usage = Vec::with_capacity(options.size.pods);
    for workload in workloads {
        let share = CPU_USED.0 * (CPU_USED.1 * level.normal()).exp();
        let share = share.clamp(CPU_USED_BOUNDS.0, CPU_USED_BOUNDS.1);
        for pod in &workload.pods {
            let cpu = workload.requests.cpu.as_f64() * share * (0.9 + 0.2 * jitter.unit());
            let memory = workload.requests.memory.as_f64();
            let memory = memory * MEMORY_USED * (0.9 + 0.2 * jitter.unit());
            usage.push(PodUsage {
                pod: pod.name.clone(),
                cpu: MilliCpu::new(cpu as u64),
                memory: Bytes::new(memory as u64),
                throttled: None,
            });
        }
    }
    usage
}

#[allow(clippy::cast_precision_loss)]
fn traffic(
    names: &Names,
    graph: &Graph,
    rates: &Rates,
    places: &Places,
    workloads: &[Workload],
    response: &[f64],
    options: &Options,
) -> Traffic {
    let total = REQUESTS_PER_POD * options.size.pods as f64;
    let mut jitter = stream(options.seed, Quantity::PodRequests);
    let mut pods = Vec::with_capacity(options.size.pods);
    for (at, workload) in workloads.iter().enumerate() {
        let each = total * rates.workloads[at] / workload.pods.len() as f64;
        for pod in &workload.pods {
            pods.push(PodTraffic {
                pod: pod.name.clone(),
                requests: Rps::saturating(each * (0.9 + 0.2 * jitter.unit())),
                p95: Some(Millis::saturating(response[at] * (0.9 + 0.2 * jitter.unit()))),
                errors: Share::ZERO,
            });
        }
    }
    let shares: Vec<Vec<f64>> = places
        .iter()
        .map(|places| {
            let mut shares = vec![0.0; options.zones];
            for node in places {
                shares[zone_of(*node as usize, options.zones)] += 1.0 / places.len() as f64;
            }
            shares
        })
        .collect();
    let mut sizes = stream(options.seed, Quantity::Sizes);
    let mut bytes =
        |(median, spread): (f64, f64)| (median * (spread * sizes.normal()).exp()).min(MOST_BYTES);
    let network = Network::default();
    let mut edges = Vec::with_capacity(graph.edges.len());
    for ((caller, callee), rate) in graph.edges.iter().zip(&rates.edges) {
        let (caller, callee) = (*caller as usize, *callee as usize);
        let (request, answer) = (bytes(REQUEST_BYTES), bytes(RESPONSE_BYTES));
        let mut routes = Vec::new();
        for (from, sent) in shares[caller].iter().enumerate() {
            for (to, served) in shares[callee].iter().enumerate() {
                let requests = total * rate * sent * served;
                if requests > 0.0 {
                    let far =
                        if from == to { network.same_zone_ms } else { network.same_region_ms };
                    routes.push(RouteTraffic {
                        from: names.zones[from].clone(),
                        to: names.zones[to].clone(),
                        requests: Rps::saturating(requests),
                        request_bytes: BytesPerSecond::saturating(requests * request),
                        response_bytes: BytesPerSecond::saturating(requests * answer),
                        p95: Some(Millis::saturating(response[callee] + far.get())),
                        errors: Share::ZERO,
                    });
                }
            }
        }
        edges.push(Edge {
            caller: names.workloads[caller].clone(),
            callee: names.workloads[callee].clone(),
            host: names.hosts[callee].clone(),
            protocol: Protocol::Http,
            routes,
        });
    }
    Traffic { window: Span::from_seconds(60), edges, by_node: Vec::new(), pods }
}

/// Between zones, as an exporter would measure it; pairs of nodes are too many.
fn latency(names: &Names) -> Latency {
    let network = Network::default();
    let mut zones = Vec::new();
    for from in &names.zones {
        for to in &names.zones {
            let rtt = if from == to { network.same_zone_ms } else { network.same_region_ms };
            zones.push(ZoneRoundTrip { from: from.clone(), to: to.clone(), rtt });
        }
    }
    Latency { nodes: Vec::new(), zones }
}
