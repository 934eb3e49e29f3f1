//! The snapshot: everything that one plan is decided on, and nothing else.

use serde::{Deserialize, Serialize};

use super::{
    facts::Facts,
    routing::{Host, Mesh},
    topology::{Latency, Node},
    traffic::Traffic,
    workload::{PodUsage, Workload},
};
use crate::{memory::Memory, units::Timestamp};

/// The version of the file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ApiVersion {
    /// The first version.
    #[default]
    #[serde(rename = "stornx.io/v1alpha1")]
    V1Alpha1,
}

/// What the cluster itself says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClusterFacts {
    /// Nodes.
    pub nodes: Vec<Node>,
    /// Workloads, unmanaged callers and callees included.
    pub workloads: Vec<Workload>,
    /// Hosts and their rules.
    pub hosts: Vec<Host>,
    /// Whether rules take effect.
    pub mesh: Mesh,
    /// Whether new replicas can be told where to run.
    pub steering: Steering,
}

/// Whether new replicas can be told where to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Steering {
    /// They come up on the node that was chosen for them.
    #[default]
    Given,
    /// The scheduler alone decides: no move begins, and a count is raised all the same.
    Missing {
        /// Why, in plain words.
        reason: String,
    },
}

impl Steering {
    /// It is there.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        matches!(self, Self::Given)
    }
}

/// What the metrics say.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsFacts {
    /// CPU and memory by replica.
    pub usage: Facts<Vec<PodUsage>>,
    /// The service graph.
    pub traffic: Facts<Traffic>,
    /// Round-trip times.
    pub latency: Facts<Latency>,
    /// Warnings that came with the answers (partial results), in plain words.
    pub warnings: Vec<String>,
}

/// Everything that one plan is decided on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Snapshot {
    /// Format version.
    pub api_version: ApiVersion,
    /// When it was taken.
    pub taken_at: Timestamp,
    /// Nodes, by name.
    pub nodes: Vec<Node>,
    /// Workloads, by reference.
    pub workloads: Vec<Workload>,
    /// Hosts, by name.
    #[serde(default)]
    pub hosts: Vec<Host>,
    /// Whether routing rules take effect.
    #[serde(default)]
    pub mesh: Mesh,
    /// Whether new replicas can be told where to run.
    #[serde(default, skip_serializing_if = "Steering::is_given")]
    pub steering: Steering,
    /// It is a quiet hour: no move begins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quiet: bool,
    /// CPU and memory by replica.
    pub usage: Facts<Vec<PodUsage>>,
    /// The service graph.
    pub traffic: Facts<Traffic>,
    /// Measured round-trip times.
    pub latency: Facts<Latency>,
    /// Warnings of the metrics source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// What was remembered when it was taken: with it, a recording replays to the plan
    /// of the live cycle.
    #[serde(default, skip_serializing_if = "Memory::is_empty")]
    pub memory: Memory,
}

impl Snapshot {
    /// Joins what cluster and metrics say, in the order of the identifiers. What the
    /// metrics still remember of pods, workloads, nodes and zones that are gone is
    /// dropped.
    #[must_use]
    pub fn assemble(cluster: ClusterFacts, metrics: MetricsFacts, taken_at: Timestamp) -> Self {
        let mut snapshot = Self {
            api_version: ApiVersion::V1Alpha1,
            taken_at,
            nodes: cluster.nodes,
            workloads: cluster.workloads,
            hosts: cluster.hosts,
            mesh: cluster.mesh,
            steering: cluster.steering,
            quiet: false,
            usage: metrics.usage,
            traffic: metrics.traffic,
            latency: metrics.latency,
            warnings: metrics.warnings,
            memory: Memory::default(),
        };
        snapshot.prune();
        snapshot.sort();
        snapshot
    }

    /// Puts every list into the order of its identifiers, so that the same facts
    /// are the same bytes.
    pub fn sort(&mut self) {
        self.nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self.workloads.sort_by(|a, b| a.id.cmp(&b.id));
        for workload in &mut self.workloads {
            workload.pods.sort_by(|a, b| a.name.cmp(&b.name));
        }
        self.hosts.sort_by(|a, b| a.name.cmp(&b.name));
        if let Facts::Fresh { value, .. } | Facts::Stale { value, .. } = &mut self.usage {
            value.sort_by(|a, b| a.pod.cmp(&b.pod));
        }
        if let Facts::Fresh { value, .. } | Facts::Stale { value, .. } = &mut self.traffic {
            value.edges.sort_by(|a, b| {
                (&a.caller, &a.callee, &a.host).cmp(&(&b.caller, &b.callee, &b.host))
            });
            for edge in &mut value.edges {
                edge.routes.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
            }
            value.pods.sort_by(|a, b| a.pod.cmp(&b.pod));
        }
        if let Facts::Fresh { value, .. } | Facts::Stale { value, .. } = &mut self.latency {
            value.nodes.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
            value.zones.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        }
    }
}
