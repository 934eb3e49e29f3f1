//! The webhook: registered with the server, asked over TLS by what it registered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use k8s_openapi::ByteString;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use stornx_core::{
    memory::{Intent, Memory},
    model::Steering,
    ports::{ClusterSource, LeaderGate, StateStore},
    units::{Span, Timestamp},
};
use stornx_k8s::{
    Cluster, ClusterOptions, ConfigMapStore, Connection, ServingWebhook, StoreOptions, Webhook,
    WebhookOptions, WebhookResult,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsConnector;

use crate::{
    shop::{DEPLOYMENTS, PODS, SLICES, STATEFUL_SETS, WEBHOOKS, node, pod, shop},
    support::{Api, Fault},
    until,
};

const LIMIT: Duration = Duration::from_secs(5);

/// A lease that a test gives and takes.
#[derive(Debug, Default)]
struct Gate(AtomicBool);

#[async_trait]
impl LeaderGate for Gate {
    async fn may_write(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

type Counted = Arc<Mutex<Vec<WebhookResult>>>;

struct Scene {
    api: Api,
    cluster: Cluster,
    store: ConfigMapStore,
    webhook: Webhook,
    gate: Arc<Gate>,
    leading: watch::Sender<bool>,
    counted: Counted,
    _connection: Connection,
    _serving: ServingWebhook,
}

/// The object as it is installed.
fn shipped() -> Value {
    let file = include_str!("../../../deploy/webhook/stornx.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(file).unwrap();
    objects.into_iter().find(|one| one["kind"] == "MutatingWebhookConfiguration").unwrap()
}

async fn scene(installed: Option<Value>, change: impl FnOnce(&mut WebhookOptions)) -> Scene {
    let api = Api::new();
    api.serve("admissionregistration.k8s.io/v1", &["mutatingwebhookconfigurations"]);
    shop(&api);
    api.put(PODS, pod("cart", "cart-7d9f-other", "n1"));
    if let Some(object) = installed {
        api.put(WEBHOOKS, object);
    }
    let connection = api.connect().await;
    let namespaces = ["shop".parse().unwrap()];
    let options = ClusterOptions { namespaces: namespaces.clone().into(), ..Default::default() };
    let cluster = Cluster::start(&connection, options);
    cluster.wait_synced(LIMIT).await.unwrap();
    let counted = Counted::default();
    let counts = Arc::clone(&counted);
    let mut options = WebhookOptions {
        namespaces: namespaces.into(),
        namespace: "stornx".parse().unwrap(),
        name: "stornx".to_owned(),
        port: 0,
        url: None,
        address: Some("127.0.0.1".parse().unwrap()),
        files: None,
        timeout: LIMIT,
        count: Arc::new(move |result, _| counts.lock().unwrap().push(result)),
    };
    change(&mut options);
    let webhook = Webhook::new(&cluster, options);
    let store = StoreOptions {
        namespace: "stornx".parse().unwrap(),
        name: "stornx".to_owned(),
        timeout: LIMIT,
    };
    let store = ConfigMapStore::new(&connection, store).telling(webhook.clone());
    let (gate, (leading, changes)) = (Arc::<Gate>::default(), watch::channel(false));
    let serving = webhook.start(&connection, gate.clone(), changes);
    Scene {
        api,
        cluster,
        store,
        webhook,
        gate,
        leading,
        counted,
        _connection: connection,
        _serving: serving,
    }
}

impl Scene {
    fn lead(&self, leads: bool) {
        self.gate.0.store(leads, Ordering::SeqCst);
        self.leading.send_replace(leads);
    }

    async fn steering(&self) -> String {
        match self.cluster.observe().await.unwrap().steering {
            Steering::Given => "given".to_owned(),
            Steering::Missing { reason } => reason,
        }
    }

    async fn wait_steering(&self, text: &str) {
        until(text, async || self.steering().await.contains(text)).await;
    }

    fn entry(&self) -> Value {
        self.api.get(WEBHOOKS, "stornx").unwrap()["webhooks"][0].clone()
    }

    /// Asks as the API server does: by the slice, trusting what the object says.
    async fn ask(&self, body: String) -> std::io::Result<String> {
        let slice = self.api.get(SLICES, "stornx/stornx-webhook").unwrap();
        let port = u16::try_from(slice["ports"][0]["port"].as_u64().unwrap()).unwrap();
        let bundle = self.entry()["clientConfig"]["caBundle"].clone();
        let ByteString(pem) = serde_json::from_value(bundle).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("stornx-webhook.stornx.svc").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let path = "/mutate-pods?timeout=2s";
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// The answer, which allows whatever it was asked about.
    async fn post(&self, body: String) -> Value {
        let answer = self.ask(body).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let review: Value = serde_json::from_str(body).unwrap();
        assert_eq!(review["response"]["allowed"], true, "{review}");
        review["response"].clone()
    }

    /// The pod as it comes out, or nothing when it is left as it is.
    async fn create(&self, pod: &Value, dry_run: bool) -> Option<Value> {
        let response = self.post(review(pod, dry_run).to_string()).await;
        assert_eq!(response["uid"], "u-1");
        let ByteString(bytes) = serde_json::from_value(response.get("patch")?.clone()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&bytes).unwrap();
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &patch).unwrap();
        Some(pod)
    }
}

fn review(pod: &Value, dry_run: bool) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "operation": "CREATE", "namespace": "shop", "dryRun": dry_run, "object": pod
        }
    })
}

/// A replica of `cart` as its ReplicaSet asks for it.
fn newcomer(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = pod("cart", "cart-7d9f-new", "n1");
    pod["metadata"].as_object_mut().unwrap().remove("name");
    pod["metadata"].as_object_mut().unwrap().remove("namespace");
    pod["spec"].as_object_mut().unwrap().remove("nodeName");
    change(&mut pod);
    pod
}

fn required(pod: &Value) -> &Value {
    &pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        [0]["matchFields"][0]["values"]
}

fn preferred(pod: &Value) -> &Value {
    &pod["spec"]["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["preference"]
        ["matchFields"][0]["values"]
}

fn memory(nodes: &[&str]) -> Memory {
    let now = Timestamp::from_millis(
        u64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap(),
    );
    let intent = |node: &&str| Intent {
        node: node.parse().unwrap(),
        since: now,
        until: now.after(Span::from_seconds(600)),
    };
    let mut memory = Memory::default();
    let entry = memory.workloads.entry("shop/Deployment/cart".parse().unwrap()).or_default();
    entry.intents = nodes.iter().map(intent).collect();
    memory
}

#[tokio::test]
async fn a_stored_intent_steers_one_pod() {
    let scene = scene(Some(shipped()), |_| {}).await;
    scene.lead(true);
    scene.wait_steering("given").await;
    scene.store.load().await.unwrap();
    assert_eq!(scene.create(&newcomer(|_| {}), false).await, None, "nothing stands");

    scene.store.save(&memory(&["n2"])).await.unwrap();
    let tried = scene.create(&newcomer(|_| {}), true).await.unwrap();
    assert_eq!(required(&tried), &json!(["n2"]));
    let steered = scene.create(&newcomer(|_| {}), false).await.unwrap();
    assert_eq!(required(&steered), &json!(["n2"]), "the dry run took nothing");
    let note = steered["metadata"]["annotations"]["stornx.io/steered"].as_str().unwrap();
    assert!(note.starts_with("n2@"), "{note}");
    assert_eq!(steered["metadata"]["annotations"]["istio.io/rev"], "default");
    assert_eq!(scene.create(&newcomer(|_| {}), false).await, None, "used once");

    // Another process reads the same memory, and sees the pod.
    let mut there = steered.clone();
    there["metadata"]["name"] = json!("cart-7d9f-new");
    there["metadata"]["namespace"] = json!("shop");
    scene.api.put(PODS, there);
    scene.lead(false);
    scene.wait_steering("does not lead").await;
    assert_eq!(scene.create(&newcomer(|_| {}), false).await, None);
    scene.lead(true);
    scene.wait_steering("given").await;
    scene.store.load().await.unwrap();
    assert_eq!(scene.create(&newcomer(|_| {}), false).await, None);

    // A refused save steers nobody: it is not in the cluster.
    scene.api.fail("PATCH", "/configmaps", [Fault::Status(500)]);
    scene.store.save(&memory(&["n1"])).await.unwrap_err();
    assert_eq!(scene.create(&newcomer(|_| {}), false).await, None);

    let counted = scene.counted.lock().unwrap().clone();
    let of = |wanted| counted.iter().filter(|result| **result == wanted).count();
    assert_eq!((of(WebhookResult::Required), of(WebhookResult::NotLeading)), (2, 1));
    assert_eq!(of(WebhookResult::Nothing), counted.len() - 3);
}

#[tokio::test]
async fn preferences_are_for_pods_that_others_ask_for() {
    let scene = scene(Some(shipped()), |_| {}).await;
    scene.lead(true);
    scene.wait_steering("given").await;
    let cart: stornx_core::ids::WorkloadRef = "shop/Deployment/cart".parse().unwrap();
    let nodes = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
    let next = [(cart, nodes(&["n2", "gone", "n1"]))];
    scene.webhook.prefer(next.into(), Span::from_seconds(60));
    let soft = scene.create(&newcomer(|_| {}), false).await.unwrap();
    assert_eq!(preferred(&soft), &json!(["n2"]));
    assert_eq!(soft["metadata"]["annotations"]["stornx.io/preferred"], "n2");
    let soft = scene.create(&newcomer(|_| {}), false).await.unwrap();
    assert_eq!(preferred(&soft), &json!(["n1"]), "a node that is not there is passed over");

    // A rollout of somebody else keeps the layout.
    let rolled = newcomer(|pod| {
        pod["metadata"]["labels"]["pod-template-hash"] = json!("8e0a");
        pod["metadata"]["ownerReferences"][0]["name"] = json!("cart-8e0a");
    });
    for wanted in ["n1", "n2", "n1"] {
        let soft = scene.create(&rolled, false).await.unwrap();
        assert_eq!(preferred(&soft), &json!([wanted]));
    }
    assert_eq!(scene.create(&rolled, false).await, None, "no more than there were");
}

#[tokio::test]
async fn what_is_not_ours_is_left_alone() {
    let scene = scene(Some(shipped()), |_| {}).await;
    scene.lead(true);
    scene.wait_steering("given").await;
    let all = ["n1"; 30];
    scene.store.load().await.unwrap();
    scene.store.save(&memory(&all)).await.unwrap();
    for (what, change) in [
        ("names its node", |pod: &mut Value| pod["spec"]["nodeName"] = json!("n2")),
        ("of nobody", |pod: &mut Value| pod["metadata"]["ownerReferences"] = json!([])),
        ("of a set of another name", |pod: &mut Value| {
            pod["metadata"]["ownerReferences"][0]["name"] = json!("cart-api-7d9f");
        }),
        ("of a StatefulSet", |pod: &mut Value| {
            pod["metadata"]["ownerReferences"][0]["kind"] = json!("StatefulSet");
        }),
        ("without the label", |pod: &mut Value| {
            pod["metadata"].as_object_mut().unwrap().remove("labels");
        }),
    ] as [(&str, fn(&mut Value)); 5]
    {
        assert_eq!(scene.create(&newcomer(change), false).await, None, "{what}");
    }
    let mut review = review(&newcomer(|_| {}), false);
    review["request"]["namespace"] = json!("other");
    assert_eq!(scene.post(review.to_string()).await.get("patch"), None, "another namespace");
    review["request"]["namespace"] = json!("shop");
    review["request"]["operation"] = json!("UPDATE");
    assert_eq!(scene.post(review.to_string()).await.get("patch"), None, "an update");

    // What cannot be read is allowed all the same, with the identifier where there is one.
    let odd = json!({ "request": { "uid": "u-9", "object": 7 } });
    assert_eq!(scene.post(odd.to_string()).await["uid"], "u-9");
    assert_eq!(scene.post("{".to_owned()).await["uid"], "");
    // Too large: the connection ends, with or without an answer, and it is counted.
    let before = scene.counted.lock().unwrap().len();
    let _ = scene.ask("x".repeat(4 << 20)).await;
    until("it to be counted", async || scene.counted.lock().unwrap().len() > before).await;
    let closed = newcomer(|pod| pod["spec"]["affinity"] = json!("surprise"));
    assert_eq!(scene.create(&closed, false).await, None);

    let steered = scene.create(&newcomer(|_| {}), false).await.unwrap();
    assert_eq!(required(&steered), &json!(["n1"]));
    for (key, value) in [("stornx.io/policy", "off"), ("stornx.io/surprise", "1")] {
        let mut cart = scene.api.get(DEPLOYMENTS, "shop/cart").unwrap();
        cart["metadata"]["annotations"][key] = json!(value);
        scene.api.put(DEPLOYMENTS, cart);
        // Until the watch has seen it.
        until(key, async || scene.create(&newcomer(|_| {}), true).await.is_none()).await;
        let mut cart = scene.api.get(DEPLOYMENTS, "shop/cart").unwrap();
        cart["metadata"]["annotations"].as_object_mut().unwrap().remove(key);
        scene.api.put(DEPLOYMENTS, cart);
        until(key, async || scene.create(&newcomer(|_| {}), true).await.is_some()).await;
    }
    let mut cordoned = node("n1", "a");
    cordoned["spec"]["unschedulable"] = json!(true);
    scene.api.put(crate::shop::NODES, cordoned);
    until("a node that takes no pods is nowhere to go", async || {
        scene.create(&newcomer(|_| {}), true).await.is_none()
    })
    .await;
    assert_eq!(scene.api.all(STATEFUL_SETS).len(), 0);
}

#[tokio::test]
async fn only_the_leader_writes_and_what_others_change_is_mended() {
    let mut installed = shipped();
    installed["webhooks"][0]["failurePolicy"] = json!("Fail");
    installed["webhooks"][0]["timeoutSeconds"] = json!(30);
    let other = json!({ "name": "other.example.com", "failurePolicy": "Fail" });
    installed["webhooks"].as_array_mut().unwrap().push(other.clone());
    let scene = scene(Some(installed.clone()), |_| {}).await;
    scene.wait_steering("does not lead").await;
    let writes = || {
        let asked = scene.api.requests();
        asked.iter().filter(|line| line.contains("webhook") && !line.starts_with("GET")).count()
    };
    assert_eq!(writes(), 0);
    // Somebody writes in between: nothing of it is lost.
    scene.api.fail("PATCH", "/mutatingwebhook", [Fault::Status(409)]);
    scene.lead(true);
    scene.wait_steering("given").await;
    let entry = scene.entry();
    assert_eq!((&entry["failurePolicy"], &entry["timeoutSeconds"]), (&json!("Ignore"), &json!(2)));
    assert_eq!(entry["namespaceSelector"]["matchExpressions"][0]["values"], json!(["shop"]));
    assert_eq!(scene.api.get(WEBHOOKS, "stornx").unwrap()["webhooks"][1], other);
    let slice = scene.api.get(SLICES, "stornx/stornx-webhook").unwrap();
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["127.0.0.1"]));
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], "stornx-webhook");

    // Another leader has been here meanwhile.
    scene.lead(false);
    scene.wait_steering("does not lead").await;
    let mut theirs = slice.clone();
    theirs["endpoints"][0]["addresses"] = json!(["10.0.0.9"]);
    scene.api.put(SLICES, theirs);
    let before = writes();
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(writes(), before, "not ours to write");
    scene.lead(true);
    until("its own address again", async || {
        let slice = scene.api.get(SLICES, "stornx/stornx-webhook").unwrap();
        slice["endpoints"][0]["addresses"] == json!(["127.0.0.1"])
    })
    .await;
}

#[tokio::test]
async fn what_stands_in_the_way_is_said() {
    let missing = scene(None, |_| {}).await;
    missing.lead(true);
    missing.wait_steering("there is no MutatingWebhookConfiguration stornx").await;
    let nowhere = scene(Some(shipped()), |options| options.address = None).await;
    nowhere.lead(true);
    nowhere.wait_steering("neither WEBHOOK_URL nor POD_IP").await;
    let forbidden = scene(Some(shipped()), |_| {}).await;
    forbidden.api.fail("PATCH", "/mutatingwebhook", vec![Fault::Status(403); 9]);
    forbidden.lead(true);
    forbidden.wait_steering("403").await;
    let files = ("/nowhere/tls.crt".into(), "/nowhere/tls.key".into());
    let unread = scene(Some(shipped()), |options| options.files = Some(files)).await;
    unread.lead(true);
    unread.wait_steering("/nowhere/tls.crt").await;
    let taken = std::net::TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let closed = scene(Some(shipped()), |options| options.port = port).await;
    closed.lead(true);
    closed.wait_steering("cannot listen").await;
    let by_url = scene(Some(shipped()), |options| {
        options.url = Some("https://127.0.0.1:8443".to_owned());
    })
    .await;
    by_url.lead(true);
    by_url.wait_steering("given").await;
    assert_eq!(by_url.entry()["clientConfig"]["url"], "https://127.0.0.1:8443/mutate-pods");
    assert_eq!(by_url.entry()["clientConfig"].get("service"), None);
    assert_eq!(by_url.api.all(SLICES).len(), 0);
}
