//! Hosts and the routing rules that stand for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de};
use thiserror::Error;

use crate::ids::{HostName, PodName, WorkloadRef, ZoneName};

/// Weights that cannot be a distribution.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("weights {weights:?} sum to {sum}: weights are whole, 1 to 100, and sum to exactly 100")]
pub struct DistributionError {
    weights: BTreeMap<ZoneName, u8>,
    sum: u32,
}

/// The weights of one caller locality over destination zones: whole percentages,
/// each 1 to 100, summing to exactly 100. What Istio accepts, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Distribution(BTreeMap<ZoneName, u8>);

impl Distribution {
    /// Checks and wraps weights.
    ///
    /// # Errors
    /// [`DistributionError`] when a weight is 0 or above 100 or the sum is not 100.
    pub fn new(weights: BTreeMap<ZoneName, u8>) -> Result<Self, DistributionError> {
        let sum = weights.values().map(|weight| u32::from(*weight)).sum();
        if sum == 100 && weights.values().all(|weight| (1..=100).contains(weight)) {
            Ok(Self(weights))
        } else {
            Err(DistributionError { weights, sum })
        }
    }

    /// The weight of a destination; 0 when it is not named (and so cut off).
    #[must_use]
    pub fn weight(&self, destination: &ZoneName) -> u8 {
        self.0.get(destination).copied().unwrap_or(0)
    }

    /// Destinations and weights, by zone name.
    pub fn iter(&self) -> impl Iterator<Item = (&ZoneName, u8)> {
        self.0.iter().map(|(zone, weight)| (zone, *weight))
    }

    /// L1 distance to another distribution in percentage points.
    #[must_use]
    pub fn distance(&self, other: &Self) -> u32 {
        let zones: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        zones
            .into_iter()
            .map(|zone| u32::from(self.weight(zone).abs_diff(other.weight(zone))))
            .sum()
    }
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The distributions of one host, by zone of the caller.
pub type RouteTable = BTreeMap<ZoneName, Distribution>;

/// Why a host's rule is not ours to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ForeignRule {
    /// More than one rule names the host: only one takes effect.
    SeveralRules,
    /// Somebody else set `distribute`.
    Distribute,
    /// Somebody else set `failover` or `failoverPriority`, which exclude `distribute`.
    Failover,
    /// `zoneAwareLbSetting` is set, which excludes `distribute`.
    ZoneAware,
    /// Subsets carry a load balancer policy of their own.
    Subsets,
    /// The host is not a plain Service.
    NotAService,
    /// A rule over more than this host stands for it; one of its own would take its
    /// place and lose what else it sets.
    Wildcard,
    /// The rule lies in another namespace than the Service.
    Elsewhere,
    /// It holds for some callers only (`workloadSelector`, `exportTo`).
    Partial,
    /// It switches locality weights off (`enabled: false`, `PASSTHROUGH`).
    SwitchedOff,
    /// Its callers keep to one replica (`consistentHash`): weights would tear them away.
    Sticky,
}

/// The routing rule that stands for a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// No weights are set: the mesh splits by what [`Host::default_split`] says.
    #[default]
    None,
    /// Weights that StornX wrote.
    Ours(RouteTable),
    /// A rule that is not ours to write.
    Foreign(ForeignRule),
}

/// What callers of a host do where no rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum DefaultSplit {
    /// Every ready replica alike, wherever it runs.
    #[default]
    ByReplicas,
    /// The caller's own zone while it has a ready replica (`failover` with outlier
    /// detection, `trafficDistribution: PreferClose`).
    OwnZoneFirst,
}

/// A host and its rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Host {
    /// Name.
    pub name: HostName,
    /// The workloads whose pods its selector matches. Routes are planned for hosts
    /// with exactly one.
    pub backends: Vec<WorkloadRef>,
    /// The rule that stands.
    #[serde(default)]
    pub rule: Rule,
    /// What happens without a rule.
    #[serde(default)]
    pub default_split: DefaultSplit,
    /// There is a rule of somebody else that weights can be added to; where there is
    /// none, one has to be created.
    #[serde(default, skip_serializing_if = "is_false")]
    pub adoptable: bool,
    /// Something that StornX wrote stands, in a rule that is not ours to write (any more):
    /// weights beside foreign settings, or a rule that it created beside another one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub leftover: bool,
    /// A label of a pod behind it says that the pod is in another place than its node.
    /// The mesh believes the label, and a rule names only places that nodes are in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub displaced: bool,
    /// A pod that its selector matches, of whatever workload or of none, is not younger than
    /// the name of its node: the mesh may not know on which node it is. The first one; known
    /// only where routes are asked for between nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_pod: Option<PodName>,
    /// An endpoint behind it is no pod of this cluster. The mesh does not know it to be in any
    /// place that nodes are in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub foreign_endpoints: bool,
    /// The pods behind it are in ambient mode, and no waypoint is before them: what callers
    /// without a proxy of their own send goes by no rule.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ztunnel_only: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // What serde calls.
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Whether the cluster can carry out routing rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Mesh {
    /// Locality weights take effect.
    #[default]
    Routable,
    /// There is no mesh.
    Absent,
    /// There is one, but it does not read locality weights (ambient without waypoints).
    NotRoutable,
    /// Some node that can hold an endpoint is in a place that no rule can name: without a
    /// zone or a region, or in a zone whose name two regions have. An endpoint in a place
    /// that is not named is cut off.
    Unnamed,
}
