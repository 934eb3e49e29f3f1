//! The cluster as the Kubernetes API would show it, in the types of the core.

use stornx_core::{
    model::{
        Autoscaler, AutoscalerKind, ClusterFacts, DisruptionBudget, HeldMinimum, Host, Mesh, Node,
        Pod, PodPhase, Rollout, Rule, Steered, Steering, Traces, Workload,
    },
    units::{Resources, Span},
};

use super::{
    Routing,
    agenda::MILLISECOND,
    state::{NONE, Phase, World},
};

impl World {
    /// The cluster as it is known now.
    pub(crate) fn cluster_facts(&self) -> ClusterFacts {
        let services = 0..self.model.ingress();
        ClusterFacts {
            nodes: (0..self.nodes.len()).map(|node| self.node(node)).collect(),
            workloads: (0..self.services.len()).map(|service| self.workload(service)).collect(),
            hosts: services.map(|service| self.host(service)).collect(),
            mesh: Mesh::Routable,
            steering: Steering::default(),
        }
    }

    fn node(&self, node: usize) -> Node {
        let (model, state) = (&self.model.nodes[node], &self.nodes[node]);
        let zone = &self.model.zones[model.zone];
        Node {
            name: model.name.clone(),
            zone: zone.name.clone(),
            region: self.model.regions[zone.region].clone(),
            ready: state.ready,
            schedulable: !model.gateway,
            allocatable: model.allocatable,
            pod_capacity: model.pod_capacity,
            reserved: Resources::default(),
            reserved_pods: 0,
            labels: self.labels(node),
            taints: self.taints(node),
            named_since: None,
        }
    }

    fn workload(&self, service: usize) -> Workload {
        let (model, state) = (&self.model.services[service], &self.services[service]);
        let pods: Vec<Pod> = state.pods.iter().map(|pod| self.pod(*pod)).collect();
        let ready = pods.iter().filter(|pod| pod.phase == PodPhase::Ready).count();
        let mut workload = Workload {
            id: model.workload.clone(),
            managed: false,
            desired: state.desired,
            requests: model.requests,
            limits: None,
            constraints: stornx_core::model::Constraints::default(),
            autoscaler: None,
            budget: None,
            rollout: if state.rolling { Rollout::InProgress } else { Rollout::Settled },
            policy: stornx_core::model::WorkloadPolicy::default(),
            startup: Some(Span::from_millis(model.startup / MILLISECOND)),
            min_ready: Span::ZERO,
            counted_by: stornx_core::model::CountBy::Unknown,
            // Its replica sets are never behind.
            ready_counted: u32::try_from(ready).ok(),
            proxied: false,
            pods,
        };
        if let Some(scenario) = self.scenario.services.get(service) {
            workload.managed = scenario.managed;
            workload.limits = scenario.limits;
            workload.constraints = scenario.constraints.clone();
            let held = self.services[service].hpa.held;
            workload.autoscaler = scenario.autoscaler.as_ref().map(|hpa| Autoscaler {
                kind: AutoscalerKind::Hpa,
                min: held.unwrap_or(hpa.min),
                max: hpa.max,
                held: held.map(|raised| HeldMinimum { before: hpa.min, raised }),
            });
            workload.budget = scenario.min_ready.map(|min_ready| DisruptionBudget { min_ready });
            workload.policy = scenario.policy.clone();
        }
        workload
    }

    fn pod(&self, pod: u32) -> Pod {
        let state = &self.pods[pod as usize];
        Pod {
            name: state.name.clone(),
            node: (state.node != NONE).then(|| self.model.nodes[state.node as usize].name.clone()),
            phase: match state.phase {
                Phase::Pending => PodPhase::Pending,
                Phase::Starting => PodPhase::Starting,
                Phase::Ready => PodPhase::Ready,
                Phase::Unready => PodPhase::Unready,
                Phase::Terminating | Phase::Gone => PodPhase::Terminating,
            },
            created_at: state.created_at,
            ready_since: state.ready_since,
            traces: Traces {
                steered: state.intent.map(|node| Steered {
                    node: self.model.nodes[node].name.clone(),
                    since: state.created_at,
                }),
                victim: false,
            },
        }
    }

    fn host(&self, service: usize) -> Host {
        let (model, state) = (&self.model.services[service], &self.services[service]);
        let (rule, default_split) = match &state.routing {
            Routing::Weights(table) => (Rule::Ours(table.clone()), self.scenario.default_split),
            Routing::ByReplicas => (Rule::None, stornx_core::model::DefaultSplit::ByReplicas),
            Routing::OwnZoneFirst => (Rule::None, stornx_core::model::DefaultSplit::OwnZoneFirst),
        };
        Host {
            name: model.host.clone(),
            backends: vec![model.workload.clone()],
            rule,
            default_split,
            adoptable: false,
            leftover: false,
            displaced: false,
            old_pod: None,
            foreign_endpoints: false,
            ztunnel_only: false,
        }
    }
}
