//! Routing weights.

use std::collections::BTreeMap;

use super::Proposal;
use crate::{
    ids::HostName, memory::Memory, model::Snapshot, plan::Planned, policy::Policy,
    remember::Outcomes, report::HostReport, units::Timestamp, view::View,
};

/// What was decided.
pub(crate) struct Routed {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) reports: BTreeMap<HostName, HostReport>,
}

/// Decides all routes.
pub(crate) fn decide(_view: &View<'_>, _memory: &Memory) -> Routed {
    Routed { proposals: Vec::new(), reports: BTreeMap::new() }
}

/// What is remembered of hosts after a cycle.
pub(crate) fn remember_hosts(
    _memory: &mut Memory,
    _snapshot: &Snapshot,
    _planned: &Planned,
    _outcomes: &Outcomes,
    _policy: &Policy,
    _now: Timestamp,
) {
}
