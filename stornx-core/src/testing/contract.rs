//! What every implementation of a port keeps: one suite for each, to be run against
//! the simulated world and against real adapters. A suite panics at the first broken
//! promise and says which.

use crate::{
    ids::{NodeName, WorkloadRef},
    memory::{Memory, WorkloadMemory},
    model::{ClusterFacts, Facts, MetricsFacts, Rule, Snapshot},
    plan::{Action, MoveWay, RoutePurpose},
    ports::{Actuator, Clock, ClusterSource, LeaderGate, MetricsSource, PortError, StateStore},
    units::Timestamp,
};

fn assemble(cluster: ClusterFacts, now: Timestamp) -> Snapshot {
    let missing = || "not asked for".to_owned();
    let metrics = MetricsFacts {
        usage: Facts::Missing { reason: missing() },
        traffic: Facts::Missing { reason: missing() },
        latency: Facts::Missing { reason: missing() },
        warnings: Vec::new(),
    };
    Snapshot::assemble(cluster, metrics, now)
}

async fn observed(source: &dyn ClusterSource) -> ClusterFacts {
    match source.observe().await {
        Ok(cluster) => cluster,
        Err(error) => panic!("ClusterSource: a cluster that is there can be read: {error}"),
    }
}

/// A cluster source that can be read gives facts without problems, that do not change
/// by being read.
///
/// # Panics
/// When it does not.
pub async fn cluster_source(source: &dyn ClusterSource) {
    let first = observed(source).await;
    let snapshot = assemble(first.clone(), Timestamp::from_millis(u64::MAX));
    let problems = snapshot.problems();
    assert!(problems.is_empty(), "ClusterSource: facts have no problems: {problems:?}");
    assert!(!first.nodes.is_empty(), "ClusterSource: a cluster has nodes");
    let second = assemble(observed(source).await, Timestamp::from_millis(u64::MAX));
    assert_eq!(snapshot, second, "ClusterSource: reading changes nothing");
}

/// A metrics source speaks of the cluster that it was given, and of nothing after now.
/// Facts of what is gone may linger; joining drops them.
///
/// # Panics
/// When it does not.
pub async fn metrics_source(source: &dyn MetricsSource, cluster: &ClusterFacts, now: Timestamp) {
    let metrics = source.observe(cluster, now).await;
    for (name, as_of) in [
        ("usage", as_of(&metrics.usage)),
        ("traffic", as_of(&metrics.traffic)),
        ("latency", as_of(&metrics.latency)),
    ] {
        assert!(as_of.is_none_or(|at| at <= now), "MetricsSource: {name} is not of the future");
    }
    if let Facts::Missing { reason } = &metrics.traffic {
        assert!(!reason.is_empty(), "MetricsSource: what is missing has a reason");
    }
    if let Some(traffic) = metrics.traffic.known() {
        assert!(
            traffic.edges.is_empty() || traffic.window.as_millis() > 0,
            "MetricsSource: rates are counted over a window"
        );
    }
    let problems = Snapshot::assemble(cluster.clone(), metrics, now).problems();
    assert!(problems.is_empty(), "MetricsSource: joined facts have no problems: {problems:?}");
}

fn as_of<T>(facts: &Facts<T>) -> Option<Timestamp> {
    match facts {
        Facts::Fresh { as_of, .. } | Facts::Stale { as_of, .. } => Some(*as_of),
        Facts::Missing { .. } => None,
    }
}

/// A new store is empty; what was saved last is what is loaded, also when it is less
/// than what was saved before. Leaves the store empty.
///
/// # Panics
/// When it does not.
pub async fn state_store(store: &dyn StateStore) {
    let load = async || match store.load().await {
        Ok(memory) => memory,
        Err(error) => panic!("StateStore: what is there can be loaded: {error}"),
    };
    let save = async |memory: &Memory| {
        if let Err(error) = store.save(memory).await {
            panic!("StateStore: what fits can be saved: {error}");
        }
    };
    assert_eq!(load().await, Memory::default(), "StateStore: a new store is empty");
    let mut memory = super::random_case(11).memory;
    let scaled_at = Some(Timestamp::from_millis(1_764_000_000_123));
    let extra = WorkloadMemory { scaled_at, ..WorkloadMemory::default() };
    memory.workloads.insert("shop/Deployment/cart".parse().expect("a valid name"), extra);
    save(&memory).await;
    assert_eq!(load().await, memory, "StateStore: saved and loaded is the same");
    save(&memory).await;
    assert_eq!(load().await, memory, "StateStore: saving twice is saving once");
    save(&Memory::default()).await;
    assert_eq!(load().await, Memory::default(), "StateStore: what was taken out is gone");
}

/// An actuator refuses, as a conflict, what does not find what it expects, and leaves
/// the world as it was.
///
/// # Panics
/// When it does not, or when the cluster has no workload with a replica to try it on.
pub async fn actuator_refuses(actuator: &dyn Actuator, source: &dyn ClusterSource) {
    let before = assemble(observed(source).await, Timestamp::default());
    let wrong = wrong_actions(&before);
    assert!(!wrong.is_empty(), "Actuator: the suite needs a workload with a placed replica");
    for action in wrong {
        let result = actuator.apply(&action).await;
        assert!(
            matches!(result, Err(PortError::Conflict { .. } | PortError::Rejected { .. })),
            "Actuator: {action} does not find what it expects, yet the answer is {result:?}"
        );
        let after = assemble(observed(source).await, Timestamp::default());
        assert_eq!(before, after, "Actuator: a refused action changes nothing: {action}");
    }
}

/// Actions that expect a count, a replica or a split that is not there.
fn wrong_actions(snapshot: &Snapshot) -> Vec<Action> {
    let mut actions = Vec::new();
    let placed = snapshot.workloads.iter().filter(|w| w.managed).find_map(|workload| {
        let pod = workload.active().find(|pod| pod.node.is_some())?;
        Some((workload, pod, pod.node.clone()?))
    });
    if let Some((workload, pod, node)) = placed {
        let (id, observed) = (workload.id.clone(), workload.desired + 7);
        let nodes: Vec<NodeName> = vec![node.clone()];
        let stranger = "shop/nobody-knows-me".parse().expect("a valid name");
        actions.push(Action::AddReplicas { workload: id.clone(), observed, nodes });
        let victims = vec![pod.name.clone()];
        actions.push(Action::RemoveReplicas { workload: id.clone(), observed, victims });
        actions.push(Action::RemoveReplicas {
            workload: id.clone(),
            observed: workload.desired,
            victims: vec![stranger],
        });
        actions.push(Action::StartMove {
            workload: id.clone(),
            observed,
            way: MoveWay::Surge,
            victim: pod.name.clone(),
            from: node.clone(),
            to: node,
        });
        let (victim, replacement) = (pod.name.clone(), pod.name.clone());
        actions.push(Action::FinishMove { workload: id, observed, victim, replacement });
    }
    let unknown: WorkloadRef = "shop/Deployment/nobody-knows-me".parse().expect("a valid name");
    if let Some(node) = snapshot.nodes.first() {
        let nodes = vec![node.name.clone()];
        actions.push(Action::AddReplicas { workload: unknown, observed: 1, nodes });
    }
    for host in &snapshot.hosts {
        if let (Rule::Ours(routes), [workload]) = (&host.rule, host.backends.as_slice()) {
            let mut from = routes.clone();
            if from.pop_first().is_some() {
                actions.push(Action::SetRoutes {
                    host: host.name.clone(),
                    workload: workload.clone(),
                    from,
                    to: routes.clone(),
                    first: false,
                    purpose: RoutePurpose::Improve,
                });
            }
        }
    }
    actions
}

/// Every action of a plan that was made for the cluster as it is can be applied, and a
/// second time it is refused or changes nothing. For worlds in which applying is
/// harmless.
///
/// # Panics
/// When it does not.
pub async fn actuator_applies(
    actuator: &dyn Actuator,
    source: &dyn ClusterSource,
    action: &Action,
) {
    let before = assemble(observed(source).await, Timestamp::default());
    if let Err(error) = actuator.apply(action).await {
        panic!("Actuator: {action} finds what it expects, yet: {error}");
    }
    let after = assemble(observed(source).await, Timestamp::default());
    assert_ne!(before, after, "Actuator: an applied action can be seen: {action}");
    let again = actuator.apply(action).await;
    let later = assemble(observed(source).await, Timestamp::default());
    let counts = |snapshot: &Snapshot| -> Vec<u32> {
        snapshot.workloads.iter().map(|workload| workload.desired).collect()
    };
    assert_eq!(
        counts(&after),
        counts(&later),
        "Actuator: {action} is applied once, the second answer was {again:?}"
    );
}

/// A gate that stands open says so each time it is asked, and a closed one too: the
/// answer changes only with the lease.
///
/// # Panics
/// When it does not.
pub async fn leader_gate(gate: &dyn LeaderGate, expected: bool) {
    for _ in 0..3 {
        assert_eq!(gate.may_write().await, expected, "LeaderGate: the answer follows the lease");
    }
}

/// A clock does not run backwards.
///
/// # Panics
/// When it does.
pub fn clock(clock: &dyn Clock) {
    let mut last = clock.now();
    for _ in 0..100 {
        let now = clock.now();
        assert!(now >= last, "Clock: {now:?} comes after {last:?}");
        last = now;
    }
}
