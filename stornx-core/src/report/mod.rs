//! The report: why everything in a plan is in it, and why everything else is not.
//! Reasons are typed data with the numbers that decided; their plain words are their
//! `Display`.

mod moves;
mod names;
mod routes;
mod scale;
mod verified;
mod words;

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

pub use self::{
    moves::{Growth, MoveReason, MoveWhy},
    routes::{DestinationReport, RouteReason, RouteWhy},
    scale::{PlacementReason, PlacementStrategy, ScaleReason, ScaleWhy, Trigger},
    verified::{Effect, Following, Unverified, Verification},
};
use crate::{
    ids::{HostName, NodeName, WorkloadRef, ZoneName},
    model::{Source, WholeZones},
    units::{Millis, Percent, Rps, Share, Span, Timestamp},
};

/// A group of facts that decisions rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// CPU and memory by replica.
    Usage,
    /// The service graph.
    Traffic,
    /// Measured round-trip times.
    Latency,
    /// Routing rules.
    Routing,
    /// Whether new replicas can be told where to run.
    Steering,
}

/// How well an input was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum InputState {
    /// Recent enough to decide on.
    Fresh,
    /// Too old to decide on.
    Stale,
    /// Not known.
    Missing,
}

/// One input and what followed from its state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InputReport {
    /// Which one.
    pub input: Input,
    /// How well it was known.
    pub state: InputState,
    /// Its age, where known.
    pub age: Option<Span>,
    /// Who says so, where known.
    pub source: Option<Source>,
    /// The degraded mode that follows, in plain words; empty when fresh.
    pub note: String,
}

/// What survives the loss of the worst zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneLoss {
    /// The zone whose loss leaves least; `None` when no replica is Ready.
    pub worst: Option<ZoneName>,
    /// Ready replicas that are left.
    pub survivors: u32,
    /// Share of today's demand that they can serve at full utilisation, capped at 1;
    /// `None` when utilisation is not known.
    pub demand_served: Option<Share>,
}

/// What was decided about one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkloadReport {
    /// Ready replicas by zone.
    pub ready: BTreeMap<ZoneName, u32>,
    /// Utilisation by the configured metric.
    pub utilisation: Option<Percent>,
    /// Request-weighted mean of its replicas' p95.
    pub p95: Option<Millis>,
    /// Requests served per second.
    pub requests: Rps,
    /// What survives the loss of its worst zone.
    pub zone_loss: ZoneLoss,
    /// Why its count changes or stays.
    pub scale: ScaleReason,
    /// Why its replicas move or stay.
    pub moves: MoveReason,
    /// Where one replica more would save more than moving replicas does; absent where it
    /// would not, or is not known to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Where its next replicas would best go, whoever asks for them, the best first: what
    /// the pods of an autoscaler or a person are told. Empty where they are told nothing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<NodeName>,
}

/// What was decided about one host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostReport {
    /// Its destinations and what decided about each.
    pub destinations: BTreeMap<ZoneName, DestinationReport>,
    /// L1 distance between the live split and the target, over all callers, in
    /// percentage points.
    pub delta: f64,
    /// Why its routes change or stay.
    pub reason: RouteReason,
    /// Why it is planned by zone though nodes were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole_zones: Option<WholeZones>,
    /// What came of the weights that stand; absent where none of ours do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
    /// Its demand is growing faster than noise explains, its routes are on the way to
    /// relieve a zone above the cap, or harm is to be undone: the next cycle should not wait for the schedule.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pressing: bool,
}

/// What an action is expected to bring.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expected {
    /// Time that requests no longer spend travelling and waiting: requests/s x ms.
    pub request_ms_per_second: f64,
    /// Transfer cost saved, US dollars per month of 730 hours; negative when it rises.
    pub usd_per_month: f64,
}

/// Why an action is in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// A change of the replica count.
    Scale(ScaleWhy),
    /// A step of a move.
    Move(MoveWhy),
    /// A change of routes.
    Route(RouteWhy),
    /// Something that StornX left behind is taken away.
    TidyUp(TidyWhy),
}

/// Why something is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TidyWhy {
    /// The minimum of an autoscaler is raised, and no move is known that it was raised for.
    Raised,
    /// Replicas are marked, and none of them is about to go.
    Marked,
    /// Replicas have found no room on the node that they were told to run on.
    NoRoom {
        /// The longest wait.
        waited: Span,
    },
    /// Weights stand that are not to stand any more.
    Routes,
}

impl fmt::Display for TidyWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raised => f.write_str("its minimum was raised for a move that is not known"),
            Self::Marked => f.write_str("it is marked, and nothing is about to go"),
            Self::NoRoom { waited } => write!(
                f,
                "the node that was chosen for it has had no room for {waited}: the scheduler \
                 decides for the next one"
            ),
            Self::Routes => f.write_str("weights that were written are taken back"),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scale(why) => why.fmt(f),
            Self::Move(why) => why.fmt(f),
            Self::Route(why) => why.fmt(f),
            Self::TidyUp(why) => why.fmt(f),
        }
    }
}

/// The reason of one action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActionReport {
    /// What it is expected to bring.
    pub expected: Expected,
    /// Why it is in the plan.
    pub why: Why,
}

/// Why a plan is as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// The instant that it was decided for.
    pub at: Timestamp,
    /// What was known, and how well.
    pub inputs: Vec<InputReport>,
    /// One entry for each action of the plan, in its order.
    pub actions: Vec<ActionReport>,
    /// By workload.
    pub workloads: BTreeMap<WorkloadRef, WorkloadReport>,
    /// By host.
    pub hosts: BTreeMap<HostName, HostReport>,
}

impl Report {
    /// Whether the next cycle should come as soon as there are new metrics, instead of
    /// with the schedule.
    #[must_use]
    pub fn is_pressing(&self) -> bool {
        self.hosts.values().any(|host| host.pressing)
    }
}
