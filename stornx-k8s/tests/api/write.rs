//! Replica counts and deletion marks.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use stornx_core::{
    ids::{NodeName, PodName, WorkloadRef},
    model::ClusterFacts,
    plan::Action,
    ports::{Actuator, ClusterSource, PortError},
    testing::contract,
};
use stornx_k8s::{Cluster, ClusterOptions, KubeActuator};

use crate::{
    shop::{DEPLOYMENTS, PODS, STATEFUL_SETS, pod, shop},
    support::{Api, Fault},
};

pub(crate) const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(crate) const VICTIM: &str = "stornx.io/victim";
const LIMIT: Duration = Duration::from_secs(5);

pub(crate) async fn setup() -> (Api, KubeActuator) {
    let api = Api::new();
    shop(&api);
    let actuator = KubeActuator::new(&api.connect().await, LIMIT);
    api.forget_requests();
    (api, actuator)
}

pub(crate) fn cart() -> WorkloadRef {
    "shop/Deployment/cart".parse().unwrap()
}

fn add(observed: u32, nodes: &[&str]) -> Action {
    let nodes: Vec<NodeName> = nodes.iter().map(|node| node.parse().unwrap()).collect();
    Action::AddReplicas { workload: cart(), observed, nodes }
}

fn remove(observed: u32, victims: &[&str]) -> Action {
    let victims: Vec<PodName> =
        victims.iter().map(|name| format!("shop/{name}").parse().unwrap()).collect();
    Action::RemoveReplicas { workload: cart(), observed, victims }
}

pub(crate) fn replicas(api: &Api) -> Value {
    api.get(DEPLOYMENTS, "shop/cart").unwrap()["spec"]["replicas"].clone()
}

pub(crate) fn annotation(api: &Api, pod: &str, key: &str) -> Value {
    api.get(PODS, &format!("shop/{pod}")).unwrap()["metadata"]["annotations"][key].clone()
}

pub(crate) fn conflict(result: Result<(), PortError>) -> String {
    match result {
        Err(error @ PortError::Conflict { .. }) => error.to_string(),
        other => panic!("a conflict, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_is_raised_at_the_version_that_was_read() {
    let (api, actuator) = setup().await;
    actuator.apply(&add(2, &["n1", "n2"])).await.unwrap();
    assert_eq!(replicas(&api), 4);
    let requests = api.requests();
    let [read, request] = requests.as_slice() else { panic!("{requests:?}") };
    assert!(read.starts_with("GET /apis/apps/v1/namespaces/shop/deployments/cart"));
    assert!(request.starts_with("PATCH /apis/apps/v1/namespaces/shop/deployments/cart/scale"));
    assert!(request.contains("fieldManager=stornx"), "{request}");
    let text = conflict(actuator.apply(&add(2, &["n1"])).await);
    assert!(text.contains("expected 2 replicas, found 4"), "{text}");
    assert_eq!(replicas(&api), 4);
}

/// As the Deployment controller does whenever a pod becomes Ready.
fn report(object: &mut Value) {
    let ready = object["status"]["readyReplicas"].as_u64().unwrap_or(0);
    object["status"]["readyReplicas"] = json!(ready + 1);
}

#[tokio::test(start_paused = true)]
async fn a_status_that_moves_on_is_no_conflict_and_a_write_of_somebody_is() {
    let (api, actuator) = setup().await;
    let status = Fault::Overtaken(DEPLOYMENTS, "shop/cart", report);
    api.fail("PATCH", "/scale", [status.clone(), status.clone()]);
    actuator.apply(&add(2, &["n1"])).await.unwrap();
    assert_eq!(replicas(&api), 3);
    let patches = api.requests().iter().filter(|request| request.starts_with("PATCH")).count();
    assert_eq!(patches, 3, "asked again at the new version");

    api.fail("PATCH", "/scale", vec![status; 9]);
    let text = conflict(actuator.apply(&add(3, &["n1"])).await);
    assert!(text.contains("5 times at the same moment"), "{text}");
    assert_eq!(replicas(&api), 3);
    api.heal();

    let count = |object: &mut Value| object["spec"]["replicas"] = json!(9);
    api.fail("PATCH", "/scale", [Fault::Overtaken(DEPLOYMENTS, "shop/cart", count)]);
    let text = conflict(actuator.apply(&add(3, &["n1"])).await);
    assert!(text.contains("expected 3 replicas, found 9"), "{text}");
    assert_eq!(replicas(&api), 9);

    // The same count again, and yet it was set by somebody meanwhile.
    let again = |object: &mut Value| object["spec"]["paused"] = json!(true);
    api.fail("PATCH", "/scale", [Fault::Overtaken(DEPLOYMENTS, "shop/cart", again)]);
    let text = conflict(actuator.apply(&add(9, &["n1"])).await);
    assert!(text.contains("by somebody else at the same moment"), "{text}");
    assert_eq!(replicas(&api), 9);
}

#[tokio::test(start_paused = true)]
async fn what_changes_between_marks_and_count_is_seen() {
    type Change = fn(&mut Value);
    let changes: [(&str, &str, &str, Change); 3] = [
        ("", DEPLOYMENTS, "shop/cart", report),
        ("by somebody else", DEPLOYMENTS, "shop/cart", |it| it["spec"]["paused"] = json!(true)),
        ("is not ready and would go first", PODS, "shop/cart-7d9f-b", |it| {
            it["status"]["conditions"] = json!([]);
        }),
    ];
    for (expected, collection, key, change) in changes {
        let (api, actuator) = setup().await;
        api.fail("PATCH", "/pods/cart-7d9f-a", [Fault::Overtaken(collection, key, change)]);
        let result = actuator.apply(&remove(2, &["cart-7d9f-a"])).await;
        if expected.is_empty() {
            result.unwrap();
            assert_eq!(replicas(&api), 1);
            continue;
        }
        let text = conflict(result);
        assert!(text.contains(expected), "{text}");
        assert_eq!(replicas(&api), 2);
        assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), Value::Null, "the mark is off again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_of_zero_is_raised_too() {
    let (api, actuator) = setup().await;
    let mut object = api.get(DEPLOYMENTS, "shop/cart").unwrap();
    object["spec"]["replicas"] = json!(0);
    api.put(DEPLOYMENTS, object);
    conflict(actuator.apply(&add(1, &["n1"])).await);
    actuator.apply(&add(0, &["n1"])).await.unwrap();
    assert_eq!(replicas(&api), 1);
    conflict(actuator.apply(&add(0, &["n1"])).await);
}

#[tokio::test(start_paused = true)]
async fn answers_become_what_they_mean() {
    let (api, actuator) = setup().await;
    for (fault, expected) in [
        (Fault::Status(409), "conflict"),
        (Fault::Status(404), "conflict"),
        (Fault::Status(403), "rejected"),
        (Fault::Status(422), "rejected"),
        (Fault::Status(429), "unavailable"),
        (Fault::Status(500), "unavailable"),
        (Fault::Silence, "unavailable"),
    ] {
        api.fail("PATCH", "/scale", [fault.clone()]);
        let kind = match actuator.apply(&add(2, &["n1"])).await {
            Err(PortError::Conflict { .. }) => "conflict",
            Err(PortError::Rejected { .. }) => "rejected",
            Err(PortError::Unavailable { .. }) => "unavailable",
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, expected, "{fault:?}");
        assert_eq!(replicas(&api), 2, "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_time_out_is_for_the_whole_action() {
    let (api, actuator) = setup().await;
    api.fail("PATCH", "/scale", [Fault::Silence]);
    let began = tokio::time::Instant::now();
    let result = actuator.apply(&remove(2, &["cart-7d9f-a"])).await;
    assert!(matches!(result, Err(PortError::Unavailable { .. })), "{result:?}");
    assert_eq!(began.elapsed(), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn exactly_the_victims_are_marked_before_the_count_is_lowered() {
    let (api, actuator) = setup().await;
    actuator.apply(&remove(2, &["cart-7d9f-b"])).await.unwrap();
    assert_eq!(replicas(&api), 1);
    assert_eq!(annotation(&api, "cart-7d9f-b", COST), "-2147483648");
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), Value::Null);
    let order: Vec<bool> = api
        .requests()
        .iter()
        .filter(|request| request.starts_with("PATCH"))
        .map(|request| request.contains("/scale"))
        .collect();
    assert_eq!(order, [false, true]);
}

#[tokio::test(start_paused = true)]
async fn marks_come_off_when_the_request_was_refused_and_stay_without_an_answer() {
    let (api, actuator) = setup().await;
    let mut priced = pod("cart", "cart-7d9f-a", "n1");
    priced["metadata"]["annotations"][COST] = json!("7");
    api.put(PODS, priced);
    api.fail("PATCH", "/scale", [Fault::Status(403)]);
    let failed = actuator.apply(&remove(2, &["cart-7d9f-a"])).await;
    assert!(matches!(failed, Err(PortError::Rejected { .. })), "{failed:?}");
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "7", "what was there before is back");
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), Value::Null);

    api.fail("PATCH", "/scale", [Fault::Status(500)]);
    let failed = actuator.apply(&remove(2, &["cart-7d9f-a"])).await;
    assert!(matches!(failed, Err(PortError::Unavailable { .. })), "{failed:?}");
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "-2147483648", "it may still be done");
    assert_eq!(annotation(&api, "cart-7d9f-a", VICTIM), "7", "nothing is lost");

    api.fail("PATCH", "/scale", [Fault::DoneBut(504)]);
    actuator.apply(&remove(2, &["cart-7d9f-a"])).await.unwrap();
    assert_eq!(replicas(&api), 1, "it was done: the count says so");
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), "-2147483648");
}

#[tokio::test(start_paused = true)]
async fn marks_left_by_a_crash_are_taken_off_others() {
    let (api, actuator) = setup().await;
    let mut left = pod("cart", "cart-7d9f-a", "n1");
    left["metadata"]["annotations"][COST] = json!("-2147483648");
    left["metadata"]["annotations"][VICTIM] = json!("true");
    api.put(PODS, left);
    actuator.apply(&remove(2, &["cart-7d9f-b"])).await.unwrap();
    assert_eq!(annotation(&api, "cart-7d9f-a", COST), Value::Null);
    assert_eq!(annotation(&api, "cart-7d9f-b", COST), "-2147483648");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_marked_when_others_would_go() {
    type Change = fn(&Api);
    let changes: [(&str, Change); 4] = [
        ("is not a replica any more", |api| api.remove(PODS, "shop/cart-7d9f-b")),
        ("is not ready and would go first", |api| {
            let mut unready = pod("cart", "cart-7d9f-a", "n1");
            unready["status"]["conditions"][3]["status"] = json!("False");
            api.put(PODS, unready);
        }),
        ("3 replicas are there", |api| {
            api.put(PODS, pod("cart", "cart-7d9f-c", "n1"));
        }),
        ("several revisions", |api| {
            let mut old = pod("cart", "cart-7d9f-a", "n1");
            old["metadata"]["labels"]["pod-template-hash"] = json!("old");
            old["metadata"]["ownerReferences"][0]["name"] = json!("cart-old");
            api.put(PODS, old);
        }),
    ];
    for (why, change) in changes {
        let (api, actuator) = setup().await;
        change(&api);
        let text = conflict(actuator.apply(&remove(2, &["cart-7d9f-b"])).await);
        assert!(text.contains(why), "{text}");
        assert_eq!(replicas(&api), 2, "{why}");
        assert!(!api.requests().iter().any(|request| request.starts_with("PATCH")), "{why}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_loses_its_last_replicas_or_none() {
    let (api, actuator) = setup().await;
    api.put(
        STATEFUL_SETS,
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "namespace": "shop", "name": "redis" },
            "spec": { "replicas": 3, "selector": {}, "serviceName": "redis", "template": {},
                "ordinals": { "start": 1 } }
        }),
    );
    let remove = |victim: &str| Action::RemoveReplicas {
        workload: "shop/StatefulSet/redis".parse().unwrap(),
        observed: 3,
        victims: vec![victim.parse().unwrap()],
    };
    let text = conflict(actuator.apply(&remove("shop/redis-1")).await);
    assert!(text.contains("takes away redis-3"), "{text}");
    actuator.apply(&remove("shop/redis-3")).await.unwrap();
    assert_eq!(api.get(STATEFUL_SETS, "shop/redis").unwrap()["spec"]["replicas"], 2);
}

/// The cluster, once the watches have seen the count that stands.
struct CaughtUp(Cluster, Api);

#[async_trait]
impl ClusterSource for CaughtUp {
    async fn observe(&self) -> Result<ClusterFacts, PortError> {
        loop {
            let facts = self.0.observe().await?;
            if json!(facts.workloads[0].desired) == replicas(&self.1) {
                return Ok(facts);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_applied_action_is_seen_and_applied_once() {
    let (api, actuator) = setup().await;
    let connection = api.connect().await;
    let cluster = Cluster::start(&connection, ClusterOptions::default());
    cluster.wait_synced(LIMIT).await.unwrap();
    let source = CaughtUp(cluster, api.clone());
    contract::actuator_applies(&actuator, &source, &add(2, &["n1"])).await;
    assert_eq!(replicas(&api), 3);
}
