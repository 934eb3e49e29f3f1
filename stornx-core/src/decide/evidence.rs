//! What callers see of routes, and how a change of ours is told from a change of
//! everything: by the difference of two differences. What is ours got slower by so much
//! more than what was not touched got slower over the same time.
//!
//! Shared by the judgement of moves and by that of routes, which differ in what they
//! touch and in how much worse is too much.

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
    /// Of some edges.
    pub(crate) fn of<'a>(edges: impl Iterator<Item = &'a Edge>) -> Self {
        let mut seen = Self::default();
        edges.for_each(|edge| seen.add(edge));
        seen
    }

    /// All routes of one more edge.
    pub(crate) fn add(&mut self, edge: &Edge) {
        for route in &edge.routes {
            let weight = route.requests.get();
            if let Some(p95) = route.p95 {
                self.p95.add(p95.get(), weight);
            }
            self.errors.add(route.errors.get(), weight);
        }
    }
}

/// By what factor what was not touched got slower: what is ours would have, too. Never
/// below 1: that others got faster is no reason for ours to.
pub(crate) fn slowdown(before: Option<f64>, after: Option<f64>) -> f64 {
    match (before, after) {
        (Some(before), Some(after)) if before > 0.0 => (after / before).max(1.0),
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slowed_everything_down_is_not_of_our_making() {
        assert!((slowdown(Some(20.0), Some(30.0)) - 1.5).abs() < 1e-12);
        assert!((slowdown(Some(20.0), Some(10.0)) - 1.0).abs() < 1e-12);
        assert!((slowdown(None, Some(10.0)) - 1.0).abs() < 1e-12);
        assert!((slowdown(Some(0.0), Some(10.0)) - 1.0).abs() < 1e-12);
    }
}
