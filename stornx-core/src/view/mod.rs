//! The snapshot as decisions need it: dense indices instead of names, joined by
//! sorting once, so that a plan takes time proportional to the size of the cluster.
//!
//! A view holds facts only. Names that the snapshot mentions without defining are
//! passed over here, once, so that no decision meets them.

mod edges;
mod feasible;
mod latency;
mod names;
mod remembered;
mod seen;

use std::collections::BTreeMap;

use self::names::{Finger, Names, sorted};
pub(crate) use self::{
    edges::{EdgeView, RouteView},
    feasible::{NodeRefusal, admits, selects},
    latency::LatencyTable,
    remembered::Remembered,
    seen::{Mean, Seen},
};
use crate::{
    ids::{HostName, NodeName, PodName, RegionName, WorkloadRef, ZoneName},
    model::{Host, Node, Pod, PodPhase, PodTraffic, PodUsage, Snapshot, Workload},
    policy::Policy,
    units::{Resources, Span, Timestamp},
};

macro_rules! index {
    ($($(#[$doc:meta])* $name:ident),*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(u32);

        impl $name {
            /// A position in the list that this indexes.
            #[allow(clippy::cast_possible_truncation)] // Lists stay far below 2^32.
            pub(crate) const fn new(position: usize) -> Self {
                Self(position as u32)
            }

            /// The position.
            pub(crate) const fn at(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

index!(
    /// Into [`View::zones`]; zones are in the order of their names.
    ZoneIndex,
    /// Into [`View::nodes`]; nodes are in the order of their names.
    NodeIndex,
    /// Into [`View::workloads`]; workloads are in the order of their references.
    WorkloadIndex,
    /// Into [`View::hosts`]; hosts are in the order of their names.
    HostIndex,
    /// Into [`View::edges`].
    EdgeIndex
);

/// Up to so many zones are looked through for a name: that is faster than halving.
const FEW_ZONES: usize = 8;

/// A zone that has nodes; one of its nodes, where places are nodes.
pub(crate) struct ZoneView<'a> {
    pub(crate) name: &'a ZoneName,
    pub(crate) region: &'a RegionName,
}

/// A node with what is asked for on it.
pub(crate) struct NodeView<'a> {
    pub(crate) node: &'a Node,
    pub(crate) zone: ZoneIndex,
    /// The part of its zone that it is in; empty where zones are not divided.
    pub(crate) subzone: &'a str,
    /// What all pods bound here ask for, those outside the snapshot included.
    pub(crate) requested: Resources,
    /// How many pods are bound here.
    pub(crate) pods: u32,
}

impl NodeView<'_> {
    /// Whether new pods may be bound here at all.
    pub(crate) fn open(&self) -> bool {
        self.node.ready && self.node.schedulable
    }
}

/// A replica with where it runs and what is known of it.
pub(crate) struct PodView<'a> {
    pub(crate) pod: &'a Pod,
    /// That of the pod, here because everything asks for it.
    pub(crate) phase: PodPhase,
    /// `None` when it is not bound, or its node is gone.
    pub(crate) node: Option<NodeIndex>,
    pub(crate) zone: Option<ZoneIndex>,
    /// Its node is known and Ready. Kubernetes marks the pods of a node that is not, but not in the same
    /// moment.
    node_ready: bool,
    /// Fresh usage only.
    pub(crate) usage: Option<&'a PodUsage>,
    /// Fresh traffic only.
    pub(crate) traffic: Option<&'a PodTraffic>,
}

impl PodView<'_> {
    /// Ready on a node that is known and Ready itself: an endpoint that can answer.
    pub(crate) fn serves(&self) -> bool {
        self.phase == PodPhase::Ready && self.node_ready
    }
}

/// A workload with its replicas joined.
pub(crate) struct WorkloadView<'a> {
    pub(crate) workload: &'a Workload,
    pub(crate) pods: Vec<PodView<'a>>,
    /// Replicas that serve, by zone.
    pub(crate) ready: Vec<u32>,
    /// Replicas that are bound and not being deleted, by zone.
    pub(crate) bound: Vec<u32>,
    /// The same by zone and, within it, by subzone. Empty where no zone of it has two: then
    /// a weight is a share.
    pub(crate) groups: Vec<Vec<u32>>,
    /// Edges on which it is the callee.
    pub(crate) called_by: Vec<EdgeIndex>,
    /// Edges on which it is the caller.
    pub(crate) calls: Vec<EdgeIndex>,
}

impl WorkloadView<'_> {
    /// Replicas that serve.
    pub(crate) fn ready_total(&self) -> u32 {
        self.ready.iter().sum()
    }
}

/// A host with its one workload.
pub(crate) struct HostView<'a> {
    pub(crate) host: &'a Host,
    /// The workload behind it, when there is exactly one.
    pub(crate) workload: Option<WorkloadIndex>,
    /// Edges that call it.
    pub(crate) edges: Vec<EdgeIndex>,
}

/// What is found by its name.
struct Lookup<'a> {
    nodes: Names<'a>,
    workloads: Names<'a>,
    hosts: Names<'a>,
}

/// The snapshot with everything joined.
pub(crate) struct View<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) policy: &'a Policy,
    pub(crate) now: Timestamp,
    pub(crate) zones: Vec<ZoneView<'a>>,
    pub(crate) nodes: Vec<NodeView<'a>>,
    pub(crate) workloads: Vec<WorkloadView<'a>>,
    pub(crate) hosts: Vec<HostView<'a>>,
    pub(crate) edges: Vec<EdgeView>,
    /// Those of all edges, one edge after the other.
    routes: Vec<RouteView>,
    /// Of each of them the p95 of the answers in milliseconds, where it is known.
    p95s: Vec<Option<f64>>,
    pub(crate) latency: LatencyTable,
    /// The nodes of all replicas that serve, by workload and zone.
    serving: Vec<NodeIndex>,
    /// Where those of each workload and zone begin in it, and where the last end.
    serving_from: Vec<usize>,
    names: Lookup<'a>,
    /// US dollars per byte by pair of zones, row by row.
    prices: Vec<f64>,
    /// Fresh traffic is there.
    pub(crate) has_traffic: bool,
    /// The window over which rates were counted; zero without fresh traffic.
    pub(crate) window: Span,
}

fn find<T, K: Ord + ?Sized>(list: &[T], key: impl Fn(&T) -> &K, wanted: &K) -> Option<usize> {
    list.binary_search_by(|item| key(item).cmp(wanted)).ok()
}

impl<'a> View<'a> {
    /// Joins a snapshot.
    pub(crate) fn new(snapshot: &'a Snapshot, policy: &'a Policy, now: Timestamp) -> Self {
        let zones = zones(snapshot);
        let nodes = nodes(snapshot, &zones);
        let traffic = snapshot.traffic.fresh();
        let prices = prices(&zones, policy);
        let workloads = sorted(&snapshot.workloads, |workload| &workload.id);
        let hosts = sorted(&snapshot.hosts, |host| &host.name);
        let names = Lookup {
            nodes: Names::of(nodes.iter().map(|node| node.node.name.as_str())),
            workloads: Names::of(workloads.iter().map(|workload| workload.id.as_str())),
            hosts: Names::of(hosts.iter().map(|host| host.name.as_str())),
        };
        let measured = snapshot.latency.fresh();
        let latency = LatencyTable::new(measured, (&nodes, &names.nodes), &zones, &policy.latency);
        let mut view = Self {
            snapshot,
            policy,
            now,
            zones,
            nodes,
            workloads: Vec::new(),
            hosts: Vec::new(),
            edges: Vec::new(),
            routes: Vec::new(),
            p95s: Vec::new(),
            latency,
            serving: Vec::new(),
            serving_from: Vec::new(),
            names,
            prices,
            has_traffic: traffic.is_some(),
            window: traffic.map_or(Span::ZERO, |traffic| traffic.window),
        };
        view.join_workloads(workloads);
        view.join_hosts(hosts);
        view.join_edges();
        view
    }

    fn join_workloads(&mut self, workloads: Vec<&'a Workload>) {
        let usage: &[PodUsage] = self.snapshot.usage.fresh().map_or(&[], Vec::as_slice);
        let traffic: &[PodTraffic] = self.snapshot.traffic.fresh().map_or(&[], |t| &t.pods);
        let mut usage_of = Finger::new(usage, |usage| &usage.pod);
        let mut traffic_of = Finger::new(traffic, |traffic| &traffic.pod);
        let divided = self.nodes.iter().any(|node| !node.subzone.is_empty());
        self.serving_from.reserve(workloads.len() * self.zones.len() + 1);
        self.serving_from.push(0);
        self.workloads.reserve(workloads.len());
        for workload in workloads {
            let mut ready = vec![0; self.zones.len()];
            let mut bound = vec![0; self.zones.len()];
            let mut pods = Vec::with_capacity(workload.pods.len());
            for pod in sorted(&workload.pods, |pod| &pod.name) {
                let node = pod.node.as_ref().and_then(|name| self.node(name));
                let zone = node.map(|node| self.nodes[node.at()].zone);
                let view = PodView {
                    pod,
                    phase: pod.phase,
                    node,
                    zone,
                    node_ready: node.is_some_and(|node| self.nodes[node.at()].node.ready),
                    usage: usage_of.find(&pod.name),
                    traffic: traffic_of.find(&pod.name),
                };
                if let Some(node) = node {
                    let node = &mut self.nodes[node.at()];
                    node.requested = node.requested + workload.requests;
                    node.pods += 1;
                }
                if let (true, Some(zone)) = (view.serves(), zone) {
                    ready[zone.at()] += 1;
                }
                if let (true, Some(zone)) = (pod.phase != PodPhase::Terminating, zone) {
                    bound[zone.at()] += 1;
                }
                pods.push(view);
            }
            let groups = if divided { self.groups(&pods) } else { Vec::new() };
            for zone in (0..self.zones.len()).map(ZoneIndex::new) {
                let here = pods.iter().filter(|pod| pod.serves() && pod.zone == Some(zone));
                self.serving.extend(here.filter_map(|pod| pod.node));
                self.serving_from.push(self.serving.len());
            }
            self.workloads.push(WorkloadView {
                workload,
                pods,
                ready,
                bound,
                groups,
                called_by: Vec::new(),
                calls: Vec::new(),
            });
        }
    }

    /// Replicas that serve by subzone, in the order of their names.
    fn groups(&self, pods: &[PodView<'_>]) -> Vec<Vec<u32>> {
        let divided = |node: NodeIndex| !self.nodes[node.at()].subzone.is_empty();
        if !pods.iter().filter_map(|pod| pod.node).any(divided) {
            return Vec::new();
        }
        let mut by_zone = vec![BTreeMap::<&str, u32>::new(); self.zones.len()];
        for pod in pods.iter().filter(|pod| pod.serves()) {
            if let (Some(zone), Some(node)) = (pod.zone, pod.node) {
                *by_zone[zone.at()].entry(self.nodes[node.at()].subzone).or_insert(0) += 1;
            }
        }
        if by_zone.iter().all(|zone| zone.len() < 2) {
            return Vec::new();
        }
        by_zone.into_iter().map(|zone| zone.into_values().collect()).collect()
    }

    fn join_hosts(&mut self, hosts: Vec<&'a Host>) {
        for host in hosts {
            let workload = match host.backends.as_slice() {
                [one] => self.workload(one),
                _ => None,
            };
            self.hosts.push(HostView { host, workload, edges: Vec::new() });
        }
    }

    /// The index of a zone that has nodes.
    pub(crate) fn zone(&self, name: &ZoneName) -> Option<ZoneIndex> {
        if self.zones.len() > FEW_ZONES {
            return find(&self.zones, |zone| zone.name, name).map(ZoneIndex::new);
        }
        self.zones.iter().position(|zone| zone.name == name).map(ZoneIndex::new)
    }

    /// The index of a node.
    pub(crate) fn node(&self, name: &NodeName) -> Option<NodeIndex> {
        self.names.nodes.find(name.as_str()).map(NodeIndex::new)
    }

    /// The index of a workload.
    pub(crate) fn workload(&self, id: &WorkloadRef) -> Option<WorkloadIndex> {
        self.names.workloads.find(id.as_str()).map(WorkloadIndex::new)
    }

    /// The index of a host.
    pub(crate) fn host(&self, name: &HostName) -> Option<HostIndex> {
        self.names.hosts.find(name.as_str()).map(HostIndex::new)
    }

    /// Whether nobody is known who would read a rule for a host: no waypoint is before it,
    /// and no caller has a proxy of its own.
    pub(crate) fn unread(&self, host: HostIndex) -> bool {
        let host = &self.hosts[host.at()];
        let reads = |edge: &EdgeIndex| {
            let caller = self.edges[edge.at()].caller;
            self.workloads[caller.at()].workload.proxied
        };
        host.host.ztunnel_only && !host.edges.iter().any(reads)
    }

    /// A replica of a workload.
    pub(crate) fn pod(&self, workload: WorkloadIndex, name: &PodName) -> Option<&PodView<'a>> {
        let pods = &self.workloads[workload.at()].pods;
        find(pods, |pod| &pod.pod.name, name).map(|at| &pods[at])
    }

    /// The nodes of the replicas of a workload that serve in a zone, in the order of the
    /// replicas: as often as there are some.
    pub(crate) fn serving(&self, workload: WorkloadIndex, zone: ZoneIndex) -> &[NodeIndex] {
        let at = workload.at() * self.zones.len() + zone.at();
        &self.serving[self.serving_from[at]..self.serving_from[at + 1]]
    }

    /// All workloads with their index.
    pub(crate) fn each_workload(&self) -> impl Iterator<Item = (WorkloadIndex, &WorkloadView<'a>)> {
        self.workloads.iter().enumerate().map(|(at, workload)| (WorkloadIndex::new(at), workload))
    }

    /// All nodes with their index.
    pub(crate) fn each_node(&self) -> impl Iterator<Item = (NodeIndex, &NodeView<'a>)> {
        self.nodes.iter().enumerate().map(|(at, node)| (NodeIndex::new(at), node))
    }

    /// Price of one byte between two zones, US dollars.
    pub(crate) fn price_per_byte(&self, from: ZoneIndex, to: ZoneIndex) -> f64 {
        self.prices[from.at() * self.zones.len() + to.at()]
    }

    /// Round trip between two zones in ms with the price of a request of
    /// `bytes_per_request` added by [`PricePolicy::weight`](crate::policy::PricePolicy):
    /// what a request "pays" for a route.
    pub(crate) fn route_cost(&self, from: ZoneIndex, to: ZoneIndex, bytes_per_request: f64) -> f64 {
        let usd_per_million = self.price_per_byte(from, to) * bytes_per_request * 1e6;
        self.latency.between_zones(from, to) + self.policy.price.weight.get() * usd_per_million
    }
}

fn zones(snapshot: &Snapshot) -> Vec<ZoneView<'_>> {
    let regions: BTreeMap<&ZoneName, &RegionName> =
        snapshot.nodes.iter().map(|node| (&node.zone, &node.region)).collect();
    regions.into_iter().map(|(name, region)| ZoneView { name, region }).collect()
}

fn prices(zones: &[ZoneView<'_>], policy: &Policy) -> Vec<f64> {
    let price = |from: &ZoneView<'_>, to: &ZoneView<'_>| {
        if from.name.domain() == to.name.domain() {
            0.0
        } else if from.region == to.region {
            policy.price.cross_zone.get() / 1e9
        } else {
            policy.price.cross_region.get() / 1e9
        }
    };
    zones.iter().flat_map(|from| zones.iter().map(move |to| price(from, to))).collect()
}

fn nodes<'a>(snapshot: &'a Snapshot, zones: &[ZoneView<'a>]) -> Vec<NodeView<'a>> {
    sorted(&snapshot.nodes, |node| &node.name)
        .into_iter()
        .filter_map(|node| {
            let zone = find(zones, |zone| zone.name, &node.zone).map(ZoneIndex::new)?;
            let (requested, pods) = (node.reserved, node.reserved_pods);
            Some(NodeView { node, zone, subzone: node.subzone(), requested, pods })
        })
        .collect()
}
