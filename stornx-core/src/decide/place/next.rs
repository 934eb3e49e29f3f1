//! Where the next replicas of a workload would best go, whoever asks for them: what pods
//! are told that an autoscaler, a rollout or a person makes. A wish, not a promise: no
//! room is taken in the ledger.
//!
//! The same rules as for replicas of our own, over fewer nodes: of each zone the least
//! used one that takes the workload, and those that hold a neighbour. So it takes time in
//! proportion to zones and neighbours, and can be done for every workload in every cycle.

use super::{Travel, feasible::Refusals, keep_least, layout::Layout, spread::keep_allowed};
use crate::{
    decide::{
        ledger::Ledger,
        moves::{Destinations, takes},
        place::used_share,
    },
    view::{NodeIndex, View, WorkloadIndex, ZoneIndex},
};

/// How many replicas a cycle looks ahead: what an autoscaler adds in one step of most.
pub(crate) const AHEAD: usize = 3;

/// The nodes for up to [`AHEAD`] further replicas, the first first.
pub(crate) fn next(
    view: &View<'_>,
    ledger: &Ledger,
    destinations: &Destinations,
    workload: WorkloadIndex,
) -> Vec<NodeIndex> {
    let mut layout = Layout::of(view, workload);
    let travel = Travel::of(view, workload);
    let one_each = view.workloads[workload.at()].workload.constraints.one_per_node;
    let mut chosen: Vec<NodeIndex> = Vec::new();
    for _ in 0..AHEAD {
        let mut nodes: Vec<NodeIndex> = (0..view.zones.len())
            .filter_map(|zone| {
                destinations.least_used(view, ledger, workload, ZoneIndex::new(zone), &chosen)
            })
            .collect();
        let neighbours = travel.iter().flat_map(Travel::neighbours);
        nodes.extend(neighbours.filter(|node| takes(view, ledger, workload, *node)));
        nodes.sort_unstable();
        nodes.dedup();
        if one_each {
            nodes.retain(|node| !layout.occupied.contains(node));
        }
        keep_allowed(view, workload, &layout, &mut nodes, &mut Refusals::default());
        let cost = |node| match &travel {
            Some(travel) => travel.cost(view, node),
            None => used_share(view, ledger, node),
        };
        let mut costs: Vec<_> = nodes.into_iter().map(|node| (node, cost(node))).collect();
        let scale = costs.iter().map(|(_, cost)| cost.abs()).fold(0.0, f64::max);
        keep_least(&mut costs, scale);
        let mut left: Vec<_> =
            costs.into_iter().map(|(node, _)| (node, used_share(view, ledger, node))).collect();
        keep_least(&mut left, 1.0);
        let Some((best, _)) = left.first() else { break };
        layout.add(view, *best);
        chosen.push(*best);
    }
    chosen
}
