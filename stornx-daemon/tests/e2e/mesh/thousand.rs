//! A thousand hosts: writes are paced, a cycle changes the routes of `BALANCER_MAX_WRITES`
//! hosts at most; hosts that do not change are not written.
//!
//! `STORNX_E2E_HOSTS=1000` runs the long form.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;
use serde_json::json;
use stornx_testbed::{
    NodeSpec, Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    mesh::Telemetry,
    prometheus::Scrape,
    wait::until,
};

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, wait_cycles, with},
        long_form, rights,
        tape::{Said, Tape},
    },
};

const HERE: &str = "many";
/// Hosts that get other traffic in the end.
const FEW: usize = 5;
/// Requests in each round of half a second, by host.
const REQUESTS: u64 = 40;

pub(crate) fn tests() -> Vec<Test> {
    let options = Options { nodes: NodeSpec::many(3), large: true, ..Options::default() };
    vec![Test::own("a_thousand_hosts", options, thousand)]
}

async fn thousand(bed: Arc<TestBed>) -> TestResult {
    let hosts = long_form("STORNX_E2E_HOSTS", 120)?;
    // In the long form the default of the product.
    let most = if hosts >= 1000 { 100 } else { 20 };
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    // Many Services in front of the same replicas: each is a host of its own.
    let (front, cart) =
        (Workload::new(HERE, "front", 3).spread(), Workload::new(HERE, "cart", 3).spread());
    for workload in [&front, &cart] {
        workload.create(&admin).await?;
    }
    stream::iter(0..hosts)
        .map(|number| {
            let admin = admin.clone();
            async move { service(&admin, &name(number)).await }
        })
        .buffer_unordered(16)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<Vec<()>, Failure>>()?;
    let callers = names(&apps::wait_ready(&admin, &front, 3, SOON).await?);
    let callees = names(&apps::wait_ready(&admin, &cart, 3, SOON).await?);
    let telemetry = Telemetry::default();
    let shown = telemetry.show().await?;
    let shifted = Arc::new(AtomicUsize::new(0));
    let traffic = tokio::spawn(send(telemetry, hosts, callers, callees, Arc::clone(&shifted)));
    let scrape =
        Scrape { interval: Duration::from_secs(2), ..Scrape::each_second([shown.address]) };
    let prometheus = bed.start_prometheus(&scrape).await?;
    let rates = "count(rate(istio_requests_total{reporter=\"source\"}[10s]) > 0)";
    until("rates", SOON, || async {
        let found = prometheus.query(rates).await.map_err(|error| error.to_string())?;
        let count = found.first().and_then(|one| one["value"][1].as_str()?.parse::<usize>().ok());
        if count >= Some(hosts) { Ok(()) } else { Err(format!("{count:?}")) }
    })
    .await?;

    let tape = Tape::of(&admin, HERE);
    let most_text = most.to_string();
    let settings = with(
        quick(HERE, &prometheus.url()),
        &[
            ("SCALER_ENABLED", "false"),
            ("MOVES_ENABLED", "false"),
            ("BALANCER_WARMUP_SECONDS", "0"),
            ("PROMETHEUS_RATE_WINDOW_SECONDS", "10"),
            ("METRICS_MAX_AGE_SECONDS", "20"),
            ("BALANCER_MAX_WRITES", &most_text),
            // One write takes a host to its target.
            ("BALANCER_MAX_STEP_SIZE", "100"),
            ("BALANCER_MIN_STEP_SIZE", "100"),
            // There is one schedule; no glance is between.
            ("GLANCE_SECONDS", "3600"),
        ],
    );
    let began = Instant::now();
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    let (mut before, mut peak) = ((0.0, 0.0), 0.0_f64);
    loop {
        let now = counts(&daemon).await?;
        let (cycles, writes) = (now.0 - before.0, now.1 - before.1);
        // Both are counted when a cycle ends. Of several between two looks only the sum is
        // known, which has to do then.
        if cycles > 1.0 && writes > f64::from(most) {
            return Err(format!("{writes} writes in {cycles} cycles between two looks").into());
        }
        peak = peak.max(writes);
        before = now;
        if written(&tape, 0).len() >= hosts {
            break;
        }
        if began.elapsed() > SOON * 5 {
            return Err(format!("{} of {hosts} hosts have a rule", written(&tape, 0).len()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let (cycles, writes) = counts(&daemon).await?;
    tape.quiet(Duration::from_secs(5)).await?;
    // Nothing changes: nothing is written.
    let from = tape.len();
    wait_cycles(&daemon, 3.0).await?;
    let idle = written(&tape, from).len();
    // A few change: only they are written.
    let from = tape.len();
    shifted.store(FEW, Ordering::Relaxed);
    until("those that changed to be written", SOON, || {
        let count = written(&tape, from).len();
        std::future::ready(if count >= FEW { Ok(()) } else { Err(format!("{count} of {FEW}")) })
    })
    .await?;
    tape.quiet(Duration::from_secs(4)).await?;
    let few = written(&tape, from);
    traffic.abort();
    println!(
        "{hosts} hosts: all have a rule after {:.0} s, {writes:.0} writes in {cycles:.0} cycles, at most \
         {peak:.0} in one of them ({most} are allowed); then {idle} written in 3 cycles, and \
         {} when {FEW} have changed",
        took.as_secs_f64(),
        few.len(),
    );
    if peak > f64::from(most) {
        return Err(format!("{peak} writes in one cycle").into());
    }
    let changed: BTreeSet<String> =
        (0..FEW).map(|number| format!("stornx-{}", name(number))).collect();
    let others: Vec<_> = few.keys().filter(|rule| !changed.contains(*rule)).collect();
    if idle > 0 || !others.is_empty() {
        return Err(format!("unchanged hosts were written: {idle}, {others:?}").into());
    }
    Ok(())
}

fn name(number: usize) -> String {
    format!("host-{number:04}")
}

fn names(pods: &[k8s_openapi::api::core::v1::Pod]) -> Vec<String> {
    pods.iter().map(|pod| format!("{HERE}/{}", pod.name_any())).collect()
}

async fn service(client: &kube::Client, name: &str) -> TestResult {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": HERE},
        "spec": {"selector": {"app": "cart"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    }))?;
    apps::create(client, &service).await?;
    Ok(())
}

/// Cycles, and routing writes that were done.
async fn counts(daemon: &Daemon) -> Result<(f64, f64), Failure> {
    let page = daemon.page("/metrics").await?;
    let sum = |start: &str, also: &str| -> f64 {
        let of = |line: &&str| line.starts_with(start) && line.contains(also);
        page.lines()
            .filter(of)
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    };
    let writes = sum("stornx_actions_total{", "kind=\"set-routes\"");
    Ok((sum("stornx_cycles_total{", "result="), writes))
}

/// The rules whose weights were written since, and how often.
fn written(tape: &Tape, from: usize) -> BTreeMap<String, usize> {
    let mut rules = BTreeMap::new();
    for (_, said) in tape.since(from) {
        if let Said::Weights(rule, _) = said {
            *rules.entry(rule).or_default() += 1;
        }
    }
    rules
}

/// Requests to each host from one zone, to all replicas alike; the first `shifted` hosts are
/// called from the next zone.
async fn send(
    telemetry: Telemetry,
    hosts: usize,
    callers: Vec<String>,
    callees: Vec<String>,
    shifted: Arc<AtomicUsize>,
) {
    // A tenth of the 100 milli-cores that a replica asks for, in half a second.
    #[allow(clippy::cast_precision_loss)] // A thousand.
    let used = 0.1 * 0.1 * 0.5 / hosts as f64;
    loop {
        let few = shifted.load(Ordering::Relaxed);
        for number in 0..hosts {
            let caller = &callers[(number + usize::from(number < few)) % callers.len()];
            for callee in &callees {
                let to = format!("{HERE}/{}", name(number));
                let (front, cart) = (format!("{HERE}/front"), format!("{HERE}/cart"));
                telemetry.pretend((caller, &front), (callee, &cart), &to, REQUESTS, used);
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
