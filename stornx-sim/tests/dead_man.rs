//! Without metrics, weights return step by step to the replica-proportional split, cover
//! every zone all the time, and a daemon that starts anew meanwhile goes on from the rule
//! that stands.

// Everything here is test code, helpers included.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;

use stornx_core::{
    engine::{Engine, EngineOptions, Ports},
    ids::HostName,
    memory::Memory,
    model::{RouteTable, Rule},
    plan::{Action, RoutePurpose},
    ports::StateStore,
    units::Span,
};
use stornx_sim::{builtin, world::SimWorld};

/// Of the scenario: Prometheus does not answer from then on.
const OUTAGE: u64 = 12;
/// And answers again.
const ANSWERS: u64 = 22;

/// A write of routes and the minute that it was done in.
struct Write {
    minute: u64,
    host: HostName,
    from: RouteTable,
    to: RouteTable,
    purpose: RoutePurpose,
}

fn engine(world: &Arc<SimWorld>) -> Engine {
    let ports = Ports {
        cluster: world.clone(),
        metrics: world.clone(),
        actuator: world.clone(),
        store: world.clone(),
        leader: world.clone(),
        clock: world.clone(),
    };
    let scenario = builtin::find("metrics-outage").unwrap();
    Engine::new(ports, scenario.policy, EngineOptions::default())
}

fn covers(world: &SimWorld, minute: u64) {
    for host in world.endpoints().keys() {
        let Some(Rule::Ours(table)) = world.rule(host) else { continue };
        assert_eq!(table.len(), 3, "minute {minute}: {host}");
        let whole = table.values().all(|row| row.iter().count() == 3);
        assert!(whole, "minute {minute}: {host} {table:?}");
    }
}

/// Runs the scenario to a minute; `before_cycle` may do something to the daemon.
fn run(
    until: u64,
    mut before_cycle: impl FnMut(u64, &Arc<SimWorld>, &mut Engine),
) -> (Arc<SimWorld>, Vec<Write>) {
    let scenario = builtin::find("metrics-outage").unwrap();
    let world = Arc::new(SimWorld::new(&scenario, 1).unwrap());
    let mut engine = engine(&world);
    let mut writes = Vec::new();
    for minute in 1..=until {
        world.advance_to(SimWorld::start().after(Span::from_seconds(60 * minute)));
        before_cycle(minute, &world, &mut engine);
        let outcome = pollster::block_on(engine.cycle());
        assert_eq!(outcome.violations, [], "minute {minute}");
        for action in outcome.planned.into_iter().flat_map(|planned| planned.plan.actions) {
            if let Action::SetRoutes { host, from, to, purpose, .. } = action {
                writes.push(Write { minute, host, from, to, purpose });
            }
        }
        covers(&world, minute);
    }
    (world, writes)
}

/// The first minute in which weights decay, all that holds of every step checked.
fn decays(writes: &[Write], until: u64) -> u64 {
    let blind = |write: &&Write| (OUTAGE + 1..=until.min(ANSWERS)).contains(&write.minute);
    let steps: Vec<_> = writes.iter().filter(blind).collect();
    for write in &steps {
        assert_eq!(write.purpose, RoutePurpose::Decay, "minute {}", write.minute);
        for (caller, next) in &write.to {
            for (zone, weight) in next.iter() {
                let moved = write.from[caller].weight(zone).abs_diff(weight);
                assert!(moved <= 20, "minute {}: {moved} points", write.minute);
            }
        }
        // What was written last for the host is what stands, and what is begun from.
        let earlier = writes.iter().filter(|w| w.host == write.host && w.minute < write.minute);
        let last = earlier.max_by_key(|earlier| earlier.minute).expect("weights stood");
        assert_eq!(last.to, write.from, "minute {}", write.minute);
    }
    steps.iter().map(|write| write.minute).min().expect("weights decay")
}

/// How far the weights of a host are from two replicas in each zone, the largest route.
fn from_even(world: &SimWorld) -> u8 {
    let hosts = world.endpoints();
    let tables = hosts.keys().filter_map(|host| match world.rule(host) {
        Some(Rule::Ours(table)) => Some((&hosts[host], table)),
        _ => None,
    });
    let off = tables.flat_map(|(replicas, table)| {
        let all: u32 = replicas.values().sum();
        let rows = table.into_values().flat_map(move |row| {
            let cells: Vec<_> = row.iter().map(|(zone, weight)| (zone.clone(), weight)).collect();
            cells
        });
        rows.map(move |(zone, weight)| {
            let even = 100 * replicas.get(&zone).copied().unwrap_or(0) / all;
            weight.abs_diff(u8::try_from(even).unwrap())
        })
    });
    off.max().expect("weights stand")
}

#[test]
fn weights_decay_in_steps_and_come_back_with_the_metrics() {
    let mut before = 0;
    let mut blind = 0;
    let (_, writes) = run(32, |minute, world, _| match minute {
        OUTAGE => before = from_even(world),
        ANSWERS => blind = from_even(world),
        _ => {}
    });
    let first = decays(&writes, ANSWERS);
    // The cycle of minute 12 is the first without an answer, 300 s later is minute 17.
    assert!((17..=19).contains(&first), "minute {first}");
    assert!(before > 20, "there was something to take back: {before}");
    assert!(blind <= 3, "{blind} points from the replicas");
    let later = writes.iter().filter(|write| write.minute > ANSWERS);
    assert!(later.into_iter().any(|write| write.purpose == RoutePurpose::Improve));
}

#[test]
fn a_daemon_that_starts_anew_goes_on_from_the_rule() {
    // Started anew in every minute of the outage: as if it had never stopped.
    let (world, writes) = run(ANSWERS, |minute, world, daemon| {
        if minute > OUTAGE {
            *daemon = engine(world);
        }
    });
    assert!((17..=19).contains(&decays(&writes, ANSWERS)));
    assert!(from_even(&world) <= 3);

    // Its memory is lost as well, in the middle of the decay: it waits the whole time
    // again, and what it then goes on from is what stands.
    let (_, writes) = run(ANSWERS, |minute, world, daemon| {
        if minute == 18 {
            *daemon = engine(world);
            pollster::block_on(StateStore::save(&**world, &Memory::default())).unwrap();
        }
    });
    decays(&writes, ANSWERS);
    assert!(writes.iter().all(|write| !(18..=22).contains(&write.minute)));
}
