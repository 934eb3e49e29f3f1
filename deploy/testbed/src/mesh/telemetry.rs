//! What the proxies of a mesh, and cAdvisor, would show of real requests, under the labels of
//! Istio's standard metrics. What callers sent is what their Envoys count by themselves; what
//! callees served, and how long it took, is counted by the server that stands for the pods
//! and their proxies.
//!
//! Simplified: only what StornX asks for; every request is plain HTTP. A Service has the name
//! of its one workload.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{Router, http::header, routing::get};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    seen::Seen,
    statistics::{Counted, Statistics, Total},
};
use crate::error::{BedError, Result, Tried};

/// Upper bounds of Istio's buckets, milliseconds, as far as anything here takes.
const BOUNDS: [f64; 12] =
    [0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0];

/// Memory that every pod shows.
const MEMORY: u64 = 32 << 20;

/// One side of the requests between two workloads at one pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    destination: bool,
    /// `namespace/name` of the pod whose proxy says so.
    pod: String,
    /// `namespace/name` of the calling workload.
    caller: String,
    /// ... and of the called one.
    callee: String,
    /// `namespace/name` of the Service by which it is called; that of the called one's name
    /// where it is empty.
    service: String,
    code: u16,
}

#[derive(Debug, Clone, Default)]
struct Count {
    requests: u64,
    buckets: [u64; BOUNDS.len()],
    sum: f64,
}

#[derive(Debug, Default)]
struct State {
    counts: BTreeMap<Key, Count>,
    /// Core-seconds by pod.
    used: BTreeMap<String, f64>,
    heard: Vec<Heard>,
    silent: bool,
}

/// A caller whose Envoy is asked when the counters are.
#[derive(Debug, Clone)]
struct Heard {
    statistics: Statistics,
    /// `namespace/name` of its workload.
    caller: String,
    /// Stays when it has gone.
    total: Total,
}

/// The counters.
#[derive(Debug, Clone, Default)]
pub struct Telemetry {
    state: Arc<Mutex<State>>,
    /// One asks at a time: an older answer after a newer one would look like a new beginning.
    asks: Arc<tokio::sync::Mutex<()>>,
}

/// Where they are shown, until this is dropped.
#[derive(Debug)]
pub struct Shown {
    /// Where `/metrics` is.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Telemetry {
    /// Serves `/metrics` on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When there is none.
    pub async fn show(&self) -> Result<Shown> {
        let listening = || "listen for scrapes".to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.tried(listening)?;
        let address = listener.local_addr().tried(listening)?;
        let own = self.clone();
        let page = async move || {
            let plain = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
            own.ask().await;
            (plain, own.page())
        };
        let router = Router::new().route("/metrics", get(page));
        let task = tokio::spawn(async move {
            // Ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Shown { address, task })
    }

    /// Nothing is shown any more, or again.
    pub fn silence(&self, silent: bool) {
        lock(&self.state).silent = silent;
    }

    /// Shows what the Envoy of a caller counts, from now on.
    ///
    /// # Errors
    /// [`BedError::Invalid`] when the caller's pod is not known.
    pub fn hear(&self, seen: &Seen, statistics: Statistics) -> Result<()> {
        let caller = workload(seen, &statistics.from).ok_or_else(|| BedError::Invalid {
            what: "a caller".to_owned(),
            detail: format!("there is no pod {}", statistics.from),
        })?;
        lock(&self.state).heard.push(Heard { statistics, caller, total: Total::default() });
        Ok(())
    }

    /// What each caller's Envoy has counted in all: `namespace/name` of its pod, and by host.
    pub async fn counted(&self) -> Vec<(String, BTreeMap<String, Counted>)> {
        self.ask().await;
        let state = lock(&self.state);
        let one = |one: &Heard| (one.statistics.from.clone(), one.total.hosts.clone());
        state.heard.iter().map(one).collect()
    }

    /// Asks all Envoys for what they have counted.
    async fn ask(&self) {
        let _one = self.asks.lock().await;
        let heard: Vec<Statistics> =
            lock(&self.state).heard.iter().map(|one| one.statistics.clone()).collect();
        let read = futures::future::join_all(heard.iter().map(Statistics::read)).await;
        for (one, read) in lock(&self.state).heard.iter_mut().zip(read) {
            // One that has gone says nothing more.
            one.total.add(read.unwrap_or_default());
        }
    }

    /// What the proxy of the pod at `address` counts, and the core-seconds that it used.
    pub fn served(&self, seen: &Seen, from: &str, address: IpAddr, took: Duration, used: f64) {
        let (Some(caller), Some(pod)) = (workload(seen, from), seen.pod(address)) else { return };
        let Some(callee) = workload(seen, &pod.name) else { return };
        *lock(&self.state).used.entry(pod.name.clone()).or_default() += used;
        let service = String::new();
        let key = Key { destination: true, pod: pod.name, caller, callee, service, code: 200 };
        self.add(key, took);
    }

    /// Both sides of many requests that nobody sent, for tests without packets. Each side
    /// is a pod and its workload, `namespace/name` both; `service` is by what it is called;
    /// `used` are the core-seconds of all of them. How long they took is not told.
    pub fn pretend(
        &self,
        from: (&str, &str),
        to: (&str, &str),
        service: &str,
        requests: u64,
        used: f64,
    ) {
        let mut state = lock(&self.state);
        *state.used.entry(to.0.to_owned()).or_default() += used;
        for destination in [false, true] {
            let pod = if destination { to.0 } else { from.0 }.to_owned();
            let (caller, callee) = (from.1.to_owned(), to.1.to_owned());
            let service = service.to_owned();
            let key = Key { destination, pod, caller, callee, service, code: 200 };
            state.counts.entry(key).or_default().requests += requests;
        }
    }

    fn add(&self, key: Key, took: Duration) {
        let took = took.as_secs_f64() * 1000.0;
        let mut state = lock(&self.state);
        let count = state.counts.entry(key).or_default();
        count.requests += 1;
        count.sum += took;
        if let Some(at) = BOUNDS.iter().position(|bound| took <= *bound) {
            count.buckets[at] += 1;
        }
    }

    fn page(&self) -> String {
        let state = lock(&self.state);
        let mut page = String::new();
        if state.silent {
            return page;
        }
        page += "# TYPE istio_requests_total counter\n";
        for (key, count) in &state.counts {
            let _ = writeln!(page, "istio_requests_total{{{}}} {}", labels(key), count.requests);
        }
        for (heard, host, counted) in heard(&state) {
            for (code, requests) in &counted.codes {
                let labels = labels(&heard.key(host, *code));
                let _ = writeln!(page, "istio_requests_total{{{labels}}} {requests}");
            }
        }
        let name = "istio_request_duration_milliseconds";
        let _ = writeln!(page, "# TYPE {name} histogram");
        for (key, count) in state.counts.iter().filter(|(_, count)| count.sum > 0.0) {
            let labels = labels(key);
            let mut below = 0;
            for (bucket, bound) in count.buckets.iter().zip(BOUNDS) {
                below += bucket;
                let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", count.requests);
            let _ = writeln!(page, "{name}_sum{{{labels}}} {}", count.sum);
            let _ = writeln!(page, "{name}_count{{{labels}}} {}", count.requests);
        }
        for (heard, host, counted) in heard(&state) {
            // Envoy tells times of all statuses together, and no sum.
            let labels = labels(&heard.key(host, 200));
            for (bound, below) in &counted.took {
                let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
            }
            let all = counted.took.last().map_or(0, |(_, below)| *below);
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {all}");
            let _ = writeln!(page, "{name}_count{{{labels}}} {all}");
        }
        page += "# TYPE container_cpu_usage_seconds_total counter\n";
        for (pod, used) in &state.used {
            let _ =
                writeln!(page, "container_cpu_usage_seconds_total{{{}}} {used}", container(pod));
        }
        page += "# TYPE container_memory_working_set_bytes gauge\n";
        for pod in state.used.keys() {
            let _ =
                writeln!(page, "container_memory_working_set_bytes{{{}}} {MEMORY}", container(pod));
        }
        page
    }
}

impl Heard {
    fn key(&self, host: &str, code: u16) -> Key {
        let mut parts = host.split('.');
        let (name, namespace) = (parts.next().unwrap_or(host), parts.next().unwrap_or_default());
        Key {
            destination: false,
            pod: self.statistics.from.clone(),
            caller: self.caller.clone(),
            callee: format!("{namespace}/{name}"),
            service: String::new(),
            code,
        }
    }
}

/// What each Envoy said of each host.
fn heard(state: &State) -> impl Iterator<Item = (&Heard, &str, &Counted)> {
    state.heard.iter().flat_map(|one| {
        one.total.hosts.iter().map(move |(host, counted)| (one, host.as_str(), counted))
    })
}

/// `namespace/name` of the workload of a pod.
fn workload(seen: &Seen, pod: &str) -> Option<String> {
    let (namespace, _) = pod.split_once('/')?;
    Some(format!("{namespace}/{}", seen.app_of(pod)?))
}

fn labels(key: &Key) -> String {
    let split = |text: &str| {
        let (namespace, name) = text.split_once('/').unwrap_or_default();
        (namespace.to_owned(), name.to_owned())
    };
    let ((namespace, pod), (from, caller), (to, callee)) =
        (split(&key.pod), split(&key.caller), split(&key.callee));
    let service = if key.service.is_empty() { &key.callee } else { &key.service };
    let (at, service) = split(service);
    let reporter = if key.destination { "destination" } else { "source" };
    let code = key.code;
    format!(
        "namespace=\"{namespace}\",pod=\"{pod}\",reporter=\"{reporter}\",\
         source_workload=\"{caller}\",source_workload_namespace=\"{from}\",\
         destination_workload=\"{callee}\",destination_workload_namespace=\"{to}\",\
         destination_service=\"{service}.{at}.svc.cluster.local\",\
         destination_service_name=\"{service}\",destination_service_namespace=\"{at}\",\
         request_protocol=\"http\",response_code=\"{code}\",response_flags=\"-\""
    )
}

fn container(pod: &str) -> String {
    let (namespace, name) = pod.split_once('/').unwrap_or_default();
    format!("namespace=\"{namespace}\",pod=\"{name}\",container=\"app\"")
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
