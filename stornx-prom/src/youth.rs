//! Rates of pods that are younger than the window.
//!
//! `rate(x[window])` divides by the window, also where a series begins within it: a pod
//! that was created 30 s ago looks five times idler in 150 s than it is. Its rates are
//! therefore scaled by window / age.
//!
//! Assumes that a pod's series begin with the pod. They begin a little later (its image
//! is pulled, the first scrape comes), so that what is scaled is still a little too low.
//!
//! Refuses to scale by more than [`MOST`]. A rate needs two scrapes. With the usual window
//! of 150 s a tenth of it is 15 s: of a younger pod there is one scrape at most where the
//! interval is 15 s or longer, and where it is shorter, what little is known (above all
//! how the pod started) would be blown up tenfold. Ages of pods are by the clock of the API
//! server against ours.
//!
//! Known weakness: the planner sums what the replicas of a workload serve. For one window
//! after a scale-up the sum is too high, since the older replicas' rates are still from
//! when they had more to do; unscaled it would be right then, but too low by up to the
//! whole after a rollout, when nobody speaks for the replicas that are gone.

use stornx_core::units::{Span, Timestamp};

use crate::places::Places;

/// The largest factor; the youngest age that is scaled is the window by this.
const MOST: f64 = 10.0;

/// What rates are multiplied by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Youth {
    /// The pod is as old as the window, or older.
    Grown,
    /// By this factor, more than 1.
    Young(f64),
    /// The pod is too young for a rate to mean anything.
    TooYoung,
}

impl Youth {
    /// Of every pod of the cluster.
    pub(crate) fn of_all(places: &Places<'_>, window: Span, now: Timestamp) -> Vec<Self> {
        places.pods.iter().map(|pod| Self::of(now.since(pod.created_at), window)).collect()
    }

    fn of(age: Span, window: Span) -> Self {
        let (age, window) = (age.as_seconds_f64(), window.as_seconds_f64());
        if age >= window {
            Self::Grown
        } else if age * MOST >= window {
            Self::Young(window / age)
        } else {
            Self::TooYoung
        }
    }

    /// The factor of a rate that must not seem higher than it may be; nothing for pods
    /// that are too young.
    pub(crate) const fn factor(self) -> Option<f64> {
        match self {
            Self::Grown => Some(1.0),
            Self::Young(factor) => Some(factor),
            Self::TooYoung => None,
        }
    }

    /// The factor of a rate whose absence would look like silence: what a pod serves that
    /// is too young is served all the same, and counts with the largest factor.
    pub(crate) fn factor_of_served(self) -> f64 {
        self.factor().unwrap_or(MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factor_is_the_window_by_the_age_down_to_a_tenth_of_the_window() {
        let window = Span::from_seconds(150);
        for (age, factor) in [
            (Span::from_seconds(1000), Some(1.0)),
            (window, Some(1.0)),
            (Span::from_seconds(75), Some(2.0)),
            (Span::from_seconds(15), Some(10.0)),
            (Span::from_millis(14_999), None),
            (Span::ZERO, None),
        ] {
            let youth = Youth::of(age, window);
            assert_eq!(youth.factor(), factor, "{age}");
            let served = youth.factor_of_served();
            assert!((served - factor.unwrap_or(10.0)).abs() < 1e-12, "{age}: {served}");
        }
    }
}
