//! Traffic that wanders from zone to zone, for as long as anybody watches: replicas follow
//! it, no move goes back to where the last one of its workload came from within the
//! back-off, and nothing of any move is left over.
//!
//! Long form: `STORNX_WANDER_CYCLES=10000 cargo test --release -p stornx-sim --test wandering`.

// Helpers of a test may stop at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use stornx_core::{
    ids::{NodeName, WorkloadRef},
    plan::Action,
    report::{MoveWhy, Why},
    units::{Percent, Rps, Span, Timestamp},
};
use stornx_sim::{
    builtin,
    experiment::{self, Moment, PolicyName},
    scenario::{
        Scenario, Timespan,
        event::{Event, TrafficShift},
    },
};

/// How often most of the traffic enters another zone.
const SHIFT: u64 = 40 * 60;

/// The traffic of `traffic-shift`, with most of it entering one zone after the other.
fn wandering(cycles: u64) -> Scenario {
    let mut scenario = builtin::find("traffic-shift").unwrap();
    // Replicas may gather where the load is.
    scenario.policy.fault_tolerance.max_skew = 3;
    scenario.policy.fault_tolerance.survive = Percent::ZERO;
    let seconds = cycles * scenario.cycle.span().as_millis() / 1000;
    let zones = ["zone-a", "zone-b", "zone-c"];
    let shift = |number: u64| {
        let busy = usize::try_from(number % 3).unwrap();
        let rate = |at: usize| Rps::saturating(if at == busy { 120.0 } else { 6.0 });
        Event::TrafficShift(TrafficShift {
            at: Timespan::from_seconds(number * SHIFT),
            over: Timespan::from_seconds(60),
            entry: None,
            rates: zones.iter().enumerate().map(|(at, z)| (z.parse().unwrap(), rate(at))).collect(),
        })
    };
    scenario.events = (0..seconds / SHIFT).map(shift).collect();
    scenario.duration = Timespan::from_seconds(seconds);
    assert!(scenario.problems().is_empty(), "{:?}", scenario.problems());
    scenario
}

#[derive(Default)]
struct Seen {
    cycles: u64,
    begun: u64,
    taken_back: u64,
    closed: u64,
    /// Where the last move of each workload came from, and when it began.
    last: BTreeMap<WorkloadRef, (NodeName, Timestamp)>,
    back_too_soon: Vec<String>,
    in_flight: usize,
    intents: usize,
}

impl Seen {
    fn note(&mut self, action: &Action, why: &Why, at: Timestamp, backoff: Span) {
        match action {
            Action::StartMove { workload, from, to, .. } => {
                self.begun += 1;
                let undo = matches!(why, Why::Move(MoveWhy::Undo { .. }));
                self.taken_back += u64::from(undo);
                let before = self.last.insert(workload.clone(), (from.clone(), at));
                if let Some((came_from, began)) = before
                    && !undo
                    && came_from == *to
                    && at.since(began) < backoff
                {
                    self.back_too_soon.push(action.to_string());
                }
            }
            Action::CloseMove { .. } => self.closed += 1,
            _ => {}
        }
    }
}

#[test]
fn replicas_follow_wandering_traffic_and_nothing_is_left_over() {
    let cycles = match std::env::var("STORNX_WANDER_CYCLES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 240,
    };
    let scenario = wandering(cycles);
    let backoff = scenario.policy.moves.backoff;
    let mut seen = Seen::default();
    let mut watch = |moment: Moment<'_>| {
        let Moment::Cycle { outcome, .. } = moment else { return };
        seen.cycles += 1;
        let Some(planned) = &outcome.planned else { return };
        let reasons = planned.report.actions.iter().map(|report| &report.why);
        for ((action, why), result) in
            planned.plan.actions.iter().zip(reasons).zip(&outcome.outcomes)
        {
            if result.is_ok() {
                seen.note(action, why, outcome.at, backoff);
            }
        }
        let memories = || outcome.memory.iter().flat_map(|memory| memory.workloads.values());
        seen.in_flight = memories().filter(|one| one.in_flight.is_some()).count();
        seen.intents = memories().map(|one| one.intents.len()).sum();
    };
    experiment::run(&scenario, PolicyName::Stornx, 21, &mut watch).unwrap();
    println!(
        "{} cycles: {} moves begun, {} closed, {} of them taken back; {} back too soon; left \
         over: {} records, {} intents",
        seen.cycles,
        seen.begun,
        seen.closed,
        seen.taken_back,
        seen.back_too_soon.len(),
        seen.in_flight,
        seen.intents
    );
    assert!(seen.cycles >= cycles && seen.begun > 0, "nothing was seen");
    assert_eq!(seen.back_too_soon, [] as [String; 0]);
    assert_eq!((seen.closed, seen.in_flight, seen.intents), (seen.begun, 0, 0));
}
