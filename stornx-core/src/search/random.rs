//! The random numbers of a search: SplitMix64 (Steele, Lea and Flood, 2014), seeded by
//! the caller. The logarithm is computed here with additions and multiplications only,
//! so that the same seed gives the same plan on every platform.

/// A stream of random numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound` (0 when `bound` is 0). The bias is below 2^-32.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (((self.next() >> 32) * bound as u64) >> 32) as usize
    }

    /// Uniform in (0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.next() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Exponentially distributed with mean 1: what a Metropolis step may lose, in
    /// units of the temperature.
    pub(crate) fn exponential(&mut self) -> f64 {
        -natural_logarithm(self.unit())
    }
}

/// The natural logarithm of a positive normal number: exponent bits, and for the
/// mantissa in [0.7, 1.4) the series of 2 artanh((m - 1) / (m + 1)), whose first term
/// left out is below 1e-8.
fn natural_logarithm(of: f64) -> f64 {
    let bits = of.to_bits();
    let mut exponent = ((bits >> 52) & 0x7FF) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & 0x000F_FFFF_FFFF_FFFF) | 0x3FF0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let series = 1.0
        + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0 + square * (1.0 / 9.0))));
    exponent * std::f64::consts::LN_2 + 2.0 * ratio * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithm_agrees_with_the_standard_one() {
        let mut random = Random::new(7);
        for _ in 0..10_000 {
            let number = random.unit() * 10f64.powi(random.below(12) as i32 - 6);
            assert!((natural_logarithm(number) - number.ln()).abs() < 1e-7, "{number}");
        }
    }

    #[test]
    fn numbers_stay_below_the_bound_and_reach_every_value() {
        let mut random = Random::new(1);
        let mut seen = [0usize; 7];
        for _ in 0..7_000 {
            seen[random.below(7)] += 1;
        }
        assert!(seen.iter().all(|times| (800..1200).contains(times)), "{seen:?}");
    }
}
