//! Where zones are divided, what counts is what weights come to.

use super::{
    caught,
    fixture::{Fixture, decay, improve, row, table, zone},
    found, passes,
};
use crate::{
    check::{Violation, ground::Ground, shares::Subzones},
    model::SUBZONE,
};

/// Each node is a subzone: `cart` has two in `z1` and `z2`, and one in `z3`.
fn divide(fixture: &mut Fixture) {
    for node in &mut fixture.snapshot.nodes {
        let name = node.name.as_str().parse().unwrap();
        node.labels.insert(SUBZONE.parse().unwrap(), name);
    }
}

fn percentages(weights: [u8; 3], change: impl FnOnce(&mut Fixture)) -> Option<[f64; 3]> {
    let mut fixture = improve();
    change(&mut fixture);
    let Fixture { snapshot, policy, memory, planned } = &fixture;
    let ground = Ground::new(snapshot, policy, memory, planned);
    let cart = snapshot.workloads.iter().find(|w| w.id.name() == "cart").unwrap();
    let found = Subzones::of(&ground, cart)?.percentages(&row(weights));
    Some(["z1", "z2", "z3"].map(|name| found[&zone(name)]))
}

#[test]
fn parts_are_rounded_up_as_the_mesh_does() {
    assert_eq!(percentages([70, 20, 10], |_| {}), None, "one group in each zone");
    assert_eq!(percentages([70, 20, 10], divide), Some([70.0, 20.0, 10.0]));
    // 9 over two is 5 + 5, 1 over two is 1 + 1.
    let found = percentages([90, 9, 1], divide).unwrap();
    let expected = [90.0, 10.0, 1.0].map(|weight| 100.0 * weight / 101.0);
    assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
}

#[test]
fn valid_plans_stay_valid() {
    passes(improve(), divide);
    passes(decay(), divide);
}

#[test]
fn the_reserve_is_of_what_zones_get() {
    let spent = |v: &Violation| matches!(v, Violation::ReserveSpent { .. });
    // 2 over two subzones is 2: below a reserve of 9 whatever the rounding.
    let lowered = |f: &mut Fixture| {
        divide(f);
        f.policy.balancer.reserve = crate::units::Percent::saturating(9.0);
        f.policy.balancer.max_step = crate::units::Percent::saturating(40.0);
        f.route_why().step = 40.0;
        *f.routes() = table([[67, 31, 2], [30, 40, 30], [30, 30, 40]]);
    };
    caught(improve(), lowered, spent);
    // 7 over two is 4 + 4 of 101: with the point that whole numbers take, enough.
    let mut fixture = improve();
    divide(&mut fixture);
    fixture.policy.balancer.reserve = crate::units::Percent::saturating(9.0);
    *fixture.routes() = table([[67, 13, 20], [30, 40, 30], [30, 30, 40]]);
    assert!(!found(&fixture).iter().any(spent));
}

#[test]
fn a_decay_goes_towards_the_replicas_by_what_zones_get() {
    let away = |v: &Violation| matches!(v, Violation::WrongDirection { .. });
    let further = |f: &mut Fixture| {
        divide(f);
        *f.routes() = table([[78, 11, 11], [30, 40, 30], [30, 30, 40]]);
    };
    caught(decay(), further, away);
}
