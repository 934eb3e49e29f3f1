//! Random memories that fit a random cluster: cooldowns, back-offs, capacities, and
//! moves that could really have begun.

use super::{
    SplitMix64,
    worlds::{NOW, earlier, random_routes},
};
use crate::{
    ids::{PodName, WorkloadKind, ZoneName},
    memory::{
        Backoff, CapacityMemory, Expectation, FinishedMove, Growth, HostMemory, Memory,
        MoveInFlight, Placed, WorkloadMemory,
    },
    model::{Host, Pod, Rule, Snapshot, Workload},
    plan::MoveWay,
    units::{Millis, Percent, Rps, Share, Timestamp},
};

pub(super) fn random_memory(random: &mut SplitMix64, snapshot: &Snapshot) -> Memory {
    let mut memory = Memory::default();
    for workload in &snapshot.workloads {
        if random.chance(40) {
            let remembered = random_workload_memory(random, snapshot, workload);
            memory.workloads.insert(workload.id.clone(), remembered);
        }
    }
    let zones: std::collections::BTreeSet<_> =
        snapshot.nodes.iter().map(|node| &node.zone).collect();
    let zones: Vec<_> = zones.into_iter().collect();
    for host in &snapshot.hosts {
        if random.chance(40) {
            memory
                .hosts
                .insert(host.name.clone(), random_host_memory(random, snapshot, host, &zones));
        }
    }
    memory
}

fn random_workload_memory(
    random: &mut SplitMix64,
    snapshot: &Snapshot,
    workload: &Workload,
) -> WorkloadMemory {
    // The replicas of other kinds cannot move.
    let movable = workload.id.kind() == WorkloadKind::Deployment;
    let in_flight =
        if movable && random.chance(40) { random_move(random, snapshot, workload) } else { None };
    WorkloadMemory {
        scaled_at: random.chance(30).then(|| earlier(random, 120)),
        growth: random.chance(20).then(|| random_growth(random, workload)),
        slow_since: random.chance(20).then(|| earlier(random, 600)),
        moved_at: random.chance(30).then(|| earlier(random, 1200)),
        move_backoff: random.chance(30).then(|| random_backoff(random)),
        in_flight,
        expectation: random.chance(20).then(|| random_expectation(random)),
        last_move: random
            .chance(if movable { 20 } else { 0 })
            .then(|| random_last_move(random, snapshot, workload))
            .flatten(),
        wanted_since: random.chance(50).then(|| earlier(random, 600)),
        placed: random.chance(30).then(|| random_placed(random)),
        slow: workload
            .ready()
            .map(|pod| (pod.name.clone(), random.between_u32(1, 30)))
            .filter(|(_, cycles)| *cycles <= 3)
            .collect(),
        intents: Vec::new(),
    }
}

/// A growth that led to the count that stands, or to another.
fn random_growth(random: &mut SplitMix64, workload: &Workload) -> Growth {
    Growth {
        from: workload.desired.saturating_sub(random.between_u32(1, 3)).max(1),
        to: if random.chance(80) { workload.desired } else { random.between_u32(1, 9) },
        utilisation: Percent::saturating(random.real(60.0, 120.0)),
        requests: Rps::saturating(random.real(0.0, 500.0)),
    }
}

/// A move that could have ended: some replica took the place of one that ran elsewhere.
fn random_last_move(
    random: &mut SplitMix64,
    snapshot: &Snapshot,
    workload: &Workload,
) -> Option<FinishedMove> {
    Some(FinishedMove {
        replacement: workload.active().next()?.name.clone(),
        came_from: random.pick(&snapshot.nodes).name.clone(),
        regressed: random.chance(30),
    })
}

/// A move that could have begun: the newest of several replicas is its replacement,
/// or the surge has not come yet.
fn random_move(
    random: &mut SplitMix64,
    snapshot: &Snapshot,
    workload: &Workload,
) -> Option<MoveInFlight> {
    let placed: Vec<&Pod> = workload.active().filter(|pod| pod.node.is_some()).collect();
    let victim = placed.first()?;
    let surged = placed.len() > 1 && random.chance(80);
    let mut known: Vec<PodName> = workload.active().map(|pod| pod.name.clone()).collect();
    let mut to = random.pick(&snapshot.nodes).name.clone();
    if surged {
        let replacement = placed.last()?;
        to = replacement.node.clone()?;
        known.retain(|name| *name != replacement.name);
    }
    Some(MoveInFlight {
        started_at: earlier(random, 600),
        way: MoveWay::Surge,
        victim: victim.name.clone(),
        from: victim.node.clone()?,
        to,
        replicas_before: workload.desired.saturating_sub(u32::from(surged)),
        known_pods: known,
        predicted_saving: random.real(0.0, 100.0),
        ending: None,
    })
}

fn random_placed(random: &mut SplitMix64) -> Placed {
    Placed { since: earlier(random, 3600), lapsed: random.between_u32(0, 5) }
}

fn random_backoff(random: &mut SplitMix64) -> Backoff {
    let until = Timestamp::from_millis(NOW.as_millis() - 300_000 + random.between(0, 600_000));
    Backoff { until, failures: random.between_u32(0, 4) }
}

fn random_expectation(random: &mut SplitMix64) -> Expectation {
    Expectation {
        since: earlier(random, 300),
        p95_before: random.chance(80).then(|| Millis::saturating(random.real(1.0, 200.0))),
        errors_before: Share::saturating(random.real(0.0, 0.02)),
        others_p95_before: random.chance(80).then(|| Millis::saturating(random.real(1.0, 200.0))),
        demand_before: Rps::saturating(random.real(0.0, 300.0)),
    }
}

fn random_host_memory(
    random: &mut SplitMix64,
    snapshot: &Snapshot,
    host: &Host,
    zones: &[&ZoneName],
) -> HostMemory {
    let ours = matches!(host.rule, Rule::Ours(_));
    let mut memory = HostMemory {
        written_at: ours.then(|| earlier(random, 600)),
        before: (ours && random.chance(60)).then(|| random_routes(random, zones)),
        expectation: (ours && random.chance(40)).then(|| random_expectation(random)),
        backoff: random.chance(20).then(|| random_backoff(random)),
        stale_since: random.chance(30).then(|| earlier(random, 900)),
        ..HostMemory::default()
    };
    memory.unseen_since = memory.stale_since.filter(|_| ours && memory.backoff.is_some());
    memory.refused_at = memory.backoff.filter(|backoff| backoff.failures > 2).map(|_| NOW);
    for zone in zones {
        if random.chance(60) {
            let observed = rate_of_one(snapshot, host, Some(zone))
                .or_else(|| rate_of_one(snapshot, host, None));
            let per_replica = match observed {
                // As smoothing remembers a noisy truth.
                Some(rate) => rate * random.real(0.9, 1.1),
                None => random.real(10.0, 2000.0),
            };
            let capacity = CapacityMemory {
                per_replica: Rps::saturating(per_replica),
                at: earlier(random, 600),
                observations: random.between_u32(1, 20),
            };
            memory.capacity.insert((*zone).clone(), capacity);
            let demand = demand_from(snapshot, host, zone);
            let demand = Rps::saturating(demand * random.real(0.9, 1.1));
            memory.demand.insert((*zone).clone(), demand);
        }
    }
    memory
}

/// Requests per second that one replica in `zone` (or in any) would serve with fully
/// used CPU, by what the snapshot observed; `None` where it did not.
fn rate_of_one(snapshot: &Snapshot, host: &Host, zone: Option<&ZoneName>) -> Option<f64> {
    let id = host.backends.first()?;
    let workload = snapshot.workloads.iter().find(|workload| workload.id == *id)?;
    let limit = workload.limits.map_or(0.0, |limits| limits.cpu.as_f64());
    let request = workload.requests.cpu.as_f64();
    let base = if request > 0.0 { request } else { limit };
    let (mut rate, mut used) = (0.0, 0.0);
    for pod in workload.ready() {
        let node = snapshot.nodes.iter().find(|node| Some(&node.name) == pod.node.as_ref());
        if zone.is_some_and(|zone| node.is_none_or(|node| node.zone != *zone)) {
            continue;
        }
        let usage = snapshot.usage.known()?.iter().find(|usage| usage.pod == pod.name);
        let traffic = snapshot.traffic.known()?.pods.iter().find(|p| p.pod == pod.name);
        if let (Some(usage), Some(traffic)) = (usage, traffic) {
            rate += traffic.requests.get();
            used += usage.cpu.as_f64() / base;
        }
    }
    (rate > 0.0 && used > 0.0 && used.is_finite()).then(|| rate / used)
}

/// Requests per second that callers in `zone` send to a host.
fn demand_from(snapshot: &Snapshot, host: &Host, zone: &ZoneName) -> f64 {
    let Some(traffic) = snapshot.traffic.known() else { return 0.0 };
    let edges = traffic.edges.iter().filter(|edge| edge.host == host.name);
    let routes = edges.flat_map(|edge| &edge.routes).filter(|route| route.from == *zone);
    routes.map(|route| route.requests.get()).sum()
}
