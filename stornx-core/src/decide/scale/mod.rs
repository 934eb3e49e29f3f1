//! Replica counts (OptiScaler): which workloads grow or shrink this cycle, and by the
//! replicas that `place` chooses.
//!
//! Each workload passes the guards in their order, each with its own reason: switched
//! off, not managed, opted out, paused, rollout in progress, autoscaler owns the count,
//! move under way; then what its load asks for (`want`); then cooldown, the budget of
//! the cycle, and for down the disruption budget, zone loss, spread and skew, for up a
//! feasible node. The budget goes to the most urgent first: below the minimum, then the
//! most loaded, then the most idle.

mod remember;
mod want;

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

pub(crate) use self::remember::remember_counts;
use self::want::{Want, want};
use super::{
    Proposal,
    ledger::Ledger,
    place,
    safety::{Safety, WorkloadSafety},
};
use crate::{
    ids::PodName,
    plan::Action,
    report::{ActionReport, Expected, PlacementReason, ScaleReason, ScaleWhy, Trigger, Why},
    units::Percent,
    view::{Remembered, View, WorkloadIndex},
};

/// A p95 must stay too high for so many windows of the metrics before replicas are added for
/// it: the first one may hold a moment that is over.
const LASTING_WINDOWS: u64 = 2;

/// What was decided.
pub(crate) struct Scaled {
    pub(crate) proposals: Vec<Proposal>,
    /// One for each workload of the view.
    pub(crate) reasons: Vec<ScaleReason>,
}

/// Decides all counts.
pub(crate) fn decide(
    view: &View<'_>,
    safety: &Safety,
    memory: &Remembered<'_>,
    ledger: &mut Ledger,
) -> Scaled {
    let mut scaled = Scaled { proposals: Vec::new(), reasons: Vec::new() };
    let mut asking = Vec::new();
    for (at, _) in view.each_workload() {
        let reason = match asked(view, safety, memory, ledger, at) {
            Want::Stay(reason) => reason,
            want => {
                asking.push((at, want));
                // Stands until its turn comes below.
                ScaleReason::BudgetUsedUp { allowed: view.policy.scaler.max_actions }
            }
        };
        scaled.reasons.push(reason);
    }
    asking.sort_by_key(|(at, want)| (urgency(want, safety.of(*at)), *at));
    for (at, want) in asking {
        if ledger.scale_actions_left() == 0 {
            break;
        }
        let outcome = match want {
            Want::Up { trigger, by } => grow(view, safety, ledger, at, trigger, by),
            Want::Down { by } => shrink(view, safety, ledger, at, by),
            Want::Stay(reason) => Err(reason),
        };
        scaled.reasons[at.at()] = match outcome {
            Ok(proposal) => {
                ledger.spend_scale_action(at);
                scaled.proposals.push(proposal);
                ScaleReason::Scaled
            }
            Err(reason) => reason,
        };
    }
    scaled
}

/// What a workload asks for once the guards that do not depend on others let it.
fn asked(
    view: &View<'_>,
    safety: &Safety,
    memory: &Remembered<'_>,
    ledger: &Ledger,
    at: WorkloadIndex,
) -> Want {
    let (workload, facts) = (&view.workloads[at.at()], safety.of(at));
    let policy = &view.policy.scaler;
    if !policy.enabled {
        return Want::Stay(ScaleReason::Disabled);
    }
    match facts.count_block {
        Some(block) => return Want::Stay(block.into()),
        None if workload.workload.policy.no_scaling => return Want::Stay(ScaleReason::OptedOut),
        None => {}
    }
    if facts.in_flight || ledger.is_counted(at) {
        return Want::Stay(ScaleReason::MoveInFlight);
    }
    let remembered = memory.workload(at);
    let growth = remembered.and_then(|remembered| remembered.growth);
    let want = want(workload, facts, policy, growth);
    if matches!(want, Want::Stay(_)) {
        return want;
    }
    let bound = workload.workload.constraints.pinned;
    if bound && matches!(want, Want::Down { .. }) && workload.workload.policy.min_replicas.is_none()
    {
        return Want::Stay(ScaleReason::BoundToPlace);
    }
    if let (Want::Up { trigger: Trigger::ResponseTime, .. }, Some(p95)) = (&want, facts.p95) {
        let since = remembered.and_then(|remembered| remembered.slow_since).unwrap_or(view.now);
        let since = view.now.since(since);
        if since < view.window.times(LASTING_WINDOWS) {
            return Want::Stay(ScaleReason::SlowLately { p95, since });
        }
    }
    if let Some(scaled_at) = remembered.and_then(|remembered| remembered.scaled_at) {
        let left = scaled_at.after(policy.cooldown).since(view.now);
        if left > crate::units::Span::ZERO {
            return Want::Stay(ScaleReason::Cooldown { left });
        }
    }
    want
}

/// Sorts the most urgent first.
fn urgency(want: &Want, facts: &WorkloadSafety) -> (u8, Reverse<Percent>, Percent) {
    let used = facts.utilisation.unwrap_or_default();
    match want {
        Want::Up { trigger: Trigger::BelowMinimum, .. } => (0, Reverse(used), used),
        Want::Up { trigger: Trigger::Utilisation, .. } => (1, Reverse(used), used),
        Want::Up { .. } => (2, Reverse(used), used),
        Want::Down { .. } | Want::Stay(_) => (3, Reverse(Percent::ZERO), used),
    }
}

fn grow(
    view: &View<'_>,
    safety: &Safety,
    ledger: &mut Ledger,
    at: WorkloadIndex,
    trigger: Trigger,
    by: u32,
) -> Result<Proposal, ScaleReason> {
    let placed = place::place(view, ledger, at, by);
    if placed.nodes.is_empty() {
        let detail = placed.refused.unwrap_or_default().to_string();
        return Err(ScaleReason::NoFeasibleNode { detail });
    }
    let workload = view.workloads[at.at()].workload;
    let nodes: Vec<_> =
        placed.nodes.iter().map(|node| view.nodes[node.at()].node.name.clone()).collect();
    let added = u32::try_from(nodes.len()).unwrap_or(by);
    let why = Change {
        trigger,
        to: workload.desired.saturating_add(added),
        placements: placed.reasons,
        victims: Vec::new(),
    };
    let action =
        Action::AddReplicas { workload: workload.id.clone(), observed: workload.desired, nodes };
    Ok(Proposal { action, report: why.explain(view, safety, at) })
}

fn shrink(
    view: &View<'_>,
    safety: &Safety,
    ledger: &Ledger,
    at: WorkloadIndex,
    by: u32,
) -> Result<Proposal, ScaleReason> {
    let removed = place::remove(view, safety, ledger, at, by);
    let workload = view.workloads[at.at()].workload;
    let ready = view.workloads[at.at()].ready_total();
    if removed.victims.is_empty() {
        return Err(removed.refused.map_or(
            ScaleReason::Settling { ready, desired: workload.desired },
            ScaleReason::from,
        ));
    }
    let gone = u32::try_from(removed.victims.len()).unwrap_or(by);
    let why = Change {
        trigger: Trigger::Idle,
        to: workload.desired.saturating_sub(gone),
        placements: Vec::new(),
        victims: removed.victims.clone(),
    };
    let action = Action::RemoveReplicas {
        workload: workload.id.clone(),
        observed: workload.desired,
        victims: removed.victims,
    };
    Ok(Proposal { action, report: why.explain(view, safety, at) })
}

/// A change of a count, to be explained.
struct Change {
    trigger: Trigger,
    to: u32,
    placements: Vec<PlacementReason>,
    victims: Vec<PodName>,
}

impl Change {
    fn explain(self, view: &View<'_>, safety: &Safety, at: WorkloadIndex) -> ActionReport {
        let (workload, facts) = (view.workloads[at.at()].workload, safety.of(at));
        ActionReport {
            // Relief from waiting is not predicted: it depends on the distribution of
            // service times, which is not known.
            expected: Expected::default(),
            why: Why::Scale(ScaleWhy {
                workload: workload.id.clone(),
                trigger: self.trigger,
                from: workload.desired,
                to: self.to,
                utilisation: facts.utilisation,
                p95: facts.p95,
                placements: self.placements,
                victims: self.victims,
            }),
        }
    }
}
