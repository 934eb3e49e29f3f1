//! Weights that nobody follows any more are taken back, and nothing else is.

use std::collections::BTreeSet;

use super::{
    uneven,
    world::{World, host_name, namespace},
};
use crate::{
    check::check,
    decide::balance,
    memory::Backoff,
    model::{ForeignRule, Mesh, Rule},
    plan::{Action, GiveBackCause, Plan, Planned},
    report::{Report, RouteReason, TidyWhy, Why},
    units::Span,
    view::{Remembered, View},
};

/// What is taken back in a world where weights of ours stood until it was changed, and
/// that the checker agrees.
fn given_back(change: impl FnOnce(&mut World)) -> Option<GiveBackCause> {
    let mut world = uneven(3, 0.3, 60);
    world.policy.namespaces = [namespace()].into();
    world.settle();
    change(&mut world);
    let snapshot = world.snapshot();
    let view = View::new(&snapshot, &world.policy, world.now);
    let memory = Remembered::of(&view, &world.memory);
    let routed = balance::decide(&view, &memory, &BTreeSet::new(), |_| true);
    let mut planned = Planned {
        plan: Plan { at: world.now, ..Plan::default() },
        report: Report { at: world.now, ..Report::default() },
    };
    let mut cause = None;
    for proposal in routed.proposals {
        if let Action::GiveBackRoutes { cause: found, .. } = &proposal.action {
            assert!(matches!(proposal.report.why, Why::TidyUp(TidyWhy::Routes)));
            cause = Some(*found);
        }
        planned.plan.actions.push(proposal.action);
        planned.report.actions.push(proposal.report);
    }
    assert_eq!(check(&snapshot, &world.policy, &world.memory, &planned), []);
    let report = routed.reports.into_values().next();
    let pressing = report.is_some_and(|report| report.pressing);
    assert!(cause.is_none() || pressing, "what cuts off does not wait for the schedule");
    cause
}

#[test]
fn weights_that_may_not_stand_any_more_are_given_back() {
    use GiveBackCause::{
        Displaced, Foreign, ForeignEndpoints, NoWorkload, OptedOut, SeveralWorkloads, Unnamed,
        Zones,
    };
    let foreign = |rule, leftover| {
        given_back(|world| (world.rule, world.leftover) = (Rule::Foreign(rule), leftover))
    };
    assert_eq!(foreign(ForeignRule::Failover, true), Some(Foreign(ForeignRule::Failover)));
    assert_eq!(foreign(ForeignRule::SeveralRules, true), Some(Foreign(ForeignRule::SeveralRules)));
    assert_eq!(given_back(|world| world.owner.opted_out = true), Some(OptedOut));
    assert_eq!(given_back(|world| world.owner.no_routing = true), Some(OptedOut));
    assert_eq!(given_back(|world| world.mesh = Mesh::Unnamed), Some(Unnamed));
    assert_eq!(given_back(|world| world.zones = 1), Some(Zones));
    assert_eq!(given_back(|world| world.shared = true), Some(SeveralWorkloads));
    assert_eq!(given_back(|world| world.alone = true), Some(NoWorkload));
    let bare_and_left = |world: &mut World| {
        (world.alone, world.leftover) = (true, true);
        world.rule = Rule::Foreign(ForeignRule::NotAService);
    };
    assert_eq!(given_back(bare_and_left), Some(NoWorkload));
    assert_eq!(given_back(|world| world.displaced = true), Some(Displaced));
    assert_eq!(given_back(|world| world.foreign_endpoints = true), Some(ForeignEndpoints));
}

#[test]
fn nothing_is_given_back_that_is_followed_or_not_ours() {
    // A rule of somebody else with nothing of ours in it.
    let foreign = |world: &mut World| world.rule = Rule::Foreign(ForeignRule::Distribute);
    assert_eq!(given_back(foreign), None);
    assert_eq!(given_back(|_| {}), None);
    assert_eq!(given_back(|world| world.policy.balancer.enabled = false), None);
    assert_eq!(given_back(|world| world.metrics = false), None);
    assert_eq!(given_back(|world| world.managed = false), None);
    // No mesh is there that would read what stands.
    assert_eq!(given_back(|world| world.mesh = Mesh::Absent), None);
    let bare = |world: &mut World| (world.rule, world.owner.opted_out) = (Rule::None, true);
    assert_eq!(given_back(bare), None);
    let bare = |world: &mut World| (world.rule, world.alone) = (Rule::None, true);
    assert_eq!(given_back(bare), None);
    // Without a workload only the list says that the namespace is managed.
    let elsewhere = |world: &mut World| {
        (world.alone, world.policy.namespaces) = (true, ["other".parse().unwrap()].into());
    };
    assert_eq!(given_back(elsewhere), None);
    let nowhere = |world: &mut World| {
        world.alone = true;
        world.policy.namespaces.clear();
    };
    assert_eq!(given_back(nowhere), None);
    let bare = |world: &mut World| (world.rule, world.displaced) = (Rule::None, true);
    assert_eq!(given_back(bare), None);
}

#[test]
fn a_workload_that_is_made_anew_is_still_in_its_back_off() {
    let mut world = uneven(3, 0.2, 71);
    world.settle();
    let until = world.now.after(Span::from_seconds(3_600));
    let backoff = Backoff { until, failures: 2 };
    world.memory.hosts.get_mut(&host_name()).unwrap().backoff = Some(backoff);
    world.alone = true;
    world.cycle();
    let kept = &world.memory.hosts[&host_name()];
    assert_eq!((kept.backoff, kept.written_at), (Some(backoff), None));
    world.alone = false;
    assert!(matches!(world.cycle().report.reason, RouteReason::Backoff { .. }));
}
