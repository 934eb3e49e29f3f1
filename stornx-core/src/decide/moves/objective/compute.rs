//! What a callee costs for the demand and the layout that are written down.

use super::{
    super::split::{self, Splitting},
    Objective, ability, waiting,
};
use crate::view::{WorkloadIndex, ZoneIndex};

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
    pub(super) fn route(&mut self, workload: WorkloadIndex) {
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

    pub(super) fn node_cost(&self, node: usize) -> f64 {
        // A thousandth of a core is a millisecond of work each second: what all the
        // work of a node waits.
        let used = self.node_cpu[node];
        used * waiting(used / self.node_cpu_limit[node].max(1.0))
    }
}
