//! Invariant 6: the predicted utilisation of every destination stays under the cap
//! after a step, unless that was impossible before, and then it does not get worse.
//!
//! The prediction is the checker's own: each zone's rate and CPU as observed now, the
//! callers' demand as observed now, requests falling as the new weights say over zones
//! that have an endpoint, replicas that the plan removes serving nothing any more. What counts is the *excess*: requests per second beyond what
//! each zone can serve at the cap, summed over the zones, and where there is excess, the
//! utilisation of the *busiest* zone. Neither may grow by more than the observations are
//! worth:
//!
//! - two standard deviations of each counted rate ([`noise`]),
//! - one point of weight for each caller, since weights are whole,
//! - [`MODEL_SLACK`] of what a zone can serve.
//!
//! Replicas that are still warming up, or that the window of the metrics has not seen whole,
//! tell nothing. A zone with too little load to tell
//! what it can serve is taken to serve per replica what the others do, what is remembered
//! of it, or what its little load points to, whichever is most. Where no zone tells, or
//! traffic is not fresh, nothing is predicted. An undo goes back to what was, a cover
//! moves a few points, a decay knows no demand: they are not held to the cap.
//!
//! The planner's own prediction is held against the cap as well, without any slack but
//! rounding: a plan may not say of itself that it breaks the cap.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Violation,
    ground::{Ground, cpu_base},
    shares::Subzones,
};
use crate::{
    ids::{HostName, PodName, ZoneName},
    model::{Distribution, RouteTable, Workload},
    plan::{Action, RoutePurpose},
    policy::noise,
    report::{RouteWhy, Why},
    units::{Rps, Span},
};

/// CPU and requests are averaged over different windows, and the planner smooths what
/// it saw over several cycles: under a load that doubles in two minutes the two are
/// about a quarter apart.
const MODEL_SLACK: f64 = 0.25;

/// Below this share of its request a good part of a replica's CPU is what it uses when
/// idle, and says little about what requests cost.
const LEAST_TELLING: f64 = 0.2;

/// Percentage points that a stated prediction may lie above the cap by rounding to
/// whole weights.
const ROUNDING: f64 = 1.0;

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let reasons = &ground.planned.report.actions;
    let removed: BTreeSet<&PodName> = ground.changes().flat_map(|change| change.removed).collect();
    for (action, report) in ground.actions().zip(reasons) {
        if let (
            Action::SetRoutes { host, workload, from, to, purpose: RoutePurpose::Improve, .. },
            Why::Route(why),
        ) = (action, &report.why)
        {
            claimed(ground, why, violations);
            if let Some(workload) = ground.workloads.get(workload) {
                predicted(ground, host, workload, (from, to), &removed, violations);
            }
        }
    }
}

fn claimed(ground: &Ground<'_>, why: &RouteWhy, violations: &mut Vec<Violation>) {
    let cap = ground.policy.balancer.max_utilisation.get();
    if let (Some(before), Some(after)) = (why.peak_before, why.peak_after)
        && before.get() <= cap
        && after.get() > cap + ROUNDING
    {
        let (host, after) = (why.host.clone(), after.get());
        violations.push(Violation::CapBrokenByItsOwnWord { host, after, cap });
    }
}

/// A destination as observed.
struct Destination {
    /// Requests per second that it serves.
    rate: f64,
    /// Requests per second that it would serve at the cap; `None` when not known.
    at_cap: Option<f64>,
}

fn predicted(
    ground: &Ground<'_>,
    host: &HostName,
    workload: &Workload,
    (from, to): (&RouteTable, &RouteTable),
    removed: &BTreeSet<&PodName>,
    violations: &mut Vec<Violation>,
) {
    let Some(traffic) = ground.snapshot.traffic.fresh() else { return };
    let mut demand: BTreeMap<&ZoneName, f64> = BTreeMap::new();
    for edge in ground.edges_of(host) {
        for route in &edge.routes {
            *demand.entry(&route.from).or_insert(0.0) += route.requests.get();
        }
    }
    let destinations = destinations(ground, host, workload, removed);
    let subzones = Subzones::of(ground, workload);
    let loads = |table| loads(&demand, table, &destinations, subzones.as_ref());
    let (before, after) = (loads(from), loads(to));
    let (mut excess_before, mut excess_after, mut slack) = (0.0, 0.0, 0.0);
    // Loads as a share of what a zone can serve at the cap; at least 1, since below the
    // cap every distribution is as good as another.
    let (mut peak_before, mut peak_after) = (1.0_f64, 1.0_f64);
    for (zone, destination) in &destinations {
        let Some(at_cap) = destination.at_cap else { continue };
        let load = |loads: &BTreeMap<&ZoneName, f64>| loads.get(zone).copied().unwrap_or(0.0);
        let (before, after) = (load(&before), load(&after));
        // What other hosts and unseen callers send there stays.
        let others = (destination.rate - before).max(0.0);
        let over = |load: f64| (others + load - at_cap).max(0.0);
        excess_before += over(before);
        excess_after += over(after);
        let doubt = doubt(destination.rate, traffic.window) + MODEL_SLACK;
        peak_before = peak_before.max((others + before) / at_cap);
        if after > before {
            slack += at_cap * doubt;
            peak_after = peak_after.max((others + after) / at_cap - doubt);
        }
    }
    slack += 0.01 * demand.values().sum::<f64>();
    if excess_after > excess_before + slack {
        violations.push(Violation::CapBroken {
            host: host.clone(),
            before: excess_before,
            after: excess_after,
            slack,
        });
    }
    if excess_after > 0.0 && peak_after > peak_before {
        let cap = ground.policy.balancer.max_utilisation.get();
        violations.push(Violation::BusiestZoneWorse {
            host: host.clone(),
            before: peak_before * cap,
            after: peak_after * cap,
        });
    }
}

fn doubt(rate: f64, window: Span) -> f64 {
    noise(Rps::saturating(rate), window).get()
}

/// Every zone with an endpoint, as observed, without what is removed.
fn destinations<'a>(
    ground: &Ground<'a>,
    host: &HostName,
    workload: &'a Workload,
    removed: &BTreeSet<&PodName>,
) -> BTreeMap<&'a ZoneName, Destination> {
    let now = ground.planned.plan.at;
    // Averages of a younger one are of a time in which it started, or was not there.
    let window = ground.snapshot.traffic.fresh().map_or(Span::ZERO, |traffic| traffic.window);
    let youth = ground.policy.balancer.warmup.max(window);
    let mut sums: BTreeMap<&ZoneName, Sums> = BTreeMap::new();
    for pod in workload.pods.iter().filter(|pod| ground.serves(pod)) {
        let Some(zone) = ground.zone_of_pod(pod) else { continue };
        let sums = sums.entry(zone).or_default();
        sums.replicas += if removed.contains(&pod.name) { 0.0 } else { 1.0 };
        let rate = ground.rates.get(&pod.name).copied();
        sums.rate += rate.unwrap_or(0.0);
        let warm = pod.ready_since.is_none_or(|since| now.since(since) >= youth);
        if let (Some(usage), Some(rate), true) = (ground.usage.get(&pod.name), rate, warm) {
            sums.telling += 1.0;
            sums.telling_rate += rate;
            sums.telling_cpu += usage.cpu.as_f64();
        }
    }
    let cap = ground.policy.balancer.max_utilisation.get() / 100.0;
    let at_cap =
        |zone: &Sums, least: f64| Some(zone.per_replica_at_full(cpu_base(workload)?, least)? * cap);
    let remembered = ground.memory.hosts.get(host);
    let telling: Vec<f64> = sums.values().filter_map(|zone| at_cap(zone, LEAST_TELLING)).collect();
    let siblings = (!telling.is_empty()).then(|| {
        let zones = u32::try_from(telling.len()).map_or(f64::MAX, f64::from);
        telling.iter().sum::<f64>() / zones
    });
    // What a zone without any that stays gets, the mesh shares over the others.
    sums.iter()
        .filter(|(_, sums)| sums.replicas > 0.0)
        .map(|(zone, sums)| {
            let kept = remembered.and_then(|memory| memory.capacity.get(*zone));
            let kept = kept.map(|capacity| capacity.per_replica.get() * cap);
            let guesses = siblings.into_iter().chain(kept).chain(at_cap(sums, 0.0));
            let guess = guesses.max_by(f64::total_cmp).filter(|_| siblings.is_some());
            let at_cap = at_cap(sums, LEAST_TELLING).or(guess).map(|rate| rate * sums.replicas);
            (*zone, Destination { rate: sums.rate, at_cap })
        })
        .collect()
}

/// What is seen of the replicas of a zone.
#[derive(Default)]
struct Sums {
    replicas: f64,
    /// Requests per second of all replicas.
    rate: f64,
    /// Replicas that tell what a request costs, their requests and their CPU.
    telling: f64,
    telling_rate: f64,
    telling_cpu: f64,
}

impl Sums {
    /// Requests per second that one replica would serve with fully used CPU, when at least
    /// the share `least` of it is used. What is used when idle makes this too low.
    fn per_replica_at_full(&self, base: f64, least: f64) -> Option<f64> {
        let used = self.telling_cpu / (base * self.telling);
        let rate = self.telling_rate / self.telling;
        (used >= least && used > 0.0 && rate > 0.0).then(|| rate / used)
    }
}

/// Requests per second on each zone with an endpoint. Weights of zones without one fall
/// on the others in proportion, as the mesh has it; a caller without weights splits
/// evenly over zones.
fn loads<'a>(
    demand: &BTreeMap<&ZoneName, f64>,
    table: &RouteTable,
    destinations: &BTreeMap<&'a ZoneName, Destination>,
    subzones: Option<&Subzones<'_>>,
) -> BTreeMap<&'a ZoneName, f64> {
    let mut loads = BTreeMap::new();
    for (caller, rate) in demand {
        let distribution = table.get(*caller);
        let weight = |zone: &ZoneName| {
            distribution.map_or(1.0, |d: &Distribution| match subzones {
                Some(subzones) => subzones.weight(zone, d.weight(zone)),
                None => f64::from(d.weight(zone)),
            })
        };
        let sum: f64 = destinations.keys().map(|zone| weight(zone)).sum();
        for zone in destinations.keys() {
            let share = if sum > 0.0 { weight(zone) / sum } else { 0.0 };
            *loads.entry(*zone).or_insert(0.0) += rate * share;
        }
    }
    loads
}
