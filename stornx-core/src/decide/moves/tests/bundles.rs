//! Moves that pay together only, more than two of them.

use super::{
    layouts::{decide, wanted},
    toy::{Load, Toy, begun},
};
use crate::{
    decide::safety::testing::{NOW, World, id},
    memory::Memory,
    remember::remember,
    report::{MoveReason, MoveWhy, Why},
    units::Percent,
};

const GROUP: [&str; 3] = ["front", "middle", "back"];

/// All load enters on a node of zone a; what answers it runs on one node of zone b, one
/// replica each. A replica that goes alone lengthens its other calls by `inner / entering`
/// of what it saves.
fn group(entering: f64, inner: f64) -> World {
    let mut world = World::new(&[4, 4]);
    world.policy.scaler.enabled = false;
    world.policy.fault_tolerance.survive = Percent::ZERO;
    world.workload("gate", &["a0"]).managed = false;
    for name in GROUP {
        world.workload(name, &["b0"]);
        let rate = if name == "front" { entering } else { inner };
        world.pod_traffic(&format!("{name}-0"), rate, Some(5.0));
        world.usage_of_all(name, 20, 10);
    }
    world.edge("gate", "front", &[("a", "b", entering)]);
    world.edge("front", "middle", &[("b", "b", inner)]);
    world.edge("middle", "back", &[("b", "b", inner)]);
    world
}

fn all_wanted(world: &mut World) {
    GROUP.iter().for_each(|name| wanted(world, name));
}

#[test]
fn the_first_of_a_group_begin_where_going_back_would_not_pay() {
    let mut world = group(1000.0, 1000.0);
    all_wanted(&mut world);
    let planned = decide(&world);
    assert_eq!(begun(&planned), 2, "{:?}", planned.report.workloads);
    let Why::Move(MoveWhy::Together { moves: 3, with, saving, price, .. }) =
        &planned.report.actions[0].why
    else {
        panic!("{:?}", planned.report.actions);
    };
    assert_eq!(with.len(), 2);
    // 1,000 requests/s that stay on a node: 0.95 ms each, by the heuristic.
    assert!((*saving - 950.0).abs() < 1.0 && *price > 0.0, "{saving} {price}");
}

#[test]
fn a_group_whose_first_moves_lose_waits_for_a_budget_that_holds_all_of_it() {
    let mut world = group(1000.0, 3000.0);
    all_wanted(&mut world);
    let planned = decide(&world);
    assert_eq!(begun(&planned), 0, "{:?}", planned.report.actions);
    for name in GROUP {
        let reason = &planned.report.workloads[&id(name)].moves;
        assert!(matches!(reason, MoveReason::NeedsOthers { moves: 3, .. }), "{reason:?}");
    }
    world.policy.moves.max_per_cycle = 3;
    world.policy.moves.max_per_zone = 3;
    world.policy.moves.max_per_node = 3;
    assert_eq!(begun(&decide(&world)), 3);
}

/// What each of the group waits for when no budget is left, and after a whole cycle.
#[test]
fn a_group_without_a_budget_waits_for_one_and_its_wish_stays() {
    let mut world = group(1000.0, 1000.0);
    all_wanted(&mut world);
    world.policy.moves.max_in_flight = 0;
    let planned = decide(&world);
    assert_eq!(begun(&planned), 0, "{:?}", planned.report.actions);
    for name in GROUP {
        assert_eq!(planned.report.workloads[&id(name)].moves, MoveReason::BudgetUsedUp, "{name}");
    }
    let World { snapshot, policy, memory } = world;
    let outcomes = vec![Ok(()); planned.plan.actions.len()];
    let after = remember(memory.clone(), &snapshot, &planned, &outcomes, &policy, NOW);
    for name in GROUP {
        let since = |memory: &Memory| memory.workloads[&id(name)].wanted_since;
        assert_eq!(since(&after), since(&memory), "{name}");
    }
}

#[test]
fn the_rest_of_a_group_waits_for_a_budget() {
    let mut world = group(1000.0, 1000.0);
    all_wanted(&mut world);
    let planned = decide(&world);
    let moves = |name: &str| planned.report.workloads[&id(name)].moves.clone();
    let count = |reason| GROUP.iter().filter(|name| moves(name) == reason).count();
    assert_eq!((count(MoveReason::Started), count(MoveReason::BudgetUsedUp)), (2, 1));
}

#[test]
fn without_a_search_nothing_is_found() {
    let mut world = group(1000.0, 1000.0);
    all_wanted(&mut world);
    world.policy.moves.search_steps = 0;
    assert_eq!(begun(&decide(&world)), 0);
}

/// From cycle to cycle, with confirmation, surge and back-off: the group ends where its
/// load enters, and nothing moves any more.
#[test]
fn a_group_arrives_and_rests() {
    let world = group(1000.0, 1000.0);
    let load = |name: &&str| Load { name: (*name).to_owned(), requests: 1000.0, cpu: 20.0 };
    let mut toy = Toy::new(world, GROUP.iter().map(load).collect());
    let mut moves = 0;
    for _ in 0..120 {
        toy.measure(None);
        moves += toy.cycle();
    }
    assert_eq!(moves, 3);
    for name in GROUP {
        let workload = toy.world.snapshot.workloads.iter().find(|w| w.id == id(name)).unwrap();
        let nodes: Vec<_> = workload.pods.iter().filter_map(|pod| pod.node.as_ref()).collect();
        assert!(nodes.iter().all(|node| node.as_str().starts_with('a')), "{name}: {nodes:?}");
    }
}

/// A replica more where the load enters, against moving the one that serves the other zone:
/// which is better depends on what a replica costs.
#[test]
fn a_replica_more_is_named_where_it_beats_moves() {
    let mut world = World::new(&[4, 4]);
    world.policy.scaler.enabled = false;
    world.policy.fault_tolerance.survive = Percent::ZERO;
    world.workload("gate", &["a0", "b0"]).managed = false;
    world.workload("shop", &["b0"]);
    world.edge("gate", "shop", &[("a", "b", 400.0), ("b", "b", 400.0)]);
    world.pod_traffic("shop-0", 800.0, Some(5.0));
    world.usage_of_all("shop", 20, 10);
    let growth = |world: &World| decide(world).report.workloads[&id("shop")].growth.clone();
    let found = growth(&world).expect("a replica for zone a");
    assert_eq!((found.zone.as_str(), found.moves), ("a", 0.0));
    // What enters in zone a stays on its node, but for the reserve of the other zone: nearly
    // 0.95 ms of 400 requests/s.
    assert!(found.saving > 200.0 && found.price < found.saving, "{found:?}");
    world.policy.price.replica_hour = 4.0;
    assert_eq!(growth(&world), None);
}
