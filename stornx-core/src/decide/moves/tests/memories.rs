//! What is remembered of moves from cycle to cycle.

use crate::{
    decide::{
        moves::remember_workloads,
        safety::testing::{NOW, World, id, pod_name},
    },
    memory::{Backoff, FinishedMove, Memory, MoveInFlight, WorkloadMemory},
    model::{Rollout, RouteTraffic, Steered, Steering},
    plan::{AbortCause, Action, MoveEnd, MoveEnding, MoveWay, Plan, Planned},
    ports::PortError,
    report::{ActionReport, Expected, MoveReason, MoveWhy, Report, Why},
    units::{BytesPerSecond, Millis, Rps, Share, Span, Timestamp},
    view::View,
};

fn world() -> World {
    let mut world = World::new(&[2, 2, 2]);
    world.workload("gate", &["a0"]).managed = false;
    world.workload("w", &["a0", "b0"]);
    world.workload("other", &["a1", "b1"]);
    world.edge("gate", "w", &[("a", "a", 50.0), ("a", "b", 50.0)]);
    world.edge("gate", "other", &[("a", "a", 100.0)]);
    world
}

fn after(seconds: u64) -> Timestamp {
    NOW.after(Span::from_seconds(seconds))
}

fn start() -> Action {
    Action::StartMove {
        workload: id("w"),
        observed: 2,
        way: MoveWay::Surge,
        victim: pod_name("w-1"),
        from: "b0".parse().unwrap(),
        to: "c0".parse().unwrap(),
    }
}

fn finish() -> Action {
    Action::FinishMove {
        workload: id("w"),
        observed: 3,
        victim: pod_name("w-1"),
        replacement: pod_name("w-2"),
    }
}

fn abort(cause: AbortCause) -> Action {
    Action::AbortMove { workload: id("w"), observed: 3, surge: Some(pod_name("w-2")), cause }
}

fn close(end: MoveEnd) -> Action {
    Action::CloseMove { workload: id("w"), observed: 2, end }
}

fn remember(world: &mut World, action: Option<Action>, done: bool, now: Timestamp) {
    let report = ActionReport {
        expected: Expected { request_ms_per_second: 42.0, usd_per_month: 0.0 },
        why: Why::Move(MoveWhy::GivenUp { cause: AbortCause::TimedOut }),
    };
    let planned = Planned {
        plan: Plan { at: now, actions: action.iter().cloned().collect(), ..Plan::default() },
        report: Report {
            actions: action.iter().map(|_| report.clone()).collect(),
            ..Report::default()
        },
    };
    let refused = PortError::Unavailable { what: String::new(), detail: String::new() };
    let outcomes =
        action.iter().map(|_| if done { Ok(()) } else { Err(refused.clone()) }).collect();
    let view = View::new(&world.snapshot, &world.policy, now);
    remember_workloads(&mut world.memory, &view, &planned, &outcomes);
}

fn of(world: &World) -> WorkloadMemory {
    world.memory.workloads.get(&id("w")).cloned().unwrap_or_default()
}

fn in_flight(world: &mut World) {
    let record = MoveInFlight {
        started_at: NOW,
        way: MoveWay::Surge,
        victim: pod_name("w-1"),
        from: "b0".parse().unwrap(),
        to: "c0".parse().unwrap(),
        replicas_before: 2,
        known_pods: vec![pod_name("w-0"), pod_name("w-1")],
        predicted_saving: 42.0,
        ending: None,
    };
    let remembered = world.memory.workloads.entry(id("w")).or_default();
    remembered.in_flight = Some(record);
}

#[test]
fn a_move_that_began_has_a_record() {
    let mut world = world();
    remember(&mut world, Some(start()), true, NOW);
    let mut begun = of(&world);
    let intent = begun.intents.pop().unwrap();
    assert_eq!((intent.node.as_str(), intent.since), ("c0", NOW));
    world.memory = Memory::default();
    in_flight(&mut world);
    assert_eq!(begun, of(&world));
}

#[test]
fn a_move_that_failed_to_begin_leaves_nothing() {
    let mut world = world();
    remember(&mut world, Some(start()), false, NOW);
    assert_eq!(world.memory.workloads.len(), 0);
}

#[test]
fn an_end_that_failed_leaves_the_record() {
    for action in [finish(), abort(AbortCause::TimedOut)] {
        let mut world = world();
        in_flight(&mut world);
        let before = world.memory.clone();
        remember(&mut world, Some(action), false, after(60));
        assert_eq!(world.memory, before);
    }
}

#[test]
fn a_finished_move_is_left_alone_and_watched() {
    let mut world = world();
    in_flight(&mut world);
    remember(&mut world, Some(finish()), true, after(60));
    let ending = MoveEnding::Finish { replacement: pod_name("w-2") };
    assert_eq!(of(&world).in_flight.unwrap().ending, Some(ending));
    remember(&mut world, Some(close(MoveEnd::Done)), true, after(65));
    let remembered = of(&world);
    assert_eq!(remembered.in_flight, None);
    assert_eq!(remembered.moved_at, Some(after(60)));
    assert_eq!(remembered.move_backoff, Some(Backoff { until: after(660), failures: 0 }));
    assert_eq!(remembered.expectation.unwrap().demand_before, Rps::saturating(100.0));
    let last = FinishedMove {
        replacement: pod_name("w-2"),
        came_from: "b0".parse().unwrap(),
        regressed: false,
    };
    assert_eq!(remembered.last_move, Some(last));
}

#[test]
fn how_a_move_is_given_up_is_recorded_before_it_is_over() {
    let mut world = world();
    in_flight(&mut world);
    remember(&mut world, Some(abort(AbortCause::Misplaced)), true, after(60));
    let remembered = of(&world);
    let ending = MoveEnding::Undo { cause: AbortCause::Misplaced };
    assert_eq!(remembered.in_flight.unwrap().ending, Some(ending));
    assert_eq!(remembered.move_backoff, None, "it is not over yet");
}

#[test]
fn intents_stand_until_they_are_used_or_run_out() {
    let begun = || {
        let mut world = world();
        remember(&mut world, Some(start()), true, NOW);
        assert_eq!(of(&world).intents.len(), 1);
        world
    };
    let mut used = begun();
    let steered = Steered { node: "c0".parse().unwrap(), since: NOW };
    let w = used.snapshot.workloads.iter_mut().find(|w| w.id == id("w")).unwrap();
    w.pods[0].traces.steered = Some(steered);
    remember(&mut used, None, true, after(10));
    assert_eq!(of(&used).intents, []);

    let mut late = begun();
    remember(&mut late, None, true, after(59));
    assert_eq!(of(&late).intents.len(), 1);
    remember(&mut late, None, true, after(60));
    assert_eq!(of(&late).intents, []);
}

#[test]
fn without_steering_nothing_is_intended() {
    let mut world = world();
    world.snapshot.steering = Steering::Missing { reason: "switched off".to_owned() };
    let add =
        Action::AddReplicas { workload: id("w"), observed: 2, nodes: vec!["c0".parse().unwrap()] };
    remember(&mut world, Some(add), true, NOW);
    assert_eq!(of(&world).intents, []);
    assert_eq!(of(&world).scaled_at, Some(NOW));
}

#[test]
fn only_our_own_failures_count_as_such() {
    use AbortCause::{
        AnotherWent, AutoscalerAppeared, CountChanged, Misplaced, NeverBegan, NotAllowedAnyMore,
        NotCounted, RolloutBegan, TimedOut, Unsafe, VictimGone,
    };
    let cases = [
        (TimedOut, 1, 1200),
        (Unsafe, 1, 1200),
        (Misplaced, 1, 1200),
        (AnotherWent, 1, 1200),
        (NotCounted, 1, 1200),
        (VictimGone, 0, 600),
        (RolloutBegan, 0, 600),
        (CountChanged, 0, 600),
        (AutoscalerAppeared, 0, 600),
        (NotAllowedAnyMore, 0, 600),
        (NeverBegan, 0, 600),
    ];
    for (cause, failures, wait) in cases {
        let mut world = world();
        in_flight(&mut world);
        remember(&mut world, Some(close(MoveEnd::GivenUp(cause))), true, NOW);
        let remembered = of(&world);
        assert_eq!(remembered.in_flight, None, "{cause:?}");
        let expected = Backoff { until: after(wait), failures };
        assert_eq!(remembered.move_backoff, Some(expected), "{cause:?}");
        assert_eq!(remembered.moved_at.is_some(), cause == VictimGone, "{cause:?}");
    }
}

#[test]
fn each_failure_doubles_the_wait() {
    let mut world = world();
    let mut now = NOW;
    for failures in 1..=12_u32 {
        in_flight(&mut world);
        let end = MoveEnd::GivenUp(AbortCause::TimedOut);
        remember(&mut world, Some(close(end)), true, now);
        let backoff = of(&world).move_backoff.unwrap();
        assert_eq!(backoff.failures, failures);
        let wait = 600 * (1 << failures.min(10));
        assert_eq!(backoff.until.since(now), Span::from_seconds(wait));
        now = backoff.until.after(Span::from_seconds(1));
        remember(&mut world, None, true, now);
    }
}

#[test]
fn each_replica_that_is_asked_for_has_an_intent_of_its_own() {
    let nodes = vec!["c0".parse().unwrap(), "c0".parse().unwrap()];
    let action = Action::AddReplicas { workload: id("w"), observed: 2, nodes };
    let mut steered = world();
    steered.snapshot.steering = Steering::Given;
    remember(&mut steered, Some(action.clone()), true, NOW);
    let [first, second] = &of(&steered).intents[..] else { panic!("{:?}", of(&steered)) };
    assert_eq!((&first.node, first.until), (&second.node, second.until));
    assert_ne!(first.since, second.since);

    // One replica comes with the first; however often it is seen, the second stands.
    let told = Steered { node: first.node.clone(), since: first.since };
    steered.of("w").pods[0].traces.steered = Some(told);
    for _ in 0..2 {
        remember(&mut steered, None, true, NOW);
        assert_eq!(of(&steered).intents, std::slice::from_ref(second));
    }
    remember(&mut steered, None, true, second.until);
    assert_eq!(of(&steered).intents, []);

    let mut bound = world();
    bound.snapshot.steering = Steering::Given;
    bound.of("w").constraints.pinned = true;
    remember(&mut bound, Some(action), true, NOW);
    assert_eq!(of(&bound).intents, [], "it starts where its volume is");
}

#[test]
fn scale_actions_start_the_cooldown_when_they_succeed() {
    for done in [true, false] {
        let mut world = world();
        let action = Action::AddReplicas {
            workload: id("w"),
            observed: 2,
            nodes: vec!["c0".parse().unwrap()],
        };
        remember(&mut world, Some(action), done, NOW);
        assert_eq!(of(&world).scaled_at, done.then_some(NOW));
    }
}

/// Gives the edges a p95 and an error share.
fn observed(world: &mut World, touched: (f64, f64), others: f64) {
    for edge in &mut world.traffic().edges {
        let (p95, errors) = if edge.callee == id("w") { touched } else { (others, 0.0) };
        for route in &mut edge.routes {
            *route = RouteTraffic {
                p95: Some(Millis::saturating(p95)),
                errors: Share::saturating(errors),
                request_bytes: BytesPerSecond::ZERO,
                ..route.clone()
            };
        }
    }
}

/// What is remembered after a finished move, when the edges look like this later.
fn judged(touched: (f64, f64), others: f64) -> WorkloadMemory {
    let mut world = world();
    observed(&mut world, (40.0, 0.0), 40.0);
    in_flight(&mut world);
    let remembered = world.memory.workloads.entry(id("w")).or_default();
    remembered.move_backoff = Some(Backoff { until: NOW, failures: 1 });
    remember(&mut world, Some(finish()), true, NOW);
    remember(&mut world, None, true, after(60));
    assert!(of(&world).expectation.is_some(), "too early to judge");
    observed(&mut world, touched, others);
    remember(&mut world, None, true, after(300));
    assert!(of(&world).expectation.is_none());
    of(&world)
}

#[test]
fn a_good_move_is_forgiven_what_was_before() {
    let remembered = judged((38.0, 0.0), 40.0);
    assert_eq!(remembered.move_backoff.unwrap().failures, 0);
    assert_eq!(remembered.last_move, None);
}

#[test]
fn a_disappointing_move_waits_longer() {
    for touched in [(50.0, 0.0), (40.0, 0.02)] {
        let remembered = judged(touched, 40.0);
        let expected = Backoff { until: after(300 + 2400), failures: 2 };
        assert_eq!(remembered.move_backoff, Some(expected));
        assert_eq!(remembered.last_move, None);
    }
}

#[test]
fn a_clear_regression_is_to_be_taken_back() {
    for touched in [(90.0, 0.0), (40.0, 0.1)] {
        let remembered = judged(touched, 40.0);
        assert!(remembered.last_move.unwrap().regressed);
        assert_eq!(remembered.move_backoff, Some(Backoff { until: after(300), failures: 2 }));
    }
}

#[test]
fn what_all_edges_suffer_is_not_the_work_of_the_move() {
    let remembered = judged((90.0, 0.0), 90.0);
    assert_eq!(remembered.move_backoff.unwrap().failures, 0);
}

#[test]
fn while_a_neighbour_is_rolled_out_nothing_is_put_down_to_the_move() {
    let mut world = world();
    observed(&mut world, (40.0, 0.0), 40.0);
    in_flight(&mut world);
    remember(&mut world, Some(finish()), true, NOW);
    observed(&mut world, (90.0, 0.0), 40.0);
    world.of("gate").rollout = Rollout::InProgress;
    remember(&mut world, None, true, after(300));
    assert!(of(&world).expectation.is_some(), "judged although its caller is rolled out");
    // Its replicas have just become Ready: what is counted is still from before.
    world.of("gate").rollout = Rollout::Settled;
    world.of("gate").pods[0].ready_since = Some(after(290));
    remember(&mut world, None, true, after(360));
    assert!(of(&world).expectation.is_some(), "judged by what was counted in the rollout");
    remember(&mut world, None, true, after(420));
    assert!(of(&world).last_move.unwrap().regressed);
    // A workload that it does not talk to does not matter.
    let mut world = self::world();
    observed(&mut world, (40.0, 0.0), 40.0);
    in_flight(&mut world);
    remember(&mut world, Some(finish()), true, NOW);
    world.of("other").rollout = Rollout::InProgress;
    remember(&mut world, None, true, after(300));
    assert!(of(&world).expectation.is_none());
}

#[test]
fn a_regression_is_taken_back_once_or_not_at_all() {
    let mut world = world();
    let last = FinishedMove {
        replacement: pod_name("w-1"),
        came_from: "c0".parse().unwrap(),
        regressed: true,
    };
    let remembered = WorkloadMemory {
        moved_at: Some(NOW),
        move_backoff: Some(Backoff { until: NOW, failures: 1 }),
        last_move: Some(last),
        ..WorkloadMemory::default()
    };
    world.memory.workloads.insert(id("w"), remembered);
    // Taken back: the end of that is not watched again.
    let mut undone = world.clone();
    in_flight(&mut undone);
    remember(&mut undone, Some(finish()), true, after(60));
    let remembered = of(&undone);
    assert_eq!((remembered.last_move, remembered.expectation), (None, None));
    assert_eq!(remembered.move_backoff, Some(Backoff { until: after(60 + 1200), failures: 1 }));
    // Not possible for half an hour: given up.
    remember(&mut world, None, true, after(1799));
    assert!(of(&world).last_move.is_some());
    remember(&mut world, None, true, after(1800));
    assert_eq!(of(&world).last_move, None);
    assert_eq!(of(&world).move_backoff, Some(Backoff { until: after(3000), failures: 1 }));
}

#[test]
fn a_wish_lasts_as_long_as_the_reports_say_so() {
    let mut world = world();
    let report = |reason: MoveReason| {
        let (world, planned) = {
            let world = self::world();
            let planned = crate::decide::plan(&world.snapshot, &world.policy, &world.memory, NOW);
            (world, planned)
        };
        drop(world);
        let mut planned = planned;
        planned.plan.actions.clear();
        planned.report.workloads.get_mut(&id("w")).unwrap().moves = reason;
        planned
    };
    let mut say = |reason: MoveReason, now| {
        let planned = report(reason);
        let view = View::new(&world.snapshot, &world.policy, now);
        remember_workloads(&mut world.memory, &view, &planned, &Vec::new());
        of(&world).wanted_since
    };
    assert_eq!(say(MoveReason::Confirming { since: Span::ZERO }, after(0)), Some(after(0)));
    assert_eq!(say(MoveReason::Confirming { since: Span::ZERO }, after(60)), Some(after(0)));
    assert_eq!(say(MoveReason::BudgetUsedUp, after(120)), Some(after(0)));
    assert_eq!(say(MoveReason::WellPlaced { best: None }, after(180)), None);
    assert_eq!(say(MoveReason::BudgetUsedUp, after(240)), Some(after(240)));
}

#[test]
fn what_is_gone_is_forgotten() {
    let mut world = world();
    let moved = WorkloadMemory { moved_at: Some(NOW), ..WorkloadMemory::default() };
    for name in ["w", "gone", "gate"] {
        world.memory.workloads.insert(id(name), moved.clone());
    }
    remember(&mut world, None, true, NOW);
    assert_eq!(world.memory.workloads.keys().collect::<Vec<_>>(), [&id("w")]);
}
