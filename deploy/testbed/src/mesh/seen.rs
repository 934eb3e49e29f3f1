//! Which pod has which address, and in which zone it is: what the server for all pods and
//! the counters know of the cluster. Pods that have gone stay known: requests that are on
//! their way to them are still answered.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::ListParams,
    runtime::watcher::{self, Event, watcher},
};
use tokio::task::JoinHandle;

use crate::error::{Result, Tried};

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodAt {
    /// `namespace/name`.
    pub name: String,
    /// Value of its label `app`, which is the name of its workload.
    pub app: String,
    /// The zone of its node.
    pub zone: String,
    /// Whether it is there.
    pub there: bool,
}

#[derive(Debug, Default)]
struct State {
    zones: BTreeMap<String, String>,
    pods: BTreeMap<IpAddr, PodAt>,
    by_name: BTreeMap<String, IpAddr>,
}

/// Follows the pods until it is dropped. Nodes are those that were there at the start.
#[derive(Debug)]
pub struct Seen {
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Seen {
    /// Starts to follow.
    ///
    /// # Errors
    /// When the nodes cannot be listed.
    pub async fn start(client: &Client) -> Result<Self> {
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list(&ListParams::default()).await.tried(|| "list nodes".to_owned())?;
        let zone = |node: &Node| node.labels().get("topology.kubernetes.io/zone").cloned();
        let zones = nodes.items.iter().filter_map(|node| Some((node.name_any(), zone(node)?)));
        let state = State { zones: zones.collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let pods: Api<Pod> = Api::all(client.clone());
        let followed = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut events = watcher(pods, watcher::Config::default()).boxed();
            while let Some(event) = events.try_next().await.transpose() {
                match event {
                    Ok(Event::Apply(pod) | Event::InitApply(pod)) => note(&followed, &pod, true),
                    Ok(Event::Delete(pod)) => note(&followed, &pod, false),
                    Ok(Event::Init | Event::InitDone) | Err(_) => {}
                }
            }
        });
        Ok(Self { state, task })
    }

    /// The pod that has, or last had, an address.
    #[must_use]
    pub fn pod(&self, address: IpAddr) -> Option<PodAt> {
        lock(&self.state).pods.get(&address).cloned()
    }

    /// The zone of a pod by its name, `namespace/name`.
    #[must_use]
    pub fn zone_of(&self, name: &str) -> Option<String> {
        let state = lock(&self.state);
        let address = state.by_name.get(name)?;
        state.pods.get(address).map(|pod| pod.zone.clone())
    }

    /// The workload of a pod by its name.
    #[must_use]
    pub fn app_of(&self, name: &str) -> Option<String> {
        let state = lock(&self.state);
        let address = state.by_name.get(name)?;
        state.pods.get(address).map(|pod| pod.app.clone())
    }

    /// The pods of a workload that are there, with their addresses.
    #[must_use]
    pub fn pods_of(&self, app: &str) -> Vec<(IpAddr, PodAt)> {
        let state = lock(&self.state);
        let pods = state.pods.iter().filter(|(_, pod)| pod.app == app && pod.there);
        pods.map(|(address, pod)| (*address, pod.clone())).collect()
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(state: &Mutex<State>, pod: &Pod, there: bool) {
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.as_ref());
    let Some(address) = address.and_then(|address| address.parse::<IpAddr>().ok()) else { return };
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    let app = pod.labels().get("app").cloned().unwrap_or_default();
    let mut state = lock(state);
    // An address may have been given to another pod since.
    if !there && state.pods.get(&address).is_some_and(|known| known.name != name) {
        return;
    }
    let zone = state.zones.get(&node).cloned().unwrap_or_default();
    state.by_name.insert(name.clone(), address);
    state.pods.insert(address, PodAt { name, app, zone, there });
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
