//! The model: what StornX knows of the world. Plain data, no behaviour beyond
//! looking things up; every name and number is a type of its own.

mod by_node;
mod facts;
mod routing;
mod snapshot;
mod topology;
mod traffic;
mod validate;
mod workload;

pub use by_node::{Grain, MOST_NODES, WholeZones, nodes_as_places, unnameable};
pub use facts::{Facts, Source};
pub use routing::{
    DefaultSplit, Distribution, DistributionError, ForeignRule, Host, Mesh, RouteTable, Rule,
};
pub use snapshot::{ApiVersion, ClusterFacts, MetricsFacts, Snapshot, Steering};
pub use topology::{
    Labels, Latency, Node, NodeRoundTrip, SUBZONE, Taint, TaintEffect, ZoneRoundTrip,
};
pub use traffic::{Edge, PodTraffic, Protocol, RouteTraffic, Traffic};
pub use validate::Problem;
pub use workload::{
    Autoscaler, AutoscalerKind, Constraints, CountBy, DisruptionBudget, HeldMinimum,
    NodeExpression, NodeOperator, NodeTerm, Pod, PodPhase, PodUsage, Rollout, Steered, Toleration,
    Traces, Workload, WorkloadPolicy,
};
