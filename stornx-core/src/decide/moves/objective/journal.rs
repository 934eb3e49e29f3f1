//! What a change overwrites, so that it can be taken back exactly.

use super::{Objective, Shift};
use crate::view::{NodeIndex, WorkloadIndex};

/// One replica more on a node, or one that comes from another node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change {
    pub(super) workload: WorkloadIndex,
    pub(super) from: Option<NodeIndex>,
    pub(super) to: NodeIndex,
}

impl From<Shift> for Change {
    fn from(Shift { workload, from, to }: Shift) -> Self {
        Self { workload, from: Some(from), to }
    }
}

/// What was overwritten, for taking a change back exactly.
#[derive(Clone, Default)]
pub(super) struct Journal {
    pub(super) entries: Vec<(Field, usize, usize)>,
    pub(super) saved: Vec<f64>,
    pub(super) made: Vec<Change>,
    /// Length of the two lists above and the total when each change began.
    pub(super) marks: Vec<(usize, usize, f64)>,
    /// Changes so far, those taken back included.
    pub(super) changes: u64,
    /// By workload: the last change that saved what it is called with. What a change
    /// saves once need not be saved again by it.
    pub(super) saved_by: Vec<u64>,
}

impl Journal {
    /// Nothing has been overwritten.
    pub(super) fn new(workloads: usize) -> Self {
        Self { saved_by: vec![0; workloads], ..Self::default() }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Field {
    Counts,
    Demand,
    Inflow,
    Weights,
    Split,
    LegDemand,
    Trips,
    Costs,
    Cost,
    NodeCpu,
}

impl Objective<'_> {
    /// Takes the last change back.
    pub(in crate::decide::moves) fn take_back(&mut self) {
        let Some((entries, saved, total)) = self.journal.marks.pop() else { return };
        while self.journal.entries.len() > entries {
            let Some((field, at, len)) = self.journal.entries.pop() else { break };
            let from = self.journal.saved.len() - len;
            match field {
                Field::Cost => self.services[at].cost = self.journal.saved[from],
                _ => {
                    let (journal, list) = self.list(field);
                    list[at..at + len].copy_from_slice(&journal.saved[from..]);
                }
            }
            self.journal.saved.truncate(from);
        }
        debug_assert_eq!(self.journal.saved.len(), saved);
        if let Some(Change { workload, from, to }) = self.journal.made.pop() {
            self.leave(workload, to);
            if let Some(from) = from {
                self.enter(workload, from);
            }
        }
        self.total = total;
    }

    /// All changes so far stand: they can no longer be taken back.
    pub(in crate::decide::moves) fn keep(&mut self) {
        let journal = &mut self.journal;
        journal.entries.clear();
        journal.saved.clear();
        journal.made.clear();
        journal.marks.clear();
    }

    pub(super) fn list(&mut self, field: Field) -> (&mut Journal, &mut Vec<f64>) {
        let list = match field {
            Field::Counts => &mut self.counts,
            Field::Demand => &mut self.demand,
            Field::Inflow => &mut self.inflow,
            Field::Weights => &mut self.weights,
            Field::Split => &mut self.split,
            Field::LegDemand => &mut self.leg_demand,
            Field::Trips => &mut self.trips,
            Field::Costs => &mut self.costs,
            Field::NodeCpu | Field::Cost => &mut self.node_cpu,
        };
        (&mut self.journal, list)
    }

    pub(super) fn save(&mut self, field: Field, at: usize, len: usize) {
        let (journal, list) = self.list(field);
        journal.entries.push((field, at, len));
        journal.saved.extend_from_slice(&list[at..at + len]);
    }

    pub(super) fn save_service(&mut self, workload: WorkloadIndex) {
        if self.journal.saved_by[workload.at()] == self.journal.changes {
            return;
        }
        self.journal.saved_by[workload.at()] = self.journal.changes;
        let (zones, size) = (self.zones, self.zones * self.zones);
        self.save(Field::Demand, workload.at() * zones, zones);
        self.save(Field::Inflow, workload.at() * zones, zones);
        self.save(Field::Weights, workload.at() * size, size);
        self.save(Field::Split, workload.at() * size, size);
        self.journal.entries.push((Field::Cost, workload.at(), 1));
        self.journal.saved.push(self.services[workload.at()].cost);
    }
}
