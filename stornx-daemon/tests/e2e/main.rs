//! The daemon, end to end: the real program against a real API server, scheduler,
//! controllers and Prometheus, under exactly the rights that `deploy/rbac` gives.
//! Containers and packets are simulated.
//!
//! Long forms: `STORNX_E2E_ROUNDS=200` (two daemons), `STORNX_E2E_CYCLES=10000`
//! (memory), `STORNX_E2E_MOVES=500` (moves), `STORNX_E2E_REPLICAS=1000` (steering),
//! `STORNX_E2E_CRASHES=all` (a crash at every write), `STORNX_E2E_OTHERS=all` (others at every
//! write), `STORNX_E2E_WANDER=10000` (wandering traffic),
//! `STORNX_E2E_DISTRIBUTIONS=200` (routes), `STORNX_E2E_CHANGES=25` (speed of reaction),
//! `STORNX_E2E_CUT_OFF=1200` (nothing is cut off, seconds), `STORNX_E2E_OWNERS=300`
//! (ownership, seconds), `STORNX_E2E_SLOW=120` (slow replica, seconds for each part),
//! `STORNX_E2E_LOOP=60` (closed loop, seconds for each way), `STORNX_E2E_HOSTS=1000` (a
//! thousand hosts).

mod bare;
mod boutique;
#[path = "../page/browser.rs"]
#[allow(dead_code)] // The tests of the page use all of it, these tests a part.
mod browser;
mod cleanup;
mod crash;
mod faults;
mod follower;
mod guards;
mod hold;
mod mesh;
mod moves;
mod nearer;
mod odd;
mod page;
mod replay;
mod rights;
mod routes;
mod scale;
mod steering;
mod support;
mod two;
mod wander;
mod webhook;

use std::process::ExitCode;

use stornx_testbed::{Options, harness};

/// Any error fails a test.
type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    // Inside the network namespace of the tests nothing can be fetched.
    let listed = std::env::args().any(|argument| argument == "--list");
    let wanted = !listed && !stornx_testbed::left_out();
    let programs = if wanted { browser::Programs::find() } else { Err("left out".to_owned()) };
    let mut tests = Vec::new();
    tests.extend(page::tests(programs.clone()));
    tests.extend(follower::tests(programs));
    tests.extend(boutique::tests());
    tests.extend(guards::tests());
    tests.extend(moves::tests());
    tests.extend(hold::tests());
    tests.extend(cleanup::tests());
    tests.extend(crash::tests());
    tests.extend(wander::tests());
    tests.extend(steering::tests());
    tests.extend(nearer::tests());
    tests.extend(replay::tests());
    tests.extend(bare::tests());
    tests.extend(rights::tests());
    tests.extend(two::tests());
    tests.extend(webhook::tests());
    tests.extend(faults::tests());
    tests.extend(odd::tests());
    tests.extend(scale::tests());
    tests.extend(routes::tests());
    tests.extend(mesh::tests());
    harness::main(Options::default(), tests)
}
