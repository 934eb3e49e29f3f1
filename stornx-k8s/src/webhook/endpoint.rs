//! Where the Service of the webhook leads: to the process that leads, and to no other.
//!
//! The Service is installed without a selector. The leader writes its own address into the
//! one EndpointSlice behind it, so that the process that holds the intents is the one that
//! is asked.

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{Patch, PostParams},
};
use serde_json::json;
use stornx_core::ports::{LeaderGate, PortError};

use super::{WebhookOptions, registration::Obstacle};
use crate::{error::within, map::rule::MANAGER, write_params};

/// The Service of a daemon of this name, and its EndpointSlice.
pub(crate) fn service(daemon: &str) -> String {
    format!("{daemon}-webhook")
}

/// Looks, and writes what is not as it has to be. Says whether it wrote.
pub(crate) async fn keep(
    client: &Client,
    options: &WebhookOptions,
    port: u16,
    gate: &dyn LeaderGate,
) -> Result<bool, Obstacle> {
    let Some(wanted) = slice(options, port) else {
        let reason = "neither WEBHOOK_URL nor POD_IP says where the webhook is";
        return Err(Obstacle::Missing(reason.to_owned()));
    };
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), options.namespace.as_str());
    let name = service(&options.name);
    let id = format!("endpoint slice {}/{name}", options.namespace);
    let limit = options.timeout;
    let now = within(limit, &format!("get {id}"), api.get_opt(&name)).await?;
    let what = format!("write {id}");
    let leads = || async {
        let error = PortError::NotLeader { what: what.clone() };
        if gate.may_write().await { Ok(()) } else { Err(Obstacle::Unknown(error)) }
    };
    let Some(now) = now else {
        leads().await?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..Default::default() };
        within(limit, &what, api.create(&params, &wanted)).await?;
        return Ok(true);
    };
    if now.address_type != wanted.address_type {
        // It cannot be changed, and nothing is deleted here.
        let (found, needed) = (&now.address_type, &wanted.address_type);
        return Err(Obstacle::Missing(format!(
            "the {id} is for {found}, and this process has an address of {needed}: delete it"
        )));
    }
    if leads_there(&now, &wanted) {
        return Ok(false);
    }
    leads().await?;
    let patch = Patch::Merge(json!({
        "metadata": {
            "resourceVersion": now.metadata.resource_version, "labels": wanted.metadata.labels
        },
        "endpoints": wanted.endpoints, "ports": wanted.ports
    }));
    within(limit, &what, api.patch(&name, &write_params(), &patch)).await?;
    Ok(true)
}

fn leads_there(now: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    let labels = |slice: &EndpointSlice| slice.metadata.labels.clone().unwrap_or_default();
    let (has, needs) = (labels(now), labels(wanted));
    let labelled = needs.iter().all(|(key, value)| has.get(key) == Some(value));
    let places = |slice: &EndpointSlice| {
        let endpoints = slice.endpoints.iter();
        let ready = |endpoint: &Endpoint| endpoint.conditions.as_ref().and_then(|c| c.ready);
        endpoints.map(|one| (one.addresses.clone(), ready(one))).collect::<Vec<_>>()
    };
    let ports = |slice: &EndpointSlice| {
        let ports = slice.ports.iter().flatten();
        ports.map(|port| (port.name.clone(), port.port)).collect::<Vec<_>>()
    };
    labelled && places(now) == places(wanted) && ports(now) == ports(wanted)
}

/// The slice as it has to be; `None` when this process does not know its address.
fn slice(options: &WebhookOptions, port: u16) -> Option<EndpointSlice> {
    let address = options.address?;
    let name = service(&options.name);
    let labels = [
        ("kubernetes.io/service-name".to_owned(), name.clone()),
        ("endpointslice.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned()),
    ];
    let conditions = EndpointConditions { ready: Some(true), ..Default::default() };
    Some(EndpointSlice {
        address_type: if address.is_ipv4() { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: vec![Endpoint {
            addresses: vec![address.to_string()],
            conditions: Some(conditions),
            ..Endpoint::default()
        }],
        metadata: ObjectMeta {
            name: Some(name),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        },
        ports: Some(vec![EndpointPort {
            name: Some("webhook".to_owned()),
            port: Some(i32::from(port)),
            protocol: Some("TCP".to_owned()),
            ..EndpointPort::default()
        }]),
    })
}
