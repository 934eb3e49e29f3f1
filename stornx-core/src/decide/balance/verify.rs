//! Did a change of routes make things worse?
//!
//! Steps follow one another every cycle; each is predicted from demand and capacity, which
//! do not depend on the split, so there is no reason to wait for the metrics between them.
//! A *run* is the series of writes from a table at rest to the next rest. What is kept
//! for judging is the table and the figures from before the run; every step of the run is
//! judged against them, once the window of the metrics lies wholly after the last write. A
//! run that made things worse is undone as a whole, once, and the host backs off.
//!
//! Worse means: the callers' p95 rose by more than a quarter and more than noise, by an
//! amount that users notice, while the demand did not rise and the rest of the cluster
//! did not slow down alike; or the share of failures rose likewise. And ours to blame only
//! where the destinations to which the run sends more now answer worse than those to which
//! it sends less: callers that move from zone to zone, a zone that drowns while the run
//! leads its load away, a slow downstream are not of its making.

use super::observe::{CallerView, Observation, ZoneObservation};
use crate::{
    memory::{Expectation, HostMemory},
    policy,
    units::{Millis, Rps, Share, Span, Timestamp},
    view::{HostIndex, View},
};

/// Rise of p95 that is a regression, as a share.
const SLOWER: f64 = 0.25;
/// ... and at least this share of the response time threshold: less is nothing to undo.
const NOTICED: f64 = 0.05;
/// Rise of the demand that explains a rise of latency, as a share.
const MORE_DEMAND: f64 = 0.10;
/// Rise of the rest of the cluster's p95 that explains ours, as a share.
const OTHERS_SLOWER: f64 = 0.10;
/// Rise of the share of failures that is a regression.
const MORE_ERRORS: f64 = 0.01;
/// Rates are averaged over a window; no shorter one is reckoned with than a minute.
const LEAST_WINDOW: Span = Span::from_seconds(60);

/// The window after which metrics show a write.
pub(crate) fn window(view: &View<'_>) -> Span {
    view.window.max(LEAST_WINDOW)
}

/// What was seen before a run begins.
pub(crate) fn expect(
    view: &View<'_>,
    seen: &Observation,
    host: CallerView,
    all: CallerView,
) -> Expectation {
    Expectation {
        since: view.now,
        p95_before: seen.p95.map(Millis::saturating),
        errors_before: Share::saturating(seen.errors),
        others_p95_before: all.p95.without(host.p95).get().map(Millis::saturating),
        demand_before: Rps::saturating(seen.total()),
    }
}

/// A run gets this many windows to reach its target. Five steps of 20 points do; what still
/// writes after twice that follows noise.
const LONGEST_RUN: u64 = 10;

/// Whether a run is under way, and young enough to be going somewhere.
pub(crate) fn run_open(memory: Option<&HostMemory>, view: &View<'_>) -> bool {
    let since = memory.and_then(|memory| memory.expectation.as_ref()).map(|run| run.since);
    since.is_some_and(|since| view.now.since(since) <= window(view).times(LONGEST_RUN))
}

/// After so long a host is at rest.
const REST: Span = Span::from_seconds(600);

/// Whether nothing has been written for a host for long, nor has a replica come to its
/// workload or to its callers.
pub(crate) fn at_rest(memory: Option<&HostMemory>, view: &View<'_>, host: HostIndex) -> bool {
    let host = &view.hosts[host.at()];
    let callers = host.edges.iter().map(|edge| view.edges[edge.at()].caller);
    let around = host.workload.into_iter().chain(callers);
    let pods = around.flat_map(|workload| &view.workloads[workload.at()].pods);
    let rests = |since: Timestamp| view.now.since(since) >= REST;
    let written = memory.and_then(|memory| memory.written_at);
    written.is_some_and(rests) && pods.map(|pod| pod.pod.created_at).all(rests)
}

/// Whether the metrics show the last write and nothing before it.
pub(crate) fn shows_last_write(memory: &HostMemory, view: &View<'_>) -> bool {
    memory.written_at.is_none_or(|at| view.now.since(at) >= window(view))
}

/// Whether a run is over: nothing was written for two windows.
pub(crate) fn run_over(memory: &HostMemory, view: &View<'_>) -> bool {
    memory.written_at.is_none_or(|at| view.now.since(at) > window(view).times(2))
}

/// Whether the run made things worse.
pub(crate) fn regressed(
    before: &Expectation,
    seen: &Observation,
    others: Option<f64>,
    threshold: Millis,
    window: Span,
) -> bool {
    let total = Rps::saturating(seen.total());
    if total.get() > before.demand_before.get() * (1.0 + MORE_DEMAND) || total.is_zero() {
        return false;
    }
    let noise = policy::noise(total, window).get();
    if seen.errors > before.errors_before.get() + MORE_ERRORS.max(noise * MORE_ERRORS * 10.0) {
        return true;
    }
    let (Some(now), Some(then)) = (seen.p95, before.p95_before) else { return false };
    let others_slower = match (others, before.others_p95_before) {
        (Some(now), Some(then)) => now > then.get() * (1.0 + OTHERS_SLOWER),
        _ => false,
    };
    let slower = now > then.get() * (1.0 + SLOWER + noise);
    slower && now - then.get() > NOTICED * threshold.get() && !others_slower
}

/// How much worse the destinations that gained must be than those that lost.
const WORSE_THAN_LEFT: f64 = 1.1;

/// Whether the run sent requests from better places to worse ones: `before` and `now` are
/// the loads of each destination under the split before the run and under today's.
pub(crate) fn ours_to_blame(before: &[f64], now: &[f64], zones: &[ZoneObservation]) -> bool {
    let (mut gained, mut lost) = (CallerView::default(), CallerView::default());
    for ((before, now), zone) in before.iter().zip(now).zip(zones) {
        let seen = if now > before { &mut gained } else { &mut lost };
        let weight = (now - before).abs();
        if let Some(p95) = zone.p95 {
            seen.p95.add(p95, weight);
        }
        seen.errors.add(zone.errors, weight);
    }
    let worse = |gained: Option<f64>, lost: Option<f64>, least: f64| matches!((gained, lost), (Some(gained), Some(lost)) if gained > lost * WORSE_THAN_LEFT + least);
    worse(gained.p95.get(), lost.p95.get(), 0.0)
        || worse(gained.errors.get(), lost.errors.get(), MORE_ERRORS)
}

/// The back-off after a run that was undone.
pub(crate) fn back_off(
    earlier: Option<crate::memory::Backoff>,
    first: Span,
    now: Timestamp,
) -> crate::memory::Backoff {
    /// Doubled at most this often: 10 minutes become 10 hours.
    const MOST_DOUBLINGS: u32 = 6;
    let failures = earlier.map_or(0, |earlier| earlier.failures).saturating_add(1);
    let wait = first.times(1 << (failures - 1).min(MOST_DOUBLINGS));
    crate::memory::Backoff { until: now.after(wait), failures }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn before() -> Expectation {
        Expectation {
            since: Timestamp::from_millis(0),
            p95_before: Some(Millis::saturating(40.0)),
            errors_before: Share::saturating(0.001),
            others_p95_before: Some(Millis::saturating(20.0)),
            demand_before: Rps::saturating(100.0),
        }
    }

    fn judged(p95: f64, errors: f64, demand: f64, others: f64) -> bool {
        let seen = Observation {
            demand: vec![demand],
            enters: true,
            bytes_per_request: 0.0,
            p95: Some(p95),
            errors,
            share: 1.0,
            zones: Vec::new(),
            cores: 1.0,
        };
        let threshold = Millis::saturating(100.0);
        regressed(&before(), &seen, Some(others), threshold, Span::from_seconds(60))
    }

    #[test]
    fn only_a_clear_rise_that_nothing_else_explains_is_a_regression() {
        assert!(!judged(40.0, 0.001, 100.0, 20.0));
        assert!(judged(60.0, 0.001, 100.0, 20.0));
        assert!(!judged(48.0, 0.001, 100.0, 20.0), "within a quarter");
        assert!(!judged(60.0, 0.001, 120.0, 20.0), "more demand");
        assert!(!judged(60.0, 0.001, 100.0, 30.0), "everything slower");
        assert!(judged(40.0, 0.05, 100.0, 20.0), "failures");
        assert!(!judged(40.0, 0.005, 100.0, 20.0), "a few failures");
    }

    #[test]
    fn back_off_doubles() {
        let now = Timestamp::from_millis(1_000);
        let first = back_off(None, Span::from_seconds(600), now);
        let second = back_off(Some(first), Span::from_seconds(600), now);
        assert_eq!(first.until, now.after(Span::from_seconds(600)));
        assert_eq!(second.until, now.after(Span::from_seconds(1200)));
        assert_eq!(second.failures, 2);
    }
}
