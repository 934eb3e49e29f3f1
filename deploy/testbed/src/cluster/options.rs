//! What kind of cluster a test asks for. The default is that of the issue: the
//! boutique's three zones and nine nodes, every program but Prometheus, RBAC on.

use std::{collections::BTreeMap, time::Duration};

use stornx_core::units::{Bytes, MilliCpu};
use stornx_sim::scenario::Scenario;

use crate::apps;

/// A server of the test bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Server {
    /// The store of the API server.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// Simulated kubelets.
    Kwok,
    /// Prometheus, once a test has started it.
    Prometheus,
}

impl Server {
    /// In the order in which they are started.
    pub const ALL: [Self; 6] = [
        Self::Etcd,
        Self::ApiServer,
        Self::ControllerManager,
        Self::Scheduler,
        Self::Kwok,
        Self::Prometheus,
    ];

    /// As on the command line, and the name of its log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kwok => "kwok",
            Self::Prometheus => "prometheus",
        }
    }
}

/// A node that is simulated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSpec {
    /// Its name.
    pub name: String,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: String,
    /// Label `topology.kubernetes.io/region`.
    pub region: String,
    /// Capacity, all of it allocatable.
    pub cpu: MilliCpu,
    /// Capacity, all of it allocatable.
    pub memory: Bytes,
    /// Most pods.
    pub pods: u32,
    /// More labels.
    pub labels: BTreeMap<String, String>,
}

impl NodeSpec {
    /// The nodes of a scenario, with its names.
    #[must_use]
    pub fn of_scenario(scenario: &Scenario) -> Vec<Self> {
        let node = |(zone, group, name): (usize, usize, stornx_core::ids::NodeName)| {
            let zone = &scenario.topology.zones[zone];
            let group = &zone.nodes[group];
            Self {
                name: name.to_string(),
                zone: zone.name.to_string(),
                region: zone.region.to_string(),
                cpu: group.cpu,
                memory: group.memory,
                pods: group.pods,
                labels: BTreeMap::new(),
            }
        };
        scenario.node_names().into_iter().map(node).collect()
    }

    /// `count` nodes like those of the boutique, its zones taken in turn.
    #[must_use]
    pub fn many(count: usize) -> Vec<Self> {
        let zones = &apps::boutique_scenario().topology.zones;
        let node = |index: usize| {
            let zone = &zones[index % zones.len()];
            let like = &zone.nodes[0];
            Self {
                name: format!("{}-{}", zone.name, index / zones.len() + 1),
                zone: zone.name.to_string(),
                region: zone.region.to_string(),
                cpu: like.cpu,
                memory: like.memory,
                pods: like.pods,
                labels: BTreeMap::new(),
            }
        };
        (0..count).map(node).collect()
    }
}

/// A custom resource definition that a cluster may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crd {
    /// Istio's own, of the pinned version.
    DestinationRule,
    /// KEDA's name and versions over a schema of ours that allows everything: its
    /// presence and its target are all that StornX reads.
    ScaledObject,
}

/// What a test asks for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The nodes.
    pub nodes: Vec<NodeSpec>,
    /// Users beside `admin`, each with a token and no rights; a test binds roles.
    pub users: Vec<String>,
    /// Custom resource definitions.
    pub crds: Vec<Crd>,
    /// Servers that are left out. etcd and the API server are always there.
    pub without: Vec<Server>,
    /// Lifts the limits on API calls a second of controllers and scheduler, for
    /// hundreds of nodes and thousands of pods.
    pub large: bool,
    /// From being scheduled to Ready, where the pod's annotation
    /// [`READY_AFTER`](super::stages::READY_AFTER) does not say.
    pub ready_after: Duration,
    /// From the deletion of a pod to its being gone.
    pub gone_after: Duration,
    /// More arguments, after ours.
    pub arguments: BTreeMap<Server, Vec<String>>,
    /// Keeps the data folder.
    pub keep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: NodeSpec::of_scenario(apps::boutique_scenario()),
            users: vec!["stornx".to_owned()],
            crds: vec![Crd::DestinationRule, Crd::ScaledObject],
            without: Vec::new(),
            large: false,
            // Long enough for a watcher to see the pod before it is Ready.
            ready_after: Duration::from_millis(300),
            gone_after: Duration::ZERO,
            arguments: BTreeMap::new(),
            keep: false,
        }
    }
}
