//! HorizontalPodAutoscalers and KEDA's ScaledObjects: who else owns a replica count.
//!
//! Targets that are no Deployment or StatefulSet of the group `apps` are nothing to us.
//! A ScaledObject that is paused still owns its count.
//!
//! A workload with an owner that is its controller (an operator, Knative) is that
//! owner's whole, its count too: what is written there is written back. Which counts it
//! would allow is not known. An HPA or ScaledObject over such a workload shows that the
//! owner lets the count go, and names who has it instead.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::core::DynamicObject;
use stornx_core::{
    ids::{Namespace, WorkloadKind, WorkloadRef},
    model::{Autoscaler, AutoscalerKind, HeldMinimum},
};

/// The annotation of an autoscaler whose minimum is raised for a move: what it was before,
/// `/`, what it was raised to.
pub(crate) const HELD: &str = "stornx.io/held-minimum";

/// The value of [`HELD`].
pub(crate) fn held_value(held: HeldMinimum) -> String {
    format!("{}/{}", held.before, held.raised)
}

/// A value that is none of ours counts as not being there.
fn held(text: &str) -> Option<HeldMinimum> {
    let (before, raised) = text.split_once('/')?;
    Some(HeldMinimum { before: before.parse().ok()?, raised: raised.parse().ok()? })
}

/// What is kept of an autoscaler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AutoscalerRecord {
    /// Whose count it owns.
    pub(crate) target: WorkloadRef,
    /// How.
    pub(crate) autoscaler: Autoscaler,
}

/// The owner of a workload as a whole.
pub(crate) const CONTROLLER: Autoscaler =
    Autoscaler { kind: AutoscalerKind::Controller, min: 0, max: u32::MAX, held: None };

fn target(namespace: &str, group: &str, kind: &str, name: &str) -> Option<WorkloadRef> {
    let kind = match kind {
        "Deployment" => WorkloadKind::Deployment,
        "StatefulSet" => WorkloadKind::StatefulSet,
        _ => return None,
    };
    let namespace = Namespace::new(namespace).ok()?;
    (group.split('/').next() == Some("apps"))
        .then(|| WorkloadRef::new(&namespace, kind, name).ok())?
}

fn bounds(kind: AutoscalerKind, min: i64, max: i64) -> Autoscaler {
    let count = |value: i64| u32::try_from(value.max(0)).unwrap_or(u32::MAX);
    Autoscaler { kind, min: count(min).min(count(max)), max: count(max), held: None }
}

/// A HorizontalPodAutoscaler.
pub(crate) fn hpa(object: &HorizontalPodAutoscaler) -> Option<AutoscalerRecord> {
    let spec = object.spec.as_ref()?;
    let of = &spec.scale_target_ref;
    // An absent version means the group that the API server guesses by kind.
    let group = of.api_version.as_deref().unwrap_or("apps");
    let target = target(object.metadata.namespace.as_deref()?, group, &of.kind, &of.name)?;
    let min = spec.min_replicas.unwrap_or(1).into();
    let bounds = bounds(AutoscalerKind::Hpa, min, spec.max_replicas.into());
    let annotations = object.metadata.annotations.as_ref();
    let held = annotations.and_then(|all| all.get(HELD)).and_then(|text| held(text));
    Some(AutoscalerRecord { target, autoscaler: Autoscaler { held, ..bounds } })
}

/// A ScaledObject of KEDA. Its defaults are those of its documentation: a Deployment,
/// 0 to 100 replicas.
pub(crate) fn scaled_object(object: &DynamicObject) -> Option<AutoscalerRecord> {
    let spec = object.data.get("spec")?;
    let of = spec.get("scaleTargetRef")?;
    let text = |name: &str, default: &'static str| {
        of.get(name).and_then(|v| v.as_str()).filter(|text| !text.is_empty()).unwrap_or(default)
    };
    let number = |name: &str, default| spec.get(name).and_then(|v| v.as_i64()).unwrap_or(default);
    let (group, kind) = (text("apiVersion", "apps/v1"), text("kind", "Deployment"));
    let target = target(object.metadata.namespace.as_deref()?, group, kind, text("name", ""))?;
    let (min, max) = (number("minReplicaCount", 0), number("maxReplicaCount", 100));
    Some(AutoscalerRecord { target, autoscaler: bounds(AutoscalerKind::Keda, min, max) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn with_spec(spec: &Value) -> Value {
        json!({ "metadata": { "namespace": "shop", "name": "x" }, "spec": spec })
    }

    #[test]
    fn an_hpa_names_its_target_and_bounds() {
        let read = |spec: Value| hpa(&serde_json::from_value(with_spec(&spec)).unwrap());
        let record = read(json!({
            "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart" },
            "maxReplicas": 7
        }));
        let record = record.unwrap();
        assert_eq!(record.target.as_str(), "shop/Deployment/cart");
        let expected = Autoscaler { kind: AutoscalerKind::Hpa, min: 1, max: 7, held: None };
        assert_eq!(record.autoscaler, expected);
        let other = read(json!({
            "scaleTargetRef": { "apiVersion": "argoproj.io/v1", "kind": "Deployment", "name": "c" },
            "maxReplicas": 7
        }));
        assert_eq!(other, None, "another Deployment than that of apps");
    }

    #[test]
    fn a_raised_minimum_is_read_as_it_was_written() {
        let read = |value: &str| {
            let mut object = with_spec(&json!({
                "scaleTargetRef": { "kind": "Deployment", "name": "cart" },
                "minReplicas": 4, "maxReplicas": 7
            }));
            object["metadata"]["annotations"] = json!({ HELD: value });
            hpa(&serde_json::from_value(object).unwrap()).unwrap().autoscaler
        };
        let held = HeldMinimum { before: 2, raised: 4 };
        assert_eq!(held_value(held), "2/4");
        assert_eq!((read("2/4").held, read("2/4").holds()), (Some(held), true));
        assert!(!read("2/3").holds(), "somebody else set 4");
        for value in ["", "2", "2/", "a/b", "-1/2"] {
            assert_eq!(read(value).held, None, "{value}");
        }
    }

    #[test]
    fn a_scaled_object_has_the_defaults_of_keda() {
        let read = |spec: Value| scaled_object(&serde_json::from_value(with_spec(&spec)).unwrap());
        let record = read(json!({ "scaleTargetRef": { "name": "cart" } })).unwrap();
        assert_eq!(record.target.as_str(), "shop/Deployment/cart");
        let expected = Autoscaler { kind: AutoscalerKind::Keda, min: 0, max: 100, held: None };
        assert_eq!(record.autoscaler, expected);
        let record = read(json!({
            "scaleTargetRef": { "kind": "StatefulSet", "name": "redis" },
            "minReplicaCount": 2, "maxReplicaCount": 5
        }));
        let record = record.unwrap();
        assert_eq!(record.target.as_str(), "shop/StatefulSet/redis");
        assert_eq!((record.autoscaler.min, record.autoscaler.max), (2, 5));
        assert_eq!(read(json!({ "scaleTargetRef": { "kind": "Job", "name": "x" } })), None);
    }
}
