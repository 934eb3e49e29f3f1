//! What StornX keeps for itself. The webhook's registration came with the installation and
//! stays: it asks about no namespace and trusts nobody.

use k8s_openapi::api::{
    coordination::v1::Lease, core::v1::ConfigMap, discovery::v1::EndpointSlice,
};
use kube::{Api, api::Patch};
use serde_json::json;
use stornx_core::ports::PortError;

use super::Room;
use crate::{
    as_read,
    map::rule::{MANAGED_BY, MANAGER},
    store::KEY,
    webhook::{self, Registration},
    write_params,
};

pub(super) async fn registration(room: &mut Room<'_>) -> Result<(), PortError> {
    let name = &room.options.name;
    let registration = Registration::new(room.client.clone());
    let what = format!("read the mutating webhook configuration {name}");
    let Some(as_it_came) =
        room.ask(&what, registration.as_it_came(name, room.options.keeps_trust)).await?
    else {
        return Ok(());
    };
    let object = format!("MutatingWebhookConfiguration {name}");
    let what = format!("patch {object}");
    if room.acts(&what).await? {
        room.ask(&what, registration.set(name, &as_it_came)).await?;
    }
    room.note(object, "asks about no namespace any more");
    Ok(())
}

/// Deletes the lease once nobody holds it any more.
pub(super) async fn lease(room: &mut Room<'_>) -> Result<(), PortError> {
    let (namespace, name) = (&room.options.namespace, &room.options.name);
    let api: Api<Lease> = Api::namespaced(room.client.clone(), namespace.as_str());
    let object = format!("Lease {namespace}/{name}");
    let Some(lease) = room.ask(&format!("get {object}"), api.get_opt(name)).await? else {
        return Ok(());
    };
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref());
    if !room.options.dry_run {
        if let Some(holder) = holder.filter(|holder| !holder.is_empty()) {
            let detail = format!("{holder} holds it");
            return Err(PortError::Conflict { what: format!("delete {object}"), detail });
        }
        let what = format!("delete {object}");
        room.ask(&what, api.delete(name, &as_read(&lease.metadata))).await?;
    }
    room.note(object, "deleted");
    Ok(())
}

pub(super) async fn endpoint(room: &mut Room<'_>) -> Result<(), PortError> {
    let (namespace, name) = (&room.options.namespace, webhook::service(&room.options.name));
    let api: Api<EndpointSlice> = Api::namespaced(room.client.clone(), namespace.as_str());
    let object = format!("EndpointSlice {namespace}/{name}");
    let Some(slice) = room.ask(&format!("get {object}"), api.get_opt(&name)).await? else {
        return Ok(());
    };
    let what = format!("delete {object}");
    if room.acts(&what).await? {
        room.ask(&what, api.delete(&name, &as_read(&slice.metadata))).await?;
    }
    room.note(object, "deleted");
    Ok(())
}

pub(super) async fn memory(room: &mut Room<'_>) -> Result<(), PortError> {
    let (namespace, name) = (&room.options.namespace, &room.options.name);
    let api: Api<ConfigMap> = Api::namespaced(room.client.clone(), namespace.as_str());
    let object = format!("ConfigMap {namespace}/{name}");
    let Some(map) = room.ask(&format!("get {object}"), api.get_opt(name)).await? else {
        return Ok(());
    };
    if map.binary_data.as_ref().is_none_or(|data| !data.contains_key(KEY)) {
        return Ok(());
    }
    let labels = map.metadata.labels.as_ref();
    let made_by_us = labels.and_then(|all| all.get(MANAGED_BY)).is_some_and(|by| by == MANAGER);
    let alone = map.data.as_ref().is_none_or(|data| data.is_empty())
        && map.binary_data.as_ref().is_some_and(|data| data.len() == 1);
    let what = format!("take the memory out of {object}");
    let acts = room.acts(&what).await?;
    if made_by_us && alone {
        if acts {
            room.ask(&what, api.delete(name, &as_read(&map.metadata))).await?;
        }
        room.note(object, "the memory, deleted");
        return Ok(());
    }
    if acts {
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": map.metadata.resource_version },
            "binaryData": { KEY: null }
        }));
        room.ask(&what, api.patch(name, &write_params(), &patch)).await?;
    }
    room.note(object, "the memory, removed from it");
    Ok(())
}
