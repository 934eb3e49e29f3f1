//! What routing has to show: how soon a rule follows a change or goes, that no request is cut off,
//! that nobody fights, that slow replicas are left, what it brings against what can be had
//! without it, and that a thousand hosts are written in peace.

mod closed_loop;
mod cut_off;
mod floor;
mod given_back;
mod ownership;
mod reaction;
mod slow;
mod thousand;

use stornx_sim::scenario::Scenario;
use stornx_testbed::harness::Test;

use crate::Failure;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = reaction::tests();
    tests.extend(cut_off::tests());
    tests.extend(ownership::tests());
    tests.extend(given_back::tests());
    tests.extend(slow::tests());
    tests.extend(closed_loop::tests());
    tests.extend(thousand::tests());
    tests
}

fn scenario(file: &str, text: &str) -> Result<Scenario, Failure> {
    Ok(Scenario::parse(file, text)?)
}

/// A front end in three zones that calls one back end.
fn shop() -> Result<Scenario, Failure> {
    scenario("shop.yaml", include_str!("shop.yaml"))
}
