//! In which zones a new replica may go.
//!
//! Until `FT_MAX_ZONES` zones hold a replica (or all zones that can take one do), only
//! zones without one; afterwards only zones that hold one, within the allowed skew.
//! A spread constraint of the workload itself holds besides, counted as the scheduler
//! of Kubernetes counts it: over every zone that its selectors admit, all bound
//! replicas; a node outside it would leave the replica pending.
//!
//! A zone that is full or down does not stop a workload from growing elsewhere: spread
//! is for surviving failures, and refusing to grow during one would defeat it.

use super::{
    feasible::{Obstacle, Refusals},
    layout::Layout,
};
use crate::view::{NodeIndex, View, WorkloadIndex, selects};

/// Keeps those of `nodes` that lie in an allowed zone.
pub(super) fn keep_allowed(
    view: &View<'_>,
    workload: WorkloadIndex,
    layout: &Layout,
    nodes: &mut Vec<NodeIndex>,
    refusals: &mut Refusals,
) {
    let zone = |node: &NodeIndex| view.nodes[node.at()].zone.at();
    let mut keep = |nodes: &mut Vec<NodeIndex>, obstacle, allowed: &dyn Fn(usize) -> bool| {
        nodes.retain(|node| {
            let allowed = allowed(zone(node));
            if !allowed {
                refusals.count(obstacle);
            }
            allowed
        });
    };

    let constraints = &view.workloads[workload.at()].workload.constraints;
    if let Some(max) = constraints.max_zone_skew {
        let least = least_bound(view, workload, layout);
        let fits = |zone: usize| layout.bound[zone] < least.saturating_add(max.max(1));
        keep(nodes, Obstacle::OwnSkew, &fits);
    }

    let tolerance = &view.policy.fault_tolerance;
    let held = |zone: usize| layout.spread[zone] > 0;
    let may_widen = u32::try_from(layout.held()).is_ok_and(|count| count < tolerance.max_zones);
    if may_widen && nodes.iter().any(|node| !held(zone(node))) {
        nodes.retain(|node| !held(zone(node)));
        return;
    }
    keep(nodes, Obstacle::BeyondZones, &held);
    let least = layout.spread.iter().copied().filter(|count| *count > 0).min().unwrap_or(0);
    let fits = |zone: usize| layout.spread[zone] < least.saturating_add(tolerance.max_skew.max(1));
    keep(nodes, Obstacle::Skew, &fits);
}

/// The least bound replicas of any zone that the workload's selectors admit.
fn least_bound(view: &View<'_>, workload: WorkloadIndex, layout: &Layout) -> u32 {
    let constraints = &view.workloads[workload.at()].workload.constraints;
    let selected = view.nodes.iter().filter(|node| selects(node.node, constraints).is_ok());
    selected.map(|node| layout.bound[node.zone.at()]).min().unwrap_or(0)
}
