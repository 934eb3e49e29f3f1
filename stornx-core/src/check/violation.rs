//! What the checker finds, as data: which rule, which ids, which numbers.

use thiserror::Error;

use crate::ids::{HostName, WorkloadRef};

/// One thing in a plan that must not be done.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum Violation {
    /// The report does not say why for each action.
    #[error("{actions} actions have {reasons} reasons")]
    ReasonsMissing {
        /// Actions of the plan.
        actions: usize,
        /// Reasons of the report.
        reasons: usize,
    },
    /// A workload that the snapshot does not know.
    #[error("{workload} is not in the snapshot")]
    UnknownWorkload {
        /// Which one.
        workload: WorkloadRef,
    },
    /// A host that the snapshot does not know.
    #[error("{host} is not in the snapshot")]
    UnknownHost {
        /// Which one.
        host: HostName,
    },
    /// More than one action changes one count.
    #[error("{workload}: its count is changed by more than one action")]
    CountChangedTwice {
        /// Which one.
        workload: WorkloadRef,
    },
    /// More than one action writes one host.
    #[error("{host}: its routes are written by more than one action")]
    HostWrittenTwice {
        /// Which one.
        host: HostName,
    },
}
