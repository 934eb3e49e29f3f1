//! Who calls whom, how much, how far and how well.

use serde::{Deserialize, Serialize};

use crate::{
    ids::{HostName, PodName, WorkloadRef, ZoneName},
    units::{BytesPerSecond, Millis, Rps, Share, Span},
};

/// What an edge carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP and gRPC: requests are counted.
    #[default]
    Http,
    /// Databases, caches, brokers: bytes are counted, requests are estimated or zero.
    Tcp,
}

/// The traffic of an edge between two zones, as the callers report it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteTraffic {
    /// Zone of the callers.
    pub from: ZoneName,
    /// Zone of the callees.
    pub to: ZoneName,
    /// Requests per second.
    pub requests: Rps,
    /// Bytes sent to the callees.
    #[serde(default)]
    pub request_bytes: BytesPerSecond,
    /// Bytes sent back.
    #[serde(default)]
    pub response_bytes: BytesPerSecond,
    /// 95th percentile of the duration that callers see, network included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<Millis>,
    /// Share of requests that failed (5xx or no answer).
    #[serde(default)]
    pub errors: Share,
}

/// One edge of the service graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edge {
    /// Who calls.
    pub caller: WorkloadRef,
    /// Who is called.
    pub callee: WorkloadRef,
    /// Under which host.
    pub host: HostName,
    /// What is carried.
    #[serde(default)]
    pub protocol: Protocol,
    /// By pair of zones; pairs without traffic are absent.
    pub routes: Vec<RouteTraffic>,
}

impl Edge {
    /// Requests per second over all routes.
    #[must_use]
    pub fn requests(&self) -> Rps {
        self.routes.iter().map(|route| route.requests).sum()
    }

    /// Bytes per second over all routes, both directions.
    #[must_use]
    pub fn bytes(&self) -> BytesPerSecond {
        self.routes.iter().map(|route| route.request_bytes + route.response_bytes).sum()
    }
}

/// What one replica serves, as it reports itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PodTraffic {
    /// Which replica.
    pub pod: PodName,
    /// Requests served per second.
    pub requests: Rps,
    /// 95th percentile of the time it takes to answer, the network to its caller
    /// excluded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<Millis>,
    /// Share of requests that failed.
    #[serde(default)]
    pub errors: Share,
}

/// All traffic of one observation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Traffic {
    /// The window over which rates are averaged: with the rate it tells how many
    /// requests were counted, hence how noisy the rate is.
    pub window: Span,
    /// Edges of the service graph.
    pub edges: Vec<Edge>,
    /// The same with routes between nodes, each the place `zone/node`; empty where nodes are
    /// not named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_node: Vec<Edge>,
    /// By replica, where the mesh reports it.
    pub pods: Vec<PodTraffic>,
}
