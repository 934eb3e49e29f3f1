//! Only what is left over is tidied up: marks of replicas that are not about to go, and
//! replicas that wait for the node that they were told to run on.

use super::{Violation, ground::Ground};
use crate::{
    model::{Pod, PodPhase},
    plan::Action,
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for action in ground.actions() {
        let Some(workload) = ground.workloads.get(action.workload()) else { continue };
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
