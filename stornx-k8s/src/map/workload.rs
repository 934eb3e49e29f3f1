//! Deployments, StatefulSets, and the ReplicaSets between Deployments and pods.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::apps::v1::{Deployment, ReplicaSet, StatefulSet},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::PartialObjectMeta;
use stornx_core::{
    ids::{Namespace, WorkloadKind, WorkloadRef},
    model::{CountBy, WorkloadPolicy},
    units::Span,
};

use super::{
    controller, count, is_apps, policy,
    template::{Template, template},
};

/// The annotation that numbers the ReplicaSets of a Deployment; the Deployment itself
/// carries the number of its current one.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Which revision of the template the controller is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Revision {
    /// The number of the current ReplicaSet.
    Deployment(Option<u64>),
    /// Names of revisions.
    StatefulSet {
        /// What pods are to be of.
        update: Option<Arc<str>>,
        /// The controller itself is replacing pods.
        updating: bool,
        /// `OnDelete`: pods of any revision stay until somebody deletes them.
        on_delete: bool,
    },
}

/// What is kept of a workload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WorkloadRecord {
    /// Identity, for events.
    pub(crate) uid: Box<str>,
    /// `spec.replicas`.
    pub(crate) desired: u32,
    /// Who set it last.
    pub(crate) counted_by: CountBy,
    /// `status.readyReplicas`.
    pub(crate) ready_counted: u32,
    /// `spec.minReadySeconds`.
    pub(crate) min_ready: Span,
    /// What its replicas have in common.
    pub(crate) template: Template,
    /// `spec.paused`.
    pub(crate) paused: bool,
    /// Which revision it is at.
    pub(crate) revision: Revision,
    /// The controller has seen this version of the object.
    pub(crate) observed: bool,
    /// The template that the controller had last seen when it had seen everything. A
    /// change of the count alone leaves it equal to the current one.
    pub(crate) settled: Option<u64>,
    /// Another controller made it and owns it, its count too.
    pub(crate) controlled: bool,
    /// What its owner asks.
    pub(crate) policy: WorkloadPolicy,
    /// What is wrong with what its owner asks; it is opted out then.
    pub(crate) mistake: Option<Box<str>>,
}

impl WorkloadRecord {
    /// The controller has not seen the current template yet.
    pub(crate) fn template_is_new(&self) -> bool {
        self.settled != Some(self.template.fingerprint)
    }
}

/// Carries over what was seen of the workload before.
pub(crate) fn remember(before: &WorkloadRecord, now: &mut WorkloadRecord) {
    if now.settled.is_none() && before.uid == now.uid {
        now.settled = before.settled;
    }
}

/// The reference of a workload of a kind.
pub(crate) fn reference(meta: &ObjectMeta, kind: WorkloadKind) -> Option<WorkloadRef> {
    let namespace = Namespace::new(meta.namespace.as_deref()?).ok()?;
    WorkloadRef::new(&namespace, kind, meta.name.as_deref()?).ok()
}

fn wanted(replicas: Option<i32>) -> u32 {
    u32::try_from(replicas.unwrap_or(1)).unwrap_or(0)
}

fn seconds(seconds: Option<i32>) -> Span {
    Span::from_seconds(u64::try_from(seconds.unwrap_or(0)).unwrap_or(0))
}

fn is_observed(meta: &ObjectMeta, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) >= meta.generation.unwrap_or(0)
}

/// What its owner asks, by annotations and by a template that can be read.
fn wishes(
    annotations: &BTreeMap<String, String>,
    template: &Template,
) -> (WorkloadPolicy, Option<Box<str>>) {
    let (mut policy, mistake) = policy::policy(annotations);
    policy.opted_out |= template.unreadable.is_some();
    (policy, mistake.map(Into::into).or_else(|| template.unreadable.clone()))
}

/// A Deployment.
pub(crate) fn deployment(object: &Deployment) -> Option<WorkloadRecord> {
    let (meta, spec) = (&object.metadata, object.spec.as_ref()?);
    let template = template(&spec.template, meta.namespace.as_deref()?, &[]);
    let annotations = meta.annotations.clone().unwrap_or_default();
    let status = object.status.as_ref();
    let observed = is_observed(meta, status.and_then(|status| status.observed_generation));
    let revision = annotations.get(REVISION).and_then(|text| text.parse().ok());
    let (policy, mistake) = wishes(&annotations, &template);
    Some(WorkloadRecord {
        uid: meta.uid.clone().unwrap_or_default().into(),
        desired: wanted(spec.replicas),
        counted_by: count::counted_by(meta),
        ready_counted: count::ready(status.and_then(|status| status.ready_replicas)),
        min_ready: seconds(spec.min_ready_seconds),
        settled: observed.then_some(template.fingerprint),
        template,
        paused: spec.paused == Some(true),
        revision: Revision::Deployment(revision),
        observed,
        controlled: controller(meta).is_some(),
        policy,
        mistake,
    })
}

/// A StatefulSet.
pub(crate) fn stateful_set(object: &StatefulSet) -> Option<WorkloadRecord> {
    let (meta, spec) = (&object.metadata, object.spec.as_ref()?);
    let claims = spec.volume_claim_templates.as_deref().unwrap_or_default();
    let template = template(&spec.template, meta.namespace.as_deref()?, claims);
    let status = object.status.as_ref();
    let observed = is_observed(meta, status.and_then(|status| status.observed_generation));
    let current = status.and_then(|status| status.current_revision.as_deref());
    let update = status.and_then(|status| status.update_revision.as_deref());
    // With `OnDelete` the controller waits for others and never catches up.
    let strategy = spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    let on_delete = strategy == Some("OnDelete");
    let updating = current != update && !on_delete;
    let (policy, mistake) = wishes(&meta.annotations.clone().unwrap_or_default(), &template);
    Some(WorkloadRecord {
        uid: meta.uid.clone().unwrap_or_default().into(),
        desired: wanted(spec.replicas),
        counted_by: count::counted_by(meta),
        ready_counted: count::ready(status.and_then(|status| status.ready_replicas)),
        min_ready: seconds(spec.min_ready_seconds),
        settled: observed.then_some(template.fingerprint),
        template,
        paused: false,
        revision: Revision::StatefulSet { update: update.map(Into::into), updating, on_delete },
        observed,
        controlled: controller(meta).is_some(),
        policy,
        mistake,
    })
}

/// What is kept of a ReplicaSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReplicaSetRecord {
    /// The Deployment that controls it.
    pub(crate) deployment: Option<WorkloadRef>,
    /// Its number among that Deployment's.
    pub(crate) revision: Option<u64>,
}

/// A ReplicaSet, of which only the metadata are read.
pub(crate) fn replica_set(object: &PartialObjectMeta<ReplicaSet>) -> Option<ReplicaSetRecord> {
    let meta = &object.metadata;
    let owner = controller(meta).filter(|owner| is_apps(owner, "Deployment"));
    let deployment = owner.and_then(|owner| {
        let namespace = Namespace::new(meta.namespace.as_deref()?).ok()?;
        WorkloadRef::new(&namespace, WorkloadKind::Deployment, &owner.name).ok()
    });
    let revision = meta.annotations.as_ref().and_then(|all| all.get(REVISION)?.parse().ok());
    Some(ReplicaSetRecord { deployment, revision })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(generation: i64, observed: i64, image: &str, replicas: i32) -> Value {
        json!({
            "metadata": {
                "namespace": "shop", "name": "cart", "uid": "u1", "generation": generation,
                "annotations": { "deployment.kubernetes.io/revision": "4" }
            },
            "spec": {
                "replicas": replicas, "selector": {},
                "template": {
                    "metadata": { "labels": { "app": "cart" } },
                    "spec": { "containers": [{ "name": "server", "image": image }] }
                }
            },
            "status": { "observedGeneration": observed }
        })
    }

    fn read(value: Value) -> WorkloadRecord {
        deployment(&serde_json::from_value(value).unwrap()).unwrap()
    }

    #[test]
    fn a_scale_up_is_not_a_new_template_and_an_image_is() {
        let settled = read(object(7, 7, "v1", 3));
        assert_eq!((settled.desired, settled.template_is_new()), (3, false));
        assert_eq!(settled.revision, Revision::Deployment(Some(4)));

        let mut scaled = read(object(8, 7, "v1", 5));
        assert!(scaled.template_is_new(), "by itself an unobserved object is not known");
        remember(&settled, &mut scaled);
        assert!(!scaled.template_is_new() && !scaled.observed);

        let mut rolled = read(object(9, 7, "v2", 5));
        remember(&scaled, &mut rolled);
        assert!(rolled.template_is_new());
        let mut seen = read(object(9, 9, "v2", 5));
        remember(&rolled, &mut seen);
        assert!(!seen.template_is_new(), "from then on the pods tell");
    }

    #[test]
    fn a_template_that_asks_for_what_cannot_be_read_is_left_alone() {
        let mut value = object(7, 7, "v1", 3);
        let resources = json!({ "requests": { "cpu": "some" } });
        value["spec"]["template"]["spec"]["containers"][0]["resources"] = resources;
        let record = read(value.clone());
        assert!(record.policy.opted_out);
        let text = record.mistake.unwrap();
        assert_eq!(&*text, "requests.cpu of server, \"some\", is no quantity");
        value["metadata"]["annotations"]["stornx.io/moves"] = json!("of");
        let record = read(value);
        assert!(record.policy.opted_out && record.mistake.unwrap().contains("stornx.io/moves"));
    }

    #[test]
    fn a_deployment_that_took_the_name_of_another_starts_anew() {
        let before = read(object(7, 7, "v1", 3));
        let mut other = object(1, 0, "v1", 3);
        other["metadata"]["uid"] = json!("u2");
        let mut other = read(other);
        remember(&before, &mut other);
        assert!(other.template_is_new());
    }

    #[test]
    fn stateful_sets_say_when_they_update() {
        let read = |current: &str, strategy: &str| {
            let value = json!({
                "metadata": { "namespace": "shop", "name": "redis", "generation": 1 },
                "spec": {
                    "selector": {}, "serviceName": "redis", "template": {},
                    "updateStrategy": { "type": strategy }
                },
                "status": {
                    "replicas": 1, "observedGeneration": 1,
                    "currentRevision": current, "updateRevision": "redis-2"
                }
            });
            stateful_set(&serde_json::from_value(value).unwrap()).unwrap().revision
        };
        let of = |updating, on_delete| {
            let update = Some("redis-2".into());
            Revision::StatefulSet { update, updating, on_delete }
        };
        assert_eq!(read("redis-2", "RollingUpdate"), of(false, false));
        assert_eq!(read("redis-1", "RollingUpdate"), of(true, false));
        assert_eq!(read("redis-1", "OnDelete"), of(false, true));
    }

    #[test]
    fn replica_sets_name_their_deployment() {
        let read = |kind: &str| {
            let value = json!({ "metadata": {
                "namespace": "shop", "name": "cart-7d9f",
                "annotations": { "deployment.kubernetes.io/revision": "4" },
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": kind, "name": "cart", "uid": "u",
                    "controller": true
                }]
            }});
            replica_set(&serde_json::from_value(value).unwrap()).unwrap()
        };
        let known = read("Deployment");
        assert_eq!(known.deployment.unwrap().as_str(), "shop/Deployment/cart");
        assert_eq!(known.revision, Some(4));
        assert_eq!(read("Rollout").deployment, None);
    }
}
