//! Where one replica more, near the callers, would save more than moving replicas.
//!
//! The same objective prices both: what a replica costs while it runs
//! (`PRICE_REPLICA_USD_PER_HOUR`, weighed as all money by `PRICE_WEIGHT_MS`) against what
//! a move costs over the horizon. Nothing is done about it here: how many replicas there
//! are is the affair of OptiScaler and of those who set minima. The report says so.
//!
//! Looks at the [`CONSIDERED`] workloads whose calls cost most, one node of each zone; the
//! best of these zones is checked through the whole graph.

use super::{
    near::Near,
    objective::{Depth, Objective},
    payback,
    search::{Candidate, Found, Search},
};
use crate::{
    decide::ledger::Ledger,
    report::Growth,
    view::{NodeIndex, WorkloadIndex, ZoneIndex},
};

/// Workloads that are looked at in a cycle.
const CONSIDERED: usize = 48;

/// What is worth saying, by workload. `found` is what was looked for at each workload,
/// `candidates` are the moves that came of it, with what each would save beyond its bar.
pub(super) fn find(
    search: &Search<'_>,
    objective: &mut Objective<'_>,
    ledger: &Ledger,
    found: &[Found],
    candidates: &[Candidate],
) -> Vec<(WorkloadIndex, Growth)> {
    let view = search.view;
    // The search has looked at these, and nothing has changed since.
    let known = view.each_workload().zip(found).filter_map(|((at, _), f)| Some((f.travel?, at)));
    let mut ranked: Vec<(f64, WorkloadIndex)> =
        known.filter(|(_, at)| !objective.places(*at).is_empty()).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    ranked.truncate(CONSIDERED);
    let mut near = Near::empty(view);
    ranked
        .into_iter()
        .filter_map(|(_, at)| {
            let moves = candidates.iter().filter(|candidate| candidate.touches(at));
            let moves = moves.map(Candidate::net).fold(0.0, f64::max);
            near.fill(view, objective, at);
            Some((at, best(search, objective, ledger, (at, &near), moves)?))
        })
        .collect()
}

/// The best replica more, if it saves more beyond its bar than `moves` do.
fn best(
    search: &Search<'_>,
    objective: &mut Objective<'_>,
    ledger: &Ledger,
    (at, near): (WorkloadIndex, &Near),
    moves: f64,
) -> Option<Growth> {
    let view = search.view;
    let running = payback::running(view.policy);
    let bars = search.bars(objective, at);
    let grow = |objective: &mut Objective<'_>, node: NodeIndex, depth| {
        let saving = -objective.grow(at, node, depth);
        objective.take_back();
        saving
    };
    let mut best: Option<(f64, ZoneIndex, NodeIndex)> = None;
    for zone in (0..view.zones.len()).map(ZoneIndex::new) {
        let Some(node) = search.destination(objective, ledger, at, zone, near) else {
            continue;
        };
        let saving = grow(objective, node, Depth::Neighbours);
        if best.is_none_or(|(most, ..)| saving > most) {
            best = Some((saving, zone, node));
        }
    }
    let (_, zone, node) = best?;
    let saving = grow(objective, node, Depth::All);
    // It starts as the replacement of a move does, and is doubted as one.
    let price = running + bars.between(zone, zone).total();
    (saving - price > moves).then(|| Growth {
        node: view.nodes[node.at()].node.name.clone(),
        zone: view.zones[zone.at()].name.clone(),
        saving,
        price,
        moves,
    })
}
