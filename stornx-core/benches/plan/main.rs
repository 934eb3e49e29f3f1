//! What a plan costs, and how that grows with the cluster.
//!
//! `cargo bench -p stornx-core --bench plan` plans clusters of an eighth, a quarter, a
//! half and the whole of the published limits of Kubernetes (5,000 nodes, 150,000 pods)
//! with 10,000 workloads and 50,000 edges, and prints time and growth.
//!
//! Instructions do not depend on the machine's load; one plan of one size under
//! callgrind counts them (the path of the bench is printed by `cargo bench --no-run`):
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='stornx_core::decide::plan' \
//!     target/release/deps/plan-* --once 0.25
//! ```

// A bench may stop at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod cluster;

use std::time::Instant;

use stornx_core::{check::check, decide::plan, memory::Memory, policy::Policy};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let once = arguments.iter().position(|argument| argument == "--once");
    match once.and_then(|at| arguments.get(at + 1)).and_then(|size| size.parse().ok()) {
        Some(size) => plan_once(size),
        None => compare_sizes(),
    }
}

fn plan_once(size: f64) {
    let (snapshot, now) = cluster::of_size(size);
    let planned = plan(&snapshot, &Policy::default(), &Memory::default(), now);
    println!("size {size}: {} actions", planned.plan.actions.len());
}

fn compare_sizes() {
    println!(
        "{:>6} {:>7} {:>8} {:>9} {:>7} {:>10} {:>7}",
        "nodes", "pods", "workloads", "edges", "actions", "plan ms", "growth"
    );
    let mut before: Option<f64> = None;
    for size in [0.125, 0.25, 0.5, 1.0] {
        let (snapshot, now) = cluster::of_size(size);
        let policy = Policy::default();
        let mut best = f64::INFINITY;
        let mut actions = 0;
        for _ in 0..5 {
            let start = Instant::now();
            let planned = plan(&snapshot, &policy, &Memory::default(), now);
            best = best.min(start.elapsed().as_secs_f64() * 1000.0);
            actions = planned.plan.actions.len();
            assert!(check(&snapshot, &policy, &Memory::default(), &planned).is_empty());
        }
        let growth = before.map_or_else(String::new, |before| format!("{:.2}", best / before));
        println!(
            "{:>6} {:>7} {:>8} {:>9} {:>7} {best:>10.1} {growth:>7}",
            snapshot.nodes.len(),
            snapshot.workloads.iter().map(|w| w.pods.len()).sum::<usize>(),
            snapshot.workloads.len(),
            snapshot.traffic.fresh().map_or(0, |t| t.edges.len()),
            actions,
        );
        before = Some(best);
    }
}
