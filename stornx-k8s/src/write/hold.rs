//! Raising the minimum of a HorizontalPodAutoscaler for a move, and giving it back.
//!
//! What it was before, and what it was raised to, stands in an annotation of ours on the
//! autoscaler ([`HELD`]), written together with the minimum: so it can be given back by
//! whoever finds it, without a memory. A minimum that somebody else set meanwhile stays, also
//! one that is the raised one: `managedFields` tell whose it is.
//!
//! Both are tied to the version that was read.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::{
    Api, Client,
    api::{ListParams, Patch},
};
use serde_json::{Value, json};
use stornx_core::{
    ids::{PodName, WorkloadRef},
    model::{Autoscaler, CountBy, HeldMinimum},
    ports::PortError,
};

use super::victims::{self, refused};
use crate::{
    error::port_error,
    map::{
        autoscaler::{self, HELD, held_value},
        count::set_by,
    },
    write_params,
};

/// The one autoscaler over a workload, as it was read; of two nobody knows which one
/// decides.
async fn over(
    api: &Api<HorizontalPodAutoscaler>,
    workload: &WorkloadRef,
    what: &str,
) -> Result<(HorizontalPodAutoscaler, Autoscaler), PortError> {
    let list = api.list(&ListParams::default()).await;
    let list = list.map_err(|error| port_error(what, &error))?.items;
    let read = |one: HorizontalPodAutoscaler| {
        let record = autoscaler::hpa(&one).filter(|record| record.target == *workload)?;
        Some((one, record.autoscaler))
    };
    let mut over: Vec<_> = list.into_iter().filter_map(read).collect();
    match (over.pop(), over.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(refused(what, "no autoscaler is over it")),
        (Some(_), others) => Err(refused(what, format!("{} autoscalers are over it", others + 1))),
    }
}

fn autoscalers(client: &Client, namespace: &str) -> Api<HorizontalPodAutoscaler> {
    Api::namespaced(client.clone(), namespace)
}

/// The minimum to give back to an autoscaler, if it is still ours to give: nobody else has
/// set it since.
pub(crate) fn before(one: &HorizontalPodAutoscaler) -> Option<u32> {
    let bounds = autoscaler::hpa(one)?.autoscaler;
    let ours = set_by(&one.metadata, "f:minReplicas") != CountBy::Others;
    bounds.held.filter(|held| ours && bounds.min == held.raised).map(|held| held.before)
}

/// Takes our annotation off an autoscaler as it was read, and gives its minimum back.
pub(crate) async fn clear(client: &Client, one: &HorizontalPodAutoscaler) -> kube::Result<()> {
    let namespace = one.metadata.namespace.as_deref().unwrap_or_default();
    set(&autoscalers(client, namespace), one, before(one), Value::Null).await
}

/// Sets the minimum, if one is given, and the annotation with it.
async fn set(
    api: &Api<HorizontalPodAutoscaler>,
    one: &HorizontalPodAutoscaler,
    min: Option<u32>,
    held: Value,
) -> kube::Result<()> {
    let meta = &one.metadata;
    let mut patch = json!({
        "metadata": { "resourceVersion": meta.resource_version, "annotations": { HELD: held } }
    });
    if let Some(min) = min {
        patch["spec"] = json!({ "minReplicas": min });
    }
    let name = meta.name.as_deref().unwrap_or_default();
    api.patch(name, &write_params(), &Patch::Merge(patch)).await.map(drop)
}

/// Marks the victim, then raises the minimum to one more than there are.
pub(super) async fn raise(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    victim: &PodName,
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    there.expect_count(what, observed)?;
    let api = autoscalers(client, workload.namespace().as_str());
    let (one, bounds) = over(&api, workload, what).await?;
    let name = one.metadata.name.as_deref().unwrap_or_default();
    let raised = observed.saturating_add(1);
    if bounds.held.is_some() {
        return Err(refused(what, format!("the minimum of {name} is raised already")));
    }
    if raised > bounds.max {
        return Err(refused(what, format!("{name} allows no more than {}", bounds.max)));
    }
    let held = held_value(HeldMinimum { before: bounds.min, raised });
    there.mark_first(what, victim).await?;
    let done = set(&api, &one, Some(raised), Value::String(held)).await;
    let done = done.map_err(|error| port_error(what, &error));
    if let Err(error) = &done {
        there.take_back(victim, error).await;
    }
    done
}

/// Gives the minimum back. The replica that is to go is the only one marked then, so that no
/// other goes first; `stands_in` must be there and Ready then.
pub(super) async fn give_back(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    goes: Option<&PodName>,
    stands_in: Option<&PodName>,
) -> Result<(), PortError> {
    let api = autoscalers(client, workload.namespace().as_str());
    let (one, bounds) = over(&api, workload, what).await?;
    if bounds.held.is_none() {
        let name = one.metadata.name.as_deref().unwrap_or_default();
        return Err(refused(what, format!("the minimum of {name} is not raised")));
    }
    let there = victims::Replicas::read(client, workload, what).await?;
    if let Some(name) = stands_in {
        there.expect_ready(what, name)?;
    }
    match goes {
        Some(name) => there.mark(what, name).await?,
        None => there.unmark_others(what, &[]).await?,
    }
    let done = clear(client, &one).await.map_err(|error| port_error(what, &error));
    // The mark of a victim stands until the move is over, whoever wrote meanwhile.
    if let (Err(error), Some(name), None) = (&done, goes, stands_in) {
        there.take_back(name, error).await;
    }
    done
}
