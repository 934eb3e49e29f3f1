//! What the metrics of this cycle say about one host, before anything is remembered or
//! decided: demand by caller zone, and what each destination zone serves, uses and how it
//! answers.
//!
//! Utilisation is CPU used over CPU requested (the limit where nothing is requested),
//! whatever `METRICS_TYPE` says: memory tells whether a replica fits, not how many more
//! requests it could serve.

use std::collections::BTreeSet;

use crate::{
    ids::PodName,
    memory::MoveInFlight,
    model::{Rollout, Workload},
    units::{MilliCpu, Span},
    view::{HostIndex, Mean, PodView, Seen, View, WorkloadIndex, WorkloadView},
};

/// Bytes of a connection without requests (a database, a broker) that count as one
/// request, so that demand, capacity and noise have one meaning: a page of records.
const BYTES_PER_EXCHANGE: f64 = 10_000.0;

/// How much busier than the mean the busiest replica of a zone may be before it stands
/// for the zone. Weights choose a zone, not a replica: a zone is full when its slowest
/// replica is. Up to 30 % more than the mean is what a minute of requests varies by.
const USUAL_IMBALANCE: f64 = 1.3;

/// A ramp begins at a quarter: a replica that is Ready answers its first requests, slowly.
const RAMP_START: f64 = 0.25;

/// When less than this share of all replicas is warm, their warmth is no reason to prefer
/// one of them.
const MOSTLY_WARM: f64 = 0.6;

/// What is about to change of a workload's replicas.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Changing<'a> {
    /// Those that serve now and are about to go.
    pub(crate) leaving: Option<&'a BTreeSet<PodName>>,
    /// The move under way.
    pub(crate) moving: Option<&'a MoveInFlight>,
}

/// One destination zone.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct ZoneObservation {
    /// Replicas that serve.
    pub(crate) ready: u32,
    /// Of them, those that are not about to go.
    pub(crate) staying: u32,
    /// The same with those that became Ready lately counted partly, and those that are about
    /// to go not at all.
    pub(crate) ramped: f64,
    /// Requests per second that the zone serves of the workload.
    pub(crate) served: f64,
    /// Utilisation that stands for the zone, 1 is full; `None` without data.
    pub(crate) utilisation: Option<f64>,
    /// Requests per second of one replica at full utilisation, as this cycle shows it.
    pub(crate) per_replica: Option<f64>,
    /// p95 of its answers, milliseconds.
    pub(crate) p95: Option<f64>,
    /// p95 of the calls that it makes for one request, one after the other: what of the
    /// above is not its own, milliseconds.
    pub(crate) downstream: f64,
    /// Share of its answers that are failures.
    pub(crate) errors: f64,
}

/// One host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Observation {
    /// Requests per second by caller zone.
    pub(crate) demand: Vec<f64>,
    /// Its callers are called by nobody that is seen: demand enters the cluster here.
    pub(crate) enters: bool,
    /// Bytes that go both ways for one request.
    pub(crate) bytes_per_request: f64,
    /// Request-weighted p95 that callers see, milliseconds.
    pub(crate) p95: Option<f64>,
    /// Share of the callers' requests that failed.
    pub(crate) errors: f64,
    /// Part of the workload's requests that come through this host.
    pub(crate) share: f64,
    /// By destination zone.
    pub(crate) zones: Vec<ZoneObservation>,
    /// Cores of one replica, rounded, at least 1: requests worked on at one time.
    pub(crate) cores: f64,
}

/// What callers see of a host.
fn callers(view: &View<'_>, host: HostIndex) -> Seen {
    view.hosts[host.at()].edges.iter().map(|edge| view.edges[edge.at()].seen).sum()
}

/// The CPU that full utilisation means.
fn base(workload: &Workload) -> Option<MilliCpu> {
    let limit = workload.limits.map_or(MilliCpu::ZERO, |limits| limits.cpu);
    [workload.requests.cpu, limit].into_iter().find(|cpu| *cpu > MilliCpu::ZERO)
}

impl Observation {
    /// Observes a host whose workload is known. What replicas that leave serve and use tells
    /// about their zone; what they could serve counts no more.
    pub(crate) fn of(
        view: &View<'_>,
        host: HostIndex,
        workload: WorkloadIndex,
        changing: Changing<'_>,
    ) -> Self {
        let zones = view.zones.len();
        let mut demand = vec![0.0; zones];
        let (mut requests, mut bytes) = (0.0, 0.0);
        for edge in &view.hosts[host.at()].edges {
            for (from, _, rate, route_bytes) in routes(view, edge.at()) {
                demand[from] += rate;
                requests += rate;
                bytes += route_bytes;
            }
        }
        // What reaches each zone of the workload, through whatever host.
        let mut reached = vec![0.0; zones];
        let mut all_hosts = 0.0;
        for edge in &view.workloads[workload.at()].called_by {
            for (_, to, rate, _) in routes(view, edge.at()) {
                reached[to] += rate;
                all_hosts += rate;
            }
        }
        let callers = callers(view, host);
        let index = workload;
        let workload = &view.workloads[workload.at()];
        let base = base(workload.workload);
        let mut zones = observe_zones(view, &workload.pods, base, &reached);
        ramp_up(view, workload, changing, &mut zones);
        observe_downstream(view, index, &mut zones);
        let edges = view.hosts[host.at()].edges.iter();
        let mut senders = edges.map(|edge| view.edges[edge.at()].caller);
        Self {
            enters: senders.all(|caller| view.workloads[caller.at()].called_by.is_empty()),
            demand,
            bytes_per_request: if requests > 0.0 { bytes / requests } else { 0.0 },
            p95: callers.p95.get(),
            errors: callers.errors.get().unwrap_or(0.0),
            share: if all_hosts > 0.0 { (requests / all_hosts).clamp(0.01, 1.0) } else { 1.0 },
            zones,
            cores: base.map_or(1.0, |base| (base.as_f64() / 1000.0).round().max(1.0)),
        }
    }

    /// Requests per second from all zones.
    pub(crate) fn total(&self) -> f64 {
        self.demand.iter().sum()
    }
}

/// The routes of an edge: from, to, requests per second, bytes per second.
fn routes(view: &View<'_>, edge: usize) -> impl Iterator<Item = (usize, usize, f64, f64)> {
    let edge = &view.edges[edge];
    let counted = edge.requests > 0.0;
    view.routes(edge).iter().map(move |route| {
        let rate = if counted { route.requests } else { route.bytes / BYTES_PER_EXCHANGE };
        (route.from.at(), route.to.at(), rate, route.bytes)
    })
}

/// Sums over the replicas of a zone.
#[derive(Debug, Clone, Copy, Default)]
struct ZoneSum {
    /// Requests per second that its replicas report.
    reported: f64,
    /// Utilisation of those that are warm and have data.
    used: f64,
    busiest: f64,
    measured: u32,
    /// Requests per second of the measured ones.
    measured_served: f64,
    p95: Mean,
    errors: Mean,
}

fn observe_zones(
    view: &View<'_>,
    pods: &[PodView<'_>],
    base: Option<MilliCpu>,
    reached: &[f64],
) -> Vec<ZoneObservation> {
    let mut zones = vec![ZoneObservation::default(); reached.len()];
    let mut sums = vec![ZoneSum::default(); reached.len()];
    for pod in pods.iter().filter(|pod| pod.serves()) {
        let Some(zone) = pod.zone else { continue };
        let ramp = ramp(view, pod);
        let (zone, sum) = (&mut zones[zone.at()], &mut sums[zone.at()]);
        zone.ready += 1;
        if let Some(traffic) = pod.traffic {
            let served = traffic.requests.get();
            sum.reported += served;
            if let Some(p95) = traffic.p95 {
                sum.p95.add(p95.get(), served);
            }
            sum.errors.add(traffic.errors.get(), served);
        }
        // A replica that has just started burns CPU on starting, and its averages reach
        // back to before it was there.
        let settled = ramp >= 1.0 && age(view, pod).is_none_or(|age| age >= view.window);
        if let (Some(usage), Some(base), true) = (pod.usage, base, settled) {
            let used = usage.cpu.as_f64() / base.as_f64();
            sum.used += used;
            sum.busiest = sum.busiest.max(used);
            sum.measured += 1;
            sum.measured_served += pod.traffic.map_or(0.0, |traffic| traffic.requests.get());
        }
    }
    for (at, (zone, sum)) in zones.iter_mut().zip(&sums).enumerate() {
        // Replicas report their own requests where the mesh knows them, else callers do.
        let reports = sum.reported > 0.0;
        zone.served = if reports { sum.reported } else { reached[at] };
        zone.p95 = sum.p95.get();
        zone.errors = sum.errors.get().unwrap_or(0.0);
        if sum.measured > 0 {
            let measured = f64::from(sum.measured);
            let mean = sum.used / measured;
            let utilisation = mean.max(sum.busiest / USUAL_IMBALANCE);
            let served = if reports { sum.measured_served } else { zone.served };
            let each = served / measured;
            zone.utilisation = Some(utilisation);
            zone.per_replica = (utilisation > 0.0 && each > 0.0).then(|| each / utilisation);
        }
    }
    zones
}

/// Counts what each zone's replicas can carry soon: those that became Ready lately partly,
/// those that go not at all. During a rollout, and while most replicas are new, all of them
/// count: those that have begun are no worse than those that are about to go.
///
/// A move under way counts as one replica, which passes from the victim to the replacement
/// while that warms up: so routes have followed by the time the victim goes, and a surge
/// that lasts a minute draws no traffic that must go back again.
fn ramp_up(
    view: &View<'_>,
    workload: &WorkloadView<'_>,
    changing: Changing<'_>,
    zones: &mut [ZoneObservation],
) {
    // Of hosts that lose nothing, which are nearly all, no replica is looked up.
    let leaving = changing.leaving.filter(|leaving| loses_some(workload, leaving));
    let leaves = |pod: &PodView<'_>| leaving.is_some_and(|leaving| leaving.contains(&pod.pod.name));
    let serving = || workload.pods.iter().filter(|pod| pod.serves());
    let ramps: Vec<f64> = serving().map(|pod| ramp(view, pod)).collect();
    let ready: f64 = zones.iter().map(|zone| f64::from(zone.ready)).sum();
    let warm: f64 = ramps.iter().sum();
    let anew = workload.workload.rollout == Rollout::InProgress || warm < MOSTLY_WARM * ready;
    for (pod, ramp) in serving().zip(&ramps).filter(|(pod, _)| !leaves(pod)) {
        if let Some(zone) = pod.zone {
            let zone = &mut zones[zone.at()];
            zone.staying += 1;
            zone.ramped += if anew { 1.0 } else { *ramp };
        }
    }
    if let Some(moving) = changing.moving {
        let victim = serving().find(|pod| pod.pod.name == moving.victim && !leaves(pod));
        let is_new = |pod: &&PodView<'_>| !moving.known_pods.contains(&pod.pod.name);
        let newcomers = serving().filter(is_new).filter(|pod| !leaves(pod));
        let passed = newcomers.map(|pod| ramp(view, pod)).fold(0.0, f64::max);
        if let Some(zone) = victim.and_then(|victim| victim.zone) {
            zones[zone.at()].ramped -= passed;
        }
    }
    for zone in zones.iter_mut().filter(|zone| zone.staying > 0) {
        // A victim that is the last one still serves until it has gone.
        zone.ramped = zone.ramped.max(RAMP_START);
    }
}

/// Whether one of `leaving` is between the first and the last name of a workload's replicas.
fn loses_some(workload: &WorkloadView<'_>, leaving: &BTreeSet<PodName>) -> bool {
    let (Some(first), Some(last)) = (workload.pods.first(), workload.pods.last()) else {
        return false;
    };
    leaving.range(&first.pod.name..=&last.pod.name).next().is_some()
}

/// How long the calls of each zone's replicas take for one request. A replica that waits
/// for a slow service is not slow itself; the routes to that service are another host's.
fn observe_downstream(view: &View<'_>, workload: WorkloadIndex, zones: &mut [ZoneObservation]) {
    let mut calls = vec![(Mean::default(), 0.0); zones.len()];
    for edge in &view.workloads[workload.at()].calls {
        calls.fill((Mean::default(), 0.0));
        for (route, p95) in view.timed_routes(&view.edges[edge.at()]) {
            let Some(p95) = p95 else { continue };
            let (mean, rate) = &mut calls[route.from.at()];
            mean.add(p95, route.requests);
            *rate += route.requests;
        }
        for (zone, (mean, rate)) in zones.iter_mut().zip(&calls) {
            if zone.served > 0.0 {
                zone.downstream += mean.get().unwrap_or(0.0) * rate / zone.served;
            }
        }
    }
}

/// Since how long a replica has been Ready.
fn age(view: &View<'_>, pod: &PodView<'_>) -> Option<Span> {
    pod.pod.ready_since.map(|since| view.now.since(since))
}

/// How much of a replica counts: all of it once it has been Ready for the warm-up time.
fn ramp(view: &View<'_>, pod: &PodView<'_>) -> f64 {
    let warmup = view.policy.balancer.warmup.as_seconds_f64();
    match age(view, pod) {
        Some(age) if warmup > 0.0 => (age.as_seconds_f64() / warmup).clamp(RAMP_START, 1.0),
        _ => 1.0,
    }
}
