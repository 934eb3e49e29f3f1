//! Where a replica could go: a few nodes of a zone, chosen without looking at all of
//! them.
//!
//! For each zone, nodes that take pods are sorted once by what is asked for on them.
//! A search then looks at nodes that hold neighbours or siblings of the workload
//! (nearest, and known to admit their kind) and walks the sorted list from its empty
//! end until it finds one that admits it, at most [`WALK`] nodes. So a search takes a
//! bounded number of looks however large the zone is. What is lost: a workload that
//! only a few busy nodes of a zone admit, where none of its own or its neighbours'
//! replicas run, may find nothing there.

use crate::{
    decide::{ledger::Ledger, place::used_share},
    view::{NodeIndex, View, WorkloadIndex, ZoneIndex, admits},
};

/// Nodes looked at from the empty end of a zone. Pools with their own taint or label
/// are seldom less than a thirtieth of a zone.
const WALK: usize = 64;

/// The nodes of each zone that take pods, the least used first.
pub(crate) struct Destinations {
    by_zone: Vec<Vec<NodeIndex>>,
}

impl Destinations {
    pub(crate) fn new(view: &View<'_>, ledger: &Ledger) -> Self {
        let mut by_zone: Vec<Vec<(f64, NodeIndex)>> = vec![Vec::new(); view.zones.len()];
        for (at, node) in view.each_node().filter(|(_, node)| node.open()) {
            by_zone[node.zone.at()].push((used_share(view, ledger, at), at));
        }
        let sorted = |mut nodes: Vec<(f64, NodeIndex)>| {
            nodes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            nodes.into_iter().map(|(_, at)| at).collect()
        };
        Self { by_zone: by_zone.into_iter().map(sorted).collect() }
    }

    /// The least used node of a zone that takes a replica of `workload`.
    pub(crate) fn least_used(
        &self,
        view: &View<'_>,
        ledger: &Ledger,
        workload: WorkloadIndex,
        zone: ZoneIndex,
        but: &[NodeIndex],
    ) -> Option<NodeIndex> {
        let nodes = self.by_zone[zone.at()].iter().take(WALK).copied();
        nodes.filter(|node| !but.contains(node)).find(|node| takes(view, ledger, workload, *node))
    }

    /// The least used node of a zone whose rules admit a replica of `workload`, with or
    /// without room for it.
    pub(super) fn least_used_if_empty(
        &self,
        view: &View<'_>,
        workload: WorkloadIndex,
        zone: ZoneIndex,
    ) -> Option<NodeIndex> {
        let mut nodes = self.by_zone[zone.at()].iter().take(WALK).copied();
        nodes.find(|node| admitted(view, workload, *node))
    }
}

/// Whether a node takes one more replica of a workload, while all present ones stay:
/// the victim of a move runs until its replacement is Ready.
pub(crate) fn takes(
    view: &View<'_>,
    ledger: &Ledger,
    workload: WorkloadIndex,
    node: NodeIndex,
) -> bool {
    ledger.fits(node, &view.workloads[workload.at()].workload.requests)
        && ledger.node_allows(node)
        && admitted(view, workload, node)
}

/// Whether the rules of a node and a workload admit one more replica there.
pub(super) fn admitted(view: &View<'_>, workload: WorkloadIndex, node: NodeIndex) -> bool {
    let of = &view.workloads[workload.at()];
    let constraints = &of.workload.constraints;
    admits(view.nodes[node.at()].node, constraints).is_ok()
        && !(constraints.one_per_node && of.pods.iter().any(|pod| pod.node == Some(node)))
}
