//! What the requests of a workload travel when one of its replicas runs on a node.
//!
//! `cost(v) = sum over callers of rate x latency(caller -> v) + sum over callees of
//! rate x latency(v -> callee)`, in requests/s x ms: as if all traffic of the workload
//! went through `v`, so that nodes compare whatever share a replica gets. Callers are
//! where their requests come from, evenly over the ready replicas of each zone.
//! Callees are where the requests of the zone of `v` go: as observed, and for a zone
//! that has sent none yet as the rule, or the mesh without one, would split them.
//!
//! Without measured pairs of nodes, a node costs what its zone costs, corrected for
//! neighbours on the node itself. With measured pairs it is the exact sum.

use std::collections::BTreeMap;

use crate::{
    model::{DefaultSplit, Rule},
    report::PlacementStrategy,
    view::{EdgeIndex, EdgeView, NodeIndex, View, WorkloadIndex, ZoneIndex},
};

/// Requests per second by the place where they come from or go to.
#[derive(Debug, Clone, Default)]
struct Ends {
    nodes: BTreeMap<NodeIndex, f64>,
    /// Zones with traffic where no replica is ready any more.
    zones: BTreeMap<ZoneIndex, f64>,
}

impl Ends {
    /// Adds the requests of one zone, evenly over the ready replicas of `workload`
    /// there.
    fn add(&mut self, view: &View<'_>, workload: WorkloadIndex, zone: ZoneIndex, rate: f64) {
        let workload = &view.workloads[workload.at()];
        let ready = workload.ready[zone.at()];
        if ready == 0 {
            *self.zones.entry(zone).or_default() += rate;
            return;
        }
        let here = workload.pods.iter().filter(|pod| pod.serves() && pod.zone == Some(zone));
        for node in here.filter_map(|pod| pod.node) {
            *self.nodes.entry(node).or_default() += rate / f64::from(ready);
        }
    }

    /// Requests by zone.
    fn by_zone<'a>(&'a self, view: &'a View<'_>) -> impl Iterator<Item = (ZoneIndex, f64)> + 'a {
        let nodes = self.nodes.iter().map(|(node, rate)| (view.nodes[node.at()].zone, *rate));
        nodes.chain(self.zones.iter().map(|(zone, rate)| (*zone, *rate)))
    }
}

/// The travel costs of one workload.
#[derive(Debug, Clone)]
pub(crate) struct Travel {
    callers: Ends,
    /// By zone of the replica.
    callees: Vec<Ends>,
    upstream: f64,
    downstream: f64,
    heaviest: Option<(WorkloadIndex, f64)>,
    /// By zone of the replica, on a node without neighbours.
    zone_cost: Vec<f64>,
    /// What neighbours on the node itself save.
    same_node: BTreeMap<NodeIndex, f64>,
}

impl Travel {
    /// The costs of a workload; `None` when no traffic of it is known.
    pub(crate) fn of(view: &View<'_>, workload: WorkloadIndex) -> Option<Self> {
        let joined = &view.workloads[workload.at()];
        let mut travel = Self {
            callers: Ends::default(),
            callees: vec![Ends::default(); view.zones.len()],
            upstream: 0.0,
            downstream: 0.0,
            heaviest: None,
            zone_cost: Vec::new(),
            same_node: BTreeMap::new(),
        };
        let mut neighbours: BTreeMap<WorkloadIndex, f64> = BTreeMap::new();
        for edge in edges(view, &joined.called_by) {
            travel.upstream += edge.requests;
            *neighbours.entry(edge.caller).or_default() += edge.requests;
            for route in edge.routes.iter().filter(|route| route.requests > 0.0) {
                travel.callers.add(view, edge.caller, route.from, route.requests);
            }
        }
        for edge in edges(view, &joined.calls) {
            travel.downstream += edge.requests;
            *neighbours.entry(edge.callee).or_default() += edge.requests;
            for (zone, ends) in travel.callees.iter_mut().enumerate() {
                for (to, share) in split(view, edge, ZoneIndex::new(zone)) {
                    ends.add(view, edge.callee, to, edge.requests * share);
                }
            }
        }
        // The first of equals, by identifier.
        travel.heaviest = neighbours.into_iter().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        travel.heaviest?;
        travel.zone_cost = (0..view.zones.len())
            .map(|zone| travel.cost_of_zone(view, ZoneIndex::new(zone)))
            .collect();
        travel.same_node = travel.savings_on_node(view);
        Some(travel)
    }

    fn cost_of_zone(&self, view: &View<'_>, zone: ZoneIndex) -> f64 {
        let latency = &view.latency;
        let up = self.callers.by_zone(view).map(|(from, r)| r * latency.between_zones(from, zone));
        let callees = &self.callees[zone.at()];
        let down = callees.by_zone(view).map(|(to, r)| r * latency.between_zones(zone, to));
        up.sum::<f64>() + down.sum::<f64>()
    }

    fn savings_on_node(&self, view: &View<'_>) -> BTreeMap<NodeIndex, f64> {
        let mut savings = BTreeMap::new();
        let mut add = |node: NodeIndex, rate: f64| {
            let zone = view.nodes[node.at()].zone;
            let nearer =
                view.latency.between_zones(zone, zone) - view.latency.between_nodes(node, node);
            *savings.entry(node).or_default() += rate * nearer;
        };
        for (node, rate) in &self.callers.nodes {
            add(*node, *rate);
        }
        for (zone, callees) in self.callees.iter().enumerate() {
            for (node, rate) in &callees.nodes {
                if view.nodes[node.at()].zone.at() == zone {
                    add(*node, *rate);
                }
            }
        }
        savings
    }

    /// The nodes that hold a neighbour.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = NodeIndex> {
        self.same_node.keys().copied()
    }

    /// What the workload's requests travel from `node`, requests/s x ms.
    pub(crate) fn cost(&self, view: &View<'_>, node: NodeIndex) -> f64 {
        if view.latency.has_node_pairs() {
            return self.exact(view, node);
        }
        let zone = view.nodes[node.at()].zone;
        let saved = self.same_node.get(&node).copied().unwrap_or(0.0);
        self.zone_cost[zone.at()] - saved
    }

    /// The same, pair by pair.
    fn exact(&self, view: &View<'_>, node: NodeIndex) -> f64 {
        let latency = &view.latency;
        let zone = view.nodes[node.at()].zone;
        let callees = &self.callees[zone.at()];
        let up_nodes = self.callers.nodes.iter().map(|(n, r)| r * latency.between_nodes(*n, node));
        let up_zones = self.callers.zones.iter().map(|(z, r)| r * latency.between_zones(*z, zone));
        let down_nodes = callees.nodes.iter().map(|(n, r)| r * latency.between_nodes(node, *n));
        let down_zones = callees.zones.iter().map(|(z, r)| r * latency.between_zones(zone, *z));
        up_nodes.chain(up_zones).chain(down_nodes).chain(down_zones).sum()
    }

    /// The neighbour with most requests, and how many per second.
    pub(crate) const fn heaviest(&self) -> Option<(WorkloadIndex, f64)> {
        self.heaviest
    }

    /// Who pulls a replica.
    pub(crate) fn strategy(&self) -> PlacementStrategy {
        match (self.upstream > 0.0, self.downstream > 0.0) {
            (true, false) => PlacementStrategy::Upstream,
            (false, true) => PlacementStrategy::Downstream,
            _ => PlacementStrategy::Mixed,
        }
    }

    /// Whether every round trip behind the cost of `node` was measured.
    pub(crate) fn is_measured(&self, view: &View<'_>, node: NodeIndex) -> bool {
        let (zone, latency) = (view.nodes[node.at()].zone, &view.latency);
        self.callers.by_zone(view).all(|(from, _)| latency.is_measured(from, zone))
            && self.callees[zone.at()].by_zone(view).all(|(to, _)| latency.is_measured(zone, to))
    }
}

fn edges<'a>(
    view: &'a View<'_>,
    indices: &'a [EdgeIndex],
) -> impl Iterator<Item = &'a EdgeView<'a>> {
    indices.iter().map(|at| &view.edges[at.at()]).filter(|edge| edge.requests > 0.0)
}

/// How the requests of one zone split over the zones of the callee; shares sum to 1.
fn split(view: &View<'_>, edge: &EdgeView<'_>, from: ZoneIndex) -> Vec<(ZoneIndex, f64)> {
    let observed = edge.routes.iter().filter(|r| r.from == from).map(|r| (r.to, r.requests));
    normalised(observed).or_else(|| normalised(ruled(view, edge, from).into_iter())).unwrap_or_else(
        // No replica is ready anywhere: as it last was for all callers together.
        || normalised(edge.routes.iter().map(|r| (r.to, r.requests))).unwrap_or_default(),
    )
}

/// How they would split by the rule, or without one, over the zones where the callee
/// is ready.
fn ruled(view: &View<'_>, edge: &EdgeView<'_>, from: ZoneIndex) -> Vec<(ZoneIndex, f64)> {
    let ready = &view.workloads[edge.callee.at()].ready;
    let host = edge.host.map(|host| view.hosts[host.at()].host);
    let by = |weight: &dyn Fn(ZoneIndex, f64) -> f64| -> Vec<_> {
        let zones = ready.iter().enumerate().filter(|(_, count)| **count > 0);
        zones
            .map(|(at, count)| (ZoneIndex::new(at), f64::from(*count)))
            .map(|(zone, count)| (zone, weight(zone, count)))
            .collect()
    };
    if let Some(Rule::Ours(table)) = host.map(|host| &host.rule)
        && let Some(weights) = table.get(view.zones[from.at()].name)
    {
        let by_rule = by(&|zone, _| f64::from(weights.weight(view.zones[zone.at()].name)));
        if by_rule.iter().any(|(_, weight)| *weight > 0.0) {
            return by_rule;
        }
    } else if host.is_some_and(|host| host.default_split == DefaultSplit::OwnZoneFirst)
        && ready[from.at()] > 0
    {
        return vec![(from, 1.0)];
    }
    by(&|_, count| count)
}

fn normalised(shares: impl Iterator<Item = (ZoneIndex, f64)>) -> Option<Vec<(ZoneIndex, f64)>> {
    let shares: Vec<_> = shares.filter(|(_, share)| *share > 0.0).collect();
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    (sum > 0.0).then(|| shares.into_iter().map(|(zone, share)| (zone, share / sum)).collect())
}
