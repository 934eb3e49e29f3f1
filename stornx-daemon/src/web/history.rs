//! History: one point for each cycle, thinned out as it ages, so that hours take a few
//! hundred points. Nothing is ever decided on it.
//!
//! The last hour keeps every cycle (at most [`MOST_FINE`]); what is older is joined in
//! buckets, [`BUCKETS`] of them over the whole time that is kept. Levels are joined as
//! means over the cycles in which they were known, with the number of these; counts as sums.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stornx_core::{
    engine::CycleOutcome,
    plan::ActionKind,
    units::{Span, Timestamp},
};

use super::view::Cycle;

/// For so long every cycle is kept.
const FINE: Span = Span::from_seconds(3600);
/// Most points that are kept as they are: five cycles a minute.
const MOST_FINE: usize = 300;
/// Buckets over the whole time.
const BUCKETS: u64 = 480;
/// A point that lies so far ahead was written by a clock that went wrong.
const AHEAD: Span = Span::from_seconds(3600);

/// Cycles in which each level was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Known {
    /// Of `p95Ms`.
    pub(crate) p95_ms: u32,
    /// Of `crossZone`.
    pub(crate) cross_zone: u32,
    /// Of `usdPerHour`.
    pub(crate) usd_per_hour: u32,
    /// Of `requests`.
    pub(crate) requests: u32,
    /// Of `errors`.
    pub(crate) errors: u32,
    /// Of `survives`.
    pub(crate) survives: u32,
}

/// What a moment was like.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    /// When it was, or when its bucket begins, ms since 1970.
    pub(crate) at: Timestamp,
    /// Cycles that are joined in it.
    pub(crate) cycles: u32,
    /// Cycles in which each level was known, the means are over these; absent where every
    /// level that is there was known in all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) known: Option<Known>,
    /// p95 as callers see it, ms (as `p95Ms` of the summary).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) p95_ms: Option<f64>,
    /// Share of calls that leave their zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cross_zone: Option<f64>,
    /// Transfer between zones and regions, US dollars an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) usd_per_hour: Option<f64>,
    /// Calls between workloads, requests/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) requests: Option<f64>,
    /// Share of calls that fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) errors: Option<f64>,
    /// Share of today's requests that survive the loss of the worst zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) survives: Option<f64>,
    /// Ready replicas of managed workloads.
    #[serde(default)]
    pub(crate) replicas: f64,
    /// Routing rules written.
    #[serde(default)]
    pub(crate) writes: u32,
    /// Steps of moves that were carried out.
    #[serde(default)]
    pub(crate) moves: u32,
    /// Replica counts changed.
    #[serde(default)]
    pub(crate) scale_actions: u32,
    /// Actions that were tried and failed.
    #[serde(default)]
    pub(crate) failed: u32,
}

impl Point {
    /// The point of a cycle.
    pub(crate) fn of(outcome: &CycleOutcome, cycle: &Cycle) -> Self {
        let mut point = Self {
            at: cycle.at,
            cycles: 1,
            p95_ms: cycle.summary.p95_ms,
            cross_zone: cycle.summary.cross_zone,
            usd_per_hour: cycle.summary.usd_per_hour,
            requests: cycle.summary.requests,
            errors: cycle.summary.errors,
            survives: cycle.zones.iter().filter_map(|zone| zone.loss.served).min_by(f64::total_cmp),
            replicas: f64::from(cycle.summary.replicas),
            ..Self::default()
        };
        for action in outcome.done() {
            match action.kind() {
                ActionKind::SetRoutes | ActionKind::GiveBackRoutes => point.writes += 1,
                ActionKind::AddReplicas | ActionKind::RemoveReplicas => point.scale_actions += 1,
                ActionKind::StartMove
                | ActionKind::FinishMove
                | ActionKind::AbortMove
                | ActionKind::GiveBackMinimum => point.moves += 1,
                ActionKind::CloseMove | ActionKind::Unmark | ActionKind::Release => {}
            }
        }
        let tried = |result: &&Result<(), stornx_core::ports::PortError>| matches!(result, Err(error) if !matches!(error, stornx_core::ports::PortError::NotTried { .. }));
        point.failed = super::view::count(outcome.outcomes.iter().filter(tried).count());
        point
    }

    /// What is known where nothing else is said: in all cycles, or in none.
    fn whole(&self) -> Known {
        let all = |value: Option<f64>| value.map_or(0, |_| self.cycles);
        Known {
            p95_ms: all(self.p95_ms),
            cross_zone: all(self.cross_zone),
            usd_per_hour: all(self.usd_per_hour),
            requests: all(self.requests),
            errors: all(self.errors),
            survives: all(self.survives),
        }
    }

    fn join(self, other: Self) -> Self {
        let (here, there) = (
            self.known.unwrap_or_else(|| self.whole()),
            other.known.unwrap_or_else(|| other.whole()),
        );
        // A mean over the cycles in which it was known, and how many these are.
        let mean = |a: (Option<f64>, u32), b: (Option<f64>, u32)| {
            let both = f64::from(a.1) + f64::from(b.1);
            let sum =
                |(value, cycles): (Option<f64>, u32)| value.unwrap_or(0.0) * f64::from(cycles);
            ((both > 0.0).then(|| (sum(a) + sum(b)) / both), a.1.saturating_add(b.1))
        };
        let of = |get: fn(&Self) -> Option<f64>, count: fn(&Known) -> u32| {
            mean((get(&self), count(&here)), (get(&other), count(&there)))
        };
        let rounded = |(value, cycles): (Option<f64>, u32)| (value.map(super::view::share), cycles);
        let p95_ms = rounded(of(|it| it.p95_ms, |it| it.p95_ms));
        let cross_zone = rounded(of(|it| it.cross_zone, |it| it.cross_zone));
        let usd_per_hour = of(|it| it.usd_per_hour, |it| it.usd_per_hour);
        let requests = rounded(of(|it| it.requests, |it| it.requests));
        let errors = rounded(of(|it| it.errors, |it| it.errors));
        let survives = rounded(of(|it| it.survives, |it| it.survives));
        let replicas =
            mean((Some(self.replicas), self.cycles), (Some(other.replicas), other.cycles));
        let known = Known {
            p95_ms: p95_ms.1,
            cross_zone: cross_zone.1,
            usd_per_hour: usd_per_hour.1,
            requests: requests.1,
            errors: errors.1,
            survives: survives.1,
        };
        let joined = Self {
            at: self.at.min(other.at),
            cycles: self.cycles.saturating_add(other.cycles),
            known: None,
            p95_ms: p95_ms.0,
            cross_zone: cross_zone.0,
            usd_per_hour: usd_per_hour.0,
            requests: requests.0,
            errors: errors.0,
            survives: survives.0,
            replicas: rounded(replicas).0.unwrap_or_default(),
            writes: self.writes.saturating_add(other.writes),
            moves: self.moves.saturating_add(other.moves),
            scale_actions: self.scale_actions.saturating_add(other.scale_actions),
            failed: self.failed.saturating_add(other.failed),
        };
        Self { known: (known != joined.whole()).then_some(known), ..joined }
    }
}

/// `/api/v1/history`: points, the oldest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Points {
    /// How long points are kept, ms.
    pub(crate) keep: u64,
    /// Points that are older than an hour are joined in buckets of this width, ms.
    pub(crate) bucket: u64,
    /// The points, the oldest first.
    pub(crate) points: Vec<Point>,
}

/// The history of a process, and of those before it.
#[derive(Debug, Clone)]
pub(crate) struct History {
    keep: Span,
    points: BTreeMap<Timestamp, Point>,
}

impl History {
    /// An empty one.
    pub(crate) const fn new(keep: Span) -> Self {
        Self { keep, points: BTreeMap::new() }
    }

    /// Width of a bucket: a whole number of minutes.
    fn bucket(&self) -> Span {
        let minutes = self.keep.as_millis().div_ceil(BUCKETS).div_ceil(60_000).max(1);
        Span::from_seconds(minutes * 60)
    }

    /// Adds the point of a cycle, and forgets what is too old.
    pub(crate) fn push(&mut self, point: Point) {
        let now = point.at;
        self.points.insert(now, point);
        let ahead = now.after(AHEAD);
        self.points.retain(|at, _| now.since(*at) <= self.keep && *at <= ahead);
        self.thin(now);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.points.clear();
    }

    /// Takes over what another process has written, without what is known already.
    pub(crate) fn merge(&mut self, points: Vec<Point>) {
        for point in points {
            self.points.entry(point.at).or_insert(point);
        }
        if let Some(now) = self.points.keys().next_back().copied() {
            self.thin(now);
        }
    }

    /// Joins what is old in buckets.
    fn thin(&mut self, now: Timestamp) {
        let width = self.bucket().as_millis();
        let too_many = self.points.len().saturating_sub(MOST_FINE);
        let by_count = self.points.keys().nth(too_many).copied().unwrap_or_default();
        let by_age = Timestamp::from_millis(now.as_millis().saturating_sub(FINE.as_millis()));
        let fine = by_age.max(if too_many > 0 { by_count } else { Timestamp::default() });
        let recent = self.points.split_off(&fine);
        let old = std::mem::replace(&mut self.points, recent);
        for (at, mut point) in old {
            point.at = Timestamp::from_millis(at.as_millis() / width * width);
            self.points
                .entry(point.at)
                .and_modify(|bucket| *bucket = bucket.join(point))
                .or_insert(point);
        }
    }

    /// What is known from an instant on.
    pub(crate) fn since(&self, since: Timestamp) -> Points {
        Points {
            keep: self.keep.as_millis(),
            bucket: self.bucket().as_millis(),
            points: self.points.range(since..).map(|(_, point)| *point).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn point(seconds: u64, p95: f64) -> Point {
        Point {
            at: at(seconds),
            cycles: 1,
            p95_ms: Some(p95),
            usd_per_hour: None,
            writes: 1,
            ..Point::default()
        }
    }

    #[test]
    fn the_last_hour_is_kept_and_hours_are_thinned_out() {
        let mut history = History::new(Span::from_seconds(24 * 3600));
        let minutes = 26 * 60;
        for minute in 0..minutes {
            history.push(point(minute * 60, 10.0));
        }
        let all = history.since(Timestamp::default());
        assert_eq!(all.bucket, 180_000);
        assert!(all.points.len() < 600, "{}", all.points.len());
        let fine = all.points.iter().filter(|point| point.cycles == 1).count();
        assert!((60..=64).contains(&fine), "{fine}");
        // A write a minute for 24 hours, however it is thinned.
        let writes: u32 = all.points.iter().map(|point| point.writes).sum();
        assert!((1437..=1443).contains(&writes), "{writes}");
        assert!(all.points.iter().all(|point| point.p95_ms == Some(10.0)));
        assert!(all.points.windows(2).all(|pair| pair[0].at < pair[1].at));
    }

    #[test]
    fn many_cycles_take_no_more_room() {
        let mut history = History::new(Span::from_seconds(3600));
        for second in 0..20_000 {
            history.push(point(second, 1.0));
        }
        let points = history.since(Timestamp::default()).points;
        assert!(points.len() <= 300 + 62, "{}", points.len());
    }

    #[test]
    fn levels_are_means_over_cycles_and_what_is_unknown_is_no_zero() {
        let mut history = History::new(Span::from_seconds(24 * 3600));
        // 1 700 000 000 s lie 20 s after a bucket of three minutes began.
        history.push(Point { p95_ms: None, ..point(0, 0.0) });
        history.push(point(20, 10.0));
        history.push(Point { p95_ms: None, ..point(40, 0.0) });
        history.push(Point { p95_ms: None, ..point(60, 0.0) });
        history.push(point(80, 50.0));
        history.push(point(8000, 1.0));
        let points = history.since(Timestamp::default()).points;
        assert_eq!(points.len(), 2);
        assert_eq!(points[0].cycles, 5);
        assert_eq!(points[0].writes, 5);
        // Two of five were known, and neither counts for more than the other.
        assert_eq!(points[0].p95_ms, Some(30.0));
        assert_eq!(points[0].known, Some(Known { p95_ms: 2, ..Known::default() }));
        assert_eq!(points[0].cross_zone, None);
        assert_eq!(points[1].known, None);
    }

    #[test]
    fn a_clock_that_was_wrong_does_not_stop_history() {
        let mut history = History::new(Span::from_seconds(3600));
        history.push(point(1_000_000, 1.0));
        history.push(point(10, 2.0));
        let points = history.since(Timestamp::default()).points;
        assert_eq!(points.iter().map(|point| point.at).collect::<Vec<_>>(), [at(10)]);
    }

    #[test]
    fn what_another_process_wrote_is_added() {
        let mut history = History::new(Span::from_seconds(3600));
        history.push(point(100, 2.0));
        history.merge(vec![point(100, 9.0), point(40, 1.0)]);
        let points = history.since(Timestamp::default()).points;
        let seen: Vec<_> = points.iter().map(|point| (point.at, point.p95_ms)).collect();
        assert_eq!(seen, [(at(40), Some(1.0)), (at(100), Some(2.0))]);
        assert_eq!(history.since(at(50)).points.len(), 1);
    }
}
