//! The classic target rule, for comparison (`BALANCER_POLICY=proportional`): each caller's
//! weight of a destination is the product of four scores, normalised,
//! `(1 - penalty) x (1 - normalised latency) x replica share x (1 - normalised load)`.
//!
//! - penalty: 0 up to the response time threshold, then the logarithm of p95 / threshold,
//!   1 at ten times the threshold;
//! - normalised latency: the round trip as a share of the sum over all destinations;
//! - replica share: ready replicas as a share of all;
//! - normalised load: utilisation, at most 1; 0 where it is not known.
//!
//! Known weaknesses, kept because they are what is compared with: it looks at one caller at
//! a time, so that all callers flee to the same free zone; it does not know what a zone can
//! serve; and it follows every noise of its inputs.

use super::split::{Split, proportional_row};

/// What the rule knows of a destination.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Score {
    /// Replicas that serve.
    pub(crate) ready: u32,
    /// p95 over the response time threshold; 0 when not known.
    pub(crate) slowness: f64,
    /// Utilisation, 1 is full; 0 when not known.
    pub(crate) utilisation: f64,
}

/// The target split. `round_trips` is row-major, milliseconds. Rows of callers without
/// demand keep what stands.
pub(crate) fn target(
    current: &Split,
    demand: &[f64],
    round_trips: &[f64],
    scores: &[Score],
    reserve: u8,
) -> Split {
    let zones = scores.len();
    let mut target = current.clone();
    let replicas: u32 = scores.iter().map(|score| score.ready).sum();
    for row in (0..zones).filter(|row| demand[*row] > 0.0 && replicas > 0) {
        let far = &round_trips[row * zones..(row + 1) * zones];
        let all: f64 = far.iter().sum();
        let parts: Vec<f64> = scores
            .iter()
            .zip(far)
            .map(|(score, far)| {
                let latency = if all > 0.0 { far / all } else { 0.0 };
                (1.0 - penalty(score.slowness))
                    * (1.0 - latency)
                    * (f64::from(score.ready) / f64::from(replicas))
                    * (1.0 - score.utilisation.clamp(0.0, 1.0))
            })
            .collect();
        // Where every score is 0 (all too busy, say) the scores tell nothing, and an even
        // split over zones would send requests where nobody answers.
        let by_replicas = || scores.iter().map(|score| f64::from(score.ready)).collect();
        let parts = if parts.iter().sum::<f64>() > 0.0 { parts } else { by_replicas() };
        proportional_row(&parts, 1, target.row_mut(row));
        keep_reserve(target.row_mut(row), scores, reserve);
    }
    target
}

fn penalty(slowness: f64) -> f64 {
    if slowness > 1.0 { (slowness.ln() / 10.0_f64.ln()).min(1.0) } else { 0.0 }
}

/// Raises destinations with replicas to the reserve, from the largest.
fn keep_reserve(row: &mut [u8], scores: &[Score], reserve: u8) {
    for zone in 0..row.len() {
        while scores[zone].ready > 0 && row[zone] < reserve {
            let Some(giver) = (0..row.len()).max_by(|a, b| row[*a].cmp(&row[*b]).then(b.cmp(a)))
            else {
                return;
            };
            if row[giver] <= reserve {
                return;
            }
            row[giver] -= 1;
            row[zone] += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn even() -> Split {
        let mut split = Split::empty(3, 3);
        for row in 0..3 {
            split.row_mut(row).copy_from_slice(&[34, 33, 33]);
        }
        split
    }

    const DISTANCES: [f64; 9] = [0.3, 1.0, 1.0, 1.0, 0.3, 1.0, 1.0, 1.0, 0.3];

    fn scores(ready: [u32; 3]) -> Vec<Score> {
        ready.map(|ready| Score { ready, slowness: 0.0, utilisation: 0.0 }).to_vec()
    }

    #[test]
    fn the_product_is_normalised() {
        // 1 - 0.3/2.3 = 0.870, 1 - 1/2.3 = 0.565 twice: 43.5, 28.3, 28.3.
        let target = target(&even(), &[1.0, 0.0, 0.0], &DISTANCES, &scores([2, 2, 2]), 3);
        assert_eq!(target.row(0), [44, 28, 28]);
        assert_eq!(target.row(1), even().row(1));
    }

    #[test]
    fn slow_busy_and_empty_zones_lose_all_but_the_reserve() {
        let mut scores = scores([2, 2, 0]);
        scores[1].slowness = 10.0;
        let target = target(&even(), &[1.0; 3], &DISTANCES, &scores, 3);
        assert_eq!(target.row(0), [96, 3, 1]);
        scores[0].utilisation = 1.0;
        let target = super::target(&even(), &[1.0; 3], &DISTANCES, &scores, 3);
        assert_eq!(target.row(2).iter().map(|w| u32::from(*w)).sum::<u32>(), 100);
    }
}
