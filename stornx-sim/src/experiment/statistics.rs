//! Mean and 95 % interval over seeds. The interval is Student's t: seeds are few and
//! their spread is unknown.

use serde::{Deserialize, Serialize};

/// A figure over several seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// Mean over the seeds.
    pub mean: f64,
    /// Lower end of the 95 % interval of the mean.
    pub low: f64,
    /// Upper end of the 95 % interval of the mean.
    pub high: f64,
}

impl Figure {
    /// The figure of a sample. One value alone is its own interval; none is zero.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let count = values.len() as f64;
        if values.is_empty() {
            return Self { mean: 0.0, low: 0.0, high: 0.0 };
        }
        let mean = values.iter().sum::<f64>() / count;
        if values.len() < 2 {
            return Self { mean, low: mean, high: mean };
        }
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let error = (squares / (count - 1.0)).sqrt() / count.sqrt();
        let half = student_t_975(values.len() - 1) * error;
        Self { mean, low: mean - half, high: mean + half }
    }
}

/// The 97.5 % quantile of Student's t by degrees of freedom, from the usual table up
/// to 30; beyond it by the expansion around the normal quantile, exact to 1e-4 there.
fn student_t_975(freedom: usize) -> f64 {
    const TABLE: [f64; 30] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
        2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
        2.052, 2.048, 2.045, 2.042,
    ];
    const NORMAL: f64 = 1.959_964;
    match freedom {
        0 => f64::INFINITY,
        n if n <= TABLE.len() => TABLE[n - 1],
        n => {
            let n = n as f64;
            let cubic = (NORMAL.powi(3) + NORMAL) / (4.0 * n);
            let fifth =
                (5.0 * NORMAL.powi(5) + 16.0 * NORMAL.powi(3) + 3.0 * NORMAL) / (96.0 * n * n);
            NORMAL + cubic + fifth
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_of_a_known_sample() {
        // Mean 3, standard deviation 1.5811, error 0.7071, t(4) = 2.776.
        let figure = Figure::of(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        assert!((figure.mean - 3.0).abs() < 1e-12);
        assert!((figure.high - 4.963).abs() < 1e-3 && (figure.low - 1.037).abs() < 1e-3);
    }

    #[test]
    fn few_values_make_no_nonsense() {
        assert_eq!(Figure::of(&[]), Figure { mean: 0.0, low: 0.0, high: 0.0 });
        assert_eq!(Figure::of(&[7.0]), Figure { mean: 7.0, low: 7.0, high: 7.0 });
    }

    #[test]
    fn table_and_expansion_meet() {
        for (freedom, expected) in [(31, 2.0395), (40, 2.0211), (60, 2.0003), (120, 1.9799)] {
            assert!((student_t_975(freedom) - expected).abs() < 2e-4, "{freedom}");
        }
        assert!(student_t_975(30) > student_t_975(31));
    }
}
