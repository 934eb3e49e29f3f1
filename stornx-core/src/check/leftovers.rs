//! Only what is left over is tidied up: marks of replicas that are not about to go, and
//! replicas that wait for the node that they were told to run on. A mark stays while a
//! request for fewer replicas may still arrive.

use super::{Violation, ground::Ground};
use crate::{
    model::{Pod, PodPhase},
    plan::Action,
    units::Span,
};

/// A request without an answer is carried out within this time or never.
const LATE: Span = Span::from_seconds(90);

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for action in ground.actions() {
        let Some(id) = action.workload() else { continue };
        let Some(workload) = ground.workloads.get(id) else { continue };
        if let Action::Unmark { observed, .. } = action
            && *observed != workload.desired
        {
            violations.push(Violation::CountMisread {
                workload: workload.id.clone(),
                observed: *observed,
                desired: workload.desired,
            });
        }
        let mut wrong = |detail: String| {
            violations.push(Violation::NotALeftover { action: action.to_string(), detail });
        };
        let of = |pods: &[_]| workload.active().filter(|pod| pods.contains(&pod.name)).collect();
        match action {
            Action::Unmark { workload: id, observed, pods } => {
                let pods: Vec<&Pod> = of(pods);
                for pod in pods.iter().filter(|pod| !pod.traces.victim) {
                    wrong(format!("{} carries no mark", pod.name));
                }
                let there = workload.active().count();
                if usize::try_from(*observed).is_ok_and(|wanted| there > wanted) {
                    wrong(format!("of {there} replicas {observed} are wanted: some are to go"));
                }
                if ground.in_flight(id).is_some() {
                    wrong("a move is under way".to_owned());
                }
                let scaled = ground.memory.workloads.get(id).and_then(|known| known.scaled_at);
                if scaled.is_some_and(|scaled| ground.planned.plan.at.since(scaled) <= LATE) {
                    wrong("a request for fewer replicas may still arrive".to_owned());
                }
            }
            Action::Release { workload: id, pods } => {
                let pods: Vec<&Pod> = of(pods);
                for pod in pods {
                    if pod.traces.steered.is_none() {
                        wrong(format!("{} was not told where to run", pod.name));
                    }
                    if pod.phase != PodPhase::Pending || pod.node.is_some() {
                        wrong(format!("{} does not wait for a node", pod.name));
                    }
                }
                if ground.in_flight(id).is_some() {
                    wrong("a move is under way".to_owned());
                }
            }
            _ => {}
        }
    }
}
