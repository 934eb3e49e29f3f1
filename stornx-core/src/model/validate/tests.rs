//! One broken snapshot for each rule, found at its exact place; and what metrics
//! remember of what is gone.

use super::*;
use crate::{
    model::{
        Autoscaler, AutoscalerKind, ClusterFacts, Latency, MetricsFacts, NodeRoundTrip, NodeTerm,
        PodTraffic, PodUsage, Source, ZoneRoundTrip,
    },
    testing::random_case,
    units::{Bytes, MilliCpu, Millis, Rps, Share},
};

/// A random snapshot with everything in it and all of it fresh.
fn snapshot() -> Snapshot {
    let rich = |s: &Snapshot| {
        s.nodes.len() > 3
            && s.workloads.len() > 3
            && s.workloads.iter().all(|w| w.pods.len() > 1)
            && s.hosts.len() > 2
            && s.hosts.iter().all(|host| !host.backends.is_empty())
            && s.usage.fresh().is_some_and(|usage| usage.len() > 4)
            && s.traffic.fresh().is_some_and(|t| {
                t.edges.len() > 2 && t.pods.len() > 2 && t.edges.iter().all(|e| e.routes.len() > 1)
            })
            && s.latency.fresh().is_some_and(|l| l.zones.len() > 1)
    };
    let mut snapshot =
        (0..100_000).map(|seed| random_case(seed).snapshot).find(rich).expect("a rich one");
    if let Facts::Fresh { value, .. } = &mut snapshot.latency {
        let (from, to) = (snapshot.nodes[0].name.clone(), snapshot.nodes[1].name.clone());
        value.nodes = vec![
            NodeRoundTrip { from: from.clone(), to: to.clone(), rtt: Millis::ZERO },
            NodeRoundTrip { from: to, to: from, rtt: Millis::ZERO },
        ];
    }
    assert_eq!(snapshot.problems(), []);
    snapshot
}

fn usage(snapshot: &mut Snapshot) -> &mut Vec<PodUsage> {
    match &mut snapshot.usage {
        Facts::Fresh { value, .. } | Facts::Stale { value, .. } => value,
        Facts::Missing { .. } => panic!("no usage"),
    }
}

fn traffic(snapshot: &mut Snapshot) -> &mut Traffic {
    match &mut snapshot.traffic {
        Facts::Fresh { value, .. } | Facts::Stale { value, .. } => value,
        Facts::Missing { .. } => panic!("no traffic"),
    }
}

fn latency(snapshot: &mut Snapshot) -> &mut Latency {
    match &mut snapshot.latency {
        Facts::Fresh { value, .. } | Facts::Stale { value, .. } => value,
        Facts::Missing { .. } => panic!("no latency"),
    }
}

fn stale<T: Clone>(facts: &mut Facts<T>) {
    if let Facts::Fresh { as_of, source, value } = facts.clone() {
        *facts = Facts::Stale { as_of, source, value };
    }
}

fn affinity(snapshot: &mut Snapshot, operator: NodeOperator, values: &[&str]) {
    let values = values.iter().map(|value| value.parse().unwrap()).collect();
    let expression = NodeExpression { key: "age".parse().unwrap(), operator, values };
    snapshot.workloads[1].constraints.node_affinity =
        vec![NodeTerm::default(), NodeTerm { expressions: vec![expression] }];
}

const AFFINITY: &str = "workloads[1].constraints.nodeAffinity[1].expressions[0].values";

#[test]
#[allow(clippy::too_many_lines)] // A table: one row for each rule.
fn every_rule_is_found_at_its_place() {
    type Breaking = fn(&mut Snapshot);
    let rules: Vec<(&str, &str, Breaking)> = vec![
        ("nodes[1].name", "twice", |s| s.nodes[1].name = s.nodes[0].name.clone()),
        ("nodes[3].region", "one region", |s| {
            (s.nodes[3].zone, s.nodes[3].region) =
                (s.nodes[0].zone.clone(), "elsewhere".parse().unwrap());
        }),
        ("workloads[1].id", "twice", |s| s.workloads[1].id = s.workloads[0].id.clone()),
        ("workloads[1].pods[0].name", "twice", |s| {
            s.workloads[1].pods[0].name = s.workloads[0].pods[0].name.clone();
        }),
        ("workloads[0].pods[1].name", "namespace", |s| {
            s.workloads[0].pods[1].name = "elsewhere/pod".parse().unwrap();
        }),
        ("workloads[0].pods[1].node", "Ready", |s| {
            let pod = &mut s.workloads[0].pods[1];
            (pod.phase, pod.node) = (PodPhase::Ready, None);
        }),
        ("workloads[0].pods[1].node", "Pending", |s| {
            let node = s.nodes[0].name.clone();
            let pod = &mut s.workloads[0].pods[1];
            (pod.phase, pod.node) = (PodPhase::Pending, Some(node));
        }),
        ("workloads[2].autoscaler.min", "above max, 2", |s| {
            s.workloads[2].autoscaler =
                Some(Autoscaler { kind: AutoscalerKind::Keda, min: 3, max: 2, held: None });
        }),
        ("workloads[2].policy.minReplicas", "above maxReplicas, 2", |s| {
            let policy = &mut s.workloads[2].policy;
            (policy.min_replicas, policy.max_replicas) = (Some(3), Some(2));
        }),
        ("workloads[2].constraints.maxZoneSkew", "at least 1", |s| {
            s.workloads[2].constraints.max_zone_skew = Some(0);
        }),
        (AFFINITY, "one value or more", |s| affinity(s, NodeOperator::In, &[])),
        (AFFINITY, "one value or more", |s| affinity(s, NodeOperator::NotIn, &[])),
        (AFFINITY, "no values", |s| affinity(s, NodeOperator::Exists, &["1"])),
        (AFFINITY, "no values", |s| affinity(s, NodeOperator::DoesNotExist, &["1"])),
        (AFFINITY, "one whole number", |s| affinity(s, NodeOperator::Gt, &["1", "2"])),
        (AFFINITY, "one whole number", |s| affinity(s, NodeOperator::Lt, &["old"])),
        ("hosts[1].name", "twice", |s| s.hosts[1].name = s.hosts[0].name.clone()),
        ("hosts[1].backends[1]", "twice", |s| {
            let backend = s.hosts[1].backends[0].clone();
            s.hosts[1].backends.push(backend);
        }),
        ("hosts[1].backends[0]", "does not exist", |s| {
            s.hosts[1].backends[0] = "shop/Deployment/gone".parse().unwrap();
        }),
        ("usage.fresh.asOf", "takenAt", |s| s.taken_at = Timestamp::from_millis(0)),
        ("traffic.fresh.asOf", "takenAt", |s| s.taken_at = Timestamp::from_millis(0)),
        ("latency.fresh.asOf", "takenAt", |s| s.taken_at = Timestamp::from_millis(0)),
        ("usage.fresh.value[3].pod", "does not exist", |s| {
            usage(s)[3].pod = "shop/gone".parse().unwrap();
        }),
        ("usage.stale.value[3].pod", "does not exist", |s| {
            usage(s)[3].pod = "shop/gone".parse().unwrap();
            stale(&mut s.usage);
        }),
        ("usage.fresh.value[1].pod", "twice", |s| usage(s)[1].pod = usage(s)[0].pod.clone()),
        ("traffic.fresh.value.window", "above 0", |s| traffic(s).window = Span::ZERO),
        ("traffic.fresh.value.edges[1]", "twice", |s| {
            let edges = &mut traffic(s).edges;
            edges[1] = edges[0].clone();
        }),
        ("traffic.fresh.value.edges[1].caller", "does not exist", |s| {
            traffic(s).edges[1].caller = "shop/Deployment/gone".parse().unwrap();
        }),
        ("traffic.stale.value.edges[1].callee", "does not exist", |s| {
            traffic(s).edges[1].callee = "shop/Deployment/gone".parse().unwrap();
            stale(&mut s.traffic);
        }),
        ("traffic.fresh.value.edges[1].routes[1]", "twice", |s| {
            let routes = &mut traffic(s).edges[1].routes;
            routes[1] = routes[0].clone();
        }),
        ("traffic.fresh.value.edges[1].routes[1].from", "does not exist", |s| {
            traffic(s).edges[1].routes[1].from = "gone".parse().unwrap();
        }),
        ("traffic.fresh.value.edges[1].routes[1].to", "does not exist", |s| {
            traffic(s).edges[1].routes[1].to = "gone".parse().unwrap();
        }),
        ("traffic.fresh.value.pods[2].pod", "does not exist", |s| {
            traffic(s).pods[2].pod = "shop/gone".parse().unwrap();
        }),
        ("traffic.fresh.value.pods[1].pod", "twice", |s| {
            let pods = &mut traffic(s).pods;
            pods[1] = pods[0].clone();
        }),
        ("latency.fresh.value.nodes[1]", "twice", |s| {
            let nodes = &mut latency(s).nodes;
            nodes[1] = nodes[0].clone();
        }),
        ("latency.fresh.value.nodes[1].from", "does not exist", |s| {
            latency(s).nodes[1].from = "gone".parse().unwrap();
        }),
        ("latency.fresh.value.nodes[0].to", "does not exist", |s| {
            latency(s).nodes[0].to = "gone".parse().unwrap();
        }),
        ("latency.fresh.value.zones[1]", "twice", |s| {
            let zones = &mut latency(s).zones;
            zones[1] = zones[0].clone();
        }),
        ("latency.fresh.value.zones[1].from", "does not exist", |s| {
            latency(s).zones[1].from = "gone".parse().unwrap();
        }),
        ("latency.stale.value.zones[0].to", "does not exist", |s| {
            latency(s).zones[0].to = "gone".parse().unwrap();
            stale(&mut s.latency);
        }),
    ];
    let whole = snapshot();
    for (path, word, breaking) in rules {
        let mut broken = whole.clone();
        breaking(&mut broken);
        let problems = broken.problems();
        let found = problems.iter().any(|p| p.path == path && p.message.contains(word));
        assert!(found, "{path} ({word}) is not in {problems:?}");
    }
}

#[test]
fn a_pod_on_a_node_that_is_gone_is_no_problem() {
    let mut snapshot = snapshot();
    snapshot.workloads[0].pods[1].phase = PodPhase::Ready;
    snapshot.workloads[0].pods[1].node = Some("gone".parse().unwrap());
    assert_eq!(snapshot.problems(), []);
}

#[test]
fn problems_name_place_and_rule() {
    let mut snapshot = snapshot();
    usage(&mut snapshot)[3].pod = "shop/gone".parse().unwrap();
    assert_eq!(
        snapshot.problems()[0].to_string(),
        "usage.fresh.value[3].pod: pod shop/gone does not exist in this snapshot"
    );
}

/// The facts of a snapshot as the ports would have given them.
fn parts(snapshot: Snapshot) -> (ClusterFacts, MetricsFacts, Timestamp) {
    let cluster = ClusterFacts {
        nodes: snapshot.nodes,
        workloads: snapshot.workloads,
        hosts: snapshot.hosts,
        mesh: snapshot.mesh,
        steering: snapshot.steering,
    };
    let metrics = MetricsFacts {
        usage: snapshot.usage,
        traffic: snapshot.traffic,
        latency: snapshot.latency,
        warnings: snapshot.warnings,
    };
    (cluster, metrics, snapshot.taken_at)
}

#[test]
fn what_is_gone_is_dropped_when_joined() {
    for seed in 0..300 {
        let (mut cluster, metrics, taken_at) = parts(random_case(seed).snapshot);
        // A zone, a workload and a pod have gone since the metrics were made.
        let zone = cluster.nodes[0].zone.clone();
        if cluster.nodes.iter().any(|node| node.zone != zone) {
            cluster.nodes.retain(|node| node.zone != zone);
        }
        let gone = cluster.workloads.remove(0).id;
        cluster.hosts.retain(|host| !host.backends.contains(&gone));
        if let Some(workload) = cluster.workloads.first_mut() {
            workload.pods.pop();
        }
        let joined = Snapshot::assemble(cluster, metrics, taken_at);
        assert_eq!(joined.problems(), [], "seed {seed}");
    }
}

#[test]
fn what_is_there_is_kept_when_joined() {
    for seed in 0..300 {
        let mut snapshot = random_case(seed).snapshot;
        snapshot.quiet = false; // Neither the cluster nor the metrics say so.
        let (cluster, metrics, taken_at) = parts(snapshot.clone());
        assert_eq!(Snapshot::assemble(cluster, metrics, taken_at), snapshot, "seed {seed}");
    }
}

#[test]
fn facts_from_a_clock_that_is_ahead_are_of_now() {
    let (cluster, mut metrics, taken_at) = parts(snapshot());
    let (as_of, source) = (taken_at.after(Span::from_millis(40)), Source::MetricsServer);
    metrics.usage = Facts::Fresh { as_of, source, value: Vec::new() };
    let joined = Snapshot::assemble(cluster, metrics, taken_at);
    assert_eq!(joined.usage.age(taken_at), Some(Span::ZERO));
    assert_eq!(joined.problems(), []);
}

#[test]
fn pruning_takes_only_what_is_gone() {
    let (cluster, mut metrics, taken_at) = parts(snapshot());
    let before = metrics.clone();
    let gone: PodName = "shop/gone".parse().unwrap();
    if let Facts::Fresh { value, .. } = &mut metrics.usage {
        let (cpu, memory) = (MilliCpu::ZERO, Bytes::ZERO);
        value.push(PodUsage { pod: gone.clone(), cpu, memory, throttled: None });
    }
    if let Facts::Fresh { value, .. } = &mut metrics.traffic {
        let (requests, errors) = (Rps::ZERO, Share::default());
        value.pods.push(PodTraffic { pod: gone, requests, p95: None, errors });
    }
    if let Facts::Fresh { value, .. } = &mut metrics.latency {
        let (from, to) = ("gone".parse().unwrap(), cluster.nodes[0].zone.clone());
        value.zones.push(ZoneRoundTrip { from, to, rtt: Millis::ZERO });
        let (from, to) = (cluster.nodes[0].name.clone(), "gone".parse().unwrap());
        value.nodes.push(NodeRoundTrip { from, to, rtt: Millis::ZERO });
    }
    let with_ghosts = Snapshot::assemble(cluster.clone(), metrics, taken_at);
    assert_eq!(with_ghosts, Snapshot::assemble(cluster, before, taken_at));
}
