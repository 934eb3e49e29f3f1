//! What is remembered of counts: the last growth for utilisation, until it is seen to
//! have helped, and since when a workload has been slow.

use crate::{
    memory::{Growth, Memory},
    plan::{Action, Planned},
    remember::Outcomes,
    report::{ScaleReason, ScaleWhy, Trigger, Why},
};

/// Notes the growths and reductions that were carried out, and forgets the growths of
/// workloads that are within their band.
pub(crate) fn remember_counts(memory: &mut Memory, planned: &Planned, outcomes: &Outcomes) {
    let report = &planned.report;
    for (id, workload) in &report.workloads {
        match workload.scale {
            ScaleReason::SlowLately { .. } => {
                let remembered = memory.workloads.entry(id.clone()).or_default();
                remembered.slow_since.get_or_insert(report.at);
            }
            // Slow for long enough, and held up by something else.
            ScaleReason::Cooldown { .. }
            | ScaleReason::BudgetUsedUp { .. }
            | ScaleReason::NoFeasibleNode { .. }
            | ScaleReason::AtMaximum { .. } => {}
            _ => {
                if let Some(remembered) = memory.workloads.get_mut(id) {
                    remembered.slow_since = None;
                }
            }
        }
        let helped = workload.scale == ScaleReason::WithinBand;
        if let Some(remembered) = memory.workloads.get_mut(id).filter(|_| helped) {
            remembered.growth = None;
        }
    }
    let actions = planned.plan.actions.iter().zip(&report.actions).zip(outcomes);
    for ((action, why), outcome) in actions {
        let (Why::Scale(why), Ok(())) = (&why.why, outcome) else { continue };
        let requests = report.workloads.get(&why.workload).map(|workload| workload.requests);
        let growth = matches!(action, Action::AddReplicas { .. })
            .then(|| grown(why))
            .flatten()
            .map(|growth| Growth { requests: requests.unwrap_or_default(), ..growth });
        memory.workloads.entry(why.workload.clone()).or_default().growth = growth;
    }
}

fn grown(why: &ScaleWhy) -> Option<Growth> {
    let utilisation = why.utilisation.filter(|_| why.trigger == Trigger::Utilisation)?;
    Some(Growth { from: why.from, to: why.to, utilisation, requests: crate::units::Rps::ZERO })
}
