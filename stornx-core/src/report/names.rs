//! Short names of reasons, inputs and actions: for labels of metrics, reasons of events
//! and fields of logs. A name never changes with the numbers that decided, so that an
//! unchanged state is recognised as such. Names are a contract: added to, never renamed.

use super::{Input, InputState, MoveReason, RouteReason, ScaleReason};
use crate::{plan::ActionKind, ports::PortError};

impl ScaleReason {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Scaled => "scaled",
            Self::WithinBand => "within-band",
            Self::SlowButIdle { .. } => "slow-but-idle",
            Self::SlowDownstream { .. } => "slow-downstream",
            Self::SlowLately { .. } => "slow-lately",
            Self::GrowthDidNotHelp { .. } => "growth-did-not-help",
            Self::RemainingTooBusy { .. } => "remaining-too-busy",
            Self::Disabled => "disabled",
            Self::NotManaged => "not-managed",
            Self::OptedOut => "opted-out",
            Self::Paused => "paused",
            Self::RolloutInProgress => "rollout-in-progress",
            Self::MoveInFlight => "move-in-flight",
            Self::AutoscalerOwns { .. } => "autoscaler-owns",
            Self::Cooldown { .. } => "cooldown",
            Self::BudgetUsedUp { .. } => "budget-used-up",
            Self::DisruptionBudget { .. } => "disruption-budget",
            Self::ZoneLossFloor { .. } => "zone-loss-floor",
            Self::Spread { .. } => "spread",
            Self::Skew { .. } => "skew",
            Self::BoundToPlace => "bound-to-place",
            Self::ScaledToZero => "scaled-to-zero",
            Self::Settling { .. } => "settling",
            Self::AtMinimum { .. } => "at-minimum",
            Self::AtMaximum { .. } => "at-maximum",
            Self::NoFeasibleNode { .. } => "no-feasible-node",
            Self::NoBase => "no-base",
            Self::NoUsage => "no-usage",
            Self::NothingReady => "nothing-ready",
        }
    }

    /// Something that its owner has set up, or the state of the cluster, ties our hands:
    /// worth an event on the workload, as nobody would look for it in our logs.
    #[must_use]
    pub const fn is_guard(&self) -> bool {
        matches!(
            self,
            Self::OptedOut
                | Self::Paused
                | Self::RolloutInProgress
                | Self::AutoscalerOwns { .. }
                | Self::DisruptionBudget { .. }
                | Self::ZoneLossFloor { .. }
                | Self::Spread { .. }
                | Self::Skew { .. }
                | Self::AtMaximum { .. }
                | Self::NoFeasibleNode { .. }
                | Self::NoBase
        )
    }
}

impl MoveReason {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Waiting { .. } => "waiting",
            Self::Finished => "finished",
            Self::GivenUp { .. } => "given-up",
            Self::Closed => "closed",
            Self::QuietHours => "quiet-hours",
            Self::NoSteering => "no-steering",
            Self::WellPlaced { .. } => "well-placed",
            Self::Confirming { .. } => "confirming",
            Self::BudgetUsedUp => "budget-used-up",
            Self::NeedsOthers { .. } => "needs-others",
            Self::NoRoom => "no-room",
            Self::Disabled => "disabled",
            Self::NotManaged => "not-managed",
            Self::OptedOut => "opted-out",
            Self::NotWanted => "not-wanted",
            Self::NotMovable => "not-movable",
            Self::Paused => "paused",
            Self::RolloutInProgress => "rollout-in-progress",
            Self::AutoscalerOwns { .. } => "autoscaler-owns",
            Self::BeingScaled => "being-scaled",
            Self::Backoff { .. } => "backoff",
            Self::NotSettled => "not-settled",
            Self::NoTraffic => "no-traffic",
        }
    }
}

impl RouteReason {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::AtTarget => "at-target",
            Self::BelowMinDelta { .. } => "below-min-delta",
            Self::GainTooSmall { .. } => "gain-too-small",
            Self::Disabled => "disabled",
            Self::NotRoutable => "not-routable",
            Self::Unnamed => "unnamed-place",
            Self::NoRule => "no-rule",
            Self::NotManaged => "not-managed",
            Self::OptedOut => "opted-out",
            Self::Foreign(_) => "foreign-rule",
            Self::NotOneWorkload { .. } => "not-one-workload",
            Self::Displaced => "displaced-pod",
            Self::ForeignEndpoints => "foreign-endpoints",
            Self::NoWaypoint => "no-waypoint",
            Self::OneZone => "one-zone",
            Self::TooManyZones { .. } => "too-many-zones",
            Self::NothingReady => "nothing-ready",
            Self::NoDemand => "no-demand",
            Self::NoTraffic { .. } => "no-traffic",
            Self::SeenAgain { .. } => "seen-again",
            Self::Backoff { .. } => "backoff",
            Self::RollingOut => "rolling-out",
            Self::SeenAlready => "seen-already",
            Self::Waits => "waits",
        }
    }
}

impl Input {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Traffic => "traffic",
            Self::Latency => "latency",
            Self::Routing => "routing",
            Self::Steering => "steering",
        }
    }
}

impl InputState {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Missing => "missing",
        }
    }
}

impl ActionKind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AddReplicas => "add-replicas",
            Self::RemoveReplicas => "remove-replicas",
            Self::StartMove => "start-move",
            Self::FinishMove => "finish-move",
            Self::AbortMove => "abort-move",
            Self::CloseMove => "close-move",
            Self::GiveBackMinimum => "give-back-minimum",
            Self::Unmark => "unmark",
            Self::Release => "release",
            Self::SetRoutes => "set-routes",
            Self::GiveBackRoutes => "give-back-routes",
        }
    }
}

impl PortError {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Conflict { .. } => "conflict",
            Self::Rejected { .. } => "rejected",
            Self::NotTried { .. } => "not-tried",
            Self::NotLeader { .. } => "not-leader",
        }
    }
}
