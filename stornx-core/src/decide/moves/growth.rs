//! Where one replica more, near the callers, would save more than moving replicas.
//!
//! The same objective prices both: what a replica costs while it runs
//! (`PRICE_REPLICA_USD_PER_HOUR`, weighed as all money by `PRICE_WEIGHT_MS`) against what
//! a move costs over the horizon. Nothing is done about it here: how many replicas there
//! are is the affair of OptiScaler and of those who set minima. The report says so.
//!
//! Looks at the [`CONSIDERED`] workloads whose calls cost most, one node of each zone.

use super::{
    objective::{Depth, Objective},
    payback,
    search::{Candidate, Search},
};
use crate::{
    decide::ledger::Ledger,
    report::Growth,
    view::{WorkloadIndex, ZoneIndex},
};

/// Workloads that are looked at in a cycle.
const CONSIDERED: usize = 48;

/// What is worth saying, by workload. `candidates` are the moves that were found, with
/// what each would save beyond its bar.
pub(super) fn find(
    search: &Search<'_>,
    objective: &mut Objective<'_>,
    ledger: &Ledger,
    candidates: &[Candidate],
) -> Vec<(WorkloadIndex, Growth)> {
    let view = search.view;
    let movable = view.each_workload().map(|(at, _)| at).filter(|at| {
        search.movable[at.at()] && objective.is_called(*at) && !objective.places(*at).is_empty()
    });
    let mut ranked: Vec<(f64, WorkloadIndex)> =
        movable.map(|at| (objective.touched(at).cost, at)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.truncate(CONSIDERED);
    ranked
        .into_iter()
        .filter_map(|(_, at)| {
            let moves = candidates.iter().filter(|candidate| candidate.touches(at));
            let moves = moves.map(Candidate::net).fold(0.0, f64::max);
            Some((at, best(search, objective, ledger, at, moves)?))
        })
        .collect()
}

/// The best replica more, if it saves more beyond its bar than `moves` do.
fn best(
    search: &Search<'_>,
    objective: &mut Objective<'_>,
    ledger: &Ledger,
    at: WorkloadIndex,
    moves: f64,
) -> Option<Growth> {
    let view = search.view;
    let running = payback::running(view.policy);
    let bars = search.bars(objective, at);
    let neighbours = search.neighbours(objective, at);
    let mut best: Option<(f64, Growth)> = None;
    for zone in (0..view.zones.len()).map(ZoneIndex::new) {
        let Some(node) = search.destination(objective, ledger, at, zone, &neighbours) else {
            continue;
        };
        let saving = -objective.grow(at, node, Depth::All);
        objective.take_back();
        // It starts as the replacement of a move does, and is doubted as one.
        let price = running + bars.between(zone, zone).total();
        let net = saving - price;
        if net > moves && best.as_ref().is_none_or(|(known, _)| net > *known) {
            let growth = Growth {
                node: view.nodes[node.at()].node.name.clone(),
                zone: view.zones[zone.at()].name.clone(),
                saving,
                price,
                moves,
            };
            best = Some((net, growth));
        }
    }
    best.map(|(_, growth)| growth)
}
