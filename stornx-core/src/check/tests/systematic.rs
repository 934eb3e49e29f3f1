//! Corruptions that are generated, not thought of: every cell of a table, every field of
//! an action.

use super::{
    fixture::{decay, first_write, improve, live, table, valid_plans},
    found,
};
use crate::{
    check::Violation,
    model::{Distribution, RouteTable},
    plan::Action,
};

/// Every table that differs from `table` by moving `points` from one destination of one
/// caller to another.
fn shifted(table: &RouteTable, points: u8) -> Vec<RouteTable> {
    let mut tables = Vec::new();
    for (caller, row) in table {
        for (from, weight) in row.iter() {
            for (to, other) in row.iter() {
                if from == to || weight <= points {
                    continue;
                }
                let mut weights: std::collections::BTreeMap<_, _> =
                    row.iter().map(|(zone, w)| (zone.clone(), w)).collect();
                weights.insert(from.clone(), weight - points);
                weights.insert(to.clone(), other + points);
                let mut next = table.clone();
                next.insert(caller.clone(), Distribution::new(weights).unwrap());
                tables.push(next);
            }
        }
    }
    tables
}

#[test]
fn every_step_beyond_the_limit_is_caught() {
    let mut caught = 0;
    for valid in [improve(), first_write(), decay()] {
        let Action::SetRoutes { from, .. } = &valid.planned.plan.actions[0] else { panic!() };
        for points in 1..40 {
            for to in shifted(from, points) {
                let mut changed = valid.clone();
                *changed.routes() = to;
                let too_large =
                    found(&changed).iter().any(|v| matches!(v, Violation::StepTooLarge { .. }));
                assert_eq!(too_large, points > 20, "{points} points");
                caught += u32::from(too_large);
            }
        }
    }
    assert!(caught > 100, "{caught} corruptions");
}

#[test]
fn a_smaller_urgency_makes_a_smaller_step() {
    // A delta of 25 makes a step of 12.5: twelve points pass, thirteen do not.
    for (points, allowed) in [(3, true), (12, true), (13, false)] {
        for to in shifted(&live(), points) {
            let mut changed = improve();
            *changed.routes() = to;
            (changed.route_why().delta, changed.route_why().step) = (25.0, 12.5);
            let found = found(&changed);
            let too_large = found.iter().any(|v| matches!(v, Violation::StepTooLarge { .. }));
            assert_eq!(too_large, !allowed, "{points}: {found:?}");
        }
    }
}

#[test]
fn every_dropped_destination_is_caught() {
    for valid in [improve(), first_write(), decay()] {
        let Action::SetRoutes { to, .. } = &valid.planned.plan.actions[0] else { panic!() };
        for (caller, row) in to {
            for (dropped, weight) in row.iter() {
                let mut left: std::collections::BTreeMap<_, _> =
                    row.iter().map(|(zone, w)| (zone.clone(), w)).collect();
                left.remove(dropped);
                *left.values_mut().next().unwrap() += weight;
                let mut changed = valid.clone();
                changed.routes().insert(caller.clone(), Distribution::new(left).unwrap());
                let expected = Violation::ZoneCutOff {
                    host: changed.snapshot.hosts[0].name.clone(),
                    caller: caller.clone(),
                    zone: dropped.clone(),
                };
                assert!(found(&changed).contains(&expected));
            }
        }
    }
}

#[test]
fn every_wrong_count_is_caught() {
    for (name, valid) in valid_plans() {
        for wrong in [0, 1, 2, 3, 4, 7, u32::MAX] {
            let mut changed = valid.clone();
            match changed.action() {
                Action::AddReplicas { observed, .. }
                | Action::RemoveReplicas { observed, .. }
                | Action::StartMove { observed, .. }
                | Action::FinishMove { observed, .. }
                | Action::AbortMove { observed, .. }
                    if *observed != wrong =>
                {
                    *observed = wrong;
                }
                _ => continue,
            }
            assert!(!found(&changed).is_empty(), "{name}: {wrong}");
        }
    }
}

#[test]
fn the_checker_is_deterministic_and_total() {
    let even = table([[34, 33, 33]; 3]);
    for (_, valid) in valid_plans() {
        let mut odd = valid;
        odd.snapshot.nodes.truncate(1);
        odd.snapshot.workloads.iter_mut().for_each(|w| w.pods.clear());
        if let Action::SetRoutes { to, .. } = odd.action() {
            *to = even.clone();
        }
        assert_eq!(found(&odd), found(&odd));
    }
}
