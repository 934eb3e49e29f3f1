//! The test bed itself: what tests of the daemon rely on.

use std::{
    collections::BTreeSet,
    error::Error,
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{Router, routing::get};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Node, Pod},
    rbac::v1::PolicyRule,
};
use kube::{
    Api, Client, ResourceExt,
    api::{
        ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    },
};
use serde_json::json;
use stornx_testbed::{
    Options, Server, TestBed,
    apps::{self, Boutique, Roll, Workload, ready_pods, wait_ready},
    cluster::{ADMIN, stages},
    emulate::{Emulation, Settings},
    harness::{Test, TestResult},
    prometheus::{Prometheus, Scrape},
    wait::until,
};

/// For what takes a second or two on two cores that have nothing else to do.
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    stornx_testbed::main(
        Options::default(),
        vec![
            Test::plain("a cluster starts in seconds and leaves nothing", starts_in_seconds),
            Test::shared("the boutique becomes ready in three zones", boutique),
            Test::shared("the deletion cost decides which pod goes", deletion_cost),
            Test::shared("a pod is not ready while it is asked not to be", not_ready),
            Test::shared("a rollout stands as long as its pods are not ready", stuck_rollout),
            Test::shared("a paused deployment takes a count but no template", paused),
            Test::shared("a user has the rights that were given", rights),
            Test::shared("istio's schema judges a DestinationRule", destination_rule),
            Test::shared("keda's object exists without keda", scaled_object),
            Test::shared("prometheus scrapes a pod's address", scrape).needs_namespace(),
            Test::own(
                "traffic runs over the pods and follows the rules",
                Options::default(),
                traffic,
            ),
            Test::own("the API server is killed and comes back", without_boutique(), api_server),
            Test::own(
                "a store that stands still stops writes for as long",
                without_boutique(),
                store,
            ),
            Test::own("a node fails and its pods are not ready", without_boutique(), node_fails),
        ],
    )
}

fn without_boutique() -> Options {
    Options { crds: Vec::new(), ..Options::default() }
}

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A client, and a namespace of its own for one trial.
async fn room(bed: &TestBed, namespace: &str) -> Fallible<Client> {
    let client = bed.client(ADMIN).await?;
    apps::namespace(&client, namespace).await?;
    Ok(client)
}

async fn starts_in_seconds() -> TestResult {
    let start = Instant::now();
    let bed = TestBed::start(Options::default()).await?;
    let started = start.elapsed();
    let megabytes: u64 = bed.memory().values().sum::<u64>() / 1_000_000;
    println!("started in {:.1} s, {megabytes} MB in all", started.as_secs_f64());
    assert!(started < SOON, "{started:?}");
    let version = bed.client(ADMIN).await?.apiserver_version().await?;
    assert_eq!((version.major.as_str(), version.minor.as_str()), ("1", "34"));
    let (folder, ids) = (bed.folder().to_path_buf(), bed.ids());
    assert_eq!(ids.len(), 5, "{ids:?}");
    drop(bed);
    assert!(!folder.exists(), "the data folder is gone");
    for (server, id) in ids {
        let there = std::path::Path::new("/proc").join(id.to_string()).exists();
        assert!(!there, "{server:?} is gone");
    }
    Ok(())
}

async fn boutique(bed: Arc<TestBed>) -> TestResult {
    let client = bed.client(ADMIN).await?;
    let boutique = Boutique::new();
    let start = Instant::now();
    boutique.deploy(&client).await?;
    boutique.wait_ready(&client, SOON).await?;
    println!("{} pods ready in {:.1} s", boutique.pods(), start.elapsed().as_secs_f64());

    let nodes: Api<Node> = Api::all(client.clone());
    let zone = |name: String| {
        let nodes = nodes.clone();
        async move {
            let node = nodes.get(&name).await?;
            Ok::<_, kube::Error>(node.labels()["topology.kubernetes.io/zone"].clone())
        }
    };
    let mut zones = BTreeSet::new();
    for pod in ready_pods(&client, "boutique", "app=frontend").await? {
        zones.insert(zone(node_of(&pod)).await?);
    }
    assert_eq!(zones.len(), 3, "the frontend's six pods: {zones:?}");
    let redis = ready_pods(&client, "boutique", "app=redis").await?;
    assert_eq!(zone(node_of(&redis[0])).await?, "zone-b", "beside its volume");
    Ok(())
}

fn node_of(pod: &Pod) -> String {
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
}

async fn deletion_cost(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "cost").await?;
    let shop = Workload::new("cost", "shop", 3);
    shop.create(&client).await?;
    let pods = wait_ready(&client, &shop, 3, SOON).await?;
    // Neither first nor last by name or age: only the annotation can choose it.
    let victim = pods[1].name_any();
    let api: Api<Pod> = Api::namespaced(client.clone(), "cost");
    let cost = json!({"metadata": {"annotations": {
        "controller.kubernetes.io/pod-deletion-cost": "-2147483648",
    }}});
    api.patch(&victim, &PatchParams::default(), &Patch::Merge(&cost)).await?;
    apps::scale(&client, &shop, 2).await?;
    let left: BTreeSet<_> =
        wait_ready(&client, &shop, 2, SOON).await?.iter().map(ResourceExt::name_any).collect();
    let expected: BTreeSet<_> =
        pods.iter().map(ResourceExt::name_any).filter(|name| *name != victim).collect();
    assert_eq!(left, expected);

    let deployments: Api<Deployment> = Api::namespaced(client, "cost");
    let scale = deployments.get_scale("shop").await?;
    assert_eq!(scale.spec.and_then(|spec| spec.replicas), Some(2), "as the subresource says");
    Ok(())
}

async fn not_ready(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "readiness").await?;
    let shop = Workload::new("readiness", "shop", 1);
    shop.create(&client).await?;
    let pods = wait_ready(&client, &shop, 1, SOON).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), "readiness");
    for (ready, expected) in [("false", 0), ("true", 1)] {
        let patch = json!({"metadata": {"annotations": {stages::READY: ready}}});
        api.patch(&pods[0].name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        let now = wait_ready(&client, &shop, expected, SOON).await?;
        assert!(now.iter().all(|pod| pod.name_any() == pods[0].name_any()), "the same pod");
    }
    Ok(())
}

async fn stuck_rollout(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "rollout").await?;
    let shop = Workload::new("rollout", "shop", 4);
    shop.create(&client).await?;
    let before = wait_ready(&client, &shop, 4, SOON).await?;
    shop.roll(&client, Roll::Stuck).await?;
    let api: Api<Pod> = Api::namespaced(client.clone(), "rollout");
    let old: BTreeSet<_> = before.iter().map(ResourceExt::name_any).collect();
    let new_pods = async || {
        let all = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let new = all.items.iter().filter(|pod| !old.contains(&pod.name_any())).count();
        if new > 0 { Ok(new) } else { Err("no new pod".to_owned()) }
    };
    until("pods of the new template", SOON, new_pods).await?;
    let ready = ready_pods(&client, "rollout", &shop.selector()).await?;
    assert!(ready.len() >= 3, "a quarter may be missing, rounded down");
    assert!(ready.iter().all(|pod| old.contains(&pod.name_any())), "only old ones are ready");

    shop.roll(&client, Roll::Through).await?;
    let replaced = async || {
        let ready = ready_pods(&client, "rollout", &shop.selector()).await;
        let ready = ready.map_err(|error| error.to_string())?;
        let new = ready.iter().filter(|pod| !old.contains(&pod.name_any())).count();
        if new == 4 && ready.len() == 4 {
            Ok(())
        } else {
            Err(format!("{new} new of {}", ready.len()))
        }
    };
    until("the rollout", SOON, replaced).await?;
    Ok(())
}

async fn paused(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "paused").await?;
    let shop = Workload::new("paused", "shop", 1);
    shop.create(&client).await?;
    let before = wait_ready(&client, &shop, 1, SOON).await?;
    let api: Api<Deployment> = Api::namespaced(client.clone(), "paused");
    let pause = json!({"spec": {"paused": true}});
    api.patch("shop", &PatchParams::default(), &Patch::Merge(&pause)).await?;
    shop.roll(&client, Roll::Through).await?;
    apps::scale(&client, &shop, 2).await?;
    let after = wait_ready(&client, &shop, 2, SOON).await?;
    let template = |pod: &Pod| pod.labels()["pod-template-hash"].clone();
    assert!(after.iter().all(|pod| template(pod) == template(&before[0])), "the old template");
    Ok(())
}

async fn rights(bed: Arc<TestBed>) -> TestResult {
    let admin = room(&bed, "rights").await?;
    let pods: Api<Pod> = Api::namespaced(bed.client("stornx").await?, "rights");
    let list = ListParams::default();
    let refused = pods.list(&list).await.err().ok_or("no rights yet")?.to_string();
    assert!(refused.contains("forbidden"), "{refused}");
    let rule = PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["pods".to_owned()]),
        verbs: vec!["list".to_owned()],
        ..PolicyRule::default()
    };
    apps::rights(&admin, "stornx", vec![rule]).await?;
    until("the right to list pods", SOON, || async { pods.list(&list).await.map(drop) }).await?;
    let refused = pods.get("any").await.err().ok_or("only list was given")?.to_string();
    assert!(refused.contains("forbidden"), "{refused}");
    Ok(())
}

async fn destination_rule(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "rules").await?;
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    let api: Api<DynamicObject> =
        Api::namespaced_with(client, "rules", &ApiResource::from_gvk(&kind));
    let rule = |weights: serde_json::Value| {
        serde_json::from_value::<DynamicObject>(json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "cart"},
            "spec": {
                "host": "cart.shop.svc.cluster.local",
                "trafficPolicy": {"loadBalancer": {"localityLbSetting": {
                    "distribute": [{"from": "r/a/*", "to": weights}],
                }}},
            },
        }))
    };
    let bad = rule(json!({"r/a/*": "most"}))?;
    let refused = api.create(&PostParams::default(), &bad).await.err().ok_or("a word as weight")?;
    assert!(refused.to_string().contains("distribute"), "{refused}");
    let good = rule(json!({"r/a/*": 80, "r/b/*": 20}))?;
    api.create(&PostParams::default(), &good).await?;
    Ok(())
}

async fn scaled_object(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "keda").await?;
    let shop = Workload::new("keda", "shop", 1);
    apps::scaled_object(&client, &shop, 1, 5).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
    let api: Api<DynamicObject> = Api::namespaced_with(client, "keda", &kind);
    let found = api.get("shop").await?;
    assert_eq!(found.data["spec"]["scaleTargetRef"]["name"], "shop");
    Ok(())
}

async fn scrape(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "scrape").await?;
    let shop = Workload::new("scrape", "shop", 1);
    shop.create(&client).await?;
    let pods = wait_ready(&client, &shop, 1, SOON).await?;
    let address = pods[0].status.as_ref().and_then(|status| status.pod_ip.clone());
    let metrics = "# TYPE visits_total counter\nvisits_total{pod=\"of its own\"} 42\n";
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await?;
    let port = listener.local_addr()?.port();
    let router = Router::new().route("/metrics", get(async move || metrics));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let target: SocketAddr = format!("{}:{port}", address.unwrap_or_default()).parse()?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([target])).await?;
    let sample = async || {
        let found = prometheus.query("visits_total").await.map_err(|error| error.to_string())?;
        found.into_iter().next().ok_or_else(|| "no sample".to_owned())
    };
    let seen = until("a sample", SOON, sample).await?;
    assert_eq!(seen["value"][1], "42");
    assert_eq!(seen["metric"]["pod"], "of its own", "labels are honoured");
    assert_eq!(seen["metric"]["instance"], target.to_string());

    bed.pause(Server::Prometheus)?;
    let silent = tokio::time::timeout(Duration::from_millis(500), prometheus.query("up")).await;
    assert!(silent.is_err(), "a paused Prometheus does not answer");
    bed.resume(Server::Prometheus)?;
    bed.restart(Server::Prometheus).await?;
    prometheus.query("up").await?;
    server.abort();
    Ok(())
}

async fn traffic(bed: Arc<TestBed>) -> TestResult {
    let client = bed.client(ADMIN).await?;
    let boutique = Boutique::new();
    boutique.deploy(&client).await?;
    boutique.wait_ready(&client, SOON).await?;
    let scenario = apps::boutique_scenario();
    let emulation = Emulation::start(&client, Settings::new(scenario.clone())).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;

    // Every user's request reaches the frontend: 150 a second, as the scenario says.
    let rates = scenario.entries.iter().flat_map(|entry| entry.rates.values());
    let offered: f64 = rates.map(|profile| profile.points()[0].per_second.get()).sum();
    let frontend = "sum(rate(istio_requests_total{reporter=\"destination\",\
                    destination_workload=\"frontend\"}[5s]))";
    let served = async || {
        let rate = value(&prometheus, frontend).await?;
        if (rate / offered - 1.0).abs() < 0.2 {
            Ok(())
        } else {
            Err(format!("{rate} of {offered}"))
        }
    };
    until("the rate of the frontend", SOON, served).await?;

    // One zone for everybody: the others' pods see nothing any more.
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "DestinationRule");
    let rules: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "boutique", &ApiResource::from_gvk(&kind));
    let rule = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "DestinationRule",
        "metadata": {"name": "currency"},
        "spec": {"host": "currency", "trafficPolicy": {"loadBalancer": {"localityLbSetting": {
            "distribute": [{"from": "*", "to": {"region-1/zone-a/*": 100}}],
        }}}},
    });
    rules.create(&PostParams::default(), &serde_json::from_value(rule)?).await?;
    let mut inside = Vec::new();
    for pod in ready_pods(&client, "boutique", "app=currency").await? {
        if node_of(&pod).starts_with("zone-a") {
            inside.push(pod.name_any());
        }
    }
    let pods = inside.join("|");
    let total = "istio_requests_total{reporter=\"destination\",destination_workload=\"currency\"";
    let moved = async || {
        let here = value(&prometheus, &format!("sum(rate({total},pod=~\"{pods}\"}}[3s]))")).await?;
        let there =
            value(&prometheus, &format!("sum(rate({total},pod!~\"{pods}\"}}[3s]))")).await?;
        if here > 0.0 && there == 0.0 { Ok(()) } else { Err(format!("{here} and {there}")) }
    };
    until("all requests in one zone", SOON, moved).await?;

    // A pod that comes is served, and shows itself.
    let frontend = boutique.workload("frontend").ok_or("no frontend")?;
    apps::scale(&client, frontend, 7).await?;
    wait_ready(&client, frontend, 7, SOON).await?;
    let count = "count(sum by (pod) (rate(istio_requests_total{reporter=\"destination\",\
                 destination_workload=\"frontend\"}[3s]) > 0))";
    let seven = async || match value(&prometheus, count).await? {
        7.0 => Ok(()),
        other => Err(format!("{other} pods")),
    };
    until("requests at the seventh pod", SOON, seven).await?;
    println!("traffic: {:?} were left out", emulation.left_out());
    Ok(())
}

/// The one number that a query gives.
async fn value(prometheus: &Prometheus, query: &str) -> Result<f64, String> {
    let samples = prometheus.query(query).await.map_err(|error| error.to_string())?;
    let text = samples.first().and_then(|sample| sample["value"][1].as_str());
    let text = text.ok_or_else(|| "no sample".to_owned())?;
    text.parse().map_err(|_| text.to_owned())
}

async fn api_server(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "faults").await?;
    let shop = Workload::new("faults", "shop", 2);
    shop.create(&client).await?;
    let before = wait_ready(&client, &shop, 2, SOON).await?;
    bed.kill(Server::ApiServer)?;
    let down = tokio::time::timeout(SOON, ready_pods(&client, "faults", &shop.selector())).await?;
    assert!(down.is_err(), "nobody answers");
    let start = Instant::now();
    bed.restart(Server::ApiServer).await?;
    println!("the API server was back in {:.1} s", start.elapsed().as_secs_f64());
    let names = |pods: &[Pod]| pods.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>();
    let after = wait_ready(&client, &shop, 2, SOON).await?;
    assert_eq!(names(&before), names(&after), "the pods are the same");
    // Controllers, scheduler and kwok have found it again.
    apps::scale(&client, &shop, 3).await?;
    wait_ready(&client, &shop, 3, SOON).await?;
    Ok(())
}

async fn store(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "store").await?;
    let shop = Workload::new("store", "shop", 1);
    shop.create(&client).await?;
    wait_ready(&client, &shop, 1, SOON).await?;
    bed.pause(Server::Etcd)?;
    let write = apps::scale(&client, &shop, 2);
    let waited = tokio::time::timeout(Duration::from_secs(1), write).await;
    assert!(waited.is_err(), "no write without the store");
    bed.resume(Server::Etcd)?;
    let written = || apps::scale(&client, &shop, 2);
    until("a write", SOON, written).await?;
    wait_ready(&client, &shop, 2, SOON).await?;
    Ok(())
}

async fn node_fails(bed: Arc<TestBed>) -> TestResult {
    let client = room(&bed, "nodes").await?;
    let shop = Workload::new("nodes", "shop", 1);
    shop.create(&client).await?;
    let pods = wait_ready(&client, &shop, 1, SOON).await?;
    let node = node_of(&pods[0]);
    bed.fail_node(&node, true).await?;
    wait_ready(&client, &shop, 0, SOON).await?;
    let nodes: Api<Node> = Api::all(client.clone());
    let tainted = async || {
        let spec = nodes.get(&node).await.map_err(|error| error.to_string())?.spec;
        let taints = spec.and_then(|spec| spec.taints).unwrap_or_default();
        let key = "node.kubernetes.io/unreachable";
        if taints.iter().any(|taint| taint.key == key) { Ok(()) } else { Err("no taint") }
            .map_err(str::to_owned)
    };
    until("the taint of the node controller", SOON, tainted).await?;
    bed.fail_node(&node, false).await?;
    wait_ready(&client, &shop, 1, SOON).await?;
    Ok(())
}
