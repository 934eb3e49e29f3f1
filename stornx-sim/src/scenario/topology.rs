//! Where things run in a scenario, and how far apart those places are.

use serde::{Deserialize, Serialize};
use stornx_core::{
    ids::{NodeName, RegionName, ZoneName},
    units::{Bytes, MilliCpu, Millis},
};

use super::{default_region, one};
use crate::scenario::Timespan;

/// Zones and their nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// The zones.
    pub zones: Vec<Zone>,
}

/// A failure domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Zone {
    /// Name, unique in the scenario.
    pub name: ZoneName,
    /// Its region.
    #[serde(default = "default_region")]
    pub region: RegionName,
    /// Its nodes, by groups of equals.
    pub nodes: Vec<NodeGroup>,
}

/// Nodes that are alike. Named `zone-1`, `zone-2`, ... over all groups of the zone,
/// unless the group is one node with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeGroup {
    /// How many.
    #[serde(default = "one")]
    pub count: u32,
    /// The name, when `count` is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<NodeName>,
    /// Allocatable CPU, which is also all the CPU that there is.
    pub cpu: MilliCpu,
    /// Allocatable memory.
    pub memory: Bytes,
    /// Most pods.
    #[serde(default = "pods")]
    pub pods: u32,
}

/// The default of the kubelet.
const fn pods() -> u32 {
    110
}

/// How a caller chooses a replica inside the locality that its weights chose.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancer {
    /// The one with fewer requests in flight of two chosen at random, as the caller's
    /// own proxy counts them: Istio's default since 1.14.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

/// The round-trip time between two zones, both ways alike.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZonePair {
    /// The two zones.
    pub between: (ZoneName, ZoneName),
    /// Round-trip time in milliseconds.
    pub rtt_ms: Millis,
}

/// The network and the proxies on it. Round-trip times are milliseconds; the defaults
/// are typical of public clouds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Two pods of one node.
    pub same_node_ms: Millis,
    /// Two nodes of one zone.
    pub same_zone_ms: Millis,
    /// Two zones of one region, where `pairs` does not say.
    pub same_region_ms: Millis,
    /// Two zones of different regions, where `pairs` does not say.
    pub other_region_ms: Millis,
    /// Round-trip times of single pairs of zones.
    pub pairs: Vec<ZonePair>,
    /// How long a caller waits for a connection to a replica that does not answer.
    /// 10 s is Istio's default.
    pub connect_timeout: Timespan,
    /// How a replica is chosen.
    pub load_balancer: LoadBalancer,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            same_node_ms: Millis::saturating(0.05),
            same_zone_ms: Millis::saturating(0.3),
            same_region_ms: Millis::saturating(1.0),
            other_region_ms: Millis::saturating(30.0),
            pairs: Vec::new(),
            connect_timeout: Timespan::from_seconds(10),
            load_balancer: LoadBalancer::LeastRequest,
        }
    }
}
