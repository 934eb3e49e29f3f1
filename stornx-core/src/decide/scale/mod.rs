//! Replica counts.

use super::{Proposal, ledger::Ledger, safety::Safety};
use crate::{memory::Memory, report::ScaleReason, view::View};

/// What was decided.
pub(crate) struct Scaled {
    pub(crate) proposals: Vec<Proposal>,
    /// One for each workload of the view.
    pub(crate) reasons: Vec<ScaleReason>,
}

/// Decides all counts.
pub(crate) fn decide(view: &View<'_>, _: &Safety, _: &Memory, _: &mut Ledger) -> Scaled {
    let reasons = view.workloads.iter().map(|_| ScaleReason::Disabled).collect();
    Scaled { proposals: Vec::new(), reasons }
}
