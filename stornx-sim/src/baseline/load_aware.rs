//! `load-aware-locality`: all local while the local zone is not much busier than the
//! others, otherwise by hosts times headroom.
//!
//! Source: Envoy's `load_aware_locality` policy (2026) with its default settings:
//! utilisation smoothed over 5 s, threshold 0.1 above the mean of the remote hosts,
//! 3 % probe of the remotes by host count.
//! Known weaknesses: each caller zone decides alone, and the switch between all local
//! and by headroom is abrupt, so a zone near the threshold swings between both.

use std::collections::BTreeMap;

use stornx_core::ids::ZoneName;

use super::{HostView, Split};

/// How much busier than the remote mean the local zone may be.
const VARIANCE_THRESHOLD: f64 = 0.1;

/// Share of requests that goes to remote zones in any case.
const PROBE: f64 = 0.03;

/// Time constant of the smoothing, seconds.
const SMOOTHING_SECONDS: f64 = 5.0;

/// The policy of one host, with its smoothed utilisation by zone.
#[derive(Debug, Clone, Default)]
pub struct LoadAware {
    smoothed: BTreeMap<ZoneName, f64>,
}

impl LoadAware {
    /// Takes in what was reported since the last update, `elapsed` seconds ago, and
    /// gives the split until the next one.
    pub fn split(&mut self, view: &HostView, elapsed: f64) -> Split {
        let alpha = 1.0 - (-elapsed / SMOOTHING_SECONDS).exp();
        for (zone, destination) in view.live() {
            if let Some(used) = destination.utilisation {
                let smoothed = self.smoothed.entry(zone.clone()).or_insert(used);
                *smoothed += alpha * (used - *smoothed);
            }
        }
        let used = |zone: &ZoneName| self.smoothed.get(zone).copied().unwrap_or(0.0);
        let base = |zone: &ZoneName| f64::from(view.hosts(zone)) * (1.0 - used(zone)).max(0.0);
        let total: f64 = view.live().map(|(zone, _)| base(zone)).sum();
        if total <= 0.0 {
            return view.split(|_, _, destination| f64::from(destination.hosts));
        }
        view.split(|caller, zone, destination| {
            let remote_hosts = f64::from(view.all_hosts() - view.hosts(caller));
            let hosts = f64::from(destination.hosts);
            if view.hosts(caller) == 0 || remote_hosts <= 0.0 {
                return base(zone);
            }
            let remote_used: f64 = view
                .live()
                .filter(|(zone, _)| *zone != caller)
                .map(|(zone, remote)| used(zone) * f64::from(remote.hosts))
                .sum();
            let all_local = used(caller) <= remote_used / remote_hosts + VARIANCE_THRESHOLD;
            let local = if all_local { total } else { base(caller) };
            let remote = if all_local { 0.0 } else { total - base(caller) };
            let taken = (PROBE * total - remote).clamp(0.0, local);
            if zone == caller {
                local - taken
            } else {
                let own = if all_local { 0.0 } else { base(zone) };
                own + taken * hosts / remote_hosts
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, shares, view};
    use super::LoadAware;

    #[test]
    fn a_busy_zone_spills_by_headroom() {
        let split =
            LoadAware::default().split(&view([1, 1, 1], [10, 10, 10], [0.7, 0.3, 0.4]), 1.0);
        assert_close(shares(&split, "a"), [3.0 / 16.0, 7.0 / 16.0, 6.0 / 16.0]);
        // The idle zones keep their own, less the probe.
        assert_close(shares(&split, "b"), [0.015, 0.97, 0.015]);
    }

    #[test]
    fn utilisation_is_smoothed_over_time() {
        let mut policy = LoadAware::default();
        policy.split(&view([1, 1, 1], [1, 1, 1], [0.2, 0.2, 0.2]), 1.0);
        let early = policy.split(&view([1, 1, 1], [1, 1, 1], [0.8, 0.2, 0.2]), 0.5);
        assert!(shares(&early, "a")[0] > 0.9, "half a second is not enough to spill");
        let late = policy.split(&view([1, 1, 1], [1, 1, 1], [0.8, 0.2, 0.2]), 30.0);
        assert!(shares(&late, "a")[0] < 0.2, "half a minute is");
    }

    #[test]
    fn full_everywhere_means_by_host_counts() {
        let split = LoadAware::default().split(&view([1, 1, 1], [1, 2, 1], [1.2, 1.0, 1.0]), 1.0);
        assert_close(shares(&split, "a"), [0.25, 0.5, 0.25]);
    }
}
