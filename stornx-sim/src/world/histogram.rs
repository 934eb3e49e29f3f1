//! Durations counted by size, in buckets that grow with them: quantiles within 1 % of
//! the truth at any size, in a few kilobytes, mergeable.

use serde::{Deserialize, Serialize};
use stornx_core::units::Millis;

/// Buckets within each doubling: 2^7 keeps the relative width of a bucket under 0.8 %.
const SUB_BITS: u32 = 7;
const SUB: u64 = 1 << SUB_BITS;

/// A histogram of durations.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Histogram {
    /// Durations by bucket; buckets beyond the end hold none.
    counts: Vec<u64>,
    /// Durations in all.
    total: u64,
    /// Their sum in nanoseconds, for the mean.
    sum: u64,
}

impl Histogram {
    /// Counts one duration in nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, nanos: u64) {
        let bucket = bucket_of(nanos);
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.sum = self.sum.saturating_add(nanos);
    }

    /// Adds what another histogram has counted.
    pub fn merge(&mut self, other: &Self) {
        if other.counts.len() > self.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.counts.clear();
        self.total = 0;
        self.sum = 0;
    }

    /// How many durations were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// Their mean; `None` when there are none.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // 2^53 ns of rounding in a sum is nothing.
    pub fn mean(&self) -> Option<Millis> {
        (self.total > 0).then(|| Millis::saturating(self.sum as f64 / self.total as f64 / 1e6))
    }

    /// The duration that the share `q` (0 to 1) of all durations does not exceed;
    /// `None` when there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Millis> {
        if self.total == 0 {
            return None;
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let rank = ((q.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Millis::saturating(middle_of(bucket) / 1e6));
            }
        }
        None
    }
}

#[inline]
fn bucket_of(nanos: u64) -> usize {
    // Below 2^7 ns each nanosecond has its bucket; above, the top 8 bits choose it.
    let magnitude = 63 - (nanos | SUB).leading_zeros();
    let shift = magnitude - SUB_BITS;
    #[allow(clippy::cast_possible_truncation)] // At most 58 x 128 buckets.
    let bucket = (u64::from(shift) * SUB + (nanos >> shift)) as usize;
    bucket
}

#[allow(clippy::cast_precision_loss)]
fn middle_of(bucket: usize) -> f64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB).saturating_sub(1);
    let low = (bucket - shift * SUB) << shift;
    low as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_is_near_the_middle_of_its_bucket() {
        let mut last = 0;
        for nanos in (0..64).flat_map(|bit| [1_u64 << bit, (1 << bit) + (1 << bit) / 3]) {
            let bucket = bucket_of(nanos);
            let middle = middle_of(bucket);
            #[allow(clippy::cast_precision_loss)]
            let nanos = nanos as f64;
            assert!((middle - nanos).abs() <= nanos * 0.008 + 1.0, "{nanos} {middle}");
            assert!(bucket >= last);
            last = bucket;
        }
    }

    #[test]
    fn quantiles_agree_with_sorting() {
        let values: Vec<u64> = (1..=10_000).map(|i| i * i * 37 % 90_000_017).collect();
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        for (i, value) in values.iter().enumerate() {
            if i % 3 == 0 { one.record(*value) } else { other.record(*value) }
        }
        one.merge(&other);
        let mut sorted = values;
        sorted.sort_unstable();
        for (q, index) in [(0.5, 4999), (0.95, 9499), (0.99, 9899), (1.0, 9999)] {
            #[allow(clippy::cast_precision_loss)]
            let truth = sorted[index] as f64 / 1e6;
            let answer = one.quantile(q).unwrap().get();
            assert!((answer / truth - 1.0).abs() < 0.01, "{q}: {answer} {truth}");
        }
        assert_eq!(one.count(), 10_000);
        assert_eq!(Histogram::default().quantile(0.5), None);
    }
}
