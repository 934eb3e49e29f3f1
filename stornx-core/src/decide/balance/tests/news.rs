//! Cycles that come faster than figures: each step of a host has figures of its own.

use std::collections::BTreeMap;

use super::{
    uneven,
    world::{World, host_name},
};
use crate::{
    check, decide,
    ids::HostName,
    memory::HostMemory,
    model::{Rollout, Rule},
    plan::{Action, RoutePurpose},
    remember::remember,
    report::RouteReason,
    testing::random_case,
    units::{Span, Timestamp},
};

fn earlier(at: Timestamp, span: Span) -> Timestamp {
    Timestamp::from_millis(at.as_millis() - span.as_millis())
}

/// A world that has just made the first step of several.
fn stepped(seed: u64) -> World {
    let mut world = uneven(3, 0.3, seed);
    while world.cycle().write.is_none() {}
    world
}

/// Replicas come and go within seconds then, and figures lag.
#[test]
fn a_rollout_is_followed_as_fast_as_replicas_change() {
    // Two of three replicas at 50 %: one of them would be full.
    let mut world = World::new(&[2, 2, 2], &[100.0, 100.0, 100.0], 10.0, 40);
    world.settle();
    world.rollout = Rollout::InProgress;
    let written = world.now;
    for at in 1..=3 {
        world.now = written.after(Span::from_millis(500 * at));
        world.lag = Span::from_seconds(10);
        let write = world.cycle().write.map(|(purpose, ..)| purpose);
        assert_eq!(write, Some(RoutePurpose::Rollout), "write {at}");
    }
}

#[test]
fn the_same_figures_are_not_acted_on_twice() {
    let mut world = stepped(51);
    let (next, written) = (world.now, earlier(world.now, Span::from_seconds(60)));
    for (now, lag, steps) in [
        // Half a second later, before anything new was counted.
        (written.after(Span::from_millis(500)), 500, false),
        (written.after(Span::from_millis(500)), 499, true),
        // A minute later, the metrics have stopped at the write.
        (next, 60_000, false),
        (next, 59_999, true),
    ] {
        let (memory, rule) = (world.memory.clone(), world.rule.clone());
        (world.now, world.lag) = (now, Span::from_millis(lag));
        let cycle = world.cycle();
        assert_eq!(cycle.write.is_some(), steps, "{lag} ms old");
        assert_eq!(cycle.report.reason == RouteReason::SeenAlready, !steps, "{lag} ms old");
        (world.memory, world.rule) = (memory, rule);
    }
}

#[test]
fn a_zone_is_named_whatever_is_known() {
    let mut world = stepped(52);
    world.now = earlier(world.now, Span::from_millis(59_500));
    world.lag = Span::from_millis(500);
    let Rule::Ours(table) = &mut world.rule else { panic!("a rule of ours stands") };
    table.pop_first();
    let (purpose, _, to) = world.cycle().write.expect("a caller without a row");
    assert_eq!((purpose, to.len()), (RoutePurpose::Cover, 3));
}

#[test]
fn without_figures_steps_keep_a_distance() {
    let mut world = uneven(3, 0.2, 53);
    world.settle();
    world.metrics = false;
    while world.cycle().write.is_none() {}
    let written = world.memory.hosts[&host_name()].written_at.unwrap();
    for (after, steps) in [(14_999, false), (15_000, true)] {
        world.now = written.after(Span::from_millis(after));
        assert_eq!(world.cycle().write.is_some(), steps, "after {after} ms");
    }
}

/// However many cycles a second has, no host makes two steps on one set of figures.
#[test]
fn a_second_of_cycles_is_one_step() {
    let (mut stepped, mut covered) = (0, 0);
    for seed in 0..150 {
        let case = random_case(seed);
        let (mut snapshot, policy) = (case.snapshot, case.policy);
        snapshot.memory = case.memory;
        let mut steps: BTreeMap<HostName, u32> = BTreeMap::new();
        for cycle in 0..4 {
            let now = case.now.after(Span::from_millis(250 * cycle));
            let planned = decide::plan(&snapshot, &policy, &snapshot.memory, now);
            assert_eq!(check::check(&snapshot, &policy, &snapshot.memory, &planned), [], "{seed}");
            for action in &planned.plan.actions {
                let Action::SetRoutes { host, to, purpose, .. } = action else { continue };
                let found = snapshot.hosts.iter_mut().find(|found| found.name == *host).unwrap();
                found.rule = Rule::Ours(to.clone());
                match purpose {
                    RoutePurpose::Cover => covered += 1,
                    // Rests on who is ready, not on figures.
                    RoutePurpose::Rollout => {}
                    _ => *steps.entry(host.clone()).or_default() += 1,
                }
            }
            let done = planned.plan.actions.iter().map(|_| Ok(())).collect();
            let memory = std::mem::take(&mut snapshot.memory);
            snapshot.memory = remember(memory, &snapshot, &planned, &done, &policy, now);
        }
        assert!(steps.values().all(|steps| *steps == 1), "seed {seed}: {steps:?}");
        stepped += steps.len();
    }
    println!("{stepped} hosts made a step, {covered} were covered");
    assert!(stepped > 40 && covered > 20, "{stepped} {covered}");
}

#[test]
fn a_memory_of_before_is_still_read() {
    let old: HostMemory = serde_json::from_str(r#"{"writtenAt":1000}"#).unwrap();
    assert_eq!((old.written_at, old.refused_at), (Some(Timestamp::from_millis(1000)), None));
}
