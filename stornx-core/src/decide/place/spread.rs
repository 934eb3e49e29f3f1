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
use crate::view::{NodeIndex, View, WorkloadIndex, ZoneIndex, selects};

/// Whether new replicas may go to a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They may.
    Allowed,
    /// They may, but another zone comes first.
    NotYet,
    /// They may not.
    Refused(Obstacle),
}

/// The zones that a workload counts for its own spread constraint: those with a node that
/// its selectors admit. Empty where it has no such constraint.
pub(super) fn counted_zones(view: &View<'_>, workload: WorkloadIndex) -> Vec<ZoneIndex> {
    let constraints = &view.workloads[workload.at()].workload.constraints;
    let mut zones = Vec::new();
    if constraints.max_zone_skew.is_none() {
        return zones;
    }
    for node in &view.nodes {
        if zones.len() == view.zones.len() {
            break;
        }
        if !zones.contains(&node.zone) && selects(node.node, constraints).is_ok() {
            zones.push(node.zone);
        }
    }
    zones
}

/// What holds for each zone, when nodes of the zones in `offered` could take a replica.
pub(super) fn verdicts(
    view: &View<'_>,
    workload: WorkloadIndex,
    layout: &Layout,
    counted: &[ZoneIndex],
    offered: &[bool],
) -> Vec<Verdict> {
    let zones = offered.len();
    let constraints = &view.workloads[workload.at()].workload.constraints;
    let mut verdicts = vec![Verdict::Allowed; zones];
    if let Some(max) = constraints.max_zone_skew {
        let least = counted.iter().map(|zone| layout.bound[zone.at()]).min().unwrap_or(0);
        let most = least.saturating_add(max.max(1));
        for (verdict, bound) in verdicts.iter_mut().zip(&layout.bound) {
            if *bound >= most {
                *verdict = Verdict::Refused(Obstacle::OwnSkew);
            }
        }
    }
    let tolerance = &view.policy.fault_tolerance;
    let held = |zone: usize| layout.spread[zone] > 0;
    let may_widen = u32::try_from(layout.held()).is_ok_and(|count| count < tolerance.max_zones);
    let open = |zone: &usize| offered[*zone] && verdicts[*zone] == Verdict::Allowed;
    let widens = may_widen && (0..zones).filter(open).any(|zone| !held(zone));
    let least = layout.spread.iter().copied().filter(|count| *count > 0).min().unwrap_or(0);
    let most = least.saturating_add(tolerance.max_skew.max(1));
    for (zone, verdict) in verdicts.iter_mut().enumerate() {
        if *verdict != Verdict::Allowed {
            continue;
        }
        *verdict = match (held(zone), widens) {
            (true, true) => Verdict::NotYet,
            (false, true) => Verdict::Allowed,
            (false, false) => Verdict::Refused(Obstacle::BeyondZones),
            (true, false) if layout.spread[zone] >= most => Verdict::Refused(Obstacle::Skew),
            (true, false) => Verdict::Allowed,
        };
    }
    verdicts
}

/// Keeps those of `nodes` that lie in an allowed zone.
pub(super) fn keep_allowed(
    view: &View<'_>,
    workload: WorkloadIndex,
    layout: &Layout,
    nodes: &mut Vec<NodeIndex>,
    refusals: &mut Refusals,
) {
    let mut offered = vec![false; view.zones.len()];
    for node in nodes.iter() {
        offered[view.nodes[node.at()].zone.at()] = true;
    }
    let counted = counted_zones(view, workload);
    let verdicts = verdicts(view, workload, layout, &counted, &offered);
    nodes.retain(|node| match verdicts[view.nodes[node.at()].zone.at()] {
        Verdict::Allowed => true,
        Verdict::NotYet => false,
        Verdict::Refused(obstacle) => {
            refusals.count(obstacle);
            false
        }
    });
}
