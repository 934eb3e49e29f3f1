//! Zones and replicas are chosen as the rules say.

use std::collections::BTreeMap;

use super::*;

const THREE: &str = "\
network: {sameNodeMs: 0.05, sameZoneMs: 0.3, sameRegionMs: 2, loadBalancer: roundRobin}
services:
  - name: s
    replicas: 6
    placement: {zones: {a: 1, b: 2, c: 3}}
    requests: {cpu: 100m, memory: 64Mi}
    concurrency: {workers: 50}
    work: {meanMs: 1}
entries: [{service: s, rates: {a: 300}}]
duration: 200s
";

/// Requests from zone a by zone of the replica that served them.
fn served(routing: Routing) -> ([u64; 3], SimWorld) {
    let world = world(THREE, 11);
    world.set_routing(&host("s"), routing).unwrap();
    world.advance_to(at(200));
    let counts = [0, 1, 2].map(|to| world.world().routes[to].requests);
    assert_eq!(world.measurements().rule_writes, 0);
    (counts, world)
}

#[test]
fn without_a_rule_every_replica_is_alike() {
    let (counts, _) = served(Routing::ByReplicas);
    for (count, share) in counts.into_iter().zip([1.0, 2.0, 3.0]) {
        assert!(near(count, 60_000.0 * share / 6.0), "{counts:?}");
    }
}

#[test]
fn the_own_zone_comes_first_where_it_is_asked_for() {
    let (counts, world) = served(Routing::OwnZoneFirst);
    assert_eq!(counts[1..], [0, 0]);
    assert_eq!(world.measurements().hops.cross_zone, 0);
}

#[test]
fn weights_are_obeyed() {
    let table = BTreeMap::from([(zone("a"), split(&[("a", 70), ("b", 25), ("c", 5)]))]);
    let (counts, world) = served(Routing::Weights(table.clone()));
    for (count, share) in counts.into_iter().zip([0.70, 0.25, 0.05]) {
        assert!(near(count, 60_000.0 * share), "{counts:?}");
    }
    assert_eq!(world.rule(&host("s")), Some(Rule::Ours(table)));
    let measured = world.measurements();
    let hops = &measured.hops;
    assert_eq!(hops.same_node, 0, "the ingress has nodes of its own");
    assert!((hops.cross_zone_share().get() - 0.3).abs() < 0.02);
    let latency = |q| measured.latency.quantile(q).unwrap().get();
    assert!(latency(0.0) >= 0.29, "no answer without a round trip: {}", latency(0.0));
}

#[test]
fn zones_that_weights_do_not_name_are_cut_off() {
    let table = BTreeMap::from([(zone("a"), split(&[("b", 100)]))]);
    let (counts, _) = served(Routing::Weights(table));
    assert_eq!([counts[0], counts[2]], [0, 0]);

    // The only named zone has no endpoint.
    let rest = THREE.replace("{a: 1, b: 2, c: 3}", "{a: 3, c: 3}");
    let world = world(&rest, 11);
    let table = BTreeMap::from([(zone("a"), split(&[("b", 100)]))]);
    world.write_routes(&host("s"), table).unwrap();
    world.advance_to(at(100));
    let measured = world.measurements();
    assert_eq!(measured.requests.succeeded, 0);
    assert!(measured.failures.no_endpoint > 29_000);
    assert_eq!(measured.rule_writes, 1);
}

#[test]
fn callers_that_no_weights_name_do_what_the_mesh_does() {
    let table = BTreeMap::from([(zone("b"), split(&[("b", 100)]))]);
    let (counts, _) = served(Routing::Weights(table));
    assert!(near(counts[2], 30_000.0), "{counts:?}");
}

#[test]
fn two_choices_avoid_a_slow_replica_and_round_robin_does_not() {
    let share = |balancer: &str| {
        let rest = format!(
            "\
network: {{loadBalancer: {balancer}}}
services:
  - name: s
    replicas: 4
    placement: {{zones: {{a: 4}}}}
    requests: {{cpu: 100m, memory: 64Mi}}
    concurrency: {{workers: 50}}
    work: {{meanMs: 10}}
entries: [{{service: s, rates: {{a: 400}}}}]
events: [{{slowReplica: {{at: 0s, service: s, factor: 20}}}}]
duration: 200s
"
        );
        let world = world(&rest, 5);
        world.advance_to(at(180));
        let traffic = metrics(&world).traffic;
        let pods = &traffic.fresh().unwrap().pods;
        let rates: Vec<f64> = pods.iter().map(|pod| pod.requests.get()).collect();
        rates[0] / rates.iter().sum::<f64>()
    };
    assert!(share("leastRequest") < 0.15);
    assert!((share("roundRobin") - 0.25).abs() < 0.01);
}

#[test]
fn timeouts_and_full_queues_fail_and_are_counted() {
    let rest = "\
services:
  - name: front
    replicas: 1
    requests: {cpu: 100m, memory: 64Mi}
    concurrency: {workers: 100}
    work: {meanMs: 1}
    stages: [{calls: [{to: back, timeout: 100ms, retries: 0}, {to: fine, optional: true, timeout: 1ms}]}]
  - name: back
    replicas: 1
    requests: {cpu: 100m, memory: 64Mi}
    concurrency: {workers: 1, queue: 2}
    work: {meanMs: 40, distribution: deterministic}
  - name: fine
    replicas: 1
    requests: {cpu: 100m, memory: 64Mi}
    work: {meanMs: 10, distribution: deterministic}
entries: [{service: front, rates: {a: 50}}]
duration: 100s
";
    let world = world(rest, 2);
    world.advance_to(at(100));
    audit::audit(&world);
    let measured = world.measurements();
    // Every optional call times out and no request fails for it; of the calls to the
    // back, some that wait for two others time out, others are refused.
    assert!(measured.failures.timed_out > 5_000);
    assert!(measured.failures.refused > 500);
    assert!(measured.failures.downstream > 500);
    assert!(measured.requests.succeeded > 1_000);
    assert!(measured.requests.failed > 500);
    assert_eq!(measured.retries, 0);
}
