//! What hand-written answers become.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod support;

use std::collections::BTreeMap;

use stornx_core::{
    model::{DefaultSplit, Distribution, Facts, PodPhase, Protocol, Rule, Source},
    ports::MetricsSource,
    units::{Bytes, MilliCpu, Share, Span, Timestamp},
};
use stornx_prom::QUERIES;
use support::{
    Fake, Rows, answers, cluster, host, joined, map, rates, routes, sent, served, traffic,
};

fn before(facts_as_of: Timestamp) -> Span {
    support::NOW.since(facts_as_of)
}

#[tokio::test]
async fn callers_and_callees_become_routes_between_zones() {
    let snapshot = joined(&answers(), &cluster()).await;
    let traffic = traffic(&snapshot);
    // Rows 10 and 30, columns 20 and 20, replicas alike.
    let expected = map(&[("aa", 5.0), ("ab", 5.0), ("ba", 15.0), ("bb", 15.0)]);
    assert_eq!(rates(traffic, "front", "cart"), expected);
    let bytes = routes(traffic, "front", "cart", |route| route.request_bytes.get());
    assert_eq!(bytes, map(&[("aa", 500.0), ("ab", 500.0), ("ba", 1500.0), ("bb", 1500.0)]));
    let bytes = routes(traffic, "front", "cart", |route| route.response_bytes.get());
    assert_eq!(bytes, map(&[("aa", 2000.0), ("ab", 2000.0), ("ba", 6000.0), ("bb", 6000.0)]));
    // a to b is 2 and 7 ms between its nodes: 4.5; b to a is 1; b to b is 0.5.
    let p95 = routes(traffic, "front", "cart", |route| route.p95.unwrap().get());
    assert_eq!(p95, map(&[("aa", 20.0), ("ab", 54.5), ("ba", 21.0), ("bb", 50.5)]));
    // Callers of a saw 1.5 failures of which cart-2 knows 0.5: the rest lies on all ten
    // requests. Callers of b saw the 1.5 that cart-2 says.
    let errors = routes(traffic, "front", "cart", |route| route.errors.get());
    assert_eq!(errors, map(&[("aa", 0.1), ("ab", 0.2), ("ba", 0.0), ("bb", 0.1)]));
    assert_eq!(traffic.window, Span::from_seconds(150));
}

#[tokio::test]
async fn plain_connections_are_bytes_and_exchanges_estimated_from_them() {
    let snapshot = joined(&answers(), &cluster()).await;
    let traffic = traffic(&snapshot);
    assert_eq!(rates(traffic, "cart", "redis"), map(&[("aa", 20.0), ("ba", 20.0)]));
    let bytes = routes(traffic, "cart", "redis", |route| route.request_bytes.get());
    assert_eq!(bytes, map(&[("aa", 5000.0), ("ba", 5000.0)]));
    let edge = traffic.edges.iter().find(|edge| edge.callee.name() == "redis").unwrap();
    assert_eq!(edge.protocol, Protocol::Tcp);
    assert!(edge.routes.iter().all(|route| route.p95.is_none()));
    let redis = traffic.pods.iter().find(|pod| pod.pod.name() == "redis-0").unwrap();
    assert!((redis.requests.get() - 40.0).abs() < 1e-9);
}

#[tokio::test]
async fn pods_say_what_they_serve_callers_from_outside_included() {
    let snapshot = joined(&answers(), &cluster()).await;
    let traffic = traffic(&snapshot);
    let pods: BTreeMap<_, _> = traffic.pods.iter().map(|pod| (pod.pod.name(), pod)).collect();
    assert_eq!(pods.len(), 5);
    assert!((pods["front-2"].requests.get() - 30.0).abs() < 1e-9);
    // A quantile of nothing is no number, and so not known.
    assert_eq!(pods["front-1"].p95, None);
    assert_eq!(pods["cart-2"].p95.unwrap().get().to_bits(), 50.0_f64.to_bits());
    assert_eq!(pods["cart-2"].errors, Share::new(0.1).unwrap());
    // Nobody in the cluster calls front.
    assert!(traffic.edges.iter().all(|edge| edge.callee.name() != "front"));
}

#[tokio::test]
async fn usage_and_ages_are_of_prometheus_own_clock() {
    let snapshot = joined(&answers(), &cluster()).await;
    let Facts::Fresh { as_of, source, value } = &snapshot.usage else { panic!() };
    assert_eq!((*source, before(*as_of)), (Source::Prometheus, Span::from_seconds(7)));
    assert_eq!(value.len(), 5);
    assert_eq!((value[0].cpu, value[0].memory), (MilliCpu::new(250), Bytes::new(100_000_000)));
    assert_eq!(value[0].throttled, Some(Share::new(0.25).unwrap()));
    let Facts::Fresh { as_of, source, .. } = &snapshot.traffic else { panic!() };
    assert_eq!((*source, before(*as_of)), (Source::Prometheus, Span::from_seconds(5)));
    let Facts::Fresh { as_of, source, value } = &snapshot.latency else { panic!() };
    assert_eq!((*source, before(*as_of)), (Source::LatencyExporter, Span::from_seconds(3)));
    assert_eq!((value.nodes.len(), value.zones.len()), (5, 3));
    assert!(snapshot.warnings.is_empty(), "{:?}", snapshot.warnings);
}

#[tokio::test]
async fn without_proxies_of_callees_routes_follow_the_rule_that_stands() {
    let mut answers = answers();
    for query in ["requests_served", "p95_pods", "p95_edges"] {
        answers.remove(query);
    }
    let mut cluster = cluster();
    let weights = |pairs: &[(&str, u8)]| {
        let pairs = pairs.iter().map(|(zone, weight)| (zone.parse().unwrap(), *weight));
        Distribution::new(pairs.collect()).unwrap()
    };
    cluster.hosts[0].rule =
        Rule::Ours([("a".parse().unwrap(), weights(&[("a", 80), ("b", 20)]))].into());
    let snapshot = joined(&answers, &cluster).await;
    // Zone a by its weights, zone b, which the rule does not name, by replicas.
    let expected = map(&[("aa", 8.0), ("ab", 2.0), ("ba", 15.0), ("bb", 15.0)]);
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), expected);
    let errors = routes(traffic(&snapshot), "front", "cart", |route| route.errors.get());
    assert_eq!(errors, map(&[("aa", 0.15), ("ab", 0.15), ("ba", 0.05), ("bb", 0.05)]));
    // Without a ready replica a zone gets nothing, whatever its weight.
    cluster.workloads[1].pods[0].phase = PodPhase::Unready;
    let snapshot = joined(&answers, &cluster).await;
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), map(&[("ab", 10.0), ("bb", 30.0)]));
}

#[tokio::test]
async fn callers_that_stay_in_their_zone_are_believed_until_callees_say_otherwise() {
    let mut answers = answers();
    let mut cluster = cluster();
    cluster.hosts[0].default_split = DefaultSplit::OwnZoneFirst;
    answers.insert(
        "requests_served",
        Rows::default()
            .add(&served("requests", "cart-1", "front", "cart"), 10)
            .add(&served("requests", "cart-2", "front", "cart"), 30),
    );
    let snapshot = joined(&answers, &cluster).await;
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), map(&[("aa", 10.0), ("bb", 30.0)]));
    // The only replica of zone a was not ready any more when the cluster was read; within
    // the window it has served, though.
    cluster.workloads[1].pods[0].phase = PodPhase::Unready;
    let snapshot = joined(&answers, &cluster).await;
    let rates = rates(traffic(&snapshot), "front", "cart");
    assert!((rates["aa"] + rates["ba"] - 10.0).abs() < 0.01, "{rates:?}");
}

#[tokio::test]
async fn what_spills_over_where_the_cluster_sends_nothing_is_seen_and_said() {
    let mut answers = answers();
    let mut cluster = cluster();
    cluster.hosts[0].default_split = DefaultSplit::OwnZoneFirst;
    let columns = |a: f64, b: f64| {
        Rows::default()
            .add(&served("requests", "cart-1", "front", "cart"), a)
            .add(&served("requests", "cart-2", "front", "cart"), b)
    };
    // Zone b sends 30 and serves 12: the mesh has ejected a part of its replicas, which the
    // cluster takes to be ready.
    answers.insert("requests_served", columns(28.0, 12.0));
    let snapshot = joined(&answers, &cluster).await;
    let expected = map(&[("aa", 10.0), ("ab", 0.0), ("ba", 18.0), ("bb", 12.0)]);
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), expected);
    let [warning] = snapshot.warnings.as_slice() else { panic!("{:?}", snapshot.warnings) };
    assert!(warning.starts_with("routes: a part of 1 edges goes to zones where"), "{warning}");
    let named = "shop/Deployment/front to shop/Deployment/cart: 45 %";
    assert!(warning.ends_with(named), "{warning}");
    // A rule of ours that names one zone alone, past which a foreign one sends.
    let only_b = Distribution::new([("b".parse().unwrap(), 100)].into()).unwrap();
    let table = [("a".parse().unwrap(), only_b.clone()), ("b".parse().unwrap(), only_b)];
    cluster.hosts[0].rule = Rule::Ours(table.into());
    answers.insert("requests_served", columns(2.0, 38.0));
    let snapshot = joined(&answers, &cluster).await;
    let expected = map(&[("aa", 0.5), ("ab", 9.5), ("ba", 1.5), ("bb", 28.5)]);
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), expected);
    // A twentieth is no matter.
    assert_eq!(snapshot.warnings, [""; 0]);
    // Nor is anything of so few requests that chance may be all.
    answers.insert(
        "requests_sent",
        Rows::default().add(&sent("requests", "front-1", "front", "cart"), 0.5),
    );
    answers.insert("requests_served", columns(0.3, 0.2));
    let snapshot = joined(&answers, &cluster).await;
    let expected = map(&[("aa", 0.3), ("ab", 0.2)]);
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), expected);
    assert_eq!(snapshot.warnings, [""; 0]);
}

#[tokio::test]
async fn without_proxies_of_callers_their_replicas_are_taken_to_be_alike() {
    let mut answers = answers();
    for query in ["requests_sent", "bytes_sent"] {
        answers.remove(query);
    }
    let snapshot = joined(&answers, &cluster()).await;
    let expected = map(&[("aa", 10.0), ("ab", 10.0), ("ba", 10.0), ("bb", 10.0)]);
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), expected);
    let errors = routes(traffic(&snapshot), "front", "cart", |route| route.errors.get());
    assert_eq!(errors, map(&[("aa", 0.0), ("ab", 0.1), ("ba", 0.0), ("bb", 0.1)]));
}

#[tokio::test]
async fn a_waypoint_counts_where_callers_say_nothing() {
    let waypoint =
        |to: &str| sent("requests", "waypoint-7", "front", to).replace("=source,", "=waypoint,");
    let mut answers = answers();
    let both = Rows::default()
        .add(&sent("requests", "front-1", "front", "cart"), 10)
        .add(&waypoint("cart"), 999)
        .add(&waypoint("redis"), 6);
    answers.insert("requests_sent", both);
    for query in ["requests_served", "p95_edges", "bytes_sent", "tcp_sent", "tcp_served"] {
        answers.remove(query);
    }
    let snapshot = joined(&answers, &cluster()).await;
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), map(&[("aa", 5.0), ("ab", 5.0)]));
    assert_eq!(rates(traffic(&snapshot), "front", "redis"), map(&[("aa", 3.0), ("ba", 3.0)]));
}

#[tokio::test]
async fn requests_through_a_waypoint_come_from_the_zone_that_it_is_in() {
    // The waypoint in a, and not its caller with replicas in a and b, chooses the endpoint:
    // its weights are those for callers in a. Here a replica of `cart` stands in for it, as
    // any pod of the cluster would.
    let row = sent("requests", "cart-1", "front", "redis").replace("=source,", "=waypoint,");
    let mut answers = answers();
    answers.insert("requests_sent", Rows::default().add(&row, 6));
    for query in ["requests_served", "p95_edges", "bytes_sent", "tcp_sent", "tcp_served"] {
        answers.remove(query);
    }
    let snapshot = joined(&answers, &cluster()).await;
    let found = rates(traffic(&snapshot), "front", "redis");
    assert_eq!(found, map(&[("aa", 6.0)]));
}

#[tokio::test]
async fn what_is_unknown_is_dropped() {
    let mut answers = answers();
    let rows = Rows::default()
        .add(&sent("requests", "front-1", "front", "cart"), 10)
        .add(&sent("requests", "front-1", "front", "nowhere"), 5)
        .add(&sent("requests", "stranger-1", "stranger", "cart"), 5);
    answers.insert("requests_sent", rows);
    answers.remove("requests_served");
    let snapshot = joined(&answers, &cluster()).await;
    let traffic = traffic(&snapshot);
    assert_eq!(rates(traffic, "front", "cart"), map(&[("aa", 5.0), ("ab", 5.0)]));
    assert_eq!(traffic.edges.len(), 2);
}

#[tokio::test]
async fn what_callers_sent_that_are_gone_is_traffic_of_their_edge() {
    // A rollout of the caller, 30 s ago: of 40 requests per second in a window of 150 s the
    // pods that are gone have sent four fifths.
    let mut answers = answers();
    let rows = Rows::default()
        .add(&sent("requests", "front-1", "front", "cart"), 2)
        .add(&sent("requests", "front-2", "front", "cart"), 6)
        .add(&sent("requests", "front-gone-1", "front", "cart"), 8)
        .add(&sent("requests", "front-gone-2", "front", "cart"), 24);
    answers.insert("requests_sent", rows);
    let snapshot = joined(&answers, &cluster()).await;
    // Spread over the zones of the pods that are there, 16 each.
    let expected = map(&[("aa", 9.0), ("ab", 9.0), ("ba", 11.0), ("bb", 11.0)]);
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), expected);
    // The same without a pod that could say where they were: nobody knows.
    let mut cluster = cluster();
    cluster.workloads[0].pods.clear();
    let snapshot = joined(&answers, &cluster).await;
    assert_eq!(rates(traffic(&snapshot), "front", "cart"), map(&[]));
}

#[tokio::test]
async fn a_host_that_is_not_listed_is_the_one_that_its_workload_stands_behind() {
    let mut answers = answers();
    let unlisted = |labels: String| labels.replace("cart.shop.svc.cluster.local", "10.0.0.7");
    let rows = Rows::default()
        .add(&unlisted(sent("requests", "front-1", "front", "cart")), 10)
        // The callee is not named: the only backend of its host is meant.
        .add(
            &sent("requests", "front-2", "front", "unknown").replace("unknown.shop", "cart.shop"),
            30,
        );
    answers.insert("requests_sent", rows);
    let snapshot = joined(&answers, &cluster()).await;
    let traffic = traffic(&snapshot);
    let expected = map(&[("aa", 5.0), ("ab", 5.0), ("ba", 15.0), ("bb", 15.0)]);
    assert_eq!(rates(traffic, "front", "cart"), expected);
    let edge = traffic.edges.iter().find(|edge| edge.callee.name() == "cart").unwrap();
    assert_eq!(edge.host.as_str(), "cart.shop.svc.cluster.local");
}

#[tokio::test]
async fn one_host_may_have_requests_and_plain_connections() {
    let mut answers = answers();
    let tcp = Rows::default().add(&sent("request_bytes", "front-1", "front", "cart"), 8000);
    answers.insert("tcp_sent", tcp);
    answers.remove("tcp_served");
    let snapshot = joined(&answers, &cluster()).await;
    let traffic = traffic(&snapshot);
    let edge = traffic.edges.iter().find(|edge| edge.callee.name() == "cart").unwrap();
    assert_eq!(edge.protocol, Protocol::Http);
    assert!((edge.requests().get() - 40.0).abs() < 1e-6);
    let bytes = routes(traffic, "front", "cart", |route| route.request_bytes.get());
    assert_eq!(bytes, map(&[("aa", 4500.0), ("ab", 4500.0), ("ba", 1500.0), ("bb", 1500.0)]));
}

#[tokio::test]
async fn a_pod_that_was_not_heard_of_for_too_long_is_left_out_and_counted() {
    let mut answers = answers();
    let mut last = Rows::default();
    for pod in support::PODS {
        let labels = |part: &str| format!("stornx_part={part},namespace=shop,pod={pod}");
        last = last.add(&labels("usage"), support::EVALUATED - 7.0);
        match pod {
            // Heard of, too long ago.
            "cart-2" => last = last.add(&labels("mesh"), support::EVALUATED - 121.0),
            // Not heard of at all, though the other replica is.
            "front-2" => {}
            _ => last = last.add(&labels("mesh"), support::EVALUATED - 5.0),
        }
    }
    answers.insert("last_samples", last);
    let snapshot = joined(&answers, &cluster()).await;
    let traffic = traffic(&snapshot);
    assert_eq!(rates(traffic, "front", "cart"), map(&[("aa", 10.0)]));
    assert!(traffic.pods.iter().all(|pod| pod.pod.name() != "cart-2"));
    assert_eq!(
        snapshot.warnings,
        ["traffic: no sample of 2 pods within 120 s, they are left out: shop/cart-2 first"]
    );
    assert_eq!(snapshot.usage.fresh().unwrap().len(), 5);
    assert!(
        matches!(&snapshot.latency, Facts::Missing { reason } if reason == "node_avg_latency_ms: no sample within 120 s")
    );
}

#[tokio::test]
async fn old_samples_make_old_facts() {
    let mut answers = answers();
    let mut last = Rows::default();
    for pod in support::PODS {
        let labels = |part: &str| format!("stornx_part={part},namespace=shop,pod={pod}");
        last = last.add(&labels("usage"), support::EVALUATED - 200.0);
    }
    answers.insert("last_samples", last);
    let snapshot = joined(&answers, &cluster()).await;
    let Facts::Fresh { as_of, value, .. } = &snapshot.usage else { panic!() };
    assert_eq!((before(*as_of), value.len()), (Span::from_seconds(200), 0));
    let Facts::Missing { reason } = &snapshot.traffic else { panic!() };
    assert_eq!(reason, "metrics of the mesh: no sample within 120 s");
}

#[tokio::test]
async fn without_a_mesh_resource_metrics_go_on() {
    let mut answers = answers();
    answers.retain(|query, _| *query == "usage");
    let last = support::PODS.iter().fold(Rows::default(), |last, pod| {
        let labels = format!("stornx_part=usage,namespace=shop,pod={pod}");
        last.add(&labels, support::EVALUATED - 7.0)
    });
    answers.insert("last_samples", last);
    let snapshot = joined(&answers, &cluster()).await;
    assert_eq!(snapshot.usage.fresh().unwrap().len(), 5);
    let Facts::Missing { reason } = &snapshot.traffic else { panic!() };
    assert!(reason.starts_with("no metrics of a mesh: neither istio_requests_total"), "{reason}");
    let Facts::Missing { reason } = &snapshot.latency else { panic!() };
    assert!(reason.contains("node_avg_latency_ms is not there"), "{reason}");
}

#[tokio::test]
async fn labels_that_name_no_pod_of_the_cluster_are_the_reason() {
    let mut other = answers();
    let strangers = |part: &str| format!("stornx_part={part},instance=10.0.0.1:15020");
    other.insert("requests_served", Rows::default().add(&strangers("requests"), 3));
    other.insert("usage", Rows::default().add(&strangers("cpu"), 3));
    for query in ["requests_sent", "bytes_sent", "tcp_sent", "tcp_served"] {
        other.remove(query);
    }
    let snapshot = joined(&other, &cluster()).await;
    let Facts::Missing { reason } = &snapshot.traffic else { panic!() };
    assert!(reason.contains("none names a pod of the cluster in the labels namespace and pod"));
    let Facts::Missing { reason } = &snapshot.usage else { panic!() };
    assert!(reason.contains("none names a pod of the cluster"), "{reason}");
}

#[tokio::test]
async fn the_same_answers_are_the_same_facts() {
    let mut cluster = cluster();
    cluster.hosts.push(host("other", "shop/Deployment/cart"));
    let first = joined(&answers(), &cluster).await;
    let second = joined(&answers(), &cluster).await;
    let text = |snapshot| serde_json::to_string(snapshot).unwrap();
    assert_eq!(text(&first), text(&second));
}

/// The cluster, in which one pod was created so long ago.
fn with_age(workload: usize, pod: usize, age: Span) -> stornx_core::model::ClusterFacts {
    let mut cluster = cluster();
    let created = support::NOW.as_millis() - age.as_millis();
    cluster.workloads[workload].pods[pod].created_at = Timestamp::from_millis(created);
    cluster
}

#[tokio::test]
async fn rates_of_young_pods_are_scaled_to_the_time_that_they_were_there() {
    // A fifth of the window: what looks like 250 millicores and 20 requests is five times that.
    let snapshot = joined(&answers(), &with_age(1, 1, Span::from_seconds(30))).await;
    let usage = snapshot.usage.fresh().unwrap();
    let of = |name: &str| usage.iter().find(|usage| usage.pod.name() == name).unwrap();
    assert_eq!((of("cart-1").cpu, of("cart-2").cpu), (MilliCpu::new(250), MilliCpu::new(1250)));
    // Not rates over the window: memory and a ratio.
    assert_eq!(of("cart-2").memory, Bytes::new(100_000_000));
    assert_eq!(of("cart-2").throttled, Some(Share::new(0.25).unwrap()));
    let traffic = traffic(&snapshot);
    let served = |name: &str| traffic.pods.iter().find(|pod| pod.pod.name() == name).unwrap();
    assert!((served("cart-1").requests.get() - 20.0).abs() < 1e-9);
    assert!((served("cart-2").requests.get() - 100.0).abs() < 1e-9);
    assert_eq!(served("cart-2").errors, Share::new(0.1).unwrap());
    // The edge has what its callers sent; of that the young callee takes five sixths.
    let rates = rates(traffic, "front", "cart");
    assert_eq!(rates, map(&[("aa", 1.667), ("ab", 8.333), ("ba", 5.0), ("bb", 25.0)]));
}

#[tokio::test]
async fn pods_that_are_too_young_for_a_rate_have_no_usage() {
    let snapshot = joined(&answers(), &with_age(1, 1, Span::from_seconds(14))).await;
    let usage = snapshot.usage.fresh().unwrap();
    assert_eq!(usage.len(), 4);
    assert!(usage.iter().all(|usage| usage.pod.name() != "cart-2"));
    // What it serves counts all the same.
    let pods = &traffic(&snapshot).pods;
    let served = pods.iter().find(|pod| pod.pod.name() == "cart-2").unwrap();
    assert!((served.requests.get() - 200.0).abs() < 1e-9);
}

#[tokio::test]
async fn without_a_metric_of_round_trips_everything_else_goes_on() {
    let (fake, source) = Fake::asked_with("").await;
    let mut answers = answers();
    answers.remove("latency");
    fake.answer(&answers, support::EVALUATED);
    let metrics = source.observe(&cluster(), support::NOW).await;
    let Facts::Missing { reason } = &metrics.latency else { panic!() };
    assert_eq!(reason, "no metric of round-trip times is named, none is asked for");
    assert!(metrics.usage.fresh().is_some() && metrics.traffic.fresh().is_some());
    let asked = fake.server.received_requests().await.unwrap();
    assert_eq!(asked.len(), QUERIES.len() - 1);
}

#[tokio::test]
async fn round_trips_of_which_all_are_old_are_no_exporter_that_is_missing() {
    let mut answers = answers();
    // Pairs are left out one by one where they are too old: by the query.
    answers.remove("latency");
    let snapshot = joined(&answers, &cluster()).await;
    let Facts::Missing { reason } = &snapshot.latency else { panic!() };
    assert_eq!(reason, "node_avg_latency_ms: no pair of nodes was measured lately");
}
