//! Safety facts: computed before any choice, once, for every workload.
//!
//! Decides what may not be touched and why ([`CountBlock`]), how loaded a workload is
//! (`measure`), and the floors that no change may break, whichever room proposes it
//! (`floors`). Refuses; never proposes.

mod floors;
mod measure;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    floors::{Floors, Refusal},
    measure::Unmeasured,
};
use super::zone_loss;
use crate::{
    memory::WorkloadMemory,
    model::{AutoscalerKind, Rollout, Workload},
    policy::Policy,
    report::{MoveReason, ScaleReason, ZoneLoss},
    units::{Millis, Percent, Rps},
    view::{Remembered, View, WorkloadIndex, WorkloadView},
};

/// Why nothing that changes the replica count of a workload (a surge included) may be
/// begun. Rooms add their own gates after these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CountBlock {
    /// Not in a monitored namespace.
    NotManaged,
    /// Its owner opted out.
    OptedOut,
    /// The rollout is paused.
    Paused,
    /// A rollout is in progress.
    RolloutInProgress,
    /// Another controller owns the count.
    AutoscalerOwns(AutoscalerKind),
}

impl From<CountBlock> for ScaleReason {
    fn from(block: CountBlock) -> Self {
        match block {
            CountBlock::NotManaged => Self::NotManaged,
            CountBlock::OptedOut => Self::OptedOut,
            CountBlock::Paused => Self::Paused,
            CountBlock::RolloutInProgress => Self::RolloutInProgress,
            CountBlock::AutoscalerOwns(kind) => Self::AutoscalerOwns { kind },
        }
    }
}

impl From<CountBlock> for MoveReason {
    fn from(block: CountBlock) -> Self {
        match block {
            CountBlock::NotManaged => Self::NotManaged,
            CountBlock::OptedOut => Self::OptedOut,
            CountBlock::Paused => Self::Paused,
            CountBlock::RolloutInProgress => Self::RolloutInProgress,
            CountBlock::AutoscalerOwns(kind) => Self::AutoscalerOwns { kind },
        }
    }
}

/// What is known of one workload before any choice.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadSafety {
    /// Why its count may not be changed; `None` when it may.
    pub(crate) count_block: Option<CountBlock>,
    /// A move of one of its replicas is under way.
    pub(crate) in_flight: bool,
    /// Least replicas, by its owner or else by the settings.
    pub(crate) min: u32,
    /// Most replicas, by its owner or else by the settings.
    pub(crate) max: u32,
    /// Target p95, by its owner or else by the settings.
    pub(crate) response_time: Millis,
    /// Utilisation by the configured metric.
    pub(crate) utilisation: Option<Percent>,
    /// Why utilisation is not known.
    pub(crate) unmeasured: Option<Unmeasured>,
    /// CPU utilisation, whatever the configured metric: what serving costs.
    pub(crate) cpu: Option<Percent>,
    /// Demand in replicas at full CPU utilisation; `None` unless the CPU of every
    /// serving replica is known.
    pub(crate) demand: Option<f64>,
    /// Request-weighted mean of its replicas' p95.
    pub(crate) p95: Option<Millis>,
    /// The same without the calls that it waits for.
    pub(crate) own_p95: Option<Millis>,
    /// Requests served per second.
    pub(crate) requests: Rps,
    /// What survives the loss of its worst zone.
    pub(crate) zone_loss: ZoneLoss,
    /// What no change of its layout may break.
    pub(crate) floors: Floors,
}

/// Safety facts of all workloads.
pub(crate) struct Safety {
    workloads: Vec<WorkloadSafety>,
}

impl Safety {
    /// Computes them.
    pub(crate) fn assess(view: &View<'_>, memory: &Remembered<'_>) -> Self {
        Self {
            workloads: view
                .each_workload()
                .map(|(at, w)| assess(view, memory.workload(at), w))
                .collect(),
        }
    }

    /// Those of one workload.
    pub(crate) fn of(&self, workload: WorkloadIndex) -> &WorkloadSafety {
        &self.workloads[workload.at()]
    }
}

fn assess(
    view: &View<'_>,
    remembered: Option<&WorkloadMemory>,
    workload: &WorkloadView<'_>,
) -> WorkloadSafety {
    let policy = view.policy;
    let own = &workload.workload.policy;
    let sums = measure::Sums::of(workload);
    let demand = sums.demand(workload.workload);
    let measured = measure::utilisation(workload.workload, &sums, &policy.scaler);
    let (p95, requests) = (sums.p95(), sums.requests(view, workload));
    WorkloadSafety {
        count_block: count_block(workload.workload, policy),
        in_flight: remembered.is_some_and(|remembered| remembered.in_flight.is_some()),
        min: own.min_replicas.unwrap_or(policy.scaler.min_replicas),
        max: own.max_replicas.unwrap_or(policy.scaler.max_replicas),
        response_time: own.response_time.unwrap_or(policy.scaler.response_time),
        utilisation: measured.ok(),
        unmeasured: measured.err(),
        cpu: sums.cpu_utilisation(workload.workload),
        demand,
        p95,
        own_p95: p95.map(|p95| measure::own_p95(view, workload, p95, requests)),
        requests,
        zone_loss: zone_loss::fact(view, &workload.ready, demand),
        floors: Floors::of(policy, workload.workload, demand),
    }
}

/// The gates that hold for every change of a count, in their order.
fn count_block(workload: &Workload, policy: &Policy) -> Option<CountBlock> {
    let monitored =
        policy.namespaces.is_empty() || policy.namespaces.contains(&workload.id.namespace());
    if !workload.managed || !monitored {
        return Some(CountBlock::NotManaged);
    }
    if workload.policy.opted_out {
        return Some(CountBlock::OptedOut);
    }
    match workload.rollout {
        Rollout::Paused => return Some(CountBlock::Paused),
        Rollout::InProgress => return Some(CountBlock::RolloutInProgress),
        Rollout::Settled => {}
    }
    workload
        .autoscaler
        .filter(|autoscaler| {
            policy.scaler.respect_autoscalers || !autoscaler.kind.may_be_passed_over()
        })
        .map(|autoscaler| CountBlock::AutoscalerOwns(autoscaler.kind))
}
