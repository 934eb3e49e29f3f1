//! Marks of replicas that were to go, and what pods were told.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{ListParams, Patch},
};
use serde_json::{Map, Value, json};
use stornx_core::{ids::Namespace, ports::PortError};

use super::Room;
use crate::{
    error::is_not_found,
    map::{
        rank::{COST, LOWEST, VICTIM, cost_before},
        traces::{PREFERRED, STEERED},
    },
    write_params,
};

pub(super) async fn clean(room: &mut Room<'_>, namespace: &Namespace) -> Result<(), PortError> {
    let api: Api<Pod> = Api::namespaced(room.client.clone(), namespace.as_str());
    let what = format!("list the pods of {namespace}");
    let all = ListParams::default();
    for found in room.ask(&what, api.list_metadata(&all)).await?.items {
        let meta = &found.metadata;
        let annotations = meta.annotations.clone().unwrap_or_default();
        if ![VICTIM, STEERED, PREFERRED].iter().any(|key| annotations.contains_key(*key)) {
            continue;
        }
        let done = pod(room, &api, namespace, meta, &annotations).await;
        room.settle(done)?;
    }
    Ok(())
}

async fn pod(
    room: &mut Room<'_>,
    api: &Api<Pod>,
    namespace: &Namespace,
    meta: &ObjectMeta,
    annotations: &BTreeMap<String, String>,
) -> Result<(), PortError> {
    let mut patch = Map::new();
    for key in [VICTIM, STEERED, PREFERRED] {
        patch.insert(key.to_owned(), Value::Null);
    }
    let mark = annotations.get(VICTIM);
    // Another cost than ours was set by somebody else since.
    if let Some(mark) = mark.filter(|_| annotations.get(COST).is_some_and(|cost| cost == LOWEST)) {
        patch.insert(COST.to_owned(), json!(cost_before(mark)));
    }
    let name = meta.name.as_deref().unwrap_or_default();
    let object = format!("Pod {namespace}/{name}");
    let what = format!("take the annotations off {object}");
    // The uid and no version: a pod's status changes by the second, and what is changed here
    // are keys of our own, but for a cost that is lowest and was marked so by us.
    if room.acts(&what).await? {
        let patch = Patch::Merge(json!({
            "metadata": { "uid": meta.uid, "annotations": patch }
        }));
        let params = write_params();
        let write = async {
            match api.patch_metadata(name, &params, &patch).await {
                // What is gone carries nothing.
                Err(error) if is_not_found(&error) => Ok(()),
                done => done.map(drop),
            }
        };
        room.ask(&what, write).await?;
    }
    let done = if mark.is_some() { "its deletion mark and annotations" } else { "its annotations" };
    room.note(object, format!("{done} removed"));
    Ok(())
}
