//! Which nodes can take another replica of a workload: ready, open, tolerated,
//! selected, with room after all promises. What keeps the others out is counted, for
//! the reason of a refusal.

use std::{collections::BTreeMap, fmt};

use super::layout::Layout;
use crate::{
    decide::ledger::Ledger,
    view::{NodeIndex, NodeRefusal, View, WorkloadIndex, admits},
};

/// What keeps a replica off a node, in the order in which it is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Obstacle {
    /// The replicas of the workload cannot start on another node.
    Pinned,
    /// A rule of the node or the workload.
    Rule(NodeRefusal),
    /// Required anti-affinity to its own kind.
    Occupied,
    /// Not enough free CPU, memory or pods.
    Full,
    /// The spread constraint of the workload itself.
    OwnSkew,
    /// A zone beyond those that the workload is spread over.
    BeyondZones,
    /// A zone that would hold too many more than another.
    Skew,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pinned => "not possible, since its replicas are bound to their place",
            Self::Rule(refusal) => return refusal.fmt(f),
            Self::Occupied => "holding a replica already",
            Self::Full => "without enough free CPU, memory or pods",
            Self::OwnSkew => "outside its own spread constraint",
            Self::BeyondZones => "in zones beyond its spread",
            Self::Skew => "in zones that hold too many of its replicas",
        })
    }
}

/// How many nodes were kept out by what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Refusals(BTreeMap<Obstacle, u32>);

impl Refusals {
    pub(super) fn count(&mut self, obstacle: Obstacle) {
        *self.0.entry(obstacle).or_default() += 1;
    }
}

impl fmt::Display for Refusals {
    /// For example `3 nodes: 2 cordoned, 1 tainted`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total: u32 = self.0.values().sum();
        write!(f, "{total} {}", if total == 1 { "node" } else { "nodes" })?;
        for (at, (obstacle, count)) in self.0.iter().enumerate() {
            write!(f, "{} {count} {obstacle}", if at == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// The nodes that can take one more replica, whatever their zone, in their order.
pub(super) fn feasible(
    view: &View<'_>,
    ledger: &Ledger,
    workload: WorkloadIndex,
    layout: &Layout,
    refusals: &mut Refusals,
) -> Vec<NodeIndex> {
    let workload = view.workloads[workload.at()].workload;
    let constraints = &workload.constraints;
    let obstacle = |at: NodeIndex| {
        if constraints.pinned {
            return Some(Obstacle::Pinned);
        }
        if let Err(refusal) = admits(view.nodes[at.at()].node, constraints) {
            return Some(Obstacle::Rule(refusal));
        }
        if constraints.one_per_node && layout.occupies(at) {
            return Some(Obstacle::Occupied);
        }
        (!ledger.fits(at, &workload.requests)).then_some(Obstacle::Full)
    };
    let mut nodes = Vec::new();
    for (at, _) in view.each_node() {
        match obstacle(at) {
            None => nodes.push(at),
            Some(obstacle) => refusals.count(obstacle),
        }
    }
    nodes
}
