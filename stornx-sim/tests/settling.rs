//! What is settled stays as it is: once a scenario has had an hour and a half since its last event,
//! nothing is written and nothing moves, for as long as anybody watches. And what really
//! changes after that is followed.

// Helpers of a test may stop at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::panic)]

use stornx_core::units::{Percent, Rps, Span};
use stornx_sim::{
    builtin,
    experiment::{self, CycleRecord, Moment, PolicyName},
    scenario::{
        Scenario, Timespan,
        event::{Event, TrafficShift},
    },
};

/// Moves of one workload follow one another by some thirteen minutes (back-off, and a
/// wish that must last), and a handful of them may be worth it; some only once bundles of
/// others have arrived.
const SETTLING: Span = Span::from_seconds(5400);

/// The cycles of a run, each with what it did in words.
fn cycles(scenario: &Scenario, seed: u64) -> Vec<(CycleRecord, Vec<String>)> {
    assert!(scenario.problems().is_empty(), "{:?}", scenario.problems());
    let mut cycles = Vec::new();
    let mut watch = |moment: Moment<'_>| {
        if let Moment::Cycle { record, outcome, .. } = moment {
            let plan = outcome.planned.iter().flat_map(|planned| &planned.plan.actions);
            cycles.push((record, plan.map(ToString::to_string).collect()));
        }
    };
    experiment::run(scenario, PolicyName::Stornx, seed, &mut watch).unwrap();
    cycles
}

fn seconds(span: Span) -> Timespan {
    Timespan::from_seconds(span.as_millis() / 1000)
}

/// Runs a scenario for an hour and a half after its last event and for `quiet` cycles more, in
/// which nothing may be done.
fn stays_settled(name: &str, seed: u64, quiet: u64) {
    let mut scenario = builtin::find(name).unwrap();
    let ends = scenario.events.iter().map(|event| event.until().unwrap_or(event.at()));
    let settled = Span::from_millis(
        ends.max().map_or(0, |end| end.span().as_millis()) + SETTLING.as_millis(),
    );
    scenario.duration = Timespan::from_seconds(
        (settled.as_millis() + quiet * scenario.cycle.span().as_millis()) / 1000,
    );
    let cycles = cycles(&scenario, seed);
    let late: Vec<_> = cycles.iter().filter(|(record, _)| record.at >= settled).collect();
    assert!(late.len() as u64 >= quiet, "{name}: {} cycles", late.len());
    let acts: Vec<_> = late.iter().filter(|(record, _)| !record.quiet()).collect();
    assert!(acts.is_empty(), "{name}, seed {seed}: {acts:#?}");
}

#[test]
fn a_steady_world_is_left_alone() {
    stays_settled("steady", 11, 200);
}

#[test]
fn uneven_load_settles() {
    stays_settled("uneven-inbound", 11, 200);
}

#[test]
fn an_application_of_eleven_services_settles() {
    stays_settled("online-boutique", 11, 200);
}

#[test]
#[ignore = "a thousand cycles of every scenario take half an hour or more: cargo test -p stornx-sim --test settling -- --ignored"]
fn every_scenario_settles_for_a_thousand_cycles() {
    for seed in 11..=13 {
        for name in builtin::names() {
            stays_settled(name, seed, 1_000);
        }
    }
}

#[test]
fn a_change_after_a_long_rest_is_followed() {
    let mut scenario = builtin::find("uneven-inbound").unwrap();
    // Replicas may gather where the load is.
    scenario.policy.fault_tolerance.max_skew = 3;
    scenario.policy.fault_tolerance.survive = Percent::ZERO;
    let (shift, end) = (Span::from_seconds(2 * 3600), Span::from_seconds(3 * 3600));
    let rates = [("zone-a", 48.0), ("zone-b", 96.0), ("zone-c", 336.0)];
    scenario.events.push(Event::TrafficShift(TrafficShift {
        at: seconds(shift),
        over: Timespan::from_seconds(60),
        entry: None,
        rates: rates.map(|(zone, rate)| (zone.parse().unwrap(), Rps::saturating(rate))).into(),
    }));
    scenario.duration = seconds(end);
    let cycles = cycles(&scenario, 12);
    let acts = |from: Span, to: Span| {
        let within = cycles.iter().filter(|(record, _)| record.at >= from && record.at < to);
        within.fold((0, 0), |(moves, writes), (record, _)| {
            (moves + record.moves, writes + record.writes)
        })
    };
    assert_eq!(acts(SETTLING, shift), (0, 0));
    let (moves, writes) = acts(shift, end);
    // Begun and finished.
    assert!(moves >= 2 && writes > 0, "{moves} moves, {writes} writes");
}
