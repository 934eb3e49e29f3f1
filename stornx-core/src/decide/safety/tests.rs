use super::{
    CountBlock, Floors, Refusal, Safety, Unmeasured,
    testing::{Dice, World, cases, id, index, pod, pod_name, resources},
};
use crate::{
    memory::MoveInFlight,
    model::{Autoscaler, AutoscalerKind, DisruptionBudget, Facts, PodPhase, Rollout},
    plan::MoveWay,
    policy::MetricsType,
    report::{MoveReason, ScaleReason},
    units::{Millis, Percent, Rps, Share},
    view::Remembered,
};

fn facts(world: &World, name: &str) -> super::WorkloadSafety {
    let view = world.view();
    Safety::assess(&view, &Remembered::of(&view, &world.memory)).of(index(&view, name)).clone()
}

fn percent(value: Option<Percent>) -> Option<f64> {
    value.map(|value| (value.get() * 1000.0).round() / 1000.0)
}

fn three() -> World {
    let mut world = World::new(&[2, 2, 2]);
    world.workload("w", &["a0", "b0", "c0"]);
    world
}

#[test]
fn gates_are_tested_in_their_order() {
    let mut world = three();
    assert_eq!(facts(&world, "w").count_block, None);
    world.of("w").autoscaler =
        Some(Autoscaler { kind: AutoscalerKind::Keda, min: 1, max: 2, held: None });
    let owned = CountBlock::AutoscalerOwns(AutoscalerKind::Keda);
    assert_eq!(facts(&world, "w").count_block, Some(owned));
    world.of("w").rollout = Rollout::InProgress;
    assert_eq!(facts(&world, "w").count_block, Some(CountBlock::RolloutInProgress));
    world.of("w").rollout = Rollout::Paused;
    assert_eq!(facts(&world, "w").count_block, Some(CountBlock::Paused));
    world.of("w").policy.opted_out = true;
    assert_eq!(facts(&world, "w").count_block, Some(CountBlock::OptedOut));
    world.of("w").managed = false;
    assert_eq!(facts(&world, "w").count_block, Some(CountBlock::NotManaged));
}

#[test]
fn only_monitored_namespaces_are_touched() {
    let mut world = three();
    world.policy.namespaces = ["other".parse().unwrap()].into();
    assert_eq!(facts(&world, "w").count_block, Some(CountBlock::NotManaged));
    world.policy.namespaces.insert("shop".parse().unwrap());
    assert_eq!(facts(&world, "w").count_block, None);
}

#[test]
fn autoscalers_are_passed_over_only_when_told() {
    let mut world = three();
    world.of("w").autoscaler =
        Some(Autoscaler { kind: AutoscalerKind::Hpa, min: 1, max: 2, held: None });
    world.policy.scaler.respect_autoscalers = false;
    assert_eq!(facts(&world, "w").count_block, None);
    let kind = AutoscalerKind::Controller;
    world.of("w").autoscaler = Some(Autoscaler { kind, min: 0, max: u32::MAX, held: None });
    let owned = Some(CountBlock::AutoscalerOwns(kind));
    assert_eq!(facts(&world, "w").count_block, owned, "it owns more than the count");
}

#[test]
fn each_block_is_its_own_reason_in_both_rooms() {
    let kind = AutoscalerKind::Hpa;
    let cases = [
        (CountBlock::NotManaged, ScaleReason::NotManaged, MoveReason::NotManaged),
        (CountBlock::OptedOut, ScaleReason::OptedOut, MoveReason::OptedOut),
        (CountBlock::Paused, ScaleReason::Paused, MoveReason::Paused),
        (
            CountBlock::RolloutInProgress,
            ScaleReason::RolloutInProgress,
            MoveReason::RolloutInProgress,
        ),
        (
            CountBlock::AutoscalerOwns(kind),
            ScaleReason::AutoscalerOwns { kind },
            MoveReason::AutoscalerOwns { kind },
        ),
    ];
    for (block, scale, moves) in cases {
        assert_eq!((ScaleReason::from(block), MoveReason::from(block)), (scale, moves));
    }
    for (unmeasured, reason) in [
        (Unmeasured::NoBase, ScaleReason::NoBase),
        (Unmeasured::NothingReady, ScaleReason::NothingReady),
        (Unmeasured::NoUsage, ScaleReason::NoUsage),
    ] {
        assert_eq!(ScaleReason::from(unmeasured), reason);
    }
}

#[test]
fn each_refusal_is_its_own_reason() {
    for (refusal, reason, words) in [
        (
            Refusal::DisruptionBudget { min_ready: 4 },
            ScaleReason::DisruptionBudget { min_ready: 4 },
            "disruption budget keeps 4",
        ),
        (Refusal::ZoneLoss { floor: 5 }, ScaleReason::ZoneLossFloor { floor: 5 }, "below 5"),
        (Refusal::TooFewZones { zones: 3 }, ScaleReason::Spread { zones: 3 }, "over 3 zones"),
        (Refusal::TooManyZones { zones: 2 }, ScaleReason::Spread { zones: 2 }, "at most 2 zones"),
        (Refusal::Skew { max: 1 }, ScaleReason::Skew { max: 1 }, "more than 1 replicas more"),
    ] {
        assert!(refusal.to_string().contains(words), "{refusal}");
        assert_eq!(ScaleReason::from(refusal), reason);
    }
}

#[test]
fn limits_come_from_the_owner_or_else_from_the_settings() {
    let mut world = three();
    world.policy.scaler.min_replicas = 2;
    world.policy.scaler.max_replicas = 9;
    let safety = facts(&world, "w");
    assert_eq!((safety.min, safety.max), (2, 9));
    assert_eq!(safety.response_time, world.policy.scaler.response_time);
    let policy = &mut world.of("w").policy;
    (policy.min_replicas, policy.max_replicas) = (Some(3), Some(4));
    policy.response_time = Some(Millis::saturating(7.0));
    let safety = facts(&world, "w");
    assert_eq!((safety.min, safety.max), (3, 4));
    assert_eq!(safety.response_time, Millis::saturating(7.0));
}

#[test]
fn moves_under_way_are_seen() {
    let mut world = three();
    assert!(!facts(&world, "w").in_flight);
    let memory = world.memory.workloads.entry(id("w")).or_default();
    assert!(memory.in_flight.is_none());
    memory.in_flight = Some(MoveInFlight {
        started_at: super::testing::NOW,
        way: MoveWay::Surge,
        victim: pod_name("w-0"),
        from: "a0".parse().unwrap(),
        to: "b1".parse().unwrap(),
        replicas_before: 3,
        known_pods: Vec::new(),
        predicted_saving: 0.0,
        ending: None,
    });
    assert!(facts(&world, "w").in_flight);
}

#[test]
fn utilisation_is_usage_over_request_by_the_metric() {
    let mut world = three();
    world.of("w").requests = resources(200, 1000);
    for (pod, cpu, memory) in [("w-0", 20, 500), ("w-1", 40, 600), ("w-2", 60, 700)] {
        world.usage(pod, cpu, memory);
    }
    world.policy.scaler.cpu_weight = Percent::saturating(30.0);
    world.policy.scaler.memory_weight = Percent::saturating(90.0);
    for (metrics, expected) in
        [(MetricsType::Cpu, 20.0), (MetricsType::Memory, 60.0), (MetricsType::Combined, 50.0)]
    {
        world.policy.scaler.metrics = metrics;
        let safety = facts(&world, "w");
        assert_eq!(percent(safety.utilisation), Some(expected));
        assert_eq!((percent(safety.cpu), safety.unmeasured), (Some(20.0), None));
        assert!((safety.floors.needed.unwrap() - 0.6).abs() < 1e-12);
    }
}

#[test]
fn the_limit_is_the_base_without_a_request() {
    let mut world = three();
    world.usage_of_all("w", 50, 50);
    world.of("w").requests = resources(0, 0);
    world.of("w").limits = Some(resources(100, 200));
    world.policy.scaler.metrics = MetricsType::Cpu;
    assert_eq!(percent(facts(&world, "w").utilisation), Some(50.0));
    world.policy.scaler.metrics = MetricsType::Memory;
    assert_eq!(percent(facts(&world, "w").utilisation), Some(25.0));
    world.of("w").requests = resources(1000, 0);
    world.policy.scaler.metrics = MetricsType::Cpu;
    assert_eq!(percent(facts(&world, "w").utilisation), Some(5.0));
    world.of("w").requests = resources(0, 0);
    world.of("w").limits = Some(resources(0, 0));
    let safety = facts(&world, "w");
    assert_eq!((safety.utilisation, safety.unmeasured), (None, Some(Unmeasured::NoBase)));
    assert_eq!((safety.cpu, safety.floors.needed), (None, None));
}

#[test]
fn combined_leaves_out_what_has_no_base_or_no_weight() {
    let mut world = three();
    world.usage_of_all("w", 50, 80);
    world.policy.scaler.metrics = MetricsType::Combined;
    world.of("w").requests = resources(0, 100);
    assert_eq!(percent(facts(&world, "w").utilisation), Some(80.0));
    world.of("w").requests = resources(100, 0);
    assert_eq!(percent(facts(&world, "w").utilisation), Some(50.0));
    world.policy.scaler.cpu_weight = Percent::ZERO;
    assert_eq!(facts(&world, "w").unmeasured, Some(Unmeasured::NoBase));
    world.policy.scaler.cpu_weight = Percent::saturating(50.0);
    world.policy.scaler.memory_weight = Percent::ZERO;
    world.of("w").requests = resources(0, 100);
    assert_eq!(facts(&world, "w").unmeasured, Some(Unmeasured::NoBase));
}

#[test]
fn what_is_not_known_is_not_zero() {
    let mut world = three();
    let safety = facts(&world, "w");
    assert_eq!((safety.utilisation, safety.unmeasured), (None, Some(Unmeasured::NoUsage)));
    assert_eq!((safety.cpu, safety.zone_loss.demand_served), (None, None));
    // Two of three known: utilisation is their mean, demand stays unknown.
    world.usage("w-0", 10, 10);
    world.usage("w-1", 30, 30);
    let safety = facts(&world, "w");
    assert_eq!((percent(safety.utilisation), percent(safety.cpu)), (Some(20.0), Some(20.0)));
    assert_eq!(safety.floors.needed, None);
    for pod in &mut world.of("w").pods {
        pod.phase = PodPhase::Unready;
    }
    let safety = facts(&world, "w");
    assert_eq!(safety.unmeasured, Some(Unmeasured::NothingReady));
    assert_eq!((safety.floors.needed, safety.zone_loss.worst), (None, None));
    world.snapshot.usage = Facts::Missing { reason: "no metrics".to_owned() };
    world.of("w").requests = resources(0, 0);
    assert_eq!(facts(&world, "w").unmeasured, Some(Unmeasured::NoBase));
}

#[test]
fn only_serving_replicas_are_measured() {
    let mut world = three();
    world.usage_of_all("w", 50, 50);
    world.of("w").pods.push(pod("w-9", Some("a1"), PodPhase::Starting));
    world.usage("w-9", 1000, 1000);
    world.pod_traffic("w-9", 100.0, Some(900.0));
    world.pod_traffic("w-0", 30.0, Some(10.0));
    world.pod_traffic("w-1", 10.0, Some(50.0));
    world.pod_traffic("w-2", 60.0, None);
    let safety = facts(&world, "w");
    assert_eq!(percent(safety.utilisation), Some(50.0));
    assert!((safety.floors.needed.unwrap() - 1.5).abs() < 1e-12);
    assert_eq!(safety.p95, Some(Millis::saturating(20.0)));
    assert_eq!(safety.requests, Rps::saturating(200.0));
}

#[test]
fn requests_come_from_callers_when_replicas_do_not_report() {
    let mut world = three();
    world.workload("caller", &["a0"]);
    world.edge("caller", "w", &[("a", "a", 3.0), ("a", "b", 4.0)]);
    world.edge("w", "caller", &[("a", "a", 100.0)]);
    let safety = facts(&world, "w");
    assert_eq!((safety.requests, safety.p95), (Rps::saturating(7.0), None));
    world.pod_traffic("w-0", 0.0, Some(10.0));
    let safety = facts(&world, "w");
    assert_eq!((safety.requests, safety.p95), (Rps::ZERO, None));
}

#[test]
fn zone_loss_is_a_fact_of_each_workload() {
    let mut world = World::new(&[2, 2]);
    world.workload("w", &["a0", "b0", "b1"]);
    world.usage_of_all("w", 50, 50);
    let loss = facts(&world, "w").zone_loss;
    assert_eq!(loss.worst, Some("b".parse().unwrap()));
    assert_eq!(loss.survivors, 1);
    assert_eq!(loss.demand_served, Some(Share::saturating(1.0 / 1.5)));
    world.usage_of_all("w", 10, 10);
    assert_eq!(facts(&world, "w").zone_loss.demand_served, Some(Share::saturating(1.0)));
    world.usage_of_all("w", 0, 0);
    assert_eq!(facts(&world, "w").zone_loss.demand_served, Some(Share::saturating(1.0)));
}

const LOOSE: Floors = Floors { min_ready: 0, max_zones: 3, max_skew: 100, needed: Some(0.0) };

#[test]
fn floors_come_from_settings_and_the_workload() {
    let mut world = three();
    world.usage_of_all("w", 50, 50);
    world.policy.fault_tolerance.survive = Percent::saturating(50.0);
    let floors = facts(&world, "w").floors;
    assert_eq!((floors.min_ready, floors.max_zones, floors.max_skew), (0, 3, 3));
    assert!((floors.needed.unwrap() - 0.75).abs() < 1e-12);
    world.of("w").budget = Some(DisruptionBudget { min_ready: 2 });
    world.of("w").constraints.max_zone_skew = Some(2);
    let floors = facts(&world, "w").floors;
    assert_eq!((floors.min_ready, floors.max_skew), (2, 2));
    world.of("w").constraints.max_zone_skew = Some(9);
    assert_eq!(facts(&world, "w").floors.max_skew, 3);
    world.policy.scaler.respect_budgets = false;
    assert_eq!(facts(&world, "w").floors.min_ready, 0);
}

#[test]
fn the_disruption_budget_stops_only_a_fall_below_it() {
    let floors = Floors { min_ready: 3, ..LOOSE };
    let refused = Err(Refusal::DisruptionBudget { min_ready: 3 });
    assert_eq!(floors.change_allowed(&[2, 2], &[2, 1]), Ok(()));
    assert_eq!(floors.change_allowed(&[2, 1], &[1, 1]), refused);
    assert_eq!(floors.change_allowed(&[1, 1], &[2, 0, 0]), Err(Refusal::TooFewZones { zones: 2 }));
    assert_eq!(floors.change_allowed(&[1, 1, 0], &[1, 0, 1]), Ok(()));
    assert_eq!(floors.change_allowed(&[1, 1], &[2, 1]), Ok(()));
}

#[test]
fn survivors_may_fall_only_while_enough_are_left() {
    let floors = Floors { needed: Some(2.5), ..LOOSE };
    assert_eq!(floors.change_allowed(&[2, 2, 2], &[2, 2, 1]), Ok(()));
    assert_eq!(floors.change_allowed(&[2, 2, 1], &[2, 1, 1]), Err(Refusal::ZoneLoss { floor: 5 }));
    // Too few already: may not fall, may stay.
    assert_eq!(floors.change_allowed(&[3, 1, 1], &[2, 1, 1]), Ok(()));
    let unknown = Floors { needed: None, ..LOOSE };
    assert_eq!(unknown.change_allowed(&[2, 2, 2], &[2, 2, 1]), Err(Refusal::ZoneLoss { floor: 6 }));
    assert_eq!(unknown.change_allowed(&[3, 2, 2], &[2, 2, 2]), Ok(()));
}

#[test]
fn the_reported_floor_never_exceeds_what_is_there() {
    let floors = Floors { needed: Some(90.0), ..LOOSE };
    assert_eq!(floors.change_allowed(&[1, 1, 1], &[1, 1, 0]), Err(Refusal::ZoneLoss { floor: 3 }));
}

#[test]
fn spread_is_a_floor_and_a_ceiling() {
    let few = |zones| Err(Refusal::TooFewZones { zones });
    assert_eq!(LOOSE.change_allowed(&[2, 1, 0], &[2, 0, 0]), few(2));
    assert_eq!(LOOSE.change_allowed(&[1, 1, 1, 1], &[1, 1, 1, 0]), Ok(()));
    assert_eq!(LOOSE.change_allowed(&[1, 1, 1, 0], &[1, 1, 0, 0]), few(3));
    let many = |zones| Err(Refusal::TooManyZones { zones });
    assert_eq!(LOOSE.change_allowed(&[2, 1, 1, 0], &[1, 1, 1, 1]), many(3));
    assert_eq!(LOOSE.change_allowed(&[2, 1, 0, 0], &[1, 1, 1, 0]), Ok(()));
    assert_eq!(LOOSE.change_allowed(&[2, 1, 1, 1, 0], &[1, 1, 1, 1, 1]), many(4));
    assert_eq!(LOOSE.change_allowed(&[1, 1, 1, 1], &[2, 1, 1, 1]), Ok(()));
}

#[test]
fn skew_may_not_grow_beyond_what_is_allowed() {
    let floors = Floors { max_skew: 2, ..LOOSE };
    let refused = Err(Refusal::Skew { max: 2 });
    assert_eq!(floors.change_allowed(&[3, 2], &[4, 2]), Ok(()));
    assert_eq!(floors.change_allowed(&[3, 2], &[4, 1]), refused);
    // Too skewed already: as skewed is allowed, more is not.
    assert_eq!(floors.change_allowed(&[6, 1], &[6, 1]), Ok(()));
    assert_eq!(floors.change_allowed(&[6, 2], &[6, 1]), refused);
    // A zone just entered makes an uneven layout more even, not less.
    assert_eq!(floors.change_allowed(&[5, 5, 0], &[5, 4, 1]), Ok(()));
    assert_eq!(floors.change_allowed(&[0, 0], &[0, 0]), Ok(()));
}

/// An independent statement of the floors, written from the design.
fn naive(floors: &Floors, before: &[u32], after: &[u32]) -> bool {
    let zones = before.len();
    let left = |counts: &[u32], lost: usize| -> u32 {
        (0..zones).filter(|zone| *zone != lost).map(|zone| counts[zone]).sum()
    };
    let worst = |counts: &[u32]| (0..zones).map(|zone| left(counts, zone)).min().unwrap_or(0);
    let total = |counts: &[u32]| counts.iter().sum::<u32>();
    let held = |counts: &[u32]| counts.iter().filter(|count| **count > 0).count();
    let limit = usize::try_from(floors.max_zones).unwrap();
    let budget = total(after) >= total(before) || total(after) >= floors.min_ready;
    let loss = worst(after) >= worst(before)
        || floors.needed.is_some_and(|needed| f64::from(worst(after)) >= needed);
    let spread = held(after) >= held(before).min(limit) && held(after) <= held(before).max(limit);
    let widest = |counts: &[u32]| {
        let used: Vec<u32> = (0..zones)
            .filter(|zone| before[*zone] + after[*zone] > 0)
            .map(|zone| counts[zone])
            .collect();
        let pairs = used.iter().flat_map(|a| used.iter().map(move |b| a.abs_diff(*b)));
        pairs.max().unwrap_or(0)
    };
    let skew = widest(after) <= floors.max_skew.max(widest(before));
    budget && loss && spread && skew
}

#[test]
fn floors_hold_as_the_design_states_them() {
    let mut dice = Dice::new(4);
    let (mut allowed, mut refused) = (0_u32, 0_u32);
    for case in 0..cases(20_000) {
        let zones = 1 + dice.below(5);
        let mut counts =
            || -> Vec<u32> { (0..zones).map(|_| u32::try_from(dice.below(5)).unwrap()).collect() };
        let (before, mut after) = (counts(), counts());
        if case % 2 == 0 {
            after.clone_from(&before);
            let zone = dice.below(zones);
            after[zone] = after[zone].saturating_sub(1);
            if dice.one_in(2) {
                after[dice.below(zones)] += 1;
            }
        }
        let number = |dice: &mut Dice, end| u32::try_from(dice.below(end)).unwrap();
        let floors = Floors {
            min_ready: number(&mut dice, 8),
            max_zones: 1 + number(&mut dice, 4),
            max_skew: 1 + number(&mut dice, 4),
            needed: (!dice.one_in(4)).then(|| f64::from(number(&mut dice, 40)) / 4.0),
        };
        let answer = floors.change_allowed(&before, &after).is_ok();
        assert_eq!(answer, naive(&floors, &before, &after), "{floors:?} {before:?} {after:?}");
        if answer { allowed += 1 } else { refused += 1 }
    }
    assert!(allowed > 1000 && refused > 1000, "{allowed} allowed, {refused} refused");
}
