//! In ambient mode without a waypoint nothing is written, unless a caller has a proxy.

use super::{uneven, world::World};
use crate::{model::Rule, plan::RoutePurpose, report::RouteReason};

fn ztunnel_only() -> World {
    let mut world = uneven(3, 0.3, 60);
    world.ztunnel_only = true;
    world
}

#[test]
fn what_nobody_reads_is_not_written_and_named() {
    for metrics in [true, false] {
        let mut world = ztunnel_only();
        world.metrics = metrics;
        for _ in 0..5 {
            let cycle = world.cycle();
            assert_eq!((cycle.report.reason, cycle.write), (RouteReason::NoWaypoint, None));
        }
    }
}

#[test]
fn a_caller_with_a_proxy_reads_rules() {
    let mut world = ztunnel_only();
    world.proxied = true;
    world.settle();
    assert!(matches!(world.rule, Rule::Ours(_)));
}

#[test]
fn what_stands_when_a_waypoint_goes_decays_once_nothing_is_seen_of_it() {
    let mut world = uneven(3, 0.3, 61);
    world.settle();
    (world.ztunnel_only, world.demand) = (true, vec![0.0; 3]);
    for _ in 0..5 {
        assert_eq!(world.cycle().report.reason, RouteReason::NoWaypoint);
    }
    assert_eq!(world.cycle().write.unwrap().0, RoutePurpose::Decay);
}

#[test]
fn what_stands_when_a_waypoint_goes_is_kept_whole() {
    let mut world = uneven(3, 0.3, 60);
    world.zones = 2;
    world.settle();
    world.ztunnel_only = true;
    assert_eq!(world.cycle().report.reason, RouteReason::NoWaypoint);
    world.zones = 3;
    let (purpose, ..) = world.cycle().write.unwrap();
    assert_eq!(purpose, RoutePurpose::Cover);
    assert_eq!(world.cycle().report.reason, RouteReason::NoWaypoint);
}
