//! The scenario: everything that one run of the simulated world is made from, read
//! from one YAML file. The seed and the policy under test come from outside, so that
//! policies meet the same world.
//!
//! Unknown fields and bad values are errors that name file, line, path and what is
//! allowed. A scenario that was parsed has also passed [`Scenario::problems`].

mod check;
pub mod event;
pub mod load;
mod parse;
pub mod service;
mod time;
pub mod topology;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stornx_core::{
    ids::{HostName, Namespace, RegionName, WorkloadKind, WorkloadRef},
    model::{ApiVersion, DefaultSplit, RouteTable},
    policy::Policy,
    units::Percent,
};

pub use event::Event;
pub use load::{Entry, Point, Profile};
pub use service::Service;
pub use time::{Timespan, TimespanError};
pub use topology::{LoadBalancer, Network, Topology};

/// A whole scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Scenario {
    /// Format version.
    pub api_version: ApiVersion,
    /// Name, as on the command line.
    pub name: String,
    /// What it is for: one paragraph.
    pub intent: String,
    /// The namespace of everything.
    #[serde(default = "default_namespace")]
    pub namespace: Namespace,
    /// Zones and nodes.
    pub topology: Topology,
    /// Round-trip times and proxies.
    #[serde(default)]
    pub network: Network,
    /// Services.
    pub services: Vec<Service>,
    /// Where load enters.
    pub entries: Vec<Entry>,
    /// Weights that stand at the start, by service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub routes: BTreeMap<String, RouteTable>,
    /// What callers do where no weights stand.
    #[serde(default)]
    pub default_split: DefaultSplit,
    /// What happens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
    /// How long a run takes, warm-up included.
    pub duration: Timespan,
    /// How long nothing is measured.
    #[serde(default)]
    pub warm_up: Timespan,
    /// Time from one cycle of decisions to the next.
    #[serde(default = "cycle")]
    pub cycle: Timespan,
    /// When the first cycle runs; before it decisions would have no metrics.
    #[serde(default = "first_cycle")]
    pub first_cycle: Timespan,
    /// How Prometheus looks at the world.
    #[serde(default)]
    pub metrics: Metrics,
    /// How Kubernetes runs it.
    #[serde(default)]
    pub cluster: Cluster,
    /// Settings of StornX that differ from its defaults.
    #[serde(default)]
    pub policy: Policy,
    /// What to measure.
    #[serde(default)]
    pub measure: Measure,
}

/// How Prometheus looks at the world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Metrics {
    /// Time between two scrapes.
    pub scrape_interval: Timespan,
    /// Window of rates; needs two scrapes.
    pub rate_window: Timespan,
    /// From a scrape to the first query that sees it.
    pub scrape_delay: Timespan,
    /// Age above which facts are stale.
    pub stale_after: Timespan,
    /// An exporter measures round-trip times between nodes.
    pub latency_exporter: bool,
    /// Noise of those measurements: half-width in per cent.
    pub latency_noise: Percent,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            scrape_interval: Timespan::from_seconds(15),
            rate_window: Timespan::from_seconds(60),
            scrape_delay: Timespan::from_seconds(1),
            stale_after: Timespan::from_seconds(60),
            latency_exporter: true,
            latency_noise: Percent::saturating(5.0),
        }
    }
}

/// How Kubernetes runs the cluster. The defaults are those of Kubernetes 1.34.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cluster {
    /// From the last heartbeat of a node to its being not ready
    /// (`node-monitor-grace-period`).
    pub node_grace: Timespan,
    /// From then on, how long its pods stay (`tolerationSeconds` of `not-ready`).
    pub eviction_after: Timespan,
    /// Between two looks of the HorizontalPodAutoscaler.
    pub hpa_interval: Timespan,
    /// It does nothing while usage over target is within this of 1.
    pub hpa_tolerance: Percent,
    /// It scales down to the highest count that it wanted in this time.
    pub hpa_down_stabilisation: Timespan,
    /// Replicas above the count during a rollout, rounded up.
    pub max_surge: Percent,
    /// Replicas below the count during a rollout, rounded down.
    pub max_unavailable: Percent,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            node_grace: Timespan::from_seconds(40),
            eviction_after: Timespan::from_seconds(300),
            hpa_interval: Timespan::from_seconds(15),
            hpa_tolerance: Percent::saturating(10.0),
            hpa_down_stabilisation: Timespan::from_seconds(300),
            max_surge: Percent::saturating(25.0),
            max_unavailable: Percent::saturating(25.0),
        }
    }
}

/// What to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Measure {
    /// Time between two samples of the curves.
    pub sample_interval: Timespan,
    /// Window of utilisation: peaks are peaks of averages over it.
    pub utilisation_window: Timespan,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            sample_interval: Timespan::from_seconds(60),
            utilisation_window: Timespan::from_seconds(60),
        }
    }
}

/// The workload whose pods, one in each zone, bring the load in. It is not managed.
pub const INGRESS: &str = "ingress";

impl Scenario {
    /// The workload of a service (or of [`INGRESS`]).
    ///
    /// # Errors
    /// [`IdError`](stornx_core::ids::IdError) when the name cannot be one.
    pub fn workload(&self, service: &str) -> Result<WorkloadRef, stornx_core::ids::IdError> {
        WorkloadRef::new(&self.namespace, WorkloadKind::Deployment, service)
    }

    /// The host of a service.
    ///
    /// # Errors
    /// [`IdError`](stornx_core::ids::IdError) when the name cannot be one.
    pub fn host(&self, service: &str) -> Result<HostName, stornx_core::ids::IdError> {
        HostName::of_service(&self.namespace, service)
    }
}

#[allow(clippy::expect_used)] // A constant that is valid by the rule of the type.
fn default_namespace() -> Namespace {
    Namespace::new("default").expect("a valid namespace")
}

#[allow(clippy::expect_used)] // A constant that is valid by the rule of the type.
fn default_region() -> RegionName {
    RegionName::new("region").expect("a valid region")
}

/// The default of `CRONJOB_EXPRESSION`.
const fn cycle() -> Timespan {
    Timespan::from_seconds(60)
}

/// Two scrapes and a full rate window.
const fn first_cycle() -> Timespan {
    Timespan::from_seconds(90)
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}
