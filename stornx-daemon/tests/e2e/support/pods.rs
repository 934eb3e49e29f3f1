//! What became of every pod of a namespace, from the API's own watch, every event of it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, ResourceExt as _,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
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
    /// Value of its label `app`.
    app: String,
    marked: bool,
    seen: Instant,
}

/// The least and the most of something since it was asked to be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

impl Range {
    const fn of(value: usize) -> Self {
        Self { least: value, most: value }
    }

    fn note(&mut self, value: usize) {
        *self = Self { least: self.least.min(value), most: self.most.max(value) };
    }
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<String, Life>,
    /// Ready endpoints by slice, and the service of each.
    slices: BTreeMap<String, (String, usize)>,
    /// The fewest ready endpoints by service since they were asked to be counted.
    fewest: BTreeMap<String, usize>,
    /// Pods that are not going, by the label `app`.
    alive: BTreeMap<String, Range>,
    /// Counts that were asked for, by Deployment.
    counts: BTreeMap<String, Range>,
    /// The last of each of these counts.
    last: BTreeMap<String, usize>,
    /// A watch broke off: not every event was seen.
    lost: bool,
    /// What changed, in the order in which it was seen.
    story: Vec<(Instant, String)>,
}

/// Watches one namespace; ends with the handle.
pub(crate) struct Lives {
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Lives {
    pub(crate) fn watch(client: &Client, namespace: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let tasks = vec![
            follow(Api::namespaced(client.clone(), namespace), state.clone(), follow_pods),
            follow(Api::namespaced(client.clone(), namespace), state.clone(), follow_slices),
            follow(Api::namespaced(client.clone(), namespace), state.clone(), follow_counts),
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

    /// Counts the fewest, and the most pods and replicas asked for, from now on.
    pub(crate) fn count_fewest(&self) {
        let mut state = lock(&self.state);
        state.fewest = endpoints(&state);
        for range in state.counts.values_mut() {
            *range = Range::of(range.most);
        }
        state.alive = alive(&state).into_iter().map(|(app, now)| (app, Range::of(now))).collect();
    }

    /// Pods of a workload that were not going, since then, at any event.
    pub(crate) fn alive(&self, app: &str) -> Option<Range> {
        lock(&self.state).alive.get(app).copied()
    }

    /// Counts of a Deployment, since then, at any event.
    pub(crate) fn counts(&self, name: &str) -> Option<Range> {
        lock(&self.state).counts.get(name).copied()
    }

    /// The last that changed of marks, of what is going and of counts, each with the
    /// milliseconds that have passed since, for whoever looks at a failure.
    pub(crate) fn story(&self) -> String {
        let state = lock(&self.state);
        let told =
            state.story.iter().map(|(at, what)| format!("-{} {what}", at.elapsed().as_millis()));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Pods that are not going and carry a mark of StornX.
    pub(crate) fn marked(&self) -> Vec<String> {
        let state = lock(&self.state);
        let marked = state.pods.iter().filter(|(_, life)| life.marked && !life.going);
        marked.map(|(name, _)| name.clone()).collect()
    }

    /// Whether every event was seen.
    pub(crate) fn is_whole(&self) -> bool {
        !lock(&self.state).lost
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

fn alive(state: &State) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for life in state.pods.values() {
        *counts.entry(life.app.clone()).or_insert(0) += usize::from(!life.going);
    }
    counts
}

fn follow<K>(
    api: Api<K>,
    state: Arc<Mutex<State>>,
    note: fn(&mut State, Event<K>),
) -> JoinHandle<()>
where
    K: kube::Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).boxed();
        loop {
            match events.try_next().await {
                Ok(Some(event)) => note(&mut lock(&state), event),
                Ok(None) => return,
                Err(_) => lock(&state).lost = true,
            }
        }
    })
}

fn follow_pods(state: &mut State, event: Event<Pod>) {
    match event {
        Event::Apply(pod) | Event::InitApply(pod) => note_pod(state, &pod),
        Event::Delete(pod) => {
            note_pod(state, &pod);
            if let Some(life) = state.pods.get_mut(&pod.name_any()) {
                life.going = true;
            }
        }
        Event::Init | Event::InitDone => return,
    }
    for (app, now) in alive(state) {
        state.alive.entry(app).or_insert(Range::of(now)).note(now);
    }
}

fn follow_counts(state: &mut State, event: Event<Deployment>) {
    let (Event::Apply(one) | Event::InitApply(one)) = event else { return };
    let count = one.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let count = usize::try_from(count).unwrap_or(0);
    let name = one.name_any();
    if state.last.insert(name.clone(), count) != Some(count) {
        state.story.push((Instant::now(), format!("{name} {count}")));
    }
    state.counts.entry(name).or_insert(Range::of(count)).note(count);
}

fn note_pod(state: &mut State, pod: &Pod) {
    let told = pod.annotations().get("stornx.io/steered");
    let life = state.pods.entry(pod.name_any()).or_insert_with(|| Life {
        told: told.and_then(|told| Some(told.rsplit_once('@')?.0.to_owned())),
        node: None,
        waited: Duration::ZERO,
        going: false,
        app: pod.labels().get("app").cloned().unwrap_or_default(),
        marked: false,
        seen: Instant::now(),
    });
    let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let going = pod.metadata.deletion_timestamp.is_some();
    if life.node.is_none() && !life.going && (bound.is_some() || going) {
        life.waited = life.seen.elapsed();
    }
    life.node = life.node.take().or(bound);
    let marked = pod.annotations().contains_key("stornx.io/victim");
    let mut said = Vec::new();
    if life.marked != marked {
        said.push(if marked { "marked" } else { "unmarked" });
    }
    if going && !life.going {
        said.push("going");
    }
    life.marked = marked;
    life.going |= going;
    let name = pod.name_any();
    state.story.extend(said.into_iter().map(|what| (Instant::now(), format!("{name} {what}"))));
}

fn follow_slices(state: &mut State, event: Event<EndpointSlice>) {
    match event {
        Event::Apply(slice) | Event::InitApply(slice) => {
            let ready = slice
                .endpoints
                .iter()
                .filter(|one| one.conditions.as_ref().is_some_and(|c| c.ready == Some(true)))
                .count();
            let service = slice.labels().get("kubernetes.io/service-name").cloned();
            state.slices.insert(slice.name_any(), (service.unwrap_or_default(), ready));
        }
        Event::Delete(slice) => {
            state.slices.remove(&slice.name_any());
        }
        Event::Init | Event::InitDone => return,
    }
    let now = endpoints(state);
    for (service, fewest) in &mut state.fewest {
        *fewest = (*fewest).min(now.get(service).copied().unwrap_or(0));
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
