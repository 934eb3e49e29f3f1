//! Triggers, counts and guards with known answers.

mod growth;
mod random;

use super::{Scaled, decide};
use crate::{
    decide::{
        ledger::Ledger,
        plan,
        safety::{
            Safety,
            testing::{NOW, World, id, index, pod, pod_name, resources},
        },
    },
    memory::{Memory, MoveInFlight},
    model::{Autoscaler, AutoscalerKind, DisruptionBudget, Facts, PodPhase, Rollout},
    plan::{Action, MoveWay},
    policy::MetricsType,
    report::{ScaleReason, Trigger, Why},
    units::{Millis, Percent, Span, Timestamp},
    view::Remembered,
};

fn scaled(world: &World) -> Scaled {
    let view = world.view();
    let memory = Remembered::of(&view, &world.memory);
    let safety = Safety::assess(&view, &memory);
    let mut ledger = Ledger::new(&view, &memory);
    decide(&view, &safety, &memory, &mut ledger)
}

fn reason(world: &World, name: &str) -> ScaleReason {
    let scaled = scaled(world);
    scaled.reasons[index(&world.view(), name).at()].clone()
}

/// By how much the count of a workload changes, and what asked for it.
fn change(world: &World, name: &str) -> Option<(i64, Trigger)> {
    let proposals = scaled(world).proposals;
    let proposal = proposals.into_iter().find(|p| p.action.workload() == Some(&id(name)))?;
    let Why::Scale(why) = proposal.report.why else { panic!("not a scale action") };
    let by = match &proposal.action {
        Action::AddReplicas { nodes, observed, .. } => {
            assert_eq!((why.from, why.placements.len()), (*observed, nodes.len()));
            i64::try_from(nodes.len()).unwrap()
        }
        Action::RemoveReplicas { victims, observed, .. } => {
            assert_eq!((why.from, &why.victims), (*observed, victims));
            -i64::try_from(victims.len()).unwrap()
        }
        other => panic!("not a scale action: {other}"),
    };
    assert_eq!(i64::from(why.to) - i64::from(why.from), by);
    Some((by, why.trigger))
}

/// Four replicas in three zones, each used to so many per cent of CPU.
fn four(used: u64) -> World {
    let mut world = World::new(&[2, 2, 2]);
    world.policy.scaler.metrics = MetricsType::Cpu;
    world.workload("w", &["a0", "a1", "b0", "c0"]);
    world.usage_of_all("w", used, 0);
    world
}

/// Slow for a long time.
fn slow(world: &mut World) {
    world.pod_traffic("w-0", 10.0, Some(150.0));
    world.memory.workloads.entry(id("w")).or_default().slow_since = Some(Timestamp::from_millis(0));
}

#[test]
fn counts_return_to_the_middle_of_the_band() {
    assert_eq!(reason(&four(45), "w"), ScaleReason::WithinBand);
    assert_eq!(reason(&four(70), "w"), ScaleReason::WithinBand);
    assert_eq!(reason(&four(20), "w"), ScaleReason::WithinBand);
    // 4 x 71 / 45 = 6.3
    assert_eq!(change(&four(71), "w"), Some((3, Trigger::Utilisation)));
    assert_eq!(reason(&four(71), "w"), ScaleReason::Scaled);
    assert_eq!(change(&four(100), "w"), Some((3, Trigger::Utilisation)));
    let mut world = four(100);
    world.policy.scaler.max_step = 9;
    assert_eq!(change(&world, "w"), Some((5, Trigger::Utilisation)));
    world.policy.scaler.max_step = 1;
    assert_eq!(change(&world, "w"), Some((1, Trigger::Utilisation)));
}

/// Nine replicas, three in each zone.
fn nine(used: u64) -> World {
    let mut world = World::new(&[3, 3, 3]);
    world.policy.scaler.metrics = MetricsType::Cpu;
    world.workload("w", &["a0", "a1", "a2", "b0", "b1", "b2", "c0", "c1", "c2"]);
    world.usage_of_all("w", used, 0);
    world
}

#[test]
fn idle_replicas_go_while_enough_remain() {
    assert_eq!(change(&nine(19), "w"), Some((-3, Trigger::Idle)));
    let mut world = nine(19);
    world.policy.scaler.max_step = 9;
    // 9 x 19 x 1.1 / 45 = 4.2
    assert_eq!(change(&world, "w"), Some((-4, Trigger::Idle)));
    // Exactly four with the margin: 9 x 18 x 1.1 / 45 = 3.96
    world.usage_of_all("w", 18, 0);
    assert_eq!(change(&world, "w"), Some((-5, Trigger::Idle)));
    // One in each zone stays by spread.
    world.usage_of_all("w", 1, 0);
    assert_eq!(change(&world, "w"), Some((-6, Trigger::Idle)));
    world.of("w").policy.min_replicas = Some(8);
    assert_eq!(change(&world, "w"), Some((-1, Trigger::Idle)));
    world.of("w").policy.min_replicas = Some(9);
    assert_eq!(reason(&world, "w"), ScaleReason::AtMinimum { min: 9 });
}

#[test]
fn those_that_remain_must_not_be_too_busy() {
    let mut world = four(49);
    world.policy.scaler.lower = Percent::saturating(50.0);
    world.policy.scaler.upper = Percent::saturating(60.0);
    // 4 x 49 / 55 = 3.6: three would be used to 65 %.
    let predicted = Percent::saturating(49.0 * 4.0 / 3.0);
    assert_eq!(reason(&world, "w"), ScaleReason::RemainingTooBusy { predicted });
    // Measured by memory, which is idle, CPU still counts.
    let mut world = four(60);
    world.policy.scaler.metrics = MetricsType::Memory;
    let predicted = Percent::saturating(80.0);
    assert_eq!(reason(&world, "w"), ScaleReason::RemainingTooBusy { predicted });
    world.of("w").requests = resources(0, 100);
    // CPU is not known against anything: then not even the loss of a zone is.
    assert_eq!(change(&world, "w"), Some((-1, Trigger::Idle)));
}

#[test]
fn slow_replicas_get_help_only_where_it_helps() {
    let mut world = four(50);
    slow(&mut world);
    assert_eq!(change(&world, "w"), Some((1, Trigger::ResponseTime)));
    world.usage_of_all("w", 45, 0);
    let (p95, utilisation) = (Millis::saturating(150.0), Percent::saturating(45.0));
    assert_eq!(reason(&world, "w"), ScaleReason::SlowButIdle { p95, utilisation });
    world.of("w").policy.response_time = Some(Millis::saturating(150.0));
    assert_eq!(reason(&world, "w"), ScaleReason::WithinBand);
    // Measured by memory, but its CPU is what is busy.
    let mut world = four(60);
    slow(&mut world);
    world.policy.scaler.metrics = MetricsType::Memory;
    world.usage_of_all("w", 60, 30);
    assert_eq!(change(&world, "w"), Some((2, Trigger::ResponseTime)));
    // Idle is idle, however slow.
    let mut world = nine(1);
    slow(&mut world);
    assert_eq!(change(&world, "w"), Some((-3, Trigger::Idle)));
}

#[test]
fn slowness_that_has_just_begun_adds_nothing() {
    let mut world = four(50);
    slow(&mut world);
    let mut since = |since| {
        world.memory.workloads.entry(id("w")).or_default().slow_since = since;
        reason(&world, "w")
    };
    let p95 = Millis::saturating(150.0);
    let lately = |since| ScaleReason::SlowLately { p95, since: Span::from_seconds(since) };
    let ago = |seconds: u64| Some(Timestamp::from_millis(NOW.as_millis() - 1000 * seconds));
    assert_eq!(since(None), lately(0));
    assert_eq!(since(ago(119)), lately(119));
    assert_eq!(since(ago(120)), ScaleReason::Scaled);
}

#[test]
fn slowness_is_remembered_until_it_ends() {
    let mut world = four(50);
    slow(&mut world);
    world.memory = Memory::default();
    let turn = |world: &mut World| {
        let planned = plan(&world.snapshot, &world.policy, &world.memory, NOW);
        let done = planned.plan.actions.iter().map(|_| Ok(())).collect();
        super::remember_counts(&mut world.memory, &planned, &done);
        world.memory.workloads.get(&id("w")).and_then(|remembered| remembered.slow_since)
    };
    assert_eq!(turn(&mut world), Some(NOW));
    assert_eq!(turn(&mut world), Some(NOW));
    world.traffic().pods[0].p95 = Some(Millis::saturating(20.0));
    assert_eq!(turn(&mut world), None);
}

#[test]
fn who_waits_for_slow_calls_is_not_slow_itself() {
    let mut world = four(50);
    world.workload("back", &["a0"]);
    slow(&mut world);
    // Two calls of 30 ms for each of its ten requests a second leave 90 ms of 150.
    world.edge("w", "back", &[("a", "a", 20.0)]);
    world.traffic().edges[0].routes[0].p95 = Some(Millis::saturating(30.0));
    let (p95, own) = (Millis::saturating(150.0), Millis::saturating(90.0));
    assert_eq!(reason(&world, "w"), ScaleReason::SlowDownstream { p95, own });
    world.traffic().edges[0].routes[0].p95 = Some(Millis::saturating(20.0));
    assert_eq!(reason(&world, "w"), ScaleReason::Scaled);
}

#[test]
fn counts_stay_within_their_limits() {
    let mut world = four(100);
    world.of("w").policy.max_replicas = Some(5);
    assert_eq!(change(&world, "w"), Some((1, Trigger::Utilisation)));
    world.of("w").policy.max_replicas = Some(4);
    assert_eq!(reason(&world, "w"), ScaleReason::AtMaximum { max: 4 });
    world.of("w").policy.max_replicas = Some(3);
    assert_eq!(reason(&world, "w"), ScaleReason::AtMaximum { max: 3 });
    let mut world = four(1);
    world.of("w").desired = 1;
    world.of("w").pods.truncate(1);
    assert_eq!(reason(&world, "w"), ScaleReason::AtMinimum { min: 1 });
    world.of("w").policy.min_replicas = Some(0);
    assert_eq!(reason(&world, "w"), ScaleReason::AtMinimum { min: 1 });
}

#[test]
fn below_its_minimum_a_workload_grows_whatever_is_measured() {
    let mut world = four(1);
    world.snapshot.usage = Facts::Missing { reason: "no metrics".to_owned() };
    assert_eq!(reason(&world, "w"), ScaleReason::NoUsage);
    world.of("w").policy.min_replicas = Some(6);
    assert_eq!(change(&world, "w"), Some((2, Trigger::BelowMinimum)));
    world.policy.scaler.max_step = 1;
    assert_eq!(change(&world, "w"), Some((1, Trigger::BelowMinimum)));
    world.of("w").policy.max_replicas = Some(4);
    assert_eq!(reason(&world, "w"), ScaleReason::NoUsage);
}

#[test]
fn what_might_not_come_back_does_not_go_unless_its_owner_says_so() {
    let mut world = nine(1);
    world.of("w").constraints.pinned = true;
    assert_eq!(reason(&world, "w"), ScaleReason::BoundToPlace);
    world.of("w").policy.min_replicas = Some(8);
    assert_eq!(change(&world, "w"), Some((-1, Trigger::Idle)));
}

#[test]
fn what_is_stopped_stays_stopped() {
    let mut world = four(1);
    world.of("w").desired = 0;
    world.of("w").pods.clear();
    assert_eq!(reason(&world, "w"), ScaleReason::ScaledToZero);
}

#[test]
fn replicas_on_their_way_are_waited_for() {
    let mut world = four(71);
    world.of("w").desired = 7;
    for at in 4..7 {
        world.of("w").pods.push(pod(&format!("w-{at}"), Some("b1"), PodPhase::Starting));
    }
    assert_eq!(reason(&world, "w"), ScaleReason::Settling { ready: 4, desired: 7 });
    world.usage_of_all("w", 100, 0);
    assert_eq!(change(&world, "w"), Some((2, Trigger::Utilisation)));
    // Down waits until what is asked for is there.
    let mut world = nine(5);
    world.of("w").desired = 10;
    assert_eq!(reason(&world, "w"), ScaleReason::Settling { ready: 9, desired: 10 });
    world.of("w").pods.push(pod("w-9", None, PodPhase::Pending));
    world.policy.scaler.max_step = 1;
    assert_eq!(change(&world, "w"), Some((-1, Trigger::Idle)));
    let proposals = scaled(&world).proposals;
    let Action::RemoveReplicas { victims, .. } = &proposals[0].action else { panic!() };
    assert_eq!(*victims, [pod_name("w-9")]);
}

#[test]
fn guards_hold_in_their_order() {
    let mut world = nine(1);
    world.of("w").budget = Some(DisruptionBudget { min_ready: 9 });
    assert_eq!(reason(&world, "w"), ScaleReason::DisruptionBudget { min_ready: 9 });
    world.policy.scaler.max_actions = 0;
    assert_eq!(reason(&world, "w"), ScaleReason::BudgetUsedUp { allowed: 0 });
    let memory = world.memory.workloads.entry(id("w")).or_default();
    memory.scaled_at = Some(Timestamp::from_millis(NOW.as_millis() - 59_000));
    let left = Span::from_seconds(1);
    assert_eq!(reason(&world, "w"), ScaleReason::Cooldown { left });
    world.usage_of_all("w", 50, 0);
    assert_eq!(reason(&world, "w"), ScaleReason::WithinBand);
    let memory = world.memory.workloads.entry(id("w")).or_default();
    memory.in_flight = Some(MoveInFlight {
        started_at: NOW,
        way: MoveWay::Surge,
        victim: pod_name("w-0"),
        from: "a0".parse().unwrap(),
        to: "b1".parse().unwrap(),
        replicas_before: 3,
        known_pods: Vec::new(),
        predicted_saving: 0.0,
        ending: None,
    });
    assert_eq!(reason(&world, "w"), ScaleReason::MoveInFlight);
    world.of("w").policy.no_scaling = true;
    assert_eq!(reason(&world, "w"), ScaleReason::OptedOut);
    let kind = AutoscalerKind::Hpa;
    world.of("w").autoscaler = Some(Autoscaler { kind, min: 1, max: 2, held: None });
    assert_eq!(reason(&world, "w"), ScaleReason::AutoscalerOwns { kind });
    world.of("w").rollout = Rollout::InProgress;
    assert_eq!(reason(&world, "w"), ScaleReason::RolloutInProgress);
    world.policy.scaler.enabled = false;
    assert_eq!(reason(&world, "w"), ScaleReason::Disabled);
}

#[test]
fn cooldown_ends() {
    let mut world = four(100);
    let memory = world.memory.workloads.entry(id("w")).or_default();
    memory.scaled_at = Some(Timestamp::from_millis(NOW.as_millis() - 60_000));
    assert_eq!(reason(&world, "w"), ScaleReason::Scaled);
}

#[test]
fn floors_give_their_reasons() {
    let mut world = four(1);
    world.of("w").pods.remove(0);
    world.of("w").desired = 3;
    assert_eq!(reason(&world, "w"), ScaleReason::Spread { zones: 3 });
    let mut world = four(1);
    // One replica's usage is unknown: survivors may not fall.
    let Facts::Fresh { value, .. } = &mut world.snapshot.usage else { panic!() };
    value.pop();
    assert_eq!(change(&world, "w"), Some((-1, Trigger::Idle)));
    let mut world = nine(1);
    let Facts::Fresh { value, .. } = &mut world.snapshot.usage else { panic!() };
    value.pop();
    assert_eq!(reason(&world, "w"), ScaleReason::ZoneLossFloor { floor: 9 });
}

#[test]
fn where_no_node_is_feasible_the_reason_says_why() {
    let mut world = four(100);
    for node in &mut world.snapshot.nodes {
        node.schedulable = false;
    }
    let detail = "6 nodes: 6 cordoned".to_owned();
    assert_eq!(reason(&world, "w"), ScaleReason::NoFeasibleNode { detail });
    // It spends nothing of the budget.
    world.policy.scaler.max_actions = 1;
    let selector = [("disk".parse().unwrap(), "ssd".parse().unwrap())];
    world.of("w").constraints.node_selector = selector.clone().into();
    for node in &mut world.snapshot.nodes {
        node.schedulable = true;
    }
    world.workload("x", &["a0"]);
    world.usage("x-0", 90, 0);
    let detail = "6 nodes: 6 without the selected labels".to_owned();
    assert_eq!(reason(&world, "w"), ScaleReason::NoFeasibleNode { detail });
    assert_eq!(reason(&world, "x"), ScaleReason::Scaled);
}

#[test]
fn the_budget_goes_to_the_most_urgent() {
    let mut world = World::new(&[2, 2, 2]);
    world.policy.scaler.metrics = MetricsType::Cpu;
    for (name, used) in [("idle", 1), ("idler", 0), ("hot", 80), ("hotter", 95), ("slow", 60)] {
        world.workload(name, &["a0", "a1", "b0", "b1", "c0", "c1"]);
        world.usage_of_all(name, used, 0);
    }
    world.pod_traffic("slow-0", 1.0, Some(900.0));
    let long_ago = Some(Timestamp::from_millis(0));
    world.memory.workloads.entry(id("slow")).or_default().slow_since = long_ago;
    world.workload("few", &["a0"]).policy.min_replicas = Some(2);
    let names = |allowed: u32| -> Vec<String> {
        let mut world = world.clone();
        world.policy.scaler.max_actions = allowed;
        let proposals = scaled(&world).proposals;
        proposals.iter().map(|p| p.action.workload().unwrap().name().to_owned()).collect()
    };
    let order = ["few", "hotter", "hot", "slow", "idler", "idle"];
    for allowed in 0..=6 {
        assert_eq!(names(u32::try_from(allowed).unwrap()), order[..allowed]);
    }
    world.policy.scaler.max_actions = 5;
    assert_eq!(reason(&world, "idle"), ScaleReason::BudgetUsedUp { allowed: 5 });
}
