//! New replicas are told where to run while they are created, and are created whatever is
//! wrong with whoever tells them.
//!
//! The API server reaches the daemon by URL. What stands is put into the memory by the test,
//! as a cycle would have stored it; replicas are asked for by somebody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::ReplicaSet,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use stornx_core::{
    ids::NodeName,
    memory::{Intent, Memory},
    ports::StateStore as _,
    units::{Span, Timestamp},
};
use stornx_k8s::{ConfigMapStore, ConnectOptions, Connection, StoreOptions};
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Roll, Workload},
    harness::Test,
    ports,
    wait::until,
};
use tokio::task::JoinSet;

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick},
        hook, rights,
    },
};

const HERE: &str = "hook";
const ASIDE: &str = "aside";
const STEERED: &str = "stornx.io/steered";
const PREFERRED: &str = "stornx.io/preferred";

/// A pod waits for the webhook for 2 s at most; the rest is what a busy machine takes.
const BOUND: Duration = Duration::from_secs(8);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::own("webhook_steers", Options::default(), steers),
        Test::own("webhook_never_refuses", Options::default(), never_refuses),
    ]
}

/// A workload of three replicas, and a daemon that can tell new ones where to run.
struct Scene {
    bed: Arc<TestBed>,
    admin: Client,
    cart: Workload,
    daemon: Daemon,
    settings: Vec<(&'static str, String)>,
}

async fn scene(bed: Arc<TestBed>, intents: u64) -> Result<(Scene, String), Failure> {
    let admin = bed.client("admin").await?;
    for namespace in [HERE, ASIDE] {
        apps::namespace(&admin, namespace).await?;
    }
    rights::grant(&admin, "stornx", &[HERE]).await?;
    hook::install(&admin, rights::OWN).await?;
    let cart = Workload::new(HERE, "cart", 3);
    cart.create(&admin).await?;
    let pods = apps::wait_ready(&admin, &cart, 3, SOON).await?;
    let taken: BTreeSet<String> = pods.iter().filter_map(node_of).collect();
    let nodes: Api<Node> = Api::all(admin.clone());
    let names = nodes.list(&ListParams::default()).await?.items;
    let mut names = names.into_iter().filter_map(|node| node.metadata.name);
    let target = names.find(|name| !taken.contains(name)).ok_or("a node without it")?;
    remember(&admin, &target, intents).await?;

    let port = ports::free()?;
    // Metrics are not needed: nothing is scaled here.
    let mut settings = quick(HERE, "http://127.0.0.1:9");
    settings.retain(|(name, _)| *name != "WEBHOOK_PORT");
    settings.push(("WEBHOOK_PORT", port.to_string()));
    settings.push(("WEBHOOK_URL", format!("https://127.0.0.1:{port}")));
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    let scene = Scene { bed, admin, cart, daemon, settings };
    scene.wait_asked().await?;
    Ok((scene, target))
}

/// Stores intents for the cart, as a cycle does before it asks for replicas.
async fn remember(admin: &Client, target: &str, count: u64) -> TestResult {
    let now = std::time::UNIX_EPOCH.elapsed()?.as_millis();
    let since = Timestamp::from_millis(u64::try_from(now)?);
    let until = since.after(Span::from_seconds(900));
    let node: NodeName = target.parse()?;
    // Each with a name of its own, as a cycle names them: a replica uses up what is named
    // like its own.
    let names = (0..count).map(|number| since.after(Span::from_millis(number)));
    let intents = names.map(|since| Intent { node: node.clone(), since, until }).collect();
    let mut memory = Memory::default();
    let cart = memory.workloads.entry(format!("{HERE}/Deployment/cart").parse()?).or_default();
    cart.intents = intents;
    let connection = Connection::over(admin.clone(), &ConnectOptions::default()).await?;
    let options = StoreOptions {
        namespace: rights::OWN.parse()?,
        name: "stornx".to_owned(),
        timeout: Duration::from_secs(10),
    };
    let store = ConfigMapStore::new(&connection, options);
    store.load().await?;
    store.save(&memory).await?;
    Ok(())
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn note<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    Some(pod.metadata.annotations.as_ref()?.get(key)?.as_str())
}

impl Scene {
    /// How often the daemon was asked, whatever it said.
    async fn asked(&self) -> Result<f64, Failure> {
        let page = self.daemon.page("/metrics").await?;
        let counts = page.lines().filter(|line| line.starts_with("stornx_webhook_requests_total{"));
        Ok(counts.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Waits until the API server asks the daemon, by dry runs, which leave nothing.
    async fn wait_asked(&self) -> TestResult {
        until("the API server to ask the webhook", SOON, || async {
            let pod = self.create(HERE, true).await.map_err(|error| error.to_string())?;
            // It leads, is reached, and has read what stands.
            if note(&pod, STEERED).is_some() { Ok(()) } else { Err("not steered".to_owned()) }
        })
        .await?;
        until("the daemon to know that it is", SOON, || async {
            match self.daemon.metric("stornx_steering", &[]).await {
                Ok(Some(1.0)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        Ok(())
    }

    /// Creates a pod like the next one of the cart's ReplicaSet.
    async fn create(&self, namespace: &str, dry_run: bool) -> Result<Pod, Failure> {
        let template = self.template().await?;
        create(&self.admin, &template, namespace, dry_run).await
    }

    /// The name and identity of the ReplicaSet.
    async fn template(&self) -> Result<(String, String), Failure> {
        let sets: Api<ReplicaSet> = Api::namespaced(self.admin.clone(), HERE);
        let found = sets.list(&ListParams::default()).await?.items;
        let set = found.into_iter().next().ok_or("a ReplicaSet")?.metadata;
        Ok((set.name.ok_or("a name")?, set.uid.ok_or("an identity")?))
    }

    async fn pods(&self) -> Result<Vec<Pod>, Failure> {
        Ok(apps::ready_pods(&self.admin, HERE, &self.cart.selector()).await?)
    }
}

async fn create(
    client: &Client,
    (set, uid): &(String, String),
    namespace: &str,
    dry_run: bool,
) -> Result<Pod, Failure> {
    let hash = set.rsplit('-').next().unwrap_or_default();
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {
            "generateName": format!("{set}-"),
            // Not those of the Service and the ReplicaSet, which would take it away.
            "labels": { "pod-template-hash": hash, "made-by": "e2e" },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": set, "uid": uid,
                "controller": true
            }]
        },
        "spec": { "containers": [{ "name": "app", "image": "e2e:testbed" }] }
    }))?;
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { dry_run, ..PostParams::default() };
    Ok(api.create(&params, &pod).await?)
}

async fn steers(bed: Arc<TestBed>) -> TestResult {
    let (scene, target) = scene(bed, 1).await?;
    let admin = &scene.admin;
    let before = scene.pods().await?;

    // Tried out, as often as one likes.
    for _ in 0..3 {
        let tried = scene.create(HERE, true).await?;
        if !note(&tried, STEERED).is_some_and(|note| note.starts_with(&format!("{target}@"))) {
            return Err(format!("a dry run shows nothing: {:?}", tried.metadata).into());
        }
    }
    // Used once, by the replica that somebody else asks for: the intent stands for it.
    apps::scale(admin, &scene.cart, 5).await?;
    let pods = apps::wait_ready(admin, &scene.cart, 5, SOON).await?;
    let known: BTreeSet<_> = before.iter().map(|pod| pod.metadata.name.clone()).collect();
    let new: Vec<_> = pods.iter().filter(|pod| !known.contains(&pod.metadata.name)).collect();
    let steered: Vec<_> = new.iter().filter(|pod| note(pod, STEERED).is_some()).collect();
    let [one] = steered.as_slice() else {
        return Err(format!("{} of {} are steered", steered.len(), new.len()).into());
    };
    if node_of(one).as_deref() != Some(&target) {
        return Err(format!("it runs on {:?}, not on {target}", node_of(one)).into());
    }

    // A rollout keeps the layout, as far as the scheduler can.
    let count = |nodes: Vec<String>| {
        nodes.into_iter().fold(BTreeMap::new(), |mut all: BTreeMap<String, u32>, node| {
            *all.entry(node).or_default() += 1;
            all
        })
    };
    let layout = count(pods.iter().filter_map(node_of).collect());
    let old: BTreeSet<_> = pods.iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
    scene.cart.roll(admin, Roll::Through).await?;
    let rolled = until("the rollout to go through", SOON, || async {
        let pods = scene.pods().await.map_err(|error| error.to_string())?;
        let new = |pod: &Pod| pod.metadata.uid.as_ref().is_some_and(|uid| !old.contains(uid));
        if pods.len() == 5 && pods.iter().all(new) { Ok(pods) } else { Err(pods.len().to_string()) }
    })
    .await?;
    let told: Vec<String> =
        rolled.iter().filter_map(|pod| note(pod, PREFERRED).map(ToOwned::to_owned)).collect();
    if count(told.clone()) != layout {
        return Err(format!("told {told:?}, not the layout {layout:?}").into());
    }
    let kept = rolled.iter().filter(|pod| node_of(pod).as_deref() == note(pod, PREFERRED)).count();
    println!("a rollout of 5: all told to keep the layout, {kept} could");
    if kept == 0 {
        return Err("no pod went where it was told".into());
    }

    // Elsewhere nobody is asked.
    let asked = scene.asked().await?;
    let aside = Workload::new(ASIDE, "cart", 2);
    aside.create(admin).await?;
    let pods = apps::wait_ready(admin, &aside, 2, SOON).await?;
    let touched = |pod: &Pod| note(pod, STEERED).or(note(pod, PREFERRED)).is_some();
    if pods.iter().any(touched) || scene.asked().await? > asked {
        return Err("asked about pods of a namespace that is not managed".into());
    }
    Ok(())
}

/// Creates a few pods one after the other; says how long the slowest took.
async fn slowest(scene: &Scene, what: &str) -> Result<Duration, Failure> {
    let mut slowest = Duration::ZERO;
    for _ in 0..3 {
        let began = Instant::now();
        scene.create(HERE, false).await.map_err(|error| format!("{what}: {error}"))?;
        slowest = slowest.max(began.elapsed());
    }
    println!("{what}: the slowest of 3 pods took {:.3} s", slowest.as_secs_f64());
    if slowest > BOUND {
        return Err(format!("{what}: a pod took {slowest:?}").into());
    }
    Ok(slowest)
}

async fn never_refuses(bed: Arc<TestBed>) -> TestResult {
    let (mut scene, _) = scene(bed, 400).await?;
    slowest(&scene, "healthy").await?;

    let configurations: Api<MutatingWebhookConfiguration> = Api::all(scene.admin.clone());
    let other = std::fs::read(scene.bed.folder().join("authority.crt"))?;
    let wrong = json!([{
        "op": "replace", "path": "/webhooks/0/clientConfig/caBundle",
        "value": k8s_openapi::ByteString(other)
    }]);
    let wrong: Patch<()> = Patch::Json(serde_json::from_value(wrong)?);
    configurations.patch("stornx", &PatchParams::default(), &wrong).await?;
    // Until the API server has it, pods are asked about as before.
    until("the wrong authority to be in force", SOON, || async {
        let before = scene.asked().await.map_err(|error| error.to_string())?;
        scene.create(HERE, true).await.map_err(|error| error.to_string())?;
        let after = scene.asked().await.map_err(|error| error.to_string())?;
        if after > before { Err("still asked".to_owned()) } else { Ok(()) }
    })
    .await?;
    slowest(&scene, "wrong authority").await?;
    // The leader mends it every 30 s; broken again each time, it does not go unnoticed.
    until("the daemon to notice that nobody asks", SOON, || async {
        let said = |error: Failure| error.to_string();
        let params = PatchParams::default();
        let broken = configurations.patch("stornx", &params, &wrong).await;
        broken.map_err(|error| error.to_string())?;
        scene.create(HERE, false).await.map_err(said)?;
        match scene.daemon.metric("stornx_steering", &[]).await.map_err(said)? {
            Some(0.0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    scene.wait_asked().await?;

    signal(&scene.daemon, "-STOP")?;
    let frozen = slowest(&scene, "the daemon hangs").await;
    signal(&scene.daemon, "-CONT")?;
    frozen?;
    scene.wait_asked().await?;

    scene.daemon.kill();
    slowest(&scene, "the daemon is gone").await?;
    scene.daemon = Daemon::start(&scene.bed, "stornx", "stornx", &scene.settings).await?;
    scene.daemon.wait_ready().await?;
    scene.wait_asked().await?;

    let before = figures(&scene.admin).await?;
    stream(&mut scene, "50 pods a second", false).await?;
    let after = figures(&scene.admin).await?;
    stream(&mut scene, "50 pods a second, the daemon killed and started anew", true).await?;
    report(&before, &after);
    Ok(())
}

fn signal(daemon: &Daemon, signal: &str) -> TestResult {
    let done = Command::new("kill").args([signal, &daemon.id().to_string()]).status()?;
    if done.success() { Ok(()) } else { Err(format!("kill {signal}: {done}").into()) }
}

/// Fifty pods a second for four seconds; in the middle the daemon may be restarted.
async fn stream(scene: &mut Scene, what: &str, restart: bool) -> TestResult {
    const PODS: u32 = 200;
    let template = scene.template().await?;
    let mut beat = tokio::time::interval(Duration::from_millis(20));
    let mut requests = JoinSet::new();
    for number in 0..PODS {
        beat.tick().await;
        let (client, template) = (scene.admin.clone(), template.clone());
        requests.spawn(async move {
            let began = Instant::now();
            let made = create(&client, &template, HERE, false).await;
            made.map(|pod| (began.elapsed(), note(&pod, STEERED).is_some()))
        });
        if restart && number == PODS / 2 {
            scene.daemon.kill();
            let (bed, settings) = (&scene.bed, &scene.settings);
            scene.daemon = Daemon::start(bed, "stornx", "stornx", settings).await?;
        }
    }
    let (mut took, mut steered) = (Vec::new(), 0);
    while let Some(done) = requests.join_next().await {
        let (time, told) = done?.map_err(|error| format!("{what}: refused: {error}"))?;
        took.push(time);
        steered += u32::from(told);
    }
    took.sort();
    let at = |share: usize| took.get(took.len() * share / 100).copied().unwrap_or_default();
    println!(
        "{what}: {} created, none refused, {steered} steered; {:.1} ms at the median, {:.1} ms at 95 %",
        took.len(),
        at(50).as_secs_f64() * 1000.0,
        at(95).as_secs_f64() * 1000.0
    );
    // While it is restarted nobody answers.
    if steered == 0 || (!restart && steered < PODS) {
        return Err(format!("{what}: only {steered} were steered").into());
    }
    Ok(())
}

/// The API server's own histogram of what our webhook added: by upper bound, and the sum.
async fn figures(client: &Client) -> Result<(BTreeMap<String, f64>, f64), Failure> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let page = client.request_text(request).await?;
    let name = "apiserver_admission_webhook_admission_duration_seconds";
    let ours =
        page.lines().filter(|line| line.starts_with(name) && line.contains("pods.stornx.io"));
    let (mut buckets, mut sum) = (BTreeMap::new(), 0.0);
    for line in ours {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let value: f64 = value.parse()?;
        if series.starts_with(&format!("{name}_sum")) {
            sum += value;
        } else if let Some((_, rest)) = series.split_once("le=\"") {
            let bound = rest.split('"').next().unwrap_or_default().to_owned();
            *buckets.entry(bound).or_default() += value;
        }
    }
    Ok((buckets, sum))
}

fn report(before: &(BTreeMap<String, f64>, f64), after: &(BTreeMap<String, f64>, f64)) {
    let more = |bound: &str| {
        let of = |all: &BTreeMap<String, f64>| all.get(bound).copied().unwrap_or_default();
        of(&after.0) - of(&before.0)
    };
    let all = more("+Inf");
    println!(
        "added by the webhook, as the API server measures it: {:.2} ms on average of {all} pods",
        (after.1 - before.1) / all * 1000.0
    );
    let mut bounds: Vec<(f64, &String)> =
        after.0.keys().filter_map(|bound| Some((bound.parse().ok()?, bound))).collect();
    bounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (_, bound) in bounds {
        println!("  within {bound} s: {:.1} %", more(bound) / all * 100.0);
    }
}
