//! Watching: syncing, following, breaking, catching up.

use std::time::Duration;

use serde_json::json;
use stornx_core::{
    model::{ClusterFacts, Mesh, Rule},
    ports::{ClusterSource, PortError},
    testing::contract,
};
use stornx_k8s::{Cluster, ClusterOptions, Connection, WatchStats};

use crate::{
    shop::{
        DEPLOYMENTS, MACHINES, NODES, PODS, RULES, SERVICES, SLICES, deployment, node, pod, shop,
        weights,
    },
    support::{Api, Fault},
    until,
};

fn start(connection: &Connection) -> Cluster {
    let namespaces = ["shop".parse().unwrap()].into();
    Cluster::start(connection, ClusterOptions { namespaces, page_size: 2, ..Default::default() })
}

async fn started(api: &Api) -> (Connection, Cluster) {
    let connection = api.connect().await;
    let cluster = start(&connection);
    cluster.wait_synced(Duration::from_secs(30)).await.unwrap();
    (connection, cluster)
}

async fn facts(cluster: &Cluster) -> ClusterFacts {
    cluster.observe().await.unwrap()
}

fn stats(cluster: &Cluster, name: &str) -> WatchStats {
    cluster.stats().into_iter().find(|stats| stats.name == name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_contract_of_a_cluster_source_is_kept() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    contract::cluster_source(&cluster).await;
    let facts = facts(&cluster).await;
    assert_eq!((facts.nodes.len(), facts.workloads.len(), facts.hosts.len()), (2, 1, 1));
    assert_eq!(facts.workloads[0].pods.len(), 2);
    assert_eq!(facts.mesh, Mesh::Absent);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_known_before_every_list_is_complete() {
    let api = Api::new();
    shop(&api);
    api.fail("GET", "/poddisruptionbudgets", [Fault::Status(403), Fault::Silence]);
    let connection = api.connect().await;
    let cluster = start(&connection);
    let error = cluster.wait_synced(Duration::from_secs(5)).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("watch poddisruptionbudgets") && text.contains("403"), "{text}");
    assert!(!cluster.synced());
    let not_ready = cluster.not_ready();
    let [why] = not_ready.as_slice() else { panic!("one watch: {not_ready:?}") };
    assert!(why.starts_with("watch poddisruptionbudgets: failing for "), "{why}");
    assert!(why.contains("403"), "{why}");
    let observed = cluster.observe().await;
    assert!(matches!(observed, Err(PortError::Unavailable { .. })), "{observed:?}");
    cluster.wait_synced(Duration::from_secs(60)).await.unwrap();
    assert!(cluster.observe().await.is_ok());
    assert_eq!(cluster.not_ready(), [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn changes_are_followed_and_wake_only_for_endpoints_and_nodes() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watches are open", async || api.watchers(PODS) == 1 && api.watchers(NODES) == 1)
        .await;
    let changes = cluster.changes();
    let before = *changes.borrow();

    api.put(DEPLOYMENTS, deployment("cart", 3));
    until("the count is seen", async || facts(&cluster).await.workloads[0].desired == 3).await;
    assert_eq!(*changes.borrow(), before, "a count is no endpoint");

    api.put(PODS, pod("cart", "cart-7d9f-c", "n1"));
    until("the pod is seen", async || facts(&cluster).await.workloads[0].pods.len() == 3).await;
    assert_eq!(*changes.borrow(), before + 1);
    api.put(NODES, node("n3", "c"));
    until("the node is seen", async || facts(&cluster).await.nodes.len() == 3).await;
    assert_eq!(*changes.borrow(), before + 2);
    let mut same = node("n3", "c");
    same["status"]["nodeInfo"] = json!({ "kubeletVersion": "v1.34.5" });
    api.put(NODES, same);
    api.remove(PODS, "shop/cart-7d9f-c");
    until("the pod is gone", async || facts(&cluster).await.workloads[0].pods.len() == 2).await;
    assert_eq!(*changes.borrow(), before + 3, "what a kubelet reports is no change");

    let mut starting = pod("cart", "cart-7d9f-d", "n1");
    starting["status"] = json!({ "phase": "Running" });
    api.put(PODS, starting.clone());
    until("it is seen", async || facts(&cluster).await.workloads[0].pods.len() == 3).await;
    assert_eq!(*changes.borrow(), before + 3, "no endpoint yet");
    starting["metadata"]["labels"] = json!({ "app": "cart", "istio-locality": "moon.dark" });
    api.put(PODS, starting);
    let told = async || *changes.borrow() == before + 4;
    until("a place that it is said to be in is told at once", told).await;
}

#[tokio::test(start_paused = true)]
async fn what_comes_and_goes_elsewhere_wakes_nobody() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    let open = async || api.watchers(PODS) == 1 && api.watchers(SLICES) == 1;
    until("the watches are open", open).await;
    let changes = cluster.changes();
    let before = *changes.borrow();
    let count = |name: &str| stats(&cluster, name).objects;
    let job = |namespace: &str| {
        let mut job = pod("nightly", "nightly-1", "n1");
        job["metadata"]["namespace"] = json!(namespace);
        job["metadata"]["ownerReferences"] = json!([{ "apiVersion": "batch/v1", "kind": "Job",
            "name": "nightly", "uid": "u", "controller": true }]);
        job
    };
    let elsewhere = |mut object: serde_json::Value| {
        object["metadata"]["namespace"] = json!("other");
        object
    };
    let slice = |address: &str| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "namespace": "shop", "name": "cart-x" }, "addressType": "IPv4",
            "endpoints": [{ "addresses": [address] }]
        })
    };
    api.put(PODS, elsewhere(pod("cart", "cart-7d9f-a", "n1")));
    api.put(PODS, elsewhere(job("shop")));
    api.put(PODS, job("shop"));
    api.put(SLICES, elsewhere(slice("10.0.0.1")));
    until("all are seen", async || count("pods") == 5 && count("endpointslices") == 1).await;
    api.remove(PODS, "shop/nightly-1");
    // Missed by the watch and found by the next list.
    api.remove_quietly(PODS, "other/nightly-1");
    api.compact(PODS);
    until("both are gone", async || count("pods") == 3).await;
    assert_eq!(*changes.borrow(), before, "nothing of it is a replica or endpoint of ours");

    api.put(SLICES, slice("10.0.0.1"));
    until("it is seen", async || count("endpointslices") == 2).await;
    assert_eq!(*changes.borrow(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn what_others_say_of_routes_wakes_and_what_we_write_does_not() {
    let api = Api::new();
    shop(&api);
    api.serve("networking.istio.io/v1", &["destinationrules"]);
    let (_connection, cluster) = started(&api).await;
    let open = async || {
        let all = [DEPLOYMENTS, RULES, SERVICES];
        all.iter().all(|collection| api.watchers(collection) == 1)
    };
    until("the watches are open", open).await;
    let changes = cluster.changes();
    let mut count = *changes.borrow();
    let rule = async || facts(&cluster).await.hosts[0].rule.clone();
    let bare = |namespace: &str, manager: &str| {
        let mut rule = weights(namespace, "cart", manager);
        rule["spec"] = json!({ "host": "cart" });
        rule["metadata"]["managedFields"].as_array_mut().unwrap().remove(0);
        rule
    };
    // Their rule comes; we add weights, change them, and take them away again.
    api.put(RULES, bare("shop", "stornx"));
    until("their rule wakes", async || *changes.borrow() == count + 1).await;
    count += 1;
    api.put(RULES, weights("shop", "cart", "stornx"));
    until("weights of ours", async || matches!(rule().await, Rule::Ours(_))).await;
    let mut others = weights("shop", "cart", "stornx");
    others["spec"]["trafficPolicy"]["loadBalancer"]["localityLbSetting"]["distribute"][0]["to"] =
        json!({ "eu/a/*": 70, "eu/b/*": 30 });
    let before = rule().await;
    api.put(RULES, others);
    until("other weights of ours", async || rule().await != before).await;
    api.put(RULES, bare("shop", "stornx"));
    until("no weights", async || rule().await == Rule::None).await;
    assert_eq!(*changes.borrow(), count, "what we write wakes nobody");
    // Somebody else sets them, in a rule of ours or of theirs; and elsewhere.
    api.put(RULES, weights("shop", "cart", "kubectl"));
    until("weights of theirs wake", async || *changes.borrow() == count + 1).await;
    assert!(matches!(rule().await, Rule::Foreign(_)));
    count += 1;
    let rules = async |wanted: usize| stats(&cluster, "destinationrules").objects == wanted;
    api.put(RULES, weights("other", "cart", "kubectl"));
    until("a rule elsewhere is seen", async || rules(2).await).await;
    assert_eq!(*changes.borrow(), count, "it is for hosts that are not managed");
    api.remove(RULES, "shop/cart");
    until("a rule that goes wakes", async || *changes.borrow() == count + 1).await;
    count += 1;

    let mut service = api.get(SERVICES, "shop/cart").unwrap();
    service["metadata"]["labels"] = json!({ "team": "shop" });
    api.put(SERVICES, service.clone());
    service["spec"] = json!({ "clusterIP": "10.96.0.7" });
    api.put(SERVICES, service);
    until("a selector that goes wakes", async || *changes.borrow() == count + 1).await;
    count += 1;
    let mut asks = deployment("cart", 2);
    asks["metadata"]["annotations"]["stornx.io/routing"] = json!("off");
    api.put(DEPLOYMENTS, asks);
    until("an owner who asks wakes", async || *changes.borrow() == count + 1).await;
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_machines_decides_without_them() {
    let api = Api::new();
    shop(&api);
    api.serve("networking.istio.io/v1", &["destinationrules", "workloadentries"]);
    api.put(
        MACHINES,
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": { "namespace": "shop", "name": "machine" },
            "spec": { "address": "192.0.2.7", "labels": { "app": "cart" } }
        }),
    );
    api.fail("GET", "/workloadentries", std::iter::repeat_n(Fault::Status(403), 1000));
    let began = tokio::time::Instant::now();
    let (_connection, cluster) = started(&api).await;
    assert!(began.elapsed() >= Duration::from_secs(5), "a right may have just been given");
    assert!(!facts(&cluster).await.hosts[0].foreign_endpoints);
    api.heal();
    let seen = async || facts(&cluster).await.hosts[0].foreign_endpoints;
    until("the right is there, and so is the machine", seen).await;
    // What was read and may not be read any more is missed: machines may have come.
    until("the watch is open", async || api.watchers(MACHINES) == 1).await;
    api.fail("GET", "/workloadentries", std::iter::repeat_n(Fault::Status(403), 100));
    api.close(MACHINES);
    until("it is not fit", async || cluster.observe().await.is_err()).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_expires_at_once_again_and_again_is_one_failure() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watch is open", async || api.watchers(PODS) == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    api.fail("GET", "/api/v1/pods?&watch=true", std::iter::repeat_n(Fault::Status(410), 1000));
    api.close(PODS);
    until("it fails", async || stats(&cluster, "pods").failing_for.is_some()).await;
    let (began, lists) = (tokio::time::Instant::now(), stats(&cluster, "pods").lists);
    // Longer than `stale_after`, and not so long that the silence of the others shows.
    while began.elapsed() < Duration::from_secs(80) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let failing_for = stats(&cluster, "pods").failing_for.unwrap();
        assert!(failing_for >= began.elapsed(), "a list alone ends no failure");
        assert!(cluster.observe().await.is_ok(), "what was listed just now is known");
    }
    let lists = stats(&cluster, "pods").lists - lists;
    assert!((5..30).contains(&lists), "it goes on, and backs off: {lists} lists");
    api.heal();
    until("it works again", async || stats(&cluster, "pods").failing_for.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_steady_state_lists_nothing() {
    let api = Api::new();
    shop(&api);
    let (_connection, _cluster) = started(&api).await;
    until("every watch is open", async || api.watchers(PODS) == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    api.forget_requests();
    for number in 0..20 {
        api.put(PODS, pod("cart", &format!("cart-7d9f-x{number}"), "n1"));
        api.close(PODS);
        tokio::time::sleep(Duration::from_secs(300)).await;
    }
    let listed: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|request| !request.contains("watch=true") && !request.starts_with("GET /apis "))
        .filter(|request| request.contains("limit="))
        .collect();
    assert_eq!(listed, [] as [String; 0]);
}

#[tokio::test(start_paused = true)]
async fn after_an_expired_version_what_vanished_is_gone() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watch is open", async || api.watchers(PODS) == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stats(&cluster, "pods").lists, 1);
    api.remove_quietly(PODS, "shop/cart-7d9f-b");
    api.compact(PODS);
    until("the pod is gone", async || facts(&cluster).await.workloads[0].pods.len() == 1).await;
    assert_eq!(stats(&cluster, "pods").lists, 2);
    assert_eq!(stats(&cluster, "pods").errors, 0, "an expired version is no failure");
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_fails_for_long_is_not_decided_on() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watch is open", async || api.watchers(PODS) == 1).await;
    api.fail("GET", "/api/v1/pods", std::iter::repeat_n(Fault::Status(500), 1000));
    api.close(PODS);
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(cluster.observe().await.is_ok(), "a short break changes nothing");
    tokio::time::sleep(Duration::from_secs(30)).await;
    let error = cluster.observe().await.unwrap_err().to_string();
    assert!(error.contains("watch pods") && error.contains("500"), "{error}");
    assert!(stats(&cluster, "pods").failing_for.unwrap() > Duration::from_secs(60));
    let tries = api.requests().iter().filter(|r| r.starts_with("GET /api/v1/pods")).count();
    assert!(tries < 20, "it backs off: {tries} tries");

    api.put(PODS, pod("cart", "cart-7d9f-c", "n1"));
    api.heal();
    until("it recovers", async || cluster.observe().await.is_ok()).await;
    until("it catches up", async || facts(&cluster).await.workloads[0].pods.len() == 3).await;
    assert_eq!(stats(&cluster, "pods").lists, 1, "it goes on where it stopped");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_dies_in_silence_is_noticed() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watch is open", async || api.watchers(NODES) == 1).await;
    api.fail("GET", "/api/v1/nodes", std::iter::repeat_n(Fault::Silence, 1000));
    tokio::time::sleep(Duration::from_secs(120)).await;
    let error = cluster.observe().await.unwrap_err().to_string();
    assert!(error.contains("watch nodes"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_nothing_to_say_has_not_failed() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watch is open", async || api.watchers(NODES) == 1).await;
    // Not one bookmark comes.
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster.observe().await.unwrap();
    }
    let stats = stats(&cluster, "nodes");
    assert_eq!((stats.errors, stats.lists), (0, 1));
    assert!(stats.opened > 2, "opened anew: {}", stats.opened);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_closes_every_watch_at_once_is_not_believed() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    until("the watch is open", async || api.watchers(PODS) == 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for _ in 0..12_000 {
        api.close(PODS);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = cluster.observe().await.unwrap_err().to_string();
    assert!(error.contains("closed as soon as it was opened"), "{error}");
    assert!(stats(&cluster, "pods").opened < 20, "it backs off");
}

#[tokio::test(start_paused = true)]
async fn places_change_when_a_zone_appears_or_vanishes() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    let mut places = cluster.places();
    assert_eq!(places.borrow_and_update().len(), 2);
    api.put(NODES, node("n3", "b"));
    until("the node is seen", async || facts(&cluster).await.nodes.len() == 3).await;
    assert!(!places.has_changed().unwrap(), "it is in a zone that is known");
    api.put(NODES, node("n4", "c"));
    until("its zone is seen", async || places.has_changed().unwrap()).await;
    assert_eq!(places.borrow_and_update().len(), 3);
    api.remove(NODES, "n4");
    until("it is gone", async || places.has_changed().unwrap()).await;
    assert_eq!(places.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn rules_are_watched_while_their_kind_is_served() {
    let api = Api::new();
    shop(&api);
    let (_connection, cluster) = started(&api).await;
    assert_eq!(facts(&cluster).await.mesh, Mesh::Absent);
    api.serve("networking.istio.io/v1", &["destinationrules"]);
    api.put(
        RULES,
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": { "namespace": "shop", "name": "cart" },
            "spec": { "host": "cart", "trafficPolicy": { "loadBalancer": {
                "localityLbSetting": { "distribute": [
                    { "from": "eu/a/*", "to": { "eu/a/*": 100 } }
                ]}
            }}}
        }),
    );
    let foreign = async || match cluster.observe().await {
        Ok(facts) => matches!(facts.hosts[0].rule, Rule::Foreign(_)),
        Err(_) => false,
    };
    until("the rule is seen", foreign).await;
    assert_eq!(facts(&cluster).await.mesh, Mesh::Routable);

    api.unserve("networking.istio.io/v1");
    let none = async || match cluster.observe().await {
        Ok(facts) => facts.mesh == Mesh::Absent && facts.hosts[0].rule == Rule::None,
        Err(error) => panic!("a kind that vanished stops nothing: {error}"),
    };
    until("the rule is forgotten", none).await;
    assert!(cluster.stats().iter().all(|stats| stats.name != "destinationrules"));
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(cluster.observe().await.is_ok());
}
