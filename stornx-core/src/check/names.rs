//! Every id exists, every action has its reason, nothing is done twice.

use std::collections::BTreeSet;

use super::{Violation, ground::Ground};
use crate::{
    ids::PodName,
    model::Workload,
    plan::{Action, MoveEnding},
    report::{ActionReport, TidyWhy, Why},
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    reasons(ground, violations);
    repetitions(ground, violations);
    for action in ground.actions() {
        known(ground, action, violations);
    }
}

fn reasons(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let planned = ground.planned;
    let (actions, reasons) = (planned.plan.actions.len(), planned.report.actions.len());
    if actions != reasons {
        violations.push(Violation::ReasonsMissing { actions, reasons });
    }
    for (action, report) in planned.plan.actions.iter().zip(&planned.report.actions) {
        if !explains(action, report) {
            violations.push(Violation::WrongReason { action: action.to_string() });
        }
    }
}

/// Whether a reason speaks of the action that it stands by.
fn explains(action: &Action, report: &ActionReport) -> bool {
    match (action, &report.why) {
        (Action::AddReplicas { workload, observed, nodes }, Why::Scale(why)) => {
            let placed = why.placements.iter().map(|placement| &placement.node);
            why.workload == *workload
                && why.from == *observed
                && u32::try_from(nodes.len())
                    .is_ok_and(|new| observed.checked_add(new) == Some(why.to))
                && (why.placements.is_empty() || placed.eq(nodes))
        }
        (Action::RemoveReplicas { workload, observed, victims }, Why::Scale(why)) => {
            why.workload == *workload
                && why.from == *observed
                && u32::try_from(victims.len())
                    .is_ok_and(|gone| why.to.checked_add(gone) == Some(*observed))
                && why.victims == *victims
        }
        (
            Action::StartMove { .. }
            | Action::FinishMove { .. }
            | Action::AbortMove { .. }
            | Action::GiveBackMinimum { ending: Some(_), .. }
            | Action::CloseMove { .. },
            Why::Move(_),
        )
        | (Action::GiveBackMinimum { ending: None, .. }, Why::TidyUp(TidyWhy::Raised))
        | (Action::Unmark { .. }, Why::TidyUp(TidyWhy::Marked))
        | (Action::Release { .. }, Why::TidyUp(TidyWhy::NoRoom { .. }))
        | (Action::GiveBackRoutes { .. }, Why::TidyUp(TidyWhy::Routes)) => true,
        (Action::SetRoutes { host, purpose, .. }, Why::Route(why)) => {
            why.host == *host && why.purpose == *purpose
        }
        _ => false,
    }
}

fn repetitions(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let (mut counted, mut routed) = (BTreeSet::new(), BTreeSet::new());
    for action in ground.actions() {
        if let Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } = action {
            if !routed.insert(host) {
                violations.push(Violation::HostWrittenTwice { host: host.clone() });
            }
        } else if let Some(workload) = action.workload()
            && !counted.insert(workload)
        {
            violations.push(Violation::CountChangedTwice { workload: workload.clone() });
        }
    }
}

fn known(ground: &Ground<'_>, action: &Action, violations: &mut Vec<Violation>) {
    if let Some(host) = action.host()
        && !ground.hosts.contains_key(host)
    {
        violations.push(Violation::UnknownHost { host: host.clone() });
    }
    // Whether there may be none is a question of whose the host is.
    let Some(id) = action.workload() else { return };
    let Some(workload) = ground.workloads.get(id) else {
        // The record of a workload that was deleted may be cleared.
        if !matches!(action, Action::CloseMove { .. }) {
            violations.push(Violation::UnknownWorkload { workload: id.clone() });
        }
        return;
    };
    let mut nodes = Vec::new();
    let mut pods: Vec<&PodName> = Vec::new();
    match action {
        Action::AddReplicas { nodes: new, .. } => {
            nodes.extend(new);
            if new.is_empty() {
                violations.push(Violation::NothingToDo { action: action.to_string() });
            }
        }
        Action::RemoveReplicas { victims, .. } => {
            pods.extend(victims);
            if victims.is_empty() {
                violations.push(Violation::NothingToDo { action: action.to_string() });
            }
        }
        Action::StartMove { victim, to, .. } => {
            nodes.push(to);
            pods.push(victim);
        }
        Action::FinishMove { victim, replacement, .. } => pods.extend([victim, replacement]),
        Action::AbortMove { surge, .. } => pods.extend(surge),
        Action::GiveBackMinimum { goes, ending, .. } => {
            pods.extend(goes);
            if let Some(MoveEnding::Finish { replacement }) = ending {
                pods.push(replacement);
            }
        }
        Action::CloseMove { .. } | Action::SetRoutes { .. } | Action::GiveBackRoutes { .. } => {}
        Action::Unmark { pods: named, .. } | Action::Release { pods: named, .. } => {
            pods.extend(named);
            if named.is_empty() {
                violations.push(Violation::NothingToDo { action: action.to_string() });
            }
        }
    }
    for node in nodes {
        if !ground.nodes.contains_key(node) {
            violations.push(Violation::UnknownNode { node: node.clone() });
        }
    }
    distinct_replicas(workload, &pods, violations);
}

/// Each replica named is one of the workload, not on its way out, and named once.
fn distinct_replicas(workload: &Workload, pods: &[&PodName], violations: &mut Vec<Violation>) {
    let active: BTreeSet<&PodName> = workload.active().map(|pod| &pod.name).collect();
    let mut seen = BTreeSet::new();
    for pod in pods {
        if !active.contains(pod) {
            let (workload, pod) = (workload.id.clone(), (*pod).clone());
            violations.push(Violation::UnknownReplica { workload, pod });
        } else if !seen.insert(*pod) {
            violations.push(Violation::ReplicaNamedTwice { pod: (*pod).clone() });
        }
    }
}
