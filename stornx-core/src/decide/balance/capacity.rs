//! What is believed of a host from cycle to cycle: demand by caller zone, what a replica of
//! each zone can serve, and the penalty of each zone. Each belief is what was remembered
//! blended with what this cycle shows.
//!
//! Blending serves two masters. Rates counted over a minute are noisy, and noise must not
//! rewrite rules: a belief moves only part of the way. A real change (callers move, a replica
//! becomes slow) must be answered at once: what differs by more than noise explains
//! replaces the belief.
//!
//! A zone with too little traffic to tell keeps what it was believed to be. At low
//! utilisation the CPU that a replica uses when idle looks like work, so that what is seen
//! there is a lower bound, and only evidence of *more* capacity than believed is taken. A zone about which nothing is known borrows from
//! the others.

use super::{
    congestion::{self, Queue},
    observe::{Observation, ZoneObservation},
};
use crate::{
    memory::{CapacityMemory, HostMemory, PenaltyMemory},
    units::{Millis, Rps, Span, Timestamp},
    view::View,
};

/// Part of the way that a belief of demand moves for one observation, at least.
const DEMAND_PART: f64 = 0.3;
/// Part of a surprise up to which a deviation is usual: three standard deviations.
const UNUSUAL: f64 = 0.5;
/// Capacity changes rarely (a rollout, a noisy neighbour) and its noise moves targets.
const CAPACITY_PART: f64 = 0.15;
/// Observations that smoothing by [`CAPACITY_PART`] remembers.
const MOST_OBSERVATIONS: u32 = 12;

/// Deviation from the believed demand that replaces it, in standard deviations of the
/// count: 6, because calls come in bunches (one page view makes several), which doubles
/// or triples the deviation of independent arrivals.
const DEMAND_SURPRISE: f64 = 6.0;
/// ... and as a share, whatever the count.
const LEAST_DEMAND_SURPRISE: f64 = 0.15;
/// What is seen is taken at most so much further, as a share of it: a guess, however good,
/// decides less than what was counted.
const FURTHEST: f64 = 0.25;
/// A surprise that adds less than this share to the demand of the host can wait for the next
/// cycle of the schedule.
const GROWTH: f64 = 0.03;
/// Ratio between observed and believed capacity (natural logarithm) that replaces the
/// belief: half as much again, or two thirds.
const CAPACITY_SURPRISE: f64 = 0.4;

/// Utilisation below which idle work blurs the estimate.
const LOW_UTILISATION: f64 = 0.05;
/// Requests counted below which an observation says nothing.
const FEW_REQUESTS: f64 = 20.0;
/// Answers that tell whether a zone is still slow: one that works ten times longer does so
/// on every one of them.
const FEW_ANSWERS: f64 = 5.0;
/// Part of the way that a zone comes back in a cycle.
const RECOVERY_PART: f64 = 0.3;
/// Age from which a belief that nothing confirms fades.
const OLD: Span = Span::from_seconds(1800);
/// Requests counted from which an observation counts fully.
const MANY_REQUESTS: f64 = 100.0;

/// Zones of one workload run the same program: a capacity within this ratio of the others'
/// (natural logarithm) is taken as theirs, one at twice this ratio as its own, in between
/// partly.
const SAME_PROGRAM: f64 = 0.15;

/// With no usage data, all replicas together are taken to be this full at the cap: room for
/// a zone to take a quarter more than its share by replica count.
const ASSUMED_FILL: f64 = 0.8;
/// Milliseconds of work on a request when nothing tells.
const ASSUMED_SERVICE: f64 = 5.0;
/// p95 over mean of exponential work is 3.
const P95_OVER_MEAN: f64 = 3.0;

/// A p95 is slow when it is above the threshold *and* this many times both that of the
/// fastest zone and that which work and waiting explain: what all zones share makes no
/// difference to a choice between them, load is congestion's to answer (a penalty for it
/// would chase the load from zone to zone), and a p95 over a minute varies by some 20 %.
const SLOWER: f64 = 1.5;
/// Share of failures from which a destination is penalised.
const FAILING: f64 = 0.02;
/// A failed request costs its user this many times the response time threshold: a retry
/// after a time-out, or an error page.
const COST_OF_FAILURE: f64 = 10.0;
/// Utilisations between which slowness stops being the replica's and becomes the load's.
const LOADED: (f64, f64) = (0.5, 0.7);
/// Part of the way that a penalty moves for one observation. It is forgotten more slowly
/// than it is believed, since traffic that leaves a slow zone makes it look fast.
const PENALTY_RISE: f64 = 0.6;
const PENALTY_FALL: f64 = 0.4;
/// Less than this is no penalty, milliseconds.
const LEAST_PENALTY: f64 = 1.0;

/// What is believed of a host.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beliefs {
    /// Requests per second by caller zone.
    pub(crate) demand: Vec<f64>,
    /// What one replica of each zone serves; `None` where it was never observed.
    pub(crate) capacity: Vec<Option<CapacityMemory>>,
    /// What is remembered of each zone's slowness; its penalty counts from here.
    slowness: Vec<PenaltyMemory>,
    /// More demand than noise explains came up in a zone: the window of the rates began
    /// before it did, and what is seen is less than what has come.
    pub(crate) growing: bool,
}

impl Beliefs {
    /// Blends memory and observation.
    pub(crate) fn form(
        view: &View<'_>,
        memory: Option<&HostMemory>,
        seen: &Observation,
        threshold: Millis,
    ) -> Self {
        let window = view.window.as_seconds_f64();
        let name = |zone: usize| view.zones[zone].name;
        let believed: Vec<Option<f64>> = (0..seen.demand.len())
            .map(|zone| Some(memory?.demand.get(name(zone))?.get()))
            .collect();
        let Demand { by_zone: demand, growing } =
            demand(&believed, &seen.demand, window, seen.enters);
        let capacity: Vec<Option<CapacityMemory>> = seen
            .zones
            .iter()
            .enumerate()
            .map(|(zone, seen)| {
                let believed = memory.and_then(|memory| memory.capacity.get(name(zone)));
                blend_capacity(believed.copied(), seen, window, view.now)
            })
            .collect();
        let reference = fastest(&seen.zones, window);
        let capacity = recover(capacity, seen, reference, window, view.now);
        let slowness = seen
            .zones
            .iter()
            .enumerate()
            .map(|(zone, now)| {
                let believed = memory.and_then(|memory| memory.penalty.get(name(zone)));
                let usual = reference.max(explained(capacity[zone], now, seen.cores));
                let slow = slowness(now, usual, threshold.get());
                blend_penalty(believed.copied(), now, slow, threshold, view)
            })
            .collect();
        Self { demand, capacity, slowness, growing }
    }

    /// Penalty of a zone, milliseconds.
    pub(crate) fn penalty(&self, zone: usize) -> f64 {
        self.slowness[zone].penalty.get()
    }

    /// Writes them back.
    pub(crate) fn keep(&self, view: &View<'_>, memory: &mut HostMemory) {
        memory.demand.clear();
        memory.capacity.clear();
        memory.penalty.clear();
        for (zone, name) in view.zones.iter().map(|zone| zone.name).enumerate() {
            if self.demand[zone] > 0.0 {
                memory.demand.insert(name.clone(), Rps::saturating(self.demand[zone]));
            }
            if let Some(capacity) = self.capacity[zone] {
                memory.capacity.insert(name.clone(), capacity);
            }
            if self.slowness[zone] != PenaltyMemory::default() {
                memory.penalty.insert(name.clone(), self.slowness[zone]);
            }
        }
    }
}

/// What is believed of the callers.
struct Demand {
    /// Requests per second by caller zone.
    by_zone: Vec<f64>,
    growing: bool,
}

/// Blends the demand of each zone. More than noise explains is answered at once, and taken
/// as far again as it has come: the window of the rates began before it did, and holds on
/// average half of it. What comes up in one zone has left another one where all zones
/// together ask for no more than before: then those that lose are taken further too.
///
/// Only what `enters` the cluster here is taken further. What other services send grows when
/// their own routes change, by steps of ours that end.
fn demand(believed: &[Option<f64>], seen: &[f64], window: f64, enters: bool) -> Demand {
    let total: f64 = seen.iter().sum();
    let mut growing = false;
    let mut by_zone = Vec::with_capacity(seen.len());
    // How much less each zone may ask for than is taken now.
    let mut leaving = Vec::with_capacity(seen.len());
    for (believed, seen) in believed.iter().zip(seen) {
        let Some(believed) = believed else {
            by_zone.push(*seen);
            leaving.push(0.0);
            continue;
        };
        let change = seen - believed;
        let surprise = surprise(*believed, *seen, window);
        let ahead = surprise >= 1.0 && change > GROWTH * total;
        growing |= ahead;
        let further =
            (believed + 2.0 * change).clamp(seen * (1.0 - FURTHEST), seen * (1.0 + FURTHEST));
        let now = if ahead && enters { further } else { believed + part(surprise) * change };
        by_zone.push(now);
        leaving.push((now - further).max(0.0));
    }
    if growing && enters {
        let before: Option<f64> = believed.iter().copied().sum();
        let grows = before.is_some_and(|before| surprise(before, total, window) >= 1.0);
        let too_much = by_zone.iter().sum::<f64>() - total;
        let leaves: f64 = leaving.iter().sum();
        if !grows && too_much > 0.0 && leaves > 0.0 {
            let share = (too_much / leaves).min(1.0);
            for (zone, leaving) in by_zone.iter_mut().zip(leaving) {
                *zone -= share * leaving;
            }
        }
    }
    Demand { by_zone, growing }
}

/// How far a demand is from what was believed; 1 is more than noise explains.
fn surprise(believed: f64, seen: f64, window: f64) -> f64 {
    let deviation = (believed.max(seen) / window.max(1.0)).sqrt();
    let usual = (DEMAND_SURPRISE * deviation).max(LEAST_DEMAND_SURPRISE * believed);
    if usual > 0.0 { (seen - believed).abs() / usual } else { 0.0 }
}

/// Part of the way that a belief moves: half of what would be surprising is usual, from there
/// on the more the less usual it is.
fn part(surprise: f64) -> f64 {
    let unusual = (surprise - UNUSUAL) / (1.0 - UNUSUAL);
    DEMAND_PART + (1.0 - DEMAND_PART) * unusual.clamp(0.0, 1.0)
}

fn blend_capacity(
    believed: Option<CapacityMemory>,
    seen: &ZoneObservation,
    window: f64,
    now: Timestamp,
) -> Option<CapacityMemory> {
    let (Some(mut per_replica), Some(utilisation)) = (seen.per_replica, seen.utilisation) else {
        return believed;
    };
    let counted = seen.served * window;
    if counted < FEW_REQUESTS {
        return believed;
    }
    if utilisation < LOW_UTILISATION {
        // At least this much: all of the low utilisation taken as work.
        per_replica *= utilisation / LOW_UTILISATION;
        if believed.is_some_and(|believed| per_replica <= believed.per_replica.get()) {
            return believed;
        }
    }
    let fresh = |per_replica: f64| CapacityMemory {
        per_replica: Rps::saturating(per_replica),
        at: now,
        observations: 1,
    };
    let Some(believed) = believed.filter(|believed| !believed.per_replica.is_zero()) else {
        return Some(fresh(per_replica));
    };
    let ratio = (per_replica / believed.per_replica.get()).ln().abs();
    if ratio > CAPACITY_SURPRISE.max(6.0 / counted.sqrt()) {
        return Some(fresh(per_replica));
    }
    let part = CAPACITY_PART.max(1.0 / f64::from(believed.observations + 1));
    let part = part * (counted / MANY_REQUESTS).min(1.0);
    let blended = believed.per_replica.get() + part * (per_replica - believed.per_replica.get());
    Some(CapacityMemory {
        per_replica: Rps::saturating(blended),
        at: now,
        observations: (believed.observations + 1).min(MOST_OBSERVATIONS),
    })
}

/// Lets zones that were believed slow, and have too little traffic to show that they are
/// not any more, come back towards the others: at once where their few answers are as fast
/// as the others', else after a time.
fn recover(
    mut capacity: Vec<Option<CapacityMemory>>,
    seen: &Observation,
    fastest: f64,
    window: f64,
    now: Timestamp,
) -> Vec<Option<CapacityMemory>> {
    let Some(pooled) = pooled(&capacity, seen) else { return capacity };
    for (believed, zone) in capacity.iter_mut().zip(&seen.zones) {
        let Some(believed) = believed else { continue };
        let slow = believed.per_replica.get() < pooled;
        let idle = zone.utilisation.is_none_or(|utilisation| utilisation < LOW_UTILISATION);
        if !slow || !idle {
            continue;
        }
        let answers = zone.served * window >= FEW_ANSWERS;
        let fast = answers && zone.p95.is_some_and(|p95| p95 <= SLOWER * fastest);
        let old = now.since(believed.at) >= OLD;
        if fast || old {
            let nearer =
                believed.per_replica.get() + RECOVERY_PART * (pooled - believed.per_replica.get());
            believed.per_replica = Rps::saturating(nearer);
        }
    }
    capacity
}

/// p95 of the fastest zone that has enough requests to tell; 0 when none has.
fn fastest(zones: &[ZoneObservation], window: f64) -> f64 {
    let fastest = zones
        .iter()
        .filter(|zone| zone.served * window >= FEW_REQUESTS)
        .filter_map(|zone| zone.p95)
        .fold(f64::INFINITY, f64::min);
    if fastest.is_finite() { fastest } else { 0.0 }
}

/// The p95 that a zone's work and the waiting at its utilisation explain; 0 when not known.
fn explained(capacity: Option<CapacityMemory>, zone: &ZoneObservation, cores: f64) -> f64 {
    let capacity = capacity.filter(|capacity| !capacity.per_replica.is_zero());
    let (Some(capacity), Some(utilisation)) = (capacity, zone.utilisation) else { return 0.0 };
    let queue = Queue {
        full: 1.0,
        service: 1000.0 * cores / capacity.per_replica.get(),
        servers: congestion::servers(cores, zone.ready),
    };
    P95_OVER_MEAN * (queue.service + queue.wait(utilisation))
}

/// Penalty of the p95 that was seen, `usual` being one that needs no explanation.
fn slowness(seen: &ZoneObservation, usual: f64, threshold: f64) -> f64 {
    let allowed = threshold.max(SLOWER * usual);
    let own = seen.p95.map_or(0.0, |p95| p95 - seen.downstream);
    if own <= allowed || allowed <= 0.0 {
        return 0.0;
    }
    let load = seen.utilisation.map_or(0.0, |u| (u - LOADED.0) / (LOADED.1 - LOADED.0));
    threshold * (own / allowed).ln() * (1.0 - load.clamp(0.0, 1.0))
}

fn blend_penalty(
    believed: Option<PenaltyMemory>,
    seen: &ZoneObservation,
    slow: f64,
    threshold: Millis,
    view: &View<'_>,
) -> PenaltyMemory {
    let believed = believed.unwrap_or_default();
    let window = view.window.as_seconds_f64();
    if seen.served * window < FEW_ANSWERS {
        return believed;
    }
    let slow_since = (slow > 0.0).then(|| believed.slow_since.unwrap_or(view.now));
    // A window that begins in an overload ends with its slow answers and a low load.
    let lasting = slow_since.is_some_and(|since| view.now.since(since) >= view.window);
    let failing =
        if seen.errors > FAILING { seen.errors * COST_OF_FAILURE * threshold.get() } else { 0.0 };
    let now = failing + if lasting { slow } else { 0.0 };
    let part = if now > believed.penalty.get() { PENALTY_RISE } else { PENALTY_FALL };
    let blended = believed.penalty.get() + part * (now - believed.penalty.get());
    let penalty = if blended < LEAST_PENALTY { 0.0 } else { blended };
    PenaltyMemory { penalty: Millis::saturating(penalty), slow_since }
}

/// What one zone can serve, with the age and the confidence of the estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    /// Requests per second at full utilisation.
    pub(crate) full: f64,
    /// Milliseconds of work on a request.
    pub(crate) service: f64,
    /// Age; `None` when it rests on replica counts alone.
    pub(crate) age: Option<Span>,
    /// Observations behind it.
    pub(crate) observations: u32,
}

/// What each zone can serve of a host.
pub(crate) fn estimate(
    beliefs: &Beliefs,
    seen: &Observation,
    cap: f64,
    now: Timestamp,
) -> Vec<Estimate> {
    let pooled = pooled(&beliefs.capacity, seen);
    let replicas: f64 = seen.zones.iter().map(|zone| zone.ramped).sum();
    let demand: f64 = beliefs.demand.iter().sum();
    seen.zones
        .iter()
        .zip(&beliefs.capacity)
        .map(|(zone, own)| {
            let Some(pooled) = pooled else {
                return by_replicas(zone, seen, demand / (ASSUMED_FILL * cap), replicas);
            };
            let own = own.filter(|own| !own.per_replica.is_zero());
            let per_replica = own.map_or(pooled, |own| near_others(own.per_replica.get(), pooled));
            Estimate {
                full: zone.ramped * per_replica * seen.share,
                service: 1000.0 * seen.cores / per_replica,
                age: own.map_or(Some(Span::ZERO), |own| Some(now.since(own.at))),
                observations: own.map_or(0, |own| own.observations),
            }
        })
        .collect()
}

/// What a replica can do by the evidence of all zones: the mean, by replicas and
/// confidence, over the zones that are near the median. A slow zone is not evidence of
/// what the others can do.
fn pooled(capacity: &[Option<CapacityMemory>], seen: &Observation) -> Option<f64> {
    let mut zones: Vec<(f64, f64)> = seen
        .zones
        .iter()
        .zip(capacity)
        .filter_map(|(zone, own)| {
            let own = own.filter(|own| !own.per_replica.is_zero())?;
            // A zone that has just lost its replicas still tells what one could do.
            let replicas = f64::from(zone.ready).max(0.1);
            Some((own.per_replica.get(), replicas * f64::from(own.observations.max(1))))
        })
        .collect();
    // Fastest first, so that of two zones the healthy one is the median.
    zones.sort_by(|a, b| b.0.total_cmp(&a.0));
    let half = zones.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let mut passed = 0.0;
    let (median, _) = *zones.iter().find(|(_, weight)| {
        passed += weight;
        passed >= half
    })?;
    let near = zones.iter().filter(|zone| (zone.0 / median).ln().abs() <= 2.0 * SAME_PROGRAM);
    let (sum, weight) = near.fold((0.0, 0.0), |(sum, weight), (capacity, confidence)| {
        (sum + capacity * confidence, weight + confidence)
    });
    (weight > 0.0).then(|| sum / weight)
}

fn near_others(own: f64, pooled: f64) -> f64 {
    let ratio = (own / pooled).ln();
    let trust = ((ratio.abs() - SAME_PROGRAM) / SAME_PROGRAM).clamp(0.0, 1.0);
    pooled * (ratio * trust).exp()
}

/// `full` is what all replicas together are taken to serve.
fn by_replicas(zone: &ZoneObservation, seen: &Observation, full: f64, replicas: f64) -> Estimate {
    let fastest = fastest(&seen.zones, f64::INFINITY);
    let service = if fastest > 0.0 { fastest / P95_OVER_MEAN } else { ASSUMED_SERVICE };
    let part = if replicas > 0.0 { zone.ramped / replicas } else { 0.0 };
    Estimate { full: full * part, service, age: None, observations: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blend(believed: &[f64], seen: &[f64]) -> (Vec<f64>, bool) {
        let believed: Vec<_> = believed.iter().copied().map(Some).collect();
        let found = demand(&believed, seen, 60.0, true);
        (found.by_zone, found.growing)
    }

    #[track_caller]
    fn near(found: &[f64], expected: &[f64]) {
        let same = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(same && found.len() == expected.len(), "{found:?} {expected:?}");
    }

    #[test]
    fn usual_deviations_move_a_belief_by_a_part() {
        // 15 % of 100 is surprising, half of that is usual.
        let (found, growing) = blend(&[100.0, 100.0], &[106.0, 97.0]);
        near(&found, &[101.8, 99.1]);
        assert!(!growing);
    }

    #[test]
    fn unusual_deviations_move_it_further_but_never_past_what_is_seen() {
        let mut before = 0.0;
        for seen in [105.0, 107.0, 110.0, 113.0, 114.9] {
            let (found, growing) = blend(&[100.0], &[seen]);
            let part = (found[0] - 100.0) / (seen - 100.0);
            assert!(part >= before - 1e-9 && part <= 1.0 && !growing, "{seen}: {part}");
            before = part;
        }
        assert!(before > 0.99);
    }

    #[test]
    fn growth_is_taken_as_far_again_as_it_has_come() {
        let (found, growing) = blend(&[100.0, 100.0], &[120.0, 100.0]);
        near(&found, &[140.0, 100.0]);
        assert!(growing);
        // But not by more than a quarter of what is seen.
        near(&blend(&[100.0, 100.0], &[160.0, 100.0]).0, &[200.0, 100.0]);
        // What falls is believed as it is seen.
        let (found, growing) = blend(&[220.0, 100.0], &[180.0, 100.0]);
        near(&found, &[180.0, 100.0]);
        assert!(!growing);
    }

    #[test]
    fn callers_that_change_places_are_not_counted_twice() {
        let (found, growing) = blend(&[300.0, 100.0, 100.0], &[270.0, 100.0, 130.0]);
        near(&found, &[240.0, 100.0, 160.0]);
        assert!(growing);
        // More in all: nobody has left.
        let (found, _) = blend(&[300.0, 100.0, 100.0], &[300.0, 100.0, 260.0]);
        near(&found, &[300.0, 100.0, 325.0]);
        // No zone is taken further down than a quarter of what is seen.
        let (found, _) = blend(&[100.0, 100.0], &[30.0, 170.0]);
        near(&found, &[22.5, 212.5]);
    }

    #[test]
    fn growth_that_other_services_send_is_believed_as_it_is_seen() {
        let believed = [Some(100.0), Some(100.0)];
        let found = demand(&believed, &[60.0, 140.0], 60.0, false);
        near(&found.by_zone, &[60.0, 140.0]);
        assert!(found.growing);
    }

    #[test]
    fn what_was_never_seen_is_taken_as_it_is() {
        let found = demand(&[None, Some(100.0)], &[50.0, 100.0], 60.0, true);
        near(&found.by_zone, &[50.0, 100.0]);
        assert!(!found.growing);
    }
}
