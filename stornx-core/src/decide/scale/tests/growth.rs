//! Growths that are remembered until it is known whether they helped.

use super::{four, nine, reason, slow};
use crate::{
    decide::{
        safety::testing::{NOW, World, id, pod, resources},
        scale::remember_counts,
    },
    memory::Growth,
    model::PodPhase,
    ports::PortError,
    report::ScaleReason,
    units::{Percent, Rps},
};

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
