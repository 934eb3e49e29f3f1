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
//! neighbours on the node itself, and for the neighbours that are on nodes with a measured
//! round trip to or from it.

use std::collections::BTreeMap;

use super::ends::{Ends, InLane, Marks};
use crate::{
    model::{DefaultSplit, Rule},
    report::PlacementStrategy,
    view::{EdgeIndex, EdgeView, NodeIndex, View, WorkloadIndex, ZoneIndex},
};

/// The travel costs of one workload, kept in flat lists over all nodes that are used again
/// for the next one.
#[derive(Debug, Clone)]
pub(crate) struct Travel {
    workload: WorkloadIndex,
    callers: Ends,
    /// In a lane for each zone of the replica.
    callees: Ends,
    upstream: f64,
    downstream: f64,
    /// By zone of the replica, on a node without neighbours.
    zone_cost: Vec<f64>,
    /// What neighbours on the node itself save; zero where there are none.
    same_node: Vec<f64>,
    /// The nodes with neighbours, in their order.
    neighbours: Vec<NodeIndex>,
    marks: Marks,
    scratch: Scratch,
}

/// Lists that are used again for one edge after the other.
#[derive(Debug, Clone, Default)]
struct Scratch {
    shares: Vec<(ZoneIndex, f64)>,
    /// Of an edge: the zone that is called, the zone that calls, requests per second.
    calls: Vec<(ZoneIndex, InLane)>,
    rates: Vec<InLane>,
}

impl Travel {
    /// The costs of a workload; `None` when no traffic of it is known.
    pub(crate) fn of(view: &View<'_>, workload: WorkloadIndex) -> Option<Self> {
        let mut travel = Self::empty(view);
        travel.fill(view, workload).then_some(travel)
    }

    /// To be filled.
    pub(crate) fn empty(view: &View<'_>) -> Self {
        Self {
            workload: WorkloadIndex::new(0),
            callers: Ends::new(view, 1),
            callees: Ends::new(view, view.zones.len()),
            upstream: 0.0,
            downstream: 0.0,
            zone_cost: Vec::new(),
            same_node: vec![0.0; view.nodes.len()],
            neighbours: Vec::new(),
            marks: Marks::new(view.nodes.len()),
            scratch: Scratch::default(),
        }
    }

    /// Takes on the costs of a workload; whether traffic of it is known.
    pub(crate) fn fill(&mut self, view: &View<'_>, workload: WorkloadIndex) -> bool {
        self.clear();
        self.workload = workload;
        let joined = &view.workloads[workload.at()];
        for edge in edges(view, &joined.called_by) {
            self.upstream += edge.requests;
            self.add_caller(view, edge);
        }
        for edge in edges(view, &joined.calls) {
            self.downstream += edge.requests;
            self.add_callee(view, edge);
        }
        self.callers.settle();
        self.callees.settle();
        self.marks.drain_into(&mut self.neighbours);
        if self.upstream <= 0.0 && self.downstream <= 0.0 {
            return false;
        }
        self.add_up(view);
        true
    }

    fn add_caller(&mut self, view: &View<'_>, edge: &EdgeView) {
        for zone in (0..view.zones.len()).map(ZoneIndex::new) {
            let routes = view.routes(edge).iter().filter(|r| r.from == zone && r.requests > 0.0);
            let rates = &mut self.scratch.rates;
            rates.clear();
            rates.extend(routes.map(|route| (0, route.requests)));
            self.callers.add(view, edge.caller, zone, rates);
            let rate = rates.iter().map(|(_, rate)| rate).sum();
            self.add_neighbour(view, edge.caller, zone, rate);
        }
    }

    fn add_callee(&mut self, view: &View<'_>, edge: &EdgeView) {
        let Scratch { shares, calls, .. } = &mut self.scratch;
        calls.clear();
        for from in 0..view.zones.len() {
            split(view, edge, ZoneIndex::new(from), shares);
            calls.extend(shares.iter().map(|(to, share)| (*to, (from, edge.requests * share))));
        }
        for zone in (0..view.zones.len()).map(ZoneIndex::new) {
            let Scratch { calls, rates, .. } = &mut self.scratch;
            rates.clear();
            rates.extend(calls.iter().filter(|(to, _)| *to == zone).map(|(_, rate)| *rate));
            self.callees.add(view, edge.callee, zone, rates);
            // Of those on a node of this zone.
            let within = rates.iter().filter(|(from, _)| *from == zone.at());
            let rate = within.map(|(_, rate)| rate).sum();
            self.add_neighbour(view, edge.callee, zone, rate);
        }
    }

    /// What requests of or to a neighbour in a zone save on the nodes of its replicas there.
    fn add_neighbour(
        &mut self,
        view: &View<'_>,
        neighbour: WorkloadIndex,
        zone: ZoneIndex,
        rate: f64,
    ) {
        if rate <= 0.0 {
            return;
        }
        let nodes = view.serving(neighbour, zone);
        let each = rate / nodes.len() as f64;
        for node in nodes {
            self.same_node[node.at()] += each * view.latency.nearer_within(*node);
            self.marks.mark(*node);
        }
    }

    fn clear(&mut self) {
        self.callers.clear();
        self.callees.clear();
        for node in self.neighbours.drain(..) {
            self.same_node[node.at()] = 0.0;
        }
        (self.upstream, self.downstream) = (0.0, 0.0);
        self.zone_cost.clear();
    }

    /// What the ways from callers and to callees cost by zone of the replica.
    fn add_up(&mut self, view: &View<'_>) {
        let latency = &view.latency;
        for at in 0..view.zones.len() {
            let zone = ZoneIndex::new(at);
            let up = self.callers.by_zone(0);
            let up = up.map(|(from, rate)| rate * latency.between_zones(from, zone));
            let down = self.callees.by_zone(at);
            let down = down.map(|(to, rate)| rate * latency.between_zones(zone, to));
            self.zone_cost.push(up.sum::<f64>() + down.sum::<f64>());
        }
    }

    /// The nodes that hold a neighbour, in their order.
    pub(crate) fn neighbours(&self) -> &[NodeIndex] {
        &self.neighbours
    }

    /// What the workload's requests travel from `node`, requests/s x ms.
    pub(crate) fn cost(&self, view: &View<'_>, node: NodeIndex) -> f64 {
        let latency = &view.latency;
        let zone = latency.zone_of(node);
        let cost = self.zone_cost[zone.at()] - self.same_node[node.at()];
        if !latency.has_node_pairs() {
            return cost;
        }
        let up = latency.deviations_to(node).iter();
        let up = up.map(|(from, farther)| self.callers.rate(*from, 0) * farther);
        let down = latency.deviations_from(node);
        let down = down.map(|(to, farther)| self.callees.rate(to, zone.at()) * farther);
        cost + up.sum::<f64>() + down.sum::<f64>()
    }

    /// The neighbour with most requests, and how many per second. The first of equals, by
    /// identifier.
    pub(crate) fn heaviest(&self, view: &View<'_>) -> Option<(WorkloadIndex, f64)> {
        let joined = &view.workloads[self.workload.at()];
        let callers = edges(view, &joined.called_by).map(|edge| (edge.caller, edge.requests));
        let callees = edges(view, &joined.calls).map(|edge| (edge.callee, edge.requests));
        let mut neighbours: BTreeMap<WorkloadIndex, f64> = BTreeMap::new();
        for (neighbour, requests) in callers.chain(callees) {
            *neighbours.entry(neighbour).or_default() += requests;
        }
        neighbours.into_iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))
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
        let mut callers = self.callers.by_zone(0);
        let mut callees = self.callees.by_zone(zone.at());
        callers.all(|(from, _)| latency.is_measured(from, zone))
            && callees.all(|(to, _)| latency.is_measured(zone, to))
    }
}

fn edges<'a>(view: &'a View<'_>, indices: &'a [EdgeIndex]) -> impl Iterator<Item = &'a EdgeView> {
    indices.iter().map(|at| &view.edges[at.at()]).filter(|edge| edge.requests > 0.0)
}

/// How the requests of one zone split over the zones of the callee; shares sum to 1.
fn split(view: &View<'_>, edge: &EdgeView, from: ZoneIndex, shares: &mut Vec<(ZoneIndex, f64)>) {
    let observed = view.routes(edge).iter().filter(|r| r.from == from).map(|r| (r.to, r.requests));
    // Where no replica is ready anywhere: as it last was for all callers together.
    let last = view.routes(edge).iter().map(|r| (r.to, r.requests));
    let _ = normalised(observed, shares)
        || normalised(ruled(view, edge, from).into_iter(), shares)
        || normalised(last, shares);
}

/// How they would split by the rule, or without one, over the zones where the callee
/// is ready.
fn ruled(view: &View<'_>, edge: &EdgeView, from: ZoneIndex) -> Vec<(ZoneIndex, f64)> {
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

/// Takes on the shares if there are any.
fn normalised(
    items: impl Iterator<Item = (ZoneIndex, f64)>,
    shares: &mut Vec<(ZoneIndex, f64)>,
) -> bool {
    shares.clear();
    shares.extend(items.filter(|(_, share)| *share > 0.0));
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    if sum <= 0.0 {
        shares.clear();
        return false;
    }
    for (_, share) in shares {
        *share /= sum;
    }
    true
}
