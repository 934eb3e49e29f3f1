//! What this cycle has already promised: resources of nodes, and budgets. The one
//! place where budgets are counted, so that no two rooms spend the same one.

use crate::{
    memory::Intent,
    model::{Pod, PodPhase},
    plan::MoveWay,
    units::Resources,
    view::{NodeIndex, Remembered, View, WorkloadIndex, ZoneIndex},
};

/// Promises of one cycle.
#[derive(Clone)]
pub(crate) struct Ledger {
    free: Vec<Resources>,
    free_pods: Vec<u32>,
    counted: Vec<bool>,
    scale_actions_left: u32,
    routing_writes_left: u32,
    moves_left: u32,
    moves_left_by_zone: Vec<u32>,
    moves_left_by_node: Vec<u32>,
    zones: Vec<ZoneIndex>,
    evicting: bool,
}

impl Ledger {
    /// Nothing is promised yet but room for the replicas that were asked for earlier and
    /// are not bound to their nodes.
    pub(crate) fn new(view: &View<'_>, memory: &Remembered<'_>) -> Self {
        let mut ledger = Self::fresh(view, memory);
        for (at, remembered) in memory.each_workload() {
            let workload = view.workloads[at.at()].workload;
            let stands = |intent: &&Intent| intent.stands(&workload.pods, view.now);
            let waits = |pod: &&Pod| pod.phase == PodPhase::Pending;
            let waiting = workload.pods.iter().filter(waits);
            let told = waiting.filter_map(|pod| pod.traces.steered.as_ref());
            let nodes = remembered.intents.iter().filter(stands).map(|intent| &intent.node);
            for node in nodes.chain(told.map(|steered| &steered.node)) {
                if let Some(node) = view.node(node) {
                    ledger.promise(node, workload.requests);
                }
            }
        }
        ledger
    }

    fn fresh(view: &View<'_>, memory: &Remembered<'_>) -> Self {
        let moves = &view.policy.moves;
        let records = || memory.all.workloads.values().filter_map(|w| w.in_flight.as_ref());
        let in_flight = u32::try_from(records().count()).unwrap_or(u32::MAX);
        Self {
            free: view
                .nodes
                .iter()
                .map(|node| node.node.allocatable.saturating_sub(node.requested))
                .collect(),
            free_pods: view
                .nodes
                .iter()
                .map(|node| node.node.pod_capacity.saturating_sub(node.pods))
                .collect(),
            counted: vec![false; view.workloads.len()],
            scale_actions_left: view.policy.scaler.max_actions,
            routing_writes_left: view.policy.balancer.max_writes,
            moves_left: moves.max_per_cycle.min(moves.max_in_flight.saturating_sub(in_flight)),
            moves_left_by_zone: vec![moves.max_per_zone; view.zones.len()],
            moves_left_by_node: vec![moves.max_per_node; view.nodes.len()],
            zones: view.nodes.iter().map(|node| node.zone).collect(),
            evicting: records().any(|record| record.way == MoveWay::Evict),
        }
    }

    /// Whether a replica asking for `requests` fits on a node after all promises.
    pub(crate) fn fits(&self, node: NodeIndex, requests: &Resources) -> bool {
        self.free_pods[node.at()] > 0 && requests.fits(&self.free[node.at()])
    }

    /// What is left on a node after all promises.
    pub(crate) fn free(&self, node: NodeIndex) -> Resources {
        self.free[node.at()]
    }

    /// Replicas that a node may still take after all promises.
    pub(crate) fn free_pods(&self, node: NodeIndex) -> u32 {
        self.free_pods[node.at()]
    }

    /// Promises room for one replica on a node.
    pub(crate) fn promise(&mut self, node: NodeIndex, requests: Resources) {
        self.free[node.at()] = self.free[node.at()].saturating_sub(requests);
        self.free_pods[node.at()] = self.free_pods[node.at()].saturating_sub(1);
    }

    /// Whether an action of this cycle already changes the count of a workload.
    pub(crate) fn is_counted(&self, workload: WorkloadIndex) -> bool {
        self.counted[workload.at()]
    }

    /// Records that an action changes the count of a workload.
    pub(crate) fn count(&mut self, workload: WorkloadIndex) {
        self.counted[workload.at()] = true;
    }

    /// Scale actions that may still begin.
    pub(crate) const fn scale_actions_left(&self) -> u32 {
        self.scale_actions_left
    }

    /// Spends one scale action on a workload.
    pub(crate) fn spend_scale_action(&mut self, workload: WorkloadIndex) {
        self.scale_actions_left = self.scale_actions_left.saturating_sub(1);
        self.count(workload);
    }

    /// Spends one routing write, if there is one left.
    pub(crate) const fn spend_routing_write(&mut self) -> bool {
        let left = self.routing_writes_left > 0;
        self.routing_writes_left = self.routing_writes_left.saturating_sub(1);
        left
    }

    /// Whether one more move may begin, out of one zone and into another.
    pub(crate) fn move_allowed(&self, from: ZoneIndex, to: ZoneIndex) -> bool {
        self.moves_left > 0
            && self.moves_left_by_zone[from.at()] > 0
            && self.moves_left_by_zone[to.at()] > 0
    }

    /// Whether one more move may begin that touches this node.
    pub(crate) fn node_allows(&self, node: NodeIndex) -> bool {
        self.moves_left_by_node[node.at()] > 0
    }

    /// Whether a move of this way may begin: evictions go one at a time.
    pub(crate) const fn way_allowed(&self, way: MoveWay) -> bool {
        match way {
            MoveWay::Surge | MoveWay::Hold => true,
            MoveWay::Evict => !self.evicting,
        }
    }

    /// Moves that may still begin.
    pub(crate) const fn moves_left(&self) -> u32 {
        self.moves_left
    }

    /// Spends one move, from one node to another.
    pub(crate) fn spend_move(
        &mut self,
        workload: WorkloadIndex,
        way: MoveWay,
        from: NodeIndex,
        to: NodeIndex,
    ) {
        self.moves_left = self.moves_left.saturating_sub(1);
        for node in [from, to] {
            let left = &mut self.moves_left_by_node[node.at()];
            *left = left.saturating_sub(1);
        }
        let (from, to) = (self.zones[from.at()], self.zones[to.at()]);
        let by_zone = &mut self.moves_left_by_zone;
        by_zone[from.at()] = by_zone[from.at()].saturating_sub(1);
        if from != to {
            by_zone[to.at()] = by_zone[to.at()].saturating_sub(1);
        }
        self.evicting |= way == MoveWay::Evict;
        self.count(workload);
    }
}
