//! What the page and `/api/v1/state` show: one document for each cycle, made from what the
//! loop says anyway. Decides nothing, holds no credentials, and is bounded: what is left out
//! is counted.
//!
//! Names of fields are a contract: they are added to, never renamed. Instants are
//! milliseconds since 1970, lengths of time milliseconds, shares 0 to 1.

mod build;
mod graph;
mod waits;
mod zones;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stornx_core::{
    ids::ZoneName,
    model::RouteTable,
    report::{InputReport, Why},
    units::Timestamp,
};

pub(crate) use self::build::{decisions, found, of_cycle};

/// Most services in one document, those with most requests first.
pub(crate) const MOST_SERVICES: usize = 1000;
/// Most edges, those with most requests first.
pub(crate) const MOST_EDGES: usize = 600;
/// Most pairs of zones, those with most requests first.
pub(crate) const MOST_FLOWS: usize = 400;
/// Most services that are found at one time.
pub(crate) const MOST_FOUND: usize = 200;
/// Most hosts.
pub(crate) const MOST_HOSTS: usize = 1000;
/// Most things that wait.
pub(crate) const MOST_WAITING: usize = 200;
/// Most decisions that are remembered.
pub(crate) const MOST_DECISIONS: usize = 200;

/// Everything that the page shows, apart from history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct State {
    /// When this was answered: ages are counted by the clock of the server.
    pub(crate) now: Timestamp,
    /// What runs, and how it stands.
    pub(crate) banner: Banner,
    /// What the last cycle said.
    pub(crate) latest: Latest,
}

/// Where a StornX stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stage {
    /// The watches are not synced yet.
    Syncing,
    /// Another one leads.
    Waiting,
    /// The first cycle is under way.
    FirstCycle,
    /// Cycles run.
    Running,
    /// About to end.
    Stopping,
}

impl Stage {
    /// It does what it is there for: cycles run, or another one has the lease.
    pub(crate) const fn is_ready(self) -> bool {
        matches!(self, Self::Waiting | Self::Running)
    }
}

/// What is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    /// The cycles of a live cluster.
    Cluster,
    /// One plan for a live cluster, made once.
    Plan,
    /// One plan for a recorded snapshot.
    Recording,
    /// The cycles of a simulated cluster.
    Simulation,
}

/// What runs, and how it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Banner {
    /// Version of StornX.
    pub(crate) version: String,
    /// What is shown.
    pub(crate) source: Source,
    /// Where it stands.
    pub(crate) stage: Stage,
    /// It decides and says so, and writes nothing.
    pub(crate) dry_run: bool,
    /// Who holds the lease, where there is one.
    pub(crate) leader: Option<String>,
    /// Version of the API server, once there is a connection.
    pub(crate) kubernetes: Option<String>,
    /// The scenario, where the cluster is a simulated one.
    pub(crate) scenario: Option<String>,
    /// The namespaces that are managed.
    pub(crate) namespaces: Vec<String>,
    /// What keeps the cluster from being seen, in words.
    pub(crate) not_ready: Vec<String>,
    /// When the next cycle of the schedule comes; one may come earlier.
    pub(crate) next_cycle: Option<Timestamp>,
    /// When the schedule wanted a cycle, where none has planned anything since; absent where that
    /// is a minute ago at most.
    pub(crate) overdue_since: Option<Timestamp>,
    /// Where history is kept.
    pub(crate) history: HistoryPlace,
}

/// Where history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum HistoryPlace {
    /// In a file: it survives a restart.
    File,
    /// In memory: it ends with the process.
    Memory,
}

/// What the last cycle said.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Latest {
    /// Number of this document, counted from 1 since the process began; 0 before the first
    /// cycle. It is the `id` of the event that announces it.
    pub(crate) id: u64,
    /// What went wrong in the last cycle, in words; empty when all went well.
    pub(crate) problems: Vec<String>,
    /// The last cycle that planned something; absent before the first.
    pub(crate) cycle: Option<Cycle>,
    /// The last decisions, the newest first.
    pub(crate) decisions: Vec<Decision>,
}

/// One cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Cycle {
    /// When it began.
    pub(crate) at: Timestamp,
    /// How long it took, ms.
    pub(crate) took: u64,
    /// What came of it.
    pub(crate) result: CycleResult,
    /// The whole cluster in a few figures.
    pub(crate) summary: Summary,
    /// How well each input was known.
    pub(crate) inputs: Vec<InputReport>,
    /// Zones, by name.
    pub(crate) zones: Vec<Zone>,
    /// Services, those with most requests first.
    pub(crate) services: Vec<Service>,
    /// Hosts, by name.
    pub(crate) hosts: Vec<Host>,
    /// Calls by pair of zones, over all edges, also those that are left out; pairs with most
    /// requests first.
    pub(crate) flows: Vec<Flow>,
    /// The service graph, edges with most requests first.
    pub(crate) edges: Vec<Edge>,
    /// What waits, and what for.
    pub(crate) waiting: Vec<Waiting>,
    /// What was left out above.
    pub(crate) left_out: LeftOut,
}

/// What came of a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CycleResult {
    /// Nothing that was tried failed.
    Clean,
    /// Something that was tried failed.
    Partial,
    /// The plan failed its check: nothing was written.
    Refused,
}

/// The whole cluster in a few figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Summary {
    /// Workloads that are managed.
    pub(crate) services: u32,
    /// Their Ready replicas.
    pub(crate) replicas: u32,
    /// Nodes.
    pub(crate) nodes: u32,
    /// Calls between workloads, requests/s; absent when traffic is not known.
    pub(crate) requests: Option<f64>,
    /// p95 as callers see it, ms: the mean over all pairs of caller and callee zone of
    /// every edge, weighted by requests (not the p95 of all requests together).
    pub(crate) p95_ms: Option<f64>,
    /// Share of calls that leave their zone.
    pub(crate) cross_zone: Option<f64>,
    /// Share of calls that fail.
    pub(crate) errors: Option<f64>,
    /// Transfer between zones and regions, US dollars an hour at the configured prices.
    pub(crate) usd_per_hour: Option<f64>,
    /// Moves under way.
    pub(crate) moving: u32,
}

/// A zone, and what its loss would mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Zone {
    /// Name.
    pub(crate) name: ZoneName,
    /// Its region.
    pub(crate) region: String,
    /// Nodes.
    pub(crate) nodes: u32,
    /// Nodes that are Ready.
    pub(crate) ready_nodes: u32,
    /// Ready replicas of managed workloads.
    pub(crate) replicas: u32,
    /// Calls that are answered here, requests/s; absent when traffic is not known.
    pub(crate) requests: Option<f64>,
    /// Share of the calls from here that stay here, over all edges; absent where there are none.
    pub(crate) stays: Option<f64>,
    /// What its loss would mean.
    pub(crate) loss: Loss,
}

/// What the loss of a zone would mean for managed workloads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Loss {
    /// Share of today's requests that the replicas elsewhere can serve at full utilisation,
    /// over all workloads whose demand is known; absent when none is.
    pub(crate) served: Option<f64>,
    /// Workloads of which no Ready replica would be left: how many.
    pub(crate) gone: u32,
    /// Workloads that could serve a part of their demand only: how many.
    pub(crate) short: u32,
    /// The worst off, at most ten: those that would be gone first.
    pub(crate) worst: Vec<Lost>,
}

/// A workload after the loss of a zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Lost {
    /// Which one.
    pub(crate) service: String,
    /// Ready replicas that are left.
    pub(crate) survivors: u32,
    /// Share of its demand that they can serve, where known.
    pub(crate) served: Option<f64>,
}

/// A workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Service {
    /// `namespace/Kind/name`.
    pub(crate) id: String,
    /// Name.
    pub(crate) name: String,
    /// Namespace.
    pub(crate) namespace: String,
    /// It is managed; others are known as callers and callees only.
    pub(crate) managed: bool,
    /// Ready replicas by zone.
    pub(crate) ready: BTreeMap<ZoneName, u32>,
    /// Replicas that are asked for.
    pub(crate) desired: u32,
    /// Used share of what it asks for, by the configured metric, per cent.
    pub(crate) utilisation: Option<f64>,
    /// p95 as its replicas see it, ms.
    pub(crate) p95_ms: Option<f64>,
    /// Requests served per second.
    pub(crate) requests: f64,
    /// Why its count changes or stays.
    pub(crate) scale: Reason,
    /// Why its replicas move or stay.
    pub(crate) moves: Reason,
}

/// A reason: a stable name, and plain words with the numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Reason {
    /// Its name, as in logs and metrics.
    pub(crate) name: String,
    /// In plain words.
    pub(crate) text: String,
}

/// A host and its routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Host {
    /// Its name as the mesh sees it.
    pub(crate) name: String,
    /// The workload behind it; absent where there is not exactly one.
    pub(crate) service: Option<String>,
    /// Why its routes change or stay.
    pub(crate) reason: Reason,
    /// Distance between the split that stands and its target, percentage points.
    pub(crate) delta: f64,
    /// Weights that StornX wrote, by zone of the caller; absent where none of its own stand.
    pub(crate) weights: Option<RouteTable>,
    /// They were written by node: what is shown are the means over the nodes of each zone.
    pub(crate) by_node: bool,
    /// Whether requests fall as the weights say, and what the last change did.
    pub(crate) verification: Vec<Reason>,
}

/// An edge of the service graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Edge {
    /// Who calls.
    pub(crate) caller: String,
    /// Who is called.
    pub(crate) callee: String,
    /// Under which host.
    pub(crate) host: String,
    /// Requests per second.
    pub(crate) requests: f64,
    /// p95 as callers see it, weighted by requests, ms.
    pub(crate) p95_ms: Option<f64>,
    /// Share of requests that fail.
    pub(crate) errors: f64,
    /// Share of requests that leave their zone.
    pub(crate) cross_zone: f64,
    /// Bytes per second, both directions.
    pub(crate) bytes: f64,
    /// By pair of zones; pairs without traffic are absent.
    pub(crate) routes: Vec<Route>,
}

/// Calls from one zone to another, or within one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Flow {
    /// Zone of the callers.
    pub(crate) from: ZoneName,
    /// Zone of the callees.
    pub(crate) to: ZoneName,
    /// Requests per second.
    pub(crate) requests: f64,
    /// p95 as callers see it, weighted by requests, ms.
    pub(crate) p95_ms: Option<f64>,
}

/// `/api/v1/edges?search=TEXT`: services whose names contain a text, and their edges.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Edges {
    /// Edges, those with most requests first.
    pub(crate) edges: Vec<Edge>,
    /// How many more there are.
    pub(crate) left_out: usize,
    /// Services, those with most requests first, also such without calls.
    pub(crate) services: Vec<Service>,
    /// How many more there are.
    pub(crate) services_left_out: usize,
}

/// The part of an edge between two zones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Route {
    /// Zone of the callers.
    pub(crate) from: ZoneName,
    /// Zone of the callees.
    pub(crate) to: ZoneName,
    /// Requests per second.
    pub(crate) requests: f64,
    /// p95 as callers see it, ms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p95_ms: Option<f64>,
    /// The weight that StornX wrote, per cent of the callers' requests; absent where the mesh
    /// splits by itself. Where it was written by node, the mean over the nodes of the zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) weight: Option<u8>,
}

/// One decision: something that was to be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Decision {
    /// When it was made last.
    pub(crate) at: Timestamp,
    /// Cycles in a row that decided the same with the same result: more than 1 in a dry run.
    pub(crate) times: u32,
    /// What kind of action it is, as in logs and metrics.
    pub(crate) kind: String,
    /// The workload that it is about.
    pub(crate) service: String,
    /// The host, where it is about routes.
    pub(crate) host: Option<String>,
    /// What was to be done, in words.
    pub(crate) action: String,
    /// Why, in words.
    pub(crate) why: String,
    /// What it was expected to bring.
    pub(crate) expected: Expected,
    /// What came of it: `done`, or the name of what kept it from being done.
    pub(crate) result: Reason,
    /// The numbers behind it.
    pub(crate) numbers: Why,
}

/// What an action was expected to bring.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expected {
    /// Time that requests no longer spend travelling and waiting: requests/s x ms.
    pub(crate) request_ms_per_second: f64,
    /// Transfer cost saved, US dollars a month; negative when it rises.
    pub(crate) usd_per_month: f64,
    /// Both in words.
    pub(crate) text: String,
}

/// What something waits for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum WaitsFor {
    /// The next cycle: another step comes with it.
    NextCycle,
    /// Something that is under way.
    UnderWay,
    /// Being confirmed or verified by new counts.
    Counts,
    /// The end of a cooldown or back-off.
    Cooldown,
    /// The budget of a later cycle.
    Budget,
    /// An input that is stale or missing.
    Input,
    /// Somebody: a guard ties StornX's hands.
    Guard,
}

/// Something that waits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Waiting {
    /// What for.
    pub(crate) waits_for: WaitsFor,
    /// What decision it is about: `scale`, `move` or `route`.
    pub(crate) about: String,
    /// The workload or host.
    pub(crate) subject: String,
    /// Why, in plain words with the numbers.
    pub(crate) reason: Reason,
    /// Time that is left, ms, where known.
    pub(crate) left: Option<u64>,
}

/// How much did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LeftOut {
    /// Services.
    pub(crate) services: usize,
    /// Hosts.
    pub(crate) hosts: usize,
    /// Pairs of zones.
    pub(crate) flows: usize,
    /// Edges.
    pub(crate) edges: usize,
    /// Things that wait.
    pub(crate) waiting: usize,
}

/// Three decimals: what nobody reads only costs bytes.
pub(crate) fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// A share as the documents have it: a hundredth of a per cent of requests that fail is seen.
pub(crate) fn share(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A count as the documents have it.
pub(crate) fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}
