//! Workloads.
//!
//! What a replica asks for is what the youngest replica of the current revision asks
//! for: admission (sidecar injection, limit ranges) adds to what the template says.
//! Without such a replica it is the template's.
//!
//! A rollout is in progress when a live replica is of an old revision; when the
//! controller has not seen the current template yet, or has not made its ReplicaSet;
//! when old replicas are going and no new one is there (`Recreate`); or when a
//! StatefulSet says so. A change of the count alone is none of these. The replicas of a
//! StatefulSet that updates `OnDelete` may be of old revisions for as long as somebody
//! likes: they are no rollout. A `partition` is one for as long as it stands: two
//! revisions run side by side, and somebody means to go on.

use std::collections::{BTreeMap, BTreeSet};

use stornx_core::{
    ids::{Namespace, WorkloadRef},
    model::{Autoscaler, DisruptionBudget, Rollout, Workload},
    units::Span,
};

use super::join::{Entry, Joined};
use crate::{
    map::{autoscaler::CONTROLLER, namespace_of, workload::Revision},
    watch::kinds::Tables,
};

/// The workloads, by reference.
pub(crate) fn workloads(
    tables: &Tables,
    joined: &mut Joined<'_>,
    floors: &[Option<u32>],
    managed: &BTreeSet<Namespace>,
) -> Vec<Workload> {
    let autoscalers = autoscalers(tables);
    let managed: BTreeSet<&str> = managed.iter().map(Namespace::as_str).collect();
    let mut workloads = Vec::with_capacity(joined.entries.len());
    for (entry, floor) in joined.entries.iter_mut().zip(floors) {
        let record = entry.record;
        let (requests, limits) = match entry.youngest {
            Some((_, requests, limits)) => (requests, limits),
            None => (record.template.requests, record.template.limits),
        };
        workloads.push(Workload {
            id: entry.id.clone(),
            managed: managed.contains(namespace_of(entry.id.as_str())),
            desired: record.desired,
            requests,
            limits,
            constraints: record.template.constraints.clone(),
            autoscaler: autoscalers
                .get(entry.id)
                .copied()
                .or_else(|| record.controlled.then_some(CONTROLLER)),
            budget: floor.map(|min_ready| DisruptionBudget { min_ready }),
            rollout: rollout(entry),
            policy: record.policy.clone(),
            startup: median(&mut entry.startups),
            min_ready: record.min_ready,
            counted_by: record.counted_by,
            ready_counted: Some(record.ready_counted),
            proxied: entry.proxied,
            pods: std::mem::take(&mut entry.pods),
        });
    }
    workloads
}

/// Who owns a count. KEDA makes an HPA of its own for what it scales, so it wins.
fn autoscalers(tables: &Tables) -> BTreeMap<&WorkloadRef, Autoscaler> {
    let hpas = tables.hpas.iter();
    let all = hpas.chain(tables.scaled_objects.iter());
    all.map(|(_, record)| (&record.target, record.autoscaler)).collect()
}

fn rollout(entry: &Entry<'_>) -> Rollout {
    let record = entry.record;
    let (updating, old_may_stay) = match &record.revision {
        Revision::Deployment(_) => (!entry.has_current, false),
        Revision::StatefulSet { updating, on_delete, .. } => (*updating, *on_delete),
    };
    let gap = entry.old_going > 0 && entry.current == 0 && record.desired > 0;
    let replacing = (entry.old > 0 || gap) && !old_may_stay;
    if record.paused {
        Rollout::Paused
    } else if record.template_is_new() || updating || replacing {
        Rollout::InProgress
    } else {
        Rollout::Settled
    }
}

/// The middle one; of an even number the smaller of the two.
fn median(spans: &mut [Span]) -> Option<Span> {
    spans.sort_unstable();
    spans.get(spans.len().saturating_sub(1) / 2).copied()
}
