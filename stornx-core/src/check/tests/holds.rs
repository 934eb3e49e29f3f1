//! Moves that hold the minimum of an autoscaler: each rule broken by the smallest change.

use super::{
    caught,
    fixture::{Fixture, give_back, hold, id, pod},
    passes,
};
use crate::{
    check::{Owner, Violation},
    ids::PodName,
    model::{Autoscaler, AutoscalerKind, HeldMinimum, PodPhase},
    plan::{AbortCause, Action, MoveEnd, MoveEnding, MoveWay},
    policy::AutoscaledMoves,
};

fn out_of_order(violation: &Violation) -> bool {
    matches!(violation, Violation::MoveOutOfOrder { .. })
}

fn autoscaler(f: &mut Fixture) -> &mut Autoscaler {
    f.workload("cart").autoscaler.as_mut().unwrap()
}

#[test]
fn a_minimum_is_raised_only_where_that_is_asked_for_and_helps() {
    let kind = |owner| move |v: &Violation| matches!(v, Violation::NotOurs { owner: o, .. } if *o == owner);
    let owned = kind(Owner::Autoscaler(AutoscalerKind::Hpa));
    caught(hold(), |f| f.policy.moves.autoscaled = AutoscaledMoves::Never, owned);
    caught(hold(), |f| f.policy.moves.autoscaled = AutoscaledMoves::Evict, owned);
    let keda = kind(Owner::Autoscaler(AutoscalerKind::Keda));
    caught(hold(), |f| autoscaler(f).kind = AutoscalerKind::Keda, keda);
    caught(hold(), |f| autoscaler(f).max = 5, out_of_order);
    passes(hold(), |f| autoscaler(f).max = 6);
    let raised = Some(HeldMinimum { before: 1, raised: 2 });
    caught(hold(), |f| autoscaler(f).held = raised, out_of_order);
    caught(hold(), |f| f.workload("cart").autoscaler = None, out_of_order);
}

#[test]
fn a_minimum_is_given_back_at_the_end_of_its_move() {
    let ends = |change: fn(&mut Option<PodName>, &mut Option<MoveEnding>)| {
        move |f: &mut Fixture| match f.action() {
            Action::GiveBackMinimum { goes, ending, .. } => change(goes, ending),
            other => panic!("{other}"),
        }
    };
    caught(give_back(), |f| autoscaler(f).held = None, out_of_order);
    caught(give_back(), |f| f.record().way = MoveWay::Surge, out_of_order);
    caught(give_back(), |f| f.memory.workloads.clear(), out_of_order);
    caught(give_back(), ends(|_, ending| *ending = None), |_| true);
    caught(give_back(), ends(|goes, _| *goes = Some(pod("cart-1"))), out_of_order);
    caught(give_back(), ends(|goes, _| *goes = None), out_of_order);
    let other = |_: &mut _, ending: &mut Option<MoveEnding>| {
        *ending = Some(MoveEnding::Finish { replacement: pod("cart-1") });
    };
    caught(give_back(), ends(other), out_of_order);
    caught(give_back(), |f| f.pod("cart-5").phase = PodPhase::Starting, out_of_order);

    let undo = |goes: &mut Option<PodName>, ending: &mut Option<MoveEnding>| {
        *goes = Some(pod("cart-5"));
        *ending = Some(MoveEnding::Undo { cause: AbortCause::TimedOut });
    };
    passes(give_back(), ends(undo));
    let nobody = |goes: &mut Option<PodName>, ending: &mut Option<MoveEnding>| {
        *goes = None;
        *ending = Some(MoveEnding::Undo { cause: AbortCause::VictimGone });
    };
    passes(give_back(), ends(nobody));
    let one_of_before = |goes: &mut Option<PodName>, ending: &mut Option<MoveEnding>| {
        *goes = Some(pod("cart-1"));
        *ending = Some(MoveEnding::Undo { cause: AbortCause::TimedOut });
    };
    caught(give_back(), ends(one_of_before), out_of_order);
    // Whatever the autoscaler makes of the count.
    passes(give_back(), |f| {
        f.workload("cart").desired = 9;
        match f.action() {
            Action::GiveBackMinimum { observed, .. } => *observed = 9,
            other => panic!("{other}"),
        }
    });
}

#[test]
fn a_move_is_not_forgotten_while_its_minimum_is_raised() {
    let closes = |f: &mut Fixture| {
        let end = MoveEnd::GivenUp(AbortCause::TimedOut);
        *f.action() = Action::CloseMove { workload: id("cart"), observed: 6, end };
    };
    let closed = |change: fn(&mut Autoscaler)| {
        let mut fixture = give_back();
        closes(&mut fixture);
        change(autoscaler(&mut fixture));
        super::found(&fixture)
    };
    assert!(closed(|_| {}).iter().any(out_of_order));
    assert_eq!(closed(|autoscaler| autoscaler.min = 3), [], "somebody else has set another");
}
