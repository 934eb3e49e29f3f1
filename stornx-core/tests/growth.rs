//! A plan and its check take time in proportion to the cluster.
//!
//! What is held here is the ratio of two sizes within one run, with room for a busy
//! machine and for what another load does to caches: it finds work that grows with the
//! square of the cluster, not a few per cent. The exact figures are counts of
//! instructions, in `docs/performance.md`.

// A cluster that cannot be made fails the test.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
#![allow(clippy::cast_precision_loss, clippy::cast_sign_loss)]

#[path = "../benches/plan/cluster.rs"]
mod cluster;
#[path = "../benches/plan/run.rs"]
mod run;

use std::time::{Duration, Instant};

use run::{Kind, Run};

/// 625 nodes, 18,750 replicas, and an eighth of that.
const LARGE: f64 = 0.125;
const TIMES: f64 = 8.0;

/// Eight times the cluster may take so many times as long. The bar of the design, 2.3
/// for each doubling, is 12; work with the square takes up to 64.
const MOST: f64 = 18.0;

/// The best of so many runs counts: what else runs on the machine only ever adds.
const ROUNDS: usize = 8;

/// The least that a plan and its check take.
struct Best {
    run: Run,
    plan: Duration,
    check: Duration,
}

impl Best {
    fn new(size: f64) -> Self {
        let run = Run::new(size, Kind::Later, 7);
        Self { run, plan: Duration::MAX, check: Duration::MAX }
    }

    fn measure(&mut self) {
        let start = Instant::now();
        let planned = self.run.only_plan();
        self.plan = self.plan.min(start.elapsed());
        let start = Instant::now();
        assert_eq!(self.run.only_check(&planned), []);
        self.check = self.check.min(start.elapsed());
    }
}

#[test]
fn a_plan_and_its_check_grow_with_the_cluster_and_not_with_its_square() {
    let (mut small, mut large) = (Best::new(LARGE / TIMES), Best::new(LARGE));
    let growth = |small: Duration, large: Duration| large.as_secs_f64() / small.as_secs_f64();
    for _ in 0..ROUNDS {
        small.measure();
        large.measure();
    }
    let (plan, check) = (growth(small.plan, large.plan), growth(small.check, large.check));
    assert!(
        plan <= MOST,
        "a plan of a cluster {TIMES} times as large takes {plan:.1} times as long"
    );
    assert!(check <= MOST, "its check takes {check:.1} times as long");
}
