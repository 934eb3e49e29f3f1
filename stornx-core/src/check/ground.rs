//! What the rules stand on: the snapshot by name, and what an action does to a count.

use std::collections::BTreeMap;

use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    memory::{Memory, MoveInFlight},
    model::{Host, Node, Pod, PodPhase, PodUsage, Snapshot, Workload},
    plan::{Action, Planned},
    policy::{MetricsType, Policy},
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
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        policy: &'a Policy,
        memory: &'a Memory,
        planned: &'a Planned,
    ) -> Self {
        let usage = snapshot.usage.fresh().into_iter().flatten();
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
        }
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

    /// Whether a replica is an endpoint: Ready on a node that exists.
    pub(super) fn serves(&self, pod: &Pod) -> bool {
        pod.phase == PodPhase::Ready && self.zone_of_pod(pod).is_some()
    }

    /// Replicas that serve, by zone, without the named ones.
    pub(super) fn ready(&self, workload: &Workload, without: &[&PodName]) -> Layout<'a> {
        let counted = |pod: &&Pod| self.serves(pod) && !without.contains(&&pod.name);
        self.layout(workload.pods.iter().filter(counted))
    }

    /// Replicas that are there or coming, by zone.
    pub(super) fn active(&self, workload: &Workload, without: &[&PodName]) -> Layout<'a> {
        self.layout(workload.active().filter(|pod| !without.contains(&&pod.name)))
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

    /// Today's demand in replicas: how many fully used ones would do today's work.
    /// `None` when usage, or what to hold it against, is not known.
    pub(super) fn demand(&self, workload: &Workload) -> Option<f64> {
        let (mut sum, mut known, mut ready) = (0.0, 0.0, 0.0);
        for pod in workload.pods.iter().filter(|pod| self.serves(pod)) {
            ready += 1.0;
            if let Some(used) = self.usage.get(&pod.name).and_then(|u| self.used(workload, u)) {
                sum += used;
                known += 1.0;
            }
        }
        (known > 0.0).then(|| sum / known * ready)
    }

    /// Used share of what one replica asks for, by the configured metric.
    fn used(&self, workload: &Workload, usage: &PodUsage) -> Option<f64> {
        let scaler = &self.policy.scaler;
        let limits = workload.limits.unwrap_or_default();
        let share = |used: f64, request: f64, limit: f64| {
            let base = if request > 0.0 { request } else { limit };
            (base > 0.0).then(|| used / base)
        };
        let (asked, cap) = (workload.requests.cpu, limits.cpu);
        let cpu = share(usage.cpu.as_f64(), asked.as_f64(), cap.as_f64());
        let (asked, cap) = (workload.requests.memory, limits.memory);
        let memory = share(usage.memory.as_f64(), asked.as_f64(), cap.as_f64());
        match scaler.metrics {
            MetricsType::Cpu => cpu,
            MetricsType::Memory => memory,
            MetricsType::Combined => {
                let (c, m) = (scaler.cpu_weight.get(), scaler.memory_weight.get());
                match (cpu, memory) {
                    (Some(cpu), Some(memory)) if c + m > 0.0 => {
                        Some((cpu * c + memory * m) / (c + m))
                    }
                    (one, other) => one.or(other),
                }
            }
        }
    }
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
            Action::StartMove { observed, to, .. } => (observed, vec![to], vec![]),
            Action::FinishMove { observed, victim, .. } => (observed, vec![], vec![victim]),
            Action::AbortMove { observed, surge: Some(surge), .. } => {
                (observed, vec![], vec![surge])
            }
            Action::AbortMove { surge: None, .. } | Action::SetRoutes { .. } => return None,
        };
        let workload = ground.workloads.get(action.workload())?;
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

/// How many more replicas the fullest zone of a layout has than the emptiest that has
/// any.
pub(super) fn skew(layout: &Layout<'_>) -> u32 {
    let most = layout.values().max().copied().unwrap_or(0);
    most - layout.values().min().copied().unwrap_or(0)
}

/// Zones of a layout, as a number.
pub(super) fn zones(layout: &Layout<'_>) -> u32 {
    u32::try_from(layout.len()).unwrap_or(u32::MAX)
}
