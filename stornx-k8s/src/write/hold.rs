//! Raising the minimum of a HorizontalPodAutoscaler for a move, and giving it back.
//!
//! What it was before, and what it was raised to, stands in an annotation of ours on the
//! autoscaler ([`HELD`]), written together with the minimum: so it can be given back by
//! whoever finds it, without a memory. A minimum that somebody else set meanwhile stays.
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
    model::HeldMinimum,
    ports::PortError,
};

use super::victims::{self, refused};
use crate::{
    error::port_error,
    map::autoscaler::{self, HELD, held_value},
    write_params,
};

/// An autoscaler as it was read.
struct Found {
    api: Api<HorizontalPodAutoscaler>,
    name: String,
    version: String,
    bounds: stornx_core::model::Autoscaler,
}

impl Found {
    /// The one over a workload; of two nobody knows which one decides.
    async fn read(client: &Client, workload: &WorkloadRef, what: &str) -> Result<Self, PortError> {
        let api: Api<HorizontalPodAutoscaler> =
            Api::namespaced(client.clone(), workload.namespace().as_str());
        let list = api.list(&ListParams::default()).await;
        let mut over = list.map_err(|error| port_error(what, &error))?.items;
        over.retain(|one| autoscaler::hpa(one).is_some_and(|record| record.target == *workload));
        let [one] = over.as_slice() else {
            return Err(refused(what, format!("{} autoscalers are over it", over.len())));
        };
        let Some(record) = autoscaler::hpa(one) else {
            return Err(refused(what, "its autoscaler cannot be read"));
        };
        Ok(Self {
            api,
            name: one.metadata.name.clone().unwrap_or_default(),
            version: one.metadata.resource_version.clone().unwrap_or_default(),
            bounds: record.autoscaler,
        })
    }

    /// Sets the minimum, if one is given, and the annotation with it.
    async fn set(&self, what: &str, min: Option<u32>, held: Value) -> Result<(), PortError> {
        let mut patch = json!({
            "metadata": { "resourceVersion": self.version, "annotations": { HELD: held } }
        });
        if let Some(min) = min {
            patch["spec"] = json!({ "minReplicas": min });
        }
        let done = self.api.patch(&self.name, &write_params(), &Patch::Merge(patch)).await;
        done.map(drop).map_err(|error| port_error(what, &error))
    }
}

/// Raises the minimum to one more than there are.
pub(super) async fn raise(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    observed: u32,
    victim: &PodName,
) -> Result<(), PortError> {
    let there = victims::Replicas::read(client, workload, what).await?;
    there.expect_count(what, observed)?;
    there.expect_there(what, victim)?;
    let found = Found::read(client, workload, what).await?;
    let raised = observed.saturating_add(1);
    if found.bounds.held.is_some() {
        return Err(refused(what, format!("the minimum of {} is raised already", found.name)));
    }
    if raised > found.bounds.max {
        let detail = format!("{} allows no more than {}", found.name, found.bounds.max);
        return Err(refused(what, detail));
    }
    let held = held_value(HeldMinimum { before: found.bounds.min, raised });
    found.set(what, Some(raised), Value::String(held)).await
}

/// Gives the minimum back. The replica that is to go is marked before, so that no other
/// goes first; `stands_in` must be there and Ready then.
pub(super) async fn give_back(
    client: &Client,
    workload: &WorkloadRef,
    what: &str,
    goes: Option<&PodName>,
    stands_in: Option<&PodName>,
) -> Result<(), PortError> {
    let found = Found::read(client, workload, what).await?;
    let Some(held) = found.bounds.held else {
        return Err(refused(what, format!("the minimum of {} is not raised", found.name)));
    };
    let there = victims::Replicas::read(client, workload, what).await?;
    if let Some(name) = stands_in {
        there.expect_ready(what, name)?;
    }
    if let Some(name) = goes {
        there.mark(what, name).await?;
    }
    // What somebody else set meanwhile is no longer ours to give back.
    let before = (found.bounds.min == held.raised).then_some(held.before);
    let done = found.set(what, before, Value::Null).await;
    match (&done, goes) {
        // One without an answer may still arrive.
        (Err(error), Some(name)) if !matches!(error, PortError::Unavailable { .. }) => {
            there.take_back(name).await;
        }
        _ => {}
    }
    done
}
