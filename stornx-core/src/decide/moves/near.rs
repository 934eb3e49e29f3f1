//! Which nodes are near to what a workload talks to: where one of its replicas would go
//! in a zone, and which one it would leave.
//!
//! What each node keeps to itself of the calls of the neighbours is written down by node,
//! once for a workload, so that looking at a node takes no search.

use super::{destinations, objective::Objective, search::Search};
use crate::{
    decide::ledger::Ledger,
    view::{EdgeIndex, EdgeView, NodeIndex, View, WorkloadIndex, ZoneIndex},
};

/// Neighbours of a workload that are weighed when a node is chosen, the busiest first.
const NEIGHBOURS: usize = 6;

/// Nodes of a neighbour that are looked at when a node is chosen.
const PLACES: usize = 16;

/// Whether a node is calm, how much of the neighbours' calls it keeps to itself, and the
/// node.
type Place = (bool, f64, NodeIndex);

/// What is around one workload. Its lists are used again for the next one.
#[derive(Debug, Clone)]
pub(super) struct Near {
    /// The busiest neighbours, each with exchanges per second and pair of replicas.
    neighbours: Vec<(WorkloadIndex, f64)>,
    /// How much of their calls a node keeps to itself, by node.
    kept: Vec<f64>,
    /// The nodes where that is not zero, some of them more than once.
    nodes: Vec<NodeIndex>,
    /// By zone: the first nodes of each neighbour and of the workload itself.
    known: Vec<Vec<NodeIndex>>,
    /// By zone: the first nodes of the workload. One more than is looked at, since the
    /// destination may be among them.
    own: Vec<Vec<NodeIndex>>,
    counts: Vec<usize>,
}

impl Near {
    /// Around nothing.
    pub(super) fn empty(view: &View<'_>) -> Self {
        let zones = view.zones.len();
        Self {
            neighbours: Vec::new(),
            kept: vec![0.0; view.nodes.len()],
            nodes: Vec::new(),
            known: vec![Vec::new(); zones],
            own: vec![Vec::new(); zones],
            counts: vec![0; zones],
        }
    }

    /// Around one workload.
    pub(super) fn of(view: &View<'_>, objective: &Objective<'_>, at: WorkloadIndex) -> Self {
        let mut near = Self::empty(view);
        near.fill(view, objective, at);
        near
    }

    /// Takes on another workload.
    pub(super) fn fill(&mut self, view: &View<'_>, objective: &Objective<'_>, at: WorkloadIndex) {
        for node in self.nodes.drain(..) {
            self.kept[node.at()] = 0.0;
        }
        self.known.iter_mut().chain(&mut self.own).for_each(Vec::clear);
        find_neighbours(view, objective, at, &mut self.neighbours);
        let zone_of = |node: NodeIndex| view.latency.zone_of(node).at();
        for (other, weight) in &self.neighbours {
            self.counts.fill(0);
            for (node, count) in objective.places(*other) {
                self.kept[node.at()] += weight * f64::from(*count);
                self.nodes.push(*node);
                let zone = zone_of(*node);
                if self.counts[zone] < PLACES {
                    self.counts[zone] += 1;
                    self.known[zone].push(*node);
                }
            }
        }
        for (node, _) in objective.places(at) {
            let zone = zone_of(*node);
            let own = &mut self.own[zone];
            if own.len() < PLACES {
                self.known[zone].push(*node);
            }
            if own.len() <= PLACES {
                own.push(*node);
            }
        }
    }

    pub(super) fn neighbours(&self) -> &[(WorkloadIndex, f64)] {
        &self.neighbours
    }

    fn place(&self, objective: &Objective<'_>, node: NodeIndex) -> Place {
        (objective.is_calm(node), self.kept[node.at()], node)
    }

    /// The node of a zone that a replica leaves with least regret: a crowded one first, then
    /// the one farthest from its neighbours.
    pub(super) fn source(
        &self,
        objective: &Objective<'_>,
        zone: ZoneIndex,
        destination: NodeIndex,
    ) -> Option<NodeIndex> {
        self.own[zone.at()]
            .iter()
            .filter(|node| **node != destination)
            .take(PLACES)
            .map(|node| self.place(objective, *node))
            .min_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)))
            .map(|(.., node)| node)
    }

    /// The calm node of a zone that keeps most to itself, if one keeps anything.
    fn nearest(&self, objective: &Objective<'_>, zone: ZoneIndex) -> Option<NodeIndex> {
        let mut nearest: Option<(f64, NodeIndex)> = None;
        for node in &self.known[zone.at()] {
            let kept = self.kept[node.at()];
            let nearer =
                nearest.is_none_or(|(most, first)| kept > most || (kept >= most && *node < first));
            if kept > 0.0 && nearer && objective.is_calm(*node) {
                nearest = Some((kept, *node));
            }
        }
        nearest.map(|(_, node)| node)
    }

    /// The nodes of a zone that are known, the best first.
    fn ranked(&self, objective: &Objective<'_>, zone: ZoneIndex) -> Vec<Place> {
        let known = self.known[zone.at()].iter();
        let mut ranked: Vec<Place> = known.map(|node| self.place(objective, *node)).collect();
        ranked.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.cmp(&b.2)));
        ranked.dedup_by_key(|(.., node)| *node);
        ranked
    }
}

impl Search<'_> {
    /// The best node of a zone: the one nearest to its neighbours of those that are
    /// calm, else the least used one.
    pub(super) fn destination(
        &self,
        objective: &Objective<'_>,
        ledger: &Ledger,
        at: WorkloadIndex,
        zone: ZoneIndex,
        near: &Near,
    ) -> Option<NodeIndex> {
        let takes = |node: &NodeIndex| destinations::takes(self.view, ledger, at, *node);
        let nearest = near.nearest(objective, zone);
        // It nearly always does: then nothing need be sorted.
        if let Some(node) = nearest.filter(takes) {
            return Some(node);
        }
        let near_by = nearest.and_then(|_| {
            let ranked = near.ranked(objective, zone).into_iter();
            let near_by = ranked.take_while(|(calm, kept, _)| *calm && *kept > 0.0);
            near_by.map(|(.., node)| node).find(takes)
        });
        near_by
            .or_else(|| self.destinations.least_used(self.view, ledger, at, zone, &[]))
            .or_else(|| near.ranked(objective, zone).into_iter().map(|(.., node)| node).find(takes))
    }
}

/// The busiest neighbours of a workload, each with exchanges per second and pair of
/// replicas.
fn find_neighbours(
    view: &View<'_>,
    objective: &Objective<'_>,
    at: WorkloadIndex,
    neighbours: &mut Vec<(WorkloadIndex, f64)>,
) {
    let workload = &view.workloads[at.at()];
    neighbours.clear();
    let mut add = |edges: &[EdgeIndex], other: fn(&EdgeView) -> WorkloadIndex| {
        let all =
            edges.iter().map(|edge| (other(&view.edges[edge.at()]), objective.leg_rate(*edge)));
        neighbours.extend(all.filter(|(other, rate)| *other != at && *rate > 0.0));
    };
    add(&workload.called_by, |edge| edge.caller);
    add(&workload.calls, |edge| edge.callee);
    neighbours.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    neighbours.truncate(NEIGHBOURS);
    for (other, rate) in neighbours {
        *rate /= f64::from(view.workloads[other.at()].ready_total().max(1));
    }
}
