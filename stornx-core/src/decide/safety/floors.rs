//! The floors that hold for every change of a layout, whichever room proposes it: the
//! disruption budget, zone loss, spread and skew.
//!
//! A change is given as the serving replicas by zone before and after. What is broken
//! already may stay as it is but not get worse, so that a workload in a bad state can
//! be led out of it step by step.

use std::fmt;

use crate::{decide::zone_loss, model::Workload, policy::Policy, report::ScaleReason};

/// The floor that a change would break, in the order in which they are tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    /// The disruption budget.
    DisruptionBudget {
        /// Replicas that must stay Ready.
        min_ready: u32,
    },
    /// Losing a zone would leave too few.
    ZoneLoss {
        /// The least count that keeps what must survive.
        floor: u32,
    },
    /// Too few zones would hold a replica.
    TooFewZones {
        /// Zones that must hold one.
        zones: u32,
    },
    /// Too many zones would hold a replica.
    TooManyZones {
        /// Zones that may hold one.
        zones: u32,
    },
    /// One zone would hold too many more than another.
    Skew {
        /// How many more are allowed.
        max: u32,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DisruptionBudget { min_ready } => {
                write!(f, "its disruption budget keeps {min_ready} replicas ready")
            }
            Self::ZoneLoss { floor } => {
                write!(f, "below {floor} replicas the loss of a zone would leave too few")
            }
            Self::TooFewZones { zones } => write!(f, "it stays spread over {zones} zones"),
            Self::TooManyZones { zones } => write!(f, "it is spread over at most {zones} zones"),
            Self::Skew { max } => {
                write!(f, "no zone may hold more than {max} replicas more than another")
            }
        }
    }
}

impl From<Refusal> for ScaleReason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::DisruptionBudget { min_ready } => Self::DisruptionBudget { min_ready },
            Refusal::ZoneLoss { floor } => Self::ZoneLossFloor { floor },
            Refusal::TooFewZones { zones } | Refusal::TooManyZones { zones } => {
                Self::Spread { zones }
            }
            Refusal::Skew { max } => Self::Skew { max },
        }
    }
}

/// The floors of one workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Floors {
    /// Replicas that must stay Ready by its disruption budget.
    pub(crate) min_ready: u32,
    /// Zones over which it is spread.
    pub(crate) max_zones: u32,
    /// Most replicas that a zone may have more than another.
    pub(crate) max_skew: u32,
    /// Replicas that must survive the loss of a zone; `None` when demand is unknown,
    /// and then no change may leave fewer survivors than before.
    pub(crate) needed: Option<f64>,
}

impl Floors {
    /// The floors of a workload whose demand in replicas is `demand`.
    pub(super) fn of(policy: &Policy, workload: &Workload, demand: Option<f64>) -> Self {
        let tolerance = &policy.fault_tolerance;
        let budget = workload.budget.filter(|_| policy.scaler.respect_budgets);
        let own_skew = workload.constraints.max_zone_skew.unwrap_or(u32::MAX);
        Self {
            min_ready: budget.map_or(0, |budget| budget.min_ready),
            max_zones: tolerance.max_zones,
            max_skew: tolerance.max_skew.min(own_skew).max(1),
            needed: demand.map(|demand| demand * tolerance.survive.get() / 100.0),
        }
    }

    /// Whether a change from `before` to `after` (serving replicas by zone) keeps all
    /// floors: each holds afterwards, or is broken no further than before.
    ///
    /// # Errors
    /// The first floor that it would break.
    pub(crate) fn change_allowed(&self, before: &[u32], after: &[u32]) -> Result<(), Refusal> {
        let (total_before, total_after) = (total(before), total(after));
        if total_after < total_before && total_after < self.min_ready {
            return Err(Refusal::DisruptionBudget { min_ready: self.min_ready });
        }
        if zone_loss::survivors(after) < zone_loss::survivors(before)
            && !self.is_enough(zone_loss::survivors(after))
        {
            return Err(Refusal::ZoneLoss { floor: self.zone_loss_floor(before) });
        }
        let (held_before, held_after) = (held(before), held(after));
        let least = held_before.min(self.max_zones);
        if held_after < least {
            return Err(Refusal::TooFewZones { zones: least });
        }
        let most = held_before.max(self.max_zones);
        if held_after > most {
            return Err(Refusal::TooManyZones { zones: most });
        }
        let (skew_before, skew_after) = skews(before, after);
        if skew_after > self.max_skew && skew_after > skew_before {
            return Err(Refusal::Skew { max: self.max_skew });
        }
        Ok(())
    }

    fn is_enough(&self, survivors: u32) -> bool {
        self.needed.is_some_and(|needed| zone_loss::enough(survivors, needed))
    }

    /// The least count that keeps what must survive: for the report.
    fn zone_loss_floor(&self, before: &[u32]) -> u32 {
        match self.needed {
            Some(needed) => zone_loss::least_count(needed, held(before)).min(total(before)),
            None => total(before),
        }
    }
}

fn total(counts: &[u32]) -> u32 {
    counts.iter().sum()
}

/// Zones that hold a replica.
fn held(counts: &[u32]) -> u32 {
    counts.iter().map(|count| u32::from(*count > 0)).sum()
}

/// The skew before and after over the zones that hold a replica before or after: a
/// zone just entered or just left counts with its zero.
fn skews(before: &[u32], after: &[u32]) -> (u32, u32) {
    let used = |(b, a): &(u32, u32)| *b > 0 || *a > 0;
    let pairs = || before.iter().copied().zip(after.iter().copied()).filter(used);
    let skew = |counts: Vec<u32>| {
        let most = counts.iter().max().copied().unwrap_or(0);
        most - counts.iter().min().copied().unwrap_or(0)
    };
    (skew(pairs().map(|(b, _)| b).collect()), skew(pairs().map(|(_, a)| a).collect()))
}
