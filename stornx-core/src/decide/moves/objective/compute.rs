//! What a callee costs for the demand and the layout that are written down.

use super::{
    super::split::{self, Splitting},
    Leg, Objective, Service, ability, waiting,
};
use crate::view::{View, WorkloadIndex, ZoneIndex};

/// Adds what an edge sends from one zone to the demand of its callee from there, and to the
/// weights of its ways, or takes it out.
pub(super) fn weigh(sign: f64, rate: f64, costs: &[f64], demand: &mut f64, weights: &mut [f64]) {
    if rate <= 0.0 {
        return;
    }
    *demand = (*demand + sign * rate).max(0.0);
    for (weight, cost) in weights.iter_mut().zip(costs) {
        *weight += sign * rate * cost;
    }
}

/// What a callee costs is decided by.
pub(super) struct Callee<'a> {
    pub(super) with: Splitting<'a>,
    pub(super) capacity: Option<f64>,
    /// By zone of the caller.
    pub(super) demand: &'a [f64],
    /// Replicas by zone.
    pub(super) counts: &'a [f64],
    /// By pair of zones.
    pub(super) weights: &'a [f64],
}

impl Callee<'_> {
    /// Splits the demand; the cost. Writes the split and what each zone serves.
    pub(super) fn serve(&self, room: &mut [f64], split: &mut [f64], inflow: &mut [f64]) -> f64 {
        let zones = self.counts.len();
        split::split(&self.with, self.demand, self.counts, room, split);
        let mut cost = 0.0;
        for (to, inflow) in inflow.iter_mut().enumerate() {
            let mut served = 0.0;
            for from in 0..zones {
                let pair = from * zones + to;
                served += self.demand[from] * split[pair];
                cost += self.weights[pair] * split[pair];
            }
            *inflow = served;
            if let Some(capacity) = self.capacity
                && served > 0.0
            {
                // A service time is the inverse of the capacity, in ms.
                let utilisation = served / (self.counts[to] * capacity).max(f64::EPSILON);
                cost += served * 1000.0 / capacity * waiting(utilisation);
            }
        }
        cost
    }
}

/// Mean cost of one exchange of an edge between two zones, price included, for so many pairs of
/// replicas, `trips` being the sum of their round trips.
#[inline]
pub(super) fn cost_between(
    view: &View<'_>,
    leg: &Leg,
    (from, to): (usize, usize),
    pairs: f64,
    trips: f64,
) -> f64 {
    let (from, to) = (ZoneIndex::new(from), ZoneIndex::new(to));
    let cost = view.route_cost(from, to, leg.bytes_per_exchange);
    if pairs <= 0.0 || leg.caller == leg.callee {
        cost
    } else {
        cost - view.latency.between_zones(from, to) + trips / pairs
    }
}

impl Objective<'_> {
    /// Mean cost of one exchange of an edge between two zones, price included.
    pub(super) fn trip(&self, edge: usize, from: usize, to: usize) -> f64 {
        self.costs[(edge * self.zones + from) * self.zones + to]
    }

    /// Writes that cost down after what it depends on has changed.
    pub(super) fn measure_cost(&mut self, edge: usize, from: usize, to: usize) {
        let at = (edge * self.zones + from) * self.zones + to;
        let leg = &self.legs[edge];
        let callers = self.counts[leg.caller.at() * self.zones + from];
        let callees = self.counts[leg.callee.at() * self.zones + to];
        self.costs[at] =
            cost_between(self.view, leg, (from, to), callers * callees, self.trips[at]);
    }

    /// The same between all zones.
    pub(super) fn measure_costs(&mut self, edge: usize) {
        let (zones, size) = (self.zones, self.zones * self.zones);
        let (view, leg) = (self.view, &self.legs[edge]);
        let callers = &self.counts[leg.caller.at() * zones..][..zones];
        let callees = &self.counts[leg.callee.at() * zones..][..zones];
        let trips = self.trips[edge * size..][..size].chunks_exact(zones.max(1));
        let costs = self.costs[edge * size..][..size].chunks_exact_mut(zones.max(1));
        for (from, ((costs, trips), callers)) in costs.zip(trips).zip(callers).enumerate() {
            let row = costs.iter_mut().zip(trips).zip(callees).enumerate();
            for (to, ((cost, trips), callees)) in row {
                *cost = cost_between(view, leg, (from, to), callers * callees, *trips);
            }
        }
    }

    /// Writes the demand of an edge as its caller's inflow sends it, if it follows.
    pub(super) fn send(&mut self, edge: usize) {
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
    pub(super) fn gather(&mut self, workload: WorkloadIndex) {
        let (zones, size) = (self.zones, self.zones * self.zones);
        self.demand[workload.at() * zones..][..zones].fill(0.0);
        self.weights[workload.at() * size..][..size].fill(0.0);
        let view = self.view;
        for edge in &view.workloads[workload.at()].called_by {
            self.weigh(edge.at(), 1.0);
        }
    }

    /// Adds an edge to the demand and weights of its callee, or takes it out.
    pub(super) fn weigh(&mut self, edge: usize, sign: f64) {
        let (zones, size) = (self.zones, self.zones * self.zones);
        let callee = self.legs[edge].callee.at();
        let demand = &mut self.demand[callee * zones..][..zones];
        let weights = &mut self.weights[callee * size..][..size];
        let rates = &self.leg_demand[edge * zones..][..zones];
        for (from, rate) in rates.iter().enumerate() {
            let costs = &self.costs[(edge * zones + from) * zones..][..zones];
            weigh(sign, *rate, costs, &mut demand[from], &mut weights[from * zones..][..zones]);
        }
    }

    /// What splitting needs to know of a service.
    pub(super) fn splitting(&self, service: &Service) -> Splitting<'_> {
        let cap = self.view.policy.balancer.max_utilisation.get() / 100.0;
        Splitting {
            router: service.router,
            pairs: &self.pairs,
            replica: service.capacity.map(|capacity| ability(capacity, cap)),
            reserve: self.view.policy.balancer.reserve,
        }
    }

    /// Splits the demand of a callee and takes its cost into the total.
    pub(super) fn route(&mut self, workload: WorkloadIndex) {
        let (zones, size) = (self.zones, self.zones * self.zones);
        let (at, square) = (workload.at() * zones, workload.at() * size);
        // Taken out while the rest is read.
        let mut room = std::mem::take(&mut self.room);
        let mut split = std::mem::take(&mut self.split);
        let mut inflow = std::mem::take(&mut self.inflow);
        let service = &self.services[workload.at()];
        let cost = Callee {
            with: self.splitting(service),
            capacity: service.capacity,
            demand: &self.demand[at..at + zones],
            counts: &self.counts[at..at + zones],
            weights: &self.weights[square..square + size],
        }
        .serve(&mut room, &mut split[square..square + size], &mut inflow[at..at + zones]);
        (self.room, self.split, self.inflow) = (room, split, inflow);
        let service = &mut self.services[workload.at()];
        self.total += cost - service.cost;
        service.cost = cost;
    }

    pub(super) fn node_cost(&self, node: usize) -> f64 {
        self.node_cost_of(node, self.node_cpu[node])
    }

    /// What the work of a node waits that uses so much.
    pub(super) fn node_cost_of(&self, node: usize, used: f64) -> f64 {
        // A thousandth of a core is a millisecond of work each second: what all the
        // work of a node waits.
        used * waiting(used / self.node_cpu_limit[node].max(1.0))
    }
}
