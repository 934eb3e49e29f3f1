//! Replicas that answer much slower than their siblings: replaced on another node,
//! before any move that only shortens ways. The usual cause is the node (a noisy
//! neighbour, a bad disk, a throttled host), so another node of the same zone comes
//! first, and never one where a slow sibling runs.
//!
//! Assumes that replicas of one workload serve alike. Refuses to judge a replica that
//! has counted too few requests or was not Ready for two windows, one without siblings to compare with, and a service
//! that is slow as a whole: replacing its replicas would change nothing.

use super::{destinations::Destinations, gates};
use crate::{
    decide::{ledger::Ledger, safety::Safety},
    memory::WorkloadMemory,
    policy::counted,
    units::Millis,
    view::{NodeIndex, PodView, View, WorkloadIndex, WorkloadView, ZoneIndex},
};

/// A 95th percentile of fewer requests rests on less than five of them.
const ENOUGH_REQUESTS: f64 = 100.0;

/// Cycles in a row in which a replica must look slow.
pub(super) const CYCLES: u32 = 2;

/// A replica that looks slow in this observation.
pub(super) struct Suspect<'a, 'v> {
    pub(super) pod: &'a PodView<'v>,
    /// Its p95 in ms.
    pub(super) p95: f64,
    /// Median p95 of its siblings in ms.
    pub(super) siblings: f64,
}

/// The replicas of a workload that look slow now, the slowest first.
pub(super) fn suspects<'a, 'v>(
    view: &View<'v>,
    workload: &'a WorkloadView<'v>,
) -> Vec<Suspect<'a, 'v>> {
    let own = workload.workload.policy.response_time;
    let threshold = own.unwrap_or(view.policy.scaler.response_time).get();
    let p95 = |pod: &PodView<'_>| pod.traffic.and_then(|traffic| traffic.p95).map(Millis::get);
    if !workload.pods.iter().any(|pod| p95(pod).is_some_and(|p95| p95 > threshold)) {
        return Vec::new();
    }
    let known: Vec<(f64, &PodView<'_>)> = workload
        .pods
        .iter()
        .filter(|pod| pod.serves() && !is_new(view, pod))
        .filter_map(|pod| {
            let traffic = pod.traffic?;
            let enough = counted(traffic.requests, view.window) >= ENOUGH_REQUESTS;
            Some((traffic.p95.filter(|_| enough)?.get(), pod))
        })
        .collect();
    let mut suspects: Vec<_> = known
        .iter()
        .enumerate()
        .filter(|(_, (p95, _))| *p95 > threshold)
        .filter_map(|(at, (p95, pod))| {
            let others = known.iter().enumerate().filter(|(other, _)| *other != at);
            let siblings = median(others.map(|(_, (p95, _))| *p95).collect())?;
            let slow = *p95 > view.policy.moves.slow_factor * siblings;
            slow.then_some(Suspect { pod, p95: *p95, siblings })
        })
        .collect();
    suspects
        .sort_by(|a, b| b.p95.total_cmp(&a.p95).then_with(|| a.pod.pod.name.cmp(&b.pod.pod.name)));
    suspects
}

/// Whether some of what is seen of a replica is from before it was warm.
fn is_new(view: &View<'_>, pod: &PodView<'_>) -> bool {
    let cold = view.window.times(2);
    pod.pod.ready_since.is_some_and(|since| view.now.since(since) < cold)
}

/// The lower of the two middle values of an even count: with two siblings, one of
/// which is slow as well, the healthy one is what to compare with.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len().checked_sub(1)? / 2;
    values.get(middle).copied()
}

/// A slow replica with the node that its replacement goes to.
pub(super) struct Replacement<'a, 'v> {
    pub(super) suspect: Suspect<'a, 'v>,
    pub(super) from: NodeIndex,
    pub(super) to: NodeIndex,
}

/// The replica of a workload that is to be replaced now, if any.
pub(super) fn replacement<'a, 'v>(
    view: &'a View<'v>,
    safety: &Safety,
    ledger: &Ledger,
    destinations: &Destinations,
    remembered: Option<&WorkloadMemory>,
    at: WorkloadIndex,
) -> Option<Replacement<'a, 'v>> {
    let workload = &view.workloads[at.at()];
    let suspects = suspects(view, workload);
    let avoided: Vec<NodeIndex> = suspects.iter().filter_map(|s| s.pod.node).collect();
    let before = |suspect: &Suspect<'_, '_>| {
        remembered.and_then(|memory| memory.slow.get(&suspect.pod.pod.name)).copied().unwrap_or(0)
    };
    suspects.into_iter().filter(|suspect| before(suspect) + 1 >= CYCLES).find_map(|suspect| {
        let (from, zone) = (suspect.pod.node?, suspect.pod.zone?);
        if !(ledger.node_allows(from) && ledger.way_allowed(gates::way(view, safety, at))) {
            return None;
        }
        let mut zones: Vec<_> = (0..view.zones.len()).map(ZoneIndex::new).collect();
        zones.sort_by(|a, b| {
            let far = |to: &ZoneIndex| view.latency.between_zones(zone, *to);
            (*a != zone).cmp(&(*b != zone)).then(far(a).total_cmp(&far(b))).then(a.cmp(b))
        });
        let to = zones.into_iter().find_map(|to| {
            let open =
                ledger.move_allowed(zone, to) && gates::layout_allowed(view, safety, at, zone, to);
            open.then(|| destinations.least_used(view, ledger, at, to, &avoided))?
        })?;
        Some(Replacement { suspect, from, to })
    })
}
