//! The simulated nodes: plain objects that kwok takes for its own, created with the
//! capacity and the topology labels that a cloud would give them.

use std::time::Duration;

use futures::{TryStreamExt, stream};
use k8s_openapi::{
    api::core::v1::{Node, Pod},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{NodeSpec, stages::FAILED};
use crate::{
    error::{BedError, Result, Tried},
    wait::until,
};

/// Requests at one time.
const SIDE_BY_SIDE: usize = 16;

/// Time until all nodes are ready: 40 a second were seen on two cores, plus the start
/// of the controllers.
fn limit(count: usize) -> Duration {
    Duration::from_secs(30) + Duration::from_millis(100) * u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) async fn create(client: &Client, nodes: &[NodeSpec]) -> Result<()> {
    let nodes = nodes.iter().map(node).collect::<Result<Vec<Node>>>()?;
    stream::iter(nodes.into_iter().map(Ok))
        .try_for_each_concurrent(SIDE_BY_SIDE, |node| {
            let api: Api<Node> = Api::all(client.clone());
            async move {
                let created = api.create(&PostParams::default(), &node).await;
                created.map(drop).tried(|| format!("create node {}", node.name_any()))
            }
        })
        .await
}

fn node(spec: &NodeSpec) -> Result<Node> {
    let mut labels = json!({
        "kubernetes.io/hostname": spec.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "topology.kubernetes.io/region": spec.region,
        "topology.kubernetes.io/zone": spec.zone,
    });
    for (key, value) in &spec.labels {
        labels[key] = json!(value);
    }
    let capacity = json!({
        "cpu": spec.cpu.to_string(),
        "memory": spec.memory.to_string(),
        "pods": spec.pods.to_string(),
    });
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": spec.name,
            "labels": labels,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {
            "capacity": capacity,
            "allocatable": capacity,
            "nodeInfo": {
                "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "kwok",
                "kernelVersion": "kwok", "kubeProxyVersion": "", "kubeletVersion": "kwok",
                "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
            },
        },
    }))
    .map_err(|error| BedError::Invalid {
        what: format!("node {}", spec.name),
        detail: error.to_string(),
    })
}

/// Waits until all nodes are ready and may take pods.
pub(super) async fn wait_ready(client: &Client, count: usize) -> Result<()> {
    let api: Api<Node> = Api::all(client.clone());
    until("all nodes ready", limit(count), || async {
        // From the watch cache: what is a moment old is good enough to wait on.
        let all = ListParams::default().match_any();
        let found = api.list(&all).await.map_err(|error| error.to_string())?;
        let ready = found.items.iter().filter(|node| takes_pods(node)).count();
        if ready >= count { Ok(()) } else { Err(format!("{ready} of {count}")) }
    })
    .await
}

fn takes_pods(node: &Node) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let tainted = node.spec.as_ref().is_some_and(|spec| spec.taints.is_some());
    !tainted && conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Does at once what the node controller does with a node that has been silent for its
/// grace period: the node's readiness is unknown and its pods are not ready. Or takes
/// that back, as the kubelet of a node that returns does.
pub(super) async fn fail(client: &Client, name: &str, failed: bool) -> Result<()> {
    let failing = || format!("node {name}, failed: {failed}");
    let nodes: Api<Node> = Api::all(client.clone());
    let patch = json!({"metadata": {"annotations": {FAILED: failed.to_string()}}});
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.tried(failing)?;

    let on_node = ListParams::default().fields(&format!("spec.nodeName={name}"));
    let pods = Api::<Pod>::all(client.clone()).list(&on_node).await.tried(failing)?;
    for pod in pods.items.iter().filter(|pod| condition(pod, "ContainersReady")) {
        let ready = if failed { "False" } else { "True" };
        let patch = json!({"status": {"conditions": [{
            "type": "Ready", "status": ready, "lastTransitionTime": Time(Timestamp::now()),
        }]}});
        let namespace = pod.namespace().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .tried(failing)?;
    }
    Ok(())
}

fn condition(pod: &Pod, kind: &str) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|one| one.type_ == kind && one.status == "True")
}
