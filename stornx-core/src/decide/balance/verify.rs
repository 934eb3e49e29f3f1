//! Did a change of routes make things worse?
//!
//! Steps follow one another every cycle; each is predicted from demand and capacity, which
//! do not depend on the split, so there is no reason to wait for the metrics between them.
//! A *run* is the series of writes from a table at rest to the next rest. What is kept
//! for judging is the table and the figures from before the run; every step of the run is
//! judged against them, once the window of the metrics lies wholly after the last write. A
//! run that made things worse is undone as a whole, once, and the host backs off.
//!
//! Worse means: the callers' p95 rose by more than a quarter and more than noise beyond
//! what it did for hosts that were not touched (`untouched`), by an amount that users
//! notice, while the demand did not rise; or the share of failures rose likewise. And ours
//! to blame only where the destinations to which the run sends more now answer worse than
//! those to which it sends less, and the mesh has followed: callers that move from zone to
//! zone, a zone that drowns while the run leads its load away, a slow downstream are not of
//! its making.

use super::{
    observe::{Observation, ZoneObservation},
    untouched::Common,
};
use crate::{
    memory::{Expectation, HostMemory},
    model::Facts,
    policy,
    report::{Effect, Unverified},
    units::{Millis, Rps, Share, Span, Timestamp},
    view::{HostIndex, Seen, View},
};

/// Rise of p95 that is a regression, as a share.
const SLOWER: f64 = 0.25;
/// ... and at least this share of the response time threshold: less is nothing to undo.
const NOTICED: f64 = 0.05;
/// Rise of the demand that explains a rise of latency, as a share.
const MORE_DEMAND: f64 = 0.10;
/// Rise of the share of failures that is a regression.
const MORE_ERRORS: f64 = 0.01;
/// Rates are averaged over a window; no shorter one is reckoned with than a minute.
const LEAST_WINDOW: Span = Span::from_seconds(60);

/// The window after which metrics show a write.
pub(crate) fn window(view: &View<'_>) -> Span {
    view.window.max(LEAST_WINDOW)
}

/// The window that the metrics of this cycle are of: they describe an instant that may lie
/// a scrape or two back.
pub(crate) fn seen_window(view: &View<'_>) -> (Timestamp, Timestamp) {
    let to = match &view.snapshot.traffic {
        Facts::Fresh { as_of, .. } => (*as_of).min(view.now),
        Facts::Stale { .. } | Facts::Missing { .. } => view.now,
    };
    let from = to.as_millis().saturating_sub(window(view).as_millis());
    (Timestamp::from_millis(from), to)
}

/// How much longer it takes until the metrics show the last write and nothing before it.
pub(crate) fn too_early(memory: &HostMemory, view: &View<'_>) -> Span {
    let (from, _) = seen_window(view);
    memory.written_at.map_or(Span::ZERO, |at| at.since(from))
}

/// Time between two steps of weights that rest on no figures: that of looks at the metrics
/// by default, so that what happens around them does not make them faster.
const BETWEEN_STEPS: Span = Span::from_seconds(15);

/// Whether that time has passed since the last write of a host.
pub(crate) fn is_rested(memory: Option<&HostMemory>, view: &View<'_>) -> bool {
    let written = memory.and_then(|memory| memory.written_at);
    written.is_none_or(|written| view.now >= written.after(BETWEEN_STEPS))
}

/// Whether this cycle knows anything that the last write of a host did not rest on. Cycles
/// come as often as endpoints change; the same figures twice are one reason, not two.
pub(crate) fn is_news(memory: Option<&HostMemory>, view: &View<'_>) -> bool {
    let written = memory.and_then(|memory| memory.written_at);
    written.is_none_or(|written| seen_window(view).1 > written)
}

/// What was seen before a run begins.
pub(crate) fn expect(view: &View<'_>, seen: &Observation) -> Expectation {
    Expectation {
        since: view.now,
        p95_before: seen.p95.map(Millis::saturating),
        errors_before: Share::saturating(seen.errors),
        // By host, beside it: what is compared must be the same ones.
        others_p95_before: None,
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

/// Whether a run is over: its last write has been seen, and nothing was written for two
/// windows.
pub(crate) fn run_over(memory: &HostMemory, view: &View<'_>) -> bool {
    let rests = |at: Timestamp| view.now.since(at) > window(view).times(2);
    too_early(memory, view) == Span::ZERO && memory.written_at.is_none_or(rests)
}

/// Whether a run is so long over that what is seen now says nothing about it.
pub(crate) fn too_late(memory: &HostMemory, view: &View<'_>) -> bool {
    let past = |at: Timestamp| view.now.since(at) > window(view).times(LONGEST_RUN);
    memory.written_at.is_none_or(past)
}

/// What the run has done. `ours` is asked only where something is worse.
pub(crate) fn effect(
    before: &Expectation,
    seen: &Observation,
    common: Common,
    threshold: Millis,
    window: Span,
    ours: impl FnOnce() -> bool,
) -> Effect {
    let total = Rps::saturating(seen.total());
    let unverified = |why| Effect::Unverified { why };
    if total.is_zero() {
        return unverified(Unverified::FewRequests);
    }
    if total.get() > before.demand_before.get() * (1.0 + MORE_DEMAND) {
        return unverified(Unverified::MoreDemand);
    }
    let noise = policy::noise(total, window).get();
    let failing = before.errors_before.get() + common.failures;
    let fails = seen.errors > failing + MORE_ERRORS.max(noise * MORE_ERRORS * 10.0);
    let p95s = seen.p95.zip(before.p95_before.map(Millis::get));
    let slow = p95s.is_some_and(|(now, then)| {
        let expected = then * common.slowdown;
        let slower = now > expected * (1.0 + SLOWER + noise);
        slower && now - expected > NOTICED * threshold.get()
    });
    match p95s {
        _ if fails || slow => Effect::Worse {
            p95_before: before.p95_before,
            p95_expected: before
                .p95_before
                .map(|p95| Millis::saturating(p95.get() * common.slowdown)),
            p95: seen.p95.map(Millis::saturating),
            errors_before: before.errors_before,
            errors: Share::saturating(seen.errors),
            compared_with: common.hosts,
            ours: ours(),
        },
        None => unverified(Unverified::NoLatency),
        Some(_) => Effect::NoWorse { compared_with: common.hosts },
    }
}

/// How much worse the destinations that gained must be than those that lost.
const WORSE_THAN_LEFT: f64 = 1.1;

/// Whether the run sent requests from better places to worse ones: `before` and `now` are
/// the loads of each destination under the split before the run and under today's.
pub(crate) fn ours_to_blame(before: &[f64], now: &[f64], zones: &[ZoneObservation]) -> bool {
    let (mut gained, mut lost) = (Seen::default(), Seen::default());
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
            others_p95_before: None,
            demand_before: Rps::saturating(100.0),
        }
    }

    fn found(p95: Option<f64>, errors: f64, demand: f64, common: Common) -> Effect {
        let seen = Observation {
            demand: vec![demand],
            enters: true,
            bytes_per_request: 0.0,
            p95,
            errors,
            share: 1.0,
            zones: Vec::new(),
            cores: 1.0,
        };
        let threshold = Millis::saturating(100.0);
        effect(&before(), &seen, common, threshold, Span::from_seconds(60), || true)
    }

    fn worse(p95: f64, errors: f64, slowdown: f64, failures: f64) -> bool {
        let common = Common { slowdown, failures, hosts: 1 };
        matches!(found(Some(p95), errors, 100.0, common), Effect::Worse { .. })
    }

    #[test]
    fn only_a_clear_rise_that_nothing_else_explains_is_a_regression() {
        assert!(!worse(40.0, 0.001, 1.0, 0.0));
        assert!(worse(60.0, 0.001, 1.0, 0.0));
        assert!(!worse(48.0, 0.001, 1.0, 0.0), "within a quarter");
        assert!(worse(40.0, 0.05, 1.0, 0.0), "failures");
        assert!(!worse(40.0, 0.005, 1.0, 0.0), "a few failures");
    }

    #[test]
    fn what_the_untouched_show_as_well_is_taken_off() {
        assert!(!worse(60.0, 0.001, 1.5, 0.0), "everything slower");
        assert!(worse(60.0, 0.001, 1.1, 0.0), "everything a little slower");
        assert!(worse(90.0, 0.001, 1.5, 0.0), "everything slower, and this more so");
        assert!(!worse(40.0, 0.05, 1.0, 0.05), "everything fails");
        assert!(worse(40.0, 0.1, 1.0, 0.05), "everything fails, and this more so");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let why = |found| match found {
            Effect::Unverified { why } => Some(why),
            _ => None,
        };
        let alone = Common::NONE;
        assert_eq!(why(found(None, 0.0, 100.0, alone)), Some(Unverified::NoLatency));
        assert_eq!(why(found(Some(60.0), 0.0, 120.0, alone)), Some(Unverified::MoreDemand));
        assert_eq!(why(found(Some(60.0), 0.0, 0.0, alone)), Some(Unverified::FewRequests));
        assert!(matches!(found(None, 0.2, 100.0, alone), Effect::Worse { .. }));
        assert_eq!(found(Some(40.0), 0.0, 99.0, alone), Effect::NoWorse { compared_with: 0 });
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
