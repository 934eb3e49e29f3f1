//! Whether a rollout gets on.
//!
//! Routes sit a rollout out. One that is stuck (an image that cannot be pulled, replicas that
//! find no room or never become Ready) may be so for days, and weights that nobody looks
//! after are worse than a layout that is not the last one. So a rollout during which nothing
//! of its replicas has changed for [`STUCK`] is taken as over, until something changes again.
//!
//! Known weakness: a replica that becomes Ready and fails again every few minutes is a change
//! each time.

use crate::{
    memory::{HostMemory, RolloutMemory},
    model::{PodPhase, Rollout},
    units::Span,
    view::{View, WorkloadIndex},
};

/// After so long without a change Kubernetes, too, says by default of a Deployment that it
/// does not get on (`progressDeadlineSeconds`, 600 s). `minReadySeconds`, for which a rollout
/// may rest after each replica, are counted on top.
const STUCK: Span = Span::from_seconds(600);

/// Whether the replicas of a workload are being replaced, and that gets on.
pub(crate) fn is_under_way(
    view: &View<'_>,
    workload: WorkloadIndex,
    memory: Option<&HostMemory>,
) -> bool {
    let facts = view.workloads[workload.at()].workload;
    if facts.rollout != Rollout::InProgress {
        return false;
    }
    let seen = seen(view, workload);
    let unchanged = memory.and_then(|memory| memory.rollout.as_ref());
    let unchanged = unchanged.filter(|earlier| earlier.is_like(&seen));
    let patience = |since: &RolloutMemory| since.since.after(STUCK).after(facts.min_ready);
    unchanged.is_none_or(|earlier| view.now < patience(earlier))
}

/// Notes since when nothing has changed; forgotten when the rollout is over.
pub(crate) fn remember(view: &View<'_>, workload: WorkloadIndex, kept: &mut HostMemory) {
    if view.workloads[workload.at()].workload.rollout != Rollout::InProgress {
        kept.rollout = None;
        return;
    }
    let seen = seen(view, workload);
    if !kept.rollout.as_ref().is_some_and(|earlier| earlier.is_like(&seen)) {
        kept.rollout = Some(seen);
    }
}

/// What a step of a rollout changes.
fn seen(view: &View<'_>, workload: WorkloadIndex) -> RolloutMemory {
    let pods = &view.workloads[workload.at()].workload.pods;
    let count = |phase: PodPhase| pods.iter().filter(|pod| pod.phase == phase).count();
    let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
    RolloutMemory {
        since: view.now,
        replicas: number(pods.len()),
        ready: number(count(PodPhase::Ready)),
        going: number(count(PodPhase::Terminating)),
        newest: pods.iter().map(|pod| pod.created_at).max(),
    }
}
