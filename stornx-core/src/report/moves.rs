//! Reasons of moves.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{NodeName, PodName, WorkloadRef, ZoneName},
    model::AutoscalerKind,
    plan::AbortCause,
    units::{Rps, Span},
};

/// Why a move begins, ends or is given up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MoveWhy {
    /// Requests travel less afterwards.
    Nearer {
        /// The workload.
        workload: WorkloadRef,
        /// The replica that is replaced.
        victim: PodName,
        /// From where.
        from: NodeName,
        /// Zone of `from`.
        from_zone: ZoneName,
        /// To where.
        to: NodeName,
        /// Zone of `to`.
        to_zone: ZoneName,
        /// The neighbour that gains most, with its rate.
        heaviest: Option<(WorkloadRef, Rps)>,
        /// Travel cost of the touched edges before, requests/s x ms.
        cost_before: f64,
        /// The same afterwards.
        cost_after: f64,
        /// What the move itself costs, spread over the horizon, in the same unit.
        price: f64,
    },
    /// A replica is much slower than its siblings: replaced elsewhere.
    Slow {
        /// The workload.
        workload: WorkloadRef,
        /// The slow replica.
        victim: PodName,
        /// Where it runs.
        from: NodeName,
        /// To where.
        to: NodeName,
        /// Its p95 in ms.
        p95: f64,
        /// Median p95 of its siblings in ms.
        siblings_p95: f64,
    },
    /// Too much load on one node.
    Crowded {
        /// The workload.
        workload: WorkloadRef,
        /// The replica that is replaced.
        victim: PodName,
        /// From where.
        from: NodeName,
        /// To where.
        to: NodeName,
        /// Used share of `from` before, 0 to 1.
        used_before: f64,
        /// Used share of `to` afterwards, 0 to 1.
        used_after: f64,
    },
    /// One of several moves that pay together only.
    Together {
        /// The workload.
        workload: WorkloadRef,
        /// The replica that is replaced.
        victim: PodName,
        /// From where.
        from: NodeName,
        /// To where.
        to: NodeName,
        /// Whose replicas go as well.
        with: Vec<WorkloadRef>,
        /// How many moves it takes.
        moves: u32,
        /// What all of them save, requests/s x ms.
        saving: f64,
        /// What they cost, spread over the horizon, in the same unit.
        price: f64,
    },
    /// A replica leaves a full zone for one that saves more there.
    MakesRoom {
        /// The workload.
        workload: WorkloadRef,
        /// The replica that is replaced.
        victim: PodName,
        /// From where.
        from: NodeName,
        /// To where.
        to: NodeName,
        /// Who moves there next.
        makes_room_for: WorkloadRef,
    },
    /// The last move made things clearly worse: it is taken back, once.
    Undo {
        /// The workload.
        workload: WorkloadRef,
        /// The replica that goes.
        victim: PodName,
        /// Where it runs.
        from: NodeName,
        /// Where the move had come from.
        to: NodeName,
    },
    /// The replacement is Ready.
    ReplacementReady {
        /// The replica that goes.
        victim: PodName,
        /// The replica that took its place.
        replacement: PodName,
    },
    /// The victim is gone.
    Done,
    /// Given up.
    GivenUp {
        /// Why.
        cause: AbortCause,
    },
}

impl fmt::Display for MoveWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nearer {
                workload,
                from_zone,
                to,
                to_zone,
                heaviest,
                cost_before,
                cost_after,
                ..
            } => {
                write!(
                    f,
                    "a replica of {} goes from {from_zone} to {to} ({to_zone})",
                    workload.name()
                )?;
                if let Some((neighbour, rate)) = heaviest {
                    write!(f, ", nearer to {} ({:.0} requests/s)", neighbour.name(), rate.get())?;
                }
                let saved = 100.0 * (cost_before - cost_after) / cost_before.max(f64::MIN_POSITIVE);
                write!(f, ": its calls travel {saved:.0} % less")
            }
            Self::Slow { workload, victim, to, p95, siblings_p95, .. } => write!(
                f,
                "{victim} answers in {p95:.0} ms where its siblings need {siblings_p95:.0} ms: {} gets a replacement on {to}",
                workload.name()
            ),
            Self::Crowded { workload, from, to, used_before, used_after, .. } => write!(
                f,
                "a replica of {} leaves {from} ({:.0} % used) for {to} ({:.0} % afterwards)",
                workload.name(),
                used_before * 100.0,
                used_after * 100.0
            ),
            Self::Together { workload, from, to, with, moves, saving, price, .. } => {
                write!(f, "a replica of {} goes from {from} to {to}", workload.name())?;
                for (at, other) in with.iter().enumerate() {
                    let before = if at == 0 { ", together with replicas of " } else { ", " };
                    write!(f, "{before}{}", other.name())?;
                }
                write!(
                    f,
                    ": {moves} moves that save {saving:.1} requests/s x ms and cost {price:.1}"
                )
            }
            Self::MakesRoom { workload, from, to, makes_room_for, .. } => write!(
                f,
                "a replica of {} goes from {from} to {to} and makes room for {}",
                workload.name(),
                makes_room_for.name()
            ),
            Self::Undo { workload, from, to, .. } => write!(
                f,
                "the move of {} from {to} to {from} made its calls slower and is taken back",
                workload.name()
            ),
            Self::ReplacementReady { victim, replacement } => {
                write!(f, "{replacement} is ready, {victim} can go")
            }
            Self::Done => f.write_str("the old replica is gone, its replacement serves"),
            Self::GivenUp { cause } => write!(f, "the move is given up: {cause}"),
        }
    }
}

/// One replica more that would save more than moving replicas does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Growth {
    /// Where it would run.
    pub node: NodeName,
    /// Zone of `node`.
    pub zone: ZoneName,
    /// What it would save, requests/s x ms.
    pub saving: f64,
    /// What it costs: running, starting, and the noise of the inputs; in the same unit.
    pub price: f64,
    /// What the best moves of the workload would save beyond what they must save, in the
    /// same unit; 0 where none would.
    pub moves: f64,
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, saving, price, moves, .. } = self;
        let net = saving - price;
        write!(f, "one replica more in {zone} would save {net:.1} request-ms/s beyond its cost, ")?;
        if *moves > 0.0 {
            write!(f, "moving replicas {moves:.1}")
        } else {
            f.write_str("moving replicas nothing")
        }
    }
}

/// Why the replicas of a workload move or stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum MoveReason {
    /// A move begins.
    Started,
    /// A move is waiting for its replacement.
    Waiting {
        /// For how long already.
        since: Span,
    },
    /// A move ends: the old replica goes.
    Finished,
    /// A move has ended.
    Closed,
    /// A move is given up.
    GivenUp {
        /// Why.
        cause: AbortCause,
    },
    /// No other place is better by more than a move costs.
    WellPlaced {
        /// The best saving found, requests/s x ms, price deducted; `None` when no
        /// other place is feasible.
        best: Option<f64>,
    },
    /// A move is worth it, and must still be so when the requests have been counted
    /// anew.
    Confirming {
        /// For how long it has been worth it.
        since: Span,
    },
    /// Better places exist, the budget of this cycle is used up.
    BudgetUsedUp,
    /// A better place exists, but only together with moves of others, more of them than the
    /// budgets of a cycle let begin at once.
    NeedsOthers {
        /// How many moves it takes.
        moves: u32,
        /// What all of them save, requests/s x ms.
        saving: f64,
        /// What they cost, spread over the horizon, in the same unit.
        price: f64,
    },
    /// A better place exists, its zone has no room.
    NoRoom,
    /// Moves are switched off.
    Disabled,
    /// It is a quiet hour.
    QuietHours,
    /// A new replica cannot be told where to run.
    NoSteering,
    /// Not in a monitored namespace.
    NotManaged,
    /// Its owner opted out.
    OptedOut,
    /// Its owner does not want moves.
    NotWanted,
    /// This kind of workload cannot surge, or its replicas are bound to their place.
    NotMovable,
    /// The rollout is paused.
    Paused,
    /// A rollout is in progress.
    RolloutInProgress,
    /// Another controller owns the count.
    AutoscalerOwns {
        /// Which one.
        kind: AutoscalerKind,
    },
    /// Its count changes in this plan.
    BeingScaled,
    /// Moved, or disappointed, too recently.
    Backoff {
        /// Time that is left.
        left: Span,
    },
    /// Not all of its replicas are Ready.
    NotSettled,
    /// Traffic is stale or missing.
    NoTraffic,
}
