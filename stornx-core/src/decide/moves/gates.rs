//! Which workloads may move at all, and why the others may not. Safety facts come
//! from [`Safety`]; here are the gates that hold for moves only.

use super::payback;
use crate::{
    decide::{
        ledger::Ledger,
        safety::{CountBlock, Safety, WorkloadSafety},
    },
    memory::WorkloadMemory,
    model::{AutoscalerKind, PodPhase},
    plan::MoveWay,
    policy::{self, AutoscaledMoves},
    report::MoveReason,
    view::{Remembered, View, WorkloadIndex, WorkloadView, ZoneIndex},
};

/// Whether a replica of a workload may begin to move now.
///
/// # Errors
/// Why not; the first gate that is closed.
pub(super) fn may_move(
    view: &View<'_>,
    safety: &Safety,
    memory: &Remembered<'_>,
    ledger: &Ledger,
    at: WorkloadIndex,
) -> Result<(), MoveReason> {
    let workload = &view.workloads[at.at()];
    let facts = safety.of(at);
    if !view.policy.moves.enabled {
        return Err(MoveReason::Disabled);
    }
    if let Some(block) = facts.count_block
        && !autoscaler_allows(view, workload, facts)
    {
        return Err(block.into());
    }
    if workload.workload.policy.no_moves {
        return Err(MoveReason::NotWanted);
    }
    if !workload.workload.is_steerable() {
        return Err(MoveReason::NotMovable);
    }
    if ledger.is_counted(at) {
        return Err(MoveReason::BeingScaled);
    }
    if !view.snapshot.steering.is_given() {
        return Err(MoveReason::NoSteering);
    }
    if view.snapshot.quiet {
        return Err(MoveReason::QuietHours);
    }
    let remembered = memory.workload(at);
    if let Some(left) = payback::backoff_left(remembered, view.policy, view.now)
        && !is_taken_back(remembered)
    {
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

/// How the replicas of a workload that may move make way.
pub(super) fn way(view: &View<'_>, safety: &Safety, at: WorkloadIndex) -> MoveWay {
    let holds = view.policy.moves.autoscaled == AutoscaledMoves::Hold;
    match safety.of(at).count_block {
        Some(CountBlock::AutoscalerOwns(_)) if holds => MoveWay::Hold,
        Some(CountBlock::AutoscalerOwns(_)) => MoveWay::Evict,
        _ => MoveWay::Surge,
    }
}

/// Whether replicas may move although an autoscaler owns the count: by eviction, when one
/// replica less is within the budget and leaves one; or by raising its minimum, when it
/// may have one replica more.
fn autoscaler_allows(view: &View<'_>, workload: &WorkloadView<'_>, facts: &WorkloadSafety) -> bool {
    let (Some(CountBlock::AutoscalerOwns(kind)), Some(autoscaler)) =
        (facts.count_block, workload.workload.autoscaler)
    else {
        return false;
    };
    match view.policy.moves.autoscaled {
        AutoscaledMoves::Never => false,
        AutoscaledMoves::Evict => {
            let left = workload.ready_total().saturating_sub(1);
            kind.may_be_passed_over() && left >= facts.floors.min_ready.max(1)
        }
        AutoscaledMoves::Hold => {
            kind == AutoscalerKind::Hpa
                && autoscaler.held.is_none()
                && workload.workload.desired < autoscaler.max
        }
    }
}

/// The last move is to be taken back, which no back-off holds up.
pub(super) fn is_taken_back(remembered: Option<&WorkloadMemory>) -> bool {
    let last = remembered.and_then(|remembered| remembered.last_move.as_ref());
    last.is_some_and(|last| last.regressed)
}

/// All replicas that should be there are there and serve.
fn is_settled(workload: &WorkloadView<'_>) -> bool {
    let active = workload.pods.iter().filter(|pod| pod.phase != PodPhase::Terminating);
    let (mut count, mut all_serve) = (0, true);
    for pod in active {
        count += 1;
        all_serve &= pod.serves();
    }
    all_serve && count > 0 && count == workload.workload.desired
}

/// A measured demand may be off by this much at least: usage varies even where requests do
/// not.
const LEAST_DOUBT: f64 = 0.05;

/// Whether a replica may go from one zone to another: by the floors of its workload, and
/// by its own `maxSkew` as the scheduler counts it while victim and replacement are both
/// there.
///
/// The scheduler counts the zones that the workload's selectors admit; here all zones
/// count, which is never laxer and needs no walk over the nodes. So a workload with a
/// `maxSkew` that is bound to some of the zones moves less than it could.
///
/// What must survive the loss of a zone is taken a little higher than measured: a floor
/// that is only met by an accident of the counts would let a move begin that could not
/// be finished.
pub(super) fn layout_allowed(
    view: &View<'_>,
    safety: &Safety,
    at: WorkloadIndex,
    from: ZoneIndex,
    to: ZoneIndex,
) -> bool {
    let workload = &view.workloads[at.at()];
    change_allowed(view, safety, at, (&workload.bound, &workload.ready), (from, to))
}

/// The same from another layout: replicas by zone that are bound there, and that are
/// ready.
pub(super) fn change_allowed(
    view: &View<'_>,
    safety: &Safety,
    at: WorkloadIndex,
    (bound, ready): (&[u32], &[u32]),
    (from, to): (ZoneIndex, ZoneIndex),
) -> bool {
    let workload = &view.workloads[at.at()];
    if let Some(max) = workload.workload.constraints.max_zone_skew {
        let emptiest = bound.iter().copied().min().unwrap_or(0);
        if bound[to.at()] + 1 > emptiest.saturating_add(max) {
            return false;
        }
    }
    if from == to {
        return true;
    }
    let mut after = ready.to_vec();
    after[from.at()] = after[from.at()].saturating_sub(1);
    after[to.at()] += 1;
    let facts = safety.of(at);
    let noise = 1.5 * policy::noise(facts.requests, view.window).get();
    let mut floors = facts.floors;
    floors.needed = floors.needed.map(|needed| needed * (1.0 + noise.max(LEAST_DOUBT)));
    floors.change_allowed(ready, &after).is_ok()
}
