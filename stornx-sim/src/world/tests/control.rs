//! The control plane: nodes, rollouts, autoscalers, the scheduler.

use std::collections::BTreeSet;

use stornx_core::{
    model::{PodPhase, Rollout},
    units::Resources,
};

use super::*;

const ONE_SERVICE: &str = "\
services:
  - name: s
    replicas: 8
    requests: {cpu: 1, memory: 1Gi}
    startup: 10s
    concurrency: {workers: 4}
    work: {meanMs: 5}
entries: [{service: s, rates: {a: 100, b: 100, c: 100}, timeout: 2s}]
";

fn count(world: &SimWorld, phase: PodPhase) -> usize {
    workload(world, "s").pods.iter().filter(|pod| pod.phase == phase).count()
}

#[test]
fn the_first_replicas_are_spread_as_kubernetes_does() {
    let world = world(&format!("{ONE_SERVICE}duration: 1m\n"), 1);
    let endpoints = world.endpoints();
    let counts: Vec<u32> = endpoints[&host("s")].values().copied().collect();
    assert_eq!(counts.iter().sum::<u32>(), 8);
    assert!(counts.iter().all(|count| (2..=3).contains(count)), "{counts:?}");
    // Two nodes in each zone: no node with two more than the other.
    let workload = workload(&world, "s");
    for node in cluster(&world).nodes.iter().filter(|node| node.schedulable) {
        let here = workload.pods.iter().filter(|pod| pod.node.as_ref() == Some(&node.name)).count();
        assert!((1..=2).contains(&here), "{here} on {}", node.name);
    }
}

#[test]
fn a_lost_zone_is_noticed_evicted_and_comes_back() {
    let events = "events: [{zoneLoss: {at: 100s, zone: b, until: 600s}}]\nduration: 800s\n";
    let rest = format!("network: {{connectTimeout: 1s}}\n{ONE_SERVICE}{events}");
    let world = world(&rest, 1);
    world.advance_to(at(99));
    assert_eq!(world.measurements().requests.failed, 0);
    let in_b = world.endpoints()[&host("s")][&zone("b")] as usize;

    // Nobody knows yet: calls run into time-outs and are tried elsewhere.
    assert_eq!(world.advance_to(at(139)), []);
    assert!(world.endpoints()[&host("s")].contains_key(&zone("b")));
    let blind = world.measurements();
    assert!(blind.failures.unreachable > 100, "{:?}", blind.failures);
    assert!(blind.retries > 100);

    // After 40 s the node is not ready and its endpoints are gone.
    let notices = world.advance_to(at(141));
    let nodes: BTreeSet<_> = notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::Node { node, ready: false, .. } => Some(node.as_str().to_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(nodes, ["b-1", "b-2", "ingress-b"].map(str::to_owned).into());
    assert!(!world.endpoints()[&host("s")].contains_key(&zone("b")));
    assert_eq!(count(&world, PodPhase::Unready), in_b);
    world.advance_to(at(150));
    let settled = world.measurements().failures.unreachable;
    world.advance_to(at(430));
    assert_eq!(world.measurements().failures.unreachable, settled);

    // 300 s later its pods are replaced elsewhere; the dead node cannot end them.
    world.advance_to(at(455));
    assert_eq!(count(&world, PodPhase::Terminating), in_b);
    assert_eq!(count(&world, PodPhase::Ready), 8);
    world.advance_to(at(601));
    assert_eq!(count(&world, PodPhase::Terminating), 0);
    assert_eq!(workload(&world, "s").pods.len(), 8);
    world.advance_to(at(800));
    audit::audit(&world);
    let after = world.measurements();
    assert!(after.requests.failed < after.requests.arrived / 20, "{:?}", after.requests);
    let last = after.samples.last().unwrap();
    assert_eq!(last.failed, 0);
}

#[test]
fn a_short_loss_restarts_the_replicas_in_place() {
    let events = "events: [{zoneLoss: {at: 100s, zone: b, until: 120s}}]\nduration: 200s\n";
    let world = world(&format!("{ONE_SERVICE}{events}"), 1);
    let names = |world: &SimWorld| {
        workload(world, "s").pods.into_iter().map(|pod| pod.name).collect::<Vec<_>>()
    };
    let before = names(&world);
    world.advance_to(at(125));
    assert!(count(&world, PodPhase::Unready) > 0);
    world.advance_to(at(131));
    assert_eq!(count(&world, PodPhase::Ready), 8);
    assert_eq!(names(&world), before);
}

#[test]
fn a_rollout_keeps_its_bounds_and_replaces_everyone() {
    let rest =
        format!("{ONE_SERVICE}events: [{{rollout: {{at: 50s, service: s}}}}]\nduration: 300s\n");
    let world = world(&rest, 1);
    world.advance_to(at(49));
    let old: BTreeSet<_> = workload(&world, "s").pods.into_iter().map(|pod| pod.name).collect();
    let mut rolling = 0;
    for second in 50..=299 {
        world.advance_to(at(second));
        let workload = workload(&world, "s");
        // 25 % of 8: two more, two fewer.
        assert!((6..=10).contains(&workload.active().count()), "{second}");
        assert!(workload.ready().count() >= 6, "{second}");
        rolling += u32::from(workload.rollout == Rollout::InProgress);
    }
    let workload = workload(&world, "s");
    assert_eq!((workload.ready().count(), workload.desired), (8, 8));
    assert!(workload.pods.iter().all(|pod| !old.contains(&pod.name)));
    assert_eq!(workload.rollout, Rollout::Settled);
    assert!((15..60).contains(&rolling), "{rolling}");
    let measured = world.measurements();
    assert_eq!(measured.requests.failed, 0, "replicas drain: {:?}", measured.failures);
}

#[test]
fn an_autoscaler_follows_the_load_and_is_slow_to_leave() {
    let rest = "\
services:
  - name: s
    replicas: 2
    requests: {cpu: 1, memory: 64Mi}
    startup: 5s
    autoscaler: {min: 2, max: 20, targetCpuPercent: 50}
    concurrency: {workers: 4}
    work: {meanMs: 10}
entries:
  - service: s
    rates: {a: [{at: 60s, perSecond: 80}, {at: 60s, perSecond: 400}, {at: 600s, perSecond: 400}, {at: 600s, perSecond: 80}]}
duration: 1200s
";
    let world = world(rest, 1);
    let desired = |world: &SimWorld| workload(world, "s").desired;
    world.advance_to(at(60));
    assert_eq!(desired(&world), 2, "40 % of 50 % is within the tolerance of a count of two");
    // 4 busy cores at 50 % of one core each: 8 replicas.
    world.advance_to(at(300));
    assert!((8..=9).contains(&desired(&world)), "{}", desired(&world));
    // What was wanted before 600 s holds for 300 s of stabilisation.
    world.advance_to(at(880));
    assert!((8..=9).contains(&desired(&world)), "{}", desired(&world));
    world.advance_to(at(1200));
    assert_eq!(desired(&world), 2);
    assert_eq!(world.measurements().scale_actions, 0);
}

#[test]
fn pods_wait_for_room_and_take_the_node_that_constraints_leave() {
    let rest = "\
services:
  - name: big
    replicas: 3
    requests: {cpu: 40, memory: 1Gi}
    constraints:
      nodeSelector: {topology.kubernetes.io/zone: c}
    work: {meanMs: 1}
entries: [{service: big, rates: {a: 1}}]
duration: 1m
";
    // Two nodes of 64 cores in zone c: no room for the third.
    let error = SimWorld::new(&scenario(rest), 1).unwrap_err();
    assert_eq!(error, WorldError::NoRoom { service: "big".to_owned() });
    let world = world(&rest.replace("replicas: 3", "replicas: 2"), 1);
    assert_eq!(world.endpoints()[&host("big")].keys().collect::<Vec<_>>(), [&zone("c")]);
    let facts = cluster(&world);
    let gateway = facts.nodes.iter().find(|node| node.name.as_str() == "ingress-a").unwrap();
    assert_eq!((gateway.schedulable, gateway.allocatable), (false, Resources::default()));
}

#[test]
fn pressure_taints_the_node_and_slows_it() {
    let rest = "\
services:
  - name: s
    replicas: 1
    placement: {nodes: {a-1: 1}}
    requests: {cpu: 1, memory: 64Mi}
    concurrency: {workers: 2}
    work: {meanMs: 10, distribution: deterministic}
entries: [{service: s, rates: {a: 20}}]
events: [{nodePressure: {at: 100s, node: a-1, cpu: 127, until: 200s}}]
measure: {sampleInterval: 100s}
duration: 300s
";
    let world = world(rest, 1);
    world.advance_to(at(150));
    let node = cluster(&world).nodes.into_iter().find(|n| n.name.as_str() == "a-1").unwrap();
    assert_eq!(node.taints.len(), 1);
    world.advance_to(at(300));
    let medians: Vec<f64> =
        world.measurements().samples.iter().map(|s| s.p50.unwrap().get()).collect();
    // 128 cores wanted of 64: twice as long.
    assert!((9.9..11.0).contains(&medians[0]) && (19.9..22.0).contains(&medians[1]));
    assert!((9.9..11.0).contains(&medians[2]), "{medians:?}");
}
