//! The ports that write.

use stornx_core::{
    ids::NodeName,
    memory::Memory,
    model::{PodPhase, RouteTable},
    plan::{AbortCause, Action, MoveEnd, MoveWay, RoutePurpose},
    ports::{Actuator, Clock, LeaderGate, StateStore},
};

use super::*;

const SERVICE: &str = "\
services:
  - name: s
    replicas: 3
    placement: {zones: {a: 3}}
    requests: {cpu: 1, memory: 64Mi}
    startup: 10s
    work: {meanMs: 5}
entries: [{service: s, rates: {a: 50}}]
duration: 10m
";

fn apply(world: &SimWorld, action: &Action) -> Result<(), PortError> {
    pollster::block_on(Actuator::apply(world, action))
}

fn refused(world: &SimWorld, action: &Action) {
    let before = cluster(world);
    let error = apply(world, action).unwrap_err();
    assert!(matches!(error, PortError::Conflict { .. }), "{error}");
    assert_eq!(cluster(world), before, "a refusal changes nothing");
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).unwrap()
}

#[test]
fn replicas_come_where_they_are_asked_for_and_go_by_name() {
    let world = world(SERVICE, 1);
    world.advance_to(at(10));
    let add = |observed| Action::AddReplicas {
        workload: reference("s"),
        observed,
        nodes: vec![node("b-2"), node("c-1")],
    };
    refused(&world, &add(2));
    apply(&world, &add(3)).unwrap();
    let placed: Vec<_> =
        workload(&world, "s").pods.iter().map(|pod| pod.node.clone().unwrap()).collect();
    assert_eq!(placed[3..], [node("b-2"), node("c-1")]);
    world.advance_to(at(19));
    assert_eq!(workload(&world, "s").ready().count(), 3);
    let notices = world.advance_to(at(21));
    assert_eq!(notices.len(), 2);
    assert_eq!(workload(&world, "s").ready().count(), 5);

    let victim = workload(&world, "s").pods[1].name.clone();
    let remove = |observed, victim: &stornx_core::ids::PodName| Action::RemoveReplicas {
        workload: reference("s"),
        observed,
        victims: vec![victim.clone()],
    };
    refused(&world, &remove(6, &victim));
    refused(&world, &remove(5, &"default/ghost".parse().unwrap()));
    apply(&world, &remove(5, &victim)).unwrap();
    world.advance_to(at(40));
    let left = workload(&world, "s");
    assert_eq!((left.desired, left.pods.len()), (4, 4));
    assert!(left.pods.iter().all(|pod| pod.name != victim));
    assert_eq!(world.measurements().scale_actions, 2);
    assert_eq!(world.measurements().requests.failed, 0);
}

#[test]
fn a_move_is_a_surge_and_then_the_victim_goes() {
    let world = world(SERVICE, 1);
    world.advance_to(at(10));
    let victim = workload(&world, "s").pods[0].clone();
    let start = Action::StartMove {
        workload: reference("s"),
        observed: 3,
        way: MoveWay::Surge,
        victim: victim.name.clone(),
        from: victim.node.clone().unwrap(),
        to: node("c-2"),
    };
    apply(&world, &start).unwrap();
    refused(&world, &start);
    let replacement = workload(&world, "s").pods[3].clone();
    assert_eq!(replacement.node, Some(node("c-2")));
    let finish = Action::FinishMove {
        workload: reference("s"),
        observed: 4,
        victim: victim.name.clone(),
        replacement: replacement.name.clone(),
    };
    refused(&world, &finish);
    world.advance_to(at(21));
    apply(&world, &finish).unwrap();
    let phases: Vec<_> = workload(&world, "s").pods.iter().map(|pod| pod.phase).collect();
    assert_eq!(phases[0], PodPhase::Terminating);
    world.advance_to(at(60));
    let moved = workload(&world, "s");
    assert_eq!((moved.desired, moved.ready().count(), moved.pods.len()), (3, 3, 3));
    assert_eq!(world.measurements().moves, 1);
    assert_eq!(world.measurements().requests.failed, 0);
    audit::audit(&world);
}

#[test]
fn a_move_can_be_given_up() {
    let world = world(SERVICE, 1);
    let victim = workload(&world, "s").pods[0].clone();
    let start = Action::StartMove {
        workload: reference("s"),
        observed: 3,
        way: MoveWay::Surge,
        victim: victim.name.clone(),
        from: victim.node.clone().unwrap(),
        to: node("c-2"),
    };
    apply(&world, &start).unwrap();
    let surge = workload(&world, "s").pods[3].name.clone();
    let abort = |observed, surge| Action::AbortMove {
        workload: reference("s"),
        observed,
        surge,
        cause: AbortCause::TimedOut,
    };
    refused(&world, &abort(3, Some(surge.clone())));
    apply(&world, &abort(4, Some(surge))).unwrap();
    refused(&world, &abort(9, None));
    let close = Action::CloseMove {
        workload: reference("s"),
        observed: 3,
        end: MoveEnd::GivenUp(AbortCause::TimedOut),
    };
    apply(&world, &close).unwrap();
    let after = workload(&world, "s");
    assert_eq!((after.desired, after.pods.len()), (3, 3));
    assert!(after.pods.iter().any(|pod| pod.name == victim.name));
}

#[test]
fn routes_are_written_over_what_the_plan_saw_and_counted() {
    let world = world(SERVICE, 1);
    let table = |a, b| RouteTable::from([(zone("a"), split(&[("a", a), ("b", b)]))]);
    let set = |host: HostName, first: bool, from: &RouteTable, to: &RouteTable| Action::SetRoutes {
        host,
        workload: reference("s"),
        from: from.clone(),
        to: to.clone(),
        first,
        purpose: RoutePurpose::Improve,
    };
    refused(&world, &set(host("s"), false, &table(50, 50), &table(60, 40)));
    apply(&world, &set(host("s"), true, &table(50, 50), &table(60, 40))).unwrap();
    refused(&world, &set(host("s"), false, &table(50, 50), &table(70, 30)));
    refused(&world, &set(host("s"), true, &table(60, 40), &table(70, 30)));
    refused(&world, &set(host("ghost"), true, &table(50, 50), &table(70, 30)));
    apply(&world, &set(host("s"), false, &table(60, 40), &table(70, 30))).unwrap();
    assert_eq!(world.rule(&host("s")), Some(Rule::Ours(table(70, 30))));
    assert_eq!(world.measurements().rule_writes, 2);
}

#[test]
fn only_the_leader_writes_and_memory_lasts() {
    let world = world(SERVICE, 1);
    let close = Action::CloseMove { workload: reference("s"), observed: 3, end: MoveEnd::Done };
    assert!(pollster::block_on(LeaderGate::may_write(&world)));
    world.set_leader(false);
    assert!(!pollster::block_on(LeaderGate::may_write(&world)));
    assert!(matches!(apply(&world, &close), Err(PortError::NotLeader { .. })));
    world.set_leader(true);
    apply(&world, &close).unwrap();

    assert_eq!(pollster::block_on(StateStore::load(&world)).unwrap(), Memory::default());
    let mut memory = Memory::default();
    memory.workloads.entry(reference("s")).or_default().scaled_at = Some(at(5));
    pollster::block_on(StateStore::save(&world, &memory)).unwrap();
    assert_eq!(pollster::block_on(StateStore::load(&world)).unwrap(), memory);
    world.advance_to(at(5));
    assert_eq!(Clock::now(&world), at(5));
    world.advance_to(at(3));
    assert_eq!(Clock::now(&world), at(5));
}
