//! Tries one replica elsewhere and follows what that changes.

use super::{Depth, NEGLIGIBLE, Objective, Shift, journal::Field};
use crate::view::{NodeIndex, WorkloadIndex};

impl Objective<'_> {
    /// Tries a replica elsewhere; the change of the cost.
    pub(in crate::decide::moves) fn shift(&mut self, shift: Shift, depth: Depth) -> f64 {
        let before = self.total;
        self.journal.marks.push((self.journal.entries.len(), self.journal.saved.len(), before));
        self.journal.shifts.push(shift);
        self.journal.changes += 1;
        let view = self.view;
        let calls = &view.workloads[shift.workload.at()].calls;
        for edge in calls {
            self.take_out(edge.at());
        }
        self.carry(shift);
        self.save_service(shift.workload);
        self.gather(shift.workload);
        self.route(shift.workload);
        for edge in calls {
            self.put_in(edge.at());
        }
        self.follow(depth);
        self.total - before
    }

    pub(super) fn replace(&mut self, workload: WorkloadIndex, from: NodeIndex, to: NodeIndex) {
        let places = &mut self.services[workload.at()].places;
        if let Ok(at) = places.binary_search_by_key(&from, |(node, _)| *node) {
            places[at].1 -= 1;
            if places[at].1 == 0 {
                places.remove(at);
            }
        }
        match places.binary_search_by_key(&to, |(node, _)| *node) {
            Ok(at) => places[at].1 += 1,
            Err(at) => places.insert(at, (to, 1)),
        }
    }

    /// Carries one replica over: counts, round trips, load of nodes.
    pub(super) fn carry(&mut self, shift: Shift) {
        let Shift { workload, from, to } = shift;
        let view = self.view;
        let size = self.zones * self.zones;
        let mut far_from = std::mem::take(&mut self.scratch.from);
        let mut far_to = std::mem::take(&mut self.scratch.to);
        let (zone_from, zone_to) = (view.nodes[from.at()].zone.at(), view.nodes[to.at()].zone.at());
        self.save(Field::Counts, workload.at() * self.zones, self.zones);
        for edge in &view.workloads[workload.at()].called_by {
            let caller = self.legs[edge.at()].caller;
            if caller == workload {
                continue;
            }
            self.save(Field::Trips, edge.at() * size, size);
            self.distances(caller, from, &mut far_from);
            self.distances(caller, to, &mut far_to);
            for zone in 0..self.zones {
                let row = edge.at() * size + zone * self.zones;
                self.trips[row + zone_from] -= far_from[zone];
                self.trips[row + zone_to] += far_to[zone];
            }
        }
        for edge in &view.workloads[workload.at()].calls {
            let callee = self.legs[edge.at()].callee;
            if callee == workload {
                continue;
            }
            self.save(Field::Trips, edge.at() * size, size);
            self.distances(callee, from, &mut far_from);
            self.distances(callee, to, &mut far_to);
            for zone in 0..self.zones {
                let column = edge.at() * size + zone;
                self.trips[column + zone_from * self.zones] -= far_from[zone];
                self.trips[column + zone_to * self.zones] += far_to[zone];
            }
        }
        (self.scratch.from, self.scratch.to) = (far_from, far_to);
        self.counts[workload.at() * self.zones + zone_from] -= 1.0;
        self.counts[workload.at() * self.zones + zone_to] += 1.0;
        for edge in &view.workloads[workload.at()].called_by {
            self.save(Field::Costs, edge.at() * size, size);
            for from in 0..self.zones {
                self.measure_cost(edge.at(), from, zone_from);
                self.measure_cost(edge.at(), from, zone_to);
            }
        }
        for edge in &view.workloads[workload.at()].calls {
            self.save(Field::Costs, edge.at() * size, size);
            for to in 0..self.zones {
                self.measure_cost(edge.at(), zone_from, to);
                self.measure_cost(edge.at(), zone_to, to);
            }
        }
        self.replace(workload, from, to);
        let cpu = self.services[workload.at()].cpu;
        for (node, change) in [(from, -cpu), (to, cpu)] {
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
        while let Some((_, callee)) = self.scratch.changed.pop() {
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
            let entry = (self.services[callee.at()].rank, callee);
            let changed = &mut self.scratch.changed;
            if let Err(at) = changed.binary_search_by(|other| entry.cmp(other)) {
                changed.insert(at, entry);
            }
        }
    }
}
