//! The daemon over a large cluster: time to ready, memory per pod, time and requests of
//! a cycle. Runs only when asked for, since the control plane needs a quarter of an hour
//! to make the pods:
//!
//! `STORNX_E2E_NODES=1000 STORNX_E2E_PODS=20000 cargo test --release -p stornx-daemon --test e2e scale -- --nocapture`

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, api::ListParams};
use serde_json::Value;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    cluster::NodeSpec,
    harness::Test,
    prometheus::Scrape,
    wait::until,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    Failure,
    support::{
        TestResult,
        audit::Audit,
        daemon::{Daemon, quick, wait_cycles},
        rights,
    },
};

const HERE: &str = "scale";

/// Replicas of each workload.
const REPLICAS: u32 = 50;

/// Whom each workload calls: the next ones in the row.
const CALLEES: usize = 3;

/// A busy machine makes 38 pods a second.
const FILLED: Duration = Duration::from_secs(2400);

fn setting(name: &str) -> Option<usize> {
    std::env::var(name).ok()?.parse().ok()
}

pub(crate) fn tests() -> Vec<Test> {
    let (Some(nodes), Some(pods)) = (setting("STORNX_E2E_NODES"), setting("STORNX_E2E_PODS"))
    else {
        return vec![];
    };
    let large = Options { nodes: NodeSpec::many(nodes), large: true, ..Options::default() };
    let (options, log) = Audit::of("scale-audit", "Metadata", &["stornx"], large);
    vec![Test::own("scale", options, move |bed| scale(bed, pods, log))]
}

async fn scale(bed: Arc<TestBed>, pods: usize, log: Audit) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;

    // What the process needs without any pods.
    let settings = quick(HERE, "http://127.0.0.1:9");
    let empty = Daemon::start(&bed, "stornx", "empty", &settings).await?;
    empty.wait_ready().await?;
    wait_cycles(&empty, 3.0).await?;
    let base = empty.memory().await?;
    drop(empty);

    let workloads = pods / REPLICAS as usize;
    let began = Instant::now();
    for number in 0..workloads {
        Workload::new(HERE, &name(number), REPLICAS).create(&admin).await?;
    }
    let all: Api<Pod> = Api::namespaced(admin.clone(), HERE);
    let wanted = workloads * REPLICAS as usize;
    let ready = until("all pods to be bound", FILLED, || async {
        let listed = all.list(&ListParams::default().match_any()).await;
        let items = listed.map_err(|error| error.to_string())?.items;
        let bound = items.iter().filter(|pod| {
            pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running")
        });
        let bound = bound.count();
        if bound == wanted { Ok(items) } else { Err(format!("{bound} of {wanted}")) }
    })
    .await?;
    println!("{wanted} pods of {workloads} workloads after {:.0} s", began.elapsed().as_secs_f64());
    let exporter = Exporter::start(&ready).await?;
    drop(ready);
    let scrape = Scrape { interval: Duration::from_secs(15), ..Scrape::each_second([exporter]) };
    let prometheus = bed.start_prometheus(&scrape).await?;

    let mut settings = quick(HERE, &prometheus.url());
    let more = [
        ("CRONJOB_EXPRESSION", "*/20 * * * * *"),
        ("PROMETHEUS_RATE_WINDOW_SECONDS", "60"),
        ("METRICS_MAX_AGE_SECONDS", "60"),
        ("DEBOUNCE_SECONDS", "5"),
        ("DRY_RUN", "true"),
    ];
    for (name, value) in more {
        settings.retain(|(known, _)| *known != name);
        settings.push((name, value.to_owned()));
    }
    // Rates need two scrapes.
    tokio::time::sleep(Duration::from_secs(35)).await;
    let began = Instant::now();
    let daemon = Daemon::start(&bed, "stornx", "large", &settings).await?;
    daemon.wait_ready().await?;
    let to_ready = began.elapsed();
    let requests_before = counts(&log)?;
    let queries_before = queries(&daemon).await?;
    let cycles_before = cycles(&daemon).await?;
    wait_cycles(&daemon, 2.0).await?;
    let after = cycles(&daemon).await?;
    let turned = after.0 - cycles_before.0;
    let per_cycle = |sum: f64| sum / turned;
    println!("time to ready: {:.1} s", to_ready.as_secs_f64());
    let memory = daemon.memory().await?;
    #[allow(clippy::cast_precision_loss)] // Thousands of pods.
    let each = (memory - base) / wanted as f64;
    println!(
        "memory: {:.0} MiB, {:.0} MiB without pods, {each:.0} bytes a pod (all that is kept and used for a cycle)",
        memory / f64::from(1 << 20),
        base / f64::from(1 << 20)
    );
    for (phase, before) in &cycles_before.1 {
        println!("  {phase}: {:.3} s a cycle", per_cycle(after.1[phase] - before));
    }
    println!(
        "queries of Prometheus a cycle: {:.1}",
        per_cycle(queries(&daemon).await? - queries_before)
    );
    let requests_after = counts(&log)?;
    let new: BTreeMap<_, _> = requests_after
        .iter()
        .map(|(what, count)| (what, count - requests_before.get(what).unwrap_or(&0)))
        .filter(|(_, count)| *count > 0)
        .collect();
    println!("requests to the API server in {turned} cycles: {new:?}");
    if new.keys().any(|what| what.starts_with("list ")) {
        return Err("list calls in steady state".into());
    }
    println!("control plane: {:?}", bed.memory());
    Ok(())
}

fn name(number: usize) -> String {
    format!("w{number:04}")
}

/// Requests by verb and resource.
fn counts(log: &Audit) -> Result<BTreeMap<String, u64>, Failure> {
    let mut counts = BTreeMap::new();
    for event in log.entries()? {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let what = format!("{} {}", text(&event["verb"]), text(&event["objectRef"]["resource"]));
        *counts.entry(what).or_insert(0) += 1;
    }
    Ok(counts)
}

async fn queries(daemon: &Daemon) -> Result<f64, Failure> {
    let page = daemon.page("/metrics").await?;
    let values = page.lines().filter(|line| line.starts_with("stornx_prometheus_queries_total{"));
    Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// How many cycles there were, and seconds in each phase.
async fn cycles(daemon: &Daemon) -> Result<(f64, BTreeMap<String, f64>), Failure> {
    let page = daemon.page("/metrics").await?;
    let mut phases = BTreeMap::new();
    let mut count = 0.0;
    for line in page.lines() {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let value: f64 = value.parse().unwrap_or_default();
        if let Some(labels) = series.strip_prefix("stornx_cycle_duration_seconds_sum{") {
            phases.insert(labels.trim_end_matches('}').to_owned(), value);
        }
        if series.starts_with("stornx_cycles_total{") {
            count += value;
        }
    }
    Ok((count, phases))
}

/// Usage and requests of every pod, each counter rising evenly.
struct Exporter;

impl Exporter {
    async fn start(pods: &[Pod]) -> Result<SocketAddr, Failure> {
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods {
            let app = pod.metadata.labels.as_ref().and_then(|labels| labels.get("app"));
            if let (Some(app), Some(name)) = (app, &pod.metadata.name) {
                names.entry(app.clone()).or_default().push(name.clone());
            }
        }
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            let began = Instant::now();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let head = "HTTP/1.0 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n\r\n";
                let page = page(&names, began.elapsed().as_secs_f64());
                let _ = stream.write_all(format!("{head}{page}").as_bytes()).await;
            }
        });
        Ok(address)
    }
}

/// Each pod uses half of what it asks for and sends ten requests a second to each callee.
fn page(names: &BTreeMap<String, Vec<String>>, seconds: f64) -> String {
    let apps: Vec<_> = names.keys().collect();
    let mut page = String::new();
    for (pod, _) in names.values().flatten().zip(0..) {
        let _ = writeln!(
            page,
            "container_cpu_usage_seconds_total{{namespace=\"{HERE}\",pod=\"{pod}\",container=\"app\"}} {}",
            0.05 * seconds
        );
        let _ = writeln!(
            page,
            "container_memory_working_set_bytes{{namespace=\"{HERE}\",pod=\"{pod}\",container=\"app\"}} 33554432"
        );
    }
    for (number, (app, pods)) in names.iter().enumerate() {
        for step in 1..=CALLEES {
            let callee = apps[(number + step) % apps.len()];
            for (reporter, where_from) in [("source", pods), ("destination", &names[callee])] {
                for pod in where_from {
                    let _ = writeln!(
                        page,
                        "istio_requests_total{{reporter=\"{reporter}\",namespace=\"{HERE}\",pod=\"{pod}\",\
                         source_workload=\"{app}\",source_workload_namespace=\"{HERE}\",\
                         destination_workload=\"{callee}\",destination_workload_namespace=\"{HERE}\",\
                         destination_service=\"{callee}.{HERE}.svc.cluster.local\",\
                         destination_service_name=\"{callee}\",destination_service_namespace=\"{HERE}\",\
                         request_protocol=\"http\",response_code=\"200\"}} {}",
                        10.0 * seconds
                    );
                }
            }
        }
    }
    page
}
