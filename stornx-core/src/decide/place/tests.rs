//! Known answers, and equality with a naive model written from the published rules,
//! over the snapshot alone.

mod naive;
mod random;

use super::{Next, Travel, place, remove};
use crate::{
    decide::{
        ledger::Ledger,
        moves::Destinations,
        safety::{
            Safety,
            testing::{World, cases, index, pod, pod_name, resources},
        },
    },
    ids::PodName,
    model::{
        DefaultSplit, DisruptionBudget, Distribution, Facts, Latency, NodeRoundTrip, PodPhase,
        Rule, ZoneRoundTrip,
    },
    report::{PlacementReason, PlacementStrategy},
    units::{Millis, Percent},
    view::Remembered,
};

fn placed(world: &World, name: &str, count: u32) -> (Vec<String>, Option<String>) {
    let (nodes, _, refused) = placed_with_reasons(world, name, count);
    (nodes, refused)
}

fn placed_with_reasons(
    world: &World,
    name: &str,
    count: u32,
) -> (Vec<String>, Vec<PlacementReason>, Option<String>) {
    let view = world.view();
    let mut ledger = Ledger::new(&view, &Remembered::of(&view, &world.memory));
    let placed = place(&view, &mut ledger, index(&view, name), count);
    let nodes = placed.nodes.iter().map(|at| view.nodes[at.at()].node.name.to_string()).collect();
    (nodes, placed.reasons, placed.refused.map(|refusals| refusals.to_string()))
}

fn removed(world: &World, name: &str, count: u32) -> (Vec<String>, bool) {
    let view = world.view();
    let safety = Safety::assess(&view, &Remembered::of(&view, &world.memory));
    let ledger = Ledger::new(&view, &Remembered::of(&view, &world.memory));
    let removed = remove(&view, &safety, &ledger, index(&view, name), count);
    let names = removed.victims.iter().map(|pod: &PodName| pod.name().to_owned());
    (names.collect(), removed.refused.is_some())
}

#[test]
fn zones_without_a_replica_come_first() {
    let mut world = World::new(&[2, 2, 2]);
    world.workload("w", &["a0"]);
    assert_eq!(placed(&world, "w", 3), (vec!["b0".into(), "c0".into(), "a1".into()], None));
}

#[test]
fn starting_replicas_hold_their_zone_and_lost_ones_do_not() {
    let mut world = World::new(&[2, 2, 2]);
    world.workload("w", &["a0"]);
    world.of("w").pods.push(pod("w-1", Some("b0"), PodPhase::Starting));
    assert_eq!(placed(&world, "w", 1).0, ["c0"]);
    world.of("w").pods[1].phase = PodPhase::Unready;
    assert_eq!(placed(&world, "w", 1).0, ["b1"]);
    world.of("w").pods[1].phase = PodPhase::Terminating;
    assert_eq!(placed(&world, "w", 1).0, ["b1"]);
}

#[test]
fn the_most_zones_are_a_ceiling() {
    let mut world = World::new(&[1, 1, 1]);
    world.policy.fault_tolerance.max_zones = 2;
    world.workload("w", &["a0", "b0"]);
    world.workload("near", &["c0"]);
    world.edge("near", "w", &[("c", "a", 100.0)]);
    assert_eq!(placed(&world, "w", 2).0, ["a0", "b0"]);
    world.node("a0").schedulable = false;
    world.node("b0").ready = false;
    let refused = "3 nodes: 1 not ready, 1 cordoned, 1 in zones beyond its spread";
    assert_eq!(placed(&world, "w", 1), (vec![], Some(refused.into())));
}

#[test]
fn a_full_zone_does_not_stop_growth_elsewhere() {
    let mut world = World::new(&[1, 1, 1]);
    world.workload("w", &["a0", "b0"]);
    world.node("c0").schedulable = false;
    assert_eq!(placed(&world, "w", 1).0, ["a0"]);
}

#[test]
fn skew_is_bounded() {
    let mut world = World::new(&[2, 1, 1]);
    world.workload("w", &["a0", "b0", "c0"]);
    world.workload("near", &["a0"]);
    world.edge("near", "w", &[("a", "a", 100.0)]);
    // Three more than the emptiest zone are allowed, then the others are due.
    assert_eq!(placed(&world, "w", 6).0, ["a0", "a0", "a0", "b0", "c0", "a0"]);
    world.policy.fault_tolerance.max_skew = 1;
    assert_eq!(placed(&world, "w", 4).0, ["a0", "b0", "c0", "a0"]);
    world.node("b0").schedulable = false;
    let (nodes, refused) = placed(&world, "w", 3);
    assert_eq!(nodes, ["a0", "c0"]);
    assert_eq!(
        refused.unwrap(),
        "4 nodes: 1 cordoned, 3 in zones that hold too many of its replicas"
    );
}

#[test]
fn its_own_spread_constraint_counts_as_kubernetes_counts() {
    let mut world = World::new(&[1, 1, 1]);
    world.policy.fault_tolerance.max_zones = 2;
    world.workload("w", &["a0", "b0"]).constraints.max_zone_skew = Some(1);
    // Zone c is beyond the spread and holds none: another in a or b would stay pending.
    let refused = "3 nodes: 2 outside its own spread constraint, 1 in zones beyond its spread";
    assert_eq!(placed(&world, "w", 1), (vec![], Some(refused.into())));
    // A zone that its selectors do not admit is not counted, one that is down is.
    world.of("w").constraints.node_selector =
        [("disk".parse().unwrap(), "ssd".parse().unwrap())].into();
    for node in ["a0", "b0"] {
        let label = ("disk".parse().unwrap(), "ssd".parse().unwrap());
        world.node(node).labels = [label].into();
    }
    assert_eq!(placed(&world, "w", 1).0, ["a0"]);
    world.of("w").pods.pop();
    world.node("b0").ready = false;
    assert!(placed(&world, "w", 1).0.is_empty());
    // An unready replica is bound and counts.
    world.node("b0").ready = true;
    world.of("w").pods[0].phase = PodPhase::Unready;
    world.node("b0").schedulable = false;
    assert!(placed(&world, "w", 1).0.is_empty());
}

#[test]
fn nodes_without_room_are_refused_after_all_promises() {
    let mut world = World::new(&[1]);
    world.policy.fault_tolerance.max_skew = 9;
    world.workload("w", &[]).requests = resources(1500, 100);
    let (nodes, refused) = placed(&world, "w", 3);
    assert_eq!(nodes, ["a0", "a0"]);
    assert_eq!(refused.unwrap(), "1 node: 1 without enough free CPU, memory or pods");
    world.of("w").requests = resources(1, 1);
    world.node("a0").pod_capacity = 1;
    assert_eq!(placed(&world, "w", 2).0.len(), 1);
}

#[test]
fn bound_and_exclusive_replicas_are_respected() {
    let mut world = World::new(&[2]);
    world.workload("w", &["a0"]).constraints.one_per_node = true;
    let (nodes, refused) = placed(&world, "w", 2);
    assert_eq!(nodes, ["a1"]);
    assert_eq!(refused.unwrap(), "2 nodes: 2 holding a replica already");
    world.of("w").pods[0].phase = PodPhase::Terminating;
    assert_eq!(placed(&world, "w", 1).0, ["a1"]);
    world.of("w").constraints.pinned = true;
    let refused = placed(&world, "w", 1).1.unwrap();
    assert!(refused.contains("bound to their place"), "{refused}");
}

#[test]
fn a_replica_goes_near_its_callers_and_callees() {
    let mut world = World::new(&[2, 2]);
    world.workload("w", &["a0", "b0"]);
    world.workload("up", &["b1"]);
    world.workload("down", &["a1"]);
    world.edge("up", "w", &[("b", "a", 30.0), ("b", "b", 30.0)]);
    let (nodes, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!(nodes, ["b1"]);
    let reason = &reasons[0];
    assert_eq!(reason.strategy, PlacementStrategy::Upstream);
    assert_eq!(reason.heaviest.as_ref().unwrap().0.name(), "up");
    assert!((reason.cost - 60.0 * 0.05).abs() < 1e-9);
    let runner_up = reason.runner_up.as_ref().unwrap();
    assert_eq!(runner_up.0.as_str(), "b0");
    assert!((runner_up.1 - 60.0 * 0.3).abs() < 1e-9);
    assert_eq!((reason.candidates, reason.measured), (4, false));

    world.edge("w", "down", &[("a", "a", 100.0)]);
    let (nodes, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!(nodes, ["a1"]);
    assert_eq!(reasons[0].strategy, PlacementStrategy::Mixed);
    assert_eq!(reasons[0].heaviest.as_ref().unwrap().0.name(), "down");
    // Calls of zone a go to a as observed; from a1 they stay on the node.
    assert!((reasons[0].cost - (60.0 * 1.0 + 100.0 * 0.05)).abs() < 1e-9);

    world.traffic().edges.remove(0);
    let (_, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!(reasons[0].strategy, PlacementStrategy::Downstream);
}

#[test]
fn equally_near_nodes_fill_evenly() {
    let mut world = World::new(&[3]);
    world.workload("w", &["a0"]);
    assert_eq!(placed(&world, "w", 3).0, ["a1", "a2", "a0"]);
}

#[test]
fn without_traffic_the_least_used_node_is_taken() {
    let mut world = World::new(&[3]);
    world.workload("w", &[]);
    world.node("a0").reserved = resources(1000, 1000);
    world.node("a1").reserved = resources(0, 2000);
    world.node("a2").reserved = resources(1500, 1000);
    let (nodes, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!(nodes, ["a0"]);
    assert_eq!(reasons[0].strategy, PlacementStrategy::LeastUsed);
    assert_eq!((reasons[0].heaviest.as_ref(), reasons[0].measured), (None, false));
    assert!((reasons[0].cost - 0.25).abs() < 1e-12);
    world.policy.scaler.memory_weight = Percent::ZERO;
    assert_eq!(placed(&world, "w", 1).0, ["a1"]);
    world.snapshot.traffic = Facts::Missing { reason: "down".to_owned() };
    assert_eq!(placed(&world, "w", 1).0, ["a1"]);
    world.node("a1").allocatable = resources(0, 4000);
    world.of("w").requests = resources(0, 100);
    assert_eq!(placed(&world, "w", 1).0, ["a0"]);
}

#[test]
fn a_zone_that_has_sent_nothing_splits_by_the_rule_or_the_default() {
    let mut world = World::new(&[1, 1, 1]);
    world.workload("w", &["a0"]);
    world.workload("down", &["a0", "b0", "c0"]);
    world.edge("w", "down", &[("a", "a", 8.0)]);
    let cost = |world: &World, node: &str| {
        let view = world.view();
        let travel = Travel::of(&view, index(&view, "w")).unwrap();
        travel.cost(&view, view.node(&node.parse().unwrap()).unwrap())
    };
    let near = |cost: f64, expected: f64| assert!((cost - expected).abs() < 1e-9, "{cost}");
    near(cost(&world, "a0"), 8.0 * 0.05);
    near(cost(&world, "b0"), 8.0 * (0.05 + 1.0 + 1.0) / 3.0);
    let host = world.snapshot.hosts.iter_mut().find(|h| h.name.service() == "down").unwrap();
    host.default_split = DefaultSplit::OwnZoneFirst;
    near(cost(&world, "b0"), 8.0 * 0.05);
    let weights = [("a", 25), ("b", 50), ("c", 25)];
    let weights = weights.map(|(zone, weight)| (zone.parse().unwrap(), weight));
    let host = world.snapshot.hosts.iter_mut().find(|h| h.name.service() == "down").unwrap();
    let table = [("b".parse().unwrap(), Distribution::new(weights.into()).unwrap())];
    host.rule = Rule::Ours(table.into());
    near(cost(&world, "b0"), 8.0 * (0.5 * 0.05 + 0.5));
    // The rule says nothing about callers in c.
    near(cost(&world, "c0"), 8.0 * 0.05);
    // Nothing ready at all: as it was observed, by zone.
    for pod in &mut world.of("down").pods {
        pod.phase = PodPhase::Unready;
    }
    near(cost(&world, "b0"), 8.0);
    near(cost(&world, "a0"), 8.0 * 0.3);
}

#[test]
fn measured_round_trips_replace_assumed_ones() {
    let mut world = World::new(&[2, 1]);
    world.workload("w", &["a0", "b0"]);
    world.workload("up", &["a0"]);
    world.edge("up", "w", &[("a", "a", 10.0)]);
    let latency = |nodes: Vec<NodeRoundTrip>, zones: Vec<ZoneRoundTrip>| Facts::Fresh {
        as_of: crate::decide::safety::testing::NOW,
        source: crate::model::Source::LatencyExporter,
        value: Latency { nodes, zones },
    };
    let zone = |from: &str, to: &str, rtt| ZoneRoundTrip {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        rtt: Millis::saturating(rtt),
    };
    world.snapshot.latency = latency(vec![], vec![zone("a", "a", 5.0), zone("a", "b", 0.01)]);
    let (nodes, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!((nodes[0].as_str(), reasons[0].measured), ("b0", true));
    world.snapshot.latency = latency(vec![], vec![zone("b", "a", 0.01)]);
    let (nodes, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!((nodes[0].as_str(), reasons[0].measured), ("a0", false));
    let node = |from: &str, to: &str, rtt| NodeRoundTrip {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        rtt: Millis::saturating(rtt),
    };
    world.snapshot.latency = latency(vec![node("a0", "a1", 0.01), node("a0", "b0", 9.0)], vec![]);
    let (nodes, reasons, _) = placed_with_reasons(&world, "w", 1);
    assert_eq!((nodes[0].as_str(), reasons[0].measured), ("a1", true));
    assert!((reasons[0].cost - 0.1).abs() < 1e-9);
    assert!((reasons[0].runner_up.as_ref().unwrap().1 - 0.5).abs() < 1e-9);
}

#[test]
fn replicas_that_do_not_serve_leave_first() {
    let mut world = World::new(&[2, 2]);
    let workload = world.workload("w", &["a0", "b0"]);
    workload.pods.push(pod("w-4", Some("a1"), PodPhase::Unready));
    workload.pods.push(pod("w-5", Some("b1"), PodPhase::Starting));
    workload.pods.push(pod("w-6", None, PodPhase::Pending));
    workload.pods.push(pod("w-7", Some("b1"), PodPhase::Terminating));
    workload.pods.push(pod("w-3", Some("gone"), PodPhase::Ready));
    workload.budget = Some(DisruptionBudget { min_ready: 2 });
    let expected = ["w-6", "w-5", "w-4", "w-3"].map(str::to_owned).to_vec();
    assert_eq!(removed(&world, "w", 4), (expected.clone(), false));
    assert_eq!(removed(&world, "w", 5), (expected, true));
}

#[test]
fn the_fullest_zone_loses_the_replica_that_serves_worst() {
    let mut world = World::new(&[3, 2, 2]);
    world.workload("w", &["a0", "a1", "a2", "b0", "c0"]);
    world.usage_of_all("w", 1, 1);
    assert_eq!(removed(&world, "w", 1).0, ["w-0"]);
    // The fuller node first.
    world.node("a2").reserved = resources(2000, 0);
    assert_eq!(removed(&world, "w", 1).0, ["w-2"]);
    // Callers on a2 and a0 make a1 the one that costs least, whatever the load.
    world.workload("up", &["a0", "a2"]);
    world.edge("up", "w", &[("a", "a", 10.0), ("a", "b", 1.0)]);
    assert_eq!(removed(&world, "w", 1).0, ["w-1"]);
    let (victims, refused) = removed(&world, "w", 9);
    assert_eq!((victims, refused), (vec!["w-1".to_owned(), "w-2".to_owned()], true));
}

#[test]
fn zones_that_may_not_lose_one_are_passed_over() {
    let mut world = World::new(&[2, 2]);
    world.policy.fault_tolerance.max_zones = 1;
    world.policy.fault_tolerance.survive = Percent::ZERO;
    world.workload("w", &["a0", "b0"]);
    world.workload("up", &["a0"]);
    world.usage_of_all("w", 1, 1);
    world.edge("up", "w", &[("a", "a", 9.0), ("a", "b", 3.0)]);
    // Both hold one: the one whose traffic is far from its callers goes.
    assert_eq!(removed(&world, "w", 1).0, ["w-1"]);
    world.of("w").budget = Some(DisruptionBudget { min_ready: 2 });
    assert_eq!(removed(&world, "w", 1), (vec![], true));
}

#[test]
fn a_stateful_set_loses_its_highest_ordinal_or_nothing() {
    let mut world = World::new(&[2, 2]);
    let workload = world.workload("w", &["a0", "a1", "a0", "b0"]);
    workload.id = "shop/StatefulSet/w".parse().unwrap();
    for (at, ordinal) in [9, 10, 2, 3].into_iter().enumerate() {
        workload.pods[at].name = pod_name(&format!("w-{ordinal}"));
    }
    for ordinal in [2, 3, 9, 10] {
        world.usage(&format!("w-{ordinal}"), 1, 1);
    }
    let remove = |world: &World| {
        let view = world.view();
        let safety = Safety::assess(&view, &Remembered::of(&view, &world.memory));
        let ledger = Ledger::new(&view, &Remembered::of(&view, &world.memory));
        let at = view.workload(&"shop/StatefulSet/w".parse().unwrap()).unwrap();
        let removed = remove(&view, &safety, &ledger, at, 3);
        removed.victims.iter().map(|pod| pod.name().to_owned()).collect::<Vec<_>>()
    };
    // The next, w-3, is the only one of zone b.
    assert_eq!(remove(&world), ["w-10", "w-9"]);
    world.snapshot.workloads[0].pods[0].phase = PodPhase::Starting;
    assert_eq!(remove(&world), ["w-10", "w-9"]);
}

#[test]
fn placement_equals_brute_force() {
    let (mut placed_some, mut refused_some, mut near, mut least_used, mut fast) = (0, 0, 0, 0, 0);
    for seed in 0..cases(10_000) {
        let (world, count) = random::world(seed);
        let expected = naive::place(&world, "w", count);
        let view = world.view();
        let mut ledger = Ledger::new(&view, &Remembered::of(&view, &world.memory));
        let placed = place(&view, &mut ledger, index(&view, "w"), count);
        let nodes: Vec<String> =
            placed.nodes.iter().map(|at| view.nodes[at.at()].node.name.to_string()).collect();
        assert_eq!(nodes, expected, "seed {seed}");
        assert_eq!(placed.refused.is_some(), expected.len() < count as usize, "seed {seed}");
        assert_eq!(placed.reasons.len(), nodes.len());
        for reason in &placed.reasons {
            let cost = naive::cost(&world, "w", reason.node.as_str());
            match cost {
                Some(cost) => {
                    near += 1;
                    assert!((reason.cost - cost).abs() <= 1e-9 * cost.max(1.0), "seed {seed}");
                    fast += u32::from(!view.latency.has_node_pairs());
                }
                None => least_used += 1,
            }
            assert_eq!(cost.is_none(), reason.strategy == PlacementStrategy::LeastUsed);
        }
        placed_some += u32::from(!nodes.is_empty());
        refused_some += u32::from(placed.refused.is_some());
    }
    // The cases reach every kind of answer.
    assert!(placed_some > 3000 && refused_some > 1000, "{placed_some} {refused_some}");
    assert!(near > 2000 && least_used > 500 && fast > 1000, "{near} {least_used} {fast}");
}

#[test]
fn removal_equals_brute_force() {
    let (mut some, mut stopped) = (0, 0);
    for seed in 0..cases(10_000) {
        let (world, count) = random::world(seed);
        let (expected, refused) = naive::remove(&world, "w", count);
        assert_eq!(removed(&world, "w", count), (expected.clone(), refused), "seed {seed}");
        some += u32::from(!expected.is_empty());
        stopped += u32::from(refused);
    }
    assert!(some > 3000 && stopped > 1000, "{some} {stopped}");
}

/// Where zones decide, looking at a few nodes of each finds what looking at all does.
#[test]
fn what_others_ask_for_goes_where_our_own_would() {
    let mut seen = 0;
    for seed in 0..cases(2_000) {
        let (world, _) = random::world(seed);
        let view = world.view();
        let at = index(&view, "w");
        // Between measured nodes every one may differ; the bound ones are told nothing.
        let pinned = view.workloads[at.at()].workload.constraints.pinned;
        if view.latency.has_node_pairs() || pinned {
            continue;
        }
        let ledger = Ledger::new(&view, &Remembered::of(&view, &world.memory));
        let destinations = Destinations::new(&view, &ledger);
        let ahead = Next::new(&view, &ledger, &destinations).of(at);
        let own = place(&view, &mut ledger.clone(), at, 1).nodes;
        assert_eq!(ahead.is_empty(), own.is_empty(), "seed {seed}");
        let (Some(ahead), Some(own), Some(travel)) =
            (ahead.first(), own.first(), Travel::of(&view, at))
        else {
            continue;
        };
        let (ahead, own) = (travel.cost(&view, *ahead), travel.cost(&view, *own));
        assert!((ahead - own).abs() <= 1e-9 * own.abs().max(1.0), "seed {seed}: {ahead}, {own}");
        seen += 1;
    }
    assert!(seen > 200, "only {seen}");
}
