//! Facts from real objects, joined as the watches join them.

use serde_json::{Value, json};
use stornx_core::{
    model::{
        AutoscalerKind, ClusterFacts, DefaultSplit, ForeignRule, Host, Mesh, PodPhase, Rollout,
        Rule, Workload,
    },
    units::Span,
};

use crate::watch::{
    Shared,
    kinds::{
        Budgets, Deployments, DestinationRules, EndpointSlices, Hpas, Kind, Nodes, Pods,
        ReplicaSets, ScaledObjects, Services, StatefulSets, WorkloadEntries,
    },
};

mod endpoints;
mod places;

struct World(Shared);

impl World {
    /// Two zones, a Deployment `cart` at revision 2 with a replica in each.
    fn new() -> Self {
        let mut world = Self(Shared::new(["shop".parse().unwrap()].into()));
        world.node("n1", "a").node("n2", "b").deployment(7, 7, "v2").set("cart-new", 2);
        world.pod("cart-1", "n1", "cart-new").pod("cart-2", "n2", "cart-new");
        world
    }

    fn apply<K: Kind>(&mut self, object: Value) -> &mut Self {
        self.0.apply::<K>(&serde_json::from_value(object).unwrap());
        self
    }

    fn node(&mut self, name: &str, zone: &str) -> &mut Self {
        self.apply::<Nodes>(json!({
            "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": zone } },
            "status": {
                "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
                "conditions": [{ "type": "Ready", "status": "True" }]
            }
        }))
    }

    fn deployment_object(generation: i64, observed: i64, image: &str) -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": "cart", "uid": "u", "generation": generation,
                "annotations": { "deployment.kubernetes.io/revision": "2" }
            },
            "spec": { "replicas": 2, "selector": {}, "template": {
                "metadata": { "labels": { "app": "cart", "tier": "backend" } },
                "spec": { "containers": [{ "name": "server", "image": image,
                    "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } } }] }
            }},
            "status": { "observedGeneration": observed }
        })
    }

    fn deployment(&mut self, generation: i64, observed: i64, image: &str) -> &mut Self {
        self.apply::<Deployments>(Self::deployment_object(generation, observed, image))
    }

    fn set(&mut self, name: &str, revision: u64) -> &mut Self {
        self.apply::<ReplicaSets>(json!({ "metadata": {
            "namespace": "shop", "name": name,
            "annotations": { "deployment.kubernetes.io/revision": revision.to_string() },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment",
                "name": "cart", "uid": "u", "controller": true }]
        }}))
    }

    fn pod_object(name: &str, node: &str, kind: &str, owner: &str) -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": name, "creationTimestamp": "2026-11-25T12:00:00Z",
                "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind, "name": owner,
                    "uid": "u", "controller": true }]
            },
            "spec": { "nodeName": node, "containers": [
                { "name": "server", "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } } },
                { "name": "istio-proxy", "resources": { "requests": { "cpu": "10m", "memory": "40Mi" } } }
            ]},
            "status": { "phase": "Running", "conditions": [
                { "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T12:00:08Z" }
            ]}
        })
    }

    fn pod(&mut self, name: &str, node: &str, set: &str) -> &mut Self {
        self.apply::<Pods>(Self::pod_object(name, node, "ReplicaSet", set))
    }

    fn going(&mut self, name: &str, node: &str, set: &str) -> &mut Self {
        let mut pod = Self::pod_object(name, node, "ReplicaSet", set);
        pod["metadata"]["deletionTimestamp"] = json!("2026-11-25T13:00:00Z");
        self.apply::<Pods>(pod)
    }

    fn facts(&self) -> ClusterFacts {
        self.0.facts(Mesh::Routable)
    }

    fn cart(&self) -> Workload {
        let facts = self.facts();
        let mut found = facts.workloads.into_iter().filter(|w| w.id.name() == "cart");
        found.next().unwrap()
    }

    fn service(&mut self, spec: Value) -> &mut Self {
        self.apply::<Services>(
            json!({ "metadata": { "namespace": "shop", "name": "cart" }, "spec": spec }),
        )
    }

    fn rule(&mut self, name: &str, spec: Value) -> &mut Self {
        self.apply::<DestinationRules>(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": { "namespace": "shop", "name": name }, "spec": spec
        }))
    }

    fn host(&self) -> Host {
        self.facts().hosts.into_iter().next().unwrap()
    }
}

#[test]
fn pods_find_their_workload_through_their_replica_set() {
    let world = World::new();
    let cart = world.cart();
    assert_eq!(cart.id.as_str(), "shop/Deployment/cart");
    assert!(cart.managed);
    assert_eq!((cart.desired, cart.pods.len(), cart.rollout), (2, 2, Rollout::Settled));
    assert!(cart.pods.iter().all(|pod| pod.phase == PodPhase::Ready));
    assert_eq!(cart.requests.cpu.get(), 110, "the sidecar that admission added counts");
    assert_eq!(cart.startup, Some(Span::from_seconds(8)));
    let nodes = world.facts().nodes;
    assert_eq!(nodes[0].zone.as_str(), "a");
    assert_eq!((nodes[0].reserved_pods, nodes[0].reserved.cpu.get()), (0, 0));
}

#[test]
fn what_belongs_to_no_workload_reserves_its_node() {
    let mut world = World::new();
    world.apply::<Pods>(World::pod_object("agent", "n1", "DaemonSet", "agent"));
    let mut job = World::pod_object("job", "n1", "Job", "job");
    job["metadata"]["ownerReferences"][0]["apiVersion"] = json!("batch/v1");
    world.apply::<Pods>(job.clone());
    let nodes = world.facts().nodes;
    assert_eq!((nodes[0].reserved_pods, nodes[0].reserved.cpu.get()), (2, 220));
    assert_eq!(nodes[1].reserved_pods, 0);
    job["status"]["phase"] = json!("Succeeded");
    world.apply::<Pods>(job);
    assert_eq!(world.facts().nodes[0].reserved_pods, 1, "what has ended holds nothing");
}

#[test]
fn what_cannot_be_read_fills_its_node_and_is_not_what_replicas_ask_for() {
    let mut world = World::new();
    let bad = json!({ "requests": { "cpu": "1e400" } });
    let mut job = World::pod_object("job", "n1", "Job", "job");
    job["spec"]["containers"][0]["resources"] = bad.clone();
    let mut replica = World::pod_object("cart-1", "n1", "ReplicaSet", "cart-new");
    replica["metadata"]["creationTimestamp"] = json!("2026-11-25T12:30:00Z");
    replica["spec"]["containers"][0]["resources"] = bad;
    world.apply::<Pods>(job).apply::<Pods>(replica);
    let node = &world.facts().nodes[0];
    assert!(node.reserved.cpu > node.allocatable.cpu, "{:?}", node.reserved);
    assert_eq!(world.cart().requests.cpu.get(), 110, "as the other replica");
}

#[test]
fn a_scale_up_is_no_rollout() {
    let mut world = World::new();
    let mut scaled = World::deployment_object(8, 7, "v2");
    scaled["spec"]["replicas"] = json!(4);
    world.apply::<Deployments>(scaled);
    assert_eq!((world.cart().desired, world.cart().rollout), (4, Rollout::Settled));
}

#[test]
fn rollouts_are_seen_from_their_first_to_their_last_moment() {
    let mut world = World::new();
    world.deployment(8, 7, "v3");
    assert_eq!(world.cart().rollout, Rollout::InProgress, "not seen by the controller");
    let mut seen = World::deployment_object(8, 8, "v3");
    seen["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("3");
    world.apply::<Deployments>(seen);
    assert_eq!(world.cart().rollout, Rollout::InProgress, "its ReplicaSet is not there yet");
    world.set("cart-3", 3);
    assert_eq!(world.cart().rollout, Rollout::InProgress, "live replicas of the old one");
    world.going("cart-1", "n1", "cart-new").going("cart-2", "n2", "cart-new");
    assert_eq!(world.cart().rollout, Rollout::InProgress, "all gone and no new one");
    world.pod("cart-4", "n1", "cart-3");
    assert_eq!(world.cart().rollout, Rollout::Settled, "old ones that are going do not count");
}

#[test]
fn a_paused_deployment_is_paused() {
    let mut world = World::new();
    let mut paused = World::deployment_object(8, 8, "v2");
    paused["spec"]["paused"] = json!(true);
    world.apply::<Deployments>(paused);
    assert_eq!(world.cart().rollout, Rollout::Paused);
}

#[test]
fn stateful_sets_roll_by_revision() {
    let mut world = World::new();
    let set = |current: &str, update: &str| {
        json!({
            "metadata": { "namespace": "other", "name": "redis", "generation": 1 },
            "spec": { "selector": {}, "serviceName": "redis", "template": {}, "replicas": 1 },
            "status": { "replicas": 1, "observedGeneration": 1,
                "currentRevision": current, "updateRevision": update }
        })
    };
    let mut pod = World::pod_object("redis-0", "n1", "StatefulSet", "redis");
    pod["metadata"]["namespace"] = json!("other");
    pod["metadata"]["labels"] = json!({ "controller-revision-hash": "redis-1" });
    world.apply::<StatefulSets>(set("redis-1", "redis-1")).apply::<Pods>(pod);
    let redis = |world: &World| {
        world.facts().workloads.into_iter().find(|w| w.id.name() == "redis").unwrap()
    };
    let settled = redis(&world);
    assert_eq!((settled.rollout, settled.pods.len()), (Rollout::Settled, 1));
    assert!(!settled.managed, "in a namespace that is not monitored");
    world.apply::<StatefulSets>(set("redis-2", "redis-2"));
    assert_eq!(redis(&world).rollout, Rollout::InProgress, "a live replica of the old one");
}

#[test]
fn old_replicas_of_a_set_that_updates_on_delete_are_no_rollout() {
    let rollout = |strategy: Value| {
        let mut world = World::new();
        world.apply::<StatefulSets>(json!({
            "metadata": { "namespace": "shop", "name": "redis", "generation": 1 },
            "spec": { "selector": {}, "serviceName": "redis", "template": {}, "replicas": 2,
                "updateStrategy": strategy },
            "status": { "replicas": 2, "observedGeneration": 1,
                "currentRevision": "redis-1", "updateRevision": "redis-2" }
        }));
        for (name, revision) in [("redis-0", "redis-1"), ("redis-1", "redis-2")] {
            let mut pod = World::pod_object(name, "n1", "StatefulSet", "redis");
            pod["metadata"]["labels"] = json!({ "controller-revision-hash": revision });
            if name == "redis-1" {
                pod["metadata"]["deletionTimestamp"] = json!("2026-11-25T13:00:00Z");
            }
            world.apply::<Pods>(pod);
        }
        let redis = world.facts().workloads.into_iter().find(|w| w.id.name() == "redis").unwrap();
        assert_eq!(redis.pods.len(), 2);
        redis.rollout
    };
    assert_eq!(rollout(json!({ "type": "OnDelete" })), Rollout::Settled);
    assert_eq!(rollout(json!({ "type": "RollingUpdate" })), Rollout::InProgress);
    let held = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } });
    assert_eq!(rollout(held), Rollout::InProgress, "two revisions side by side");
}

#[test]
fn counts_of_what_another_controller_made_are_its_own() {
    let owned = |controller: bool| {
        let mut object = World::deployment_object(7, 7, "v2");
        object["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "serving.knative.dev/v1", "kind": "Revision", "name": "cart-1",
            "uid": "u9", "controller": controller
        }]);
        object
    };
    let mut world = World::new();
    world.apply::<Deployments>(owned(false));
    assert_eq!(world.cart().autoscaler, None, "an owner that only cleans up");
    world.apply::<Deployments>(owned(true));
    let autoscaler = world.cart().autoscaler.unwrap();
    assert_eq!((autoscaler.kind, autoscaler.min), (AutoscalerKind::Controller, 0));

    world.apply::<StatefulSets>(json!({
        "metadata": { "namespace": "shop", "name": "redis", "ownerReferences": [{
            "apiVersion": "redis.example.com/v1", "kind": "Redis", "name": "redis", "uid": "u8",
            "controller": true }] },
        "spec": { "selector": {}, "serviceName": "redis", "template": {} }
    }));
    let facts = world.facts();
    let redis = facts.workloads.iter().find(|w| w.id.name() == "redis").unwrap();
    assert_eq!(redis.autoscaler.unwrap().kind, AutoscalerKind::Controller);

    world.apply::<Hpas>(json!({
        "metadata": { "namespace": "shop", "name": "cart" },
        "spec": { "maxReplicas": 3, "scaleTargetRef":
            { "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart" } }
    }));
    assert_eq!(world.cart().autoscaler.unwrap().kind, AutoscalerKind::Hpa, "it says more");
}

#[test]
fn keda_wins_over_the_hpa_that_it_makes() {
    let target = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart" });
    let mut world = World::new();
    world.apply::<Hpas>(json!({
        "metadata": { "namespace": "shop", "name": "keda-hpa-cart" },
        "spec": { "scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 100 }
    }));
    assert_eq!(world.cart().autoscaler.unwrap().kind, AutoscalerKind::Hpa);
    world.apply::<ScaledObjects>(json!({
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
        "metadata": { "namespace": "shop", "name": "a" },
        "spec": { "scaleTargetRef": { "name": "cart" }, "maxReplicaCount": 9 }
    }));
    let autoscaler = world.cart().autoscaler.unwrap();
    assert_eq!((autoscaler.kind, autoscaler.max), (AutoscalerKind::Keda, 9));
}

#[test]
fn the_strictest_budget_that_matches_holds() {
    let mut world = World::new();
    let budget = |name: &str, spec: Value| json!({ "metadata": { "namespace": "shop", "name": name }, "spec": spec });
    assert_eq!(world.cart().budget, None);
    let other = json!({ "minAvailable": 2, "selector": { "matchLabels": { "app": "other" } } });
    world.apply::<Budgets>(budget("other", other));
    assert_eq!(world.cart().budget, None);
    let by_expression = json!({ "maxUnavailable": "50%", "selector": { "matchExpressions": [
        { "key": "tier", "operator": "In", "values": ["backend", "frontend"] }
    ]}});
    world.apply::<Budgets>(budget("tier", by_expression));
    assert_eq!(world.cart().budget.unwrap().min_ready, 1);
    world.apply::<Budgets>(budget("all", json!({ "minAvailable": "51%", "selector": {} })));
    assert_eq!(world.cart().budget.unwrap().min_ready, 2, "an empty selector matches all");
}

#[test]
fn hosts_know_their_workloads_and_rules() {
    let mut world = World::new();
    world.service(json!({ "selector": { "app": "cart" }, "clusterIP": "10.0.0.1" }));
    let host = world.host();
    assert_eq!(host.name.as_str(), "cart.shop.svc.cluster.local");
    assert_eq!(host.backends.len(), 1);
    assert_eq!((host.rule, host.default_split), (Rule::None, DefaultSplit::ByReplicas));

    world.rule(
        "cart",
        json!({ "host": "cart", "trafficPolicy": {
            "outlierDetection": {}, "loadBalancer": { "localityLbSetting": { "enabled": true } }
        }}),
    );
    let host = world.host();
    assert_eq!((host.rule, host.default_split), (Rule::None, DefaultSplit::OwnZoneFirst));

    world.rule("again", json!({ "host": "cart.shop.svc.cluster.local" }));
    assert_eq!(world.host().rule, Rule::Foreign(ForeignRule::SeveralRules));
}

#[test]
fn wildcards_partial_rules_and_headless_services_are_not_ours_to_write() {
    let foreign = |spec: Value, address: &str| {
        let mut world = World::new();
        world.service(json!({ "selector": { "app": "cart" }, "clusterIP": address }));
        world.rule("rule", spec);
        world.host().rule
    };
    let (wildcard, partial) =
        (Rule::Foreign(ForeignRule::Wildcard), Rule::Foreign(ForeignRule::Partial));
    assert_eq!(foreign(json!({ "host": "*.local" }), "10.0.0.1"), wildcard);
    assert_eq!(foreign(json!({ "host": "cart", "workloadSelector": {} }), "10.0.0.1"), partial);
    let private = json!({ "host": "cart", "exportTo": ["."] });
    assert_eq!(foreign(private, "10.0.0.1"), partial);
    assert_eq!(foreign(json!({ "host": "cart", "exportTo": ["*"] }), "10.0.0.1"), Rule::None);
    let headless = Rule::Foreign(ForeignRule::NotAService);
    assert_eq!(foreign(json!({ "host": "other" }), "None"), headless);
    assert_eq!(foreign(json!({ "host": "other" }), "10.0.0.1"), Rule::None);
}

#[test]
fn what_we_wrote_beside_others_is_left_over() {
    let ours = |name: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": { "namespace": "shop", "name": name, "managedFields": [{
                "manager": "stornx", "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:host": {} } }
            }]},
            "spec": { "host": "cart" }
        })
    };
    let mut world = World::new();
    world.service(json!({ "selector": { "app": "cart" }, "clusterIP": "10.0.0.1" }));
    world.apply::<DestinationRules>(ours("stornx-cart"));
    let host = world.host();
    assert_eq!((host.rule, host.leftover, host.adoptable), (Rule::None, false, false));
    world.rule("theirs", json!({ "host": "cart" }));
    let host = world.host();
    assert_eq!(host.rule, Rule::Foreign(ForeignRule::SeveralRules));
    assert!(host.leftover && host.adoptable);
}

#[test]
fn what_we_wrote_is_seen_when_nothing_stands_behind_it_any_more() {
    let weights = |name: &str, manager: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": { "namespace": "shop", "name": name, "managedFields": [{
                "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:trafficPolicy": { "f:loadBalancer": {
                    "f:localityLbSetting": { "f:distribute": {} }
                }}}}
            }]},
            "spec": { "host": "cart", "trafficPolicy": { "loadBalancer": { "localityLbSetting": {
                "distribute": [{ "from": "r/a/*", "to": { "r/a/*": 60, "r/b/*": 40 } }]
            }}}}
        })
    };
    let plain = json!({ "selector": { "app": "cart" }, "clusterIP": "10.0.0.1" });
    let mut world = World::new();
    world.service(plain.clone()).apply::<DestinationRules>(weights("cart", "stornx"));
    assert!(matches!(world.host().rule, Rule::Ours(_)));
    assert!(!world.host().leftover && world.host().backends.len() == 1);

    // Its Deployment makes way for something that is none.
    let deployments = Deployments::table;
    world.0.write(|tables| deployments(tables).clear());
    let host = world.host();
    assert!(matches!(host.rule, Rule::Ours(_)) && host.backends.is_empty());

    let without = json!({ "clusterIP": "10.0.0.1" });
    let external = json!({ "type": "ExternalName", "externalName": "cart.example.com" });
    for spec in [without, external] {
        world.service(spec);
        let hosts = world.facts().hosts;
        assert_eq!(hosts.len(), 1);
        assert_eq!(hosts[0].name.as_str(), "cart.shop.svc.cluster.local");
        assert_eq!(hosts[0].rule, Rule::Foreign(ForeignRule::NotAService));
        assert!(hosts[0].leftover && hosts[0].backends.is_empty());
    }
    world.apply::<DestinationRules>(weights("cart", "kubectl"));
    assert_eq!(world.facts().hosts, [], "nothing of ours is left");
    world.apply::<DestinationRules>(weights("cart", "stornx")).service(plain);
    assert!(!world.host().leftover, "it has its selector back");
}

#[test]
fn a_rule_elsewhere_and_a_wildcard_beside_ours_are_not_ours() {
    let mut world = World::new();
    world.service(json!({ "selector": { "app": "cart" }, "clusterIP": "10.0.0.1" }));
    world.apply::<DestinationRules>(json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": { "namespace": "istio-system", "name": "cart" },
        "spec": { "host": "cart.shop.svc.cluster.local" }
    }));
    assert_eq!(world.host().rule, Rule::Foreign(ForeignRule::Elsewhere));
}
