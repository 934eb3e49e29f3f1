//! What a plan takes with one budget of the search for bundles after the other.
//!
//! The budget is `MOVE_SEARCH_STEPS`: steps and not seconds, so that the same input gives
//! the same plan. This table says what steps are in time on the machine that it runs on.

use super::{
    Clock, SEED,
    run::{Kind, Run},
};

const BUDGETS: [u32; 5] = [0, 20_000, 40_000, 80_000, 160_000];

/// Of each budget the best of so many.
const ROUNDS: usize = 3;

pub(crate) fn compare(size: f64) {
    println!("{:>8} {:>12} {:>12}", "steps", "first, ms", "later, ms");
    for steps in BUDGETS {
        let [first, later] = [Kind::First, Kind::Later].map(|kind| {
            let run = Run::searching(size, kind, SEED, steps);
            let round = |_| {
                let start = Clock::start();
                std::hint::black_box(run.only_plan());
                start.milliseconds()
            };
            (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
        });
        println!("{steps:>8} {first:>12.1} {later:>12.1}");
    }
}
