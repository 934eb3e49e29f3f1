//! A plan to be made, with all that it is made from.

use stornx_core::{
    check::{Violation, check},
    decide::plan,
    memory::Memory,
    model::Snapshot,
    plan::Planned,
    policy::Policy,
    ports::PortError,
    remember::remember,
    units::Timestamp,
};

use super::cluster::{self, Probes};

/// Nodes that each node measures round trips to, where some do.
const PROBED: usize = 32;

/// How long ago the cycle was that the memory is from: long enough that its wishes are
/// confirmed, in ms.
const AGO: u64 = 600_000;

/// What is known besides the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    First,
    Later,
    Probed,
    AllPairs,
}

impl Kind {
    #[allow(dead_code)] // The test of growth needs no names.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "first" => Some(Self::First),
            "later" => Some(Self::Later),
            "probed" => Some(Self::Probed),
            "all-pairs" => Some(Self::AllPairs),
            _ => None,
        }
    }

    const fn probes(self) -> Probes {
        match self {
            Self::First | Self::Later => Probes::None,
            Self::Probed => Probes::Some(PROBED),
            Self::AllPairs => Probes::All,
        }
    }
}

pub(crate) struct Run {
    snapshot: Snapshot,
    policy: Policy,
    memory: Memory,
    now: Timestamp,
}

impl Run {
    pub(crate) fn new(size: f64, kind: Kind, seed: u64) -> Self {
        let (snapshot, now) = cluster::of_size(size, kind.probes(), seed);
        Self::with(snapshot, now, kind, Policy::default())
    }

    /// The same with another budget for the search for bundles, in steps.
    #[allow(dead_code)] // The test of growth and the heap search as far as is usual.
    pub(crate) fn searching(size: f64, kind: Kind, seed: u64, steps: u32) -> Self {
        let (snapshot, now) = cluster::of_size(size, kind.probes(), seed);
        let mut policy = Policy::default();
        policy.moves.search_steps = steps;
        Self::with(snapshot, now, kind, policy)
    }

    fn with(snapshot: Snapshot, now: Timestamp, kind: Kind, policy: Policy) -> Self {
        let mut memory = Memory::default();
        if kind != Kind::First {
            // A cycle of some time ago that carried nothing out.
            let then = Timestamp::from_millis(now.as_millis() - AGO);
            let planned = plan(&snapshot, &policy, &memory, then);
            let skipped =
                || Err(PortError::NotTried { what: String::new(), detail: String::new() });
            let outcomes = planned.plan.actions.iter().map(|_| skipped()).collect();
            memory = remember(memory, &snapshot, &planned, &outcomes, &policy, then);
        }
        Self { snapshot, policy, memory, now }
    }

    /// The first plan for one service and its caller.
    #[allow(dead_code)] // Only the bench of times asks for it.
    pub(crate) fn of_one_service(nodes: usize) -> Self {
        let (snapshot, now) = cluster::of_one_service(nodes);
        Self { snapshot, policy: Policy::default(), memory: Memory::default(), now }
    }

    #[allow(dead_code)] // The test of growth prints no sizes.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What is measured by its name: not inlined, and nothing but the plan.
    #[inline(never)]
    pub(crate) fn only_plan(&self) -> Planned {
        plan(&self.snapshot, &self.policy, &self.memory, self.now)
    }

    #[allow(dead_code)] // The test of growth remembers nothing.
    /// As above, for what is remembered of a plan whose every action was carried out.
    #[inline(never)]
    pub(crate) fn only_remember(&self, planned: &Planned) -> Memory {
        let outcomes = planned.plan.actions.iter().map(|_| Ok(())).collect();
        let memory = self.memory.clone();
        remember(memory, &self.snapshot, planned, &outcomes, &self.policy, self.now)
    }

    /// As above, for the check.
    #[inline(never)]
    pub(crate) fn only_check(&self, planned: &Planned) -> Vec<Violation> {
        check(&self.snapshot, &self.policy, &self.memory, planned)
    }
}
