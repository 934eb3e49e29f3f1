//! Weights without metrics: how they decay, and what a restart in the middle changes.

use super::{
    uneven,
    world::{World, host_name, zone},
};
use crate::{
    memory::Memory,
    model::{Distribution, RouteTable, Rule},
    plan::RoutePurpose,
    report::RouteReason,
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

/// A settled host whose figures have just vanished, or whose callers have, while others of
/// the cluster have theirs.
fn unseen(seed: u64) -> (World, Vec<f64>) {
    let mut world = uneven(3, 0.2, seed);
    world.other = Some(20.0);
    world.settle();
    let demand = std::mem::replace(&mut world.demand, vec![0.0; 3]);
    (world, demand)
}

/// Cycles until something is written; how long that took.
fn until_written(world: &mut World) -> (RoutePurpose, Span) {
    let started = world.now;
    loop {
        let now = world.now;
        assert!(now.since(started) < Span::from_seconds(7_200), "nothing is ever written");
        if let Some((purpose, ..)) = world.cycle().write {
            return (purpose, now.since(started));
        }
    }
}

fn cross_zone(world: &mut World, demand: &[f64]) -> f64 {
    let none = std::mem::replace(&mut world.demand, demand.to_vec());
    let share = world.cross_zone();
    world.demand = none;
    share
}

#[test]
fn a_host_without_figures_decays_though_others_have_theirs() {
    let (mut world, demand) = unseen(35);
    assert!(cross_zone(&mut world, &demand) < 0.1);
    assert_eq!(until_written(&mut world), (RoutePurpose::Decay, Span::from_seconds(300)));
    while next_decay(&mut world) {}
    let share = cross_zone(&mut world, &demand);
    assert!((share - 2.0 / 3.0).abs() < 0.03, "{share}");
    // And stays so, however long, with a memory that does not change.
    let memory = world.memory.clone();
    assert!(world.settle().is_empty());
    assert_eq!(
        world.memory.hosts[&host_name()].unseen_since,
        memory.hosts[&host_name()].unseen_since
    );
}

#[test]
fn a_restart_goes_on_where_the_last_daemon_was() {
    let (mut world, _) = unseen(36);
    (0..4).for_each(|_| assert!(world.cycle().write.is_none()));
    let stored = serde_json::to_string(&world.memory).unwrap();
    world.memory = serde_json::from_str(&stored).unwrap();
    assert_eq!(until_written(&mut world).1, Span::from_seconds(60));
}

#[test]
fn a_cluster_without_metrics_and_a_host_without_figures_are_one_wait() {
    let (mut world, _) = unseen(37);
    for metrics in [true, true, false, false, true] {
        world.metrics = metrics;
        assert!(world.cycle().write.is_none());
    }
    assert_eq!(until_written(&mut world), (RoutePurpose::Decay, Span::ZERO));
}

#[test]
fn figures_that_come_now_and_then_rewrite_nothing() {
    let (mut world, demand) = unseen(38);
    until_written(&mut world);
    while next_decay(&mut world) {}
    for _ in 0..5 {
        world.demand.clone_from(&demand);
        for _ in 0..4 {
            let cycle = world.cycle();
            assert!(cycle.write.is_none());
            assert!(matches!(cycle.report.reason, RouteReason::SeenAgain { .. }));
        }
        world.demand = vec![0.0; 3];
        (0..9).for_each(|_| assert!(world.cycle().write.is_none()));
    }
    // Those that stay are acted on.
    world.demand.clone_from(&demand);
    assert_eq!(until_written(&mut world), (RoutePurpose::Improve, Span::from_seconds(300)));
    world.settle();
    assert!(world.cross_zone() < 0.1);
    let memory = &world.memory.hosts[&host_name()];
    assert_eq!((memory.unseen_since, memory.seen_since), (None, None));
}

#[test]
fn figures_that_were_away_for_less_are_acted_on_at_once() {
    let (mut world, demand) = unseen(39);
    (0..4).for_each(|_| assert!(world.cycle().write.is_none()));
    world.demand = demand;
    assert!(!matches!(world.cycle().report.reason, RouteReason::SeenAgain { .. }));
    let memory = &world.memory.hosts[&host_name()];
    assert_eq!((memory.unseen_since, memory.seen_since), (None, None));
}

#[test]
fn a_zone_above_its_capacity_does_not_wait_for_figures_to_have_been_back() {
    let (mut world, demand) = unseen(40);
    until_written(&mut world);
    while next_decay(&mut world) {}
    // The replicas of one zone are gone but one: an even share is more than it can do.
    world.replicas = vec![6, 6, 1];
    let Rule::Ours(table) = &mut world.rule else { panic!("no rule stands") };
    let row = Distribution::new((0..3).map(|at| (zone(at), [33, 33, 34][at])).collect()).unwrap();
    table.values_mut().for_each(|stood| *stood = row.clone());
    world.demand = demand.iter().map(|rate| rate * 3.0).collect();
    let mut written = None;
    for _ in 0..3 {
        written = written.or(world.cycle().write.map(|(purpose, ..)| purpose));
    }
    assert_eq!(written, Some(RoutePurpose::Improve));
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
