//! Builds the cost of a layout: replicas, edges and what was counted of them.

use std::sync::Arc;

use super::{super::split::Router, EXCHANGE_BYTES, Inkling, Leg, Objective, Service};
use crate::{
    decide::safety::Safety,
    view::{EdgeView, NodeIndex, Remembered, View, WorkloadIndex, ZoneIndex},
};

impl Objective<'_> {
    pub(super) fn add_leg(&mut self, edge: &EdgeView) {
        let rank = |workload: WorkloadIndex| self.services[workload.at()].rank;
        self.legs.push(Leg {
            caller: edge.caller,
            callee: edge.callee,
            rate: 0.0,
            bytes_per_exchange: 0.0,
            follows: rank(edge.caller) < rank(edge.callee),
        });
    }

    pub(super) fn add_service(&mut self, at: WorkloadIndex, rank: u32, memory: &Remembered<'_>) {
        let view = &self.view.workloads[at.at()];
        let mut places: Vec<(NodeIndex, u32)> = Vec::new();
        for node in nodes_to_be(self.view, at, memory) {
            self.counts[at.at() * self.zones + self.view.nodes[node.at()].zone.at()] += 1.0;
            match places.last_mut() {
                Some((last, count)) if *last == node => *count += 1,
                _ => places.push((node, 1)),
            }
        }
        let used: f64 =
            view.pods.iter().filter_map(|p| p.usage).map(|usage| usage.cpu.as_f64()).sum();
        let known = view.pods.iter().filter(|pod| pod.usage.is_some()).count();
        let cpu = if known > 0 { used / known as f64 } else { 0.0 };
        for (node, count) in &places {
            self.node_cpu[node.at()] += cpu * f64::from(*count);
        }
        self.services.push(Service {
            router: Router::of(self.view, at),
            capacity: None,
            cpu,
            places: places.into(),
            follows: false,
            rank,
            cost: 0.0,
        });
    }

    /// Sums of round trips over the pairs of replicas of an edge.
    pub(super) fn measure_trips(&mut self, edge: usize) {
        if !self.view.latency.has_node_pairs() {
            self.reckon_trips(edge);
            return;
        }
        let (caller, callee) = (self.legs[edge].caller, self.legs[edge].callee);
        let size = self.zones * self.zones;
        let mut sums = std::mem::take(&mut self.scratch.from);
        for at in 0..self.services[callee.at()].places.len() {
            let (node, count) = self.services[callee.at()].places[at];
            let to = self.view.latency.zone_of(node).at();
            self.distances(caller, node, &mut sums);
            for (from, sum) in sums.iter().enumerate() {
                self.trips[edge * size + from * self.zones + to] += sum * f64::from(count);
            }
        }
        self.scratch.from = sums;
    }

    /// The same where all nodes are as far as their zones: pairs by pair of zones, and those
    /// that share a node.
    fn reckon_trips(&mut self, edge: usize) {
        let (caller, callee) = (self.legs[edge].caller, self.legs[edge].callee);
        let (zones, latency) = (self.zones, &self.view.latency);
        let counts = |workload: WorkloadIndex| &self.counts[workload.at() * zones..][..zones];
        let trips = &mut self.trips[edge * zones * zones..][..zones * zones];
        for (from, callers) in counts(caller).iter().enumerate() {
            for (to, callees) in counts(callee).iter().enumerate() {
                let far = latency.between_zones(ZoneIndex::new(from), ZoneIndex::new(to));
                trips[from * zones + to] = callers * callees * far;
            }
        }
        // Both lists are in the order of their nodes: the shorter one is walked.
        let places = |workload: WorkloadIndex| &self.services[workload.at()].places[..];
        let (mut few, mut many) = (places(caller), places(callee));
        if few.len() > many.len() {
            std::mem::swap(&mut few, &mut many);
        }
        for (node, count) in few {
            let at = many.partition_point(|(other, _)| other < node);
            many = &many[at..];
            if let Some((_, others)) = many.first().filter(|(other, _)| other == node) {
                let zone = latency.zone_of(*node).at();
                let pairs = f64::from(*count) * f64::from(*others);
                trips[zone * zones + zone] -= pairs * latency.nearer_within(*node);
            }
        }
    }

    /// Sums of the round trips from the replicas of a workload to a node, by the zone of the
    /// replicas.
    pub(super) fn distances(&self, workload: WorkloadIndex, node: NodeIndex, sums: &mut [f64]) {
        let latency = &self.view.latency;
        let places = &self.services[workload.at()].places;
        let to = latency.zone_of(node);
        for (zone, sum) in sums.iter_mut().enumerate() {
            let far = latency.between_zones(ZoneIndex::new(zone), to);
            let count = self.counts[workload.at() * self.zones + zone];
            *sum = count * far;
            if zone == to.at() {
                let same = places.binary_search_by_key(&node, |(at, _)| *at);
                let same = same.map_or(0.0, |at| f64::from(places[at].1));
                *sum = (count - same) * far + same * latency.between_nodes(node, node);
            }
        }
        if !latency.has_node_pairs() {
            return;
        }
        // Both lists are in the order of their nodes.
        let mut places = places.iter().peekable();
        for (from, farther) in latency.deviations_to(node) {
            while places.next_if(|(at, _)| at < from).is_some() {}
            if let Some((_, count)) = places.next_if(|(at, _)| at == from) {
                sums[latency.zone_of(*from).at()] += f64::from(*count) * farther;
            }
        }
    }

    /// Takes over the requests that were counted, and splits them.
    pub(super) fn count_requests(&mut self, safety: &Safety, inkling: Option<Inkling>) {
        self.leg_demand.copy_from_slice(&self.counted);
        for edge in 0..self.legs.len() {
            self.count_leg(edge, inkling);
            self.measure_costs(edge);
        }
        for at in 0..self.services.len() {
            self.count_service(WorkloadIndex::new(at), safety);
            self.doubt_capacity(at, inkling);
        }
        self.settle();
    }

    pub(super) fn count_leg(&mut self, at: usize, inkling: Option<Inkling>) {
        let edge = &self.view.edges[at];
        let demand = &mut self.leg_demand[at * self.zones..][..self.zones];
        if let Some(inkling) = inkling {
            for (zone, rate) in demand.iter_mut().enumerate() {
                *rate = inkling.off(*rate, self.view.window, at * self.zones + zone);
            }
        }
        let rate: f64 = demand.iter().sum();
        self.legs[at].rate = rate;
        self.legs[at].bytes_per_exchange = if rate > 0.0 { edge.bytes / rate } else { 0.0 };
    }

    pub(super) fn count_service(&mut self, at: WorkloadIndex, safety: &Safety) {
        let facts = safety.of(at);
        let callers = &self.view.workloads[at.at()].called_by;
        let received: f64 = callers.iter().map(|edge| self.legs[edge.at()].rate).sum();
        let served = facts.requests.get().max(received);
        let service = &mut self.services[at.at()];
        // Less than half of what it serves comes from callers that are known: the rest
        // decides, and where it enters is only seen in its own calls.
        service.follows = received > 0.0 && received >= 0.5 * facts.requests.get();
        service.capacity = facts
            .demand
            .filter(|demand| *demand > 0.0 && served > 0.0)
            .map(|demand| served / demand);
    }

    /// A capacity rests on counted requests, as rates do.
    pub(super) fn doubt_capacity(&mut self, at: usize, inkling: Option<Inkling>) {
        let edges = self.view.edges.len() * self.zones;
        let received: f64 =
            self.view.workloads[at].called_by.iter().map(|e| self.legs[e.at()].rate).sum();
        if let (Some(inkling), Some(capacity)) = (inkling, &mut self.services[at].capacity) {
            let off = inkling.off(received, self.view.window, edges + at);
            // What was hardly counted may be off by all of it, but serves something.
            *capacity *= if received > 0.0 { (off / received).max(0.1) } else { 1.0 };
        }
    }

    /// Splits everything in the order of calls and adds up.
    pub(super) fn settle(&mut self) {
        for workload in self.order.clone().iter().copied() {
            self.gather(workload);
            self.route(workload);
            let view = self.view;
            for edge in &view.workloads[workload.at()].calls {
                self.send(edge.at());
            }
        }
        let nodes = 0..self.node_cpu.len();
        self.total = self.services.iter().map(|service| service.cost).sum::<f64>()
            + nodes.map(|node| self.node_cost(node)).sum::<f64>();
    }
}

/// The nodes of the replicas of a workload, in their order, when the move under way has
/// ended.
fn nodes_to_be(view: &View<'_>, at: WorkloadIndex, memory: &Remembered<'_>) -> Vec<NodeIndex> {
    let workload = &view.workloads[at.at()];
    let record = memory.workload(at).and_then(|w| w.in_flight.as_ref());
    let serving = workload.pods.iter().filter(|pod| pod.serves());
    let mut nodes: Vec<NodeIndex> = match record {
        None => serving.filter_map(|pod| pod.node).collect(),
        Some(record) => {
            let mut newcomer = false;
            let stays = serving.filter(|pod| {
                // One newcomer is the replacement: it is added where it is meant to be.
                let replaces = !newcomer && !record.known_pods.contains(&pod.pod.name);
                newcomer |= replaces;
                !replaces && pod.pod.name != record.victim
            });
            stays.filter_map(|pod| pod.node).chain(view.node(&record.to)).collect()
        }
    };
    nodes.sort_unstable();
    nodes
}

/// Exchanges per second as they were counted, by edge and zone of the caller.
pub(super) fn counted(view: &View<'_>) -> Arc<[f64]> {
    let exchanges = |requests: f64, bytes: f64| {
        if requests > 0.0 { requests } else { bytes / EXCHANGE_BYTES }
    };
    let zones = view.zones.len();
    let mut counted = vec![0.0; view.edges.len() * zones];
    for (at, edge) in view.edges.iter().enumerate() {
        for route in view.routes(edge) {
            counted[at * zones + route.from.at()] += exchanges(route.requests, route.bytes);
        }
    }
    counted.into()
}

/// The order of calls: a caller before its callees, except on edges that close a cycle. Depth
/// first from the workloads that nobody calls, then from the others, each by index.
pub(super) fn order(view: &View<'_>) -> Arc<[WorkloadIndex]> {
    let count = view.workloads.len();
    let mut seen = vec![false; count];
    let mut finished: Vec<usize> = Vec::with_capacity(count);
    let entries = (0..count).filter(|at| view.workloads[*at].called_by.is_empty());
    let all = 0..count;
    for root in entries.chain(all) {
        if seen[root] {
            continue;
        }
        seen[root] = true;
        let mut stack = vec![(root, 0)];
        while let Some((at, next)) = stack.pop() {
            match view.workloads[at].calls.get(next) {
                Some(edge) => {
                    stack.push((at, next + 1));
                    let callee = view.edges[edge.at()].callee.at();
                    if !seen[callee] {
                        seen[callee] = true;
                        stack.push((callee, 0));
                    }
                }
                None => finished.push(at),
            }
        }
    }
    finished.into_iter().rev().map(WorkloadIndex::new).collect()
}
