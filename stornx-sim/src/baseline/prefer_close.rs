//! `prefer-close`: the caller's own zone while it holds a ready replica, otherwise
//! every replica alike.
//!
//! Source: `trafficDistribution: PreferClose` (`PreferSameZone`) of Kubernetes
//! Services.
//! Known weaknesses: blind to load. One replica beside many callers takes all of
//! their calls; replicas in zones without callers idle.

use super::{HostView, Split, random};

/// All to the own zone where it holds a replica.
#[must_use]
pub fn split(view: &HostView) -> Split {
    let mut split = random::split(view);
    for (caller, shares) in &mut split {
        if view.hosts(caller) > 0 {
            shares.clear();
            shares.insert(caller.clone(), 1.0);
        }
    }
    split
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, shares, view};

    #[test]
    fn stays_home_or_goes_anywhere() {
        let split = super::split(&view([9, 1, 1], [1, 3, 0], [0.0; 3]));
        assert_close(shares(&split, "a"), [1.0, 0.0, 0.0]);
        assert_close(shares(&split, "c"), [0.25, 0.75, 0.0]);
    }
}
