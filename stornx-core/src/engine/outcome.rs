//! What came of a cycle, as data: for logs, counters, the web page and tests.

use std::{collections::BTreeMap, fmt};

use thiserror::Error;

use crate::{
    check::Violation,
    memory::Memory,
    model::Snapshot,
    plan::Planned,
    ports::PortError,
    remember::Outcomes,
    units::{Span, Timestamp},
};

/// Why nothing is carried out in a dry run, as the detail of [`PortError::NotTried`].
pub const DRY_RUN: &str = "dry run";

/// The steps of a cycle, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Reading the cluster.
    Observe,
    /// Loading the memory.
    Load,
    /// Deciding.
    Plan,
    /// Checking the plan.
    Check,
    /// Storing what actions will leave in the memory before they begin.
    StoreIntents,
    /// Carrying the actions out.
    Act,
    /// Saving the memory after acting.
    Save,
}

impl Phase {
    /// Every phase, for counters that start at 0.
    pub const ALL: [Self; 7] = [
        Self::Observe,
        Self::Load,
        Self::Plan,
        Self::Check,
        Self::StoreIntents,
        Self::Act,
        Self::Save,
    ];

    /// A name for labels of metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Load => "load",
            Self::Plan => "plan",
            Self::Check => "check",
            Self::StoreIntents => "store-intents",
            Self::Act => "act",
            Self::Save => "save",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A step of the cycle that failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CycleError {
    /// The cluster could not be read: nothing was planned.
    #[error("the cluster could not be read, nothing was planned: {0}")]
    Observe(#[source] PortError),
    /// The memory could not be loaded: nothing was planned.
    #[error("the memory could not be loaded, nothing was planned: {0}")]
    Load(#[source] PortError),
    /// What actions would leave could not be stored: none was begun.
    #[error("what is to be done could not be remembered, nothing was begun: {0}")]
    StoreIntents(#[source] PortError),
    /// What was done may not be remembered.
    #[error("the memory could not be saved: {0}")]
    Save(#[source] PortError),
}

impl CycleError {
    /// The phase that failed.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match self {
            Self::Observe(_) => Phase::Observe,
            Self::Load(_) => Phase::Load,
            Self::StoreIntents(_) => Phase::StoreIntents,
            Self::Save(_) => Phase::Save,
        }
    }
}

/// What came of a cycle.
#[derive(Debug, Clone, PartialEq)]
pub struct CycleOutcome {
    /// When it began.
    pub at: Timestamp,
    /// What was seen and remembered; `None` when the cluster could not be read.
    pub snapshot: Option<Snapshot>,
    /// What was planned; `None` when nothing could be.
    pub planned: Option<Planned>,
    /// What the checker found; not empty means that nothing was written.
    pub violations: Vec<Violation>,
    /// What came of each action of the plan, in its order.
    pub outcomes: Outcomes,
    /// The memory after the cycle; `None` when it could not be loaded.
    pub memory: Option<Memory>,
    /// What failed apart from actions.
    pub errors: Vec<CycleError>,
    /// How long each step took, by the clock of the ports; steps that were not reached
    /// are absent.
    pub took: BTreeMap<Phase, Span>,
}

impl CycleOutcome {
    pub(super) const fn at(at: Timestamp) -> Self {
        Self {
            at,
            snapshot: None,
            planned: None,
            violations: Vec::new(),
            outcomes: Outcomes::new(),
            memory: None,
            errors: Vec::new(),
            took: BTreeMap::new(),
        }
    }

    /// Actions that were carried out.
    pub fn done(&self) -> impl Iterator<Item = &crate::plan::Action> {
        let actions = self.planned.iter().flat_map(|planned| &planned.plan.actions);
        actions.zip(&self.outcomes).filter(|(_, result)| result.is_ok()).map(|(action, _)| action)
    }

    /// Observed, planned, checked, and nothing that was tried failed.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.errors.is_empty()
            && self.violations.is_empty()
            && self
                .outcomes
                .iter()
                .all(|result| matches!(result, Ok(()) | Err(PortError::NotTried { .. })))
    }
}
