//! What a plan and its check cost, and how that grows with the cluster.
//!
//! `cargo bench -p stornx-core --bench plan` plans clusters of an eighth, a quarter, a
//! half and the whole of the published limits of Kubernetes (5,000 nodes, 150,000 pods)
//! with 10,000 workloads and 50,000 edges, and prints processor times and growth, for each of
//!
//! | run | what it adds |
//! | --- | --- |
//! | `first` | nothing is remembered: moves are wished for, none begins |
//! | `later` | a wish that was remembered is confirmed: moves are chosen and begin |
//! | `probed` | as `later`, and each node measures round trips to 32 others |
//! | `all-pairs` | as `later`, and each node measures round trips to every other |
//!
//! Instructions do not depend on the machine's load; one plan and one check of one size
//! and seed under callgrind count them (the path of the bench is printed by `cargo bench
//! --no-run`; what came of it is in `docs/performance.md`):
//!
//! `--gate` does so for a small size and compares with the committed figures.
//!
//! `--count` prints the counts of all sizes, and `--plot` draws those that are committed.
//! `--service` compares with the rule that this product began with. `--steps N` sets
//! `MOVE_SEARCH_STEPS` for the table and for `--once`; `--budgets` prints what a plan takes
//! with one budget after the other, and how many steps were taken of each.
//!
//! ```text
//! valgrind --tool=callgrind --callgrind-out-file=plan.out \
//!     --toggle-collect='*only_plan*' --toggle-collect='*only_check*' \
//!     target/release/deps/plan-* --once 0.25 later 7
//! callgrind_annotate --inclusive=yes plan.out | grep only_
//! ```

// A bench may stop at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::panic)]
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod budgets;
mod cluster;
mod counted;
mod gate;
mod plot;
mod run;
mod service;

use std::{collections::BTreeMap, process::ExitCode, time::Instant};

use run::{Kind, Run};
use stornx_core::plan::Planned;

/// Of the cluster, where none is named.
const SEED: u64 = 7;

const SIZES: [f64; 4] = [0.125, 0.25, 0.5, 1.0];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |name: &str| arguments.iter().any(|argument| argument == name);
    if asked("--gate") {
        return counted::gate();
    }
    if asked("--count") {
        return counted::all();
    }
    if asked("--plot") {
        return plot::draw();
    }
    if asked("--service") {
        return service::compare();
    }
    let after = |name: &str| arguments.iter().position(|a| a == name).map(|at| at + 1);
    if let Some(at) = after("--budgets") {
        let size = arguments.get(at).and_then(|size| size.parse().ok()).unwrap_or(1.0);
        budgets::compare(size);
        return ExitCode::SUCCESS;
    }
    let steps = after("--steps").map(|at| arguments[at].parse().unwrap());
    match after("--once") {
        Some(at) => once(&arguments[at..], steps),
        None => [Kind::First, Kind::Later, Kind::Probed]
            .into_iter()
            .for_each(|kind| compare_sizes(kind, steps)),
    }
    ExitCode::SUCCESS
}

/// One plan and one check. Prints what a plan with the same bytes prints again.
fn once(arguments: &[String], steps: Option<u32>) {
    let size = arguments.first().and_then(|size| size.parse().ok()).unwrap_or(1.0);
    let kind = arguments.get(1).map_or(Kind::First, |name| Kind::named(name).unwrap());
    let seed = arguments.get(2).and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    let times = arguments.get(3).and_then(|times| times.parse().ok()).unwrap_or(1);
    let run = run_of(size, kind, seed, steps);
    for _ in 1..times {
        run.only_plan();
    }
    let planned = run.only_plan();
    assert_eq!(run.only_check(&planned), []);
    std::hint::black_box(run.only_remember(&planned));
    println!("size {size}, {kind:?}: {}", described(&planned));
}

fn run_of(size: f64, kind: Kind, seed: u64, steps: Option<u32>) -> Run {
    match steps {
        Some(steps) => Run::searching(size, kind, seed, steps),
        None => Run::new(size, kind, seed),
    }
}

fn described(planned: &Planned) -> String {
    let mut counts = BTreeMap::new();
    for action in &planned.plan.actions {
        *counts.entry(action.kind()).or_insert(0) += 1;
    }
    // FNV-1a.
    let hash = format!("{planned:?}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    format!("{counts:?}, bytes {hash:016x}")
}

fn compare_sizes(kind: Kind, steps: Option<u32>) {
    println!("\n{kind:?}");
    println!(
        "{:>6} {:>7} {:>9} {:>7} {:>8} {:>9} {:>7} {:>9} {:>7} {:>11}",
        "nodes",
        "pods",
        "workloads",
        "edges",
        "actions",
        "plan ms",
        "growth",
        "check ms",
        "growth",
        "remember ms"
    );
    let mut before: Option<(f64, f64)> = None;
    for size in SIZES {
        let run = run_of(size, kind, SEED, steps);
        let (mut plan_ms, mut check_ms, mut actions) = (f64::INFINITY, f64::INFINITY, 0);
        let mut remember_ms = f64::INFINITY;
        for _ in 0..5 {
            let start = Clock::start();
            let planned = run.only_plan();
            plan_ms = plan_ms.min(start.milliseconds());
            actions = planned.plan.actions.len();
            let start = Clock::start();
            assert_eq!(run.only_check(&planned), []);
            check_ms = check_ms.min(start.milliseconds());
            let start = Clock::start();
            std::hint::black_box(run.only_remember(&planned));
            remember_ms = remember_ms.min(start.milliseconds());
        }
        let growth = |now: f64, before: Option<f64>| {
            before.map_or_else(String::new, |before| format!("{:.2}", now / before))
        };
        let snapshot = run.snapshot();
        println!(
            "{:>6} {:>7} {:>9} {:>7} {actions:>8} {plan_ms:>9.1} {:>7} {check_ms:>9.1} {:>7} {remember_ms:>11.1}",
            snapshot.nodes.len(),
            snapshot.workloads.iter().map(|w| w.pods.len()).sum::<usize>(),
            snapshot.workloads.len(),
            snapshot.traffic.fresh().map_or(0, |t| t.edges.len()),
            growth(plan_ms, before.map(|before| before.0)),
            growth(check_ms, before.map(|before| before.1)),
        );
        before = Some((plan_ms, check_ms));
    }
}

/// The processor time of this thread, which others that run on the machine do not add to;
/// the wall clock where the kernel does not tell.
struct Clock {
    processor: Option<u64>,
    wall: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { processor: processor_nanoseconds(), wall: Instant::now() }
    }

    fn milliseconds(&self) -> f64 {
        match (self.processor, processor_nanoseconds()) {
            (Some(before), Some(now)) => (now - before) as f64 / 1e6,
            _ => self.wall.elapsed().as_secs_f64() * 1000.0,
        }
    }
}

fn processor_nanoseconds() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}
