//! `static-80-10-10`: 80 % stay in the caller's zone, the other zones share 20 %
//! evenly. Weights count relative to the zones that hold a ready replica.
//!
//! Source: the `distribute` example that most mesh users start from.
//! Known weaknesses: blind to load, to replica counts and to demand.

use super::{HostView, Split};

/// The part that stays at home.
const LOCAL: f64 = 0.8;

/// 80 to the own zone, 20 to the others.
#[must_use]
pub fn split(view: &HostView) -> Split {
    let zones = view.live().count();
    view.split(|caller, zone, _| {
        let others = if view.hosts(caller) > 0 { zones.saturating_sub(1) } else { zones };
        if zone == caller { LOCAL } else { (1.0 - LOCAL) / others.max(1) as f64 }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, shares, view};

    #[test]
    fn eighty_stay_and_the_rest_is_even() {
        let split = super::split(&view([1, 1, 1], [1, 5, 1], [0.0; 3]));
        assert_close(shares(&split, "a"), [0.8, 0.1, 0.1]);
        let split = super::split(&view([1, 1, 1], [1, 5, 0], [0.0; 3]));
        assert_close(shares(&split, "a"), [0.8, 0.2, 0.0]);
        assert_close(shares(&split, "c"), [0.5, 0.5, 0.0]);
    }
}
