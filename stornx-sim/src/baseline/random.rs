//! `random`: every ready replica alike, wherever it runs.
//!
//! Source: what kube-proxy and a mesh without locality settings do.
//! Known weaknesses: with three even zones two thirds of all calls cross zones.

use super::{HostView, Split};

/// Shares by replica counts.
#[must_use]
pub fn split(view: &HostView) -> Split {
    view.split(|_, _, destination| f64::from(destination.hosts))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, shares, view};

    #[test]
    fn follows_replica_counts_for_every_caller() {
        let split = super::split(&view([1, 0, 5], [1, 2, 1], [0.0; 3]));
        assert_close(shares(&split, "a"), [0.25, 0.5, 0.25]);
        assert_close(shares(&split, "c"), [0.25, 0.5, 0.25]);
    }
}
