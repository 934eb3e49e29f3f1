//! Pod templates: what every replica of a workload has in common.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec};
use stornx_core::{model::Constraints, units::Resources};

use super::{constraints, requests, selector::TextLabels};

/// What is kept of a pod template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    /// Labels of the pods, for selectors of Services and budgets.
    pub(crate) labels: TextLabels,
    /// What a replica asks for, before admission adds to it.
    pub(crate) requests: Resources,
    /// What a replica may use; zero for a resource without a limit.
    pub(crate) limits: Option<Resources>,
    /// What of both cannot be read.
    pub(crate) unreadable: Option<Box<str>>,
    /// Where replicas may run.
    pub(crate) constraints: Constraints,
    /// Tells templates apart, within this process.
    pub(crate) fingerprint: u64,
}

/// A template of a workload in this namespace.
pub(crate) fn template(
    template: &PodTemplateSpec,
    namespace: &str,
    claims: &[PersistentVolumeClaim],
) -> Template {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let labels = labels.unwrap_or_default();
    let spec = template.spec.clone().unwrap_or_default();
    Template {
        requests: requests::requests(&spec),
        limits: requests::limits(&spec),
        unreadable: requests::unreadable(&spec).map(Into::into),
        constraints: constraints::constraints(&spec, &labels, namespace, claims),
        fingerprint: fingerprint(template),
        labels,
    }
}

fn fingerprint(template: &PodTemplateSpec) -> u64 {
    let mut hasher = DefaultHasher::new();
    // Plain data of strings, numbers and ordered maps: writing it cannot fail; if it
    // did, equal fingerprints would only hide a change that the pods show anyway.
    serde_json::to_vec(template).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
