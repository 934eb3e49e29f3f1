//! What is remembered, joined with the view once: rooms ask for it by index, and most of them
//! ask for every workload.

use super::{HostIndex, View, WorkloadIndex};
use crate::memory::{HostMemory, Memory, WorkloadMemory};

/// The memory by workload and by host of a view.
pub(crate) struct Remembered<'a> {
    /// Everything, also of what is not in the view.
    pub(crate) all: &'a Memory,
    workloads: Vec<Option<&'a WorkloadMemory>>,
    hosts: Vec<Option<&'a HostMemory>>,
}

impl<'a> Remembered<'a> {
    /// Joins a memory with a view.
    pub(crate) fn of(view: &View<'_>, memory: &'a Memory) -> Self {
        let workloads = view.workloads.iter().map(|workload| &workload.workload.id);
        let hosts = view.hosts.iter().map(|host| &host.host.name);
        Self {
            all: memory,
            workloads: joined(workloads, memory.workloads.iter()),
            hosts: joined(hosts, memory.hosts.iter()),
        }
    }

    /// Of one workload.
    pub(crate) fn workload(&self, at: WorkloadIndex) -> Option<&'a WorkloadMemory> {
        self.workloads[at.at()]
    }

    /// Of one host.
    pub(crate) fn host(&self, at: HostIndex) -> Option<&'a HostMemory> {
        self.hosts[at.at()]
    }

    /// The workloads of the view of which something is remembered, in their order.
    pub(crate) fn each_workload(
        &self,
    ) -> impl Iterator<Item = (WorkloadIndex, &'a WorkloadMemory)> + use<'a, '_> {
        let all = self.workloads.iter().enumerate();
        all.filter_map(|(at, remembered)| Some((WorkloadIndex::new(at), (*remembered)?)))
    }
}

/// What is known of each key, both sides being in the order of their keys.
fn joined<'k, 'a, K: Ord + 'k + 'a, V>(
    keys: impl Iterator<Item = &'k K>,
    known: impl Iterator<Item = (&'a K, &'a V)>,
) -> Vec<Option<&'a V>> {
    let mut known = known.peekable();
    keys.map(|key| {
        while known.next_if(|(other, _)| *other < key).is_some() {}
        known.next_if(|(other, _)| *other == key).map(|(_, value)| value)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::joined;

    #[test]
    fn only_what_both_sides_name_is_joined() {
        let known = BTreeMap::from([("a", 1), ("c", 3), ("d", 4), ("f", 6)]);
        let keys = ["b", "c", "d", "e", "f", "g"];
        let found = joined(keys.iter(), known.iter());
        assert_eq!(found, [None, Some(&3), Some(&4), None, Some(&6), None]);
    }
}
