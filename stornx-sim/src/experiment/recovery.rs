//! How long a policy takes to get back to steady state after an event.
//!
//! A policy is back in the first sample from which on, to the end of the run, the p99
//! of users is within 10 % of a steady state and their errors within a tenth of a
//! percentage point. Steady state is where a cluster can be: its own level before the
//! event, or, where the event took capacity away for good, the best level that any of
//! the compared policies settles at. So a policy that settles at a bad level has not
//! recovered.

use stornx_core::units::Span;

use crate::world::Sample;

/// How far above steady state still counts as being there. One sample of a busy
/// service holds tens of thousands of requests: its p99 varies by a few per cent.
const TOLERANCE: f64 = 1.10;

/// Errors that still count as none, as a share: a tenth of a percentage point.
const ERRORS: f64 = 0.001;

/// Samples outside the tolerance that are forgiven as noise.
const OUTLIERS: usize = 1;

/// A level of p99 in ms and of errors as a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Level {
    /// 99th percentile of response time, ms.
    pub p99: f64,
    /// Share of failed requests.
    pub errors: f64,
}

impl Level {
    /// The level of some samples: medians, so that a single bad minute does not count.
    fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<Self> {
        let (mut p99, mut errors): (Vec<f64>, Vec<f64>) =
            samples.filter_map(|sample| Some((sample.p99?.get(), failed(sample)))).unzip();
        Some(Self { p99: median(&mut p99)?, errors: median(&mut errors)? })
    }

    /// The best of some levels: the quickest of those that fail as few requests as any. One
    /// that fails most of them answers the rest quickly, and nobody wants to be there.
    #[must_use]
    pub fn best(levels: &[Self]) -> Option<Self> {
        let fewest = levels.iter().map(|level| level.errors).min_by(f64::total_cmp)?;
        let serving = levels.iter().filter(|level| level.errors <= fewest + ERRORS);
        serving.min_by(|a, b| a.p99.total_cmp(&b.p99)).copied()
    }

    /// The level before an event, from the beginning of measuring on.
    #[must_use]
    pub fn before(samples: &[Sample], warm_up: Span, event: Span) -> Option<Self> {
        Self::of(samples.iter().filter(|sample| sample.at > warm_up && sample.at <= event))
    }

    /// The level that a run settles at: that of the last quarter after the event.
    #[must_use]
    pub fn settled(samples: &[Sample], event: Span) -> Option<Self> {
        let after: Vec<_> = samples.iter().filter(|sample| sample.at > event).collect();
        Self::of(after[after.len() - after.len() / 4..].iter().copied())
    }
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn failed(sample: &Sample) -> f64 {
    if sample.requests == 0 { 0.0 } else { sample.failed as f64 / sample.requests as f64 }
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// Time from the event to steady state; `None` when it is not reached before the end.
#[must_use]
pub fn recovery(samples: &[Sample], event: Span, own: Level, best: Level) -> Option<Span> {
    let p99 = own.p99.max(best.p99) * TOLERANCE;
    let errors = own.errors.max(best.errors) + ERRORS;
    let good = |sample: &Sample| {
        sample.p99.is_none_or(|found| found.get() <= p99) && failed(sample) <= errors
    };
    let after: Vec<_> = samples.iter().filter(|sample| sample.at > event).collect();
    let mut outliers = 0;
    let mut first_bad_from_the_end = 0;
    for (index, sample) in after.iter().enumerate().rev() {
        if !good(sample) {
            outliers += 1;
            // One bad sample between good ones is noise; two are a state.
            let next_is_bad = after.get(index.wrapping_sub(1)).is_some_and(|before| !good(before));
            if outliers > OUTLIERS || next_is_bad || index + 1 == after.len() || index == 0 {
                first_bad_from_the_end = index + 1;
                break;
            }
        }
    }
    let back = after.get(first_bad_from_the_end)?;
    // A sample tells of the time before it: back since its beginning.
    let interval = if first_bad_from_the_end == 0 {
        return Some(Span::ZERO);
    } else {
        back.at.as_millis() - after[first_bad_from_the_end - 1].at.as_millis()
    };
    let since = back.at.as_millis().saturating_sub(interval).saturating_sub(event.as_millis());
    Some(Span::from_millis(since))
}

#[cfg(test)]
mod tests {
    use stornx_core::units::{Millis, Share};

    use super::*;

    fn run(p99: &[f64], failed: &[u64]) -> Vec<Sample> {
        p99.iter()
            .zip(failed)
            .zip(1..)
            .map(|((p99, failed), minute)| Sample {
                at: Span::from_seconds(60 * minute),
                requests: 10_000,
                failed: *failed,
                p50: None,
                p95: None,
                p99: Some(Millis::saturating(*p99)),
                cross_zone_share: Share::ZERO,
                zone_utilisation: [].into(),
                ready: [].into(),
                weights: [].into(),
            })
            .collect()
    }

    const EVENT: Span = Span::from_seconds(120);
    const STEADY: Level = Level { p99: 50.0, errors: 0.0 };

    #[test]
    fn the_best_level_is_one_that_serves() {
        let level = |p99, errors| Level { p99, errors };
        let levels = [level(80.0, 0.0), level(20.0, 0.9), level(70.0, 0.0005), level(60.0, 0.002)];
        assert_eq!(Level::best(&levels), Some(levels[2]));
        assert_eq!(Level::best(&[]), None);
    }

    #[test]
    fn counts_from_the_event_to_the_first_good_sample() {
        let samples = run(&[50.0, 50.0, 900.0, 80.0, 52.0, 50.0], &[0, 0, 500, 0, 0, 0]);
        let took = recovery(&samples, EVENT, STEADY, STEADY).unwrap();
        assert_eq!(took, Span::from_seconds(120));
    }

    #[test]
    fn errors_alone_keep_it_from_being_back() {
        let samples = run(&[50.0; 6], &[0, 0, 500, 500, 20, 0]);
        let took = recovery(&samples, EVENT, STEADY, STEADY).unwrap();
        assert_eq!(took, Span::from_seconds(180));
    }

    #[test]
    fn never_disturbed_is_zero_and_never_back_is_none() {
        assert_eq!(recovery(&run(&[50.0; 6], &[0; 6]), EVENT, STEADY, STEADY), Some(Span::ZERO));
        let bad = run(&[50.0, 50.0, 90.0, 90.0, 90.0, 90.0], &[0; 6]);
        assert_eq!(recovery(&bad, EVENT, STEADY, STEADY), None);
        // Where nobody does better, that is the steady state.
        let best = Level::settled(&bad, EVENT).unwrap();
        assert_eq!(recovery(&bad, EVENT, STEADY, best), Some(Span::ZERO));
    }

    #[test]
    fn a_single_outlier_is_noise() {
        let samples = run(&[50.0, 50.0, 900.0, 50.0, 50.0, 60.0, 50.0, 50.0], &[0; 8]);
        let took = recovery(&samples, EVENT, STEADY, STEADY).unwrap();
        assert_eq!(took, Span::from_seconds(60));
    }
}
