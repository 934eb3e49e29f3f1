//! One service over 3 to 300 nodes, against the rule that this product began with.
//!
//! That rule knows a route for each pair of nodes. The weight of each is a product of
//! shares (of the latencies, replicas and requests of all destinations), and each share is
//! summed anew for each route: it takes time with the cube of the nodes. Written here as it
//! was, in the language of the product, so that one run on one machine compares the two.
//! Measured of the product is the whole plan, not the weights alone.

use std::{hint::black_box, process::ExitCode};

use super::{Clock, run::Run};

const NODES: [usize; 6] = [3, 10, 30, 100, 200, 300];

/// Times that the plan must be faster, at so many nodes. The rule as it was first written
/// took 18 ms for 100 nodes; here it is compiled, and what a plan does besides weights
/// counts.
const FASTER: [(usize, f64); 2] = [(100, 10.0), (300, 100.0)];

/// Ticks of the kernel are up to ten milliseconds.
const ENOUGH_MS: f64 = 200.0;

/// What the classic rule knows of a destination.
struct Destination {
    replicas: f64,
    requests: f64,
    p95: f64,
}

fn share(values: &[f64], at: usize) -> f64 {
    let values = black_box(values);
    values[at] / values.iter().sum::<f64>()
}

/// The weights of all routes, in per cent.
fn classic(latency: &[Vec<f64>], to: &[Destination], threshold: f64) -> Vec<Vec<f64>> {
    let replicas: Vec<f64> = to.iter().map(|to| to.replicas).collect();
    let requests: Vec<f64> = to.iter().map(|to| to.requests / to.replicas).collect();
    let row = |latency: &Vec<f64>| {
        let score = |at: usize| {
            let penalty = (to[at].p95 / threshold).log10().clamp(0.0, 1.0);
            (1.0 - penalty)
                * (1.0 - share(latency, at))
                * share(&replicas, at)
                * (1.0 - share(&requests, at))
        };
        let scores: Vec<f64> = (0..to.len()).map(score).collect();
        (0..to.len()).map(|at| 100.0 * share(&scores, at)).collect()
    };
    latency.iter().map(row).collect()
}

/// Microseconds of processor time that work takes, on the mean of so many rounds that the
/// clock of the kernel can tell.
fn mean<T>(mut work: impl FnMut() -> T) -> f64 {
    black_box(work());
    let (clock, mut rounds) = (Clock::start(), 0.0);
    loop {
        black_box(work());
        rounds += 1.0;
        let milliseconds = clock.milliseconds();
        if milliseconds > ENOUGH_MS {
            return milliseconds * 1000.0 / rounds;
        }
    }
}

/// Prints the table; fails where the plan is not so much faster.
pub(crate) fn compare() -> ExitCode {
    println!("{:>6} {:>12} {:>12} {:>8}", "nodes", "classic us", "plan us", "times");
    let mut code = ExitCode::SUCCESS;
    for nodes in NODES {
        let latency: Vec<Vec<f64>> = (0..nodes)
            .map(|from| (0..nodes).map(|to| if from % 3 == to % 3 { 0.2 } else { 0.9 }).collect())
            .collect();
        let to: Vec<Destination> = (0..nodes)
            .map(|at| Destination { replicas: 1.0, requests: 20.0 + (at % 7) as f64, p95: 20.0 })
            .collect();
        let classic = mean(|| classic(black_box(&latency), black_box(&to), 100.0));
        let run = Run::of_one_service(nodes);
        let plan = mean(|| run.only_plan());
        let times = classic / plan;
        println!("{nodes:>6} {classic:>12.1} {plan:>12.1} {times:>8.1}");
        let wanted = FASTER.iter().find(|(at, _)| *at == nodes).map_or(0.0, |(_, times)| *times);
        if times < wanted {
            println!("       at least {wanted} times were wanted");
            code = ExitCode::FAILURE;
        }
    }
    code
}
