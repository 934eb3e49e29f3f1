//! Marks of replicas that were to go, and what pods were told.

use k8s_openapi::api::core::v1::Pod;
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
        rank::{COST, VICTIM, cost_before},
        traces::{PREFERRED, STEERED},
    },
    write_params,
};

pub(super) async fn clean(room: &mut Room<'_>, namespace: &Namespace) -> Result<(), PortError> {
    let api: Api<Pod> = Api::namespaced(room.client.clone(), namespace.as_str());
    let what = format!("list the pods of {namespace}");
    let all = ListParams::default();
    for pod in room.ask(&what, api.list_metadata(&all)).await?.items {
        let meta = &pod.metadata;
        let annotations = meta.annotations.clone().unwrap_or_default();
        let ours = [VICTIM, STEERED, PREFERRED].map(|key| annotations.contains_key(key));
        if ours == [false; 3] {
            continue;
        }
        let mut patch = Map::new();
        for key in [VICTIM, STEERED, PREFERRED] {
            patch.insert(key.to_owned(), Value::Null);
        }
        if let Some(mark) = annotations.get(VICTIM) {
            patch.insert(COST.to_owned(), json!(cost_before(mark)));
        }
        let name = meta.name.as_deref().unwrap_or_default();
        let object = format!("Pod {namespace}/{name}");
        let what = format!("take the annotations off {object}");
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
        let done = if ours[0] { "its deletion mark and annotations" } else { "its annotations" };
        room.note(object, format!("{done} removed"));
    }
    Ok(())
}
