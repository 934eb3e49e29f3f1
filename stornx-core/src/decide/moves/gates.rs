//! Which workloads may move at all, and why the others may not. Safety facts come
//! from [`Safety`]; here are the gates that hold for moves only.

use super::payback;
use crate::{
    decide::{ledger::Ledger, safety::Safety},
    ids::WorkloadKind,
    memory::Memory,
    model::PodPhase,
    report::MoveReason,
    view::{View, WorkloadIndex, WorkloadView},
};

/// Whether a replica of a workload may begin to move now.
///
/// # Errors
/// Why not; the first gate that is closed.
pub(super) fn may_move(
    view: &View<'_>,
    safety: &Safety,
    memory: &Memory,
    ledger: &Ledger,
    at: WorkloadIndex,
) -> Result<(), MoveReason> {
    let workload = &view.workloads[at.at()];
    let facts = safety.of(at);
    if !view.policy.moves.enabled {
        return Err(MoveReason::Disabled);
    }
    if let Some(block) = facts.count_block {
        return Err(block.into());
    }
    if workload.workload.policy.no_moves {
        return Err(MoveReason::NotWanted);
    }
    // The surge is one replica above the count: it must be allowed too.
    let can_surge = workload.workload.id.kind() == WorkloadKind::Deployment
        && workload.workload.desired < facts.max;
    if !can_surge || workload.workload.constraints.pinned {
        return Err(MoveReason::NotMovable);
    }
    if ledger.is_counted(at) {
        return Err(MoveReason::BeingScaled);
    }
    let remembered = memory.workloads.get(&workload.workload.id);
    if let Some(left) = payback::backoff_left(remembered, view.policy, view.now) {
        return Err(MoveReason::Backoff { left });
    }
    if !is_settled(workload) {
        return Err(MoveReason::NotSettled);
    }
    if !view.has_traffic {
        return Err(MoveReason::NoTraffic);
    }
    Ok(())
}

/// All replicas that should be there are there and serve.
fn is_settled(workload: &WorkloadView<'_>) -> bool {
    let active = workload.pods.iter().filter(|pod| pod.pod.phase != PodPhase::Terminating);
    let (mut count, mut all_serve) = (0, true);
    for pod in active {
        count += 1;
        all_serve &= pod.serves();
    }
    all_serve && count > 0 && count == workload.workload.desired
}

/// Whether a replica may go from one zone to another by the floors of its workload.
/// Within one zone nothing changes that a floor counts.
pub(super) fn layout_allowed(
    view: &View<'_>,
    safety: &Safety,
    at: WorkloadIndex,
    from: crate::view::ZoneIndex,
    to: crate::view::ZoneIndex,
) -> bool {
    if from == to {
        return true;
    }
    let before = &view.workloads[at.at()].ready;
    let mut after = before.clone();
    after[from.at()] = after[from.at()].saturating_sub(1);
    after[to.at()] += 1;
    safety.of(at).floors.change_allowed(before, &after).is_ok()
}
