//! One request of the API server: whose pod it is, and what it is told.
//!
//! Steered are pods of Deployments of managed namespaces, found by their ReplicaSet and
//! the label `pod-template-hash`: the Deployment names its ReplicaSets by itself and that
//! hash. Left alone are: pods that name their node, pods of StatefulSets (their volumes
//! tie them) and of anything else, workloads that opted out, and workloads whose replicas
//! are bound to their place.
//!
//! Whatever is wrong with a request, the answer allows the pod. A request that cannot be
//! read gets the same answer with whatever identifier was found in it.

use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde::Deserialize;
use serde_json::{Value, json};
use stornx_core::{
    ids::{Namespace, WorkloadKind, WorkloadRef},
    steer::{Newcomer, Revision, Steer},
    units::Timestamp,
};

use super::{desk::Desk, patch};
use crate::map::{controller, is_apps};

/// What came of a request, for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookResult {
    /// The pod runs on the node that it was asked for on, or not at all.
    Required,
    /// The pod was given a preference.
    Preferred,
    /// Nothing stands for the workload.
    Nothing,
    /// The pod is none that is steered.
    NotOurs,
    /// This process does not lead.
    NotLeading,
    /// The request could not be read, or the pod not be patched.
    Problem,
}

impl WebhookResult {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Required,
        Self::Preferred,
        Self::Nothing,
        Self::NotOurs,
        Self::NotLeading,
        Self::Problem,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Preferred => "preferred",
            Self::Nothing => "nothing",
            Self::NotOurs => "not-ours",
            Self::NotLeading => "not-leading",
            Self::Problem => "problem",
        }
    }
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// An AdmissionReview.
    pub(crate) body: Value,
    pub(crate) result: WebhookResult,
    /// What was wrong.
    pub(crate) problem: Option<String>,
}

/// What is read of a request.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    namespace: String,
    operation: String,
    #[serde(default)]
    sub_resource: Option<String>,
    resource: Resource,
    #[serde(default)]
    dry_run: bool,
    object: Object,
}

#[derive(Debug, Deserialize)]
struct Resource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Value,
}

/// Answers a request; `leads` says whether this process may.
pub(crate) fn answer(body: &[u8], desk: &Desk, leads: bool, now: Timestamp) -> Answer {
    let review: Value = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return allowed("", WebhookResult::Problem, Some(error.to_string())),
    };
    let uid = review["request"]["uid"].as_str().unwrap_or_default().to_owned();
    let request: Request = match serde_json::from_value(review["request"].clone()) {
        Ok(request) => request,
        Err(error) => return allowed(&uid, WebhookResult::Problem, Some(error.to_string())),
    };
    let Some(newcomer) = newcomer(&request) else {
        return allowed(&uid, WebhookResult::NotOurs, None);
    };
    if !leads {
        return allowed(&uid, WebhookResult::NotLeading, None);
    }
    let steer = match desk.claim(&newcomer, now) {
        Ok(Some(steer)) => steer,
        Ok(None) => return allowed(&uid, WebhookResult::Nothing, None),
        Err(result) => return allowed(&uid, result, None),
    };
    let Some(operations) = patch::patch(&request.object.metadata, &request.object.spec, &steer)
    else {
        let why = format!("the affinity of a pod of {} cannot be narrowed", newcomer.workload);
        return allowed(&uid, WebhookResult::Problem, Some(why));
    };
    let result = match steer {
        Steer::Required(_) => WebhookResult::Required,
        Steer::Preferred(_) => WebhookResult::Preferred,
    };
    let mut answer = allowed(&uid, result, None);
    let patch = ByteString(Value::Array(operations).to_string().into_bytes());
    answer.body["response"]["patchType"] = json!("JSONPatch");
    answer.body["response"]["patch"] = json!(patch);
    answer
}

/// That the pod is allowed.
pub(crate) fn allowed(uid: &str, result: WebhookResult, problem: Option<String>) -> Answer {
    let body = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": { "uid": uid, "allowed": true }
    });
    Answer { body, result, problem }
}

/// Whose pod is being created; `None` for one that is not steered, whatever stands.
fn newcomer(request: &Request) -> Option<Newcomer> {
    let created = request.operation == "CREATE"
        && request.resource.group.is_empty()
        && request.resource.resource == "pods"
        && request.sub_resource.as_deref().unwrap_or_default().is_empty();
    let bound = request.object.spec["nodeName"].as_str().is_some_and(|name| !name.is_empty());
    if !created || bound {
        return None;
    }
    let meta = &request.object.metadata;
    let set = controller(meta).filter(|owner| is_apps(owner, "ReplicaSet"))?;
    let hash = meta.labels.as_ref()?.get("pod-template-hash")?;
    let deployment = set.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
    let namespace = Namespace::new(&request.namespace).ok()?;
    let workload = WorkloadRef::new(&namespace, WorkloadKind::Deployment, deployment).ok()?;
    Some(Newcomer { workload, revision: Some(Revision::new(hash)), dry_run: request.dry_run })
}
