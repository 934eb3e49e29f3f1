//! Where things can run, and how far apart those places are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ids::{LabelKey, LabelValue, NodeName, RegionName, ZoneName},
    units::{Millis, Resources, Timestamp},
};

/// Labels of a node, or the selector that a pod carries.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// What a taint does to pods that do not tolerate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum TaintEffect {
    /// New pods stay away.
    NoSchedule,
    /// New pods stay away if they can.
    PreferNoSchedule,
    /// New pods stay away and running ones leave.
    NoExecute,
}

/// A taint of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Taint {
    /// Key.
    pub key: LabelKey,
    /// Value, often empty.
    #[serde(default = "empty_value")]
    pub value: LabelValue,
    /// Effect.
    pub effect: TaintEffect,
}

#[allow(clippy::expect_used)] // The empty value is valid by the rule of the type.
fn empty_value() -> LabelValue {
    "".parse().expect("an empty label value is valid")
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Name.
    pub name: NodeName,
    /// Failure domain.
    pub zone: ZoneName,
    /// Region of the zone.
    pub region: RegionName,
    /// The kubelet reports Ready.
    pub ready: bool,
    /// Not cordoned.
    pub schedulable: bool,
    /// What pods may ask for in total.
    pub allocatable: Resources,
    /// How many pods may run here.
    pub pod_capacity: u32,
    /// What pods outside [`Snapshot::workloads`](super::Snapshot::workloads) ask for
    /// here (daemon sets, jobs, other controllers).
    #[serde(default)]
    pub reserved: Resources,
    /// How many such pods there are.
    #[serde(default)]
    pub reserved_pods: u32,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// Taints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taints: Vec<Taint>,
    /// Since when it is a subzone of its own, by a label with its name that StornX set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub named_since: Option<Timestamp>,
}

/// The label that divides a zone, as Istio reads it.
pub const SUBZONE: &str = "topology.istio.io/subzone";

impl Node {
    /// The part of its zone that it is in; empty where zones are not divided.
    #[must_use]
    pub fn subzone(&self) -> &str {
        // Found by text: a key that is looked up must be made first, for every node.
        let found = self.labels.iter().find(|(key, _)| key.as_str() == SUBZONE);
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// A measured round-trip time from one node to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeRoundTrip {
    /// The node that measured.
    pub from: NodeName,
    /// The node that answered.
    pub to: NodeName,
    /// Round-trip time.
    pub rtt: Millis,
}

/// A measured round-trip time from one zone to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneRoundTrip {
    /// The zone that measured.
    pub from: ZoneName,
    /// The zone that answered; equal to `from` for two nodes of one zone.
    pub to: ZoneName,
    /// Round-trip time.
    pub rtt: Millis,
}

/// Measured round-trip times. A pair of nodes without a measurement takes the one
/// of their zones; without that, the heuristic of
/// [`Policy::latency`](crate::policy::Policy).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Latency {
    /// By pair of nodes; may name any subset of the pairs.
    pub nodes: Vec<NodeRoundTrip>,
    /// By pair of zones.
    pub zones: Vec<ZoneRoundTrip>,
}
