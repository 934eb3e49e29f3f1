//! What became of every pod of a namespace, from the API's own watch, every event of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use tokio::task::JoinHandle;

/// The life of one pod.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    /// The node that it was told to run on.
    pub(crate) told: Option<String>,
    /// The node that it runs on.
    pub(crate) node: Option<String>,
    /// How long it was seen without a node.
    pub(crate) waited: Duration,
    /// Its deletion was asked for.
    pub(crate) going: bool,
    seen: Instant,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, Life>,
    /// Ready endpoints by slice, and the service of each.
    slices: BTreeMap<String, (String, usize)>,
    /// The fewest ready endpoints by service since they were asked to be counted.
    fewest: BTreeMap<String, usize>,
}

/// Watches one namespace; ends with the handle.
pub(crate) struct Lives {
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Lives {
    pub(crate) fn watch(client: &Client, namespace: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let (pods, slices) = (
            Api::<Pod>::namespaced(client.clone(), namespace),
            Api::<EndpointSlice>::namespaced(client.clone(), namespace),
        );
        let tasks = vec![
            tokio::spawn(follow_pods(pods, state.clone())),
            tokio::spawn(follow_slices(slices, state.clone())),
        ];
        Self { state, tasks }
    }

    /// All pods that were seen.
    pub(crate) fn all(&self) -> BTreeMap<String, Life> {
        let mut pods = lock(&self.state).pods.clone();
        for life in pods.values_mut() {
            if life.node.is_none() && !life.going {
                life.waited = life.seen.elapsed();
            }
        }
        pods
    }

    /// Ready endpoints by service, now.
    pub(crate) fn endpoints(&self) -> BTreeMap<String, usize> {
        endpoints(&lock(&self.state))
    }

    /// Counts the fewest from now on.
    pub(crate) fn count_fewest(&self) {
        let mut state = lock(&self.state);
        state.fewest = endpoints(&state);
    }

    /// The fewest ready endpoints by service since then.
    pub(crate) fn fewest(&self) -> BTreeMap<String, usize> {
        lock(&self.state).fewest.clone()
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

fn endpoints(state: &State) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (service, ready) in state.slices.values() {
        *counts.entry(service.clone()).or_insert(0) += ready;
    }
    counts
}

async fn follow_pods(api: Api<Pod>, state: Arc<Mutex<State>>) {
    let mut events = watcher(api, watcher::Config::default()).boxed();
    while let Ok(event) = events.try_next().await {
        match event {
            Some(Event::Apply(pod) | Event::InitApply(pod)) => note_pod(&mut lock(&state), &pod),
            Some(Event::Delete(pod)) => {
                note_pod(&mut lock(&state), &pod);
                if let Some(life) = lock(&state).pods.get_mut(&pod.name_any()) {
                    life.going = true;
                }
            }
            Some(Event::Init | Event::InitDone) => {}
            None => return,
        }
    }
}

fn note_pod(state: &mut State, pod: &Pod) {
    let told = pod.annotations().get("stornx.io/steered");
    let life = state.pods.entry(pod.name_any()).or_insert_with(|| Life {
        told: told.and_then(|told| Some(told.rsplit_once('@')?.0.to_owned())),
        node: None,
        waited: Duration::ZERO,
        going: false,
        seen: Instant::now(),
    });
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let going = pod.metadata.deletion_timestamp.is_some();
    if life.node.is_none() && !life.going && (bound.is_some() || going) {
        life.waited = life.seen.elapsed();
    }
    life.node = life.node.take().or(bound);
    life.going |= going;
}

async fn follow_slices(api: Api<EndpointSlice>, state: Arc<Mutex<State>>) {
    let mut events = watcher(api, watcher::Config::default()).boxed();
    while let Ok(event) = events.try_next().await {
        let mut state = lock(&state);
        match event {
            Some(Event::Apply(slice) | Event::InitApply(slice)) => {
                let ready = slice
                    .endpoints
                    .iter()
                    .filter(|one| one.conditions.as_ref().is_some_and(|c| c.ready == Some(true)))
                    .count();
                let service = slice.labels().get("kubernetes.io/service-name").cloned();
                state.slices.insert(slice.name_any(), (service.unwrap_or_default(), ready));
            }
            Some(Event::Delete(slice)) => {
                state.slices.remove(&slice.name_any());
            }
            Some(Event::Init | Event::InitDone) => continue,
            None => return,
        }
        let now = endpoints(&state);
        for (service, fewest) in &mut state.fewest {
            *fewest = (*fewest).min(now.get(service).copied().unwrap_or(0));
        }
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
