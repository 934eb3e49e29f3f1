//! Slow replicas go elsewhere, and nothing else does because of them.

use crate::{
    decide::{
        plan,
        safety::testing::{NOW, World, id, pod_name},
    },
    memory::WorkloadMemory,
    plan::{Action, Planned},
    remember::remember,
    report::{MoveWhy, Why},
};

/// Four replicas in two zones; the given p95 of each.
fn world(p95: [f64; 4]) -> World {
    let mut world = World::new(&[3, 3]);
    world.policy.scaler.enabled = false;
    world.workload("w", &["a0", "a1", "b0", "b1"]);
    for (at, p95) in p95.into_iter().enumerate() {
        world.pod_traffic(&format!("w-{at}"), 20.0, Some(p95));
    }
    world.usage_of_all("w", 20, 50);
    world
}

fn seen(world: &mut World, pods: &[&str], cycles: u32) {
    let slow = pods.iter().map(|pod| (pod_name(pod), cycles)).collect();
    let remembered = WorkloadMemory { slow, ..WorkloadMemory::default() };
    world.memory.workloads.insert(id("w"), remembered);
}

fn decide(world: &World) -> Planned {
    plan(&world.snapshot, &world.policy, &world.memory, NOW)
}

fn moved(world: &World) -> Option<(String, String)> {
    let planned = decide(world);
    planned.plan.actions.iter().find_map(|action| match action {
        Action::StartMove { victim, to, .. } => {
            Some((victim.name().to_owned(), to.as_str().to_owned()))
        }
        _ => None,
    })
}

#[test]
fn a_slow_replica_is_replaced_on_another_node_of_its_zone() {
    let mut world = world([20.0, 400.0, 25.0, 30.0]);
    assert_eq!(moved(&world), None, "once may be an accident");
    seen(&mut world, &["w-1"], 1);
    assert_eq!(moved(&world), Some(("w-1".to_owned(), "a2".to_owned())));
    let why = decide(&world).report.actions[0].why.clone();
    let Why::Move(MoveWhy::Slow { p95, siblings_p95, .. }) = why else { panic!("{why:?}") };
    assert!((p95 - 400.0).abs() < 1e-9 && (siblings_p95 - 25.0).abs() < 1e-9);
}

#[test]
fn a_full_zone_sends_it_to_the_next() {
    let mut world = world([20.0, 400.0, 25.0, 30.0]);
    seen(&mut world, &["w-1"], 1);
    world.usage_of_all("w", 60, 50);
    for node in ["a0", "a2"] {
        world.node(node).schedulable = false;
    }
    // Three in one zone would leave one survivor where two were.
    assert_eq!(moved(&world), None);
    world.policy.fault_tolerance.survive = crate::units::Percent::ZERO;
    assert_eq!(moved(&world), Some(("w-1".to_owned(), "b2".to_owned())));
}

#[test]
fn a_node_with_two_slow_replicas_takes_no_third() {
    let mut world = world([300.0, 400.0, 25.0, 30.0]);
    world.of("w").pods[0].node = Some("a1".parse().unwrap());
    seen(&mut world, &["w-0", "w-1"], 1);
    let (victim, to) = moved(&world).unwrap();
    assert_eq!(victim, "w-1");
    assert!(to == "a0" || to == "a2");
}

#[test]
fn what_is_not_slow_stays() {
    // A service that is slow as a whole.
    let mut all = world([400.0, 410.0, 420.0, 430.0]);
    seen(&mut all, &["w-3"], 5);
    assert_eq!(moved(&all), None);
    // Slower than its siblings, but fast enough.
    let mut quick = world([5.0, 90.0, 5.0, 5.0]);
    seen(&mut quick, &["w-1"], 5);
    assert_eq!(moved(&quick), None);
    // Too few requests to tell.
    let mut idle = world([20.0, 400.0, 25.0, 30.0]);
    seen(&mut idle, &["w-1"], 5);
    idle.traffic().pods[1].requests = crate::units::Rps::saturating(1.0);
    assert_eq!(moved(&idle), None);
}

#[test]
fn slow_cycles_are_counted_in_a_row() {
    let mut world = world([20.0, 400.0, 25.0, 30.0]);
    let turn = |world: &mut World, p95: f64| {
        world.traffic().pods[1].p95 = Some(crate::units::Millis::saturating(p95));
        let planned = decide(world);
        let none_done = planned
            .plan
            .actions
            .iter()
            .map(|_| Err(crate::ports::PortError::NotLeader { what: "a test".to_owned() }))
            .collect();
        let memory = std::mem::take(&mut world.memory);
        world.memory = remember(memory, &world.snapshot, &planned, &none_done, &world.policy, NOW);
        let slow = world.memory.workloads.get(&id("w")).map(|w| w.slow.clone());
        slow.and_then(|slow| slow.get(&pod_name("w-1")).copied())
    };
    assert_eq!(turn(&mut world, 400.0), Some(1));
    assert_eq!(turn(&mut world, 400.0), Some(2));
    assert_eq!(turn(&mut world, 400.0), Some(2), "it is not counted beyond what decides");
    assert_eq!(turn(&mut world, 30.0), None);
    assert_eq!(turn(&mut world, 400.0), Some(1));
}

#[test]
fn a_replica_that_is_new_is_not_called_slow() {
    let mut world = world([20.0, 400.0, 25.0, 30.0]);
    seen(&mut world, &["w-1"], 5);
    // What its p95 counts is partly from its first seconds.
    world.of("w").pods[1].ready_since =
        Some(crate::units::Timestamp::from_millis(NOW.as_millis() - 119_000));
    assert_eq!(moved(&world), None);
    world.of("w").pods[1].ready_since =
        Some(crate::units::Timestamp::from_millis(NOW.as_millis() - 121_000));
    assert_eq!(moved(&world).map(|(victim, _)| victim), Some("w-1".to_owned()));
}
