//! Where the next replicas of a workload would best go, whoever asks for them: what pods
//! are told that an autoscaler, a rollout or a person makes. A wish, not a promise: no
//! room is taken in the ledger.
//!
//! The same rules as for replicas of our own, over fewer nodes: of each zone the least
//! used one that takes the workload, and those that hold a neighbour. So it takes time in
//! proportion to zones and neighbours, and can be done for every workload in every cycle.

use super::{
    TIE, Travel,
    layout::Layout,
    spread::{Verdict, counted_zones, verdicts},
};
use crate::{
    decide::{ledger::Ledger, moves::Destinations, place::used_share},
    view::{NodeIndex, View, WorkloadIndex, ZoneIndex, admits},
};

/// How many replicas a cycle looks ahead: what an autoscaler adds in one step of most.
pub(crate) const AHEAD: usize = 3;

/// A node that could take a replica.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    node: NodeIndex,
    zone: ZoneIndex,
    cost: f64,
}

/// What the candidates of a zone cost.
#[derive(Debug, Clone, Copy)]
struct Offer {
    /// Whether there are any.
    candidates: bool,
    least: f64,
    /// The largest amount.
    scale: f64,
}

impl Offer {
    const NONE: Self = Self { candidates: false, least: f64::INFINITY, scale: 0.0 };

    fn add(&mut self, cost: f64) {
        self.candidates = true;
        self.least = self.least.min(cost);
        self.scale = self.scale.max(cost.abs());
    }
}

/// Chooses the nodes for one workload after the other.
pub(crate) struct Next<'a> {
    view: &'a View<'a>,
    ledger: &'a Ledger,
    destinations: &'a Destinations,
    /// Whether a node has no rule that could keep a replica off.
    plain: Vec<bool>,
    travel: Travel,
    candidates: Vec<Candidate>,
}

impl<'a> Next<'a> {
    pub(crate) fn new(
        view: &'a View<'a>,
        ledger: &'a Ledger,
        destinations: &'a Destinations,
    ) -> Self {
        let plain = view.nodes.iter().map(|node| node.open() && node.node.taints.is_empty());
        Self {
            view,
            ledger,
            destinations,
            plain: plain.collect(),
            travel: Travel::empty(view),
            candidates: Vec::new(),
        }
    }

    /// The nodes for up to [`AHEAD`] further replicas, the first first.
    pub(crate) fn of(&mut self, workload: WorkloadIndex) -> Vec<NodeIndex> {
        let view = self.view;
        let mut layout = Layout::of(view, workload);
        let travels = self.travel.fill(view, workload);
        let counted = counted_zones(view, workload);
        self.look_at_neighbours(workload);
        let mut least_used: Vec<Option<NodeIndex>> =
            (0..view.zones.len()).map(|zone| self.least_used(workload, zone, &[])).collect();
        let mut chosen: Vec<NodeIndex> = Vec::with_capacity(AHEAD);
        for _ in 0..AHEAD {
            if let Some(last) = chosen.last() {
                // What was found stays the least used one until it is chosen.
                for (zone, found) in least_used.iter_mut().enumerate() {
                    if found.as_ref() == Some(last) {
                        *found = self.least_used(workload, zone, &chosen);
                    }
                }
            }
            let known = self.candidates.len();
            for node in least_used.iter().flatten() {
                if self.candidates[..known].binary_search_by_key(node, |c| c.node).is_err() {
                    let candidate = self.candidate(*node, travels);
                    self.candidates.push(candidate);
                }
            }
            let best = self.best(workload, &layout, &counted);
            self.candidates.truncate(known);
            let Some(best) = best else { break };
            layout.add(view, best);
            chosen.push(best);
        }
        chosen
    }

    fn least_used(
        &self,
        workload: WorkloadIndex,
        zone: usize,
        but: &[NodeIndex],
    ) -> Option<NodeIndex> {
        let zone = ZoneIndex::new(zone);
        self.destinations.least_used(self.view, self.ledger, workload, zone, but)
    }

    fn candidate(&self, node: NodeIndex, travels: bool) -> Candidate {
        let cost = if travels {
            self.travel.cost(self.view, node)
        } else {
            used_share(self.view, self.ledger, node)
        };
        Candidate { node, zone: self.view.latency.zone_of(node), cost }
    }

    /// The nodes that hold a neighbour and take a replica, in their order.
    fn look_at_neighbours(&mut self, workload: WorkloadIndex) {
        self.candidates.clear();
        let (view, ledger) = (self.view, self.ledger);
        let of = view.workloads[workload.at()].workload;
        let constraints = &of.constraints;
        let any = constraints.node_selector.is_empty() && constraints.node_affinity.is_empty();
        for node in self.travel.neighbours() {
            // Replicas of its own kind that keep it off are looked at with the layout.
            let takes = ledger.fits(*node, &of.requests)
                && ledger.node_allows(*node)
                && ((any && self.plain[node.at()])
                    || admits(view.nodes[node.at()].node, constraints).is_ok());
            if takes {
                let candidate = self.candidate(*node, true);
                self.candidates.push(candidate);
            }
        }
    }

    /// The best candidate for one more replica: least travel, then least used, then the
    /// first by name.
    fn best(
        &self,
        workload: WorkloadIndex,
        layout: &Layout,
        counted: &[ZoneIndex],
    ) -> Option<NodeIndex> {
        let view = self.view;
        let one_each = view.workloads[workload.at()].workload.constraints.one_per_node;
        let free = |candidate: &&Candidate| !(one_each && layout.occupies(candidate.node));
        let mut offers = vec![Offer::NONE; view.zones.len()];
        for candidate in self.candidates.iter().filter(free) {
            offers[candidate.zone.at()].add(candidate.cost);
        }
        let offered: Vec<bool> = offers.iter().map(|offer| offer.candidates).collect();
        let verdicts = verdicts(view, workload, layout, counted, &offered);
        let (mut least, mut scale) = (f64::INFINITY, 0.0_f64);
        for (offer, verdict) in offers.iter().zip(&verdicts) {
            if *verdict == Verdict::Allowed {
                least = least.min(offer.least);
                scale = scale.max(offer.scale);
            }
        }
        let open = || {
            let allowed = |c: &&Candidate| verdicts[c.zone.at()] == Verdict::Allowed;
            self.candidates.iter().filter(allowed)
        };
        let near: Vec<(NodeIndex, f64)> = open()
            .filter(|candidate| candidate.cost <= least + TIE * scale)
            .filter(free)
            .map(|candidate| (candidate.node, used_share(view, self.ledger, candidate.node)))
            .collect();
        let least_used = near.iter().map(|(_, used)| *used).fold(f64::INFINITY, f64::min);
        near.iter().filter(|(_, used)| *used <= least_used + TIE).map(|(node, _)| *node).min()
    }
}
