//! Invariant 5: after a removal, losing any one zone leaves at least as many survivors
//! as before it, or enough for the configured share of today's demand.
//!
//! Before a finished move means before its surge: the replacement is not counted twice.
//! Where usage is not known, only the number of survivors counts.

use super::{
    Violation,
    ground::{Ground, survivors},
};
use crate::plan::{Action, MoveEnding};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for change in ground.changes() {
        let workload = change.workload;
        let (before, after) = match change.action {
            Action::RemoveReplicas { .. } => {
                (ground.ready(workload, &[]), ground.ready(workload, &change.removed))
            }
            Action::FinishMove { victim, replacement, .. }
            | Action::GiveBackMinimum {
                goes: Some(victim),
                ending: Some(MoveEnding::Finish { replacement }),
                ..
            } => (ground.ready(workload, &[replacement]), ground.ready(workload, &[victim])),
            Action::StartMove { victim, to, .. } => {
                let mut after = ground.ready(workload, &[victim]);
                if let Some(zone) = ground.zone_of(to) {
                    *after.entry(zone).or_insert(0) += 1;
                }
                (ground.ready(workload, &[]), after)
            }
            _ => continue,
        };
        let (before, after) = (survivors(&before), survivors(&after));
        if after >= before {
            continue;
        }
        let share = ground.policy.fault_tolerance.survive.get() / 100.0;
        let needed = ground.demand(workload).map(|demand| demand * share);
        // The sum of a few shares is exact to far less than a millionth of a replica.
        if needed.is_none_or(|needed| f64::from(after) + 1e-6 < needed) {
            let workload = workload.id.clone();
            violations.push(Violation::TooFewSurvivors { workload, before, after, needed });
        }
    }
}
