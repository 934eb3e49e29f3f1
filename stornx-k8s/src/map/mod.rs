//! From objects of the Kubernetes API to small records: the only place where their
//! types are read. Nothing here keeps an object.
//!
//! What is not valid by the rules of the model (the API server applies narrower ones
//! to everything that it stores) is left out where leaving it out is the careful
//! choice, and makes a workload untouchable where it is not; each mapping says which.

pub(crate) mod autoscaler;
pub(crate) mod budget;
pub(crate) mod constraints;
pub(crate) mod count;
pub(crate) mod locality;
pub(crate) mod machine;
pub(crate) mod names;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod policy;
pub(crate) mod quantity;
pub(crate) mod rank;
pub(crate) mod requests;
pub(crate) mod rule;
pub(crate) mod selector;
pub(crate) mod service;
pub(crate) mod template;
pub(crate) mod traces;
pub(crate) mod usage;
pub(crate) mod workload;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use stornx_core::units::Timestamp;

/// `namespace/name` of an object.
pub(crate) fn key(meta: &ObjectMeta) -> Option<Arc<str>> {
    Some(format!("{}/{}", meta.namespace.as_deref()?, meta.name.as_deref()?).into())
}

/// The namespace of `namespace/...`.
pub(crate) fn namespace_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(namespace, _)| namespace)
}

/// The name of `namespace/name`.
pub(crate) fn name_of(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}

/// An instant of the API; before 1970 is 1970.
pub(crate) fn instant(time: &Time) -> Timestamp {
    Timestamp::from_millis(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

/// The owner that controls an object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.as_ref()?.iter().find(|owner| owner.controller == Some(true))
}

/// Whether an owner is of a kind of the group `apps`.
pub(crate) fn is_apps(owner: &OwnerReference, kind: &str) -> bool {
    owner.kind == kind && owner.api_version.starts_with("apps/")
}
