//! Searches a better placement for the published data set M3 and prints the frontier:
//! how much traffic stays inside machines and zones after the first k moves.
//!
//! `cargo run --release -p stornx-core --example search_m3 -- [--steps N] [--moves N]
//! [--seed N] [--zones N] [--machine-weight W] [--zone-weight W] [--data FILE]`
//!
//! With `--zones N` every service keeps the zones that it has today.

#[path = "../tests/search_support/mod.rs"]
mod search_support;

use std::{collections::BTreeMap, path::PathBuf, time::Instant};

use search_support::{kept, rasa, replay, today};
use stornx_core::search::{Options, Weights, search};

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let flags: BTreeMap<&str, &str> = given
        .chunks(2)
        .filter_map(|pair| Some((pair.first()?.as_str(), pair.get(1)?.as_str())))
        .collect();
    let number = |flag: &str, default: f64| -> f64 {
        flags.get(flag).and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let Some(path) = flags.get("--data").map(PathBuf::from).or_else(rasa::m3) else {
        eprintln!("shared/data/rasa-m3.json is not here; name a file with --data");
        return;
    };
    let zones = number("--zones", 0.0) as usize;
    let mut problem = rasa::read(&path, zones.max(1), zones > 0);
    problem.weights =
        Weights { machine: number("--machine-weight", 1.0), zone: number("--zone-weight", 0.0) };
    let moves = number("--moves", 0.0) as usize;
    let options = Options {
        seed: number("--seed", 1.0) as u64,
        max_moves: (moves > 0).then_some(moves),
        price: 0.0,
    };
    let begun = Instant::now();
    let found = match search(&problem, options, number("--steps", 20e6) as u64, &mut || false) {
        Ok(found) => found,
        Err(problem) => {
            eprintln!("{problem}");
            return;
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    println!("{} moves in {seconds:.1} s", found.moves.len());
    let budgets =
        [0, 25, 50, 100, 150, 250, 364, 500, 600, 800, 1_000, 1_200, 1_500, found.moves.len()];
    for budget in budgets.into_iter().filter(|budget| *budget <= found.moves.len()) {
        let counts =
            if budget == 0 { today(&problem) } else { replay(&problem, &found.moves[..budget]) };
        let (machine, zone) = kept(&problem, &counts);
        println!("{budget:>5} moves: machine {machine:.4}  zone {zone:.4}");
    }
}
