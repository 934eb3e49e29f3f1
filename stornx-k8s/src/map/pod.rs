//! Pods.
//!
//! A pod that has ended (`Succeeded`, `Failed`) holds nothing and is kept nowhere.
//! `Unready` differs from `Starting` by having been Ready before: we saw it so, or the
//! kubelet turned its Ready condition to False after its init containers were done
//! (it writes the condition as False when it first sees the pod, and next touches it
//! when it becomes True).
//!
//! The first time that a pod was Ready is what we saw, or, for a pod that was Ready
//! when we first saw it, the time of its condition, unless a container has restarted:
//! then it is not known.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod as Object, PodCondition, PodStatus};
use stornx_core::{
    model::{PodPhase, Traces},
    units::{Resources, Timestamp},
};

use super::{
    controller, instant, is_apps,
    locality::{self, Said},
    names::Names,
    requests,
    selector::TextLabels,
    traces,
};

/// The label by which a StatefulSet says which revision a pod is of.
const REVISION: &str = "controller-revision-hash";

/// The annotation that Istio's CNI leaves on a pod whose traffic goes through ztunnel.
const REDIRECTION: &str = "ambient.istio.io/redirection";
/// The container that is a proxy: of a sidecar, a gateway or a waypoint.
const PROXY: &str = "istio-proxy";

/// Who controls a pod; keys are `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A ReplicaSet, in most cases of a Deployment.
    ReplicaSet(Arc<str>),
    /// A StatefulSet.
    StatefulSet {
        /// Which.
        key: Arc<str>,
        /// The revision that the pod is of.
        revision: Option<Arc<str>>,
    },
    /// Nobody, or a controller of another kind.
    Other,
}

/// What is kept of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PodRecord {
    /// Who controls it.
    pub(crate) owner: Owner,
    /// The node that it is bound to.
    pub(crate) node: Option<Arc<str>>,
    /// Where it is in its life.
    pub(crate) phase: PodPhase,
    /// When it was created.
    pub(crate) created_at: Timestamp,
    /// Since when it has been Ready without a break.
    pub(crate) ready_since: Option<Timestamp>,
    /// When it was Ready for the first time.
    pub(crate) first_ready: Option<Timestamp>,
    /// What StornX has left on it.
    pub(crate) traces: Option<Box<Traces>>,
    /// Its traffic goes through ztunnel.
    pub(crate) ambient: bool,
    /// It has a proxy of its own.
    pub(crate) proxied: bool,
    /// What it asks for.
    pub(crate) requests: Resources,
    /// Where a label says that it is.
    pub(crate) said: Option<Box<Said>>,
    /// Its labels, where routes are asked for between nodes.
    pub(crate) labels: Option<Arc<TextLabels>>,
    /// What it may use; zero for a resource without a limit.
    pub(crate) limits: Option<Resources>,
}

/// A pod, or `None` when it counts nothing.
pub(crate) fn record(pod: &Object, names: &mut Names) -> Option<PodRecord> {
    let status = pod.status.as_ref();
    if matches!(status.and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
        return None;
    }
    let spec = pod.spec.as_ref()?;
    let bound = spec.node_name.as_deref().filter(|name| !name.is_empty());
    let ready = status.and_then(|status| condition(status, "Ready"));
    let is_ready = ready.is_some_and(|condition| condition.status == "True");
    let phase = if pod.metadata.deletion_timestamp.is_some() {
        PodPhase::Terminating
    } else if bound.is_none() {
        PodPhase::Pending
    } else if is_ready {
        PodPhase::Ready
    } else if status.is_some_and(went_unready) {
        PodPhase::Unready
    } else {
        PodPhase::Starting
    };
    let ready_since = ready
        .filter(|_| phase == PodPhase::Ready)
        .and_then(|condition| condition.last_transition_time.as_ref())
        .map(instant);
    Some(PodRecord {
        owner: owner(pod, names),
        node: bound.map(|name| names.share(name)),
        phase,
        created_at: pod.metadata.creation_timestamp.as_ref().map(instant).unwrap_or_default(),
        ready_since,
        first_ready: ready_since.filter(|_| !status.is_some_and(restarted)),
        traces: traces::traces(pod.metadata.annotations.as_ref()),
        ambient: pod
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|all| all.get(REDIRECTION).is_some_and(|value| value == "enabled")),
        proxied: spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .any(|container| container.name == PROXY),
        requests: requests::requests(spec),
        said: locality::said(pod.metadata.labels.as_ref()),
        labels: names.share_labels(pod.metadata.labels.as_ref()),
        limits: requests::limits(spec),
    })
}

/// Carries over what was seen of the pod before.
pub(crate) fn remember(before: &PodRecord, now: &mut PodRecord) {
    if before.created_at != now.created_at {
        // Another pod of the same name: one of a StatefulSet that was replaced.
        return;
    }
    let was_ready = matches!(before.phase, PodPhase::Ready | PodPhase::Unready);
    if was_ready && now.phase == PodPhase::Starting {
        now.phase = PodPhase::Unready;
    }
    if was_ready || before.first_ready.is_some() {
        now.first_ready = before.first_ready;
    }
}

fn owner(pod: &Object, names: &mut Names) -> Owner {
    let Some(owner) = controller(&pod.metadata) else { return Owner::Other };
    let Some(namespace) = pod.metadata.namespace.as_deref() else { return Owner::Other };
    let mut key = || names.share(&format!("{namespace}/{}", owner.name));
    if is_apps(owner, "ReplicaSet") {
        Owner::ReplicaSet(key())
    } else if is_apps(owner, "StatefulSet") {
        let key = key();
        let revision = pod.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION));
        Owner::StatefulSet { key, revision: revision.map(|revision| names.share(revision)) }
    } else {
        Owner::Other
    }
}

fn condition<'a>(status: &'a PodStatus, name: &str) -> Option<&'a PodCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == name)
}

/// The Ready condition turned after the init containers were done, so it was True in
/// between.
fn went_unready(status: &PodStatus) -> bool {
    let turned = |name, wanted| {
        let condition = condition(status, name).filter(|c| c.status == wanted)?;
        condition.last_transition_time.as_ref().map(instant)
    };
    match (turned("Ready", "False"), turned("Initialized", "True")) {
        (Some(unready), Some(initialized)) => unready > initialized,
        _ => false,
    }
}

fn restarted(status: &PodStatus) -> bool {
    status.container_statuses.iter().flatten().any(|container| container.restart_count > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": "cart-7d9f-x2x4k",
                "creationTimestamp": "2026-11-25T12:00:00Z",
                "labels": { "app": "cart", "pod-template-hash": "7d9f" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7d9f",
                    "uid": "u", "controller": true
                }]
            },
            "spec": { "nodeName": "node-1", "containers": [
                { "name": "server", "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } } }
            ]},
            "status": status
        })
    }

    fn conditions(ready: &str, at: &str) -> Value {
        json!({ "phase": "Running", "conditions": [
            { "type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-25T12:00:02Z" },
            { "type": "Ready", "status": ready, "lastTransitionTime": at }
        ]})
    }

    fn read(value: Value) -> Option<PodRecord> {
        record(&serde_json::from_value(value).unwrap(), &mut Names::default())
    }

    fn at(time: &str) -> Timestamp {
        instant(&serde_json::from_value(json!(time)).unwrap())
    }

    #[test]
    fn a_running_pod_is_read_whole() {
        let pod = read(pod(conditions("True", "2026-11-25T12:00:09Z"))).unwrap();
        assert_eq!(pod.owner, Owner::ReplicaSet("shop/cart-7d9f".into()));
        assert_eq!(pod.node.as_deref(), Some("node-1"));
        assert_eq!(pod.phase, PodPhase::Ready);
        assert_eq!(pod.ready_since, Some(at("2026-11-25T12:00:09Z")));
        assert_eq!(pod.first_ready, pod.ready_since);
        assert_eq!(pod.created_at, at("2026-11-25T12:00:00Z"));
        assert_eq!(pod.requests.cpu.get(), 100);
        assert_eq!(pod.limits, None);
    }

    #[test]
    fn phases_tell_first_starts_from_breaks() {
        let phase = |value| read(value).unwrap().phase;
        assert_eq!(phase(pod(conditions("False", "2026-11-25T12:00:01Z"))), PodPhase::Starting);
        assert_eq!(phase(pod(conditions("False", "2026-11-25T12:30:00Z"))), PodPhase::Unready);
        let mut pending = pod(json!({ "phase": "Pending" }));
        assert_eq!(phase(pending.clone()), PodPhase::Starting, "bound, pulling its image");
        pending["spec"]["nodeName"] = Value::Null;
        assert_eq!(phase(pending), PodPhase::Pending);
        let mut going = pod(conditions("True", "2026-11-25T12:00:09Z"));
        going["metadata"]["deletionTimestamp"] = json!("2026-11-25T13:00:00Z");
        let going = read(going).unwrap();
        assert_eq!((going.phase, going.ready_since), (PodPhase::Terminating, None));
    }

    #[test]
    fn pods_tell_whether_a_proxy_is_theirs_or_the_nodes() {
        let mut value = pod(conditions("True", "2026-11-25T12:00:09Z"));
        let of = |value: &Value| read(value.clone()).map(|pod| (pod.ambient, pod.proxied)).unwrap();
        assert_eq!(of(&value), (false, false));
        value["metadata"]["annotations"] = json!({ REDIRECTION: "enabled" });
        assert_eq!(of(&value), (true, false));
        value["metadata"]["annotations"] = json!({ REDIRECTION: "disabled" });
        value["spec"]["initContainers"] = json!([{ "name": PROXY, "restartPolicy": "Always" }]);
        assert_eq!(of(&value), (false, true), "a sidecar of the new kind");
        value["spec"]["initContainers"] = Value::Null;
        value["spec"]["containers"][0]["name"] = json!(PROXY);
        assert_eq!(of(&value), (false, true), "a gateway");
    }

    #[test]
    fn ended_pods_are_nothing() {
        for phase in ["Succeeded", "Failed"] {
            assert_eq!(read(pod(json!({ "phase": phase }))), None);
        }
    }

    #[test]
    fn what_was_seen_before_is_not_forgotten() {
        let before = read(pod(conditions("True", "2026-11-25T12:00:09Z"))).unwrap();
        let mut now = read(pod(conditions("False", "2026-11-25T12:00:01Z"))).unwrap();
        remember(&before, &mut now);
        assert_eq!((now.phase, now.first_ready), (PodPhase::Unready, before.first_ready));
        let mut again = read(pod(conditions("True", "2026-11-25T12:40:00Z"))).unwrap();
        remember(&now, &mut again);
        assert_eq!(again.first_ready, before.first_ready, "the first time stays the first");
        assert_eq!(again.ready_since, Some(at("2026-11-25T12:40:00Z")));

        let mut renewed = pod(conditions("False", "2026-11-25T12:00:01Z"));
        renewed["metadata"]["creationTimestamp"] = json!("2026-11-25T12:50:00Z");
        let mut renewed = read(renewed).unwrap();
        remember(&before, &mut renewed);
        assert_eq!(renewed.phase, PodPhase::Starting, "another pod of the same name");
    }

    #[test]
    fn a_restarted_pod_does_not_say_when_it_was_first_ready() {
        let mut value = pod(conditions("True", "2026-11-25T12:40:00Z"));
        value["status"]["containerStatuses"] = json!([{
            "name": "server", "restartCount": 2, "ready": true, "image": "", "imageID": ""
        }]);
        let pod = read(value).unwrap();
        assert_eq!((pod.first_ready, pod.ready_since.is_some()), (None, true));
    }

    #[test]
    fn stateful_pods_say_their_revision() {
        let mut value = pod(conditions("True", "2026-11-25T12:00:09Z"));
        value["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
        value["metadata"]["ownerReferences"][0]["name"] = json!("redis");
        value["metadata"]["labels"]["controller-revision-hash"] = json!("redis-5c");
        let expected =
            Owner::StatefulSet { key: "shop/redis".into(), revision: Some("redis-5c".into()) };
        assert_eq!(read(value.clone()).unwrap().owner, expected);
        value["metadata"]["ownerReferences"][0]["kind"] = json!("DaemonSet");
        assert_eq!(read(value).unwrap().owner, Owner::Other);
    }
}
