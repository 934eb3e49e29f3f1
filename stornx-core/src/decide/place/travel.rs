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

use super::ends::{Ends, Marks};
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
    /// Of an edge: requests per second by the zone that calls; or the shares of each such zone
    /// by the zone that is called, row by row. Used again for one edge after the other.
    of_edge: Vec<f64>,
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
            of_edge: Vec::new(),
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
        let mut rates = std::mem::take(&mut self.of_edge);
        rates.clear();
        rates.resize(view.zones.len(), 0.0);
        for route in view.routes(edge) {
            rates[route.from.at()] += route.requests;
        }
        for (zone, rate) in rates.iter().enumerate().filter(|(_, rate)| **rate > 0.0) {
            let zone = ZoneIndex::new(zone);
            self.callers.add(view, edge.caller, zone, std::iter::once((0, *rate)));
            self.add_neighbour(view, edge.caller, zone, *rate);
        }
        self.of_edge = rates;
    }

    fn add_callee(&mut self, view: &View<'_>, edge: &EdgeView) {
        let zones = view.zones.len();
        let mut shares = std::mem::take(&mut self.of_edge);
        shares.clear();
        shares.resize(zones * zones, 0.0);
        for route in view.routes(edge) {
            shares[route.from.at() * zones + route.to.at()] += route.requests;
        }
        for (from, row) in shares.chunks_exact_mut(zones).enumerate() {
            split(view, edge, ZoneIndex::new(from), row);
        }
        for to in 0..zones {
            let column = shares.iter().skip(to).step_by(zones).enumerate();
            let column = column.map(|(from, share)| (from, edge.requests * share));
            let zone = ZoneIndex::new(to);
            self.callees.add(view, edge.callee, zone, column.filter(|(_, rate)| *rate > 0.0));
            // Of those on a node of this zone.
            self.add_neighbour(view, edge.callee, zone, edge.requests * shares[to * zones + to]);
        }
        self.of_edge = shares;
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

/// Makes shares, which sum to 1, of the requests of one zone to each zone of the callee. Where
/// there are none, that is where all of `row` is zero: as the rule says, or the mesh without one; where no replica is ready
/// anywhere, as it last was for all callers together.
fn split(view: &View<'_>, edge: &EdgeView, from: ZoneIndex, row: &mut [f64]) {
    if normalised(row) {
        return;
    }
    rule(view, edge, from, row);
    if normalised(row) {
        return;
    }
    for route in view.routes(edge) {
        row[route.to.at()] += route.requests;
    }
    normalised(row);
}

/// How they would split by the rule, or without one, over the zones where the callee
/// is ready.
fn rule(view: &View<'_>, edge: &EdgeView, from: ZoneIndex, row: &mut [f64]) {
    let ready = &view.workloads[edge.callee.at()].ready;
    let host = edge.host.map(|host| view.hosts[host.at()].host);
    if let Some(Rule::Ours(table)) = host.map(|host| &host.rule)
        && let Some(weights) = table.get(view.zones[from.at()].name)
    {
        for (zone, share) in row.iter_mut().enumerate().filter(|(zone, _)| ready[*zone] > 0) {
            *share = f64::from(weights.weight(view.zones[zone].name));
        }
        if row.iter().any(|weight| *weight > 0.0) {
            return;
        }
    } else if host.is_some_and(|host| host.default_split == DefaultSplit::OwnZoneFirst)
        && ready[from.at()] > 0
    {
        row[from.at()] = 1.0;
        return;
    }
    row.iter_mut().zip(ready).for_each(|(share, count)| *share = f64::from(*count));
}

/// Makes shares of a row; whether there is anything in it.
fn normalised(row: &mut [f64]) -> bool {
    let sum: f64 = row.iter().sum();
    if sum > 0.0 {
        row.iter_mut().for_each(|share| *share /= sum);
    }
    sum > 0.0
}
