//! Reasons of OptiBalancer.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::verified::Effect;
use crate::{
    ids::{HostName, ZoneName},
    model::ForeignRule,
    plan::RoutePurpose,
    units::{Millis, Percent, Rps, Span},
};

/// What decided about one destination of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DestinationReport {
    /// Ready replicas.
    pub ready: u32,
    /// Requests per second it can serve at the utilisation cap.
    pub capacity: Rps,
    /// Age of that estimate; `None` when it rests on replica counts alone.
    pub capacity_age: Option<Span>,
    /// Observations behind it.
    pub capacity_observations: u32,
    /// Utilisation predicted under the live split.
    pub utilisation_before: Option<Percent>,
    /// Utilisation predicted under the planned split.
    pub utilisation_after: Option<Percent>,
    /// p95 of its replicas.
    pub p95: Option<Millis>,
    /// Penalty for answering slowly, as round-trip time.
    pub penalty: Millis,
}

/// Why the routes of a host change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteWhy {
    /// The host.
    pub host: HostName,
    /// To what end.
    pub purpose: RoutePurpose,
    /// L1 distance to the target over all callers, percentage points.
    pub delta: f64,
    /// Step of this cycle, percentage points.
    pub step: f64,
    /// The route that changes most: caller zone, destination zone, weight before and
    /// after.
    pub largest: Option<(ZoneName, ZoneName, u8, u8)>,
    /// Share of its requests that cross zones, before and after, per cent.
    pub cross_zone_before: Percent,
    /// The same after this step.
    pub cross_zone_after: Percent,
    /// Utilisation of its busiest zone, before and after, per cent, where known.
    pub peak_before: Option<Percent>,
    /// The same after this step.
    pub peak_after: Option<Percent>,
    /// What the change did that is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

impl fmt::Display for RouteWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.service();
        match self.purpose {
            RoutePurpose::Improve => write!(
                f,
                "calls to {host} that cross zones go from {:.0} % to {:.0} %",
                self.cross_zone_before.get(),
                self.cross_zone_after.get()
            )?,
            RoutePurpose::Cover => write!(f, "every zone that can hold {host} is named again")?,
            RoutePurpose::Decay => {
                write!(f, "no requests to {host} are seen: it returns towards an even split")?;
            }
            RoutePurpose::Rollout => write!(
                f,
                "{host} is being rolled out: its calls go to every replica alike for a while"
            )?,
            RoutePurpose::Undo => {
                write!(f, "the last change to {host} made it worse: taken back")?;
                if let Some(effect) = &self.effect {
                    write!(f, "; {effect}")?;
                }
            }
        }
        if let (Some(before), Some(after)) = (self.peak_before, self.peak_after) {
            write!(f, ", its busiest zone from {:.0} % to {:.0} %", before.get(), after.get())?;
        }
        if let Some((from, to, before, after)) = &self.largest {
            write!(f, " ({from}→{to}: {before} to {after})")?;
        }
        Ok(())
    }
}

/// Why the routes of a host change or stay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum RouteReason {
    /// They change.
    Changed,
    /// They are at their target, each route within the tolerance.
    AtTarget,
    /// The change is too small to be worth a write.
    BelowMinDelta {
        /// L1 distance of the change.
        change: f64,
    },
    /// The target would save too little against the noise of the inputs.
    GainTooSmall {
        /// Predicted saving as a share of the host's cost, per cent.
        gain: f64,
    },
    /// OptiBalancer is switched off.
    Disabled,
    /// There is no mesh, or it does not read locality weights.
    NotRoutable,
    /// A node that can hold an endpoint is in a place that no rule can name.
    Unnamed,
    /// It has no rule, and `BALANCER_CREATE_RULES` is off.
    NoRule,
    /// Not in a monitored namespace.
    NotManaged,
    /// Its owner opted out, or does not want routing.
    OptedOut,
    /// The rule is not ours to write.
    Foreign(ForeignRule),
    /// The host has no workload, or more than one.
    NotOneWorkload {
        /// How many it has.
        backends: u32,
    },
    /// A label of a pod behind it puts the pod elsewhere than its node.
    Displaced,
    /// An endpoint behind it is no pod of this cluster.
    ForeignEndpoints,
    /// It is in ambient mode without a waypoint, and no caller that is known has a proxy:
    /// nobody reads a rule.
    NoWaypoint,
    /// Fewer than two zones hold or can hold an endpoint.
    OneZone,
    /// More zones than weights can name: each takes at least 1 of 100.
    TooManyZones {
        /// How many there are.
        zones: u32,
    },
    /// Nothing is Ready.
    NothingReady,
    /// Nobody calls it.
    NoDemand,
    /// Traffic is stale or missing, not yet for long enough to decay.
    NoTraffic {
        /// Since when.
        since: Span,
    },
    /// Its figures were away for so long that its weights decayed, and are not back for as
    /// long yet.
    SeenAgain {
        /// Time that is left.
        left: Span,
    },
    /// An undone change is too recent.
    Backoff {
        /// Time that is left.
        left: Span,
    },
    /// A rollout replaces its replicas, and its routes can stand one replica fewer in any
    /// zone: they wait for its end.
    RollingOut,
    /// A change is due, and the figures that it would rest on are those of the last one.
    SeenAlready,
    /// A change is due, and this cycle has made as many as `BALANCER_MAX_WRITES` allows.
    Waits,
}
