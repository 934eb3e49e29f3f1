//! Taking back everything that StornX left in a cluster: what `stornx cleanup` does once no
//! move is under way any more. Asks the server and no watch; a second run finds nothing.
//!
//! | room | takes back |
//! | --- | --- |
//! | `minima` | minima of autoscalers that a move raised |
//! | `pods` | marks of replicas that were to go, and what pods were told |
//! | `routes` | weights in routing rules, and rules of our own |
//! | `nodes` | names of nodes as subzones, once no rule is left anywhere that may name them |
//! | `own` | the registration of the webhook, the address behind its Service, the memory, the lease |
//!
//! The memory goes last, once all else is done: what was not is still known to a next run.
//! What a pod was told lies in its specification as well, which nobody can change; with
//! the pod it goes.

mod minima;
mod nodes;
mod own;
mod pods;
mod routes;

use std::{collections::BTreeSet, fmt, time::Duration};

use async_trait::async_trait;
use kube::{
    Api, Client,
    api::{ListParams, ObjectList},
};
use serde::de::DeserializeOwned;
use stornx_core::{
    ids::Namespace,
    ports::{LeaderGate, PortError},
};

use crate::{connect::Connection, error::within};

/// Where and how to clean up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CleanOptions {
    /// The namespaces that were managed.
    pub namespaces: BTreeSet<Namespace>,
    /// Where the memory lies.
    pub namespace: Namespace,
    /// The name of the memory and of the webhook's registration.
    pub name: String,
    /// The webhook was served with a given certificate: whom to trust is not ours to take back.
    pub keeps_trust: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// For one request; for one routing rule, all its requests.
    pub timeout: Duration,
}

/// Something that was taken back, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// Kind and name of the object.
    pub object: String,
    /// What was done about it.
    pub done: String,
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.done)
    }
}

/// What is at hand while cleaning.
struct Room<'a> {
    client: &'a Client,
    options: &'a CleanOptions,
    gate: &'a dyn LeaderGate,
    note: &'a mut (dyn FnMut(Cleaned) + Send),
    /// What could not be taken back.
    failed: Vec<PortError>,
}

impl Room<'_> {
    /// Notes what was done, or would be.
    fn note(&mut self, object: impl Into<String>, done: impl Into<String>) {
        (self.note)(Cleaned { object: object.into(), done: done.into() });
    }

    /// What one object comes to: one that cannot be taken back does not keep the others.
    ///
    /// # Errors
    /// Another process may write by now: nothing else is tried.
    fn settle(&mut self, result: Result<(), PortError>) -> Result<(), PortError> {
        match result {
            Err(error @ PortError::NotLeader { .. }) => Err(error),
            Err(error) => {
                self.failed.push(error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Whether it is to be done; a dry run says no.
    ///
    /// # Errors
    /// Another process may write by now.
    async fn acts(&self, what: &str) -> Result<bool, PortError> {
        if self.options.dry_run {
            return Ok(false);
        }
        let error = || PortError::NotLeader { what: what.to_owned() };
        if self.gate.may_write().await { Ok(true) } else { Err(error()) }
    }

    /// One request.
    async fn ask<T>(
        &self,
        what: &str,
        request: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, PortError> {
        within(self.options.timeout, what, request).await
    }

    /// All objects of a kind in a namespace.
    async fn list<K>(&self, namespace: &Namespace, kinds: &str) -> Result<Vec<K>, PortError>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + fmt::Debug
            + DeserializeOwned,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace.as_str());
        let what = format!("list {kinds} of {namespace}");
        let all = ListParams::default();
        let list: ObjectList<K> = self.ask(&what, api.list(&all)).await?;
        Ok(list.items)
    }
}

/// Takes everything back, and tells `note` of each as it is done, or with
/// [`CleanOptions::dry_run`] what would be. Writes only while `gate` lets it. What cannot be
/// taken back keeps the memory where it is, and nothing else.
///
/// # Errors
/// Each that could not be read or written; what was noted is done.
pub async fn clean(
    connection: &Connection,
    options: &CleanOptions,
    gate: &dyn LeaderGate,
    note: &mut (dyn FnMut(Cleaned) + Send),
) -> Result<(), Vec<PortError>> {
    let client = connection.client();
    let mut room = Room { client, options, gate, note, failed: Vec::new() };
    match everything(&mut room).await {
        Ok(()) if room.failed.is_empty() => Ok(()),
        Ok(()) => Err(room.failed),
        Err(last) => {
            room.failed.push(last);
            Err(room.failed)
        }
    }
}

async fn everything(room: &mut Room<'_>) -> Result<(), PortError> {
    for namespace in &room.options.namespaces {
        let done = minima::clean(room, namespace).await;
        room.settle(done)?;
        let done = pods::clean(room, namespace).await;
        room.settle(done)?;
        let done = routes::clean(room, namespace).await;
        room.settle(done)?;
    }
    let done = routes::elsewhere(room).await;
    room.settle(done)?;
    if room.failed.is_empty() {
        let done = nodes::clean(room).await;
        room.settle(done)?;
    }
    let done = own::registration(room).await;
    room.settle(done)?;
    let done = own::endpoint(room).await;
    room.settle(done)?;
    if room.failed.is_empty() { own::memory(room).await } else { Ok(()) }
}

/// Deletes the lease that nobody holds any more, after [`clean`] and after it was given
/// back.
///
/// # Errors
/// [`PortError::Conflict`] when somebody holds it; others as of the request.
pub async fn clean_lease(
    connection: &Connection,
    options: &CleanOptions,
    note: &mut (dyn FnMut(Cleaned) + Send),
) -> Result<(), PortError> {
    let gate = &Nobody;
    let client = connection.client();
    own::lease(&mut Room { client, options, gate, note, failed: Vec::new() }).await
}

/// Where the lease is given back, nothing else is written any more.
struct Nobody;

#[async_trait]
impl LeaderGate for Nobody {
    async fn may_write(&self) -> bool {
        false
    }
}
