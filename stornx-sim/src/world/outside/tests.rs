//! Oracles: what the world itself measured, sums of callers against sums of callees, the
//! text format, and the audit of the world's books.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    builtin,
    world::tests::{audit::audit_world, cases, host, scenario, split, zone},
};

/// Load for a minute; `front` calls `back` and keeps connections to `store`.
const SHOP: &str = "\
services:
  - name: front
    replicas: 1
    requests: {cpu: 1, memory: 64Mi}
    concurrency: {workers: 8}
    work: {meanMs: 2}
    stages: [{calls: [{to: back, mean: 2}, {to: store, protocol: tcp, requestBytes: 100, responseBytes: 900}]}]
  - name: back
    replicas: 1
    requests: {cpu: 1, memory: 64Mi}
    limits: {cpu: 1, memory: 64Mi}
    concurrency: {workers: 2}
    work: {meanMs: 3}
  - {name: store, replicas: 1, requests: {cpu: 1, memory: 64Mi}, work: {meanMs: 0.2}}
entries:
  - service: front
    rates:
      a: [{at: 0s, perSecond: 60}, {at: 60s, perSecond: 60}, {at: 60s, perSecond: 0}]
      b: [{at: 0s, perSecond: 20}, {at: 60s, perSecond: 20}, {at: 60s, perSecond: 0}]
duration: 100s
";

fn node(name: &str, zone_name: &str) -> NodeSeen {
    let (name, zone) = (name.parse().unwrap(), zone(zone_name));
    NodeSeen { name, zone, ready: true, cpu: MilliCpu::new(64_000) }
}

fn nodes() -> Vec<NodeSeen> {
    ["a", "b", "c"].map(|zone| node(&format!("node-{zone}"), zone)).to_vec()
}

/// `service-number` on the node of a zone.
fn pod(service: &str, number: u32, zone: &str) -> PodSeen {
    PodSeen {
        service: service.to_owned(),
        pod: format!("default/{service}-{number}").parse().unwrap(),
        node: Some(format!("node-{zone}").parse().unwrap()),
        ready: true,
    }
}

fn pods() -> Vec<PodSeen> {
    vec![
        pod("front", 1, "a"),
        pod("front", 2, "b"),
        pod("back", 1, "a"),
        pod("back", 2, "b"),
        pod("back", 3, "c"),
        pod("store", 1, "a"),
        pod("ingress", 1, "a"),
        pod("ingress", 2, "b"),
    ]
}

fn emulator(rest: &str, pods: &[PodSeen]) -> Emulator {
    let mut emulator = Emulator::new(&scenario(rest), 7).unwrap();
    emulator.set_cluster(&nodes(), pods).unwrap();
    emulator
}

/// One line of the text.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Line {
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

fn lines(text: &str) -> Vec<Line> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (name, rest) = line.split_once('{').unwrap();
        let (labels, value) = rest.split_once("} ").unwrap();
        let mut parsed = BTreeMap::new();
        // No value holds a quote with a comma behind it.
        for label in labels.split("\",") {
            let (name, value) = label.split_once("=\"").unwrap();
            let before = parsed.insert(name.to_owned(), value.trim_end_matches('"').to_owned());
            assert_eq!(before, None, "a label once: {line}");
        }
        Line { name: name.to_owned(), labels: parsed, value: value.parse().unwrap() }
    });
    parsed.collect()
}

/// The sum of a metric over all series with these labels.
fn sum(lines: &[Line], name: &str, labels: &[(&str, &str)]) -> f64 {
    let fits = |line: &&Line| {
        line.name == name && labels.iter().all(|(label, value)| line.label(label) == *value)
    };
    lines.iter().filter(fits).map(|line| line.value).sum()
}

#[allow(clippy::cast_precision_loss)]
fn same(value: f64, count: u64) -> bool {
    (value - count as f64).abs() < 1e-6
}

#[test]
fn counters_are_what_the_world_has_measured() {
    let mut emulator = emulator(SHOP, &pods());
    emulator.advance(Span::from_seconds(90));
    audit_world(&emulator.world);
    let lines = lines(&emulator.expose());
    let world = &emulator.world;
    let zones = world.model.zones.len();
    let requests = "istio_requests_total";
    for (at, edge) in world.model.edges.iter().enumerate() {
        let measured = &world.routes[at * zones * zones..(at + 1) * zones * zones];
        let count: u64 = measured.iter().map(|counters| counters.requests).sum();
        let bytes: u64 = measured.iter().map(|counters| counters.response_bytes).sum();
        assert!(count > 1000);
        let caller = world.model.services[edge.caller].workload.name();
        let callee = world.model.services[edge.callee].workload.name();
        for reporter in ["source", "destination"] {
            let labels = [
                ("reporter", reporter),
                ("source_workload", caller),
                ("destination_workload", callee),
            ];
            if callee == "store" {
                assert!(same(sum(&lines, "istio_tcp_sent_bytes_total", &labels), bytes));
                let received = sum(&lines, "istio_tcp_received_bytes_total", &labels);
                assert!(same(received, count * 100));
                continue;
            }
            // Nothing is under way and nothing has failed: both sides have counted all.
            assert!(same(sum(&lines, requests, &labels), count), "{caller} {callee} {reporter}");
            let name = "istio_request_duration_milliseconds_count";
            assert!(same(sum(&lines, name, &labels), count));
            assert!(same(sum(&lines, "istio_response_bytes_sum", &labels), bytes));
        }
    }
    // By pod: who sent, who served.
    for pod in world.pods.iter().filter(|pod| pod.name.name() != "store-1") {
        let labels = [("reporter", "destination"), ("pod", pod.name.name())];
        assert!(same(sum(&lines, requests, &labels), pod.served.requests), "{:?}", pod.name);
        let labels = [("pod", pod.name.name()), ("container", "")];
        let cpu = sum(&lines, "container_cpu_usage_seconds_total", &labels);
        assert!((cpu - pod.cpu).abs() < 1e-9);
    }
    assert_eq!(world.measurements().requests.failed, 0);
}

#[test]
fn each_caller_pod_sends_its_part() {
    let mut emulator = emulator(SHOP, &pods());
    let stay = Routing::OwnZoneFirst;
    emulator.set_routing(&host("front"), stay).unwrap();
    emulator.advance(Span::from_seconds(90));
    let lines = lines(&emulator.expose());
    let of = |pod: &str, reporter: &str| {
        let labels = [("reporter", reporter), ("pod", pod)];
        sum(&lines, "istio_requests_total", &labels)
    };
    // Users enter in a and b and stay there.
    for number in [1, 2] {
        let (entrance, front) = (format!("ingress-{number}"), format!("front-{number}"));
        let entered = of(&entrance, "source");
        assert!(entered > 0.0 && (entered - of(&front, "destination")).abs() < 1e-6);
        // Two calls to the back for each.
        assert!((of(&front, "source") - 2.0 * entered).abs() < 1e-6);
    }
    assert!(of("ingress-1", "source") > 2.0 * of("ingress-2", "source"));
}

#[test]
fn the_ingress_is_known_by_the_namespace_of_its_pods() {
    let mut pods = pods();
    for seen in pods.iter_mut().filter(|seen| seen.service == "ingress") {
        seen.pod = format!("edge/{}", seen.pod.name()).parse().unwrap();
    }
    let mut emulator = emulator(SHOP, &pods);
    emulator.advance(Span::from_seconds(10));
    let lines = lines(&emulator.expose());
    let named = |workload: &str, namespace: &str| {
        let labels = [
            ("reporter", "destination"),
            ("source_workload", workload),
            ("source_workload_namespace", namespace),
        ];
        sum(&lines, "istio_requests_total", &labels)
    };
    assert!(named("ingress", "edge") > 0.0 && named("front", "default") > 0.0);
    assert!(named("ingress", "default") == 0.0 && named("front", "edge") == 0.0);
}

#[test]
fn rules_are_followed() {
    let mut emulator = emulator(SHOP, &pods());
    let table = ["a", "b", "c"].map(|from| (zone(from), split(&[("b", 30), ("c", 70)])));
    emulator.set_routing(&host("back"), Routing::Weights(table.into())).unwrap();
    emulator.advance(Span::from_seconds(90));
    let lines = lines(&emulator.expose());
    let served = |pod: &str| {
        let labels = [("reporter", "destination"), ("pod", pod)];
        sum(&lines, "istio_requests_total", &labels)
    };
    let all = served("back-2") + served("back-3");
    assert!(served("back-1").abs() < 1e-9);
    // Four standard deviations of 9,600 draws are 0.019.
    assert!((served("back-3") / all - 0.7).abs() < 0.019, "{}", served("back-3") / all);
    assert!(emulator.set_routing(&host("nobody"), Routing::ByReplicas).is_err());
}

#[test]
fn series_end_with_their_pod_and_begin_with_it() {
    let mut emulator = emulator(SHOP, &pods());
    emulator.advance(Span::from_seconds(20));
    let of = |emulator: &mut Emulator, name: &str| {
        let lines = lines(&emulator.expose());
        lines.iter().filter(|line| line.label("pod") == name).cloned().collect::<Vec<_>>()
    };
    assert!(!of(&mut emulator, "back-1").is_empty());
    let mut left: Vec<_> = pods().into_iter().filter(|p| p.pod.name() != "back-1").collect();
    let mut new = pod("back", 9, "a");
    new.ready = false;
    left.push(new);
    emulator.set_cluster(&nodes(), &left).unwrap();
    emulator.advance(Span::from_seconds(10));
    assert!(of(&mut emulator, "back-1").is_empty());
    // Not Ready yet: a container without requests.
    let seen = of(&mut emulator, "back-9");
    let names: BTreeSet<_> = seen.iter().map(|line| line.name.split('_').next().unwrap()).collect();
    assert_eq!(names, BTreeSet::from(["container"]));
    left.last_mut().unwrap().ready = true;
    emulator.set_cluster(&nodes(), &left).unwrap();
    emulator.advance(Span::from_seconds(10));
    let labels = [("pod", "back-9"), ("reporter", "destination")];
    assert!(sum(&lines(&emulator.expose()), "istio_requests_total", &labels) > 0.0);
    audit_world(&emulator.world);
}

#[test]
fn a_pod_of_the_same_name_elsewhere_is_a_new_one() {
    let mut emulator = emulator(SHOP, &pods());
    emulator.advance(Span::from_seconds(20));
    let labels = [("pod", "store-1"), ("reporter", "destination")];
    let name = "istio_tcp_sent_bytes_total";
    assert!(sum(&lines(&emulator.expose()), name, &labels) > 0.0);
    let mut moved = pods();
    moved[5] = pod("store", 1, "c");
    emulator.set_cluster(&nodes(), &moved).unwrap();
    assert!(sum(&lines(&emulator.expose()), name, &labels).abs() < 1e-9);
    emulator.advance(Span::from_seconds(20));
    assert!(sum(&lines(&emulator.expose()), name, &labels) > 0.0);
}

#[test]
fn a_node_without_power_takes_its_pods_with_it_until_it_is_back() {
    let mut emulator = emulator(SHOP, &pods());
    emulator.advance(Span::from_seconds(20));
    let mut dark = nodes();
    dark[1].ready = false;
    emulator.set_cluster(&dark, &pods()).unwrap();
    emulator.advance(Span::from_seconds(20));
    let text = emulator.expose();
    let hidden = ["front-2", "back-2", "\"node-b\""];
    assert!(hidden.iter().all(|name| !text.contains(name)), "no power, no answer to a scrape");
    audit_world(&emulator.world);
    // Not seen at all is the same.
    emulator
        .set_cluster(&[dark[0].clone(), dark[2].clone()], &{
            let mut left = pods();
            left.retain(|pod| pod.node.as_ref().is_some_and(|node| node.as_str() != "node-b"));
            left
        })
        .unwrap();
    assert!(!emulator.expose().contains("\"node-b\""));
    emulator.set_cluster(&nodes(), &pods()).unwrap();
    emulator.advance(Span::from_seconds(15));
    let labels = [("pod", "back-2"), ("reporter", "destination")];
    assert!(sum(&lines(&emulator.expose()), "istio_requests_total", &labels) > 0.0);
    audit_world(&emulator.world);
}

#[test]
fn failures_have_codes_and_flags() {
    let rest = SHOP.replace("to: back, mean: 2", "to: back, mean: 2, retries: 0, timeout: 40ms");
    let rest =
        rest.replace("meanMs: 3", "meanMs: 30").replace("workers: 2}", "workers: 2, queue: 3}");
    let mut emulator = emulator(&rest, &pods());
    emulator.advance(Span::from_seconds(90));
    let lines = lines(&emulator.expose());
    let failures = emulator.measurements().failures;
    let sent = |code: &str, flags: &str| {
        let labels = [
            ("reporter", "source"),
            ("source_workload", "front"),
            ("response_code", code),
            ("response_flags", flags),
        ];
        sum(&lines, "istio_requests_total", &labels)
    };
    assert!(failures.timed_out > 100 && failures.refused > 100);
    assert!(same(sent("0", "DC"), failures.timed_out));
    assert!(same(sent("503", "UO"), failures.refused));
    let labels = [("reporter", "destination"), ("response_code", "500"), ("pod", "front-1")];
    assert!(sum(&lines, "istio_requests_total", &labels) > 0.0);
    // Work that nobody waits for any more is still done.
    let labels = [("reporter", "destination"), ("response_code", "0")];
    assert!(sum(&lines, "istio_requests_total", &labels) > 0.0);
}

#[test]
fn without_a_replica_the_callee_is_not_known() {
    let front_only: Vec<_> = pods().into_iter().filter(|pod| pod.service != "back").collect();
    let mut emulator = emulator(SHOP, &front_only);
    emulator.advance(Span::from_seconds(90));
    let labels = [
        ("reporter", "source"),
        ("destination_workload", "unknown"),
        ("destination_service", "back.default.svc.cluster.local"),
        ("response_code", "503"),
        ("response_flags", "UH"),
    ];
    let count = sum(&lines(&emulator.expose()), "istio_requests_total", &labels);
    assert!(same(count, emulator.measurements().failures.no_endpoint), "{count}");
    assert!(count > 1000.0);
}

#[test]
fn users_from_outside_of_the_mesh_are_nobody_known() {
    let own: Vec<_> = pods().into_iter().filter(|pod| pod.service != "ingress").collect();
    let mut emulator = emulator(SHOP, &own);
    emulator.advance(Span::from_seconds(30));
    let text = emulator.expose();
    assert!(!text.contains("ingress"));
    let labels = [("source_workload", "unknown"), ("pod", "front-1")];
    assert!(sum(&lines(&text), "istio_requests_total", &labels) > 0.0);
}

#[test]
fn limits_of_cpu_throttle() {
    let mut emulator = emulator(SHOP, &pods()[..6]);
    emulator.advance(Span::from_seconds(60));
    let lines = lines(&emulator.expose());
    let (all, throttled) =
        ("container_cpu_cfs_periods_total", "container_cpu_cfs_throttled_periods_total");
    // Only the back has a limit: 1 core for two workers.
    assert!(same(sum(&lines, all, &[]), 3 * 600));
    let world = &emulator.world;
    let busy: u64 = world.pods.iter().map(|pod| pod.throttled_time / expose_period()).sum();
    assert!(same(sum(&lines, throttled, &[]), busy) && busy > 0);
}

const fn expose_period() -> u64 {
    100_000_000
}

#[test]
fn in_fast_time_counters_grow_by_the_factor_less() {
    let mut plain = emulator(SHOP, &pods());
    let mut fast = emulator(SHOP, &pods()).with_time_factor(10.0).unwrap();
    plain.advance(Span::from_seconds(50));
    fast.advance(Span::from_seconds(50));
    assert_eq!(plain.measurements(), fast.measurements());
    for (one, ten) in lines(&plain.expose()).into_iter().zip(lines(&fast.expose())) {
        let gauge = one.name.contains("memory") || one.name.contains("latency_ms");
        let factor = if gauge { 1.0 } else { 10.0 };
        assert!((one.value - ten.value * factor).abs() <= 1e-9 * one.value.abs(), "{one:?}");
    }
    for bad in [0.0, -1.0, f64::NAN, 1e9] {
        let fresh = emulator(SHOP, &pods());
        assert!(matches!(fresh.with_time_factor(bad), Err(EmulatorError::TimeFactor { .. })));
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let mut emulator = emulator(SHOP, &pods());
    emulator.advance(Span::from_seconds(40));
    let text = emulator.expose();
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            families.push(rest.split(' ').next().unwrap());
        } else if !line.starts_with('#') {
            let name = line.split('{').next().unwrap();
            assert!(name.starts_with(families.last().unwrap()), "{name} is in its family");
        }
    }
    let unique: BTreeSet<_> = families.iter().collect();
    assert_eq!((unique.len(), families.len()), (11, 11), "{families:?}");
    let lines = lines(&text);
    let series: BTreeSet<_> = lines.iter().map(|line| (&line.name, &line.labels)).collect();
    assert_eq!(series.len(), lines.len(), "no series twice");
    // The labels of Istio 1.24, and those of the scrape target.
    let mut expected: BTreeSet<String> = ["destination", "source"]
        .iter()
        .flat_map(|side| {
            let parts = "workload workload_namespace canonical_service canonical_revision \
                         principal app version cluster";
            parts.split_whitespace().map(move |part| format!("{side}_{part}"))
        })
        .collect();
    let others = "destination_service destination_service_name destination_service_namespace \
                  reporter request_protocol response_code response_flags \
                  connection_security_policy pod namespace";
    expected.extend(others.split_whitespace().map(str::to_owned));
    let request = lines.iter().find(|line| line.name == "istio_requests_total").unwrap();
    assert_eq!(request.labels.keys().cloned().collect::<BTreeSet<_>>(), expected);
    // Buckets grow up to the count.
    for line in lines.iter().filter(|line| line.name == "istio_request_duration_milliseconds_count")
    {
        let mut labels: Vec<_> =
            line.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let buckets: Vec<f64> = lines
            .iter()
            .filter(|other| other.name == "istio_request_duration_milliseconds_bucket")
            .filter(|other| labels.iter().all(|(name, value)| other.label(name) == *value))
            .map(|other| other.value)
            .collect();
        assert_eq!(buckets.len(), 20);
        assert!(buckets.is_sorted());
        labels.push(("le", "+Inf"));
        let last = sum(&lines, "istio_request_duration_milliseconds_bucket", &labels);
        assert!((last - line.value).abs() < 1e-9);
    }
}

#[test]
fn the_same_world_shows_the_same_whatever_the_order_of_the_lists() {
    let mut one = emulator(SHOP, &pods());
    let mut other = Emulator::new(&scenario(SHOP), 7).unwrap();
    let (mut nodes_back, mut pods_back) = (nodes(), pods());
    nodes_back.reverse();
    pods_back.reverse();
    other.set_cluster(&nodes_back, &pods_back).unwrap();
    for _ in 0..5 {
        one.advance(Span::from_seconds(7));
        other.advance(Span::from_seconds(7));
        // Seeing again what is there changes nothing.
        other.set_cluster(&nodes_back, &pods_back).unwrap();
    }
    assert_eq!(one.expose(), other.expose());
    assert_eq!(one.elapsed(), Span::from_seconds(35));
}

#[test]
fn an_emulator_may_live_on_another_thread() {
    let emulator = emulator(SHOP, &pods());
    let there = std::thread::spawn(move || {
        let mut emulator = emulator;
        emulator.advance(Span::from_seconds(1));
        emulator.elapsed()
    });
    assert_eq!(there.join().unwrap(), Span::from_seconds(1));
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let mut emulator = emulator(SHOP, &pods());
    let before = emulator.expose();
    let stranger = node("far", "z");
    let nowhere = [PodSeen { node: Some("gone".parse().unwrap()), ..pod("back", 1, "a") }];
    let unknown = [pod("nobody", 1, "a")];
    for (nodes, pods, expected) in [
        (vec![stranger], &[][..], "node far is in zone z, which the scenario does not have"),
        (nodes(), &nowhere[..], "pod default/back-1 is on node gone, which was not seen"),
        (
            nodes(),
            &unknown[..],
            "pod default/nobody-1 is of service nobody, which the scenario does not have",
        ),
    ] {
        assert_eq!(emulator.set_cluster(&nodes, pods).unwrap_err().to_string(), expected);
    }
    assert_eq!(emulator.expose(), before);
}

#[test]
fn the_boutique_runs_on_pods_of_others() {
    let boutique = builtin::find("online-boutique").unwrap();
    let mut emulator = Emulator::new(&boutique, 3).unwrap();
    let zones = ["zone-a", "zone-b", "zone-c"];
    let nodes: Vec<_> = zones.map(|zone| node(&format!("node-{zone}"), zone)).to_vec();
    let mut seen = Vec::new();
    for service in &boutique.services {
        for number in 0..service.replicas {
            seen.push(pod(&service.name, number, zones[number as usize % 3]));
        }
    }
    emulator.set_cluster(&nodes, &seen).unwrap();
    emulator.advance(Span::from_seconds(900));
    let measured = emulator.measurements();
    assert!(measured.requests.succeeded > 10_000);
    assert!(measured.error_share().get() < 0.05, "{:?}", measured.requests);
    audit_world(&emulator.world);
    assert!(measured.samples.is_empty(), "nothing grows with time");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(48)))]

    /// Whatever is seen, the books balance and nothing panics.
    #[test]
    fn books_balance_whatever_is_seen(
        steps in prop::collection::vec(
            (any::<[bool; 3]>(), prop::collection::vec((0_usize..3, 0_u32..4, 0_usize..3, any::<bool>()), 0..14), 0_u64..8_000),
            1..9,
        ),
    ) {
        let mut emulator = Emulator::new(&scenario(SHOP), 5).unwrap();
        for (power, seen, millis) in steps {
            let mut cluster = nodes();
            for (node, power) in cluster.iter_mut().zip(power) {
                node.ready = power;
            }
            let mut unique = BTreeMap::new();
            for (service, number, zone, ready) in seen {
                let mut pod = pod(["front", "back", "store"][service], number, ["a", "b", "c"][zone]);
                pod.ready = ready;
                unique.insert(pod.pod.clone(), pod);
            }
            let seen: Vec<_> = unique.into_values().collect();
            emulator.set_cluster(&cluster, &seen).unwrap();
            emulator.advance(Span::from_millis(millis));
            audit_world(&emulator.world);
            let lines = lines(&emulator.expose());
            for line in &lines {
                prop_assert!(line.value.is_finite() && line.value >= 0.0);
            }
        }
    }
}
