//! The services of a scenario: what they run on, how long they work, whom they call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stornx_core::{
    ids::{NodeName, ZoneName},
    model::{Constraints, Protocol, WorkloadPolicy},
    units::{Bytes, Millis, Percent, Resources, Share},
};

use super::{Timespan, one, yes};

/// A service: one Deployment and one host of the same name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Name of the Deployment and of the Service.
    pub name: String,
    /// Replicas at the start.
    pub replicas: u32,
    /// Where those replicas run; the default scheduler of Kubernetes decides where
    /// this does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// What one replica asks for.
    pub requests: Resources,
    /// What one replica may use; CPU beyond it is throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// How many requests one replica works on, and how many may wait.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// How long one request takes to work on, calls to others excluded.
    pub work: Work,
    /// From creation to Ready.
    #[serde(default = "startup")]
    pub startup: Timespan,
    /// How long a replica being deleted may finish what it has begun.
    #[serde(default = "grace")]
    pub termination_grace: Timespan,
    /// Memory of one replica.
    #[serde(default)]
    pub memory: Memory,
    /// A disruption budget: replicas that must stay Ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_ready: Option<u32>,
    /// A HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler: Option<Hpa>,
    /// Where replicas may run.
    #[serde(default)]
    pub constraints: Constraints,
    /// What the owner asks of StornX.
    #[serde(default)]
    pub policy: WorkloadPolicy,
    /// Lies in a monitored namespace.
    #[serde(default = "yes")]
    pub managed: bool,
    /// What it calls on each request, stage after stage, once its own work is done.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<Stage>,
    /// Kinds of request that differ from the plain one, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operations: BTreeMap<String, Operation>,
}

const fn startup() -> Timespan {
    Timespan::from_seconds(10)
}

/// The default of Kubernetes.
const fn grace() -> Timespan {
    Timespan::from_seconds(30)
}

/// Where the first replicas run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Placement {
    /// So many in each zone, on the node that the default scheduler prefers there.
    Zones(BTreeMap<ZoneName, u32>),
    /// So many on each node.
    Nodes(BTreeMap<NodeName, u32>),
}

/// Concurrency of one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Concurrency {
    /// Requests worked on at one time.
    pub workers: u32,
    /// Requests that may wait in the order in which they came; one more is refused
    /// with 503.
    pub queue: u32,
    /// A worker is held while the request waits for the services it calls (a thread
    /// a request), not only for its own work.
    pub blocking: bool,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { workers: 1, queue: 1024, blocking: false }
    }
}

/// The shape of a random length of time.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Distribution {
    /// Always the mean.
    Deterministic,
    /// Exponential.
    #[default]
    Exponential,
    /// Logarithmic normal, with `variation`.
    Lognormal,
}

/// How long a request is worked on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Work {
    /// The shape.
    #[serde(default)]
    pub distribution: Distribution,
    /// The mean in milliseconds.
    pub mean_ms: Millis,
    /// Standard deviation over mean, of the lognormal shape.
    #[serde(default = "variation")]
    pub variation: f64,
    /// How much of one core a worker uses while it works.
    #[serde(default = "whole")]
    pub cpu_share: Share,
}

/// Between exponential work (1) and clockwork (0).
const fn variation() -> f64 {
    0.5
}

fn whole() -> Share {
    Share::saturating(1.0)
}

/// Memory of one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Memory {
    /// When idle.
    pub base: Bytes,
    /// More for each request in the replica.
    pub per_request: Bytes,
}

impl Default for Memory {
    fn default() -> Self {
        Self { base: Bytes::new(32 << 20), per_request: Bytes::new(64 << 10) }
    }
}

/// A HorizontalPodAutoscaler on CPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hpa {
    /// Lower bound.
    pub min: u32,
    /// Upper bound.
    pub max: u32,
    /// Target utilisation of the CPU request.
    pub target_cpu_percent: Percent,
}

/// A kind of request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Operation {
    /// Multiplies the service's work.
    #[serde(default = "unit")]
    pub work_factor: f64,
    /// What it calls.
    #[serde(default)]
    pub stages: Vec<Stage>,
}

const fn unit() -> f64 {
    1.0
}

/// Calls made together; the next stage begins when all have been answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Stage {
    /// One after the other instead of all at once.
    #[serde(default)]
    pub sequential: bool,
    /// The calls.
    pub calls: Vec<Call>,
}

/// How a fractional fan-out becomes whole numbers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum FanOut {
    /// The whole part, and one more with the probability of the fraction.
    #[default]
    Nearest,
    /// Poisson.
    Poisson,
}

/// Calls to one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Call {
    /// The service called.
    pub to: String,
    /// Which of its operations; the plain one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Mean number of calls for one request.
    #[serde(default = "unit")]
    pub mean: f64,
    /// How a fraction is drawn.
    #[serde(default)]
    pub fan_out: FanOut,
    /// Bytes of one request.
    #[serde(default = "request_bytes")]
    pub request_bytes: Bytes,
    /// Bytes of one response.
    #[serde(default = "response_bytes")]
    pub response_bytes: Bytes,
    /// How long the caller waits for the answer, attempts included.
    #[serde(default = "timeout")]
    pub timeout: Timespan,
    /// Attempts after the first, on connect failure and 503 only.
    #[serde(default = "retries")]
    pub retries: u32,
    /// What the mesh sees: requests, or bytes alone.
    #[serde(default)]
    pub protocol: Protocol,
    /// The caller answers also when this call fails.
    #[serde(default)]
    pub optional: bool,
}

/// A small request with the headers of a mesh.
pub(super) const fn request_bytes() -> Bytes {
    Bytes::new(1_000)
}

/// A few records.
pub(super) const fn response_bytes() -> Bytes {
    Bytes::new(4_000)
}

/// Envoy's default.
pub(super) const fn timeout() -> Timespan {
    Timespan::from_seconds(15)
}

/// Istio's default.
pub(super) const fn retries() -> u32 {
    one() + 1
}
