//! What decisions see: the truth, late and averaged.

use stornx_core::{
    model::{Facts, Latency, Protocol, Traffic},
    units::{Bytes, MilliCpu},
};

use super::*;

const TWO: &str = "\
network: {sameNodeMs: 0.1, sameZoneMs: 0.4, sameRegionMs: 2}
services:
  - name: front
    replicas: 3
    placement: {zones: {a: 3}}
    requests: {cpu: 500m, memory: 64Mi}
    concurrency: {workers: 8}
    work: {meanMs: 4, cpuShare: 0.5}
    memory: {base: 100Mi, perRequest: 1Mi}
    stages: [{calls: [{to: back, mean: 2, requestBytes: 500, responseBytes: 1500}, {to: cache, protocol: tcp, requestBytes: 100, responseBytes: 900}]}]
  - name: back
    replicas: 2
    placement: {zones: {b: 2}}
    requests: {cpu: 500m, memory: 64Mi}
    concurrency: {workers: 8}
    work: {meanMs: 1}
  - name: cache
    replicas: 1
    placement: {zones: {c: 1}}
    requests: {cpu: 500m, memory: 64Mi}
    work: {meanMs: 0.1}
entries: [{service: front, rates: {a: [{at: 300s, perSecond: 100}, {at: 300s, perSecond: 200}]}}]
duration: 1h
";

fn traffic(world: &SimWorld) -> Traffic {
    metrics(world).traffic.fresh().unwrap().clone()
}

fn requests(traffic: &Traffic, callee: &str) -> f64 {
    let id = reference(callee);
    traffic.edges.iter().find(|edge| edge.callee == id).unwrap().requests().get()
}

fn within(value: f64, expected: f64, tolerance: f64) {
    assert!((value / expected - 1.0).abs() < tolerance, "{value}, expected {expected}");
}

#[test]
fn rates_are_the_truth_within_their_noise() {
    let world = world(TWO, 1);
    world.advance_to(at(250));
    let traffic = traffic(&world);
    assert_eq!(traffic.window, Span::from_seconds(60));
    // 6,000 requests in the window: 4 % is three standard deviations.
    within(requests(&traffic, "front"), 100.0, 0.04);
    within(requests(&traffic, "back"), 200.0, 0.04);
    let edge = |callee: &str| {
        traffic.edges.iter().find(|edge| edge.callee == reference(callee)).unwrap().clone()
    };
    let back = edge("back");
    assert_eq!((back.caller.clone(), back.host.clone()), (reference("front"), host("back")));
    assert_eq!(back.routes.len(), 1);
    let route = &back.routes[0];
    assert_eq!((&route.from, &route.to), (&zone("a"), &zone("b")));
    within(route.request_bytes.get(), route.requests.get() * 500.0, 0.02);
    within(route.response_bytes.get(), route.requests.get() * 1500.0, 0.02);
    // 2 ms of network and 3 ms for the 95th percentile of the work, which the bucket
    // from 1 to 5 ms shows as at most 5.
    assert!((3.0..=10.0).contains(&route.p95.unwrap().get()), "{:?}", route.p95);
    let cache = edge("cache");
    assert_eq!(cache.protocol, Protocol::Tcp);
    within(cache.requests().get(), 100.0, 0.04);
    assert_eq!(cache.routes[0].p95, None);
    let entry = edge("front");
    assert_eq!(entry.caller, reference("ingress"));

    // Each replica: a third of 100/s x 4 ms x half a core.
    let facts = metrics(&world);
    let usage = facts.usage.fresh().unwrap();
    assert_eq!(usage.len(), 6);
    for pod in usage.iter().filter(|usage| usage.pod.name().starts_with("front")) {
        within(pod.cpu.as_f64(), 66.7, 0.15);
        assert!(pod.memory >= Bytes::new(100 << 20) && pod.memory < Bytes::new(110 << 20));
    }
    let served: f64 = traffic
        .pods
        .iter()
        .filter(|pod| pod.pod.name().starts_with("front"))
        .map(|pod| pod.requests.get())
        .sum();
    within(served, 100.0, 0.04);
}

#[test]
fn a_change_is_seen_scrape_by_scrape() {
    let world = world(TWO, 1);
    // The step is at 300 s, a scrape falls on it, the next one at 315 s is visible a
    // second later.
    for (now, expected) in [(299, 100.0), (315, 100.0), (317, 125.0), (332, 150.0), (362, 200.0)] {
        world.advance_to(at(now));
        within(requests(&traffic(&world), "front"), expected, 0.05);
    }
    let facts = metrics(&world);
    let Facts::Fresh { as_of, .. } = facts.traffic else { panic!("fresh") };
    assert_eq!(as_of, at(360));
}

#[test]
fn nothing_is_known_before_two_scrapes_and_of_new_pods() {
    let world = world(TWO, 1);
    world.advance_to(at(30));
    assert!(matches!(metrics(&world).usage, Facts::Missing { .. }));
    world.advance_to(at(31));
    assert!(matches!(metrics(&world).usage, Facts::Fresh { .. }));
    world.advance_to(at(100));
    let node = cluster(&world).nodes[0].name.clone();
    let add = stornx_core::plan::Action::AddReplicas {
        workload: reference("back"),
        observed: 2,
        nodes: vec![node],
    };
    pollster::block_on(stornx_core::ports::Actuator::apply(&world, &add)).unwrap();
    // Ready at 110 s, scraped at 120 s and 135 s.
    let known = |world: &SimWorld| {
        let usage = metrics(world).usage;
        usage.fresh().unwrap().iter().filter(|u| u.pod.name().starts_with("back")).count()
    };
    world.advance_to(at(135));
    assert_eq!(workload(&world, "back").ready().count(), 3);
    assert_eq!(known(&world), 2);
    world.advance_to(at(136));
    assert_eq!(known(&world), 3);
    let usage = metrics(&world).usage;
    assert!(usage.fresh().unwrap().iter().all(|u| u.cpu > MilliCpu::ZERO));
}

#[test]
fn outages_make_facts_missing_or_stale() {
    let run = |kind: &str| {
        let events =
            format!("events: [{{metricsOutage: {{at: 400s, kind: {kind}, until: 600s}}}}]\n");
        let world = world(&format!("{TWO}{events}"), 1);
        let mut states = Vec::new();
        for now in [399, 401, 450, 500, 601, 617, 632] {
            world.advance_to(at(now));
            states.push(match metrics(&world).traffic {
                Facts::Fresh { .. } => 'f',
                Facts::Stale { .. } => 's',
                Facts::Missing { .. } => 'm',
            });
        }
        states.into_iter().collect::<String>()
    };
    assert_eq!(run("unreachable"), "fmmmmff");
    // The last scrape before is of 390 s: stale after 450 s. One scrape after the
    // outage is not a rate yet.
    assert_eq!(run("notScraped"), "fffsmff");
}

#[test]
fn round_trips_are_measured_with_their_noise() {
    let world = world(TWO, 1);
    world.advance_to(at(100));
    let latency = |world: &SimWorld| metrics(world).latency.fresh().unwrap().clone();
    let once: Latency = latency(&world);
    assert_eq!(once, latency(&world), "looking twice shows the same");
    let pair = |from: &str, to: &str| {
        let found = once.nodes.iter().find(|p| p.from.as_str() == from && p.to.as_str() == to);
        found.unwrap().rtt.get()
    };
    for (from, to, truth) in [("a-1", "a-1", 0.1), ("a-1", "a-2", 0.4), ("a-1", "c-2", 2.0)] {
        within(pair(from, to), truth, 0.0501);
    }
    assert!((pair("a-1", "b-1") - pair("a-1", "b-2")).abs() > 1e-9, "noise differs");
    assert_eq!(once.zones.len(), 9);
    let snapshot = stornx_core::model::Snapshot::assemble(
        cluster(&world),
        metrics(&world),
        stornx_core::ports::Clock::now(&world),
    );
    assert_eq!(snapshot.problems(), []);
}
