//! What the rules stand on: the snapshot by name, and what an action does to a count.

use std::collections::BTreeMap;

use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    memory::{Memory, MoveInFlight},
    model::{Edge, Host, Node, Pod, PodPhase, PodUsage, Snapshot, Workload},
    plan::{Action, MoveEnding, MoveWay, Planned},
    policy::Policy,
};

/// Replicas by zone; zones without one are absent.
pub(super) type Layout<'a> = BTreeMap<&'a ZoneName, u32>;

/// The snapshot by name, next to everything else that a plan is judged by.
pub(super) struct Ground<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) policy: &'a Policy,
    pub(super) memory: &'a Memory,
    pub(super) planned: &'a Planned,
    pub(super) nodes: BTreeMap<&'a NodeName, &'a Node>,
    pub(super) workloads: BTreeMap<&'a WorkloadRef, &'a Workload>,
    pub(super) hosts: BTreeMap<&'a HostName, &'a Host>,
    /// Zones that have a node, with nothing attached.
    pub(super) zones: std::collections::BTreeSet<&'a ZoneName>,
    /// Fresh usage only.
    pub(super) usage: BTreeMap<&'a PodName, &'a PodUsage>,
    /// Requests per second that each replica serves, fresh only.
    pub(super) rates: BTreeMap<&'a PodName, f64>,
    edges: BTreeMap<&'a HostName, Vec<&'a Edge>>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        policy: &'a Policy,
        memory: &'a Memory,
        planned: &'a Planned,
    ) -> Self {
        let usage = snapshot.usage.fresh().into_iter().flatten();
        let traffic = snapshot.traffic.fresh();
        let rates = traffic.into_iter().flat_map(|traffic| &traffic.pods);
        let mut edges: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for edge in traffic.into_iter().flat_map(|traffic| &traffic.edges) {
            edges.entry(&edge.host).or_default().push(edge);
        }
        Self {
            snapshot,
            policy,
            memory,
            planned,
            nodes: snapshot.nodes.iter().map(|node| (&node.name, node)).collect(),
            workloads: snapshot.workloads.iter().map(|w| (&w.id, w)).collect(),
            hosts: snapshot.hosts.iter().map(|host| (&host.name, host)).collect(),
            zones: snapshot.nodes.iter().map(|node| &node.zone).collect(),
            usage: usage.map(|usage| (&usage.pod, usage)).collect(),
            rates: rates.map(|pod| (&pod.pod, pod.requests.get())).collect(),
            edges,
        }
    }

    /// The edges that call a host, in the order of the snapshot; fresh only.
    pub(super) fn edges_of(&self, host: &HostName) -> &[&'a Edge] {
        self.edges.get(host).map_or(&[], Vec::as_slice)
    }

    pub(super) fn actions(&self) -> impl Iterator<Item = &'a Action> {
        self.planned.plan.actions.iter()
    }

    /// The changes of counts that the plan makes, in its order.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change<'a>> {
        self.actions().filter_map(|action| Change::of(action, self))
    }

    /// The zone of a node that exists.
    pub(super) fn zone_of(&self, node: &NodeName) -> Option<&'a ZoneName> {
        self.nodes.get(node).map(|node| &node.zone)
    }

    /// The zone that a replica runs in, when its node exists.
    pub(super) fn zone_of_pod(&self, pod: &Pod) -> Option<&'a ZoneName> {
        pod.node.as_ref().and_then(|node| self.zone_of(node))
    }

    /// Whether a replica is an endpoint: Ready on a node that exists and is Ready.
    pub(super) fn serves(&self, pod: &Pod) -> bool {
        let node = pod.node.as_ref().and_then(|node| self.nodes.get(node));
        pod.phase == PodPhase::Ready && node.is_some_and(|node| node.ready)
    }

    /// Replicas that serve, by zone, without the named ones.
    pub(super) fn ready(&self, workload: &Workload, without: &[&PodName]) -> Layout<'a> {
        let counted = |pod: &&Pod| self.serves(pod) && !without.contains(&&pod.name);
        self.layout(workload.pods.iter().filter(counted))
    }

    /// Replicas that serve or are about to, by zone: what a new one is spread against.
    pub(super) fn coming(&self, workload: &Workload) -> Layout<'a> {
        let counted = |pod: &&Pod| matches!(pod.phase, PodPhase::Ready | PodPhase::Starting);
        self.layout(workload.pods.iter().filter(counted))
    }

    /// Replicas that are bound and not on their way out, by zone: what the scheduler
    /// counts.
    pub(super) fn bound(&self, workload: &Workload) -> Layout<'a> {
        self.layout(workload.active())
    }

    fn layout<'p>(&self, pods: impl Iterator<Item = &'p Pod>) -> Layout<'a> {
        let mut layout = Layout::new();
        for zone in pods.filter_map(|pod| self.zone_of_pod(pod)) {
            *layout.entry(zone).or_insert(0) += 1;
        }
        layout
    }

    /// The move of a workload that is under way.
    pub(super) fn in_flight(&self, workload: &WorkloadRef) -> Option<&'a MoveInFlight> {
        self.memory.workloads.get(workload)?.in_flight.as_ref()
    }

    /// Today's demand in replicas: how many with fully used CPU would do today's work.
    /// Memory does not follow the work, so the metric of scaling is not asked. `None`
    /// unless the usage of every serving replica, and what to hold it against, is known.
    pub(super) fn demand(&self, workload: &Workload) -> Option<f64> {
        let base = cpu_base(workload)?;
        let mut sum = None;
        for pod in workload.pods.iter().filter(|pod| self.serves(pod)) {
            let usage = self.usage.get(&pod.name)?;
            sum = Some(sum.unwrap_or(0.0) + usage.cpu.as_f64() / base);
        }
        sum
    }
}

/// What the CPU of a replica is held against: its request, else its limit.
pub(super) fn cpu_base(workload: &Workload) -> Option<f64> {
    let limit = workload.limits.map_or(0.0, |limits| limits.cpu.as_f64());
    let request = workload.requests.cpu.as_f64();
    let base = if request > 0.0 { request } else { limit };
    (base > 0.0).then_some(base)
}

/// What an action does to the count of a workload.
pub(super) struct Change<'a> {
    pub(super) action: &'a Action,
    pub(super) workload: &'a Workload,
    pub(super) observed: u32,
    /// One node for each new replica.
    pub(super) added: Vec<&'a NodeName>,
    /// The replicas that go.
    pub(super) removed: Vec<&'a PodName>,
}

impl<'a> Change<'a> {
    fn of(action: &'a Action, ground: &Ground<'a>) -> Option<Self> {
        let (observed, added, removed) = match action {
            Action::AddReplicas { observed, nodes, .. } => {
                (observed, nodes.iter().collect(), vec![])
            }
            Action::RemoveReplicas { observed, victims, .. } => {
                (observed, vec![], victims.iter().collect())
            }
            Action::StartMove { observed, to, way: MoveWay::Surge | MoveWay::Hold, .. } => {
                (observed, vec![to], vec![])
            }
            Action::StartMove { observed, to, victim, way: MoveWay::Evict, .. } => {
                (observed, vec![to], vec![victim])
            }
            Action::FinishMove { observed, victim, .. } => (observed, vec![], vec![victim]),
            Action::AbortMove { observed, surge, .. } => (observed, vec![], surge.iter().collect()),
            // The autoscaler decides when the victim goes: it is reckoned as if it were now.
            Action::GiveBackMinimum {
                observed,
                goes,
                ending: Some(MoveEnding::Finish { .. }),
                ..
            } => (observed, vec![], goes.iter().collect()),
            // Which goes if one does: the count is the autoscaler's.
            Action::GiveBackMinimum { observed, .. } => (observed, vec![], vec![]),
            Action::CloseMove { .. }
            | Action::Unmark { .. }
            | Action::Release { .. }
            | Action::SetRoutes { .. }
            | Action::GiveBackRoutes { .. } => return None,
        };
        let workload = ground.workloads.get(action.workload()?)?;
        Some(Self { action, workload, observed: *observed, added, removed })
    }

    /// The count afterwards; below 0 when more go than there are.
    pub(super) fn after(&self) -> i64 {
        i64::from(self.observed) + count(&self.added) - count(&self.removed)
    }
}

/// A length as a count of replicas.
pub(super) fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}

/// All replicas of a layout.
pub(super) fn total(layout: &Layout<'_>) -> u32 {
    layout.values().sum()
}

/// What is left of a layout when its worst zone is lost.
pub(super) fn survivors(layout: &Layout<'_>) -> u32 {
    total(layout) - layout.values().max().copied().unwrap_or(0)
}

/// How many more replicas the fullest zone of a layout has than the emptiest, over the
/// zones that hold one in it or in `other`.
pub(super) fn skew(layout: &Layout<'_>, other: &Layout<'_>) -> u32 {
    let used = layout.keys().chain(other.keys());
    let held = |zone| layout.get(zone).copied().unwrap_or(0);
    let least = used.map(held).min().unwrap_or(0);
    layout.values().max().copied().unwrap_or(0).saturating_sub(least)
}

/// Zones of a layout, as a number.
pub(super) fn zones(layout: &Layout<'_>) -> u32 {
    u32::try_from(layout.len()).unwrap_or(u32::MAX)
}
