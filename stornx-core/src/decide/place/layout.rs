//! Where the replicas of one workload are, or will be after what is promised.

use crate::{
    model::PodPhase,
    view::{NodeIndex, PodView, View, WorkloadIndex},
};

/// The replicas of one workload by zone and node.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Replicas that serve, will serve (starting, promised), by zone: what spread
    /// counts.
    pub(super) spread: Vec<u32>,
    /// All bound replicas that are not being deleted, by zone: what Kubernetes counts
    /// for a spread constraint.
    pub(super) bound: Vec<u32>,
    /// Nodes that hold a replica, one being deleted included, in their order.
    occupied: Vec<NodeIndex>,
}

fn counts_for_spread(pod: &PodView<'_>) -> bool {
    matches!(pod.phase, PodPhase::Ready | PodPhase::Starting)
}

impl Layout {
    /// The layout as it stands.
    pub(crate) fn of(view: &View<'_>, workload: WorkloadIndex) -> Self {
        let mut layout = Self {
            spread: vec![0; view.zones.len()],
            bound: vec![0; view.zones.len()],
            occupied: Vec::new(),
        };
        for pod in &view.workloads[workload.at()].pods {
            let (Some(node), Some(zone)) = (pod.node, pod.zone) else { continue };
            layout.occupied.push(node);
            if pod.phase != PodPhase::Terminating {
                layout.bound[zone.at()] += 1;
            }
            if counts_for_spread(pod) {
                layout.spread[zone.at()] += 1;
            }
        }
        layout.occupied.sort_unstable();
        layout.occupied.dedup();
        layout
    }

    /// Whether a node holds a replica, one being deleted included.
    pub(super) fn occupies(&self, node: NodeIndex) -> bool {
        self.occupied.binary_search(&node).is_ok()
    }

    /// The layout with one more replica on `node`.
    pub(crate) fn add(&mut self, view: &View<'_>, node: NodeIndex) {
        let zone = view.nodes[node.at()].zone.at();
        self.spread[zone] += 1;
        self.bound[zone] += 1;
        if let Err(at) = self.occupied.binary_search(&node) {
            self.occupied.insert(at, node);
        }
    }

    /// Zones that hold a replica for spread.
    pub(super) fn held(&self) -> usize {
        self.spread.iter().filter(|count| **count > 0).count()
    }
}
