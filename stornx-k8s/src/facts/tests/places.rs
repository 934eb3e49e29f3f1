//! Which nodes are places.

use serde_json::{Value, json};
use stornx_core::model::Mesh;

use super::World;
use crate::watch::kinds::{Kind as _, Nodes};

const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

fn node(name: &str, zone: Option<&str>, ready: bool, taint: Option<&str>) -> Value {
    let labels = zone.map(
        |zone| json!({ "topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": "r" }),
    );
    let taints = taint.map(|key| json!([{ "key": key, "effect": "NoSchedule" }]));
    let status = if ready { "True" } else { "False" };
    json!({
        "metadata": { "name": name, "labels": labels },
        "spec": { "taints": taints },
        "status": {
            "allocatable": { "cpu": "4", "memory": "8Gi", "pods": "110" },
            "conditions": [{ "type": "Ready", "status": status }]
        }
    })
}

fn zones(world: &World) -> Vec<String> {
    let facts = world.facts();
    facts.nodes.iter().map(|node| node.zone.to_string()).collect()
}

/// Two zones of one region, and one replica in each.
fn named() -> World {
    let mut world = World::new();
    for (name, zone) in [("n1", "a"), ("n2", "b")] {
        world.apply::<Nodes>(node(name, Some(zone), true, None));
    }
    world
}

#[test]
fn a_node_that_has_just_joined_takes_no_rules_away() {
    let mut world = named();
    assert_eq!((world.facts().mesh, zones(&world)), (Mesh::Routable, vec!["a".into(), "b".into()]));
    for (ready, taint) in [(false, None), (true, Some(UNINITIALIZED)), (false, Some(UNINITIALIZED))]
    {
        world.apply::<Nodes>(node("n3", None, ready, taint));
        assert_eq!(world.facts().mesh, Mesh::Routable, "ready: {ready}, {taint:?}");
        assert_eq!(zones(&world), ["a", "b"]);
    }
    world.apply::<Nodes>(node("n3", Some("c"), true, None));
    assert_eq!((world.facts().mesh, zones(&world).len()), (Mesh::Routable, 3));
}

#[test]
fn what_takes_or_holds_replicas_without_a_name_lets_no_rule_stand() {
    let mut world = named();
    world.apply::<Nodes>(node("n3", None, true, None));
    assert_eq!(world.facts().mesh, Mesh::Unnamed, "it takes replicas");
    world.apply::<Nodes>(node("n3", None, false, None));
    assert_eq!(world.facts().mesh, Mesh::Routable);
    world.pod("cart-3", "n3", "cart-new");
    assert_eq!(world.facts().mesh, Mesh::Unnamed, "it holds one");
}

#[test]
fn a_cycle_comes_when_a_node_begins_to_say_where_it_is() {
    let wakes = |before: Option<Value>, now: Value| {
        let record = |value| {
            let object = serde_json::from_value(value).unwrap();
            Nodes::record(&object, &mut crate::map::names::Names::default())
        };
        let (before, now) = (before.and_then(record), record(now));
        Nodes::wakes(&[].into(), &"n3".into(), before.as_ref(), now.as_ref())
    };
    let joined = || node("n3", None, false, Some(UNINITIALIZED));
    assert!(!wakes(None, joined()));
    assert!(wakes(Some(joined()), node("n3", Some("a"), false, None)));
    let mut divided = node("n3", Some("a"), true, None);
    divided["metadata"]["labels"]["topology.istio.io/subzone"] = json!("rack-1");
    assert!(wakes(Some(node("n3", Some("a"), true, None)), divided));
}
