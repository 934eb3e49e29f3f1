//! Keeps nodes, pods and DestinationRules as they are now, and a number that changes with
//! them. A watch that fails is started again after a second; until then the last state
//! stands, as it does in a proxy without its control plane. Where the definition of
//! DestinationRules is not there, there are none.

use std::{
    fmt::Debug,
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, Resource,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{
        reflector::{self, Store, store::Writer},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::error::{BedError, Result};

/// Before a watch that failed is started again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long the first lists may take.
const LISTED: Duration = Duration::from_secs(30);

/// What is watched.
#[derive(Debug)]
pub(super) struct Watched {
    nodes: Store<Node>,
    pods: Store<Pod>,
    rules: Store<DynamicObject>,
    version: Arc<AtomicU64>,
}

/// Starts the watches.
pub(super) fn start(client: &Client) -> (Watched, Vec<JoinHandle<()>>) {
    let version = Arc::new(AtomicU64::new(1));
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    let kind = ApiResource::from_gvk(&kind);
    let (nodes, watching_nodes) = follow(Api::all(client.clone()), Writer::default(), &version);
    let (pods, watching_pods) = follow(Api::all(client.clone()), Writer::default(), &version);
    let (rules, watching_rules) =
        follow(Api::all_with(client.clone(), &kind), Writer::new(kind.clone()), &version);
    (Watched { nodes, pods, rules, version }, vec![watching_nodes, watching_pods, watching_rules])
}

fn follow<K>(api: Api<K>, writer: Writer<K>, version: &Arc<AtomicU64>) -> (Store<K>, JoinHandle<()>)
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Send + Sync,
{
    let store = writer.as_reader();
    let version = Arc::clone(version);
    let task = tokio::spawn(async move {
        let events = reflector::reflector(writer, watcher(api, watcher::Config::default()));
        pin_mut!(events);
        while let Some(event) = events.next().await {
            match event {
                Ok(_) => {
                    version.fetch_add(1, Ordering::Release);
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    });
    (store, task)
}

impl Watched {
    /// Waits until nodes and pods have been listed once.
    pub(super) async fn wait_listed(&self) -> Result<()> {
        let listed = async {
            self.nodes.wait_until_ready().await.is_ok()
                && self.pods.wait_until_ready().await.is_ok()
        };
        match tokio::time::timeout(LISTED, listed).await {
            Ok(true) => Ok(()),
            _ => Err(BedError::Deadline {
                what: "the first list of nodes and pods".to_owned(),
                limit: LISTED,
                last: "nothing".to_owned(),
            }),
        }
    }

    /// Changes with every change.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        self.nodes.state()
    }

    pub(super) fn pods(&self) -> Vec<Arc<Pod>> {
        self.pods.state()
    }

    pub(super) fn rules(&self) -> Vec<Arc<DynamicObject>> {
        self.rules.state()
    }
}
