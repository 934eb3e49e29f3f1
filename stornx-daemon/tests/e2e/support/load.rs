//! Load on workloads as cAdvisor would show it: so many milli-cores in all for each
//! workload, shared by the pods of it that are Ready at the moment. Served to the real
//! Prometheus; the pods are those that really exist.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use stornx_testbed::apps::is_ready;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

/// Memory that every pod shows.
const MEMORY: u64 = 32 << 20;

#[derive(Debug, Default)]
struct State {
    /// Milli-cores in all, by value of the label `app`.
    wanted: BTreeMap<String, f64>,
    /// Core-seconds by pod, and its workload.
    used: BTreeMap<String, (String, f64)>,
    /// Nothing is served.
    silent: bool,
}

/// The load of one namespace.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) async fn start(client: Client, namespace: &str) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
        let tasks = vec![
            tokio::spawn(work(client, namespace.to_owned(), state.clone())),
            tokio::spawn(serve(listener, namespace.to_owned(), state.clone())),
        ];
        Ok(Self { address, state, tasks })
    }

    /// Sets what a workload uses in all, milli-cores.
    pub(crate) fn set(&self, workload: &str, milli_cores: f64) {
        lock(&self.state).wanted.insert(workload.to_owned(), milli_cores);
    }

    /// Whether scrapes go unanswered.
    pub(crate) fn silent(&self, silent: bool) {
        lock(&self.state).silent = silent;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Counts what the pods use. Time that a slow machine lost is made up for: the counters
/// follow the clock.
async fn work(client: Client, namespace: String, state: Arc<Mutex<State>>) {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let mut last = Instant::now();
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let Ok(found) = pods.list(&ListParams::default().match_any()).await else { continue };
        let passed = last.elapsed().as_secs_f64();
        last = Instant::now();
        let mut ready: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in found.items {
            let app = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app")).cloned();
            if let (true, Some(app), Some(name)) = (is_ready(&pod), app, pod.metadata.name) {
                ready.entry(app).or_default().push(name);
            }
        }
        let mut state = lock(&state);
        let mut used = BTreeMap::new();
        for (app, pods) in ready {
            #[allow(clippy::cast_precision_loss)] // A handful of pods.
            let each = state.wanted.get(&app).copied().unwrap_or(0.0) / pods.len() as f64;
            for pod in pods {
                let before = state.used.get(&pod).map_or(0.0, |(_, used)| *used);
                used.insert(pod, (app.clone(), before + each / 1000.0 * passed));
            }
        }
        state.used = used;
    }
}

async fn serve(listener: TcpListener, namespace: String, state: Arc<Mutex<State>>) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        if stream.read(&mut request).await.is_err() {
            continue;
        }
        let answer = {
            let state = lock(&state);
            if state.silent {
                "HTTP/1.0 503 Service Unavailable\r\n\r\n".to_owned()
            } else {
                format!(
                    "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n{}",
                    page(&namespace, &state)
                )
            }
        };
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

fn page(namespace: &str, state: &State) -> String {
    let series =
        |pod: &str| format!("{{namespace=\"{namespace}\",pod=\"{pod}\",container=\"app\"}}");
    let mut page = String::from("# TYPE container_cpu_usage_seconds_total counter\n");
    for (pod, (_, used)) in &state.used {
        page += &format!("container_cpu_usage_seconds_total{} {used}\n", series(pod));
    }
    page += "# TYPE container_memory_working_set_bytes gauge\n";
    for pod in state.used.keys() {
        page += &format!("container_memory_working_set_bytes{} {MEMORY}\n", series(pod));
    }
    page
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
