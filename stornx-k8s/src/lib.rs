//! Kubernetes behind the ports of `stornx-core`.
//!
//! A [`Connection`] knows the server and which optional APIs it serves. Over it:
//!
//! | | port | what it does |
//! | --- | --- | --- |
//! | [`Cluster`] | `ClusterSource` | watches, keeps small records, makes facts of them on demand |
//! | [`KubeActuator`] | `Actuator`, with a `RoutingBackend` | changes counts, marks and evicts replicas, writes routing rules, each with a precondition |
//! | [`ConfigMapStore`] | `StateStore` | keeps the memory in one ConfigMap |
//! | [`Lease`] | `LeaderGate` | says who may write, and until when |
//! | [`EventRecorder`] | | tells the owners of workloads what was done |
//! | [`Webhook`] | | tells new replicas where to run |
//! | [`PodMetrics`] | part of `MetricsSource` | CPU and memory where Prometheus has none |
//!
//! Data flows one way: `watch` receives objects, `map` makes records of them (the only
//! place that reads Kubernetes types), `facts` joins records to what the core decides
//! on, `write` carries actions out. Nothing here decides what is good for a cluster;
//! what is decided is what is safe to believe and to write: no facts from watches that
//! fail, no write without a precondition, no right to write without a lease.
//!
//! ```text
//! events -> map -> records -> facts -> ClusterFacts
//! Action -> write -> scale subresource, deletion marks, evictions
//! ```
//!
//! Rights needed (`deploy/rbac/stornx.yaml` has them as roles):
//!
//! | where | what |
//! | --- | --- |
//! | everywhere | list and watch nodes, pods, services, deployments, statefulsets, replicasets, horizontalpodautoscalers, poddisruptionbudgets, endpointslices, destinationrules, scaledobjects |
//! | everywhere, or managed namespaces | list pods of `metrics.k8s.io` |
//! | managed namespaces | get deployments and statefulsets, patch their scale, patch horizontalpodautoscalers, patch pods, create pods/eviction, get, create, patch and delete destinationrules, create events of `events.k8s.io` |
//! | the namespace of the daemon | get, create and patch its ConfigMap; get, create and update its Lease; get, create and patch the EndpointSlice of its webhook |
//! | cluster | get and patch its MutatingWebhookConfiguration |
//!
//! Nothing is deleted but pods by eviction and routing rules of our own, pods are never
//! read one by one, and events are never changed. [`clean`] takes everything back; it needs
//! besides: list destinationrules, pods and autoscalers in managed namespaces and get the last, delete the
//! ConfigMap, the Lease and the EndpointSlice of the daemon.

mod clean;
mod connect;
mod error;
mod events;
mod facts;
mod lease;
mod map;
mod metrics;
mod stats;
mod store;
mod watch;
mod webhook;
mod write;

pub use self::{
    clean::{CleanOptions, Cleaned, clean, clean_lease},
    connect::{Access, Capabilities, ConnectError, ConnectOptions, Connection, MissingApi},
    events::{EventKind, EventRecorder},
    lease::{Lease, LeaseOptions},
    map::policy::ANNOTATIONS,
    metrics::PodMetrics,
    store::{ConfigMapStore, StoreOptions},
    watch::{Cluster, ClusterOptions, Place, WatchStats},
    webhook::{CountRequest, ServingWebhook, Webhook, WebhookOptions, WebhookResult},
    write::{KubeActuator, NodeLabels, label_nodes},
};

/// Parameters of a patch in our name.
pub(crate) fn write_params() -> kube::api::PatchParams {
    let field_manager = Some(map::rule::MANAGER.to_owned());
    kube::api::PatchParams { field_manager, ..kube::api::PatchParams::default() }
}

/// Deletes an object only as it was read.
pub(crate) fn as_read(meta: &kube::core::ObjectMeta) -> kube::api::DeleteParams {
    let preconditions = kube::api::Preconditions {
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
    };
    kube::api::DeleteParams { preconditions: Some(preconditions), ..Default::default() }
}

/// What the wall clock says, for what others wrote down by theirs.
pub(crate) fn now() -> stornx_core::units::Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    stornx_core::units::Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A random number from 0 to 1, for spreading waits: nothing is decided by it.
pub(crate) fn random() -> f64 {
    use std::hash::{BuildHasher, Hasher};
    // Each state is seeded anew by the operating system's generator.
    let bits = std::collections::hash_map::RandomState::new().build_hasher().finish();
    f64::from(u32::try_from(bits >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
