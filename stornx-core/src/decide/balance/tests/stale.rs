//! Weights without metrics: how they decay, and what a restart in the middle changes.

use super::{
    uneven,
    world::{World, zone},
};
use crate::{
    memory::Memory,
    model::{Distribution, RouteTable, Rule},
    plan::RoutePurpose,
    units::Span,
};

/// Nearly everything to the caller's own zone.
fn own_zone(at: usize) -> Distribution {
    let weight = |to: usize| if to == at { 96 } else { 2 };
    Distribution::new((0..3).map(|to| (zone(to), weight(to))).collect()).unwrap()
}

/// Lets weights settle, takes the metrics away and waits for the first step of the decay.
fn decaying(seed: u64) -> World {
    let mut world = uneven(3, 0.2, seed);
    world.settle();
    world.metrics = false;
    while world.cycle().write.is_none() {}
    world
}

/// What every write of a decay keeps: it starts from the rule that stands, names every
/// zone, and no weight moves by more than a step.
fn next_decay(world: &mut World) -> bool {
    let Rule::Ours(stood) = world.rule.clone() else { panic!("no rule stands") };
    let Some((purpose, from, to)) = world.cycle().write else { return false };
    assert_eq!((purpose, &from), (RoutePurpose::Decay, &stood));
    assert_eq!(to.len(), world.zones);
    for (row, next) in &to {
        assert_eq!(next.iter().count(), world.zones, "every zone is named");
        assert!(next.iter().all(|(zone, weight)| stood[row].weight(zone).abs_diff(weight) <= 20));
    }
    true
}

#[test]
fn a_restart_goes_on_from_the_rule_that_stands() {
    let mut world = decaying(31);
    // Somebody else wrote under our name, or an older daemon did: that is what stands.
    let edited: RouteTable = (0..3).map(|at| (zone(at), own_zone(at))).collect();
    world.rule = Rule::Ours(edited);
    assert!(next_decay(&mut world));
    while next_decay(&mut world) {}
    assert!((world.cross_zone() - 2.0 / 3.0).abs() < 0.03, "{}", world.cross_zone());
}

#[test]
fn a_restart_without_memory_waits_the_whole_time_again() {
    let mut world = decaying(32);
    let stood = world.rule.clone();
    world.memory = Memory::default();
    let started = world.now;
    while !next_decay(&mut world) {
        assert_eq!(world.rule, stood, "nothing is assumed about what stands");
    }
    // The cycle that wrote has passed.
    assert_eq!(world.now.since(started), Span::from_seconds(300 + 60));
}

#[test]
fn a_decay_follows_the_replicas_that_there_are_now() {
    let mut world = decaying(33);
    world.replicas = vec![1, 1, 4];
    while next_decay(&mut world) {}
    let Rule::Ours(table) = &world.rule else { panic!("no rule stands") };
    for row in table.values() {
        assert!(row.weight(&zone(2)).abs_diff(66) <= 2, "{row:?}");
    }
}

#[test]
fn metrics_that_come_back_for_a_moment_begin_the_wait_anew() {
    let mut world = decaying(34);
    world.metrics = true;
    world.cycle();
    world.metrics = false;
    let started = world.now;
    while !next_decay(&mut world) {}
    assert_eq!(world.now.since(started), Span::from_seconds(300 + 60));
}
