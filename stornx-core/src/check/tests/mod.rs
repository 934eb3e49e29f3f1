//! Valid plans pass; every minimal corruption of one is caught by the rule it breaks.

mod corruptions;
mod fixture;
mod systematic;

use self::fixture::{Fixture, fixture};
use super::{Violation, check};

/// What the checker finds in a fixture.
fn found(fixture: &Fixture) -> Vec<Violation> {
    check(&fixture.snapshot, &fixture.policy, &fixture.memory, &fixture.planned)
}

#[test]
fn the_empty_plan_passes() {
    let mut fixture = fixture();
    fixture.planned.plan.actions.clear();
    fixture.planned.report.actions.clear();
    assert_eq!(found(&fixture), []);
}

#[test]
fn every_valid_plan_passes() {
    for (name, fixture) in fixture::valid_plans() {
        assert_eq!(found(&fixture), [], "{name}");
    }
}

#[test]
fn violations_say_ids_and_numbers() {
    let violation = Violation::TooFewSurvivors {
        workload: "shop/Deployment/cart".parse().unwrap(),
        before: 3,
        after: 1,
        needed: Some(1.5),
    };
    assert_eq!(
        violation.to_string(),
        "shop/Deployment/cart: 1 replicas would survive the loss of a zone, 3 do now and 1.50 are needed"
    );
}
