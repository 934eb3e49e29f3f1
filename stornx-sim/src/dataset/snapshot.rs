//! Snapshots as placement data sets: workloads are services, replicas containers,
//! nodes machines, requests per second traffic. And what the product's own
//! rescheduling makes of one, move by move, as if each were done at once.
//!
//! Replicas without a known node are left out. The check of feasibility that this
//! allows knows CPU and memory; node rules are the planner's own affair.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use stornx_core::{
    decide,
    ids::{NodeName, PodName},
    memory::Memory,
    model::{PodPhase, Snapshot},
    plan::Action,
    policy::Policy,
    units::{Span, Timestamp},
};

use super::rasa::{Dataset, Machine, Service, TrafficEdge};

/// The data set of a snapshot, and the zone of each machine.
#[must_use]
pub fn dataset(snapshot: &Snapshot) -> (Dataset, Vec<usize>) {
    let names: BTreeMap<&NodeName, usize> =
        snapshot.nodes.iter().enumerate().map(|(index, node)| (&node.name, index)).collect();
    let zones: BTreeSet<_> = snapshot.nodes.iter().map(|node| &node.zone).collect();
    let zone_of = snapshot
        .nodes
        .iter()
        .map(|node| zones.iter().take_while(|zone| **zone < &node.zone).count())
        .collect();
    let machines = snapshot
        .nodes
        .iter()
        .map(|node| {
            let free = node.allocatable.saturating_sub(node.reserved);
            Machine {
                name: node.name.to_string(),
                cpu: free.cpu.as_f64(),
                memory: free.memory.as_f64(),
            }
        })
        .collect();
    let mut services = Vec::with_capacity(snapshot.workloads.len());
    let mut deployed = Vec::with_capacity(snapshot.workloads.len());
    for workload in &snapshot.workloads {
        let placed: Vec<(String, usize)> = workload
            .active()
            .filter_map(|pod| {
                let node = names.get(pod.node.as_ref()?)?;
                Some((pod.name.to_string(), *node))
            })
            .collect();
        services.push(Service {
            name: workload.id.to_string(),
            cpu: workload.requests.cpu.as_f64(),
            memory: workload.requests.memory.as_f64(),
            containers: placed.iter().map(|(name, _)| name.clone()).collect(),
            compatible: None,
        });
        deployed.push(placed.into_iter().map(|(_, node)| node).collect());
    }
    let edges = edges(snapshot);
    (Dataset { services, machines, edges, deployed }, zone_of)
}

fn edges(snapshot: &Snapshot) -> Vec<TrafficEdge> {
    let position: BTreeMap<_, _> =
        snapshot.workloads.iter().enumerate().map(|(index, w)| (&w.id, index)).collect();
    let mut edges: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for edge in snapshot.traffic.known().iter().flat_map(|traffic| &traffic.edges) {
        if let (Some(a), Some(b)) = (position.get(&edge.caller), position.get(&edge.callee))
            && a != b
        {
            *edges.entry((*a.min(b), *a.max(b))).or_default() += edge.requests().get();
        }
    }
    edges.into_iter().map(|((a, b), traffic)| TrafficEdge { a, b, traffic }).collect()
}

/// What rescheduling came to.
#[derive(Debug, Clone)]
pub struct Rescheduled {
    /// The cluster afterwards.
    pub snapshot: Snapshot,
    /// Moves that lead to it.
    pub moves: usize,
}

/// Lets the planner move replicas until it has no more to move, each move done at
/// once, within limits. Counts and routes are left alone.
#[must_use]
pub fn reschedule(
    snapshot: &Snapshot,
    policy: &Policy,
    moves: usize,
    time: Duration,
) -> Rescheduled {
    let begun = Instant::now();
    let mut policy = policy.clone();
    policy.scaler.enabled = false;
    policy.balancer.enabled = false;
    let mut now = snapshot.taken_at;
    let mut result = Rescheduled { snapshot: snapshot.clone(), moves: 0 };
    // A planner that comes back to where it was would go on for ever.
    let mut seen = BTreeSet::from([places(&result.snapshot)]);
    while result.moves < moves && begun.elapsed() < time {
        let planned = decide::plan(&result.snapshot, &policy, &Memory::default(), now);
        let mut moved = 0;
        for action in planned.plan.actions {
            if let Action::StartMove { victim, to, .. } = action
                && result.moves + moved < moves
                && relocate(&mut result.snapshot, &victim, &to, now)
            {
                moved += 1;
            }
        }
        result.moves += moved;
        if moved == 0 || !seen.insert(places(&result.snapshot)) {
            break;
        }
        now = now.after(Span::from_seconds(1));
    }
    result
}

fn places(snapshot: &Snapshot) -> Vec<Option<NodeName>> {
    snapshot.workloads.iter().flat_map(|w| &w.pods).map(|pod| pod.node.clone()).collect()
}

fn relocate(snapshot: &mut Snapshot, victim: &PodName, to: &NodeName, now: Timestamp) -> bool {
    let pods = snapshot.workloads.iter_mut().flat_map(|workload| &mut workload.pods);
    let Some(pod) = pods.into_iter().find(|pod| pod.name == *victim) else { return false };
    pod.node = Some(to.clone());
    pod.phase = PodPhase::Ready;
    pod.ready_since.get_or_insert(now);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files;

    const TEXT: &str = "
apiVersion: stornx.io/v1alpha1
takenAt: 1000
nodes:
  - {name: n1, zone: a, region: r, ready: true, schedulable: true, allocatable: {cpu: 2, memory: 1Gi}, podCapacity: 9}
  - {name: n2, zone: b, region: r, ready: true, schedulable: true, allocatable: {cpu: 2, memory: 1Gi}, podCapacity: 9, reserved: {cpu: 500m}}
workloads:
  - id: s/Deployment/web
    managed: true
    desired: 1
    requests: {cpu: 1}
    pods: [{name: s/web-0, node: n1, phase: ready, createdAt: 0}]
  - id: s/Deployment/api
    managed: true
    desired: 2
    requests: {cpu: 1}
    pods:
      - {name: s/api-0, node: n2, phase: ready, createdAt: 0}
      - {name: s/api-1, phase: pending, createdAt: 0}
usage: {missing: {reason: none}}
traffic:
  fresh:
    asOf: 900
    source: dataset
    value:
      edges:
        - caller: s/Deployment/web
          callee: s/Deployment/api
          host: api.s.svc.cluster.local
          routes: [{from: a, to: b, requests: 12}]
latency: {missing: {reason: none}}
";

    #[test]
    fn workloads_become_services_and_nodes_machines() {
        let snapshot = files::parse_snapshot("s.yaml", TEXT).unwrap();
        let (dataset, zones) = dataset(&snapshot);
        assert_eq!(zones, [0, 1]);
        assert!((dataset.machines[1].cpu - 1500.0).abs() < 1e-9);
        assert_eq!(dataset.deployed, [vec![0], vec![1]]);
        assert_eq!(dataset.edges, [TrafficEdge { a: 0, b: 1, traffic: 12.0 }]);
    }

    #[test]
    fn rescheduling_stops_at_its_limit_and_counts_what_it_did() {
        let snapshot = files::parse_snapshot("s.yaml", TEXT).unwrap();
        let none = reschedule(&snapshot, &Policy::default(), 0, Duration::from_secs(5));
        assert_eq!((none.moves, &none.snapshot), (0, &snapshot));
        let some = reschedule(&snapshot, &Policy::default(), 5, Duration::from_secs(5));
        assert!(some.moves <= 5 && (some.moves == 0) == (some.snapshot == snapshot));
    }
}
