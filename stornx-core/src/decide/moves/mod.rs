//! Moves of running replicas.

use super::{Proposal, ledger::Ledger, safety::Safety};
use crate::{
    memory::Memory, model::Snapshot, plan::Planned, policy::Policy, remember::Outcomes,
    report::MoveReason, units::Timestamp, view::View,
};

/// What becomes of the moves under way.
pub(crate) struct UnderWay {
    pub(crate) proposals: Vec<Proposal>,
    /// One for each workload of the view; `None` where no move is under way.
    pub(crate) reasons: Vec<Option<MoveReason>>,
}

/// What was decided.
pub(crate) struct Moved {
    pub(crate) proposals: Vec<Proposal>,
    /// One for each workload of the view.
    pub(crate) reasons: Vec<MoveReason>,
}

/// Finishes, waits for or gives up each move under way.
pub(crate) fn advance(view: &View<'_>, _: &Safety, _: &Memory, _: &mut Ledger) -> UnderWay {
    UnderWay { proposals: Vec::new(), reasons: view.workloads.iter().map(|_| None).collect() }
}

/// Decides which moves begin.
pub(crate) fn decide(
    view: &View<'_>,
    _: &Safety,
    _: &Memory,
    _: &mut Ledger,
    _under_way: &UnderWay,
) -> Moved {
    let reasons = view.workloads.iter().map(|_| MoveReason::Disabled).collect();
    Moved { proposals: Vec::new(), reasons }
}

/// What is remembered of workloads after a cycle.
pub(crate) fn remember_workloads(
    _memory: &mut Memory,
    _snapshot: &Snapshot,
    _planned: &Planned,
    _outcomes: &Outcomes,
    _policy: &Policy,
    _now: Timestamp,
) {
}
