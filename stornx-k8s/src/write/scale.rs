//! Replica counts: read from the workload, which says who set them, and changed through the
//! scale subresource.
//!
//! A count is read and then changed at the version that was read, by one JSON patch that
//! tests it. The API server evaluates the patch against the object as it is when it writes,
//! and again when somebody else wrote in between, so test and change are one. The count
//! alone would not do: a request that arrives late may find the same count a second time,
//! when what it was sent for is long over.
//!
//! A failed test is answered with 422, like much else: what is found then tells which.
//! Where only the status moved on, the generation is the same and the request is repeated
//! at the new version; whoever wrote what is wanted of the workload was first, and the
//! request is given up.

use std::fmt::Debug;

use json_patch::Patch as JsonPatch;
use k8s_openapi::{
    NamespaceResourceScope,
    api::apps::v1::{Deployment, StatefulSet},
};
use kube::{Api, Client, Error, api::Patch};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use stornx_core::{ids::WorkloadRef, ports::PortError};

use crate::{
    error::{detail, port_error},
    map::count::{Counted, Counts},
    write_params,
};

/// How often a change is asked for while the status of the workload moves on.
const TRIES: u32 = 5;

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

/// Reads the count of a workload.
pub(super) async fn read<K>(api: &Api<K>, name: &str, what: &str) -> Result<Counted, PortError>
where
    K: Clone + Debug + DeserializeOwned + Counts,
{
    let workload = api.get(name).await.map_err(|error| port_error(what, &error))?;
    Ok(workload.counted())
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
    K: Clone + Debug + DeserializeOwned + Counts,
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
    K: Clone + Debug + DeserializeOwned + Counts,
{
    let Change { what, observed, .. } = change;
    let mut version = counted.version.clone();
    if counted.count != observed {
        return Err(conflict(what, observed, counted.count));
    }
    for _ in 0..TRIES {
        let error = match change_at(api, workload, change, &version).await? {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let found = read(api, workload.name(), what).await?;
        found.expect_same(what, observed, counted)?;
        if found.version == version {
            return Err(port_error(what, &error));
        }
        version = found.version;
    }
    let detail = format!("its status was changed {TRIES} times at the same moment");
    Err(PortError::Conflict { what: what.to_owned(), detail })
}

/// One request at one version. A request that cannot be processed may only be too late;
/// whoever looks can tell.
async fn change_at<K>(
    api: &Api<K>,
    workload: &WorkloadRef,
    Change { what, wanted, .. }: Change<'_>,
    version: &str,
) -> Result<Result<(), Error>, PortError>
where
    K: Clone + Debug + DeserializeOwned,
{
    // A count of zero is not in the object at all: to add is to set in any case.
    let operations = json!([
        { "op": "test", "path": "/metadata/resourceVersion", "value": version },
        { "op": "add", "path": "/spec/replicas", "value": wanted }
    ]);
    let patch = Patch::Json::<()>(json_patch(what, operations)?);
    match api.patch_scale(workload.name(), &write_params(), &patch).await {
        Ok(_) => Ok(Ok(())),
        Err(error @ Error::Api(_)) if is_unprocessable(&error) => Ok(Err(error)),
        Err(error) => Err(port_error(what, &error)),
    }
}

impl Counted {
    /// That nothing else is wanted of the workload than when it was read before: the count
    /// is still `observed`, nobody else owns it now, and no specification was written in
    /// between.
    pub(super) fn expect_same(
        &self,
        what: &str,
        observed: u32,
        before: &Self,
    ) -> Result<(), PortError> {
        if self.count != observed {
            return Err(conflict(what, observed, self.count));
        }
        if self.generation != before.generation || self.by != before.by {
            let detail = "it was changed by somebody else at the same moment".to_owned();
            return Err(PortError::Conflict { what: what.to_owned(), detail });
        }
        Ok(())
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
