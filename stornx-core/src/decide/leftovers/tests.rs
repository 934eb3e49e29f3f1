//! What is taken off pods, and when not yet.

use crate::{
    decide::{
        plan,
        safety::testing::{NOW, World, id, pod_name},
    },
    model::{Autoscaler, AutoscalerKind, HeldMinimum, PodPhase, Rollout, Steered, Traces},
    plan::{Action, ActionKind},
    units::{Span, Timestamp},
};

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - seconds * 1000)
}

/// Two replicas of `w`, the second marked.
fn marked() -> World {
    let mut world = World::new(&[1, 1]);
    let victim = Traces { victim: true, ..Traces::default() };
    world.workload("w", &["a0", "b0"]).pods[1].traces = victim;
    world
}

/// Two replicas of `w`, the second waiting for its node since `waited`.
fn waiting(waited: u64) -> World {
    let mut world = World::new(&[1, 1]);
    let node = "b0".parse().unwrap();
    let told = Traces { steered: Some(Steered { node, since: ago(waited) }), victim: false };
    let pod = &mut world.workload("w", &["a0", "b0"]).pods[1];
    pod.traces = told;
    (pod.node, pod.phase, pod.created_at) = (None, PodPhase::Pending, ago(waited));
    world
}

fn tidied(world: &World) -> Option<Action> {
    let planned = plan(&world.snapshot, &world.policy, &world.memory, NOW);
    planned.plan.actions.into_iter().find(|action| {
        let kind = action.kind();
        matches!(kind, ActionKind::GiveBackMinimum | ActionKind::Unmark | ActionKind::Release)
    })
}

#[test]
fn a_mark_that_nobody_waits_for_comes_off() {
    let expected = Action::Unmark { workload: id("w"), observed: 2, pods: vec![pod_name("w-1")] };
    assert_eq!(tidied(&marked()), Some(expected));

    let mut going = marked();
    going.of("w").desired = 1;
    assert_eq!(tidied(&going), None, "the mark says which one goes");
}

#[test]
fn a_mark_stays_while_a_request_without_an_answer_may_still_arrive() {
    for (seconds, stays) in [(0, true), (90, true), (91, false)] {
        let mut world = marked();
        world.memory.workloads.entry(id("w")).or_default().scaled_at = Some(ago(seconds));
        assert_eq!(tidied(&world).is_none(), stays, "{seconds} s");
    }
}

#[test]
fn a_minimum_that_nobody_knows_the_move_of_is_given_back() {
    let mut world = World::new(&[1, 1]);
    let held = Some(HeldMinimum { before: 1, raised: 3 });
    let kind = AutoscalerKind::Hpa;
    world.workload("w", &["a0", "b0"]).autoscaler = Some(Autoscaler { kind, min: 3, max: 9, held });
    let expected =
        Action::GiveBackMinimum { workload: id("w"), observed: 2, goes: None, ending: None };
    assert_eq!(tidied(&world), Some(expected));
    world.of("w").autoscaler.as_mut().unwrap().held = None;
    assert_eq!(tidied(&world), None);
}

#[test]
fn who_waits_in_vain_is_released_after_half_of_the_time_out() {
    let mut policy = World::new(&[1]).policy;
    policy.moves.timeout = Span::from_seconds(300);
    for (seconds, goes) in [(149, false), (150, true)] {
        let world = World { policy: policy.clone(), ..waiting(seconds) };
        let expected = Action::Release { workload: id("w"), pods: vec![pod_name("w-1")] };
        assert_eq!(tidied(&world), goes.then_some(expected), "{seconds} s");
    }
    let mut bound = waiting(400);
    bound.of("w").pods[1].node = Some("b0".parse().unwrap());
    assert_eq!(tidied(&bound), None, "it has its node");
    let mut other = waiting(400);
    other.of("w").pods[1].traces = Traces::default();
    assert_eq!(tidied(&other), None, "it was not told anything by us");
}

#[test]
fn what_is_ours_is_tidied_up_whoever_owns_the_rest() {
    let mut world = marked();
    world.of("w").policy.opted_out = true;
    assert!(tidied(&world).is_some(), "an owner who opts out wants nothing of ours");
    let mut world = marked();
    world.of("w").rollout = Rollout::InProgress;
    assert!(tidied(&world).is_some(), "a mark would choose during the rollout");
    let mut world = marked();
    world.of("w").managed = false;
    assert_eq!(tidied(&world), None, "nothing is written there");
}
