//! Takes away what StornX left on pods and nobody waits for any more.
//!
//! - A mark of deletion on a replica that is not about to go: the action that set it was
//!   cut short, or another replica went. Left standing it would choose the victim of
//!   somebody else's scale-down. After a change of the count it stays for
//!   [`REQUEST_GRACE`]: a request that got no answer may still arrive, and then the mark
//!   says which replica goes.
//! - A minimum of an autoscaler that was raised for a move which is not known any more.
//! - A replica that waits for the node that it was told to run on: after half of
//!   `MOVE_TIMEOUT_SECONDS` it goes, and the one made in its place is not told. Half,
//!   because a cycle may come late and nothing may wait longer than the whole. The order
//!   lies in the pod and cannot be taken back from it.
//!
//! A move under way looks after its own replicas. What this plan already does to a
//! workload comes first: the next one tidies up. Marks and orders are ours, so whether
//! the owner wants StornX, or an autoscaler owns the count, does not matter here; only
//! where nothing may be written at all, nothing is.

use super::{
    Proposal, REQUEST_GRACE,
    ledger::Ledger,
    safety::{CountBlock, Safety},
};
use crate::{
    ids::PodName,
    memory::WorkloadMemory,
    model::{Pod, PodPhase},
    plan::Action,
    report::{ActionReport, Expected, TidyWhy, Why},
    units::Span,
    view::{Remembered, View, WorkloadView},
};

/// What is to be taken away, at most one kind of thing for each workload.
pub(crate) fn decide(
    view: &View<'_>,
    safety: &Safety,
    memory: &Remembered<'_>,
    ledger: &mut Ledger,
) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    for (at, workload) in view.each_workload() {
        let facts = safety.of(at);
        let writable = facts.count_block != Some(CountBlock::NotManaged);
        if !writable || facts.in_flight || ledger.is_counted(at) {
            continue;
        }
        let found = released(view, workload)
            .or_else(|| raised(workload))
            .or_else(|| unmarked(view, memory.workload(at), workload));
        if let Some(proposal) = found {
            ledger.count(at);
            proposals.push(proposal);
        }
    }
    proposals
}

fn names<'a>(pods: impl Iterator<Item = &'a Pod>) -> Vec<PodName> {
    pods.map(|pod| pod.name.clone()).collect()
}

fn proposal(action: Action, why: TidyWhy) -> Proposal {
    let report = ActionReport { expected: Expected::default(), why: Why::TidyUp(why) };
    Proposal { action, report }
}

fn released(view: &View<'_>, workload: &WorkloadView<'_>) -> Option<Proposal> {
    let workload = workload.workload;
    let waited = |pod: &Pod| view.now.since(pod.created_at);
    let waits = |pod: &&Pod| {
        pod.phase == PodPhase::Pending
            && pod.node.is_none()
            && pod.traces.steered.is_some()
            && waited(pod).times(2) >= view.policy.moves.timeout
    };
    let longest: Span = workload.active().filter(waits).map(waited).max()?;
    let pods = names(workload.active().filter(waits));
    let action = Action::Release { workload: workload.id.clone(), pods };
    Some(proposal(action, TidyWhy::NoRoom { waited: longest }))
}

fn raised(workload: &WorkloadView<'_>) -> Option<Proposal> {
    let workload = workload.workload;
    workload.autoscaler.and_then(|autoscaler| autoscaler.held)?;
    let (id, observed) = (workload.id.clone(), workload.desired);
    let action = Action::GiveBackMinimum { workload: id, observed, goes: None, ending: None };
    Some(proposal(action, TidyWhy::Raised))
}

fn unmarked(
    view: &View<'_>,
    remembered: Option<&WorkloadMemory>,
    workload: &WorkloadView<'_>,
) -> Option<Proposal> {
    let workload = workload.workload;
    let scaled = remembered.and_then(|remembered| remembered.scaled_at);
    if scaled.is_some_and(|scaled| view.now.since(scaled) <= REQUEST_GRACE) {
        return None;
    }
    if workload.active().count() > workload.desired as usize {
        return None; // Some are about to go, and the marks say which.
    }
    let pods = names(workload.active().filter(|pod| pod.traces.victim));
    let (id, observed) = (workload.id.clone(), workload.desired);
    let action = Action::Unmark { workload: id, observed, pods: pods.clone() };
    (!pods.is_empty()).then(|| proposal(action, TidyWhy::Marked))
}

#[cfg(test)]
mod tests;
