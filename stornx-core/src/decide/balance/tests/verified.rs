//! What was written is held against what is seen, in closed loop with a small world.

use super::{
    uneven,
    world::{World, host_name},
};
use crate::{
    memory::{HostMemory, Untouched},
    plan::RoutePurpose,
    report::{Effect, Following, Unverified, Verification},
    units::{Millis, Rps, Share, Span},
};

fn found(world: &mut World) -> Verification {
    world.cycle().report.verification.expect("weights of ours stand")
}

fn memory(world: &World) -> &HostMemory {
    &world.memory.hosts[&host_name()]
}

#[test]
fn nothing_is_said_before_weights_of_ours_stand() {
    let mut world = uneven(3, 0.3, 40);
    world.metrics = false;
    assert_eq!(world.cycle().report.verification, None);
}

#[test]
fn a_mesh_that_obeys_is_seen_to() {
    for noisy in [false, true] {
        let mut world = uneven(3, 0.3, 41);
        world.noisy = noisy;
        world.settle();
        for _ in 0..200 {
            let following = found(&mut world).following;
            let Following::AsWritten { off } = following else { panic!("{following:?}") };
            assert!(off.get() < 5.0, "{off:?}");
        }
        assert_eq!(memory(&world).astray_since, None);
    }
}

#[test]
fn a_mesh_that_does_not_is_named_after_two_windows_and_forgiven_when_it_does() {
    let mut world = uneven(3, 0.3, 42);
    world.settle();
    world.obeys = false;
    let doubtful = found(&mut world).following;
    let Following::Doubtful { from, to, written, seen } = doubtful else { panic!("{doubtful:?}") };
    // 70 % of the calls come from the first zone: written for home, seen everywhere.
    assert!((written.get() - seen.get()).abs() > 20.0, "{from} {to} {written:?} {seen:?}");
    let astray = found(&mut world).following;
    let Following::Astray { since, .. } = astray else { panic!("{astray:?}") };
    assert_eq!(since, Span::from_seconds(60));
    world.obeys = true;
    assert!(matches!(found(&mut world).following, Following::AsWritten { .. }));
    assert_eq!(memory(&world).astray_since, None);
}

#[test]
fn what_cannot_be_verified_is_said_to_be() {
    let settled = || {
        let mut world = uneven(3, 0.3, 43);
        world.settle();
        world
    };
    let why = |world: &mut World| match found(world).following {
        Following::Unverified { why } => Some(why),
        _ => None,
    };
    let mut world = settled();
    world.metrics = false;
    assert_eq!(why(&mut world), Some(Unverified::NoTraffic));
    let mut world = settled();
    world.demand = vec![0.5, 0.3, 0.2];
    assert_eq!(why(&mut world), Some(Unverified::FewRequests));
    let mut world = settled();
    world.ready_since[1] = world.now;
    assert_eq!(why(&mut world), Some(Unverified::Unsettled));
    let mut world = settled();
    world.rollout = crate::model::Rollout::InProgress;
    assert_eq!(why(&mut world), Some(Unverified::Unsettled));
}

/// A world in which the run has just begun; nothing is judged before a window has passed.
fn begun(seed: u64) -> World {
    let mut world = uneven(3, 0.3, seed);
    while world.cycle().write.is_none() {}
    world
}

#[test]
fn nothing_is_judged_before_a_whole_window_has_passed() {
    let mut world = begun(44);
    world.stall[0] = 60.0;
    // The metrics lag by a second: a part of the window lies before the write.
    world.lag = Span::from_seconds(1);
    let cycle = world.cycle();
    let found = cycle.report.verification.unwrap();
    let left = Span::from_seconds(1);
    assert_eq!(found.following, Following::TooEarly { left });
    assert_eq!(found.effect, Some(Effect::TooEarly { left }));
    assert!(cycle.write.is_none_or(|(purpose, ..)| purpose != RoutePurpose::Undo));
}

/// What a host that is not touched had before and has now; it is in the world itself.
fn with_untouched(world: &mut World, before: f64, now: f64) {
    world.other = Some(now);
    let untouched = Untouched {
        p95: Some(Millis::saturating(before)),
        errors: Share::ZERO,
        requests: Rps::saturating(50.0),
    };
    let other = world.other_host();
    let kept = world.memory.hosts.get_mut(&host_name()).unwrap();
    kept.untouched = [(other, untouched)].into();
}

#[test]
fn what_the_untouched_show_as_well_is_not_undone() {
    // Elsewhere nothing changes, a quarter slower, six times as slow.
    for (others, undone) in [(40.0, true), (50.0, true), (240.0, false)] {
        let mut world = begun(45);
        world.stall[0] = 60.0;
        with_untouched(&mut world, 40.0, others);
        let cycle = world.cycle();
        let effect = cycle.report.verification.unwrap().effect.unwrap();
        let worse = match effect {
            Effect::Worse { compared_with, ours, .. } => {
                assert_eq!(compared_with, 1);
                ours
            }
            Effect::NoWorse { compared_with } => {
                assert_eq!(compared_with, 1);
                false
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(worse, undone, "{others}");
        let is_undo = cycle.write.is_some_and(|(purpose, ..)| purpose == RoutePurpose::Undo);
        assert_eq!(is_undo, undone, "{others}");
    }
}

#[test]
fn a_host_that_was_written_meanwhile_is_nothing_to_compare_with() {
    let mut world = begun(46);
    world.stall[0] = 60.0;
    with_untouched(&mut world, 40.0, 240.0);
    let other = world.other_host();
    let written_at = Some(world.now);
    world.memory.hosts.insert(other, HostMemory { written_at, ..HostMemory::default() });
    let cycle = world.cycle();
    assert_eq!(cycle.write.unwrap().0, RoutePurpose::Undo);
    assert!(cycle.report.pressing, "what does harm does not wait for the schedule");
    let effect = cycle.report.verification.unwrap().effect;
    assert!(matches!(effect, Some(Effect::Worse { compared_with: 0, .. })), "{effect:?}");
}

#[test]
fn what_a_run_is_compared_with_is_recorded_when_it_begins_and_dropped_at_its_end() {
    let mut world = uneven(3, 0.3, 47);
    world.other = Some(40.0);
    while world.cycle().write.is_none() {}
    let other = world.other_host();
    let kept = &memory(&world).untouched;
    assert_eq!(kept.keys().collect::<Vec<_>>(), [&other]);
    assert_eq!(kept[&other].p95, Some(Millis::saturating(40.0)));
    world.settle();
    assert!(memory(&world).untouched.is_empty());
}

#[test]
fn a_run_that_the_mesh_did_not_follow_is_not_undone() {
    let mut world = begun(48);
    // Everybody still calls as before the run, and answers became slow by themselves.
    world.obeys = false;
    world.stall = vec![60.0, 0.0, 0.0];
    let mut undone = false;
    for _ in 0..5 {
        let cycle = world.cycle();
        undone |= cycle.write.is_some_and(|(purpose, ..)| purpose == RoutePurpose::Undo);
    }
    assert!(!undone);
}

/// What made things worse is taken back also where that could not be done at once.
#[test]
fn a_bad_run_waits_to_be_taken_back_until_a_rollout_is_over() {
    let mut world = begun(49);
    world.stall[0] = 60.0;
    world.rollout = crate::model::Rollout::InProgress;
    for at in 0..5 {
        let cycle = world.cycle();
        assert!(cycle.write.is_none(), "cycle {at}: {:?}", cycle.write);
    }
    assert!(memory(&world).before.is_some(), "what stood before is still known");
    world.rollout = crate::model::Rollout::Settled;
    let undone = (0..3)
        .any(|_| world.cycle().write.is_some_and(|(purpose, ..)| purpose == RoutePurpose::Undo));
    assert!(undone);
}

/// A run of which nobody can say what it did forgives nothing.
#[test]
fn only_a_run_that_was_good_is_forgiven() {
    // A quarter more comes than before the run: nothing can be said.
    for (demand, forgiven) in [(1.0, true), (1.25, false)] {
        let mut world = begun(50);
        let disappointed = crate::memory::Backoff { until: world.now, failures: 2 };
        world.memory.hosts.get_mut(&host_name()).unwrap().backoff = Some(disappointed);
        world.demand.iter_mut().for_each(|rate| *rate *= demand);
        world.settle();
        let kept = memory(&world);
        assert!(kept.expectation.is_none(), "{demand}: the run is over");
        assert_eq!(kept.backoff, (!forgiven).then_some(disappointed), "{demand}");
    }
}
