//! `classic`: the first generation of this product. Weights per caller by a product of
//! scores, moved by five points a cycle; one replica at a time; no moves.
//!
//! - Target of a caller: for each destination `(1 - penalty) x (1 - its share of the
//!   latencies) x its share of the replicas x (1 - its share of the load)`, normalised.
//!   The penalty is 0 up to the response time threshold and grows with the logarithm of
//!   the ratio beyond it, 1 at ten times the threshold.
//! - Step: each route moves by at most five points; what rounding leaves over goes to
//!   the largest weight. Written when the change is at least `BALANCER_MIN_DELTA`.
//! - Count: one replica more above the upper threshold, on the node of which least is
//!   requested; one less below the lower one. Counts owned by an autoscaler stay.
//!
//! Known weaknesses: each caller decides alone, so that all run to the same free
//! replica; the product is a heuristic without capacity, so that it neither keeps
//! requests at home nor knows what a zone can take; steps of a fixed size are slow when
//! it matters.

use std::collections::BTreeMap;

use stornx_core::{
    ids::{NodeName, WorkloadRef, ZoneName},
    model::{Distribution, Host, Pod, RouteTable, Rule, Snapshot, Workload},
    plan::{Action, RoutePurpose},
    policy::{MetricsType, Policy},
    units::Timestamp,
};

/// Percentage points by which a route moves in one cycle.
const STEP: f64 = 5.0;

/// Decides what to do about a snapshot. `scaled_at` is when each workload was last
/// scaled.
#[must_use]
pub fn plan(
    snapshot: &Snapshot,
    policy: &Policy,
    scaled_at: &BTreeMap<WorkloadRef, Timestamp>,
) -> Vec<Action> {
    let cluster = Cluster::new(snapshot, policy);
    let scale = snapshot
        .workloads
        .iter()
        .filter(|workload| {
            let last = scaled_at.get(&workload.id);
            last.is_none_or(|at| snapshot.taken_at.since(*at) >= policy.scaler.cooldown)
        })
        .filter_map(|workload| cluster.scale(workload));
    let routes = snapshot.hosts.iter().filter_map(|host| cluster.routes(host));
    scale.chain(routes).collect()
}

struct Cluster<'a> {
    snapshot: &'a Snapshot,
    policy: &'a Policy,
    zone_of: BTreeMap<&'a NodeName, &'a ZoneName>,
    rtt: BTreeMap<(&'a ZoneName, &'a ZoneName), f64>,
}

impl<'a> Cluster<'a> {
    fn new(snapshot: &'a Snapshot, policy: &'a Policy) -> Self {
        let zone_of: BTreeMap<_, _> =
            snapshot.nodes.iter().map(|node| (&node.name, &node.zone)).collect();
        let mut sums: BTreeMap<_, (f64, f64)> = BTreeMap::new();
        for pair in snapshot.latency.fresh().iter().flat_map(|latency| &latency.nodes) {
            if let (Some(from), Some(to)) = (zone_of.get(&pair.from), zone_of.get(&pair.to)) {
                let sum = sums.entry((*from, *to)).or_default();
                *sum = (sum.0 + pair.rtt.get(), sum.1 + 1.0);
            }
        }
        let mut rtt: BTreeMap<_, f64> =
            sums.into_iter().map(|(pair, (sum, count))| (pair, sum / count)).collect();
        for pair in snapshot.latency.fresh().iter().flat_map(|latency| &latency.zones) {
            rtt.insert((&pair.from, &pair.to), pair.rtt.get());
        }
        Self { snapshot, policy, zone_of, rtt }
    }

    fn rtt(&self, from: &ZoneName, to: &ZoneName) -> f64 {
        let assumed = if from == to {
            self.policy.latency.same_zone
        } else {
            self.policy.latency.same_region
        };
        self.rtt.get(&(from, to)).copied().unwrap_or(assumed.get())
    }

    fn zone(&self, pod: &Pod) -> Option<&'a ZoneName> {
        pod.node.as_ref().and_then(|node| self.zone_of.get(node)).copied()
    }

    fn routes(&self, host: &Host) -> Option<Action> {
        let [backend] = host.backends.as_slice() else { return None };
        let workload = self.snapshot.workloads.iter().find(|w| w.id == *backend)?;
        if !workload.managed || workload.policy.opted_out || matches!(host.rule, Rule::Foreign(_)) {
            return None;
        }
        let traffic = self.snapshot.traffic.fresh()?;
        let destinations = self.destinations(workload);
        let edges: Vec<_> = traffic.edges.iter().filter(|edge| edge.host == host.name).collect();
        let callers = edges.iter().flat_map(|edge| &edge.routes).map(|route| &route.from);
        let callers: std::collections::BTreeSet<_> = callers.collect();
        if destinations.len() < 2 || callers.is_empty() {
            return None;
        }
        let even: Vec<f64> = destinations.values().map(|d| d.replicas).collect();
        let (mut from, mut to) = (RouteTable::new(), RouteTable::new());
        for caller in callers {
            let current = match &host.rule {
                Rule::Ours(table) => table.get(caller),
                _ => None,
            };
            let current: Vec<f64> = match current {
                Some(distribution) => {
                    destinations.keys().map(|zone| f64::from(distribution.weight(zone))).collect()
                }
                None => even.clone(),
            };
            let target = self.target(caller, &destinations);
            let zones = || destinations.keys().map(|zone| (*zone).clone());
            let stepped = step(&normalised(&current), &target);
            from.insert(caller.clone(), whole(zones(), &normalised(&current))?);
            to.insert(caller.clone(), whole(zones(), &stepped)?);
        }
        let change: u32 = from.iter().map(|(caller, old)| old.distance(&to[caller])).sum();
        (f64::from(change) >= self.policy.balancer.min_delta.get()).then(|| Action::SetRoutes {
            host: host.name.clone(),
            workload: backend.clone(),
            from,
            to,
            first: !matches!(host.rule, Rule::Ours(_)),
            purpose: RoutePurpose::Improve,
        })
    }

    fn destinations(&self, workload: &Workload) -> BTreeMap<&'a ZoneName, Destination> {
        let traffic = self.snapshot.traffic.fresh();
        // Every zone is named, so that an endpoint that comes up elsewhere is not cut off.
        let mut destinations: BTreeMap<_, Destination> =
            self.zone_of.values().map(|zone| (*zone, Destination::default())).collect();
        for pod in workload.ready() {
            let Some(zone) = self.zone(pod) else { continue };
            let destination = destinations.entry(zone).or_default();
            destination.replicas += 1.0;
            let served = traffic.and_then(|t| t.pods.iter().find(|served| served.pod == pod.name));
            if let Some(served) = served {
                destination.load += served.requests.get();
                let p95 = served.p95.map_or(0.0, stornx_core::units::Millis::get);
                destination.p95 = destination.p95.max(p95);
            }
        }
        destinations
    }

    /// Percentages of one caller, in the order of the destinations.
    fn target(&self, caller: &ZoneName, to: &BTreeMap<&ZoneName, Destination>) -> Vec<f64> {
        let threshold = self.policy.scaler.response_time.get();
        let latencies: f64 = to.keys().map(|zone| self.rtt(caller, zone)).sum();
        let replicas: f64 = to.values().map(|d| d.replicas).sum();
        let loads: f64 = to.values().map(Destination::load_of_one).sum();
        let scores: Vec<f64> = to
            .iter()
            .map(|(zone, destination)| {
                let penalty = (destination.p95 / threshold).log10().clamp(0.0, 1.0);
                let latency = self.rtt(caller, zone) / latencies.max(f64::MIN_POSITIVE);
                let load = destination.load_of_one() / loads.max(f64::MIN_POSITIVE);
                (1.0 - penalty) * (1.0 - latency) * destination.replicas / replicas * (1.0 - load)
            })
            .collect();
        if scores.iter().sum::<f64>() > 0.0 {
            normalised(&scores)
        } else {
            normalised(&to.values().map(|d| d.replicas).collect::<Vec<_>>())
        }
    }

    fn scale(&self, workload: &Workload) -> Option<Action> {
        let scaler = &self.policy.scaler;
        let fixed = !workload.managed
            || workload.autoscaler.is_some()
            || workload.policy.opted_out
            || workload.policy.no_scaling
            || workload.active().count() != workload.desired as usize;
        let utilisation = self.utilisation(workload).filter(|_| !fixed)?;
        let max = workload.policy.max_replicas.unwrap_or(scaler.max_replicas);
        let budget = workload.budget.map_or(0, |budget| budget.min_ready);
        let min = workload.policy.min_replicas.unwrap_or(scaler.min_replicas).max(budget);
        if utilisation > scaler.upper.get() && workload.desired < max {
            let node = self.least_requested(workload)?;
            return Some(Action::AddReplicas {
                workload: workload.id.clone(),
                observed: workload.desired,
                nodes: vec![node],
            });
        }
        if utilisation < scaler.lower.get() && workload.desired > min.max(1) {
            let victim = workload.ready().map(|pod| &pod.name).max()?;
            return Some(Action::RemoveReplicas {
                workload: workload.id.clone(),
                observed: workload.desired,
                victims: vec![victim.clone()],
            });
        }
        None
    }

    /// Per cent of what replicas ask for, by the configured metric.
    fn utilisation(&self, workload: &Workload) -> Option<f64> {
        let usage = self.snapshot.usage.fresh()?;
        let asked = workload.requests;
        let (mut cpu, mut memory, mut count) = (0.0, 0.0, 0.0);
        for pod in workload.ready() {
            if let Some(used) = usage.iter().find(|used| used.pod == pod.name) {
                cpu += used.cpu.as_f64();
                memory += used.memory.as_f64();
                count += 1.0;
            }
        }
        let share = |used: f64, asked: f64| {
            (asked > 0.0 && count > 0.0).then(|| 100.0 * used / count / asked)
        };
        let (cpu, memory) = (share(cpu, asked.cpu.as_f64()), share(memory, asked.memory.as_f64()));
        let scaler = &self.policy.scaler;
        match scaler.metrics {
            MetricsType::Cpu => cpu,
            MetricsType::Memory => memory,
            MetricsType::Combined => {
                let (c, m) = (scaler.cpu_weight.get(), scaler.memory_weight.get());
                Some((cpu? * c + memory? * m) / (c + m))
            }
        }
    }

    fn least_requested(&self, workload: &Workload) -> Option<NodeName> {
        let used = |name: &NodeName| {
            let here = |w: &Workload| w.active().filter(|p| p.node.as_ref() == Some(name)).count();
            self.snapshot.workloads.iter().fold((0.0, 0.0), |(cpu, memory), w| {
                let count = here(w) as f64;
                (cpu + count * w.requests.cpu.as_f64(), memory + count * w.requests.memory.as_f64())
            })
        };
        let mut best: Option<(f64, &NodeName)> = None;
        for node in self.snapshot.nodes.iter().filter(|node| {
            node.ready && node.schedulable && node.taints.is_empty() && node.pod_capacity > 1
        }) {
            let (cpu, memory) = used(&node.name);
            let (cpu, memory) = (
                cpu + node.reserved.cpu.as_f64() + workload.requests.cpu.as_f64(),
                memory + node.reserved.memory.as_f64() + workload.requests.memory.as_f64(),
            );
            let share = |used: f64, of: f64| if of > 0.0 { used / of } else { 2.0 };
            let cpu = share(cpu, node.allocatable.cpu.as_f64());
            let memory = share(memory, node.allocatable.memory.as_f64());
            if cpu.max(memory) > 1.0 {
                continue;
            }
            let score = f64::midpoint(cpu, memory);
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, &node.name));
            }
        }
        best.map(|(_, name)| name.clone())
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Destination {
    replicas: f64,
    load: f64,
    p95: f64,
}

impl Destination {
    fn load_of_one(&self) -> f64 {
        self.load / self.replicas.max(1.0)
    }
}

/// Percentages in proportion to `weights`.
fn normalised(weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| 100.0 * weight / total.max(f64::MIN_POSITIVE)).collect()
}

fn step(current: &[f64], target: &[f64]) -> Vec<f64> {
    current.iter().zip(target).map(|(now, goal)| now + (goal - now).clamp(-STEP, STEP)).collect()
}

/// Whole weights of at least 1; what rounding leaves over goes to the largest.
fn whole(zones: impl Iterator<Item = ZoneName>, weights: &[f64]) -> Option<Distribution> {
    #[allow(clippy::cast_possible_truncation)] // 0 to 100.
    let mut rounded: Vec<i32> =
        weights.iter().map(|weight| (weight.round() as i32).max(1)).collect();
    let left = 100 - rounded.iter().sum::<i32>();
    *rounded.iter_mut().max()? += left;
    let weights = zones.zip(rounded).map(|(zone, weight)| Some((zone, u8::try_from(weight).ok()?)));
    Distribution::new(weights.collect::<Option<_>>()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_five_points_and_stays_whole() {
        let stepped = step(&[34.0, 33.0, 33.0], &[90.0, 5.0, 5.0]);
        assert_eq!(stepped, [39.0, 28.0, 28.0]);
        let zones = ["a", "b", "c"].map(|zone| zone.parse().unwrap());
        let whole = whole(zones.clone().into_iter(), &stepped).unwrap();
        assert_eq!(zones.each_ref().map(|zone| whole.weight(zone)), [44, 28, 28]);
    }

    #[test]
    fn every_distribution_it_makes_is_valid() {
        let zones = || ["a", "b", "c", "d"].map(|zone| zone.parse().unwrap()).into_iter();
        for weights in
            [[0.0, 0.0, 0.0, 100.0], [25.0; 4], [0.4, 0.4, 99.0, 0.2], [33.3, 33.3, 33.3, 0.1]]
        {
            assert!(whole(zones(), &weights).is_some(), "{weights:?}");
        }
    }
}
