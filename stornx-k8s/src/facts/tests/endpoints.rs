//! What the pods behind a Service tell about routing to it.

use super::*;

/// A Service over `cart`, whose nodes are in the region `eu`, and one over something else.
fn shop() -> World {
    let mut world = World::new();
    for (name, zone) in [("n1", "a"), ("n2", "b")] {
        world.apply::<Nodes>(json!({ "metadata": { "name": name, "labels": {
            "topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "eu"
        }}}));
    }
    world.service(json!({ "selector": { "app": "cart" }, "clusterIP": "10.0.0.1" }));
    world.apply::<Services>(json!({
        "metadata": { "namespace": "shop", "name": "other" },
        "spec": { "selector": { "app": "other" }, "clusterIP": "10.0.0.2" }
    }));
    world
}

/// A replica of `cart` on `n1` with a label that says where it is.
fn labelled(place: &str) -> Value {
    let mut pod = World::pod_object("cart-1", "n1", "ReplicaSet", "cart-new");
    pod["metadata"]["labels"] = json!({ "app": "cart", "istio-locality": place });
    pod
}

/// Which hosts have a pod that is said to be elsewhere.
fn displaced(world: &World) -> Vec<bool> {
    world.facts().hosts.iter().map(|host| host.displaced).collect()
}

#[test]
fn a_pod_that_is_said_to_be_elsewhere_displaces_the_hosts_that_it_is_behind() {
    let mut world = shop();
    assert_eq!(displaced(&world), [false, false]);
    world.apply::<Pods>(labelled("eu.a"));
    assert_eq!(displaced(&world), [false, false], "where its node is");
    world.apply::<Pods>(labelled("eu.b"));
    assert_eq!(displaced(&world), [true, false], "where another node is");
    world.apply::<Pods>(labelled("moon.dark"));
    assert_eq!(displaced(&world), [true, false], "where no node is");

    let mut going = labelled("moon.dark");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-25T13:00:00Z");
    world.apply::<Pods>(going);
    assert_eq!(displaced(&world), [false, false], "it takes no requests any more");

    let mut bare = labelled("moon.dark");
    bare["metadata"]["ownerReferences"] = json!([]);
    bare["status"] = json!({ "phase": "Running" });
    world.apply::<Pods>(bare.clone());
    assert_eq!(displaced(&world), [true, false], "an endpoint soon, of no workload");
    bare["spec"]["nodeName"] = Value::Null;
    world.apply::<Pods>(bare.clone());
    assert_eq!(displaced(&world), [false, false], "it is nowhere yet");
    bare["spec"]["nodeName"] = json!("n1");
    bare["metadata"]["namespace"] = json!("elsewhere");
    world.apply::<Pods>(bare);
    assert_eq!(displaced(&world), [false, false], "selectors end at their namespace");
}

/// Which hosts have an endpoint that is no pod of this cluster.
fn foreign(world: &World) -> Vec<bool> {
    world.facts().hosts.iter().map(|host| host.foreign_endpoints).collect()
}

#[test]
fn endpoints_that_are_no_pods_of_this_cluster_are_seen() {
    let slice = |namespace: &str, name: &str, target: Value| {
        json!({
            "metadata": { "namespace": namespace, "name": name,
                "labels": { "kubernetes.io/service-name": "cart" } },
            "addressType": "IPv4", "ports": [{ "port": 80 }],
            "endpoints": [{ "addresses": ["192.0.2.7"], "targetRef": target }]
        })
    };
    let mut world = shop();
    let pod = json!({ "kind": "Pod", "namespace": "shop", "name": "cart-1" });
    world.apply::<EndpointSlices>(slice("shop", "cart-1", pod));
    world.apply::<EndpointSlices>(slice("elsewhere", "cart-2", Value::Null));
    assert_eq!(foreign(&world), [false, false]);
    world.apply::<EndpointSlices>(slice("shop", "cart-2", Value::Null));
    assert_eq!(foreign(&world), [true, false]);
    let gone = "shop/cart-2".into();
    world.0.write(|tables| drop(EndpointSlices::table(tables).remove(&gone)));
    assert_eq!(foreign(&world), [false, false]);
}

#[test]
fn machines_outside_the_cluster_are_endpoints_of_what_selects_them() {
    let entry = |namespace: &str, app: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": { "namespace": namespace, "name": "machine" },
            "spec": { "address": "192.0.2.7", "labels": { "app": app } }
        })
    };
    let mut world = shop();
    world.apply::<WorkloadEntries>(entry("elsewhere", "cart"));
    assert_eq!(foreign(&world), [false, false]);
    world.apply::<WorkloadEntries>(entry("shop", "cart"));
    assert_eq!(foreign(&world), [true, false]);
    world.apply::<WorkloadEntries>(entry("shop", "other"));
    assert_eq!(foreign(&world), [false, true]);
}

/// A replica of `cart` whose traffic goes through ztunnel.
fn ambient(name: &str, node: &str) -> Value {
    let mut pod = World::pod_object(name, node, "ReplicaSet", "cart-new");
    pod["metadata"]["annotations"] = json!({ "ambient.istio.io/redirection": "enabled" });
    pod["spec"]["containers"].as_array_mut().unwrap().truncate(1);
    pod
}

#[test]
fn ambient_pods_without_a_waypoint_are_behind_ztunnel_only() {
    let mut world = shop();
    assert!(!world.host().ztunnel_only && world.cart().proxied, "sidecars");
    world.apply::<Pods>(ambient("cart-1", "n1"));
    assert!(!world.host().ztunnel_only && world.cart().proxied, "one sidecar is left");
    world.apply::<Pods>(ambient("cart-2", "n2"));
    assert!(world.host().ztunnel_only && !world.cart().proxied);
    assert!(!world.facts().hosts[1].ztunnel_only, "nothing is behind it");

    let mut service = json!({
        "metadata": { "namespace": "shop", "name": "cart",
            "labels": { "istio.io/use-waypoint": "shop-waypoint" } },
        "spec": { "selector": { "app": "cart" }, "clusterIP": "10.0.0.1" }
    });
    world.apply::<Services>(service.clone());
    assert!(!world.host().ztunnel_only);
    service["metadata"]["labels"] = json!({});
    world.apply::<Services>(service);
    assert!(world.host().ztunnel_only, "the waypoint is taken away");
}

/// Which pod keeps each host between zones.
fn old(world: &World) -> Vec<Option<String>> {
    let hosts = world.facts().hosts.into_iter();
    hosts.map(|host| host.old_pod.map(|pod| pod.to_string())).collect()
}

#[test]
fn a_pod_of_no_known_workload_is_seen_to_be_older_than_the_name_of_its_node() {
    let mut world = shop();
    world.0.keep_labels();
    let named = |name: &str, zone: &str, at: &str| {
        json!({ "metadata": { "name": name,
            "labels": {
                "topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "eu",
                "topology.istio.io/subzone": name
            },
            "managedFields": [{ "manager": "stornx", "operation": "Apply", "time": at,
                "fieldsV1": { "f:metadata": { "f:labels": { "f:topology.istio.io/subzone": {} } } } }]
        }})
    };
    let daemon = |at: &str| {
        let mut pod = World::pod_object("log-1", "n1", "DaemonSet", "log");
        pod["metadata"]["labels"] = json!({ "app": "other" });
        pod["metadata"]["creationTimestamp"] = json!(at);
        pod
    };
    world.apply::<Pods>(daemon("2026-11-25T12:00:00Z"));
    assert_eq!(old(&world), [None, None], "nodes have no names");
    for (name, zone) in [("n1", "a"), ("n2", "b")] {
        world.apply::<Nodes>(named(name, zone, "2026-11-25T11:00:00Z"));
    }
    assert_eq!(old(&world), [None, None], "it is younger");
    for (name, zone) in [("n1", "a"), ("n2", "b")] {
        world.apply::<Nodes>(named(name, zone, "2026-11-25T12:00:00Z"));
    }
    assert_eq!(old(&world), [None, Some("shop/log-1".to_owned())]);
    let mut going = daemon("2026-11-25T12:00:00Z");
    going["metadata"]["deletionTimestamp"] = json!("2026-11-25T13:00:00Z");
    world.apply::<Pods>(going);
    assert_eq!(old(&world), [None, None], "it takes no requests any more");
    let mut bare = daemon("2026-11-25T12:00:00Z");
    bare["metadata"]["ownerReferences"] = json!([]);
    world.apply::<Pods>(bare);
    assert_eq!(old(&world), [None, Some("shop/log-1".to_owned())], "of no workload at all");
    world.apply::<Pods>(daemon("2026-11-25T12:00:01Z"));
    assert_eq!(old(&world), [None, None], "made anew");
}
