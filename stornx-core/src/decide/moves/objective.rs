//! What a layout costs: the travel of all requests as routing would split them, plus
//! waiting where a zone of a workload or a node is used beyond what answers at once.
//! In requests/s x ms: so many milliseconds of requests are spent each second.
//!
//! The cost is a function of the layout alone. Demand enters where the callers are
//! whose own callers are not seen; from there on each workload sends its calls from
//! where it would serve them, through the whole graph in the order of its calls. So
//! two plans on the same layout see the same costs whatever the routes of the moment
//! are, and a series of improving moves must end.
//!
//! A change of one replica is applied in time proportional to the edges of its
//! workload, and of the workloads whose inflow it changes; it can be taken back
//! exactly. [`Depth::Neighbours`] stops after the direct callees, for ranking.
//!
//! Moves under way count as done: the victim is gone, its replacement serves. What
//! comes next is decided on the layout that they will leave.
//!
//! Assumes that calls of a workload follow its inflow, zone by zone, in proportion.
//! Edges that close a cycle keep the demand that was observed.

use std::collections::BTreeSet;

use super::split::{self, Ability, Pair, Router, Splitting};
use crate::{
    decide::safety::Safety,
    memory::Memory,
    policy,
    units::{Rps, Span},
    view::{EdgeIndex, EdgeView, NodeIndex, View, WorkloadIndex, ZoneIndex},
};

/// Bytes of one exchange on a connection whose requests are not counted: a small
/// question and its answer, as databases and caches have them.
const EXCHANGE_BYTES: f64 = 2048.0;

/// Share of what pods outside the snapshot ask for that they use: published traces of
/// clusters show half or less. Their use is not known, and requests that fill a node do
/// not make it slow.
const FOREIGN_USE: f64 = 0.5;

/// Utilisation up to which nothing waits noticeably.
const CALM: f64 = 0.6;

/// Utilisation from which the cost of waiting grows linearly. Queues that full are a
/// matter of replicas, not of places, and a steeper curve would turn the noise of a
/// measured utilisation into savings.
const FULL: f64 = 0.85;

/// Waiting, in service times, at a utilisation: that of a processor-sharing server
/// above [`CALM`], zero below.
pub(super) fn waiting(utilisation: f64) -> f64 {
    let curve = |u: f64| u / (1.0 - u);
    if utilisation <= CALM {
        0.0
    } else if utilisation <= FULL {
        curve(utilisation) - curve(CALM)
    } else {
        let slope = 1.0 / ((1.0 - FULL) * (1.0 - FULL));
        curve(FULL) - curve(CALM) + slope * (utilisation - FULL)
    }
}

/// What one replica of a capacity (requests/s at full utilisation) serves below a cap of
/// utilisation.
fn ability(capacity: f64, cap: f64) -> Ability {
    let calm = cap.min(CALM);
    let added = (cap * waiting(cap) - calm * waiting(calm)) / (cap - calm).max(f64::EPSILON);
    Ability { calm: capacity * calm, cap: capacity * cap, waiting: added * 1000.0 / capacity }
}

/// One replica going from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shift {
    pub(super) workload: WorkloadIndex,
    pub(super) from: NodeIndex,
    pub(super) to: NodeIndex,
}

/// How far a change is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// To the workloads that are called directly.
    Neighbours,
    /// Until nothing changes any more.
    All,
}

/// A share of an inflow that changes by less than this changes nothing downstream.
const NEGLIGIBLE: f64 = 1e-9;

/// One of the worlds that look the same: another sign of the noise of each rate. Two
/// in turn are mirror images, so that no rate is off to the same side in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inkling(pub(super) u64);

impl Inkling {
    /// A rate three standard deviations of its count off, up or down by its position: a
    /// plan looks at the counts more than a thousand times a day, and what happens once
    /// in a thousand looks is the least that must not move anything.
    fn off(self, rate: f64, window: Span, position: usize) -> f64 {
        // Any mixing will do that gives neighbours unlike signs, the same every time.
        let mut mixed = (position as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 29) ^ (self.0 / 2)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let up = (mixed >> 37) & 1 == self.0 & 1;
        let noise = (1.5 * policy::noise(Rps::saturating(rate), window).get()).min(1.0);
        rate * if up { 1.0 + noise } else { 1.0 - noise }
    }
}

#[derive(Clone)]
struct Service {
    router: Router,
    /// Requests/s of one replica at full utilisation, where known.
    capacity: Option<f64>,
    /// CPU of one replica in thousandths of a core.
    cpu: f64,
    /// Nodes with so many of its replicas, by index.
    places: Vec<(NodeIndex, u32)>,
    /// Its callers are seen: its calls follow its inflow.
    follows: bool,
    /// Position in the order of calls.
    rank: u32,
    cost: f64,
}

#[derive(Clone)]
struct Leg {
    caller: WorkloadIndex,
    callee: WorkloadIndex,
    /// Exchanges per second.
    rate: f64,
    bytes_per_exchange: f64,
    /// Its demand follows the inflow of the caller.
    follows: bool,
}

/// Travel of the edges of one workload.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Touched {
    /// Requests/s x ms, price included.
    pub(super) cost: f64,
    /// US dollars per second.
    pub(super) usd: f64,
    /// Exchanges per second.
    pub(super) rate: f64,
}

/// The cost of a layout, kept up to date while replicas are tried elsewhere.
#[derive(Clone)]
pub(super) struct Objective<'v> {
    view: &'v View<'v>,
    zones: usize,
    pairs: Vec<Pair>,
    services: Vec<Service>,
    legs: Vec<Leg>,
    /// By workload and zone.
    counts: Vec<f64>,
    demand: Vec<f64>,
    inflow: Vec<f64>,
    /// By workload and pair of zones.
    weights: Vec<f64>,
    split: Vec<f64>,
    /// By edge and zone.
    leg_demand: Vec<f64>,
    /// By edge and pair of zones: sum of round trips over pairs of replicas.
    trips: Vec<f64>,
    /// Of it and the price: mean cost of one exchange.
    costs: Vec<f64>,
    node_cpu: Vec<f64>,
    node_cpu_limit: Vec<f64>,
    room: Vec<f64>,
    journal: Journal,
    total: f64,
}

/// What was overwritten, for taking a change back exactly.
#[derive(Clone, Default)]
struct Journal {
    entries: Vec<(Field, usize, usize)>,
    saved: Vec<f64>,
    shifts: Vec<Shift>,
    /// Length of the two lists above and the total when each change began.
    marks: Vec<(usize, usize, f64)>,
    /// Changes so far, those taken back included.
    changes: u64,
    /// By workload: the last change that saved what it is called with. What a change
    /// saves once need not be saved again by it.
    saved_by: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Field {
    Counts,
    Demand,
    Inflow,
    Weights,
    Split,
    LegDemand,
    Trips,
    Costs,
    Cost,
    NodeCpu,
}

impl<'v> Objective<'v> {
    /// The cost of the layout as it is, or will be when the moves under way have ended.
    pub(super) fn new(view: &'v View<'v>, safety: &Safety, memory: &Memory) -> Self {
        let zones = view.zones.len();
        let (workloads, edges) = (view.workloads.len(), view.edges.len());
        let ranks = ranks(view);
        let mut objective = Self {
            view,
            zones,
            pairs: split::pairs_by_cost(view),
            services: Vec::with_capacity(workloads),
            legs: Vec::with_capacity(edges),
            counts: vec![0.0; workloads * zones],
            demand: vec![0.0; workloads * zones],
            inflow: vec![0.0; workloads * zones],
            weights: vec![0.0; workloads * zones * zones],
            split: vec![0.0; workloads * zones * zones],
            leg_demand: vec![0.0; edges * zones],
            trips: vec![0.0; edges * zones * zones],
            costs: vec![0.0; edges * zones * zones],
            node_cpu: view
                .nodes
                .iter()
                .map(|node| FOREIGN_USE * node.node.reserved.cpu.as_f64())
                .collect(),
            node_cpu_limit: view.nodes.iter().map(|n| n.node.allocatable.cpu.as_f64()).collect(),
            room: vec![0.0; 3 * zones],
            journal: Journal { saved_by: vec![0; workloads], ..Journal::default() },
            total: 0.0,
        };
        for (at, rank) in ranks.iter().enumerate() {
            objective.add_service(WorkloadIndex::new(at), *rank, memory);
        }
        for (at, edge) in view.edges.iter().enumerate() {
            objective.add_leg(edge);
            objective.measure_trips(at);
        }
        objective.count_requests(safety, None);
        objective
    }

    /// The same layout in a world that looks the same: rates are off by as much as the
    /// counts of a window may be. Nothing may have been tried yet.
    pub(super) fn lookalike(&self, safety: &Safety, inkling: Inkling) -> Self {
        debug_assert!(self.journal.marks.is_empty());
        let mut world = self.clone();
        world.count_requests(safety, Some(inkling));
        world
    }

    /// What the layout costs now.
    pub(super) const fn total(&self) -> f64 {
        self.total
    }

    /// Replicas of a workload in a zone.
    pub(super) fn count(&self, workload: WorkloadIndex, zone: ZoneIndex) -> f64 {
        self.counts[workload.at() * self.zones + zone.at()]
    }

    /// Nodes that hold replicas of a workload, with how many.
    pub(super) fn places(&self, workload: WorkloadIndex) -> &[(NodeIndex, u32)] {
        &self.services[workload.at()].places
    }

    /// Whether its callers are seen: what is not called by anyone that is known serves
    /// someone whose place is not known, and no place is better than another.
    pub(super) fn is_called(&self, workload: WorkloadIndex) -> bool {
        self.services[workload.at()].follows
    }

    /// Exchanges per second on an edge.
    pub(super) fn leg_rate(&self, edge: EdgeIndex) -> f64 {
        self.legs[edge.at()].rate
    }

    /// Share of what a callee is sent that comes over an edge.
    pub(super) fn leg_share(&self, edge: EdgeIndex) -> f64 {
        let leg = &self.legs[edge.at()];
        let sent: f64 = self.slice(&self.demand, leg.callee).iter().sum();
        if sent > 0.0 { (leg.rate / sent).min(1.0) } else { 0.0 }
    }

    /// Used share of the CPU of a node.
    pub(super) fn node_use(&self, node: NodeIndex) -> f64 {
        self.node_cpu[node.at()] / self.node_cpu_limit[node.at()].max(1.0)
    }

    /// Whether nothing waits on a node.
    pub(super) fn is_calm(&self, node: NodeIndex) -> bool {
        self.node_use(node) <= CALM
    }

    /// What the work of a node waits, in the unit of the cost.
    pub(super) fn crowding(&self, node: NodeIndex) -> f64 {
        self.node_cost(node.at())
    }

    /// Travel and waiting of the calls to a workload.
    pub(super) fn service_cost(&self, workload: WorkloadIndex) -> f64 {
        self.services[workload.at()].cost
    }

    /// Travel of the edges of a workload, both sides.
    pub(super) fn touched(&self, workload: WorkloadIndex) -> Touched {
        let view = &self.view.workloads[workload.at()];
        let mut touched = Touched::default();
        for edge in view.called_by.iter().chain(&view.calls) {
            self.add_travel(edge.at(), &mut touched);
        }
        touched
    }

    /// Travel of one edge, requests/s x ms.
    pub(super) fn leg_cost(&self, edge: EdgeIndex) -> f64 {
        let mut touched = Touched::default();
        self.add_travel(edge.at(), &mut touched);
        touched.cost
    }

    fn add_travel(&self, edge: usize, touched: &mut Touched) {
        let leg = &self.legs[edge];
        let split = self.square(&self.split, leg.callee);
        for i in 0..self.zones {
            let demand = self.leg_demand[edge * self.zones + i];
            if demand <= 0.0 {
                continue;
            }
            touched.rate += demand;
            for j in 0..self.zones {
                let flow = demand * split[i * self.zones + j];
                if flow > 0.0 {
                    touched.cost += flow * self.trip(edge, i, j);
                    let price = self.view.price_per_byte(ZoneIndex::new(i), ZoneIndex::new(j));
                    touched.usd += flow * price * leg.bytes_per_exchange;
                }
            }
        }
    }

    /// Tries a replica elsewhere; the change of the cost.
    pub(super) fn shift(&mut self, shift: Shift, depth: Depth) -> f64 {
        let before = self.total;
        self.journal.marks.push((self.journal.entries.len(), self.journal.saved.len(), before));
        self.journal.shifts.push(shift);
        self.journal.changes += 1;
        let view = self.view;
        let calls = &view.workloads[shift.workload.at()].calls;
        for edge in calls {
            self.take_out(edge.at());
        }
        self.carry(shift);
        self.save_service(shift.workload);
        self.gather(shift.workload);
        self.route(shift.workload);
        let mut changed = BTreeSet::new();
        for edge in calls {
            self.put_in(edge.at(), &mut changed);
        }
        self.follow(changed, depth);
        self.total - before
    }

    /// Takes the last change back.
    pub(super) fn take_back(&mut self) {
        let Some((entries, saved, total)) = self.journal.marks.pop() else { return };
        while self.journal.entries.len() > entries {
            let Some((field, at, len)) = self.journal.entries.pop() else { break };
            let from = self.journal.saved.len() - len;
            match field {
                Field::Cost => self.services[at].cost = self.journal.saved[from],
                _ => {
                    let (journal, list) = self.list(field);
                    list[at..at + len].copy_from_slice(&journal.saved[from..]);
                }
            }
            self.journal.saved.truncate(from);
        }
        debug_assert_eq!(self.journal.saved.len(), saved);
        if let Some(shift) = self.journal.shifts.pop() {
            self.replace(shift.workload, shift.to, shift.from);
        }
        self.total = total;
    }

    /// All changes so far stand: they can no longer be taken back.
    pub(super) fn keep(&mut self) {
        let journal = &mut self.journal;
        journal.entries.clear();
        journal.saved.clear();
        journal.shifts.clear();
        journal.marks.clear();
    }

    /// The cost computed from nothing: what the running total must equal.
    #[cfg(test)]
    pub(super) fn recomputed(&self) -> f64 {
        let services: f64 = self.services.iter().map(|service| service.cost).sum();
        services + (0..self.node_cpu.len()).map(|node| self.node_cost(node)).sum::<f64>()
    }

    fn list(&mut self, field: Field) -> (&mut Journal, &mut Vec<f64>) {
        let list = match field {
            Field::Counts => &mut self.counts,
            Field::Demand => &mut self.demand,
            Field::Inflow => &mut self.inflow,
            Field::Weights => &mut self.weights,
            Field::Split => &mut self.split,
            Field::LegDemand => &mut self.leg_demand,
            Field::Trips => &mut self.trips,
            Field::Costs => &mut self.costs,
            Field::NodeCpu | Field::Cost => &mut self.node_cpu,
        };
        (&mut self.journal, list)
    }

    fn save(&mut self, field: Field, at: usize, len: usize) {
        let (journal, list) = self.list(field);
        journal.entries.push((field, at, len));
        journal.saved.extend_from_slice(&list[at..at + len]);
    }

    fn slice<'s>(&self, list: &'s [f64], workload: WorkloadIndex) -> &'s [f64] {
        &list[workload.at() * self.zones..][..self.zones]
    }

    fn square<'s>(&self, list: &'s [f64], workload: WorkloadIndex) -> &'s [f64] {
        let size = self.zones * self.zones;
        &list[workload.at() * size..][..size]
    }

    // ---- Building -----------------------------------------------------------------

    fn add_leg(&mut self, edge: &EdgeView<'_>) {
        let rank = |workload: WorkloadIndex| self.services[workload.at()].rank;
        self.legs.push(Leg {
            caller: edge.caller,
            callee: edge.callee,
            rate: 0.0,
            bytes_per_exchange: 0.0,
            follows: rank(edge.caller) < rank(edge.callee),
        });
    }

    fn add_service(&mut self, at: WorkloadIndex, rank: u32, memory: &Memory) {
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
            places,
            follows: false,
            rank,
            cost: 0.0,
        });
    }

    /// Sums of round trips over the pairs of replicas of an edge.
    fn measure_trips(&mut self, edge: usize) {
        let (caller, callee) = (self.legs[edge].caller, self.legs[edge].callee);
        let size = self.zones * self.zones;
        for at in 0..self.services[callee.at()].places.len() {
            let (node, count) = self.services[callee.at()].places[at];
            let to = self.view.nodes[node.at()].zone.at();
            for from in 0..self.zones {
                let sum = self.distance(caller, from, node);
                self.trips[edge * size + from * self.zones + to] += sum * f64::from(count);
            }
        }
    }

    /// Sum of the round trips from the replicas of a workload in a zone to a node.
    fn distance(&self, workload: WorkloadIndex, zone: usize, node: NodeIndex) -> f64 {
        let latency = &self.view.latency;
        let places = &self.services[workload.at()].places;
        if latency.has_node_pairs() {
            let here = places.iter().filter(|(at, _)| self.view.nodes[at.at()].zone.at() == zone);
            return here.map(|(at, n)| f64::from(*n) * latency.between_nodes(*at, node)).sum();
        }
        let to = self.view.nodes[node.at()].zone;
        let far = latency.between_zones(ZoneIndex::new(zone), to);
        let count = self.counts[workload.at() * self.zones + zone];
        if zone != to.at() {
            return count * far;
        }
        let same = places.binary_search_by_key(&node, |(at, _)| *at);
        let same = same.map_or(0.0, |at| f64::from(places[at].1));
        (count - same) * far + same * latency.between_nodes(node, node)
    }

    /// Takes over the requests that were counted, and splits them.
    fn count_requests(&mut self, safety: &Safety, inkling: Option<Inkling>) {
        self.leg_demand.fill(0.0);
        for edge in 0..self.legs.len() {
            self.count_leg(edge, inkling);
            for pair in 0..self.zones * self.zones {
                self.measure_cost(edge, pair / self.zones, pair % self.zones);
            }
        }
        for at in 0..self.services.len() {
            self.count_service(WorkloadIndex::new(at), safety);
            self.doubt_capacity(at, inkling);
        }
        self.settle();
    }

    fn count_leg(&mut self, at: usize, inkling: Option<Inkling>) {
        let edge = &self.view.edges[at];
        let exchanges = |requests: f64, bytes: f64| {
            if requests > 0.0 { requests } else { bytes / EXCHANGE_BYTES }
        };
        for route in &edge.routes {
            let rate = exchanges(route.requests, route.bytes);
            self.leg_demand[at * self.zones + route.from.at()] += rate;
        }
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

    fn count_service(&mut self, at: WorkloadIndex, safety: &Safety) {
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
    fn doubt_capacity(&mut self, at: usize, inkling: Option<Inkling>) {
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
    fn settle(&mut self) {
        let mut order: Vec<_> = (0..self.services.len()).map(WorkloadIndex::new).collect();
        order.sort_by_key(|workload| self.services[workload.at()].rank);
        for workload in order {
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

    // ---- Computing ----------------------------------------------------------------

    /// Mean cost of one exchange of an edge between two zones, price included.
    fn trip(&self, edge: usize, from: usize, to: usize) -> f64 {
        self.costs[(edge * self.zones + from) * self.zones + to]
    }

    /// Writes that cost down after what it depends on has changed.
    fn measure_cost(&mut self, edge: usize, from: usize, to: usize) {
        let at = (edge * self.zones + from) * self.zones + to;
        let leg = &self.legs[edge];
        let callers = self.counts[leg.caller.at() * self.zones + from];
        let callees = self.counts[leg.callee.at() * self.zones + to];
        let pairs = callers * callees;
        let (from_zone, to_zone) = (ZoneIndex::new(from), ZoneIndex::new(to));
        let cost = self.view.route_cost(from_zone, to_zone, leg.bytes_per_exchange);
        self.costs[at] = if pairs <= 0.0 || leg.caller == leg.callee {
            cost
        } else {
            cost - self.view.latency.between_zones(from_zone, to_zone) + self.trips[at] / pairs
        };
    }

    /// Writes the demand of an edge as its caller's inflow sends it, if it follows.
    fn send(&mut self, edge: usize) {
        let leg = &self.legs[edge];
        let inflow = &self.inflow[leg.caller.at() * self.zones..][..self.zones];
        let total: f64 = inflow.iter().sum();
        if leg.follows && self.services[leg.caller.at()].follows && total > 0.0 {
            let demand = &mut self.leg_demand[edge * self.zones..][..self.zones];
            for (demand, inflow) in demand.iter_mut().zip(inflow) {
                *demand = leg.rate * inflow / total;
            }
        }
    }

    /// Adds up demand and weights of a callee over its edges.
    fn gather(&mut self, workload: WorkloadIndex) {
        let (zones, size) = (self.zones, self.zones * self.zones);
        self.demand[workload.at() * zones..][..zones].fill(0.0);
        self.weights[workload.at() * size..][..size].fill(0.0);
        let view = self.view;
        for edge in &view.workloads[workload.at()].called_by {
            self.weigh(edge.at(), 1.0);
        }
    }

    /// Adds an edge to the demand and weights of its callee, or takes it out.
    fn weigh(&mut self, edge: usize, sign: f64) {
        let callee = self.legs[edge].callee.at();
        for from in 0..self.zones {
            let demand = self.leg_demand[edge * self.zones + from];
            if demand <= 0.0 {
                continue;
            }
            let sum = &mut self.demand[callee * self.zones + from];
            *sum = (*sum + sign * demand).max(0.0);
            let costs = &self.costs[(edge * self.zones + from) * self.zones..][..self.zones];
            let weights = &mut self.weights[(callee * self.zones + from) * self.zones..];
            for (weight, cost) in weights.iter_mut().zip(costs) {
                *weight += sign * demand * cost;
            }
        }
    }

    /// Splits the demand of a callee and takes its cost into the total.
    fn route(&mut self, workload: WorkloadIndex) {
        let (zones, size) = (self.zones, self.zones * self.zones);
        let (at, square) = (workload.at() * zones, workload.at() * size);
        let service = &self.services[workload.at()];
        let cap = self.view.policy.balancer.max_utilisation.get() / 100.0;
        let with = Splitting {
            router: service.router,
            pairs: &self.pairs,
            replica: service.capacity.map(|capacity| ability(capacity, cap)),
            reserve: self.view.policy.balancer.reserve,
        };
        split::split(
            &with,
            &self.demand[at..at + zones],
            &self.counts[at..at + zones],
            &mut self.room,
            &mut self.split[square..square + size],
        );
        let mut cost = 0.0;
        for to in 0..zones {
            let mut served = 0.0;
            for from in 0..zones {
                let pair = square + from * zones + to;
                served += self.demand[at + from] * self.split[pair];
                cost += self.weights[pair] * self.split[pair];
            }
            self.inflow[at + to] = served;
            if let Some(capacity) = service.capacity
                && served > 0.0
            {
                // A service time is the inverse of the capacity, in ms.
                let utilisation = served / (self.counts[at + to] * capacity).max(f64::EPSILON);
                cost += served * 1000.0 / capacity * waiting(utilisation);
            }
        }
        let service = &mut self.services[workload.at()];
        self.total += cost - service.cost;
        service.cost = cost;
    }

    fn node_cost(&self, node: usize) -> f64 {
        // A thousandth of a core is a millisecond of work each second: what all the
        // work of a node waits.
        let used = self.node_cpu[node];
        used * waiting(used / self.node_cpu_limit[node].max(1.0))
    }

    // ---- Changing -----------------------------------------------------------------

    fn replace(&mut self, workload: WorkloadIndex, from: NodeIndex, to: NodeIndex) {
        let places = &mut self.services[workload.at()].places;
        if let Ok(at) = places.binary_search_by_key(&from, |(node, _)| *node) {
            places[at].1 -= 1;
            if places[at].1 == 0 {
                places.remove(at);
            }
        }
        match places.binary_search_by_key(&to, |(node, _)| *node) {
            Ok(at) => places[at].1 += 1,
            Err(at) => places.insert(at, (to, 1)),
        }
    }

    /// Carries one replica over: counts, round trips, load of nodes.
    fn carry(&mut self, shift: Shift) {
        let Shift { workload, from, to } = shift;
        let view = self.view;
        let size = self.zones * self.zones;
        let (zone_from, zone_to) = (view.nodes[from.at()].zone.at(), view.nodes[to.at()].zone.at());
        self.save(Field::Counts, workload.at() * self.zones, self.zones);
        for edge in &view.workloads[workload.at()].called_by {
            let caller = self.legs[edge.at()].caller;
            if caller == workload {
                continue;
            }
            self.save(Field::Trips, edge.at() * size, size);
            for zone in 0..self.zones {
                let row = edge.at() * size + zone * self.zones;
                self.trips[row + zone_from] -= self.distance(caller, zone, from);
                self.trips[row + zone_to] += self.distance(caller, zone, to);
            }
        }
        for edge in &view.workloads[workload.at()].calls {
            let callee = self.legs[edge.at()].callee;
            if callee == workload {
                continue;
            }
            self.save(Field::Trips, edge.at() * size, size);
            for zone in 0..self.zones {
                let column = edge.at() * size + zone;
                self.trips[column + zone_from * self.zones] -= self.distance(callee, zone, from);
                self.trips[column + zone_to * self.zones] += self.distance(callee, zone, to);
            }
        }
        self.counts[workload.at() * self.zones + zone_from] -= 1.0;
        self.counts[workload.at() * self.zones + zone_to] += 1.0;
        for edge in &view.workloads[workload.at()].called_by {
            self.save(Field::Costs, edge.at() * size, size);
            for from in 0..self.zones {
                self.measure_cost(edge.at(), from, zone_from);
                self.measure_cost(edge.at(), from, zone_to);
            }
        }
        for edge in &view.workloads[workload.at()].calls {
            self.save(Field::Costs, edge.at() * size, size);
            for to in 0..self.zones {
                self.measure_cost(edge.at(), zone_from, to);
                self.measure_cost(edge.at(), zone_to, to);
            }
        }
        self.replace(workload, from, to);
        let cpu = self.services[workload.at()].cpu;
        for (node, change) in [(from, -cpu), (to, cpu)] {
            self.save(Field::NodeCpu, node.at(), 1);
            let before = self.node_cost(node.at());
            self.node_cpu[node.at()] += change;
            self.total += self.node_cost(node.at()) - before;
        }
    }

    /// Follows changes of demand down the calls. Each callee is split anew once, since
    /// what follows goes up in rank only.
    fn follow(&mut self, mut changed: BTreeSet<(u32, WorkloadIndex)>, depth: Depth) {
        let view = self.view;
        let mut before = vec![0.0; self.zones];
        while let Some((_, callee)) = changed.pop_first() {
            before.copy_from_slice(self.slice(&self.inflow, callee));
            self.route(callee);
            if depth == Depth::Neighbours || !self.services[callee.at()].follows {
                continue;
            }
            let after = self.slice(&self.inflow, callee);
            let negligible = NEGLIGIBLE * after.iter().sum::<f64>();
            if before.iter().zip(after).all(|(b, a)| (b - a).abs() <= negligible) {
                continue;
            }
            for edge in &view.workloads[callee.at()].calls {
                if self.legs[edge.at()].follows {
                    self.take_out(edge.at());
                    self.put_in(edge.at(), &mut changed);
                }
            }
        }
    }

    /// Takes an edge out of the demand of its callee, before something of it changes.
    fn take_out(&mut self, edge: usize) {
        if self.legs[edge].caller != self.legs[edge].callee {
            self.save_service(self.legs[edge].callee);
            self.weigh(edge, -1.0);
        }
    }

    /// Puts it back as it is now, with the demand that its caller sends now.
    fn put_in(&mut self, edge: usize, changed: &mut BTreeSet<(u32, WorkloadIndex)>) {
        let callee = self.legs[edge].callee;
        if self.legs[edge].caller != callee {
            self.save(Field::LegDemand, edge * self.zones, self.zones);
            self.send(edge);
            self.weigh(edge, 1.0);
            changed.insert((self.services[callee.at()].rank, callee));
        }
    }

    fn save_service(&mut self, workload: WorkloadIndex) {
        if self.journal.saved_by[workload.at()] == self.journal.changes {
            return;
        }
        self.journal.saved_by[workload.at()] = self.journal.changes;
        let (zones, size) = (self.zones, self.zones * self.zones);
        self.save(Field::Demand, workload.at() * zones, zones);
        self.save(Field::Inflow, workload.at() * zones, zones);
        self.save(Field::Weights, workload.at() * size, size);
        self.save(Field::Split, workload.at() * size, size);
        self.journal.entries.push((Field::Cost, workload.at(), 1));
        self.journal.saved.push(self.services[workload.at()].cost);
    }
}

/// The nodes of the replicas of a workload, in their order, when the move under way has
/// ended.
fn nodes_to_be(view: &View<'_>, at: WorkloadIndex, memory: &Memory) -> Vec<NodeIndex> {
    let workload = &view.workloads[at.at()];
    let record = memory.workloads.get(&workload.workload.id).and_then(|w| w.in_flight.as_ref());
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

/// Positions in the order of calls: a caller before its callees, except on edges that
/// close a cycle. Depth first from the workloads that nobody calls, then from the
/// others, each by index.
fn ranks(view: &View<'_>) -> Vec<u32> {
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
    let mut ranks = vec![0; count];
    for (position, at) in finished.into_iter().rev().enumerate() {
        ranks[at] = u32::try_from(position).unwrap_or(u32::MAX);
    }
    ranks
}
