//! What one replica elsewhere would change, without making the change: the same number, to
//! the last bit, as [`Objective::shift`] to [`Depth::Neighbours`](super::Depth) gives.
//!
//! A workload is tried between all pairs of zones, and most of what that takes depends on
//! one of the two ends only: the ways from the node that is left, the ways to the node that
//! is gone to. These are found once for each end. What is summed is summed in the order in
//! which a change does it, so that nothing differs by rounding.

use super::{
    Objective, Shift,
    compute::{Callee, cost_between, weigh},
};
use crate::view::{NodeIndex, WorkloadIndex};

/// What a move changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::decide::moves) struct Trial {
    /// The cost of the layout.
    pub(in crate::decide::moves) total: f64,
    /// Of it, the cost of the calls to the workload that moves.
    pub(in crate::decide::moves) own: f64,
}

/// How far a node is from what the workload talks to.
#[derive(Debug, Clone, Default)]
struct Far {
    node: Option<NodeIndex>,
    /// Sums of round trips from the replicas of each caller, and to those of each callee, by
    /// edge and zone.
    sums: Vec<f64>,
}

/// The ways to and from one zone, after a replica has left a node there, come to one, or
/// both.
#[derive(Debug, Clone, Default)]
struct Ways {
    /// Weights of the calls to the zone, by zone of the caller.
    weights: Vec<f64>,
    /// Costs of the calls from it, by call and zone of the callee.
    costs: Vec<f64>,
}

/// One node that the replica leaves or goes to, in one zone.
#[derive(Debug, Clone, Default)]
struct End {
    far: Far,
    /// Where nothing else changes in the zone; what it holds is of another node unless it
    /// is known.
    ways: Ways,
    known: bool,
}

/// A call of the workload to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    /// Of the callee, in the order of calls.
    rank: u32,
    callee: WorkloadIndex,
    /// Among the calls of the workload.
    position: usize,
    edge: usize,
}

/// Tries moves of one workload after the other on an objective that stays as it is
/// meanwhile.
#[derive(Debug, Clone, Default)]
pub(in crate::decide::moves) struct Trials {
    zones: usize,
    workload: Option<WorkloadIndex>,
    /// By zone of the caller, and by pair of zones: as they are.
    demand: Vec<f64>,
    weights: Vec<f64>,
    /// Calls to others, those to one of them next to each other, in the order in which a
    /// change follows them.
    calls: Vec<Call>,
    /// Demand and weights of each callee without them, at the place of its first call.
    rest_demand: Vec<f64>,
    rest_weights: Vec<f64>,
    /// By zone.
    leaving: Vec<End>,
    coming: Vec<End>,
    /// Both in one zone.
    within: Ways,
    scratch: Scratch,
}

#[derive(Debug, Clone, Default)]
struct Scratch {
    counts: Vec<f64>,
    room: Vec<f64>,
    split: Vec<f64>,
    inflow: Vec<f64>,
    served: Vec<f64>,
    demand: Vec<f64>,
    weights: Vec<f64>,
    rates: Vec<f64>,
}

impl Trials {
    /// Takes on a workload. To be called again once anything was changed.
    pub(in crate::decide::moves) fn of(
        &mut self,
        objective: &Objective<'_>,
        workload: WorkloadIndex,
    ) {
        let zones = objective.zones;
        if self.zones != zones {
            self.resize(zones);
        }
        self.workload = Some(workload);
        for end in self.leaving.iter_mut().chain(&mut self.coming) {
            end.far.node = None;
        }
        let size = zones * zones;
        self.demand.fill(0.0);
        self.weights.fill(0.0);
        let joined = &objective.view.workloads[workload.at()];
        for edge in &joined.called_by {
            let rates = &objective.leg_demand[edge.at() * zones..][..zones];
            for (from, rate) in rates.iter().enumerate() {
                let costs = &objective.costs[(edge.at() * zones + from) * zones..][..zones];
                let weights = &mut self.weights[from * zones..][..zones];
                weigh(1.0, *rate, costs, &mut self.demand[from], weights);
            }
        }
        self.calls.clear();
        for (position, edge) in joined.calls.iter().enumerate() {
            let callee = objective.legs[edge.at()].callee;
            if callee != workload {
                let rank = objective.services[callee.at()].rank;
                self.calls.push(Call { rank, callee, position, edge: edge.at() });
            }
        }
        self.calls.sort_unstable();
        self.rest_demand.clear();
        self.rest_weights.clear();
        let mut start = 0;
        for (at, call) in self.calls.iter().enumerate() {
            if at == 0 || self.calls[at - 1].callee != call.callee {
                start = at;
            }
            // Room for each call is simpler than a list of callees.
            self.rest_demand.extend_from_slice(objective.slice(&objective.demand, call.callee));
            self.rest_weights.extend_from_slice(objective.square(&objective.weights, call.callee));
            let rates = &objective.leg_demand[call.edge * zones..][..zones];
            for (from, rate) in rates.iter().enumerate() {
                let costs = &objective.costs[(call.edge * zones + from) * zones..][..zones];
                let weights = &mut self.rest_weights[start * size + from * zones..][..zones];
                weigh(-1.0, *rate, costs, &mut self.rest_demand[start * zones + from], weights);
            }
        }
    }

    fn resize(&mut self, zones: usize) {
        let size = zones * zones;
        let by_zone = || vec![0.0; zones];
        let ways = || Ways { weights: by_zone(), costs: Vec::new() };
        let end = End { ways: ways(), ..End::default() };
        *self = Self {
            zones,
            demand: by_zone(),
            weights: vec![0.0; size],
            leaving: vec![end.clone(); zones],
            coming: vec![end; zones],
            within: ways(),
            scratch: Scratch {
                counts: by_zone(),
                room: vec![0.0; 3 * zones],
                split: vec![0.0; size],
                inflow: by_zone(),
                served: by_zone(),
                demand: by_zone(),
                weights: vec![0.0; size],
                rates: by_zone(),
            },
            ..Self::default()
        };
    }

    /// What a move would change. The workload that was taken on must be the one that moves.
    pub(in crate::decide::moves) fn shift(
        &mut self,
        objective: &Objective<'_>,
        shift: Shift,
    ) -> Trial {
        let Shift { workload, from, to } = shift;
        debug_assert_eq!(self.workload, Some(workload));
        let zone_of = |node: NodeIndex| objective.view.nodes[node.at()].zone.at();
        let (left, gone_to) = (zone_of(from), zone_of(to));
        let at = Around { objective, workload, calls: &self.calls };
        let (leaving, coming) = (&mut self.leaving[left], &mut self.coming[gone_to]);
        at.measure(from, leaving);
        at.measure(to, coming);
        if left == gone_to {
            at.weigh(left, (Some(&leaving.far), Some(&coming.far)), &mut self.within);
        } else {
            if !std::mem::replace(&mut leaving.known, true) {
                at.weigh(left, (Some(&leaving.far), None), &mut leaving.ways);
            }
            if !std::mem::replace(&mut coming.known, true) {
                at.weigh(gone_to, (None, Some(&coming.far)), &mut coming.ways);
            }
        }
        self.add_up(objective, shift, left, gone_to)
    }

    /// Adds up what changes, in the order in which a change does.
    fn add_up(
        &mut self,
        objective: &Objective<'_>,
        Shift { workload, from, to }: Shift,
        left: usize,
        gone_to: usize,
    ) -> Trial {
        let zones = self.zones;
        let mut total = objective.total;
        let service = &objective.services[workload.at()];
        for (node, change) in [(from.at(), -service.cpu), (to.at(), service.cpu)] {
            let used = objective.node_cpu[node] + change;
            total += objective.node_cost_of(node, used) - objective.node_cost(node);
        }
        let Scratch { counts, room, split, inflow, served, demand, weights, rates } =
            &mut self.scratch;
        counts.copy_from_slice(objective.slice(&objective.counts, workload));
        counts[left] -= 1.0;
        counts[gone_to] += 1.0;
        weights.copy_from_slice(&self.weights);
        let ends = if left == gone_to {
            [(left, &self.within), (left, &self.within)]
        } else {
            [(left, &self.leaving[left].ways), (gone_to, &self.coming[gone_to].ways)]
        };
        for (zone, ways) in &ends {
            for (caller, weight) in ways.weights.iter().enumerate() {
                weights[caller * zones + zone] = *weight;
            }
        }
        let own = Callee {
            with: objective.splitting(service),
            capacity: service.capacity,
            demand: &self.demand,
            counts,
            weights,
        }
        .serve(room, split, inflow);
        total += own - service.cost;
        let entered: f64 = inflow.iter().sum();
        let mut at = 0;
        while at < self.calls.len() {
            let callee = self.calls[at].callee;
            demand.copy_from_slice(&self.rest_demand[at * zones..][..zones]);
            weights.copy_from_slice(&self.rest_weights[at * zones * zones..][..zones * zones]);
            while let Some(call) = self.calls.get(at).filter(|call| call.callee == callee) {
                let leg = &objective.legs[call.edge];
                let sent = &objective.leg_demand[call.edge * zones..][..zones];
                if leg.follows && service.follows && entered > 0.0 {
                    for (rate, inflow) in rates.iter_mut().zip(inflow.iter()) {
                        *rate = leg.rate * inflow / entered;
                    }
                } else {
                    rates.copy_from_slice(sent);
                }
                for (zone, rate) in rates.iter().enumerate() {
                    let changed = ends.iter().find(|(end, _)| *end == zone);
                    let costs = match changed {
                        Some((_, ways)) => &ways.costs[at * zones..][..zones],
                        None => &objective.costs[(call.edge * zones + zone) * zones..][..zones],
                    };
                    let weights = &mut weights[zone * zones..][..zones];
                    weigh(1.0, *rate, costs, &mut demand[zone], weights);
                }
                at += 1;
            }
            let service = &objective.services[callee.at()];
            let cost = Callee {
                with: objective.splitting(service),
                capacity: service.capacity,
                demand,
                counts: objective.slice(&objective.counts, callee),
                weights,
            }
            .serve(room, split, served);
            total += cost - service.cost;
        }
        Trial { total: total - objective.total, own: own - service.cost }
    }
}

/// A workload and what it talks to.
#[derive(Clone, Copy)]
struct Around<'a> {
    objective: &'a Objective<'a>,
    workload: WorkloadIndex,
    calls: &'a [Call],
}

impl Around<'_> {
    /// Measures how far a node is, unless that is known.
    fn measure(self, node: NodeIndex, end: &mut End) {
        if end.far.node == Some(node) {
            return;
        }
        end.far.node = Some(node);
        end.known = false;
        let Self { objective, workload, calls } = self;
        let zones = objective.zones;
        let callers = &objective.view.workloads[workload.at()].called_by;
        end.far.sums.resize((callers.len() + calls.len()) * zones, 0.0);
        let callers = callers.iter().map(|edge| objective.legs[edge.at()].caller);
        let others = callers.chain(calls.iter().map(|call| call.callee));
        for (other, sums) in others.zip(end.far.sums.chunks_exact_mut(zones)) {
            if other != workload {
                objective.distances(other, node, sums);
            }
        }
    }

    /// Weighs the calls to a zone and finds the costs of those from it, after a replica has
    /// left a node there, come to one, or both.
    fn weigh(self, zone: usize, (leaves, comes): (Option<&Far>, Option<&Far>), ways: &mut Ways) {
        let Self { objective, workload, calls } = self;
        let zones = objective.zones;
        // Sums change in this order.
        let trips = |at: usize, place: usize| {
            let trips = objective.trips[at];
            let trips = leaves.map_or(trips, |far| trips - far.sums[place]);
            comes.map_or(trips, |far| trips + far.sums[place])
        };
        let here = objective.counts[workload.at() * zones + zone];
        let here = if leaves.is_some() { here - 1.0 } else { here };
        let here = if comes.is_some() { here + 1.0 } else { here };
        ways.weights.fill(0.0);
        let callers = &objective.view.workloads[workload.at()].called_by;
        for (position, edge) in callers.iter().enumerate() {
            let leg = &objective.legs[edge.at()];
            let counts = objective.slice(&objective.counts, leg.caller);
            for (from, weight) in ways.weights.iter_mut().enumerate() {
                let rate = objective.leg_demand[edge.at() * zones + from];
                if rate <= 0.0 {
                    continue;
                }
                let trips =
                    trips((edge.at() * zones + from) * zones + zone, position * zones + from);
                let cost =
                    cost_between(objective.view, leg, (from, zone), counts[from] * here, trips);
                *weight += rate * cost;
            }
        }
        ways.costs.clear();
        for (position, call) in calls.iter().enumerate() {
            let leg = &objective.legs[call.edge];
            let counts = objective.slice(&objective.counts, leg.callee);
            for (to, count) in counts.iter().enumerate() {
                let place = (callers.len() + position) * zones + to;
                let trips = trips((call.edge * zones + zone) * zones + to, place);
                ways.costs.push(cost_between(objective.view, leg, (zone, to), here * count, trips));
            }
        }
    }
}
