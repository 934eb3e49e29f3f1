//! Invariant 3, counts: what was seen is what stands, minimum, maximum and disruption
//! budget hold, a stateful set loses its last replicas first.
//!
//! The surge of a move may stand above the maximum while the move lasts: it is promised
//! to go, as the surge of a rolling update is.

use super::{
    Violation,
    ground::{Change, Ground, count, total},
};
use crate::{
    ids::{PodName, WorkloadKind},
    model::Workload,
    plan::Action,
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for change in ground.changes() {
        let workload = change.workload;
        if change.observed != workload.desired {
            violations.push(Violation::CountMisread {
                workload: workload.id.clone(),
                observed: change.observed,
                desired: workload.desired,
            });
        }
        bounds(ground, &change, violations);
        disruption_budget(ground, &change, violations);
        ordinals(&change, violations);
    }
}

fn bounds(ground: &Ground<'_>, change: &Change<'_>, violations: &mut Vec<Violation>) {
    let (wishes, scaler) = (&change.workload.policy, &ground.policy.scaler);
    let min = wishes.min_replicas.unwrap_or(scaler.min_replicas);
    let max = wishes.max_replicas.unwrap_or(scaler.max_replicas);
    // Where only one of the two is the workload's own and they cross, both give way.
    let (floor, ceiling) = (min.min(max), max.max(min));
    let (workload, after) = (change.workload.id.clone(), change.after());
    match change.action {
        Action::AddReplicas { .. } if after > i64::from(ceiling) => {
            violations.push(Violation::AboveMaximum { workload, after, max: ceiling });
        }
        Action::RemoveReplicas { .. } if after < i64::from(floor) => {
            violations.push(Violation::BelowMinimum { workload, after, min: floor });
        }
        _ => {}
    }
}

fn disruption_budget(ground: &Ground<'_>, change: &Change<'_>, violations: &mut Vec<Violation>) {
    let Some(budget) = change.workload.budget else { return };
    if !ground.policy.scaler.respect_budgets {
        return;
    }
    let before = total(&ground.ready(change.workload, &[]));
    let after = total(&ground.ready(change.workload, &change.removed));
    // The end of a move gives back what the move added, and no more.
    let ends = matches!(
        change.action,
        Action::FinishMove { .. } | Action::AbortMove { .. } | Action::GiveBackMinimum { .. }
    );
    let stood = ground.in_flight(&change.workload.id).filter(|_| ends);
    let kept = stood.map_or(u32::MAX, |record| record.replicas_before).min(budget.min_ready);
    if after < before && after < kept {
        violations.push(Violation::DisruptionBudget {
            workload: change.workload.id.clone(),
            after,
            min_ready: budget.min_ready,
        });
    }
}

/// Kubernetes removes the replicas of a stateful set from the highest ordinal down;
/// any other choice cannot be carried out.
fn ordinals(change: &Change<'_>, violations: &mut Vec<Violation>) {
    let workload = change.workload;
    if workload.id.kind() != WorkloadKind::StatefulSet || change.removed.is_empty() {
        return;
    }
    let mut ordinals: Vec<_> = workload.active().map(|pod| ordinal(&pod.name)).collect();
    ordinals.sort_unstable_by(|a, b| b.cmp(a));
    let highest = &ordinals[..change.removed.len().min(ordinals.len())];
    for pod in &change.removed {
        if !highest.contains(&ordinal(pod)) {
            let workload = workload.id.clone();
            violations.push(Violation::NotTheLastOrdinal { workload, pod: (*pod).clone() });
        }
    }
}

fn ordinal(pod: &PodName) -> Option<u64> {
    pod.name().rsplit('-').next()?.parse().ok()
}

/// Whether a workload can have one replica more for a while.
pub(super) fn can_surge(workload: &Workload) -> bool {
    workload.id.kind() == WorkloadKind::Deployment && !workload.constraints.pinned
}

/// Replicas that an action adds or takes.
pub(super) fn size(change: &Change<'_>) -> i64 {
    count(&change.added).max(count(&change.removed))
}
