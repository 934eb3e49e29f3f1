//! Small worlds whose best layout is plain to see.

use crate::{
    decide::{
        plan,
        safety::testing::{NOW, World, id, pod_name},
    },
    memory::{Backoff, FinishedMove, MoveInFlight, Placed, WorkloadMemory},
    model::{Autoscaler, AutoscalerKind, Facts, PodPhase, Rollout},
    plan::{Action, MoveWay, Planned},
    policy::AutoscaledMoves,
    report::{MoveReason, MoveWhy, Why},
    units::{Percent, Span, Timestamp},
};

/// Callers 70/20/10 % in three zones, one callee with two replicas in each.
fn uneven() -> World {
    let mut world = World::new(&[3, 3, 3]);
    world.policy.scaler.enabled = false;
    world.policy.balancer.enabled = true;
    world.workload("gate", &["a0", "b0", "c0"]).managed = false;
    world.workload("shop", &["a1", "a2", "b1", "b2", "c1", "c2"]);
    let even = |from, rate: f64| ["a", "b", "c"].map(move |to| (from, to, rate / 3.0));
    let routes: Vec<_> =
        [even("a", 700.0), even("b", 200.0), even("c", 100.0)].into_iter().flatten().collect();
    world.edge("gate", "shop", &routes);
    for at in 0..6 {
        world.pod_traffic(&format!("shop-{at}"), 1000.0 / 6.0, Some(20.0));
    }
    world.usage_of_all("shop", 40, 10);
    world
}

/// A move of the workload has been worth it for long enough.
pub(super) fn wanted(world: &mut World, name: &str) {
    let remembered = WorkloadMemory {
        wanted_since: Some(Timestamp::from_millis(NOW.as_millis() - 120_000)),
        ..WorkloadMemory::default()
    };
    world.memory.workloads.insert(id(name), remembered);
}

pub(super) fn decide(world: &World) -> Planned {
    let planned = plan(&world.snapshot, &world.policy, &world.memory, NOW);
    let violations = crate::check::check(&world.snapshot, &world.policy, &world.memory, &planned);
    assert!(violations.is_empty(), "{violations:?}");
    planned
}

fn moves(planned: &Planned) -> Vec<(String, String, String)> {
    let text = |name: &str| name.to_owned();
    let begun = |action: &Action| match action {
        Action::StartMove { workload, from, to, .. } => {
            Some((text(workload.name()), text(from.as_str()), text(to.as_str())))
        }
        _ => None,
    };
    planned.plan.actions.iter().filter_map(begun).collect()
}

fn between_zones(world: &World) -> usize {
    moves(&decide(world)).iter().filter(|(_, from, to)| from[..1] != to[..1]).count()
}

fn reason(world: &World, name: &str) -> MoveReason {
    decide(world).report.workloads[&id(name)].moves.clone()
}

#[test]
fn replicas_go_to_where_the_load_enters() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    let planned = decide(&world);
    let moves = moves(&planned);
    assert_eq!(moves.len(), 1);
    assert!(!moves[0].1.starts_with('a') && moves[0].2.starts_with('a'), "{moves:?}");
    let Why::Move(MoveWhy::Nearer { heaviest, cost_before, cost_after, price, .. }) =
        &planned.report.actions[0].why
    else {
        panic!("{:?}", planned.report.actions);
    };
    assert_eq!(heaviest.as_ref().unwrap().0, id("gate"));
    assert!(cost_before - cost_after > *price);
    let expected = planned.report.actions[0].expected.request_ms_per_second;
    // Less waiting in the full zone comes on top of the shorter ways.
    assert!(expected >= cost_before - cost_after);
}

#[test]
fn a_wish_must_last() {
    let mut world = uneven();
    assert!(moves(&decide(&world)).is_empty());
    assert_eq!(reason(&world, "shop"), MoveReason::Confirming { since: Span::ZERO });
    wanted(&mut world, "shop");
    let since = Timestamp::from_millis(NOW.as_millis() - 119_999);
    world.memory.workloads.get_mut(&id("shop")).unwrap().wanted_since = Some(since);
    assert!(moves(&decide(&world)).is_empty());
}

#[test]
fn floors_hold_whatever_it_would_save() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    // Four replicas are needed: with three in one zone, three would be left.
    world.usage_of_all("shop", 60, 10);
    assert_eq!(between_zones(&world), 0);
    world.policy.fault_tolerance.survive = Percent::ZERO;
    assert_eq!(between_zones(&world), 1);
    world.policy.fault_tolerance.max_skew = 1;
    assert_eq!(between_zones(&world), 0);
    world.policy.fault_tolerance.max_skew = 3;
    world.of("shop").constraints.max_zone_skew = Some(1);
    // The surge may be the third in its zone while the others hold two, the victim's
    // zone has one replica less afterwards.
    assert_eq!(between_zones(&world), 0);
}

#[test]
fn nothing_moves_where_the_mesh_does_not_follow() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    // Every replica is called alike: the three of a zone serve half of each caller.
    world.snapshot.mesh = crate::model::Mesh::Absent;
    let planned = decide(&world);
    for (_, _, to) in moves(&planned) {
        assert!(to.starts_with('a'), "still nearer to most of the load");
    }
}

#[test]
fn closed_gates_say_why() {
    type Close = fn(&mut World);
    let cases: [(&str, Close, MoveReason); 11] = [
        ("disabled", |w| w.policy.moves.enabled = false, MoveReason::Disabled),
        ("unmanaged", |w| w.of("shop").managed = false, MoveReason::NotManaged),
        ("opted out", |w| w.of("shop").policy.opted_out = true, MoveReason::OptedOut),
        ("unwanted", |w| w.of("shop").policy.no_moves = true, MoveReason::NotWanted),
        ("pinned", |w| w.of("shop").constraints.pinned = true, MoveReason::NotMovable),
        ("paused", |w| w.of("shop").rollout = Rollout::Paused, MoveReason::Paused),
        ("rollout", |w| w.of("shop").rollout = Rollout::InProgress, MoveReason::RolloutInProgress),
        (
            "autoscaler",
            |w| {
                let kind = AutoscalerKind::Hpa;
                w.of("shop").autoscaler = Some(Autoscaler { kind, min: 1, max: 9, held: None });
            },
            MoveReason::AutoscalerOwns { kind: AutoscalerKind::Hpa },
        ),
        ("starting", |w| w.of("shop").pods[0].phase = PodPhase::Starting, MoveReason::NotSettled),
        (
            "back-off",
            |w| {
                let until = NOW.after(Span::from_seconds(5));
                let remembered = w.memory.workloads.get_mut(&id("shop")).unwrap();
                remembered.move_backoff = Some(Backoff { until, failures: 0 });
            },
            MoveReason::Backoff { left: Span::from_seconds(5) },
        ),
        (
            "no traffic",
            |w| w.snapshot.traffic = Facts::Missing { reason: "a test".to_owned() },
            MoveReason::NoTraffic,
        ),
    ];
    for (name, close, expected) in cases {
        let mut world = uneven();
        wanted(&mut world, "shop");
        close(&mut world);
        assert!(moves(&decide(&world)).is_empty(), "{name}");
        assert_eq!(reason(&world, "shop"), expected, "{name}");
    }
}

#[test]
fn autoscaled_workloads_move_as_they_are_told_to() {
    use AutoscalerKind::{Hpa, Keda};
    let cases = [
        (AutoscaledMoves::Never, Hpa, 9, None),
        (AutoscaledMoves::Evict, Keda, 9, Some(MoveWay::Evict)),
        (AutoscaledMoves::Hold, Hpa, 7, Some(MoveWay::Hold)),
        (AutoscaledMoves::Hold, Hpa, 6, None),
        (AutoscaledMoves::Hold, Keda, 9, None),
    ];
    for (told, kind, max, expected) in cases {
        let mut world = uneven();
        wanted(&mut world, "shop");
        world.policy.moves.autoscaled = told;
        world.of("shop").autoscaler = Some(Autoscaler { kind, min: 1, max, held: None });
        let ways = decide(&world).plan.actions.into_iter().find_map(|action| match action {
            Action::StartMove { way, .. } => Some(way),
            _ => None,
        });
        assert_eq!(ways, expected, "{told:?} {kind:?} {max}");
    }
}

#[test]
fn budgets_are_kept_and_said() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    world.policy.moves.max_per_cycle = 0;
    assert!(moves(&decide(&world)).is_empty());
    assert_eq!(reason(&world, "shop"), MoveReason::BudgetUsedUp);
    world.policy.moves.max_per_cycle = 2;
    world.policy.moves.max_per_zone = 0;
    assert!(moves(&decide(&world)).is_empty());
}

#[test]
fn a_full_zone_takes_no_replica() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    let fill = |world: &mut World, to: u64| {
        for node in ["a0", "a1", "a2"] {
            world.node(node).reserved = crate::decide::safety::testing::resources(to, to);
        }
    };
    let enters = |world: &World| {
        let moves = moves(&decide(world));
        moves.iter().any(|(_, from, to)| !from.starts_with('a') && to.starts_with('a'))
    };
    // One replica more of 100 fits beside the 100 that are there.
    fill(&mut world, 3800);
    assert!(enters(&world));
    fill(&mut world, 3801);
    assert!(!enters(&world));
}

/// A chain gate -> front -> back where all load enters in zone a. Zone a has one replica
/// of each, which is full at the cap: a front that comes alone would send all that it
/// calls back over the zones, a back that comes alone would have nothing to do.
fn chain() -> World {
    let mut world = World::new(&[6, 6]);
    world.policy.scaler.enabled = false;
    world.policy.fault_tolerance.survive = Percent::ZERO;
    world.policy.balancer.max_utilisation = Percent::saturating(60.0);
    world.workload("gate", &["a0"]).managed = false;
    world.workload("front", &["a0", "b1", "b2", "b3"]);
    world.workload("back", &["a0", "b3", "b4", "b5"]);
    world.edge("gate", "front", &[("a", "b", 1000.0)]);
    world.edge("front", "back", &[("b", "b", 3000.0)]);
    for at in 0..4 {
        world.pod_traffic(&format!("front-{at}"), 250.0, Some(5.0));
        world.pod_traffic(&format!("back-{at}"), 750.0, Some(5.0));
    }
    world.usage_of_all("front", 50, 10);
    world.usage_of_all("back", 50, 10);
    world
}

#[test]
fn what_pays_only_together_moves_together() {
    let mut world = chain();
    wanted(&mut world, "front");
    wanted(&mut world, "back");
    let planned = decide(&world);
    let moves = moves(&planned);
    let names: Vec<_> = moves.iter().map(|(name, ..)| name.as_str()).collect();
    assert!(names.contains(&"front") && names.contains(&"back"), "{moves:?}");
    let into_a =
        |(_, from, to): &(String, String, String)| from.starts_with('b') && to.starts_with('a');
    assert!(moves.iter().all(into_a), "{moves:?} {:?}", planned.report.actions);
}

#[test]
fn a_move_under_way_is_waited_for() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    let record = MoveInFlight {
        started_at: Timestamp::from_millis(NOW.as_millis() - 20_000),
        way: MoveWay::Surge,
        victim: pod_name("shop-5"),
        from: "c2".parse().unwrap(),
        to: "a0".parse().unwrap(),
        replicas_before: 6,
        known_pods: (0..6).map(|at| pod_name(&format!("shop-{at}"))).collect(),
        predicted_saving: 100.0,
        ending: None,
    };
    world.memory.workloads.get_mut(&id("shop")).unwrap().in_flight = Some(record);
    world.of("shop").desired = 7;
    assert_eq!(reason(&world, "shop"), MoveReason::Waiting { since: Span::from_seconds(20) });
    let mut new = crate::decide::safety::testing::pod("shop-9", Some("a0"), PodPhase::Ready);
    new.created_at = NOW;
    world.of("shop").pods.push(new);
    // Until its usage is known, nobody knows whether enough would survive.
    assert_eq!(reason(&world, "shop"), MoveReason::Waiting { since: Span::from_seconds(20) });
    world.usage("shop-9", 40, 10);
    let planned = decide(&world);
    let finish = Action::FinishMove {
        workload: id("shop"),
        observed: 7,
        victim: pod_name("shop-5"),
        replacement: pod_name("shop-9"),
    };
    assert_eq!(planned.plan.actions[0], finish);
    assert_eq!(reason(&world, "shop"), MoveReason::Finished);
}

#[test]
fn a_regression_is_taken_back_despite_the_back_off() {
    let mut world = uneven();
    let remembered = WorkloadMemory {
        moved_at: Some(Timestamp::from_millis(NOW.as_millis() - 300_000)),
        move_backoff: Some(Backoff { until: NOW, failures: 1 }),
        last_move: Some(FinishedMove {
            replacement: pod_name("shop-1"),
            came_from: "b0".parse().unwrap(),
            regressed: true,
        }),
        ..WorkloadMemory::default()
    };
    world.memory.workloads.insert(id("shop"), remembered);
    let planned = decide(&world);
    assert_eq!(moves(&planned), [("shop".to_owned(), "a2".to_owned(), "b0".to_owned())]);
    assert!(matches!(planned.report.actions[0].why, Why::Move(MoveWhy::Undo { .. })));
    // Where it cannot go back, nothing else moves either, until that is given up.
    world.node("b0").schedulable = false;
    assert!(moves(&decide(&world)).is_empty());
    let left = Span::from_seconds(1500);
    assert_eq!(reason(&world, "shop"), MoveReason::Backoff { left });
}

#[test]
fn a_crowded_node_is_left() {
    let mut world = World::new(&[3]);
    world.policy.scaler.enabled = false;
    world.workload("gate", &["a0"]).managed = false;
    world.workload("one", &["a1", "a2"]);
    world.workload("two", &["a1", "a2"]);
    for name in ["one", "two"] {
        world.edge("gate", name, &[("a", "a", 100.0)]);
        for at in 0..2 {
            world.pod_traffic(&format!("{name}-{at}"), 50.0, Some(5.0));
        }
        world.of(name).requests = crate::decide::safety::testing::resources(1000, 100);
        world.usage_of_all(name, 900, 10);
        wanted(&mut world, name);
    }
    world.node("a1").reserved = crate::decide::safety::testing::resources(2000, 0);
    let planned = decide(&world);
    let moves = moves(&planned);
    assert!(moves.iter().any(|(_, from, _)| from == "a1"), "{moves:?} {:?}", planned.report);
}

#[test]
fn a_full_zone_is_left_by_who_loses_least_there() {
    let mut world = uneven();
    // A third workload fills the zone where the load enters, and hardly works.
    world.workload("idle", &["a0", "a1", "b0", "c0"]);
    world.edge("gate", "idle", &[("a", "a", 2.0)]);
    for at in 0..4 {
        world.pod_traffic(&format!("idle-{at}"), 0.5, Some(5.0));
    }
    world.usage_of_all("idle", 10, 10);
    world.policy.fault_tolerance.survive = Percent::ZERO;
    for (node, reserved) in [("a0", 3780), ("a1", 3780), ("a2", 3880)] {
        world.node(node).reserved = crate::decide::safety::testing::resources(reserved, 0);
    }
    // Nor is there anything to gain within the other zones.
    for node in ["b0", "c0"] {
        world.node(node).schedulable = false;
    }
    world.of("idle").requests = crate::decide::safety::testing::resources(150, 150);
    for name in ["shop", "idle"] {
        wanted(&mut world, name);
    }
    let planned = decide(&world);
    let begun = moves(&planned);
    assert_eq!(begun.len(), 1, "{begun:?} {:?}", planned.report.workloads);
    assert_eq!(begun[0].0, "idle", "{:?} {:?}", planned.report.actions, planned.report.workloads);
    assert!(begun[0].1.starts_with('a') && !begun[0].2.starts_with('a'), "{begun:?}");
    match &planned.report.actions[0].why {
        Why::Move(MoveWhy::MakesRoom { makes_room_for, .. }) => {
            assert_eq!(*makes_room_for, id("shop"));
        }
        Why::Move(MoveWhy::Together { with, .. }) => assert_eq!(*with, [id("shop")]),
        other => panic!("{other:?}"),
    }
    // While it is on its way, no other has to go.
    let mut later = world.clone();
    let record = MoveInFlight {
        started_at: NOW,
        way: MoveWay::Surge,
        victim: pod_name("idle-0"),
        from: begun[0].1.parse().unwrap(),
        to: begun[0].2.parse().unwrap(),
        replicas_before: 4,
        known_pods: (0..4).map(|at| pod_name(&format!("idle-{at}"))).collect(),
        predicted_saving: 0.0,
        ending: None,
    };
    later.memory.workloads.get_mut(&id("idle")).unwrap().in_flight = Some(record);
    later.of("idle").desired = 5;
    assert!(moves(&decide(&later)).is_empty());
    assert_eq!(reason(&later, "shop"), MoveReason::NoRoom);
}

#[test]
fn a_place_that_was_judged_good_is_left_for_a_clear_saving_only() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    // A horizon at which the move saves a little more than it costs.
    let begins = |world: &World| !moves(&decide(world)).is_empty();
    let within = |world: &World, seconds| {
        let mut near = world.clone();
        near.policy.moves.horizon = Span::from_seconds(seconds);
        begins(&near)
    };
    let edge = (1..3600).rev().find(|seconds| !within(&world, *seconds)).unwrap() + 1;
    world.policy.moves.horizon = Span::from_seconds(edge);
    assert!(begins(&world));
    let remembered = world.memory.workloads.get_mut(&id("shop")).unwrap();
    remembered.placed = Some(Placed { since: NOW, lapsed: 1 });
    remembered.wanted_since = Some(Timestamp::from_millis(NOW.as_millis() - 240_000));
    assert!(!begins(&world));
    let expected = matches!(reason(&world, "shop"), MoveReason::WellPlaced { best: Some(_) });
    assert!(expected, "{:?}", reason(&world, "shop"));
    // What is clearly worth it is done all the same, when it has been so for long enough.
    assert!(within(&world, 3600));
    wanted(&mut world, "shop");
    world.memory.workloads.get_mut(&id("shop")).unwrap().placed =
        Some(Placed { since: NOW, lapsed: 1 });
    assert!(!within(&world, 3600));
    // A caller that has another place is a reason to look again.
    let mut changed = world.clone();
    changed.of("gate").pods[2].created_at = NOW.after(Span::from_seconds(1));
    let later = NOW.after(Span::from_seconds(60));
    let planned = plan(&changed.snapshot, &changed.policy, &changed.memory, later);
    assert_eq!(moves(&planned).len(), 1);
    let planned = plan(&world.snapshot, &world.policy, &world.memory, later);
    assert!(moves(&planned).is_empty());
}
