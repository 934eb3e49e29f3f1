//! Replica counts, through the scale subresource.
//!
//! A count is read and then changed at the version that was read, by one JSON patch that
//! tests it. The API server evaluates the patch against the object as it is when it writes,
//! and again when somebody else wrote in between, so test and change are one. The count
//! alone would not do: a request that arrives late may find the same count a second time,
//! when what it was sent for is long over.
//!
//! A failed test is answered with 422, like much else: what is found then tells which.

use std::fmt::Debug;

use json_patch::Patch as JsonPatch;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v1::Scale,
    },
};
use kube::{Api, Client, Error, api::Patch};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stornx_core::{ids::WorkloadRef, model::CountBy, ports::PortError};

use crate::{
    error::{detail, port_error},
    map::count::counted_by,
    write_params,
};

/// A change of a count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    /// What is being tried, for errors.
    pub(super) what: &'a str,
    /// The count that is expected to stand.
    pub(super) observed: u32,
    /// The count to set.
    pub(super) wanted: u32,
}

/// The count of a workload as it was read.
#[derive(Debug, Clone)]
pub(super) struct Counted {
    pub(super) count: u32,
    /// Who set it, where the API server says so: the scale of a Deployment carries no
    /// managed fields in the versions that were read (1.34), so that this is unknown there,
    /// and who set a count is known from the watch alone.
    pub(super) by: CountBy,
    /// The labels that select its pods.
    pub(super) selector: String,
    version: String,
}

/// Reads the count of a workload.
pub(super) async fn read<K>(api: &Api<K>, name: &str, what: &str) -> Result<Counted, PortError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let scale = api.get_scale(name).await.map_err(|error| port_error(what, &error))?;
    Ok(Counted {
        count: count(&scale),
        by: counted_by(&scale.metadata),
        version: scale.metadata.resource_version.unwrap_or_default(),
        selector: scale.status.and_then(|status| status.selector).unwrap_or_default(),
    })
}

pub(super) fn deployments(client: &Client, workload: &WorkloadRef) -> Api<Deployment> {
    namespaced(client, workload)
}

pub(super) fn stateful_sets(client: &Client, workload: &WorkloadRef) -> Api<StatefulSet> {
    namespaced(client, workload)
}

fn namespaced<K>(client: &Client, workload: &WorkloadRef) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), workload.namespace().as_str())
}

/// The count of a scale; zero is left out by the API.
pub(super) fn count(scale: &Scale) -> u32 {
    let replicas = scale.spec.as_ref().and_then(|spec| spec.replicas);
    u32::try_from(replicas.unwrap_or(0)).unwrap_or(0)
}

/// That another count was found than was expected.
pub(super) fn conflict(what: &str, observed: u32, found: u32) -> PortError {
    PortError::Conflict {
        what: what.to_owned(),
        detail: format!("expected {observed} replicas, found {found}"),
    }
}

/// Changes the count of a workload.
pub(super) async fn change<K>(
    api: &Api<K>,
    workload: &WorkloadRef,
    change: Change<'_>,
) -> Result<(), PortError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let counted = read(api, workload.name(), change.what).await?;
    change_from(api, workload, change, &counted).await
}

/// Changes the count of a workload that was read.
pub(super) async fn change_from<K>(
    api: &Api<K>,
    workload: &WorkloadRef,
    change: Change<'_>,
    counted: &Counted,
) -> Result<(), PortError>
where
    K: Clone + Debug + DeserializeOwned,
{
    let Change { what, observed, wanted } = change;
    if counted.count != observed {
        return Err(conflict(what, observed, counted.count));
    }
    let name = workload.name();
    // A count of zero is not in the object at all: to add is to set in any case.
    let operations = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": counted.version },
        { "op": "add", "path": "/spec/replicas", "value": wanted }
    ]);
    let patch = Patch::Json::<()>(json_patch(what, operations)?);
    match api.patch_scale(name, &write_params(), &patch).await {
        Ok(_) => Ok(()),
        Err(error @ Error::Api(_)) if is_unprocessable(&error) => {
            let found = read(api, name, what).await?;
            Err(if found.count != observed {
                conflict(what, observed, found.count)
            } else if found.version != counted.version {
                let detail = "it was changed by somebody else at the same moment".to_owned();
                PortError::Conflict { what: what.to_owned(), detail }
            } else {
                port_error(what, &error)
            })
        }
        Err(error) => Err(port_error(what, &error)),
    }
}

fn is_unprocessable(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.code == 422)
}

fn json_patch(what: &str, operations: Value) -> Result<JsonPatch, PortError> {
    serde_json::from_value(operations).map_err(|error| PortError::Rejected {
        what: what.to_owned(),
        detail: detail(&Error::SerdeError(error)),
    })
}
