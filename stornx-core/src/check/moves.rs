//! Invariant 4: a replica goes only after its replacement has been Ready, and a move
//! leaves the count as it found it. Moves end by their record and by nothing else.

use super::{Violation, counts, ground::Ground};
use crate::{
    model::{Autoscaler, CountBy, Workload},
    plan::{Action, MoveEnd, MoveEnding, MoveWay},
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for action in ground.actions() {
        match action {
            Action::StartMove { .. } => start(ground, action, violations),
            Action::FinishMove { .. } => finish(ground, action, violations),
            Action::AbortMove { .. } => abort(ground, action, violations),
            Action::GiveBackMinimum { .. } => give_back(ground, action, violations),
            Action::CloseMove { .. } => close(ground, action, violations),
            _ => {}
        }
    }
}

fn wrong(action: &Action, detail: String) -> Violation {
    Violation::MoveOutOfOrder { action: action.to_string(), detail }
}

/// What somebody else set is not lowered, not even where it looks like the surge.
fn owned(known: Option<&Workload>, action: &Action, violations: &mut Vec<Violation>) {
    if known.is_some_and(|known| known.counted_by == CountBy::Others) {
        violations.push(wrong(action, "somebody else set the count".to_owned()));
    }
}

fn start(ground: &Ground<'_>, action: &Action, violations: &mut Vec<Violation>) {
    let Action::StartMove { workload, victim, from, to, .. } = action else { return };
    let Some(known) = ground.workloads.get(workload) else { return };
    if !counts::can_surge(known) {
        violations.push(wrong(action, format!("{workload} cannot have a replica more elsewhere")));
    }
    let runs_on = known.pods.iter().find(|pod| pod.name == *victim).and_then(|p| p.node.as_ref());
    if runs_on != Some(from) {
        violations.push(wrong(action, format!("{victim} does not run on {from}")));
    }
    if from == to {
        violations.push(wrong(action, "it stays on its node".to_owned()));
    }
    let Action::StartMove { observed, way: MoveWay::Hold, .. } = action else { return };
    match known.autoscaler {
        None => violations.push(wrong(action, "no autoscaler has a minimum to raise".to_owned())),
        Some(Autoscaler { held: Some(_), .. }) => {
            violations.push(wrong(action, "the minimum is raised already".to_owned()));
        }
        Some(Autoscaler { max, .. }) if *observed >= max => {
            violations.push(wrong(action, format!("the autoscaler allows no more than {max}")));
        }
        Some(_) => {}
    }
}

/// A minimum is given back that was raised, at the end of the move that it was raised for
/// or when there is no such move.
fn give_back(ground: &Ground<'_>, action: &Action, violations: &mut Vec<Violation>) {
    let Action::GiveBackMinimum { workload, goes, ending, .. } = action else { return };
    let Some(known) = ground.workloads.get(workload) else { return };
    let mut wrong = |detail: String| violations.push(wrong(action, detail));
    if known.autoscaler.is_none_or(|autoscaler| autoscaler.held.is_none()) {
        wrong("no minimum is raised".to_owned());
    }
    let record = ground.in_flight(workload);
    match (record, ending) {
        (None, None) if goes.is_none() => {}
        (None, _) => wrong("no move of this workload was begun".to_owned()),
        (Some(_), None) => wrong("a move is under way".to_owned()),
        (Some(record), Some(_)) if record.way != MoveWay::Hold => {
            wrong("the move under way raised no minimum".to_owned());
        }
        (Some(record), Some(MoveEnding::Finish { replacement })) => {
            if *goes != Some(record.victim.clone()) {
                wrong(format!("{} is to go", record.victim));
            }
            if record.known_pods.contains(replacement) {
                wrong(format!("{replacement} was there before the move"));
            }
            let ready = known.pods.iter().find(|pod| pod.name == *replacement);
            if ready.is_none_or(|pod| !ground.serves(pod)) {
                wrong(format!("{replacement} is not Ready"));
            }
        }
        (Some(record), Some(MoveEnding::Undo { .. })) => {
            if let Some(goes) = goes.as_ref().filter(|goes| record.known_pods.contains(goes)) {
                wrong(format!("{goes} was there before the move"));
            }
        }
    }
}

fn finish(ground: &Ground<'_>, action: &Action, violations: &mut Vec<Violation>) {
    let Action::FinishMove { workload, observed, victim, replacement } = action else { return };
    let Some(known) = ground.workloads.get(workload) else { return };
    let Some(record) = ground.in_flight(workload) else {
        violations.push(wrong(action, "no move of this workload was begun".to_owned()));
        return;
    };
    if record.victim != *victim {
        violations.push(wrong(action, format!("{} is to go, not {victim}", record.victim)));
    }
    if record.known_pods.contains(replacement) {
        violations.push(wrong(action, format!("{replacement} was there before the move")));
    }
    owned(Some(known), action, violations);
    let ready = known.pods.iter().find(|pod| pod.name == *replacement);
    if ready.is_none_or(|pod| !ground.serves(pod)) {
        violations.push(wrong(action, format!("{replacement} is not Ready")));
    }
    if let Some(counted) = known.ready_counted.filter(|counted| counted < observed) {
        let detail = format!("its controller counts {counted} of {observed} replicas as Ready");
        violations.push(wrong(action, detail));
    }
    if u64::from(*observed) != u64::from(record.replicas_before) + 1 {
        let before = record.replicas_before;
        let detail = format!("{observed} replicas less one are not the {before} of before");
        violations.push(wrong(action, detail));
    }
}

fn abort(ground: &Ground<'_>, action: &Action, violations: &mut Vec<Violation>) {
    let Action::AbortMove { workload, observed, surge, .. } = action else { return };
    let Some(record) = ground.in_flight(workload) else {
        violations.push(wrong(action, "no move of this workload was begun".to_owned()));
        return;
    };
    owned(ground.workloads.get(workload).copied(), action, violations);
    match surge {
        Some(surge) if record.known_pods.contains(surge) => {
            violations.push(wrong(action, format!("{surge} was there before the move")));
        }
        Some(_) => {}
        None => {
            let known = ground.workloads.get(workload);
            let there = known.map_or(0, |known| known.active().count());
            if usize::try_from(*observed).is_ok_and(|wanted| there >= wanted) {
                let detail = format!("none of {there} replicas is named to go");
                violations.push(wrong(action, detail));
            }
        }
    }
    if u64::from(*observed) != u64::from(record.replicas_before) + 1 {
        let before = record.replicas_before;
        let detail = format!("{observed} replicas less one are not the {before} of before");
        violations.push(wrong(action, detail));
    }
}

/// A move is not forgotten while its surge stands, nor called done while its victim does.
fn close(ground: &Ground<'_>, action: &Action, violations: &mut Vec<Violation>) {
    let Action::CloseMove { workload, observed, end } = action else { return };
    let Some(record) = ground.in_flight(workload) else {
        violations.push(wrong(action, "no move of this workload was begun".to_owned()));
        return;
    };
    let Some(known) = ground.workloads.get(workload) else { return };
    if *observed != known.desired {
        violations.push(Violation::CountMisread {
            workload: workload.clone(),
            observed: *observed,
            desired: known.desired,
        });
    }
    let stands = known.active().any(|pod| pod.name == record.victim);
    if *end == MoveEnd::Done && stands {
        violations.push(wrong(action, format!("{} is still there", record.victim)));
    }
    let surged = u64::from(*observed) == u64::from(record.replicas_before) + 1;
    let others = known.autoscaler.is_some() || known.counted_by == CountBy::Others;
    let holds = known.autoscaler.is_some_and(|autoscaler| autoscaler.holds());
    if record.way == MoveWay::Hold && holds {
        violations.push(wrong(action, "the minimum of its autoscaler is still raised".to_owned()));
    }
    if record.way == MoveWay::Surge && surged && !others {
        violations.push(wrong(action, "its surge still stands".to_owned()));
    }
}
