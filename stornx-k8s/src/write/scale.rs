//! Replica counts, through the scale subresource.
//!
//! The API server evaluates the patch against the object as it is when it writes, and
//! again when somebody else wrote in between, so test and change are one. It answers a
//! failed test with 422, like much else: the count that is found then tells which.
//!
//! A count of zero is not in the object at all (the API omits it): then the test is
//! that the specification is empty, since the count is all that it holds.

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
use stornx_core::{ids::WorkloadRef, ports::PortError};

use crate::{
    error::{detail, port_error},
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
    let Change { what, observed, wanted } = change;
    let name = workload.name();
    let operations = if observed > 0 {
        json!([
            { "op": "test", "path": "/spec/replicas", "value": observed },
            { "op": "replace", "path": "/spec/replicas", "value": wanted }
        ])
    } else {
        json!([
            { "op": "test", "path": "/spec", "value": {} },
            { "op": "add", "path": "/spec/replicas", "value": wanted }
        ])
    };
    let patch = Patch::Json::<()>(json_patch(what, operations)?);
    match api.patch_scale(name, &write_params(), &patch).await {
        Ok(_) => Ok(()),
        Err(error @ Error::Api(_)) if is_unprocessable(&error) => {
            let scale = api.get_scale(name).await.map_err(|error| port_error(what, &error))?;
            let found = count(&scale);
            Err(if found == observed {
                port_error(what, &error)
            } else {
                conflict(what, observed, found)
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
