//! Triggers, counts and guards with known answers; and properties over random clusters:
//! no action breaks a floor, nothing flaps.

use super::{Scaled, decide, remember_counts};
use crate::{
    decide::{
        ledger::Ledger,
        plan,
        safety::{
            Safety,
            testing::{Dice, NOW, World, cases, id, index, pod, pod_name, resources},
        },
    },
    memory::{Growth, Memory, MoveInFlight},
    model::{Autoscaler, AutoscalerKind, DisruptionBudget, Facts, PodPhase, Rollout, Workload},
    plan::{Action, MoveWay, Plan, Planned},
    policy::MetricsType,
    ports::PortError,
    report::{Report, ScaleReason, Trigger, Why},
    units::{Millis, Percent, Rps, Span, Timestamp},
};

fn scaled(world: &World) -> Scaled {
    let view = world.view();
    let safety = Safety::assess(&view, &world.memory);
    let mut ledger = Ledger::new(&view, &world.memory);
    decide(&view, &safety, &world.memory, &mut ledger)
}

fn reason(world: &World, name: &str) -> ScaleReason {
    let scaled = scaled(world);
    scaled.reasons[index(&world.view(), name).at()].clone()
}

/// By how much the count of a workload changes, and what asked for it.
fn change(world: &World, name: &str) -> Option<(i64, Trigger)> {
    let proposals = scaled(world).proposals;
    let proposal = proposals.into_iter().find(|p| *p.action.workload() == id(name))?;
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

/// Seven replicas after a growth from four, memory used to 75 per cent, CPU idle.
fn grown() -> World {
    let mut world = World::new(&[3, 3, 3]);
    world.workload("w", &["a0", "a1", "a2", "b0", "b1", "b2", "c0"]);
    world.usage_of_all("w", 44, 75);
    world.pod_traffic("w-0", 110.0, None);
    let growth = Growth {
        from: 4,
        to: 7,
        utilisation: Percent::saturating(75.0),
        requests: Rps::saturating(100.0),
    };
    world.memory.workloads.entry(id("w")).or_default().growth = Some(growth);
    world
}

fn growth(world: &mut World) -> &mut Growth {
    world.memory.workloads.get_mut(&id("w")).unwrap().growth.as_mut().unwrap()
}

#[test]
fn a_growth_that_did_not_help_is_not_repeated() {
    let mut world = grown();
    let (before, now) = (Percent::saturating(75.0), Percent::saturating(75.0));
    assert_eq!(reason(&world, "w"), ScaleReason::GrowthDidNotHelp { before, now });
    // From 4 to 7 promised a fall by 3/7; half of it is 20.4 of 95 and 20.6 of 96.
    growth(&mut world).utilisation = Percent::saturating(95.0);
    let (before, now) = (Percent::saturating(95.0), Percent::saturating(75.0));
    assert_eq!(reason(&world, "w"), ScaleReason::GrowthDidNotHelp { before, now });
    growth(&mut world).utilisation = Percent::saturating(96.0);
    assert_eq!(reason(&world, "w"), ScaleReason::Scaled);
    world.policy.scaler.upper = Percent::saturating(75.0);
    assert_eq!(reason(&world, "w"), ScaleReason::WithinBand);
}

#[test]
fn half_of_what_was_promised_is_help() {
    let mut world = grown();
    world.of("w").pods.push(pod("w-7", Some("c1"), PodPhase::Ready));
    world.of("w").desired = 8;
    world.usage("w-7", 44, 75);
    // From 4 to 8 promised a fall by half: from 100 to 75 is half of that.
    *growth(&mut world) =
        Growth { to: 8, utilisation: Percent::saturating(100.0), ..*growth(&mut world) };
    assert_eq!(reason(&world, "w"), ScaleReason::Scaled);
}

#[test]
fn growth_is_judged_only_when_nothing_else_explains_it() {
    for change in [
        // It got worse.
        (|world: &mut World| growth(world).utilisation = Percent::saturating(74.0)) as fn(&mut _),
        // More requests came.
        |world| growth(world).requests = Rps::saturating(99.0),
        // CPU is busy, or not known.
        |world| world.usage_of_all("w", 46, 75),
        |world| world.of("w").requests = resources(0, 100),
        // The count is another one by now.
        |world| growth(world).to = 8,
        |world| growth(world).to = 6,
    ] {
        let mut world = grown();
        change(&mut world);
        assert_eq!(reason(&world, "w"), ScaleReason::Scaled);
    }
    let mut world = grown();
    world.of("w").pods[6].phase = PodPhase::Starting;
    world.usage_of_all("w", 45, 90);
    growth(&mut world).utilisation = Percent::saturating(95.0);
    assert_eq!(reason(&world, "w"), ScaleReason::Scaled);
}

#[test]
fn growths_are_remembered_until_they_have_helped() {
    let mut world = four(71);
    let remembered = |world: &World, done: bool| {
        let failed = || PortError::Unavailable { what: String::new(), detail: String::new() };
        let outcome = || if done { Ok(()) } else { Err(failed()) };
        let planned = crate::decide::plan(&world.snapshot, &world.policy, &world.memory, NOW);
        let outcomes = planned.plan.actions.iter().map(|_| outcome()).collect();
        let mut memory = world.memory.clone();
        remember_counts(&mut memory, &planned, &outcomes);
        memory.workloads.get(&id("w")).and_then(|remembered| remembered.growth)
    };
    world.pod_traffic("w-0", 9.0, None);
    let expected = Growth {
        from: 4,
        to: 7,
        utilisation: Percent::saturating(71.0),
        requests: Rps::saturating(9.0),
    };
    assert_eq!(remembered(&world, true), Some(expected));
    assert_eq!(remembered(&world, false), None);
    world.memory.workloads.entry(id("w")).or_default().growth = Some(expected);
    assert_eq!(remembered(&world, false), Some(expected));
    world.usage_of_all("w", 69, 0);
    assert_eq!(remembered(&world, true), None);
    // A reduction, or a growth for another reason, ends it too.
    let mut world = nine(1);
    world.memory.workloads.entry(id("w")).or_default().growth = Some(expected);
    assert_eq!(remembered(&world, false), Some(expected));
    assert_eq!(remembered(&world, true), None);
    let mut world = four(50);
    slow(&mut world);
    world.memory.workloads.entry(id("w")).or_default().growth = Some(expected);
    assert_eq!(remembered(&world, true), None);
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
        proposals.iter().map(|p| p.action.workload().name().to_owned()).collect()
    };
    let order = ["few", "hotter", "hot", "slow", "idler", "idle"];
    for allowed in 0..=6 {
        assert_eq!(names(u32::try_from(allowed).unwrap()), order[..allowed]);
    }
    world.policy.scaler.max_actions = 5;
    assert_eq!(reason(&world, "idle"), ScaleReason::BudgetUsedUp { allowed: 5 });
}

/// A random cluster with three workloads under random load.
fn random(dice: &mut Dice) -> World {
    let small = |dice: &mut Dice, end| u32::try_from(dice.below(end)).unwrap();
    let zones: Vec<usize> = (0..=dice.below(4)).map(|_| 1 + dice.below(3)).collect();
    let mut world = World::new(&zones);
    world.policy.scaler.metrics =
        [MetricsType::Cpu, MetricsType::Memory, MetricsType::Combined][dice.below(3)];
    let lower = 5 + small(dice, 60);
    world.policy.scaler.lower = Percent::saturating(f64::from(lower));
    world.policy.scaler.upper = Percent::saturating(f64::from(lower + 5 + small(dice, 35)));
    world.policy.scaler.max_step = 1 + small(dice, 6);
    world.policy.scaler.max_actions = 1 + small(dice, 4);
    world.policy.scaler.max_replicas = 3 + small(dice, 20);
    world.policy.scaler.min_replicas = 1 + small(dice, 3);
    world.policy.fault_tolerance.max_zones = 1 + small(dice, 4);
    world.policy.fault_tolerance.max_skew = 1 + small(dice, 3);
    world.policy.fault_tolerance.survive = Percent::saturating(f64::from(small(dice, 3)) * 50.0);
    let names: Vec<String> = world.snapshot.nodes.iter().map(|n| n.name.to_string()).collect();
    for name in ["v", "w", "x"] {
        let nodes: Vec<&str> =
            (0..1 + dice.below(12)).map(|_| names[dice.below(names.len())].as_str()).collect();
        let workload = world.workload(name, &nodes);
        // Large, so that sharing a load over replicas rounds to nothing.
        workload.requests = resources(100_000_000, 100_000_000);
        if dice.one_in(4) {
            workload.budget = Some(DisruptionBudget { min_ready: small(dice, 12) });
        }
        if dice.one_in(6) {
            workload.policy.opted_out = true;
        }
        if dice.one_in(6) {
            workload.constraints.max_zone_skew = Some(1 + small(dice, 3));
        }
        let load = [dice.below(4) * 10, dice.below(12) * 10];
        let load = load.map(|load| u64::try_from(load + dice.below(10)).unwrap() * 1_000_000);
        let at = dice.below(2);
        world.usage_of_all(name, load[at], load[1 - at]);
        if dice.one_in(3) {
            world.pod_traffic(&format!("{name}-0"), 5.0, Some(500.0));
        }
    }
    for node in &mut world.snapshot.nodes {
        node.allocatable = resources(100_000_000 * 12, 100_000_000 * 12);
        node.schedulable = !dice.one_in(10);
    }
    world
}

fn ready_by_zone(world: &World, workload: &Workload) -> Vec<u32> {
    let view = world.view();
    let zones = view.zones.iter().map(|zone| zone.name);
    let zone = |pod: &crate::model::Pod| {
        let node = world.snapshot.nodes.iter().find(|node| Some(&node.name) == pod.node.as_ref());
        node.map(|node| node.zone.clone())
    };
    let count = |wanted| workload.ready().filter(|pod| zone(pod).as_ref() == Some(wanted)).count();
    zones.map(|zone| u32::try_from(count(zone)).unwrap()).collect()
}

/// The world after an action, all new replicas Ready, each load shared evenly by its
/// replicas and changed by a factor.
fn after(world: &World, action: &Action, noise: f64) -> World {
    let mut next = world.clone();
    let name = action.workload().name().to_owned();
    let workload = next.of(&name);
    match action {
        Action::AddReplicas { nodes, .. } => {
            for (at, node) in nodes.iter().enumerate() {
                let name = format!("{name}-new{at}");
                workload.pods.push(pod(&name, Some(node.as_str()), PodPhase::Ready));
            }
        }
        Action::RemoveReplicas { victims, .. } => {
            workload.pods.retain(|pod| !victims.contains(&pod.name));
        }
        other => panic!("not a scale action: {other}"),
    }
    workload.desired = u32::try_from(workload.pods.len()).unwrap();
    let replicas = workload.pods.len();
    let before = world.snapshot.usage.fresh().unwrap();
    let prefix = format!("{name}-");
    let (mut cpu, mut memory) = (0, 0);
    for usage in before.iter().filter(|usage| usage.pod.name().starts_with(&prefix)) {
        cpu += usage.cpu.get();
        memory += usage.memory.get();
    }
    let replicas = u64::try_from(replicas).unwrap();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let share = |load: u64| (load as f64 * noise / replicas as f64) as u64;
    next.usage_of_all(&name, share(cpu), share(memory));
    next
}

#[test]
fn no_action_breaks_a_floor() {
    let mut dice = Dice::new(11);
    let (mut ups, mut downs) = (0, 0);
    for case in 0..cases(10_000) {
        let world = random(&mut dice);
        let scaled = scaled(&world);
        let policy = &world.policy;
        assert!(scaled.proposals.len() <= policy.scaler.max_actions as usize, "case {case}");
        for proposal in &scaled.proposals {
            let name = proposal.action.workload().name();
            let workload = world.snapshot.workloads.iter().find(|w| w.id == id(name)).unwrap();
            assert!(!workload.policy.opted_out, "case {case}");
            let next = after(&world, &proposal.action, 1.0);
            let then = next.snapshot.workloads.iter().find(|w| w.id == id(name)).unwrap();
            assert!(then.desired.abs_diff(workload.desired) <= policy.scaler.max_step);
            let (before, later) = (ready_by_zone(&world, workload), ready_by_zone(&next, then));
            let held = |counts: &[u32]| counts.iter().map(|c| u32::from(*c > 0)).sum::<u32>();
            let most = held(&before).max(policy.fault_tolerance.max_zones);
            assert!(held(&later) <= most, "case {case}");
            if then.desired > workload.desired {
                ups += 1;
                assert!(then.desired <= policy.scaler.max_replicas, "case {case}");
                continue;
            }
            downs += 1;
            assert!(then.desired >= policy.scaler.min_replicas, "case {case}");
            let budget = workload.budget.map_or(0, |budget| budget.min_ready);
            assert!(then.desired >= budget, "case {case}");
            let least = held(&before).min(policy.fault_tolerance.max_zones);
            assert!(held(&later) >= least, "case {case}");
            let left = |counts: &[u32]| counts.iter().sum::<u32>() - counts.iter().max().unwrap();
            let usage = world.snapshot.usage.fresh().unwrap();
            #[allow(clippy::cast_precision_loss)]
            let demand: f64 = usage
                .iter()
                .filter(|u| workload.pods.iter().any(|pod| pod.name == u.pod))
                .map(|u| u.cpu.get() as f64 / 1e8)
                .sum();
            let enough = demand * policy.fault_tolerance.survive.get() / 100.0;
            assert!(
                left(&later) >= left(&before) || f64::from(left(&later)) >= enough - 1e-6,
                "case {case}"
            );
        }
    }
    assert!(ups > 1000 && downs > 500, "{ups} up, {downs} down");
}

/// After an action, the plan for the same load (give or take 4 %, less than half the
/// margin) does not go the other way.
#[test]
fn nothing_flaps() {
    let mut dice = Dice::new(12);
    let (mut ups, mut downs) = (0, 0);
    for case in 0..cases(10_000) {
        let world = random(&mut dice);
        #[allow(clippy::cast_precision_loss)]
        let noise = 0.96 + 0.08 * dice.below(101) as f64 / 100.0;
        for proposal in scaled(&world).proposals {
            let up = matches!(proposal.action, Action::AddReplicas { .. });
            if up {
                ups += 1
            } else {
                downs += 1
            }
            let next = after(&world, &proposal.action, noise);
            let name = proposal.action.workload().name();
            let below_minimum = matches!(
                &proposal.report.why,
                Why::Scale(why) if why.trigger == Trigger::BelowMinimum
            );
            if let Some((by, _)) = change(&next, name).filter(|_| !below_minimum) {
                assert_eq!(by > 0, up, "case {case}, noise {noise}: {}", proposal.action);
            }
        }
    }
    assert!(ups > 1000 && downs > 500, "{ups} up, {downs} down");
}

/// Whole plans over random snapshots of every kind: what is decided here passes the
/// independent checker.
#[test]
fn the_checker_agrees() {
    let mut actions = 0;
    for seed in 0..cases(2_000) {
        let case = crate::testing::random_case(seed);
        let view = crate::view::View::new(&case.snapshot, &case.policy, case.now);
        let safety = Safety::assess(&view, &case.memory);
        let mut ledger = Ledger::new(&view, &case.memory);
        let scaled = decide(&view, &safety, &case.memory, &mut ledger);
        let mut planned = Planned {
            plan: Plan { at: case.now, ..Plan::default() },
            report: Report { at: case.now, ..Report::default() },
        };
        for proposal in scaled.proposals {
            planned.plan.actions.push(proposal.action);
            planned.report.actions.push(proposal.report);
        }
        actions += planned.plan.actions.len();
        let violations = crate::check::check(&case.snapshot, &case.policy, &case.memory, &planned);
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
    assert!(actions > 500, "{actions} actions");
}
