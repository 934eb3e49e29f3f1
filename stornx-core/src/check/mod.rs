//! The independent checker of plans.

mod violation;

use std::collections::BTreeSet;

pub use self::violation::Violation;
use crate::{
    memory::Memory,
    model::Snapshot,
    plan::{Action, Planned},
    policy::Policy,
};

/// Everything in `planned` that must not be done; empty when it may be carried out.
#[must_use]
pub fn check(
    snapshot: &Snapshot,
    _policy: &Policy,
    _memory: &Memory,
    planned: &Planned,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    let (actions, reasons) = (planned.plan.actions.len(), planned.report.actions.len());
    if actions != reasons {
        violations.push(Violation::ReasonsMissing { actions, reasons });
    }
    let mut counted = BTreeSet::new();
    let mut routed = BTreeSet::new();
    for action in &planned.plan.actions {
        let workload = action.workload();
        if !snapshot.workloads.iter().any(|known| known.id == *workload) {
            violations.push(Violation::UnknownWorkload { workload: workload.clone() });
        }
        if let Action::SetRoutes { host, .. } = action {
            if !snapshot.hosts.iter().any(|known| known.name == *host) {
                violations.push(Violation::UnknownHost { host: host.clone() });
            }
            if !routed.insert(host) {
                violations.push(Violation::HostWrittenTwice { host: host.clone() });
            }
        } else if !counted.insert(workload) {
            violations.push(Violation::CountChangedTwice { workload: workload.clone() });
        }
    }
    violations
}
