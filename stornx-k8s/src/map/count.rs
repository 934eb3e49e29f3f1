//! The replica count of a workload, who changed it last, and how many replicas its
//! controller counts as Ready.
//!
//! The second by `metadata.managedFields`: the API server notes there which manager set
//! which field, also through the scale subresource, and takes the field from all others
//! when its value changes. Whoever applies the same value on the server side owns it as
//! well. The object of the scale subresource itself carries no managed fields (Kubernetes
//! 1.34), so that a count is read from the workload.
//!
//! The third says how far the ReplicaSet controller has come with its own watch of pods: it
//! counts what that has shown it. The Deployment controller adds up what its ReplicaSets say.

use k8s_openapi::{
    api::apps::v1::{Deployment, StatefulSet},
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};
use kube::core::Selector;
use stornx_core::model::CountBy;

use super::rule::MANAGER;

/// A count as one reading of the workload found it.
#[derive(Debug, Clone)]
pub(crate) struct Counted {
    /// `spec.replicas`.
    pub(crate) count: u32,
    /// Who set it.
    pub(crate) by: CountBy,
    /// The labels that select its pods; where they say nothing, every pod is.
    pub(crate) selector: Selector,
    /// The number of its first replica, if they are numbered.
    pub(crate) first: u32,
    /// The version of the object that was read.
    pub(crate) version: String,
    /// The generation of what is wanted of it: another status leaves it as it is.
    pub(crate) generation: i64,
    /// How many replicas its controller counts as Ready; none where it has not seen yet what
    /// is wanted.
    pub(crate) ready: u32,
}

/// What has a replica count.
pub(crate) trait Counts {
    fn counted(&self) -> Counted;
}

impl Counts for Deployment {
    fn counted(&self) -> Counted {
        let spec = self.spec.as_ref();
        let counted = counted(
            &self.metadata,
            spec.and_then(|spec| spec.replicas),
            spec.map(|spec| &spec.selector),
        );
        let status = self.status.as_ref();
        let seen = status.and_then(|status| status.observed_generation).unwrap_or(0);
        let ready = status.and_then(|status| status.ready_replicas);
        Counted {
            ready: if seen >= counted.generation { self::ready(ready) } else { 0 },
            ..counted
        }
    }
}

impl Counts for StatefulSet {
    fn counted(&self) -> Counted {
        let spec = self.spec.as_ref();
        let start = spec.and_then(|spec| spec.ordinals.as_ref()).and_then(|numbers| numbers.start);
        let selector = spec.map(|spec| &spec.selector);
        let counted = counted(&self.metadata, spec.and_then(|spec| spec.replicas), selector);
        Counted { first: start.and_then(|start| u32::try_from(start).ok()).unwrap_or(0), ..counted }
    }
}

/// The API server stores a count always, one when none is given.
fn counted(meta: &ObjectMeta, replicas: Option<i32>, selector: Option<&LabelSelector>) -> Counted {
    let selector = selector.cloned().and_then(|selector| Selector::try_from(selector).ok());
    Counted {
        count: u32::try_from(replicas.unwrap_or(1)).unwrap_or(0),
        by: counted_by(meta),
        selector: selector.unwrap_or_default(),
        first: 0,
        version: meta.resource_version.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        ready: 0,
    }
}

/// A status says nothing of replicas that are Ready where there are none.
pub(crate) fn ready(replicas: Option<i32>) -> u32 {
    u32::try_from(replicas.unwrap_or(0)).unwrap_or(0)
}

/// Who set `spec.replicas`.
pub(crate) fn counted_by(meta: &ObjectMeta) -> CountBy {
    set_by(meta, "f:replicas")
}

/// Who set a field of `spec`, by its name in `managedFields`.
pub(crate) fn set_by(meta: &ObjectMeta, field: &str) -> CountBy {
    let sets_count = |fields: &serde_json::Value| fields["f:spec"].get(field).is_some();
    let mut owners = meta
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| sets_count(&fields.0)))
        .map(|entry| entry.manager.as_deref() == Some(MANAGER))
        .peekable();
    if owners.peek().is_none() {
        CountBy::Unknown
    } else if owners.all(|ours| ours) {
        CountBy::StornX
    } else {
        CountBy::Others
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(managed: Value) -> CountBy {
        counted_by(&serde_json::from_value(json!({ "managedFields": managed })).unwrap())
    }

    fn entry(manager: &str, field: &str) -> Value {
        json!({
            "manager": manager, "operation": "Update", "subresource": "scale",
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": { "f:spec": { field: {} } }
        })
    }

    #[test]
    fn the_count_is_whose_field_it_is() {
        let (ours, theirs) = (entry("stornx", "f:replicas"), entry("kubectl", "f:replicas"));
        let template = entry("kubectl", "f:template");
        assert_eq!(read(json!([ours, template])), CountBy::StornX);
        assert_eq!(read(json!([theirs])), CountBy::Others);
        assert_eq!(read(json!([ours, theirs])), CountBy::Others);
        assert_eq!(read(json!([template])), CountBy::Unknown);
        assert_eq!(read(json!([])), CountBy::Unknown);
        assert_eq!(counted_by(&ObjectMeta::default()), CountBy::Unknown);
    }
}
