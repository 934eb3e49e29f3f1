//! The plan: what is to be done, as data, specific enough that carrying it out makes
//! no choice. Each action names what it expects to find (`observed`), so that an
//! actuator can refuse when the world has moved on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef},
    model::{ApiVersion, ForeignRule, RouteTable},
    report::Report,
    units::Timestamp,
};

/// Why routes are rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RoutePurpose {
    /// A step towards the target.
    Improve,
    /// A zone that can hold an endpoint is not named, or a named one is gone: repaired
    /// at once, since an endpoint in an unnamed zone is cut off.
    Cover,
    /// Metrics, or those of this host, have been unknown for too long: a step towards the
    /// replica-proportional split.
    Decay,
    /// A rollout replaces the replicas: a step towards every replica alike, until it is
    /// over.
    Rollout,
    /// The last change made things worse and is taken back.
    Undo,
}

/// Why a move is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AbortCause {
    /// The replacement was not Ready within the time-out.
    TimedOut,
    /// The victim went by itself: the replacement stays in its place.
    VictimGone,
    /// A rollout began.
    RolloutBegan,
    /// Somebody else changed the replica count.
    CountChanged,
    /// An autoscaler took over the count.
    AutoscalerAppeared,
    /// The workload was opted out, paused or deleted.
    NotAllowedAnyMore,
    /// Removing the victim would not be safe any more.
    Unsafe,
    /// The controller of the replicas has not counted the replacement as Ready: it might
    /// take another replica than the victim.
    NotCounted,
    /// The replacement came up in another zone than it was meant for.
    Misplaced,
    /// The surge was never asked for, or is gone again: the move stopped half way.
    NeverBegan,
    /// The count was lowered, and another replica than the one meant went.
    AnotherWent,
    /// The autoscaler was given its minimum back, and keeps the replica that was to go.
    KeptByAutoscaler,
}

/// How a replica makes way for its replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MoveWay {
    /// The replacement comes first: one replica more for a while.
    #[default]
    Surge,
    /// The replica is evicted, its controller makes the replacement. Only where an
    /// autoscaler owns the count and `MOVE_HPA_WORKLOADS` asks for it.
    Evict,
    /// The minimum of its HorizontalPodAutoscaler is raised by one until the replacement
    /// is Ready, so that it comes first. Only where `MOVE_HPA_WORKLOADS` asks for it.
    Hold,
}

/// How a move is about to end. Stored before it is done, so that what is seen afterwards
/// can be told apart: a count that is back as before, and one that was never raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MoveEnding {
    /// The victim goes, this replica has taken its place.
    Finish {
        /// The replacement.
        replacement: PodName,
    },
    /// The surge goes again.
    Undo {
        /// Why.
        cause: AbortCause,
    },
}

/// How a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MoveEnd {
    /// The victim is gone, its replacement serves.
    Done,
    /// It was given up, and nothing of it is left.
    GivenUp(AbortCause),
}

/// Why what was written for a host is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum GiveBackCause {
    /// The rule is not ours to write any more.
    Foreign(ForeignRule),
    /// The owner of the workload does not want its routes written.
    OptedOut,
    /// A node that can hold an endpoint is in a place that no rule can name.
    Unnamed,
    /// Zones have become too few or too many for weights.
    Zones,
    /// More than one workload stands behind it now.
    SeveralWorkloads,
    /// No workload that is known stands behind it any more: its Service has no selector, is
    /// gone, or selects pods of another kind of workload.
    NoWorkload,
    /// A label of a pod behind it puts the pod elsewhere than its node.
    Displaced,
    /// An endpoint behind it is no pod of this cluster.
    ForeignEndpoints,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Action {
    /// Raise the replica count by `nodes.len()`, each new replica on its node.
    AddReplicas {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand.
        observed: u32,
        /// One node for each new replica.
        nodes: Vec<NodeName>,
    },
    /// Lower the replica count by `victims.len()`, exactly these replicas going.
    RemoveReplicas {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand.
        observed: u32,
        /// The replicas that go.
        victims: Vec<PodName>,
    },
    /// Begin a move: record it, mark the victim as the one that goes, raise the count by
    /// one, the new replica on `to`; or mark it and raise the minimum of its autoscaler by
    /// one; or evict the replica, the new one on `to`.
    StartMove {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand.
        observed: u32,
        /// How.
        way: MoveWay,
        /// The replica that will go once its replacement is Ready.
        victim: PodName,
        /// Where the victim runs.
        from: NodeName,
        /// Where the replacement goes.
        to: NodeName,
    },
    /// The replacement is Ready, and counted as such by the controller of the replicas: lower
    /// the count by one, the victim going.
    FinishMove {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand (the surge included).
        observed: u32,
        /// The replica that goes.
        victim: PodName,
        /// The replica that has taken its place.
        replacement: PodName,
    },
    /// Give a move up: lower the count by one, the surge going.
    AbortMove {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand (the surge included).
        observed: u32,
        /// The surge replica that goes again; `None` when it was asked for and never
        /// created.
        surge: Option<PodName>,
        /// Why.
        cause: AbortCause,
    },
    /// Nothing is left to do about a move: its record is cleared. The count stays.
    CloseMove {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand.
        observed: u32,
        /// How it ended.
        end: MoveEnd,
    },
    /// Give the minimum of an autoscaler back that was raised for a move. The count is its
    /// own: it lowers it when it sees fit, and the marked replica goes first then.
    GiveBackMinimum {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand.
        observed: u32,
        /// The replica that is marked: the victim, or the surge that is not wanted any more.
        goes: Option<PodName>,
        /// How the move is about to end; absent when no move is known that it was raised
        /// for.
        ending: Option<MoveEnding>,
    },
    /// Take marks off replicas that are not going after all.
    Unmark {
        /// Of which workload.
        workload: WorkloadRef,
        /// The count that is expected to stand.
        observed: u32,
        /// The replicas that carry them.
        pods: Vec<PodName>,
    },
    /// Let replicas go that wait for the node that they were told to run on: those made
    /// in their place are not told.
    Release {
        /// Of which workload.
        workload: WorkloadRef,
        /// The replicas that wait, not bound to a node.
        pods: Vec<PodName>,
    },
    /// Write the routes of a host.
    SetRoutes {
        /// Which host.
        host: HostName,
        /// The workload behind it.
        workload: WorkloadRef,
        /// The split that stands (by rule, or by what the mesh does without one).
        from: RouteTable,
        /// The split to write: whole and final.
        to: RouteTable,
        /// No weights of ours stand yet: `from` is what the mesh does without.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        first: bool,
        /// Why.
        purpose: RoutePurpose,
    },
    /// Take back everything that StornX wrote for a host: the mesh splits as it would
    /// without us.
    GiveBackRoutes {
        /// Which host.
        host: HostName,
        /// A workload behind it; `None` where none is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        workload: Option<WorkloadRef>,
        /// Why.
        cause: GiveBackCause,
    },
}

/// The kinds of action, for counters and tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ActionKind {
    /// [`Action::AddReplicas`]
    AddReplicas,
    /// [`Action::RemoveReplicas`]
    RemoveReplicas,
    /// [`Action::StartMove`]
    StartMove,
    /// [`Action::FinishMove`]
    FinishMove,
    /// [`Action::AbortMove`]
    AbortMove,
    /// [`Action::CloseMove`]
    CloseMove,
    /// [`Action::GiveBackMinimum`]
    GiveBackMinimum,
    /// [`Action::Unmark`]
    Unmark,
    /// [`Action::Release`]
    Release,
    /// [`Action::SetRoutes`]
    SetRoutes,
    /// [`Action::GiveBackRoutes`]
    GiveBackRoutes,
}

impl Action {
    /// The host whose routes it is about.
    #[must_use]
    pub const fn host(&self) -> Option<&HostName> {
        match self {
            Self::SetRoutes { host, .. } | Self::GiveBackRoutes { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Its kind.
    #[must_use]
    pub const fn kind(&self) -> ActionKind {
        match self {
            Self::AddReplicas { .. } => ActionKind::AddReplicas,
            Self::RemoveReplicas { .. } => ActionKind::RemoveReplicas,
            Self::StartMove { .. } => ActionKind::StartMove,
            Self::FinishMove { .. } => ActionKind::FinishMove,
            Self::AbortMove { .. } => ActionKind::AbortMove,
            Self::CloseMove { .. } => ActionKind::CloseMove,
            Self::GiveBackMinimum { .. } => ActionKind::GiveBackMinimum,
            Self::Unmark { .. } => ActionKind::Unmark,
            Self::Release { .. } => ActionKind::Release,
            Self::SetRoutes { .. } => ActionKind::SetRoutes,
            Self::GiveBackRoutes { .. } => ActionKind::GiveBackRoutes,
        }
    }

    /// Whether it is a step of a move that changes something in the cluster.
    #[must_use]
    pub const fn moves(&self) -> bool {
        matches!(
            self,
            Self::StartMove { .. }
                | Self::FinishMove { .. }
                | Self::AbortMove { .. }
                | Self::GiveBackMinimum { ending: Some(_), .. }
        )
    }

    /// The workload it touches; `None` for routes that are given back because there is none.
    #[must_use]
    pub const fn workload(&self) -> Option<&WorkloadRef> {
        match self {
            Self::GiveBackRoutes { workload, .. } => workload.as_ref(),
            Self::AddReplicas { workload, .. }
            | Self::RemoveReplicas { workload, .. }
            | Self::StartMove { workload, .. }
            | Self::FinishMove { workload, .. }
            | Self::AbortMove { workload, .. }
            | Self::CloseMove { workload, .. }
            | Self::GiveBackMinimum { workload, .. }
            | Self::Unmark { workload, .. }
            | Self::Release { workload, .. }
            | Self::SetRoutes { workload, .. } => Some(workload),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddReplicas { workload, observed, nodes } => {
                write!(
                    f,
                    "scale {} from {observed} to {}: new on ",
                    workload.name(),
                    observed.saturating_add(count(nodes))
                )?;
                list(f, nodes)
            }
            Self::RemoveReplicas { workload, observed, victims } => {
                write!(
                    f,
                    "scale {} from {observed} to {}: without ",
                    workload.name(),
                    observed - count(victims).min(*observed)
                )?;
                list(f, victims)
            }
            Self::StartMove { victim, from, to, way, .. } => {
                write!(f, "move {victim} from {from} to {to}")?;
                f.write_str(match way {
                    MoveWay::Surge => "",
                    MoveWay::Evict => " by eviction",
                    MoveWay::Hold => " by holding the minimum of its autoscaler",
                })
            }
            Self::FinishMove { victim, replacement, .. } => {
                write!(f, "finish the move of {victim}: {replacement} is ready")
            }
            Self::AbortMove { workload, surge: Some(surge), .. } => {
                write!(f, "give up a move of {}: without {surge}", workload.name())
            }
            Self::AbortMove { workload, surge: None, .. } => {
                write!(
                    f,
                    "give up a move of {}: without the replica that never came",
                    workload.name()
                )
            }
            Self::CloseMove { workload, end: MoveEnd::Done, .. } => {
                write!(f, "close the move of {}: done", workload.name())
            }
            Self::CloseMove { workload, end: MoveEnd::GivenUp(_), .. } => {
                write!(f, "close the move of {}: given up", workload.name())
            }
            Self::GiveBackMinimum { workload, goes, .. } => {
                write!(f, "give the autoscaler of {} its minimum back", workload.name())?;
                goes.iter().try_for_each(|goes| write!(f, ", {goes} to go first"))
            }
            Self::Unmark { pods, .. } => {
                f.write_str("take the mark off ")?;
                list(f, pods)
            }
            Self::Release { pods, .. } => {
                f.write_str("let go, since they wait in vain: ")?;
                list(f, pods)
            }
            Self::GiveBackRoutes { host, cause, .. } => {
                write!(f, "give back the routes of {}: {cause}", host.service())
            }
            Self::SetRoutes { host, to, .. } => {
                write!(f, "route {}:", host.service())?;
                for (caller, distribution) in to {
                    write!(f, " {caller}→")?;
                    for (index, (zone, weight)) in distribution.iter().enumerate() {
                        write!(f, "{}{zone} {weight}", if index == 0 { "(" } else { ", " })?;
                    }
                    f.write_str(")")?;
                }
                Ok(())
            }
        }
    }
}

fn count<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, items: &[T]) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        write!(f, "{}{item}", if index == 0 { "" } else { ", " })?;
    }
    Ok(())
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Plan {
    /// Format version.
    pub api_version: ApiVersion,
    /// The instant that it was decided for.
    pub at: Timestamp,
    /// The actions.
    pub actions: Vec<Action>,
}

/// A plan and the reasons for everything in it and everything not in it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Planned {
    /// What is to be done.
    pub plan: Plan,
    /// Why.
    pub report: Report,
}
