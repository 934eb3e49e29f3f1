//! Reasons of OptiScaler: of the count, and of the node of each new replica.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeName, PodName, WorkloadRef, ZoneName},
    model::AutoscalerKind,
    units::{Millis, Percent, Rps, Span},
};

/// What asked for a change of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// Utilisation above the upper threshold.
    Utilisation,
    /// p95 above the threshold while utilisation is above the middle of the band.
    ResponseTime,
    /// Utilisation below the lower threshold.
    Idle,
    /// Below its own minimum.
    BelowMinimum,
}

/// How the node of a new replica was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum PlacementStrategy {
    /// Near its callers: they carry all of the cost.
    Upstream,
    /// Near those it calls: they carry all of the cost.
    Downstream,
    /// Both.
    Mixed,
    /// No traffic data: the least used node.
    LeastUsed,
}

/// Why a new replica goes to its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlacementReason {
    /// The node.
    pub node: NodeName,
    /// Its zone.
    pub zone: ZoneName,
    /// How it was chosen.
    pub strategy: PlacementStrategy,
    /// The neighbour that weighs most, with its rate.
    pub heaviest: Option<(WorkloadRef, Rps)>,
    /// Travel cost on this node, requests/s x ms (or the used share for `LeastUsed`).
    pub cost: f64,
    /// The same on the second best node, where there was one.
    pub runner_up: Option<(NodeName, f64)>,
    /// Feasible nodes that were compared.
    pub candidates: u32,
    /// Round-trip times were measured (not assumed).
    pub measured: bool,
}

/// Why a count changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleWhy {
    /// The workload.
    pub workload: WorkloadRef,
    /// What asked for it.
    pub trigger: Trigger,
    /// Count before.
    pub from: u32,
    /// Count after.
    pub to: u32,
    /// Utilisation that was seen.
    pub utilisation: Option<Percent>,
    /// p95 that was seen.
    pub p95: Option<Millis>,
    /// One for each new replica.
    pub placements: Vec<PlacementReason>,
    /// The replicas that go.
    pub victims: Vec<PodName>,
}

impl fmt::Display for ScaleWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.workload.name();
        write!(f, "{name} goes from {} to {} replicas", self.from, self.to)?;
        match (self.trigger, self.utilisation, self.p95) {
            (Trigger::ResponseTime, Some(used), Some(p95)) => {
                write!(f, ": its p95 is {:.0} ms at {:.0} % utilisation", p95.get(), used.get())?
            }
            (Trigger::BelowMinimum, ..) => f.write_str(": it is below its minimum")?,
            (_, Some(used), _) => write!(f, ": its replicas are used to {:.0} %", used.get())?,
            _ => {}
        }
        for placement in &self.placements {
            write!(f, "; {} ({})", placement.node, placement.zone)?;
            match &placement.heaviest {
                Some((neighbour, rate)) => {
                    write!(f, " is nearest to {} ({:.0} requests/s)", neighbour.name(), rate.get())?
                }
                None => f.write_str(" is the least used")?,
            }
        }
        Ok(())
    }
}

/// Why the count of a workload changes or stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ScaleReason {
    /// It changes.
    Scaled,
    /// Utilisation lies within the band.
    WithinBand,
    /// Its replicas are slow but idle: more of them would not help.
    SlowButIdle {
        /// p95 that was seen.
        p95: Millis,
        /// Utilisation that was seen.
        utilisation: Percent,
    },
    /// Slow, but not by its own work: the calls that it waits for are, and more of its
    /// replicas would not make those faster.
    SlowDownstream {
        /// p95 that was seen.
        p95: Millis,
        /// What is left of it without the calls that it makes.
        own: Millis,
    },
    /// Slow, but not for long enough: a rollout or a burst makes any service slow for a
    /// moment.
    SlowLately {
        /// p95 that was seen.
        p95: Millis,
        /// For how long.
        since: Span,
    },
    /// Above the upper threshold, but the last growth did not bring utilisation down
    /// while no more requests came and CPU is not busy: memory that each replica holds
    /// for itself is not relieved by more of them.
    GrowthDidNotHelp {
        /// Utilisation before that growth.
        before: Percent,
        /// Utilisation now.
        now: Percent,
    },
    /// Below the lower threshold, but one replica less would leave the others close to
    /// or above the middle of the band (in CPU or in the configured metric), from where
    /// they could soon be too busy.
    RemainingTooBusy {
        /// Utilisation predicted for those that would remain.
        predicted: Percent,
    },
    /// OptiScaler is switched off.
    Disabled,
    /// Not in a monitored namespace.
    NotManaged,
    /// Its owner opted out.
    OptedOut,
    /// The rollout is paused.
    Paused,
    /// A rollout is in progress.
    RolloutInProgress,
    /// A move of one of its replicas is under way.
    MoveInFlight,
    /// Another controller owns the count.
    AutoscalerOwns {
        /// Which one.
        kind: AutoscalerKind,
    },
    /// Scaled too recently.
    Cooldown {
        /// Time that is left.
        left: Span,
    },
    /// The budget of this cycle is used up.
    BudgetUsedUp {
        /// Actions allowed in one cycle.
        allowed: u32,
    },
    /// The disruption budget forbids it.
    DisruptionBudget {
        /// Replicas that must stay Ready.
        min_ready: u32,
    },
    /// Losing a zone would leave too few.
    ZoneLossFloor {
        /// The least count that keeps what must survive.
        floor: u32,
    },
    /// Its spread over zones forbids it.
    Spread {
        /// Zones that must hold a replica.
        zones: u32,
    },
    /// The allowed skew between zones forbids it.
    Skew {
        /// How many replicas more than another a zone may hold.
        max: u32,
    },
    /// Idle, but its replicas are bound to their place (a volume, a host port): whether
    /// one could come back when it is needed is not known. Its owner may say how far it
    /// may go down.
    BoundToPlace,
    /// Its owner has stopped it by a count of zero, which is left alone.
    ScaledToZero,
    /// Enough replicas are on their way already, or some that should be there are
    /// missing.
    Settling {
        /// Replicas that are Ready.
        ready: u32,
        /// Replicas that are asked for.
        desired: u32,
    },
    /// At its minimum.
    AtMinimum {
        /// The minimum.
        min: u32,
    },
    /// At its maximum.
    AtMaximum {
        /// The maximum.
        max: u32,
    },
    /// No node can take another replica.
    NoFeasibleNode {
        /// What kept how many nodes out, in plain words.
        detail: String,
    },
    /// No requests and no limits to measure utilisation against.
    NoBase,
    /// Usage is stale or missing.
    NoUsage,
    /// Nothing is Ready to measure.
    NothingReady,
}
