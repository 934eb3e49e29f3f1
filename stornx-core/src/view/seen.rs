//! What callers see of some routes.

use crate::model::Edge;

/// A mean by weight.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    sum: f64,
    weight: f64,
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.weight += weight;
    }

    /// All that is in another one.
    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.weight += other.weight;
    }

    pub(crate) fn get(self) -> Option<f64> {
        (self.weight > 1e-9).then(|| self.sum / self.weight)
    }
}

/// What callers see of some routes: p95 in milliseconds over those that have one, and the
/// share of failures, both by requests.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) p95: Mean,
    pub(crate) errors: Mean,
}

impl Seen {
    /// Of the routes of one edge.
    pub(crate) fn of(edge: &Edge) -> Self {
        let mut seen = Self::default();
        for route in &edge.routes {
            let weight = route.requests.get();
            if let Some(p95) = route.p95 {
                seen.p95.add(p95.get(), weight);
            }
            seen.errors.add(route.errors.get(), weight);
        }
        seen
    }
}

impl std::iter::Sum for Seen {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut sum, seen| {
            sum.p95.merge(seen.p95);
            sum.errors.merge(seen.errors);
            sum
        })
    }
}
