//! A small shop to put into the server.

#![allow(dead_code)] // Each test binary uses its own part.

use serde_json::{Value, json};

use crate::support::Api;

pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const PODS: &str = "/api/v1/pods";
pub(crate) const SERVICES: &str = "/api/v1/services";
pub(crate) const CONFIG_MAPS: &str = "/api/v1/configmaps";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/deployments";
pub(crate) const STATEFUL_SETS: &str = "/apis/apps/v1/statefulsets";
pub(crate) const REPLICA_SETS: &str = "/apis/apps/v1/replicasets";
pub(crate) const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";
pub(crate) const EVENTS: &str = "/apis/events.k8s.io/v1/events";
pub(crate) const LEASES: &str = "/apis/coordination.k8s.io/v1/leases";
pub(crate) const RULES: &str = "/apis/networking.istio.io/v1/destinationrules";
pub(crate) const MACHINES: &str = "/apis/networking.istio.io/v1/workloadentries";

pub(crate) const WEBHOOKS: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

pub(crate) fn node(name: &str, zone: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "eu"
        }},
        "spec": {},
        "status": {
            "allocatable": { "cpu": "4", "memory": "16Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": "True" }]
        }
    })
}

pub(crate) fn deployment(name: &str, replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "namespace": "shop", "name": name, "generation": 1,
            "annotations": { "deployment.kubernetes.io/revision": "1" } },
        "spec": {
            "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "server", "image": "v1",
                    "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } } }] }
            }
        },
        "status": { "observedGeneration": 1, "readyReplicas": replicas }
    })
}

pub(crate) fn replica_set(deployment: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "namespace": "shop", "name": format!("{deployment}-7d9f"),
            "labels": { "pod-template-hash": "7d9f" },
            "annotations": { "deployment.kubernetes.io/revision": "1" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment",
                "name": deployment, "uid": "u", "controller": true }]
        }
    })
}

/// A Ready replica, with as much around what is read as a real one has.
pub(crate) fn pod(deployment: &str, name: &str, node: &str) -> Value {
    let condition = |kind: &str, second: u32| {
        json!({ "type": kind, "status": "True", "lastProbeTime": null,
            "lastTransitionTime": format!("2026-11-25T12:00:{second:02}Z") })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": "shop", "name": name, "generateName": format!("{deployment}-7d9f-"),
            "creationTimestamp": "2026-11-25T12:00:00Z",
            "labels": { "app": deployment, "pod-template-hash": "7d9f",
                "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": deployment },
            "annotations": { "istio.io/rev": "default", "prometheus.io/scrape": "true" },
            "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "name": format!("{deployment}-7d9f"), "uid": "u", "controller": true,
                "blockOwnerDeletion": true }]
        },
        "spec": {
            "nodeName": node, "serviceAccountName": "default",
            "containers": [{ "name": "server", "image": "registry.example.com/shop/server:v1",
                "env": [{ "name": "PORT", "value": "8080" }],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" },
                    "limits": { "cpu": "200m", "memory": "128Mi" } } }],
            "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists",
                "effect": "NoExecute", "tolerationSeconds": 300 }],
            "volumes": [{ "name": "token", "emptyDir": {} }]
        },
        "status": {
            "phase": "Running", "podIP": "10.0.0.1", "hostIP": "10.1.0.1",
            "conditions": [condition("Initialized", 1), condition("PodScheduled", 0),
                condition("ContainersReady", 7), condition("Ready", 7)]
        }
    })
}

/// A rule over `cart` whose weights `manager` applied, and whose host is somebody else's.
pub(crate) fn weights(namespace: &str, name: &str, manager: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": { "namespace": namespace, "name": name, "managedFields": [
            { "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:trafficPolicy": { "f:loadBalancer": {
                    "f:localityLbSetting": { "f:distribute": {} } } } } } },
            { "manager": "helm", "operation": "Update", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:host": {} } } }
        ]},
        "spec": { "host": "cart", "trafficPolicy": { "loadBalancer": { "localityLbSetting": {
            "distribute": [
                { "from": "eu/a/*", "to": { "eu/a/*": 60, "eu/b/*": 40 } },
                { "from": "eu/b/*", "to": { "eu/a/*": 40, "eu/b/*": 60 } }
            ]
        }}}}
    })
}

/// Two zones, `cart` with two replicas, one in each, and its Service.
pub(crate) fn shop(api: &Api) {
    api.put(NODES, node("n1", "a"));
    api.put(NODES, node("n2", "b"));
    api.put(DEPLOYMENTS, deployment("cart", 2));
    api.put(REPLICA_SETS, replica_set("cart"));
    api.put(PODS, pod("cart", "cart-7d9f-a", "n1"));
    api.put(PODS, pod("cart", "cart-7d9f-b", "n2"));
    api.put(
        SERVICES,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": "shop", "name": "cart" },
            "spec": { "selector": { "app": "cart" }, "clusterIP": "10.96.0.7" }
        }),
    );
}
