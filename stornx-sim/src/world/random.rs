//! Random numbers. Each purpose has a stream of its own, so that two policies on one
//! seed meet the same arrivals whatever they decide.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::service::Distribution;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Arrivals and kinds of request, by entry and zone.
    Arrivals,
    /// Work, by service.
    Work,
    /// Fan-out, by service.
    FanOut,
    /// Choice of zone and replica, by service called.
    Routing,
    /// Waits before retries.
    Backoff,
    /// Where users go whose zone is lost.
    Failover,
    /// What a generated cluster is like, by quantity.
    Cluster,
}

/// One stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Stream(ChaCha8Rng);

impl Stream {
    pub(crate) fn new(seed: u64, purpose: Purpose, index: usize) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(((purpose as u64) << 32) | index as u64);
        Self(generator)
    }

    /// A whole number below `bound` (which is above 0).
    #[inline]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        // The bias of at most bound / 2^32 is far below anything measured.
        #[allow(clippy::cast_possible_truncation)]
        let number = ((u64::from(self.0.next_u32()) * u64::from(bound)) >> 32) as u32;
        number
    }

    /// A number from 0 (included) to 1 (excluded).
    #[inline]
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// An exponential number with mean 1.
    #[inline]
    pub(crate) fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }

    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    pub(crate) fn poisson(&mut self, mean: f64) -> u32 {
        // Parts of at most 30, so that exp() keeps its precision; sums of Poisson
        // numbers are Poisson.
        let (mut left, mut count) = (mean, 0);
        while left > 0.0 {
            let part = left.min(30.0);
            left -= part;
            let (limit, mut product) = ((-part).exp(), self.unit());
            while product > limit {
                count += 1;
                product *= self.unit();
            }
        }
        count
    }
}

/// A distribution of positive numbers with mean 1, ready for drawing.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Deterministic,
    Exponential,
    /// Of the logarithm: mean and standard deviation.
    Lognormal(f64, f64),
}

impl Shape {
    pub(crate) fn new(distribution: Distribution, variation: f64) -> Self {
        match distribution {
            Distribution::Deterministic => Self::Deterministic,
            Distribution::Exponential => Self::Exponential,
            Distribution::Lognormal => {
                let variance = (variation * variation).ln_1p();
                Self::Lognormal(-variance / 2.0, variance.sqrt())
            }
        }
    }

    #[inline]
    pub(crate) fn draw(self, stream: &mut Stream) -> f64 {
        match self {
            Self::Deterministic => 1.0,
            Self::Exponential => stream.exponential(),
            Self::Lognormal(mean, deviation) => (mean + deviation * stream.normal()).exp(),
        }
    }
}

/// A number from 0 to 1 that depends on nothing but its arguments: noise that is the
/// same however often it is looked at.
#[must_use]
#[allow(clippy::cast_precision_loss)]
pub(crate) fn hashed(seed: u64, parts: [u64; 3]) -> f64 {
    // Finaliser of SplitMix64, applied part by part.
    let mut state = seed;
    for part in parts {
        state = state.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    (state >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        const N: f64 = 200_000.0;
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..200_000 {
            let x = draw();
            sum += x;
            squares += x * x;
        }
        let mean = sum / N;
        (mean, (squares / N - mean * mean).sqrt())
    }

    #[test]
    fn shapes_have_mean_one_and_their_deviation() {
        for (shape, deviation) in [
            (Shape::new(Distribution::Exponential, 0.0), 1.0),
            (Shape::new(Distribution::Lognormal, 0.5), 0.5),
            (Shape::new(Distribution::Deterministic, 0.5), 0.0),
        ] {
            let mut stream = Stream::new(1, Purpose::Work, 3);
            let (mean, spread) = moments(|| shape.draw(&mut stream));
            assert!((mean - 1.0).abs() < 0.01, "{shape:?} {mean}");
            assert!((spread - deviation).abs() < 0.02, "{shape:?} {spread}");
        }
    }

    #[test]
    fn poisson_numbers_have_their_mean_as_variance() {
        for mean in [0.3, 2.5, 75.0] {
            let mut stream = Stream::new(2, Purpose::FanOut, 0);
            let (average, spread) = moments(|| f64::from(stream.poisson(mean)));
            assert!((average / mean - 1.0).abs() < 0.02, "{mean} {average}");
            assert!((spread * spread / mean - 1.0).abs() < 0.03, "{mean} {spread}");
        }
    }

    #[test]
    fn streams_differ_by_purpose_index_and_seed() {
        let first = |seed, purpose, index| Stream::new(seed, purpose, index).unit().to_bits();
        let one = first(1, Purpose::Work, 1);
        assert_eq!(one, first(1, Purpose::Work, 1));
        assert_ne!(one, first(1, Purpose::Work, 2));
        assert_ne!(one, first(1, Purpose::Routing, 1));
        assert_ne!(one, first(2, Purpose::Work, 1));
    }
}
