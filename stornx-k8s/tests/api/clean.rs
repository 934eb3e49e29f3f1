//! Taking back everything of StornX.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use stornx_core::ports::{LeaderGate, PortError};
use stornx_k8s::{CleanOptions, Connection, clean, clean_lease};

use crate::{
    moves::AUTOSCALERS,
    shop::{CONFIG_MAPS, LEASES, NODES, PODS, RULES, SLICES, WEBHOOKS, pod, shop, weights},
    support::{Api, Fault},
    write::{COST, VICTIM, annotation},
};

struct Gate(AtomicBool);

#[async_trait]
impl LeaderGate for Gate {
    async fn may_write(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

const MINE: &str = "app.kubernetes.io/managed-by";

/// Everything that StornX may leave.
async fn setup() -> (Api, Connection, CleanOptions) {
    let api = Api::new();
    api.serve("admissionregistration.k8s.io/v1", &["mutatingwebhookconfigurations"]);
    shop(&api);
    let mut marked = pod("cart", "cart-7d9f-a", "n1");
    marked["metadata"]["annotations"] = json!({
        COST: "-2147483648", VICTIM: "7", "stornx.io/steered": "n1@1", "team": "shop"
    });
    api.put(PODS, marked);
    let spec = json!({ "minReplicas": 4, "maxReplicas": 5, "scaleTargetRef":
        { "apiVersion": "apps/v1", "kind": "Deployment", "name": "cart" } });
    api.put(
        AUTOSCALERS,
        json!({ "metadata": { "namespace": "shop", "name": "cart",
            "annotations": { "stornx.io/held-minimum": "2/4" } }, "spec": spec }),
    );
    let own =
        |name: &str| json!({ "namespace": "stornx", "name": name, "labels": { MINE: "stornx" } });
    api.put(SLICES, json!({ "metadata": own("stornx-webhook"), "addressType": "IPv4" }));
    let memory = json!({ "memory.json.gz": "AAAA" });
    api.put(CONFIG_MAPS, json!({ "metadata": own("stornx"), "binaryData": memory }));
    api.put(LEASES, json!({ "metadata": own("stornx"), "spec": { "holderIdentity": "" } }));
    api.put(
        WEBHOOKS,
        json!({ "metadata": { "name": "stornx" }, "webhooks": [
            { "name": "pods.stornx.io", "clientConfig": { "url": "https://a", "caBundle": "UEVN" },
              "namespaceSelector": { "matchExpressions": [] } },
            { "name": "others.example.org", "clientConfig": { "caBundle": "T1RIRVI=" } }
        ] }),
    );
    let connection = api.connect().await;
    api.forget_requests();
    let options = CleanOptions {
        namespaces: ["shop".parse().unwrap()].into(),
        namespace: "stornx".parse().unwrap(),
        name: "stornx".to_owned(),
        keeps_trust: false,
        dry_run: false,
        timeout: Duration::from_secs(5),
    };
    (api, connection, options)
}

async fn run(
    connection: &Connection,
    options: &CleanOptions,
    leads: bool,
) -> (Vec<String>, Result<(), Vec<PortError>>) {
    let mut told = Vec::new();
    let gate = Gate(AtomicBool::new(leads));
    let mut note = |one: stornx_k8s::Cleaned| told.push(one.to_string());
    let mut result = clean(connection, options, &gate, &mut note).await;
    if result.is_ok() {
        result = clean_lease(connection, options, &mut note).await.map_err(|error| vec![error]);
    }
    (told, result)
}

fn writes(api: &Api) -> Vec<String> {
    let mut writes = api.requests();
    writes.retain(|request| !request.starts_with("GET"));
    writes
}

const ALL: [&str; 6] = [
    "HorizontalPodAutoscaler shop/cart: its minimum is 2 again",
    "Pod shop/cart-7d9f-a: its deletion mark and annotations removed",
    "MutatingWebhookConfiguration stornx: asks about no namespace any more",
    "EndpointSlice stornx/stornx-webhook: deleted",
    "ConfigMap stornx/stornx: the memory, deleted",
    "Lease stornx/stornx: deleted",
];

#[tokio::test(start_paused = true)]
async fn everything_is_taken_back_and_a_second_time_there_is_nothing() {
    let (api, connection, options) = setup().await;
    let (told, result) = run(&connection, &options, true).await;
    result.unwrap();
    assert_eq!(told, ALL);
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "7", "the cost from before");
    let pod = api.get(PODS, "shop/cart-7d9f-a").unwrap();
    assert_eq!(pod["metadata"]["annotations"], json!({ COST: "7", "team": "shop" }));
    let autoscaler = api.get(AUTOSCALERS, "shop/cart").unwrap();
    assert_eq!(autoscaler["spec"]["minReplicas"], 2);
    assert_eq!(autoscaler["metadata"]["annotations"], json!({}));
    let hooks = api.get(WEBHOOKS, "stornx").unwrap()["webhooks"].clone();
    assert_eq!(hooks[0]["namespaceSelector"]["matchExpressions"][0]["values"], json!([""]));
    assert_eq!(hooks[0]["clientConfig"], json!({ "url": "https://a" }));
    assert_eq!(hooks[1]["clientConfig"]["caBundle"], "T1RIRVI=", "others stay");
    for (collection, name) in
        [(SLICES, "stornx-webhook"), (CONFIG_MAPS, "stornx"), (LEASES, "stornx")]
    {
        assert_eq!(api.get(collection, &format!("stornx/{name}")), None);
    }
    api.forget_requests();
    let (told, result) = run(&connection, &options, true).await;
    result.unwrap();
    assert_eq!((told, writes(&api)), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_the_same_and_writes_nothing() {
    let (api, connection, options) = setup().await;
    let options = CleanOptions { dry_run: true, ..options };
    let (told, result) = run(&connection, &options, false).await;
    result.unwrap();
    assert_eq!(told, ALL);
    assert_eq!(writes(&api), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn who_may_not_write_does_not_and_a_lease_of_somebody_stays() {
    let (api, connection, options) = setup().await;
    let (told, result) = run(&connection, &options, false).await;
    let errors = result.unwrap_err();
    assert!(matches!(errors.as_slice(), [PortError::NotLeader { .. }]), "{errors:?}");
    assert_eq!((told, writes(&api)), (vec![], vec![]));

    let mut lease = api.get(LEASES, "stornx/stornx").unwrap();
    lease["spec"]["holderIdentity"] = json!("another");
    api.put(LEASES, lease);
    let (told, result) = run(&connection, &options, true).await;
    let text = result.unwrap_err()[0].to_string();
    assert!(text.contains("another holds it"), "{text}");
    assert_eq!(told, ALL[..5]);
    assert!(api.get(LEASES, "stornx/stornx").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_fails_keeps_the_memory_and_nothing_else() {
    let (api, connection, options) = setup().await;
    api.fail("PATCH", "/mutatingwebhookconfigurations", [Fault::Status(403)]);
    api.fail("PATCH", "/horizontalpodautoscalers", [Fault::Status(409)]);
    let (told, result) = run(&connection, &options, true).await;
    let errors = result.unwrap_err();
    let [PortError::Conflict { .. }, PortError::Rejected { .. }] = errors.as_slice() else {
        panic!("{errors:?}")
    };
    assert_eq!(told, [ALL[1], ALL[3]]);
    assert!(api.get(CONFIG_MAPS, "stornx/stornx").is_some());
    let (told, result) = run(&connection, &options, true).await;
    result.unwrap();
    assert_eq!(told, [ALL[0], ALL[2], ALL[4], ALL[5]], "the next run does the rest");
}

#[tokio::test(start_paused = true)]
async fn weights_that_are_left_elsewhere_are_named_and_keep_the_names_of_nodes() {
    let (api, connection, options) = setup().await;
    api.serve("networking.istio.io/v1", &["destinationrules"]);
    let mut node = api.get(NODES, "n1").unwrap();
    node["metadata"]["labels"]["topology.istio.io/subzone"] = json!("n1");
    node["metadata"]["managedFields"] = json!([{
        "manager": "stornx", "operation": "Apply", "fieldsType": "FieldsV1",
        "fieldsV1": { "f:metadata": { "f:labels": { "f:topology.istio.io/subzone": {} } } }
    }]);
    api.put(NODES, node);
    api.put(RULES, weights("shop", "cart", "stornx"));
    api.put(RULES, weights("before", "cart", "stornx"));
    api.put(RULES, weights("theirs", "cart", "kubectl"));
    for dry_run in [true, false] {
        let options = CleanOptions { dry_run, ..options.clone() };
        let (told, result) = run(&connection, &options, true).await;
        let errors: Vec<String> = result.unwrap_err().iter().map(ToString::to_string).collect();
        let [error] = errors.as_slice() else { panic!("{errors:?}") };
        assert!(error.contains("before/cart") && error.contains("NAMESPACES"), "{error}");
        assert!(!error.contains("theirs") && !error.contains("shop/cart"), "{error}");
        assert!(told.iter().any(|one| one.contains("DestinationRule shop/cart")), "{told:?}");
        assert!(!told.iter().any(|one| one.contains("Node")), "{told:?}");
        assert!(api.get(CONFIG_MAPS, "stornx/stornx").is_some(), "what is left is remembered");
    }
    let namespaces = ["shop", "before"].map(|one| one.parse().unwrap()).into();
    let options = CleanOptions { namespaces, ..options };
    let (told, result) = run(&connection, &options, true).await;
    result.unwrap();
    assert!(told.iter().any(|one| one.contains("Node n1")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_cost_that_somebody_set_since_stays() {
    let (api, connection, options) = setup().await;
    let mut marked = api.get(PODS, "shop/cart-7d9f-a").unwrap();
    marked["metadata"]["annotations"][COST] = json!("99");
    api.put(PODS, marked);
    run(&connection, &options, true).await.1.unwrap();
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "99");
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn a_config_map_of_somebody_else_loses_the_memory_alone() {
    let (api, connection, options) = setup().await;
    let mut map = api.get(CONFIG_MAPS, "stornx/stornx").unwrap();
    map["data"] = json!({ "theirs": "1" });
    api.put(CONFIG_MAPS, map);
    let (told, result) = run(&connection, &options, true).await;
    result.unwrap();
    assert_eq!(told[4], "ConfigMap stornx/stornx: the memory, removed from it");
    let map = api.get(CONFIG_MAPS, "stornx/stornx").unwrap();
    assert_eq!(
        (&map["data"], &map["binaryData"]),
        (&json!({ "theirs": "1" }), &Value::from(serde_json::Map::new()))
    );
}
