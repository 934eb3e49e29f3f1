//! The last step of a cycle: the memory that the next one starts with, made from what
//! was seen, what was planned and what was done.

use crate::{
    decide::{remember_counts, remember_hosts, remember_workloads},
    memory::Memory,
    model::Snapshot,
    plan::Planned,
    policy::Policy,
    ports::PortError,
    units::Timestamp,
    view::View,
};

/// What came of each action of a plan, in its order. Actions that were not tried (dry
/// run, lost leadership) carry the reason as an error.
pub type Outcomes = Vec<Result<(), PortError>>;

/// The memory after a cycle.
#[must_use]
pub fn remember(
    mut memory: Memory,
    snapshot: &Snapshot,
    planned: &Planned,
    outcomes: &Outcomes,
    policy: &Policy,
    now: Timestamp,
) -> Memory {
    let view = View::new(snapshot, policy, now);
    remember_counts(&mut memory, planned, outcomes);
    remember_workloads(&mut memory, &view, planned, outcomes);
    remember_hosts(&mut memory, &view, planned, outcomes);
    memory
}
