//! What the API server said when: endpoints, places of nodes and routing rules of one
//! namespace, as a watch of the test sees them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::{core::v1::Node, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use stornx_testbed::wait::until;
use tokio::task::JoinHandle;

use super::{Failure, SOON};

/// One thing that changed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    /// The ready addresses of a Service.
    Endpoints(String),
    /// A node came, went, or its readiness or place is another.
    Node(String),
    /// The weights of a rule, by the name of the rule.
    Weights(String, Value),
    /// A rule, by its name, with its manager's name and its spec.
    Rule(String, Value),
}

#[derive(Debug, Default)]
struct State {
    tape: Vec<(Instant, Said)>,
    slices: BTreeMap<String, (String, BTreeSet<String>)>,
    nodes: BTreeMap<String, String>,
    rules: BTreeMap<String, Value>,
}

/// Records until it is dropped.
pub(crate) struct Tape {
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Tape {
    pub(crate) fn of(client: &Client, namespace: &str) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let rules = Api::namespaced_with(client.clone(), namespace, &destination_rules());
        let tasks = vec![
            follow(Api::namespaced(client.clone(), namespace), state.clone(), slices),
            follow(Api::all(client.clone()), state.clone(), nodes),
            follow(rules, state.clone(), weights),
        ];
        Self { state, tasks }
    }

    /// What was said so far.
    pub(crate) fn len(&self) -> usize {
        lock(&self.state).tape.len()
    }

    /// What was said from then on.
    pub(crate) fn since(&self, from: usize) -> Vec<(Instant, Said)> {
        lock(&self.state).tape[from..].to_vec()
    }

    /// The weights of a rule as they stand.
    pub(crate) fn stands(&self, rule: &str) -> Option<Value> {
        lock(&self.state).rules.get(rule).cloned()
    }

    /// Waits until nothing was said for so long.
    pub(crate) async fn quiet(&self, length: Duration) -> Result<(), Failure> {
        let quiet = until("nothing to change any more", SOON, || {
            let last = lock(&self.state).tape.last().map(|(at, said)| (at.elapsed(), said.clone()));
            std::future::ready(match last {
                Some((ago, said)) if ago < length => Err(format!("{said:?}")),
                _ => Ok(()),
            })
        });
        Ok(quiet.await?)
    }

    /// The time from the first thing said after `from` that is a cause to the first after
    /// it that is an effect.
    pub(crate) async fn between(
        &self,
        from: usize,
        cause: impl Fn(&Said) -> bool,
        effect: impl Fn(&Said) -> bool,
    ) -> Result<Duration, Failure> {
        let found = until("a change and what follows of it", SOON, || {
            let said = self.since(from);
            let began = said.iter().position(|(_, said)| cause(said));
            let ended = began.and_then(|began| {
                let after = &said[began..];
                Some((after[0].0, after.iter().find(|(_, said)| effect(said))?.0))
            });
            std::future::ready(ended.ok_or_else(|| format!("{said:?}")))
        });
        let (began, ended) = found.await?;
        Ok(ended.duration_since(began))
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Istio's DestinationRules.
pub(crate) fn destination_rules() -> ApiResource {
    ApiResource {
        group: "networking.istio.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "networking.istio.io/v1".to_owned(),
        kind: "DestinationRule".to_owned(),
        plural: "destinationrules".to_owned(),
    }
}

/// The weights in a rule.
pub(crate) fn distribute(rule: &DynamicObject) -> Value {
    let at = "/spec/trafficPolicy/loadBalancer/localityLbSetting/distribute";
    rule.data.pointer(at).cloned().unwrap_or_default()
}

fn follow<K>(
    api: Api<K>,
    state: Arc<Mutex<State>>,
    note: fn(&mut State, &K, bool),
) -> JoinHandle<()>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + 'static,
{
    tokio::spawn(async move {
        let mut events = watcher(api, watcher::Config::default()).boxed();
        while let Some(event) = events.try_next().await.transpose() {
            match event {
                Ok(Event::Apply(one) | Event::InitApply(one)) => {
                    note(&mut lock(&state), &one, true)
                }
                Ok(Event::Delete(one)) => note(&mut lock(&state), &one, false),
                Ok(Event::Init | Event::InitDone) | Err(_) => {}
            }
        }
    })
}

fn slices(state: &mut State, slice: &EndpointSlice, there: bool) {
    let service = slice.labels().get("kubernetes.io/service-name").cloned().unwrap_or_default();
    let ready = slice
        .endpoints
        .iter()
        .filter(|one| there && one.conditions.as_ref().is_some_and(|all| all.ready == Some(true)));
    let ready: BTreeSet<String> = ready.flat_map(|one| one.addresses.clone()).collect();
    let before = state.slices.insert(slice.name_any(), (service.clone(), ready.clone()));
    if before.map_or(BTreeSet::new(), |(_, before)| before) != ready {
        state.tape.push((Instant::now(), Said::Endpoints(service)));
    }
}

fn nodes(state: &mut State, node: &Node, there: bool) {
    let zone = node.labels().get("topology.kubernetes.io/zone").cloned().unwrap_or_default();
    let conditions = node.status.as_ref().and_then(|status| status.conditions.clone());
    let ready = conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True");
    let is = format!("{there} {zone} {ready}");
    if state.nodes.insert(node.name_any(), is.clone()).as_ref() != Some(&is) {
        state.tape.push((Instant::now(), Said::Node(node.name_any())));
    }
}

fn weights(state: &mut State, rule: &DynamicObject, there: bool) {
    let (now, name) = (Instant::now(), rule.name_any());
    let weights = if there { distribute(rule) } else { Value::Null };
    state.tape.push((now, Said::Rule(name.clone(), rule.data.clone())));
    let before = state.rules.insert(name.clone(), weights.clone());
    if before.unwrap_or_default() != weights {
        state.tape.push((now, Said::Weights(name, weights)));
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
