//! The search on a real production cluster, where its data is at hand.
//!
//! Long form: STORNX_SEARCH_STEPS=300000000 cargo test --release -p stornx-core --test
//! search_m3 -- --nocapture

mod search_support;

use search_support::{by_zone, kept, rasa, replay, today};
use stornx_core::search::{Found, Options, Problem, Weights, search, search_in_lanes};

/// Steps of a run in short form; the full bars are asked for from ten times as many.
const SHORT: u64 = 2_000_000;

fn steps() -> u64 {
    std::env::var("STORNX_SEARCH_STEPS").ok().and_then(|n| n.parse().ok()).unwrap_or(SHORT)
}

fn m3(keep_zones: bool) -> Option<Problem> {
    let path = rasa::m3();
    if path.is_none() {
        println!("SKIPPED: shared/data/rasa-m3.json is not here");
    }
    path.map(|path| rasa::read(&path, 3, keep_zones))
}

#[test]
fn worth_of_the_deployed_placement_is_the_published_one() {
    let Some(problem) = m3(false) else { return };
    assert!((kept(&problem, &today(&problem)).0 - 0.0700).abs() < 5e-5);
}

#[test]
fn one_list_of_moves_reaches_the_frontier() {
    let Some(problem) = m3(false) else { return };
    let options = Options { seed: 1, max_moves: Some(1_000), price: 0.0 };
    let found = search(&problem, options, steps(), &mut || false).unwrap();
    replay(&problem, &found.moves);
    let long = steps() >= 10 * SHORT;
    let bars = [(150, 0.40), (364, 0.56), (600, 0.70), (1_000, 0.83)];
    for (moves, bar) in bars {
        let reached = found.worth(moves);
        println!("{moves} moves: {reached:.4}, bar {bar}");
        let least = if long { bar } else { bar * 0.93 };
        assert!(reached >= least, "{moves} moves: {reached} of {least}");
    }
}

#[test]
fn zones_are_kept_and_both_worths_rise() {
    let Some(mut problem) = m3(true) else { return };
    problem.weights = Weights { machine: 0.5, zone: 0.5 };
    let options = Options { seed: 1, max_moves: Some(1_000), price: 0.0 };
    let found = search(&problem, options, steps(), &mut || false).unwrap();
    let (before, after) = (today(&problem), replay(&problem, &found.moves));
    let (first, last) = (kept(&problem, &before), kept(&problem, &after));
    println!("machine {:.4} -> {:.4}, zone {:.4} -> {:.4}", first.0, last.0, first.1, last.1);
    assert!(last.0 > first.0 + 0.4 && last.1 > first.1 + 0.1);
    for (before, after) in before.iter().zip(&after) {
        for (before, after) in by_zone(&problem, before).iter().zip(by_zone(&problem, after)) {
            assert!(*before == 0 || after > 0);
        }
    }
}

#[test]
fn same_seed_same_list_and_an_early_end_keeps_what_was_found() {
    let Some(problem) = m3(false) else { return };
    let options = Options { seed: 3, max_moves: None, price: 0.0 };
    let run = |steps| search(&problem, options, steps, &mut || false).unwrap();
    let short = run(steps() / 4);
    assert_eq!(short, run(steps() / 4));
    replay(&problem, &short.moves);
    // The first round takes 224,064 steps, asked about every 256 of them.
    let mut calls = 0;
    let mut cut = || {
        calls += 1;
        calls > 1_200
    };
    let cut = search(&problem, options, steps(), &mut cut).unwrap();
    replay(&problem, &cut.moves);
    assert!(cut.moves.len() > 100, "the first round was complete: {} moves", cut.moves.len());
}

#[test]
fn threads_change_nothing_in_the_result() {
    let Some(problem) = m3(false) else { return };
    let options = Options { seed: 4, max_moves: Some(300), price: 0.0 };
    let run = |lanes: usize, threads: usize| {
        let on_threads = |lane: &(dyn Fn(usize) -> Found + Sync)| {
            let mine = |first: usize| (first..lanes).step_by(threads).map(lane).collect();
            let by_thread: Vec<Vec<Found>> = std::thread::scope(|scope| {
                let started: Vec<_> =
                    (0..threads).map(|first| scope.spawn(move || mine(first))).collect();
                started.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            (0..lanes).map(|at| by_thread[at % threads][at / threads].clone()).collect()
        };
        search_in_lanes(&problem, options, steps() / 2, lanes, on_threads).unwrap()
    };
    let one = run(4, 1);
    assert_eq!(one, run(4, 2));
    assert_eq!(one, run(4, 7));
    replay(&problem, &one.moves);
    // One lane is the search itself.
    assert_eq!(run(1, 3), search(&problem, options, steps() / 2, &mut || false).unwrap());
}

/// A price leaves out what brings less: every move of a list under a price is worth it on
/// the mean of its bundle, and a higher price makes fewer moves.
#[test]
fn a_price_buys_fewer_and_better_moves() {
    let Some(problem) = m3(false) else { return };
    let run = |price| {
        let options = Options { seed: 5, max_moves: None, price };
        search(&problem, options, steps() / 2, &mut || false).unwrap()
    };
    let (cheap, dear) = (run(2e-4), run(2e-3));
    for (found, price) in [(&cheap, 2e-4), (&dear, 2e-3)] {
        replay(&problem, &found.moves);
        let all = found.moves.len();
        assert_eq!(found.best_prefix(all, price), all);
        println!("price {price}: {all} moves, {:.4}", found.worth(all));
    }
    let each =
        |found: &Found| (found.worth(found.moves.len()) - found.before) / found.moves.len() as f64;
    assert!(dear.moves.len() < cheap.moves.len() && each(&dear) > each(&cheap));
}
