//! Valid plans pass; every minimal corruption of one is caught by the rule it breaks.

mod fixture;
mod holds;
mod names;
mod replicas;
mod routes;
mod subzones;
mod systematic;

use self::fixture::{Fixture, fixture, pod};
use super::{Violation, check};
use crate::{plan::Action, report::Why};

/// What the checker finds in a fixture.
fn found(fixture: &Fixture) -> Vec<Violation> {
    check(&fixture.snapshot, &fixture.policy, &fixture.memory, &fixture.planned)
}

/// A valid plan, what is changed, and what must be found afterwards.
#[track_caller]
fn caught(valid: Fixture, corrupt: impl FnOnce(&mut Fixture), is_it: impl Fn(&Violation) -> bool) {
    assert_eq!(found(&valid), [], "the plan is valid to begin with");
    let mut corrupted = valid;
    corrupt(&mut corrupted);
    let found = found(&corrupted);
    assert!(found.iter().any(is_it), "not among {found:?}");
}

/// A change that must not make a valid plan invalid.
#[track_caller]
fn passes(valid: Fixture, change: impl FnOnce(&mut Fixture)) {
    let mut changed = valid;
    change(&mut changed);
    assert_eq!(found(&changed), []);
}

fn victim_of(fixture: &mut Fixture, name: &str) {
    match fixture.action() {
        Action::RemoveReplicas { victims, .. } => *victims = vec![pod(name)],
        Action::FinishMove { victim, .. } | Action::StartMove { victim, .. } => *victim = pod(name),
        other => panic!("{other}"),
    }
    if let Why::Scale(why) = &mut fixture.planned.report.actions[0].why {
        why.victims = vec![pod(name)];
    }
}

fn observe(fixture: &mut Fixture, count: u32) {
    match fixture.action() {
        Action::AddReplicas { observed, .. }
        | Action::RemoveReplicas { observed, .. }
        | Action::StartMove { observed, .. }
        | Action::FinishMove { observed, .. }
        | Action::AbortMove { observed, .. }
        | Action::CloseMove { observed, .. }
        | Action::GiveBackMinimum { observed, .. }
        | Action::Unmark { observed, .. } => *observed = count,
        Action::Release { .. } | Action::SetRoutes { .. } | Action::GiveBackRoutes { .. } => {}
    }
}

fn put_on(fixture: &mut Fixture, name: &str) {
    let node = name.parse().unwrap();
    match fixture.action() {
        Action::AddReplicas { nodes, .. } => nodes[0] = node,
        Action::StartMove { to, .. } => *to = node,
        other => panic!("{other}"),
    }
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
