//! How many hops the simulator makes in a second on one core. A hop is one call of one
//! service by its caller, from the choice of the replica to the answer; the entry of a
//! user is one.
//!
//! `cargo bench -p stornx-sim --bench hops` prints a table, best of five rounds: the
//! machine may be busy with other things. With `--once SCENARIO POLICY MINUTES` one run is
//! made and its hops printed, so that callgrind can count its instructions.

// The whole file is a program for measuring; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use stornx_sim::{
    builtin,
    experiment::{PolicyName, run},
    scenario::Timespan,
};

const ROUNDS: usize = 5;

fn hops(name: &str, policy: PolicyName, minutes: Option<u64>) -> u64 {
    let mut scenario = builtin::find(name).unwrap();
    if let Some(minutes) = minutes {
        scenario.duration = Timespan::from_seconds(60 * minutes);
    }
    run(&scenario, policy, 1, &mut |_| {}).unwrap().hops
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--once") {
        let [name, policy, minutes] = &arguments[at + 1..at + 4] else { return };
        let minutes = Some(minutes.parse().unwrap());
        println!("{} hops", hops(name, policy.parse().unwrap(), minutes));
        return;
    }
    println!("scenario             policy      hops, million   million hops/s");
    for name in builtin::names() {
        for policy in [PolicyName::Random, PolicyName::Stornx] {
            let (mut best, mut count) = (f64::INFINITY, 0);
            for _ in 0..ROUNDS {
                let begun = Instant::now();
                count = hops(name, policy, None);
                best = best.min(begun.elapsed().as_secs_f64());
            }
            let million = count as f64 / 1e6;
            println!("{name:<20} {policy:<11} {million:13.2} {:16.2}", million / best);
        }
    }
}
