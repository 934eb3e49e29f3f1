//! A small Kubernetes API server in this process: objects with versions, lists in
//! pages, watches, patches with preconditions, and faults on demand.
//!
//! It knows nothing of what objects mean, except that `/scale` shows and sets
//! `spec.replicas`, that a patch may not change a `uid`, and that a Lease which is replaced
//! and not there is created unless its `uid` is named.

#![allow(dead_code)] // Each test binary uses its own part.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, channel::Channel};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use stornx_k8s::{ConnectOptions, Connection};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// How often optional APIs are looked for in tests.
pub(crate) const LOOK: Duration = Duration::from_secs(30);

/// What goes wrong with the next matching requests.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// It is answered with this status.
    Status(u16),
    /// It is never answered.
    Silence,
    /// It is carried out, and answered with this status.
    DoneBut(u16),
    /// Somebody else is first: an object of this collection, by its key, is changed.
    Overtaken(&'static str, &'static str, fn(&mut Value)),
}

#[derive(Default)]
struct State {
    version: u64,
    /// Objects by collection (`/apis/apps/v1/deployments`), then `namespace/name`.
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    events: Vec<(u64, String, &'static str, Value)>,
    /// Versions before this one are gone.
    compacted: u64,
    watchers: Vec<(String, UnboundedSender<Bytes>)>,
    apis: BTreeMap<String, Vec<String>>,
    faults: Vec<(String, String, VecDeque<Fault>)>,
    requests: Vec<String>,
    /// Answers that never come.
    held: Vec<tower_test::mock::SendResponse<Response<Channel<Bytes>>>>,
}

/// The server.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<State>>);

struct Path {
    collection: String,
    namespace: Option<String>,
    name: Option<String>,
    scale: bool,
}

impl Path {
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (prefix, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => (format!("/api/{version}"), rest),
            ["apis", group, version, rest @ ..] => (format!("/apis/{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let plural = rest.first()?;
        Some(Self {
            collection: format!("{prefix}/{plural}"),
            namespace: namespace.map(ToOwned::to_owned),
            name: rest.get(1).map(|name| (*name).to_owned()),
            scale: rest.get(2) == Some(&"scale"),
        })
    }

    fn key(&self) -> String {
        let name = self.name.as_deref().unwrap_or_default();
        self.namespace.as_ref().map_or(name.to_owned(), |namespace| format!("{namespace}/{name}"))
    }
}

fn query<'a>(uri: &'a http::Uri, name: &str) -> Option<&'a str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let reason = match code {
        404 => "NotFound",
        409 => "Conflict",
        _ => "Test",
    };
    (
        code,
        json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message, "reason": reason, "code": code
        }),
    )
}

impl Api {
    /// A server of Kubernetes 1.34 with nothing in it.
    pub(crate) fn new() -> Self {
        let api = Self::default();
        for required in [
            "apps/v1",
            "autoscaling/v2",
            "coordination.k8s.io/v1",
            "discovery.k8s.io/v1",
            "events.k8s.io/v1",
            "policy/v1",
        ] {
            api.serve(required, &[]);
        }
        api
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A group appears, with these resources.
    pub(crate) fn serve(&self, group_version: &str, plurals: &[&str]) {
        let plurals = plurals.iter().map(|plural| (*plural).to_owned()).collect();
        self.state().apis.insert(group_version.to_owned(), plurals);
    }

    /// A group vanishes, with all objects in it.
    pub(crate) fn unserve(&self, group_version: &str) {
        let mut state = self.state();
        state.apis.remove(group_version);
        let prefix = format!("/apis/{group_version}/");
        state.objects.retain(|collection, _| !collection.starts_with(&prefix));
        state.watchers.retain(|(collection, _)| !collection.starts_with(&prefix));
    }

    /// The next requests whose method and path contain these go wrong, one by one.
    pub(crate) fn fail(&self, method: &str, path: &str, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().collect();
        self.state().faults.push((method.to_owned(), path.to_owned(), faults));
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// Ends every watch of a collection; those who come back are too late for what was
    /// before now.
    pub(crate) fn compact(&self, collection: &str) {
        let mut state = self.state();
        state.version += 1;
        state.compacted = state.version;
        state.watchers.retain(|(watched, _)| watched != collection);
    }

    /// Ends every watch of a collection.
    pub(crate) fn close(&self, collection: &str) {
        self.state().watchers.retain(|(watched, _)| watched != collection);
    }

    /// How many watches of a collection are open.
    pub(crate) fn watchers(&self, collection: &str) -> usize {
        self.state().watchers.iter().filter(|(watched, _)| watched == collection).count()
    }

    /// What was asked so far, `METHOD path?query`.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// Forgets what was asked.
    pub(crate) fn forget_requests(&self) {
        self.state().requests.clear();
    }

    /// Sets an object.
    pub(crate) fn put(&self, collection: &str, object: Value) -> Value {
        self.state().put(collection, object)
    }

    /// Sets an object without telling anybody: as if the event had been lost.
    pub(crate) fn remove_quietly(&self, collection: &str, key: &str) {
        let mut state = self.state();
        state.version += 1;
        state.objects.get_mut(collection).unwrap().remove(key).unwrap();
    }

    /// Removes an object.
    pub(crate) fn remove(&self, collection: &str, key: &str) {
        let mut state = self.state();
        let mut object = state.objects.get_mut(collection).unwrap().remove(key).unwrap();
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell(collection, "DELETED", object);
    }

    /// An object.
    pub(crate) fn get(&self, collection: &str, key: &str) -> Option<Value> {
        self.state().objects.get(collection)?.get(key).cloned()
    }

    /// All objects of a collection.
    pub(crate) fn all(&self, collection: &str) -> Vec<Value> {
        self.state().objects.get(collection).into_iter().flatten().map(|(_, o)| o.clone()).collect()
    }

    /// A client of this server.
    pub(crate) fn client(&self) -> Client {
        let (service, mut handle) =
            tower_test::mock::pair::<Request<Body>, Response<Channel<Bytes>>>();
        handle.allow(u64::MAX >> 1);
        let api = self.clone();
        tokio::spawn(async move {
            while let Some((request, send)) = handle.next_request().await {
                api.answer(request, send).await;
            }
        });
        Client::new(service, "default")
    }

    /// A connection to this server.
    pub(crate) async fn connect(&self) -> Connection {
        let options = ConnectOptions { look_every: LOOK, ..ConnectOptions::default() };
        Connection::over(self.client(), &options).await.unwrap()
    }

    async fn answer(
        &self,
        request: Request<Body>,
        send: tower_test::mock::SendResponse<Response<Channel<Bytes>>>,
    ) {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = format!("{} {}", head.method, head.uri);
        let fault = {
            let mut state = self.state();
            state.requests.push(text.clone());
            let path = head.uri.to_string();
            state.faults.iter_mut().find_map(|(method, part, faults)| {
                let hit = head.method.as_str() == method && path.contains(&*part);
                hit.then(|| faults.pop_front()).flatten()
            })
        };
        let (code, value) = match fault {
            Some(Fault::Silence) => {
                self.state().held.push(send);
                return;
            }
            Some(Fault::Status(code)) => failure(code, "a fault of the test"),
            Some(Fault::DoneBut(code)) => {
                self.state().handle(&head, &body);
                failure(code, "a fault of the test")
            }
            Some(Fault::Overtaken(collection, key, change)) => {
                let mut state = self.state();
                let mut object = state.objects[collection][key].clone();
                change(&mut object);
                state.put(collection, object);
                state.handle(&head, &body)
            }
            None if query(&head.uri, "watch") == Some("true") => {
                match self.state().watch(&head.uri) {
                    Ok(channel) => {
                        send.send_response(Response::new(channel));
                        return;
                    }
                    Err(answer) => answer,
                }
            }
            None => self.state().handle(&head, &body),
        };
        let (mut sender, channel) = Channel::new(1);
        sender.send_data(Bytes::from(value.to_string())).await.unwrap();
        send.send_response(Response::builder().status(code).body(channel).unwrap());
    }
}

impl State {
    fn put(&mut self, collection: &str, mut object: Value) -> Value {
        self.version += 1;
        let meta = &mut object["metadata"];
        meta["resourceVersion"] = json!(self.version.to_string());
        if meta.get("name").is_none() {
            meta["name"] = json!(format!(
                "{}{}",
                meta["generateName"].as_str().unwrap_or_default(),
                self.version
            ));
        }
        let name = meta["name"].as_str().unwrap().to_owned();
        let key = match meta["namespace"].as_str() {
            Some(namespace) => format!("{namespace}/{name}"),
            None => name,
        };
        if meta.get("uid").is_none() {
            meta["uid"] = json!(format!("uid-{}", self.version));
        }
        let objects = self.objects.entry(collection.to_owned()).or_default();
        if let Some(before) = objects.get(&key) {
            let generation = before["metadata"]["generation"].as_u64().unwrap_or(1);
            let changed = u64::from(before["spec"] != object["spec"]);
            object["metadata"]["generation"] = json!(generation + changed);
        }
        let kind = if objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        self.tell(collection, kind, object.clone());
        object
    }

    fn tell(&mut self, collection: &str, kind: &'static str, object: Value) {
        let line = Bytes::from(format!("{}\n", json!({ "type": kind, "object": object })));
        self.watchers
            .retain(|(watched, sender)| watched != collection || sender.send(line.clone()).is_ok());
        self.events.push((self.version, collection.to_owned(), kind, object));
    }

    fn watch(&mut self, uri: &http::Uri) -> Result<Channel<Bytes>, (u16, Value)> {
        let path = Path::of(uri.path()).unwrap();
        if !self.knows(&path.collection) {
            return Err(failure(404, "no such API"));
        }
        let from: u64 = query(uri, "resourceVersion").unwrap_or("0").parse().unwrap();
        if from < self.compacted {
            return Err(failure(410, "too old resource version"));
        }
        let (sender, mut receiver) = unbounded_channel::<Bytes>();
        for (version, collection, kind, object) in &self.events {
            if *version > from && *collection == path.collection {
                let line = json!({ "type": kind, "object": object });
                sender.send(Bytes::from(format!("{line}\n"))).unwrap();
            }
        }
        self.watchers.push((path.collection, sender));
        let (mut body, channel) = Channel::new(16);
        tokio::spawn(async move {
            while let Some(line) = receiver.recv().await {
                if body.send_data(line).await.is_err() {
                    break;
                }
            }
        });
        Ok(channel)
    }

    fn knows(&self, collection: &str) -> bool {
        let Some(rest) = collection.strip_prefix("/apis/") else { return true };
        let group = rest.rsplit_once('/').map_or(rest, |(group, _)| group);
        self.apis.contains_key(group)
    }

    fn handle(&mut self, head: &http::request::Parts, body: &Bytes) -> (u16, Value) {
        match head.uri.path() {
            "/version" => {
                return (
                    200,
                    json!({
                        "major": "1", "minor": "34", "gitVersion": "v1.34.4", "gitCommit": "",
                        "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "",
                        "platform": ""
                    }),
                );
            }
            "/apis" => return (200, self.groups()),
            path => {
                if let Some(group) = path.strip_prefix("/apis/")
                    && group.split('/').count() == 2
                {
                    return self.group(group);
                }
            }
        }
        let Some(path) = Path::of(head.uri.path()) else { return failure(404, "no such path") };
        if !self.knows(&path.collection) {
            return failure(404, "no such API");
        }
        match (&head.method, &path.name) {
            (&Method::GET, None) => self.list(&path, &head.uri),
            (&Method::GET, Some(_)) => match self.find(&path) {
                Some(object) if path.scale => (200, scale(&object)),
                Some(object) => (200, object),
                None => failure(404, "no such object"),
            },
            (&Method::POST, None) => {
                let mut object: Value = serde_json::from_slice(body).unwrap();
                object["metadata"]["namespace"] = json!(path.namespace);
                let name = object["metadata"]["name"].as_str().map(ToOwned::to_owned);
                let there = name.is_some_and(|name| {
                    self.find(&Path { name: Some(name), ..Path::of(head.uri.path()).unwrap() })
                        .is_some()
                });
                if there {
                    failure(409, "exists")
                } else {
                    (201, self.put(&path.collection, object))
                }
            }
            (&Method::PUT, Some(_)) => {
                let mut object: Value = serde_json::from_slice(body).unwrap();
                object["metadata"]["namespace"] = json!(path.namespace);
                self.replace(&path, object)
            }
            (&Method::PATCH, Some(_)) => {
                let json_patch = head.headers["content-type"] == "application/json-patch+json";
                self.patch(&path, body, json_patch)
            }
            (&Method::DELETE, Some(_)) => self.delete(&path, body),
            _ => failure(405, "not allowed"),
        }
    }

    fn delete(&mut self, path: &Path, body: &Bytes) -> (u16, Value) {
        let Some(object) = self.find(path) else { return failure(404, "no such object") };
        let options: Value = serde_json::from_slice(body).unwrap_or_default();
        for name in ["uid", "resourceVersion"] {
            let expected = &options["preconditions"][name];
            if !expected.is_null() && *expected != object["metadata"][name] {
                return failure(409, "the precondition does not hold");
            }
        }
        self.objects.get_mut(&path.collection).unwrap().remove(&path.key());
        self.version += 1;
        self.tell(&path.collection, "DELETED", object.clone());
        (200, object)
    }

    fn groups(&self) -> Value {
        let groups: Vec<Value> = self
            .apis
            .keys()
            .map(|group_version| {
                let (name, version) = group_version.split_once('/').unwrap();
                let version = json!({ "groupVersion": group_version, "version": version });
                json!({ "name": name, "versions": [version] })
            })
            .collect();
        json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
    }

    fn group(&self, group: &str) -> (u16, Value) {
        let Some(plurals) = self.apis.get(group) else { return failure(404, "no such group") };
        let resource = |plural: &String| json!({ "name": plural, "singularName": "", "namespaced": true, "kind": "X", "verbs": [] });
        let resources: Vec<Value> = plurals.iter().map(resource).collect();
        (200, json!({ "groupVersion": group, "resources": resources }))
    }

    fn find(&self, path: &Path) -> Option<Value> {
        self.objects.get(&path.collection)?.get(&path.key()).cloned()
    }

    fn list(&self, path: &Path, uri: &http::Uri) -> (u16, Value) {
        let limit: usize = query(uri, "limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
        let start: usize = query(uri, "continue").map_or(0, |token| token.parse().unwrap());
        let objects = self.objects.get(&path.collection);
        let inside = |key: &str| {
            path.namespace
                .as_ref()
                .is_none_or(|namespace| key.starts_with(&format!("{namespace}/")))
        };
        let all: Vec<&Value> =
            objects.into_iter().flatten().filter(|(key, _)| inside(key)).map(|(_, o)| o).collect();
        let page: Vec<&Value> = all.iter().skip(start).take(limit).copied().collect();
        let next = start + page.len();
        let token = if next < all.len() { next.to_string() } else { String::new() };
        (
            200,
            json!({
                "kind": "List", "apiVersion": "v1", "items": page,
                "metadata": { "resourceVersion": self.version.to_string(), "continue": token }
            }),
        )
    }

    fn replace(&mut self, path: &Path, object: Value) -> (u16, Value) {
        let Some(before) = self.find(path) else {
            return match (path.collection.ends_with("/leases"), &object["metadata"]["uid"]) {
                (false, _) => failure(404, "no such object"),
                // As a real server does, whatever version is named.
                (true, Value::Null) => (201, self.put(&path.collection, object)),
                (true, _) => failure(409, "UID in object meta: "),
            };
        };
        let expected = &object["metadata"]["resourceVersion"];
        if !expected.is_null() && *expected != before["metadata"]["resourceVersion"] {
            return failure(409, "the object has been modified");
        }
        if object["metadata"]["uid"] != before["metadata"]["uid"]
            && !object["metadata"]["uid"].is_null()
        {
            return failure(422, "metadata.uid: field is immutable");
        }
        (200, self.put(&path.collection, object))
    }

    fn patch(&mut self, path: &Path, body: &Bytes, json_patch: bool) -> (u16, Value) {
        let Some(mut object) = self.find(path) else { return failure(404, "no such object") };
        let mut shown = if path.scale { scale(&object) } else { object.clone() };
        if json_patch {
            let patch: json_patch::Patch = serde_json::from_slice(body).unwrap();
            if let Err(error) = json_patch::patch(&mut shown, &patch) {
                return failure(422, &error.to_string());
            }
        } else {
            json_patch::merge(&mut shown, &serde_json::from_slice(body).unwrap());
        }
        if !path.scale {
            return self.replace(path, shown);
        }
        object["spec"]["replicas"] = shown["spec"]["replicas"].clone();
        let object = self.put(&path.collection, object);
        (200, scale(&object))
    }
}

/// The scale of an object; a count of zero is left out, as the API server does.
fn scale(object: &Value) -> Value {
    let labels = object["spec"]["selector"]["matchLabels"].as_object();
    let selector: Vec<String> = labels
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
        .collect();
    let mut spec = json!({});
    if object["spec"]["replicas"] != json!(0) {
        spec["replicas"] = object["spec"]["replicas"].clone();
    }
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": object["metadata"],
        "spec": spec, "status": { "replicas": 0, "selector": selector.join(",") }
    })
}
