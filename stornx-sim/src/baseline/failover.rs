//! `failover`: the caller's own zone while it holds a ready replica, otherwise the
//! next zone that does (by name, the first after the last).
//!
//! Source: locality failover of a mesh with one ordered list of zones. The outlier detection
//! that usually goes with it is not modelled: what is ready counts as healthy.
//! Known weaknesses: as `prefer-close`, and a zone that is lost falls onto one
//! neighbour as a whole.

use super::{HostView, Split};

/// All to the own zone, or to the next one that is up.
#[must_use]
pub fn split(view: &HostView) -> Split {
    view.callers
        .keys()
        .map(|caller| {
            let at_or_after = view.live().find(|(zone, _)| *zone >= caller);
            let next = at_or_after.or_else(|| view.live().next());
            (caller.clone(), next.map(|(zone, _)| (zone.clone(), 1.0)).into_iter().collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, shares, view};

    #[test]
    fn takes_the_own_zone_or_the_next_one() {
        let split = super::split(&view([1, 1, 1], [1, 0, 1], [0.0; 3]));
        assert_close(shares(&split, "a"), [1.0, 0.0, 0.0]);
        assert_close(shares(&split, "b"), [0.0, 0.0, 1.0]);
        let split = super::split(&view([1, 1, 1], [1, 1, 0], [0.0; 3]));
        assert_close(shares(&split, "c"), [1.0, 0.0, 0.0]);
    }
}
