//! What must be remembered from one cycle to the next: cooldowns, back-off, moves in
//! flight, what was predicted, smoothed capacities. It is stored in the cluster by
//! a port, so that a restarted daemon goes on where the last one stopped.
//!
//! `plan()` reads it and never changes it; the remember step makes the
//! next one from what was seen, planned and done.
//!
//! What a later version remembers besides is passed over, so that one can go back to this
//! one. Only what is under way in the cluster has to be known to the last field.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    model::{Pod, RouteTable},
    plan::{MoveEnding, MoveWay},
    units::{Millis, Percent, Rps, Share, Timestamp},
};

/// Everything remembered.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Memory {
    /// By workload.
    pub workloads: BTreeMap<WorkloadRef, WorkloadMemory>,
    /// By host.
    pub hosts: BTreeMap<HostName, HostMemory>,
}

impl Memory {
    /// Nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.hosts.is_empty()
    }
}

/// An exponential back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Backoff {
    /// Left alone until then.
    pub until: Timestamp,
    /// Disappointments in a row; each doubles the next wait.
    pub failures: u32,
}

/// A replica that StornX asks for, and the node that it is to run on. It stands from
/// before the replica is asked for until one was created with it, or its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Intent {
    /// Where the replica is to run.
    pub node: NodeName,
    /// When it was decided, and its name beside the node: of several that are decided at
    /// once for a workload, each has a millisecond of its own.
    pub since: Timestamp,
    /// No replica is steered by it from then on.
    pub until: Timestamp,
}

impl Intent {
    /// Whether a replica was created with it. It is used up then.
    pub(crate) fn is_used_by(&self, pod: &Pod) -> bool {
        let told = pod.traces.steered.as_ref();
        told.is_some_and(|told| told.node == self.node && told.since == self.since)
    }

    /// Whether a replica may still be created with it: its time is not over, and none was.
    pub(crate) fn stands(&self, pods: &[Pod], now: Timestamp) -> bool {
        now < self.until && !pods.iter().any(|pod| self.is_used_by(pod))
    }
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MoveInFlight {
    /// When it began.
    pub started_at: Timestamp,
    /// How.
    #[serde(default)]
    pub way: MoveWay,
    /// The replica that will go.
    pub victim: PodName,
    /// Where the victim runs.
    pub from: NodeName,
    /// Where the replacement goes.
    pub to: NodeName,
    /// The replica count before the surge.
    pub replicas_before: u32,
    /// The replicas that existed when it began: the one that is not among them is
    /// the replacement.
    pub known_pods: Vec<PodName>,
    /// The saving it was begun for, in request-milliseconds per second.
    pub predicted_saving: f64,
    /// How it is about to end, once that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<MoveEnding>,
}

/// A move that was finished, for taking it back once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FinishedMove {
    /// The replica that took the place of the victim.
    pub replacement: PodName,
    /// Where the victim ran.
    pub came_from: NodeName,
    /// It made things clearly worse: it is to be taken back.
    pub regressed: bool,
}

/// What was expected of a change, for comparison with what came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Expectation {
    /// When the change was done.
    pub since: Timestamp,
    /// p95 of the touched edges before it.
    pub p95_before: Option<Millis>,
    /// Error share of the touched edges before it.
    pub errors_before: Share,
    /// p95 of the untouched edges before it, to tell a change of ours from a change
    /// of the whole cluster.
    pub others_p95_before: Option<Millis>,
    /// Demand on the touched edges before it: a change of load explains a change of
    /// latency.
    pub demand_before: Rps,
}

/// The last growth of a count for its utilisation, until it is seen to have helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    /// Count before it.
    pub from: u32,
    /// Count after it.
    pub to: u32,
    /// Utilisation before it.
    pub utilisation: Percent,
    /// Requests served before it.
    pub requests: Rps,
}

/// A workload that was looked at and left where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Placed {
    /// The first time since the layout around it last changed.
    pub since: Timestamp,
    /// Wishes since then that came to nothing, as far as they count.
    pub lapsed: u32,
}

/// What is remembered of a workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadMemory {
    /// Last scale action of ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaled_at: Option<Timestamp>,
    /// Replicas that were asked for and not created yet, each with its node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub intents: Vec<Intent>,
    /// The last growth of its count, until it is seen to have helped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub growth: Option<Growth>,
    /// Since when its p95 has been too high for its own work, without a break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_since: Option<Timestamp>,
    /// Last move that was finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_at: Option<Timestamp>,
    /// No move until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub move_backoff: Option<Backoff>,
    /// The move under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<MoveInFlight>,
    /// What the last finished move was expected to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expectation: Option<Expectation>,
    /// The last finished move, until it is known what came of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_move: Option<FinishedMove>,
    /// Since when a move has been worth it in every cycle: one that is seen on a
    /// single count of requests only is noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wanted_since: Option<Timestamp>,
    /// That its place was looked at and found good enough.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placed: Option<Placed>,
    /// Cycles in a row in which a replica looked slow; a single one is not enough to
    /// replace it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub slow: BTreeMap<PodName, u32>,
}

/// What is remembered of what one zone can serve of a host.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CapacityMemory {
    /// Requests per second that one replica serves at full utilisation, smoothed.
    pub per_replica: Rps,
    /// When it was last observed.
    pub at: Timestamp,
    /// Observations that went into it, at most what smoothing remembers: the
    /// confidence.
    pub observations: u32,
}

/// What is remembered of a destination that answers slowly or fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PenaltyMemory {
    /// The penalty, as round-trip time, smoothed.
    pub penalty: Millis,
    /// Since when it has been slow without a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_since: Option<Timestamp>,
}

/// What callers saw of a host whose routes were not touched when a run of writes began.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Untouched {
    /// p95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<Millis>,
    /// Share of failures.
    pub errors: Share,
    /// Requests per second: what it counts by.
    pub requests: Rps,
}

/// What was seen of the replicas of a workload in a rollout, until it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RolloutMemory {
    /// Since when it has been like this.
    pub since: Timestamp,
    /// Replicas, those that are being deleted included.
    pub replicas: u32,
    /// Of them, those that are Ready.
    pub ready: u32,
    /// Of them, those that are being deleted.
    pub going: u32,
    /// When the youngest was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<Timestamp>,
}

impl RolloutMemory {
    /// Whether nothing lies between the two but time.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let facts = |one: &Self| (one.replicas, one.ready, one.going, one.newest);
        facts(self) == facts(other)
    }
}

/// What is remembered of a host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct HostMemory {
    /// Last write of its routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written_at: Option<Timestamp>,
    /// When the last write of its routes was refused; `None` when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<Timestamp>,
    /// The routes before the last write, for undoing it once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<RouteTable>,
    /// What the last write was expected to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expectation: Option<Expectation>,
    /// Hosts that the run of writes does not touch, as they were before it; eight at most.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub untouched: BTreeMap<HostName, Untouched>,
    /// Since when requests have been seen not to fall as its weights say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub astray_since: Option<Timestamp>,
    /// Workloads that were seen to call it and have a pod from before the name of its node:
    /// its routes stay between zones while they do.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub old_callers: BTreeSet<WorkloadRef>,
    /// How far the rollout of its workload is, while there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutMemory>,
    /// No improvement until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// What its destinations can serve.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub capacity: BTreeMap<ZoneName, CapacityMemory>,
    /// Destinations that answer slowly or fail.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub penalty: BTreeMap<ZoneName, PenaltyMemory>,
    /// Smoothed demand by zone of the callers.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub demand: BTreeMap<ZoneName, Rps>,
    /// Since when the traffic facts have been stale or missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<Timestamp>,
    /// Since when nothing has been seen of its requests while weights of ours stand; kept
    /// until figures have been back for as long as they may be away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unseen_since: Option<Timestamp>,
    /// Since when figures are back after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_since: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_later_version_remembers_is_passed_over_unless_it_is_under_way() {
        let later = json!({
            "workloads": { "shop/Deployment/cart": { "scaledAt": 7, "news": { "a": 1 } } },
            "hosts": { "cart.shop.svc.cluster.local": { "writtenAt": 8, "news": [1] } },
            "news": true
        });
        let memory: Memory = serde_json::from_value(later).unwrap();
        let workload = memory.workloads.values().next().unwrap();
        assert_eq!(workload.scaled_at, Some(Timestamp::from_millis(7)));
        let host = memory.hosts.values().next().unwrap();
        assert_eq!(host.written_at, Some(Timestamp::from_millis(8)));
        let intent = json!({ "node": "n1", "since": 1, "until": 2, "news": 3 });
        let error = serde_json::from_value::<Intent>(intent).unwrap_err().to_string();
        assert!(error.contains("news"), "{error}");
    }
}
