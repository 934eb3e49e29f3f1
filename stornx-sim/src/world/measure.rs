//! What a run is judged by: the truth of the simulated world, which no decision sees.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stornx_core::{
    ids::{HostName, ZoneName},
    model::RouteTable,
    units::{Millis, Share, Span},
};

use super::Histogram;

/// Everything measured since the end of the warm-up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Measurements {
    /// How long was measured.
    pub measured: Span,
    /// Requests of users.
    pub requests: RequestCounts,
    /// From arrival in the cluster to the answer, failed requests included.
    pub latency: Histogram,
    /// The same, by the zone in which requests entered.
    pub latency_by_zone: BTreeMap<ZoneName, Histogram>,
    /// Calls between services (the entry included), by how far they went.
    pub hops: ByDistance,
    /// Bytes of those calls, both directions.
    pub bytes: ByDistance,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Why calls failed.
    pub failures: Failures,
    /// Highest utilisation of the workers of all services of a zone together.
    pub peak_zone_utilisation: BTreeMap<ZoneName, f64>,
    /// Highest utilisation of the workers of one service in one zone.
    pub peak_service_utilisation: Vec<ServiceZonePeak>,
    /// Replicas of services, bound to a node, times hours.
    pub replica_hours: f64,
    /// Routing rules written (not those set from outside of the ports).
    pub rule_writes: u64,
    /// Moves begun.
    pub moves: u64,
    /// Replica counts changed by actions (not by autoscalers, not by moves).
    pub scale_actions: u64,
    /// Curves over time, from the start of the run, warm-up included.
    pub samples: Vec<Sample>,
}

impl Measurements {
    /// Highest utilisation of any zone, 0 when nothing was measured.
    #[must_use]
    pub fn peak_utilisation(&self) -> f64 {
        self.peak_zone_utilisation.values().copied().fold(0.0, f64::max)
    }

    /// Highest utilisation of any service in any zone, 0 when nothing was measured.
    #[must_use]
    pub fn peak_service_zone(&self) -> f64 {
        self.peak_service_utilisation.iter().map(|peak| peak.utilisation).fold(0.0, f64::max)
    }

    /// Failed requests as a share of those that ended.
    #[must_use]
    pub fn error_share(&self) -> Share {
        share(self.requests.failed, self.requests.succeeded + self.requests.failed)
    }
}

/// `part` of `whole`; zero of nothing.
#[must_use]
#[allow(clippy::cast_precision_loss)] // Counts are far below 2^53.
pub(crate) fn share(part: u64, whole: u64) -> Share {
    if whole == 0 { Share::ZERO } else { Share::saturating(part as f64 / whole as f64) }
}

/// Requests of users. `arrived + in_flight_before = succeeded + failed + in_flight`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestCounts {
    /// Under way when measuring began.
    pub in_flight_before: u64,
    /// Arrived.
    pub arrived: u64,
    /// Answered well.
    pub succeeded: u64,
    /// Answered with an error, or not in time.
    pub failed: u64,
    /// Under way now.
    pub in_flight: u64,
}

/// A count by distance of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ByDistance {
    /// On one node.
    pub same_node: u64,
    /// In one zone, on two nodes.
    pub same_zone: u64,
    /// In one region, in two zones.
    pub cross_zone: u64,
    /// In two regions.
    pub cross_region: u64,
}

impl ByDistance {
    /// Over all distances.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.same_node + self.same_zone + self.cross_zone + self.cross_region
    }

    /// The share that left its zone, other regions included.
    #[must_use]
    pub fn cross_zone_share(&self) -> Share {
        share(self.cross_zone + self.cross_region, self.total())
    }

    /// The share that left its node.
    #[must_use]
    pub fn cross_node_share(&self) -> Share {
        share(self.total() - self.same_node, self.total())
    }
}

/// Failed attempts of calls, by cause. An attempt may be followed by a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failures {
    /// The caller had waited long enough.
    pub timed_out: u64,
    /// The queue of the replica was full, or it was going away (503).
    pub refused: u64,
    /// No connection to the replica.
    pub unreachable: u64,
    /// No endpoint that the caller's weights name (503).
    pub no_endpoint: u64,
    /// The callee could not get what it needed from others (500).
    pub downstream: u64,
    /// The caller, or the whole zone of the user's entry, was gone.
    pub lost: u64,
}

/// A peak of one service in one zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceZonePeak {
    /// The host of the service.
    pub host: HostName,
    /// The zone.
    pub zone: ZoneName,
    /// Share of the worker time of its ready replicas that was busy.
    pub utilisation: f64,
}

/// One point of the curves: what happened since the point before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Sample {
    /// From the start of the run.
    pub at: Span,
    /// Requests of users that ended.
    pub requests: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Median latency; absent without requests.
    pub p50: Option<Millis>,
    /// 95th percentile.
    pub p95: Option<Millis>,
    /// 99th percentile.
    pub p99: Option<Millis>,
    /// Calls that left their zone.
    pub cross_zone_share: Share,
    /// Utilisation of the workers by zone, over all services.
    pub zone_utilisation: BTreeMap<ZoneName, f64>,
    /// Ready replicas by host and zone.
    pub ready: BTreeMap<HostName, BTreeMap<ZoneName, u32>>,
    /// Weights that stand, by host; hosts without are absent.
    pub weights: BTreeMap<HostName, RouteTable>,
}
