//! Tries one replica elsewhere and follows what that changes.

use std::sync::Arc;

use super::{
    Depth, NEGLIGIBLE, Objective, Shift,
    journal::{Change, Field},
};
use crate::view::{NodeIndex, WorkloadIndex};

impl Objective<'_> {
    /// Tries a replica elsewhere; the change of the cost.
    pub(in crate::decide::moves) fn shift(&mut self, shift: Shift, depth: Depth) -> f64 {
        self.change(shift.into(), depth)
    }

    /// Tries one replica more on a node; the change of the cost. Its work is added to that
    /// of the node and not taken off the others, which is a little too dear.
    pub(in crate::decide::moves) fn grow(
        &mut self,
        workload: WorkloadIndex,
        to: NodeIndex,
        depth: Depth,
    ) -> f64 {
        self.change(Change { workload, from: None, to }, depth)
    }

    fn change(&mut self, change: Change, depth: Depth) -> f64 {
        let before = self.total;
        self.journal.marks.push((self.journal.entries.len(), self.journal.saved.len(), before));
        self.journal.made.push(change);
        self.journal.changes += 1;
        let view = self.view;
        let calls = &view.workloads[change.workload.at()].calls;
        for edge in calls {
            self.take_out(edge.at());
        }
        self.carry(change);
        self.save_service(change.workload);
        self.gather(change.workload);
        self.route(change.workload);
        for edge in calls {
            self.put_in(edge.at());
        }
        self.follow(depth);
        self.total - before
    }

    pub(super) fn leave(&mut self, workload: WorkloadIndex, node: NodeIndex) {
        let places = Arc::make_mut(&mut self.services[workload.at()].places);
        if let Ok(at) = places.binary_search_by_key(&node, |(node, _)| *node) {
            places[at].1 -= 1;
            if places[at].1 == 0 {
                places.remove(at);
            }
        }
    }

    pub(super) fn enter(&mut self, workload: WorkloadIndex, node: NodeIndex) {
        let places = Arc::make_mut(&mut self.services[workload.at()].places);
        match places.binary_search_by_key(&node, |(node, _)| *node) {
            Ok(at) => places[at].1 += 1,
            Err(at) => places.insert(at, (node, 1)),
        }
    }

    /// Carries one replica over: counts, round trips, load of nodes.
    fn carry(&mut self, Change { workload, from, to }: Change) {
        let view = self.view;
        let size = self.zones * self.zones;
        let mut far_from = std::mem::take(&mut self.scratch.from);
        let mut far_to = std::mem::take(&mut self.scratch.to);
        let zone_of = |node: NodeIndex| view.nodes[node.at()].zone.at();
        let (zone_from, zone_to) = (from.map(zone_of), zone_of(to));
        self.save(Field::Counts, workload.at() * self.zones, self.zones);
        for edge in &view.workloads[workload.at()].called_by {
            let caller = self.legs[edge.at()].caller;
            if caller == workload {
                continue;
            }
            self.save(Field::Trips, edge.at() * size, size);
            let row = |zone: usize| edge.at() * size + zone * self.zones;
            if let Some((from, zone_from)) = from.zip(zone_from) {
                self.distances(caller, from, &mut far_from);
                for (zone, far) in far_from.iter().enumerate() {
                    self.trips[row(zone) + zone_from] -= far;
                }
            }
            self.distances(caller, to, &mut far_to);
            for (zone, far) in far_to.iter().enumerate() {
                self.trips[row(zone) + zone_to] += far;
            }
        }
        for edge in &view.workloads[workload.at()].calls {
            let callee = self.legs[edge.at()].callee;
            if callee == workload {
                continue;
            }
            self.save(Field::Trips, edge.at() * size, size);
            let column = edge.at() * size;
            if let Some((from, zone_from)) = from.zip(zone_from) {
                self.distances(callee, from, &mut far_from);
                for (zone, far) in far_from.iter().enumerate() {
                    self.trips[column + zone + zone_from * self.zones] -= far;
                }
            }
            self.distances(callee, to, &mut far_to);
            for (zone, far) in far_to.iter().enumerate() {
                self.trips[column + zone + zone_to * self.zones] += far;
            }
        }
        (self.scratch.from, self.scratch.to) = (far_from, far_to);
        if let Some(zone_from) = zone_from {
            self.counts[workload.at() * self.zones + zone_from] -= 1.0;
        }
        self.counts[workload.at() * self.zones + zone_to] += 1.0;
        for edge in &view.workloads[workload.at()].called_by {
            self.save(Field::Costs, edge.at() * size, size);
            for from in 0..self.zones {
                for zone in zone_from.into_iter().chain([zone_to]) {
                    self.measure_cost(edge.at(), from, zone);
                }
            }
        }
        for edge in &view.workloads[workload.at()].calls {
            self.save(Field::Costs, edge.at() * size, size);
            for to in 0..self.zones {
                for zone in zone_from.into_iter().chain([zone_to]) {
                    self.measure_cost(edge.at(), zone, to);
                }
            }
        }
        if let Some(from) = from {
            self.leave(workload, from);
        }
        self.enter(workload, to);
        let cpu = self.services[workload.at()].cpu;
        for (node, change) in from.map(|from| (from, -cpu)).into_iter().chain([(to, cpu)]) {
            self.save(Field::NodeCpu, node.at(), 1);
            let before = self.node_cost(node.at());
            self.node_cpu[node.at()] += change;
            self.total += self.node_cost(node.at()) - before;
        }
    }

    /// Follows changes of demand down the calls. Each callee is split anew once, since
    /// what follows goes up in rank only.
    pub(super) fn follow(&mut self, depth: Depth) {
        let view = self.view;
        while let Some(rank) = self.scratch.changed.pop() {
            let callee = self.order[rank];
            let at = callee.at() * self.zones;
            self.scratch.inflow.copy_from_slice(&self.inflow[at..at + self.zones]);
            self.route(callee);
            if depth == Depth::Neighbours || !self.services[callee.at()].follows {
                continue;
            }
            let after = self.slice(&self.inflow, callee);
            let negligible = NEGLIGIBLE * after.iter().sum::<f64>();
            let before = self.scratch.inflow.iter();
            if before.zip(after).all(|(b, a)| (b - a).abs() <= negligible) {
                continue;
            }
            for edge in &view.workloads[callee.at()].calls {
                if self.legs[edge.at()].follows {
                    self.take_out(edge.at());
                    self.put_in(edge.at());
                }
            }
        }
    }

    /// Takes an edge out of the demand of its callee, before something of it changes.
    pub(super) fn take_out(&mut self, edge: usize) {
        if self.legs[edge].caller != self.legs[edge].callee {
            self.save_service(self.legs[edge].callee);
            self.weigh(edge, -1.0);
        }
    }

    /// Puts it back as it is now, with the demand that its caller sends now.
    pub(super) fn put_in(&mut self, edge: usize) {
        let callee = self.legs[edge].callee;
        if self.legs[edge].caller != callee {
            self.save(Field::LegDemand, edge * self.zones, self.zones);
            self.send(edge);
            self.weigh(edge, 1.0);
            self.scratch.changed.insert(self.services[callee.at()].rank as usize);
        }
    }
}
