//! Invariant 3, places: replicas stay spread over as many zones as they were (up to
//! `FT_MAX_ZONES`, and as far as their number allows), and no zone becomes fuller than
//! the emptiest by more than the allowed skew.
//!
//! Removals are judged by the replicas that serve, additions by those that serve or are
//! about to. `FT_MAX_ZONES` is a ceiling as well. For a move the layout before is the one without
//! the replacement: the move as a whole must not narrow the spread.

use super::{
    Violation,
    ground::{Change, Ground, Layout, skew, total, zones},
};
use crate::plan::{Action, MoveEnding};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for change in ground.changes() {
        match change.action {
            Action::AddReplicas { .. } => additions(ground, &change, violations),
            Action::RemoveReplicas { .. } => {
                let before = ground.ready(change.workload, &[]);
                let after = ground.ready(change.workload, &change.removed);
                compare(ground, &change, &before, &after, violations);
            }
            Action::StartMove { victim, to, .. } => {
                let before = ground.ready(change.workload, &[]);
                let mut after = ground.ready(change.workload, &[victim]);
                if let Some(zone) = ground.zone_of(to) {
                    *after.entry(zone).or_insert(0) += 1;
                }
                compare(ground, &change, &before, &after, violations);
            }
            Action::FinishMove { victim, replacement, .. }
            | Action::GiveBackMinimum {
                goes: Some(victim),
                ending: Some(MoveEnding::Finish { replacement }),
                ..
            } => {
                let before = ground.ready(change.workload, &[replacement]);
                let after = ground.ready(change.workload, &[victim]);
                compare(ground, &change, &before, &after, violations);
            }
            // The layout goes back to what it was.
            Action::AbortMove { .. }
            | Action::GiveBackMinimum { .. }
            | Action::CloseMove { .. }
            | Action::Unmark { .. }
            | Action::Release { .. }
            | Action::SetRoutes { .. }
            | Action::GiveBackRoutes { .. } => {}
        }
    }
}

fn compare(
    ground: &Ground<'_>,
    change: &Change<'_>,
    before: &Layout<'_>,
    after: &Layout<'_>,
    violations: &mut Vec<Violation>,
) {
    let fault_tolerance = &ground.policy.fault_tolerance;
    let kept = fault_tolerance.max_zones.min(zones(before)).min(total(after));
    if zones(after) < kept {
        violations.push(Violation::SpreadNarrowed {
            workload: change.workload.id.clone(),
            before: zones(before),
            after: zones(after),
        });
    }
    if zones(after) > fault_tolerance.max_zones.max(zones(before)) {
        let (workload, zones) = (change.workload.id.clone(), zones(after));
        let max = fault_tolerance.max_zones;
        violations.push(Violation::SpreadTooWide { workload, zones, max });
    }
    let allowed = fault_tolerance.max_skew.max(skew(before, after));
    if skew(after, before) > allowed {
        let (workload, after) = (change.workload.id.clone(), skew(after, before));
        violations.push(Violation::SkewWorsened { workload, after, allowed });
    }
}

fn additions(ground: &Ground<'_>, change: &Change<'_>, violations: &mut Vec<Violation>) {
    let fault_tolerance = &ground.policy.fault_tolerance;
    let mut layout = ground.coming(change.workload);
    for zone in change.added.iter().filter_map(|node| ground.zone_of(node)) {
        let before = layout.clone();
        *layout.entry(zone).or_insert(0) += 1;
        let workload = || change.workload.id.clone();
        let max = fault_tolerance.max_zones;
        if zones(&layout) > max.max(zones(&before)) {
            let zones = zones(&layout);
            violations.push(Violation::SpreadTooWide { workload: workload(), zones, max });
        }
        // A zone that is new starts with one replica however full the others are.
        let allowed = fault_tolerance.max_skew.max(skew(&before, &layout));
        if skew(&layout, &before) > allowed {
            let after = skew(&layout, &before);
            violations.push(Violation::SkewWorsened { workload: workload(), after, allowed });
        }
    }
}
