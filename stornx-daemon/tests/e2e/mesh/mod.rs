//! What routing has to show: how soon a rule follows a change, and that nobody fights.

mod ownership;
mod reaction;

use stornx_sim::scenario::Scenario;
use stornx_testbed::harness::Test;

use crate::Failure;

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = reaction::tests();
    tests.extend(ownership::tests());
    tests
}

fn scenario(file: &str, text: &str) -> Result<Scenario, Failure> {
    Ok(Scenario::parse(file, text)?)
}

/// A front end in three zones that calls one back end.
fn shop() -> Result<Scenario, Failure> {
    scenario("shop.yaml", include_str!("shop.yaml"))
}
