//! Making room: where a replica would save most in a zone that is full, another one
//! that loses little leaves it first. The second half of such a swap needs no memory:
//! once there is room, the move that it was made for is found like any other.
//!
//! The one that leaves may lose less than its own move costs, so that going back never
//! pays; what both moves save together must exceed what both must save. So the cost of
//! the layout falls over the two, and no series of swaps returns to where it was.
//!
//! Looks at the nodes of at most [`CONSIDERED`] workloads, and [`TENANTS`] replicas on
//! each. Known weakness: one replica makes room for one; a large one that needs two
//! small ones to go stays where it is.

use super::{
    destinations, gates,
    near::Near,
    objective::{Depth, Objective, Shift},
    search::{Candidate, Search},
};
use crate::{
    decide::ledger::Ledger,
    view::{NodeIndex, Remembered, WorkloadIndex, ZoneIndex},
};

/// Workloads that room is looked for.
const CONSIDERED: usize = 8;

/// Replicas on a node that might leave.
const TENANTS: usize = 32;

/// A replica that leaves, and the workload that it makes room for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Eviction {
    pub(super) leaves: Candidate,
    pub(super) makes_room_for: WorkloadIndex,
}

/// The first replica that is worth sending away for one of `blocked`: moves that would
/// pay if their destination had room, best first.
pub(super) fn find(
    search: &Search<'_>,
    objective: &mut Objective<'_>,
    ledger: &Ledger,
    memory: &Remembered<'_>,
    blocked: &[Candidate],
) -> Option<Eviction> {
    let soon_free = zones_left(search, memory);
    blocked
        .iter()
        .filter_map(|candidate| Some((candidate, *candidate.shifts.first()?)))
        .filter(|(_, shift)| !soon_free.contains(&search.zone(shift.to)))
        .take(CONSIDERED)
        .find_map(|(candidate, shift)| {
            let leaves = tenant(search, objective, ledger, candidate, shift)?;
            Some(Eviction { leaves, makes_room_for: shift.workload })
        })
}

/// Zones that a move under way is about to leave: room is coming there.
fn zones_left(search: &Search<'_>, memory: &Remembered<'_>) -> Vec<ZoneIndex> {
    let records = memory.all.workloads.values().filter_map(|w| w.in_flight.as_ref());
    let from = records.filter_map(|record| search.view.node(&record.from));
    from.map(|node| search.zone(node)).collect()
}

/// The replica on the wanted node whose leaving costs least.
fn tenant(
    search: &Search<'_>,
    objective: &mut Objective<'_>,
    ledger: &Ledger,
    wanted: &Candidate,
    shift: Shift,
) -> Option<Candidate> {
    let view = search.view;
    let needed = view.workloads[shift.workload.at()].workload.requests;
    let would_fit = |other: WorkloadIndex| {
        needed.fits(&(ledger.free(shift.to) + view.workloads[other.at()].workload.requests))
    };
    let mut best: Option<Candidate> = None;
    let tenants: Vec<WorkloadIndex> = view
        .each_workload()
        .map(|(other, _)| other)
        .filter(|other| *other != shift.workload && search.movable[other.at()])
        .filter(|other| !ledger.is_counted(*other) && would_fit(*other))
        .filter(|other| ledger.way_allowed(gates::way(view, search.safety, *other)))
        .filter(|other| holds(objective, *other, shift.to))
        .take(TENANTS)
        .collect();
    for other in tenants {
        let prices = search.bars(objective, other);
        for to in (0..view.zones.len()).map(ZoneIndex::new) {
            let from = search.zone(shift.to);
            let open = ledger.move_allowed(from, to)
                && ledger.node_allows(shift.to)
                && gates::layout_allowed(view, search.safety, other, from, to);
            if !open {
                continue;
            }
            let Some(node) = search.refuge(objective, ledger, other, to, shift.to) else {
                continue;
            };
            let price = prices.between(from, to);
            let leaving = Shift { workload: other, from: shift.to, to: node };
            let first = -objective.shift(leaving, Depth::All);
            let both = first - objective.shift(shift, Depth::All);
            objective.take_back();
            objective.take_back();
            let pays = both > wanted.bar + price.total() && -first < price.price;
            let better = best.as_ref().is_none_or(|best| first > best.saving);
            if pays && better {
                best = Some(Candidate {
                    shifts: vec![leaving],
                    saving: first,
                    bar: price.total(),
                    price: price.price,
                });
            }
        }
    }
    best
}

fn holds(objective: &Objective<'_>, workload: WorkloadIndex, node: NodeIndex) -> bool {
    objective.places(workload).binary_search_by_key(&node, |(node, _)| *node).is_ok()
}

impl Search<'_> {
    /// The zone of a node.
    pub(super) fn zone(&self, node: NodeIndex) -> ZoneIndex {
        self.view.nodes[node.at()].zone
    }

    /// Where a replica goes that leaves `but`.
    fn refuge(
        &self,
        objective: &Objective<'_>,
        ledger: &Ledger,
        at: WorkloadIndex,
        zone: ZoneIndex,
        but: NodeIndex,
    ) -> Option<NodeIndex> {
        let near = Near::of(self.view, objective, at);
        let nearest = self.destination(objective, ledger, at, zone, &near);
        nearest
            .filter(|node| *node != but)
            .or_else(|| self.destinations.least_used(self.view, ledger, at, zone, &[but]))
    }

    /// The node of a full zone that a replica would go to if it had room: one that
    /// admits it and holds a neighbour, a sibling, or is the least used.
    pub(super) fn wish(
        &self,
        objective: &Objective<'_>,
        at: WorkloadIndex,
        zone: ZoneIndex,
        neighbours: &[(WorkloadIndex, f64)],
    ) -> Option<NodeIndex> {
        let known = neighbours.iter().map(|(other, _)| *other).chain([at]);
        let mut known = known.flat_map(|other| objective.places(other)).map(|(node, _)| *node);
        let wishes = |node: &NodeIndex| {
            self.zone(*node) == zone && destinations::admitted(self.view, at, *node)
        };
        known.find(wishes).or_else(|| self.destinations.least_used_if_empty(self.view, at, zone))
    }
}
