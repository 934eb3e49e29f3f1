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
//! exactly. [`Depth::Neighbours`] stops after the direct callees, for ranking; where nothing
//! is to be built on a change, [`Trials`] finds the same number without making it.
//!
//! Moves under way count as done: the victim is gone, its replacement serves. What
//! comes next is decided on the layout that they will leave.
//!
//! Assumes that calls of a workload follow its inflow, zone by zone, in proportion.
//! Edges that close a cycle keep the demand that was observed.

mod build;
mod change;
mod compute;
mod journal;
mod pending;
mod trial;

use std::sync::Arc;

pub(super) use self::trial::Trials;
use self::{
    build::{counted, order},
    journal::Journal,
    pending::Pending,
};
use super::split::{self, Ability, Pair, Router};
use crate::{
    decide::safety::Safety,
    policy,
    units::{Rps, Span},
    view::{EdgeIndex, NodeIndex, Remembered, View, WorkloadIndex, ZoneIndex},
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
    /// Nodes with so many of its replicas, by index. Shared with worlds that look the same until
    /// one of them changes it.
    places: Arc<Vec<(NodeIndex, u32)>>,
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

#[derive(Clone)]
struct Scratch {
    /// By zone.
    inflow: Vec<f64>,
    from: Vec<f64>,
    to: Vec<f64>,
    /// Positions in the order of calls of those whose demand has changed.
    changed: Pending,
}

impl Scratch {
    fn new(zones: usize, workloads: usize) -> Self {
        let by_zone = vec![0.0; zones];
        Self {
            inflow: by_zone.clone(),
            from: by_zone.clone(),
            to: by_zone,
            changed: Pending::new(workloads),
        }
    }
}

/// The cost of a layout, kept up to date while replicas are tried elsewhere.
#[derive(Clone)]
pub(super) struct Objective<'v> {
    view: &'v View<'v>,
    zones: usize,
    pairs: Arc<[Pair]>,
    /// Workloads in the order of calls.
    order: Arc<[WorkloadIndex]>,
    /// Exchanges per second as they were counted, by edge and zone of the caller.
    counted: Arc<[f64]>,
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
    /// Used again for one change after the other.
    scratch: Scratch,
    journal: Journal,
    total: f64,
}

impl<'v> Objective<'v> {
    /// The cost of the layout as it is, or will be when the moves under way have ended.
    pub(super) fn new(view: &'v View<'v>, safety: &Safety, memory: &Remembered<'_>) -> Self {
        let zones = view.zones.len();
        let (workloads, edges) = (view.workloads.len(), view.edges.len());
        let order = order(view);
        let mut ranks = vec![0; workloads];
        for (rank, at) in (0..).zip(order.iter()) {
            ranks[at.at()] = rank;
        }
        let mut objective = Self {
            view,
            zones,
            pairs: split::pairs_by_cost(view).into(),
            order,
            counted: counted(view),
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
            scratch: Scratch::new(zones, workloads),
            journal: Journal::new(workloads),
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
        // What counting writes is not copied.
        let blank = |list: &[f64]| vec![0.0; list.len()];
        let mut world = Self {
            pairs: self.pairs.clone(),
            order: self.order.clone(),
            counted: self.counted.clone(),
            services: self.services.clone(),
            legs: self.legs.clone(),
            counts: self.counts.clone(),
            demand: blank(&self.demand),
            inflow: blank(&self.inflow),
            weights: blank(&self.weights),
            split: blank(&self.split),
            leg_demand: blank(&self.leg_demand),
            trips: self.trips.clone(),
            costs: blank(&self.costs),
            node_cpu: self.node_cpu.clone(),
            node_cpu_limit: self.node_cpu_limit.clone(),
            room: self.room.clone(),
            scratch: Scratch::new(self.zones, self.services.len()),
            journal: Journal::new(self.services.len()),
            ..*self
        };
        world.count_requests(safety, Some(inkling));
        world
    }

    /// The same made of a copy of everything.
    #[cfg(test)]
    pub(super) fn lookalike_of_copy(&self, safety: &Safety, inkling: Inkling) -> Self {
        let mut world = self.clone();
        world.count_requests(safety, Some(inkling));
        world
    }

    /// All numbers that it keeps, and where replicas are.
    #[cfg(test)]
    pub(super) fn contents(&self) -> (Vec<u64>, Vec<Vec<(NodeIndex, u32)>>) {
        let lists = [
            &self.counts,
            &self.demand,
            &self.inflow,
            &self.weights,
            &self.split,
            &self.leg_demand,
            &self.trips,
            &self.costs,
            &self.node_cpu,
        ];
        let costs = self.services.iter().map(|service| service.cost).chain([self.total]);
        let numbers = lists.into_iter().flatten().copied().chain(costs);
        let places = self.services.iter().map(|service| service.places.to_vec());
        (numbers.map(f64::to_bits).collect(), places.collect())
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
    #[cfg(test)]
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

    /// The cost computed from nothing: what the running total must equal.
    #[cfg(test)]
    pub(super) fn recomputed(&self) -> f64 {
        let services: f64 = self.services.iter().map(|service| service.cost).sum();
        services + (0..self.node_cpu.len()).map(|node| self.node_cost(node)).sum::<f64>()
    }

    fn slice<'s>(&self, list: &'s [f64], workload: WorkloadIndex) -> &'s [f64] {
        &list[workload.at() * self.zones..][..self.zones]
    }

    fn square<'s>(&self, list: &'s [f64], workload: WorkloadIndex) -> &'s [f64] {
        let size = self.zones * self.zones;
        &list[workload.at() * size..][..size]
    }
}
