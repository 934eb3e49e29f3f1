//! What the checker finds, as data: which rule, which ids, which numbers.

use std::fmt;

use thiserror::Error;

use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    model::{AutoscalerKind, ForeignRule, Rollout},
    plan::RoutePurpose,
    units::Span,
};

/// Whose something is, or what else keeps it from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// It is outside the monitored namespaces.
    NotMonitored,
    /// Another controller owns the count.
    Autoscaler(AutoscalerKind),
    /// A rollout is in progress or paused.
    Rollout(Rollout),
    /// Its owner opted out.
    OptedOut,
    /// Its owner does not want this kind of change.
    NotWanted,
    /// This kind of change is switched off.
    SwitchedOff,
    /// A move of one of its replicas is under way.
    MoveInFlight,
    /// Its owner wants no moves at this time.
    QuietHour,
    /// A new replica cannot be told where to run.
    NoSteering,
    /// There is no mesh that would read the rule.
    NoMesh,
    /// Nobody is known who would read the rule: no waypoint, and no caller with a proxy.
    NobodyReads,
    /// The rule is somebody else's.
    ForeignRule(ForeignRule),
    /// The workload is not the only one behind the host.
    OtherBackends,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMonitored => f.write_str("it is not in a monitored namespace"),
            Self::Autoscaler(kind) => write!(f, "its count belongs to {kind:?}"),
            Self::Rollout(state) => write!(f, "its rollout is {state:?}"),
            Self::OptedOut => f.write_str("its owner opted out"),
            Self::NotWanted => f.write_str("its owner does not want it"),
            Self::SwitchedOff => f.write_str("it is switched off"),
            Self::MoveInFlight => f.write_str("a move is under way"),
            Self::QuietHour => f.write_str("it is a quiet hour"),
            Self::NoSteering => f.write_str("its replacement could not be told where to run"),
            Self::NoMesh => f.write_str("there is no mesh to carry it out"),
            Self::NobodyReads => f.write_str("nobody is known who would read the rule"),
            Self::ForeignRule(rule) => write!(f, "the rule is not ours ({rule:?})"),
            Self::OtherBackends => f.write_str("the workload is not alone behind the host"),
        }
    }
}

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
    /// A reason speaks of something else than its action.
    #[error("{action}: its reason speaks of something else")]
    WrongReason {
        /// The action in plain words.
        action: String,
    },
    /// An action without an effect.
    #[error("{action}: it does nothing")]
    NothingToDo {
        /// The action in plain words.
        action: String,
    },
    /// Something is tidied up that is no leftover.
    #[error("{action}: {detail}")]
    NotALeftover {
        /// The action in plain words.
        action: String,
        /// What stands against it.
        detail: String,
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
    /// A node that the snapshot does not know.
    #[error("{node} is not in the snapshot")]
    UnknownNode {
        /// Which one.
        node: NodeName,
    },
    /// A replica that the workload does not have, or that is already going.
    #[error("{pod} is not a replica of {workload}")]
    UnknownReplica {
        /// Of which workload.
        workload: WorkloadRef,
        /// Which one.
        pod: PodName,
    },
    /// A replica in two roles of one action.
    #[error("{pod} is named twice by one action")]
    ReplicaNamedTwice {
        /// Which one.
        pod: PodName,
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

    /// A caller zone without weights.
    #[error("{host}: callers in {caller} have no weights")]
    CallerForgotten {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
    },
    /// A zone that can hold an endpoint is not named.
    #[error("{host}: endpoints in {zone} are cut off from callers in {caller}")]
    ZoneCutOff {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
        /// The zone that is not named.
        zone: ZoneName,
    },
    /// A zone without nodes is named.
    #[error("{host}: {zone} is named and has no nodes")]
    UnknownZone {
        /// Of which host.
        host: HostName,
        /// Which one.
        zone: ZoneName,
    },
    /// An endpoint may be where no weights name it.
    #[error("{host}: a pod behind it is elsewhere than its node, and could be cut off")]
    EndpointElsewhere {
        /// Of which host.
        host: HostName,
    },
    /// An endpoint is in no place that weights name.
    #[error("{host}: an endpoint behind it is no pod of this cluster, and would be cut off")]
    EndpointWithoutPlace {
        /// Of which host.
        host: HostName,
    },
    /// The split that the action starts from is not the one that stands.
    #[error("{host}: the weights of callers in {caller} are not what stands")]
    SplitMisread {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
    },
    /// The report claims what is not so.
    #[error("{host}: the report is wrong about {claim}")]
    FalseClaim {
        /// Of which host.
        host: HostName,
        /// About what.
        claim: &'static str,
    },
    /// A route moves by more than the step.
    #[error("{host}: {caller} to {zone} goes from {before} to {after}, by more than {step}")]
    StepTooLarge {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
        /// The destination zone.
        zone: ZoneName,
        /// Weight before.
        before: u8,
        /// Weight after.
        after: u8,
        /// Percentage points allowed.
        step: f64,
    },
    /// A route is lowered below the reserve.
    #[error("{host}: {caller} to {zone} is lowered to {after}, below the reserve")]
    ReserveSpent {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
        /// The destination zone.
        zone: ZoneName,
        /// Weight after.
        after: u8,
    },
    /// A change smaller than `BALANCER_MIN_DELTA`.
    #[error("{host}: a change of {change} points is not worth a write")]
    NotWorthAWrite {
        /// Of which host.
        host: HostName,
        /// L1 distance, percentage points.
        change: u32,
    },
    /// A decay away from the replica-proportional split.
    #[error("{host}: callers in {caller} go away from the replica-proportional split")]
    WrongDirection {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
    },
    /// A change of routes that rests on traffic, while that is not known.
    #[error("{host}: {purpose:?} rests on traffic, which is stale or missing")]
    TrafficNotKnown {
        /// Of which host.
        host: HostName,
        /// What it is for.
        purpose: RoutePurpose,
    },
    /// An undo of what cannot have been seen.
    #[error("{host}: its last change is undone, but {detail}")]
    UndoneUnseen {
        /// Of which host.
        host: HostName,
        /// What stands against it.
        detail: &'static str,
    },
    /// A decay that nothing asks for.
    #[error("{host}: its weights decay, but {detail}")]
    DecayUnfounded {
        /// Of which host.
        host: HostName,
        /// What stands against it.
        detail: &'static str,
    },
    /// A cover of a split that is whole.
    #[error("{host}: every zone is named already, there is nothing to cover")]
    NothingToCover {
        /// Of which host.
        host: HostName,
    },
    /// A cover that changes more than it must.
    #[error("{host}: for callers in {caller} more changes than naming zones takes")]
    CoverTooWide {
        /// Of which host.
        host: HostName,
        /// The caller zone.
        caller: ZoneName,
    },
    /// An undo that does not go back to what stood before.
    #[error("{host}: this is not what stood before the last write")]
    NotWhatStoodBefore {
        /// Of which host.
        host: HostName,
    },

    /// The count that an action expects is not the one that stands.
    #[error("{workload}: {observed} replicas are expected, {desired} are asked for")]
    CountMisread {
        /// Which one.
        workload: WorkloadRef,
        /// What the action expects.
        observed: u32,
        /// What the snapshot says.
        desired: u32,
    },
    /// More replicas than allowed.
    #[error("{workload}: {after} replicas are above its maximum of {max}")]
    AboveMaximum {
        /// Which one.
        workload: WorkloadRef,
        /// The count afterwards.
        after: i64,
        /// What is allowed.
        max: u32,
    },
    /// Fewer replicas than allowed.
    #[error("{workload}: {after} replicas are below its minimum of {min}")]
    BelowMinimum {
        /// Which one.
        workload: WorkloadRef,
        /// The count afterwards.
        after: i64,
        /// What is asked for.
        min: u32,
    },
    /// A disruption budget is broken.
    #[error("{workload}: {after} Ready replicas break its disruption budget of {min_ready}")]
    DisruptionBudget {
        /// Which one.
        workload: WorkloadRef,
        /// Ready replicas afterwards.
        after: u32,
        /// What the budget asks for.
        min_ready: u32,
    },
    /// A stateful set cannot lose this replica first.
    #[error("{workload}: {pod} cannot go before those of higher ordinals")]
    NotTheLastOrdinal {
        /// Which one.
        workload: WorkloadRef,
        /// The replica named.
        pod: PodName,
    },
    /// Replicas are spread over fewer zones.
    #[error("{workload}: its replicas go from {before} zones to {after}")]
    SpreadNarrowed {
        /// Which one.
        workload: WorkloadRef,
        /// Zones before.
        before: u32,
        /// Zones after.
        after: u32,
    },
    /// Replicas are spread over more zones than allowed.
    #[error("{workload}: its replicas are put into {zones} zones, {max} are allowed")]
    SpreadTooWide {
        /// Which one.
        workload: WorkloadRef,
        /// Zones after.
        zones: u32,
        /// What is allowed.
        max: u32,
    },
    /// A new replica goes where others are while a zone without one could take it.
    #[error("{workload}: {zone} holds no replica and could take the new one")]
    SpreadNotWidened {
        /// Which one.
        workload: WorkloadRef,
        /// The zone without one.
        zone: ZoneName,
    },
    /// Zones differ by more replicas than allowed.
    #[error("{workload}: its zones differ by {after} replicas, {allowed} are allowed")]
    SkewWorsened {
        /// Which one.
        workload: WorkloadRef,
        /// Skew afterwards.
        after: u32,
        /// What is allowed: the setting, or what it was.
        allowed: u32,
    },
    /// A move that is begun, finished or given up in the wrong order.
    #[error("{action}: {detail}")]
    MoveOutOfOrder {
        /// The action in plain words.
        action: String,
        /// What is wrong.
        detail: String,
    },
    /// Too little is left when a zone is lost.
    #[error(
        "{workload}: {after} replicas would survive the loss of a zone, {before} do now and {} are needed",
        needed.map_or_else(|| "an unknown number".to_owned(), |needed| format!("{needed:.2}"))
    )]
    TooFewSurvivors {
        /// Which one.
        workload: WorkloadRef,
        /// Survivors before.
        before: u32,
        /// Survivors after.
        after: u32,
        /// Replicas for the share of today's demand that must survive, where known.
        needed: Option<f64>,
    },
    /// The report predicts a utilisation above the cap.
    #[error("{host}: its busiest zone is predicted at {after:.1} %, above the cap of {cap} %")]
    CapBrokenByItsOwnWord {
        /// Of which host.
        host: HostName,
        /// Predicted utilisation, per cent.
        after: f64,
        /// The cap, per cent.
        cap: f64,
    },
    /// More requests than before fall where the cap does not allow them.
    #[error(
        "{host}: {after:.1} requests/s are above the cap, before {before:.1}, in doubt {slack:.1}"
    )]
    CapBroken {
        /// Of which host.
        host: HostName,
        /// Excess before, requests/s.
        before: f64,
        /// Excess after, requests/s.
        after: f64,
        /// What the observations leave in doubt, requests/s.
        slack: f64,
    },
    /// Beyond the cap, the busiest zone becomes busier.
    #[error(
        "{host}: its busiest zone goes from {before:.1} % to {after:.1} % or more, above the cap"
    )]
    BusiestZoneWorse {
        /// Of which host.
        host: HostName,
        /// Predicted utilisation of the busiest zone before, per cent.
        before: f64,
        /// The same afterwards, less what is in doubt.
        after: f64,
    },
    /// Something that is not ours to write.
    #[error("{action}: {owner}")]
    NotOurs {
        /// The action in plain words.
        action: String,
        /// Whose it is.
        owner: Owner,
    },
    /// A budget is exceeded.
    #[error("{budget} allows {allowed}, the plan takes {used}")]
    BudgetExceeded {
        /// The setting.
        budget: &'static str,
        /// What the plan takes.
        used: u32,
        /// What is allowed.
        allowed: u32,
    },
    /// A workload that is to be left alone for a while.
    #[error("{workload}: to be left alone for another {left}")]
    TooSoon {
        /// Which one.
        workload: WorkloadRef,
        /// For how long.
        left: Span,
    },
    /// A host whose routes are to be left alone for a while.
    #[error("{host}: its routes are to be left alone for another {left}")]
    RoutesTooSoon {
        /// Which one.
        host: HostName,
        /// For how long.
        left: Span,
    },
    /// A step on figures that the last write of the host rested on already.
    #[error("{host}: its routes are changed again on figures not newer than their last write")]
    RoutesSeenAlready {
        /// Which one.
        host: HostName,
    },
    /// A write that must not wait comes after something that may.
    #[error("{host}: what its routes need at once comes after what may wait")]
    RoutesTooLate {
        /// Which one.
        host: HostName,
    },
    /// A node that cannot take the new replica.
    #[error("{workload}: a replica cannot run on {node}: {reason}")]
    CannotRunThere {
        /// Of which workload.
        workload: WorkloadRef,
        /// Where it is put.
        node: NodeName,
        /// Why not.
        reason: &'static str,
    },
}
