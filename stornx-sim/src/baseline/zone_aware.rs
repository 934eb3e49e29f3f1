//! `zone-aware`: as much as possible stays in the caller's zone, as long as every
//! destination replica would get the same share if every calling replica called
//! alike.
//!
//! Source: zone aware routing of Envoy, offered by Istio as `zoneAwareLbSetting`. The
//! smallest cluster size below which Envoy switches it off is not applied here, which
//! only makes this baseline stronger. Where several workloads call one host, their
//! replicas are counted together.
//! Known weaknesses: counts hosts, not requests. Callers that are few but busy flood
//! their zone; it never sees that.

use stornx_core::ids::ZoneName;

use super::{HostView, Split};

/// Shares by the replica counts of callers and destinations.
#[must_use]
pub fn split(view: &HostView) -> Split {
    let (callers, hosts) =
        (f64::from(view.callers.values().sum::<u32>()), f64::from(view.all_hosts()));
    let origin = |zone: &ZoneName| share(view.callers.get(zone).copied().unwrap_or(0), callers);
    let upstream = |zone: &ZoneName| share(view.hosts(zone), hosts);
    // What a zone can take of others: its part of the hosts above its part of the
    // callers.
    let residual = |zone: &ZoneName| (upstream(zone) - origin(zone)).max(0.0);
    let all_residual: f64 = view.live().map(|(zone, _)| residual(zone)).sum();
    view.split(|caller, zone, _| {
        let stays = if origin(caller) <= upstream(caller) {
            if view.hosts(caller) > 0 { 1.0 } else { 0.0 }
        } else {
            upstream(caller) / origin(caller)
        };
        if zone == caller {
            stays
        } else if all_residual > 0.0 {
            (1.0 - stays) * residual(zone) / all_residual
        } else {
            (1.0 - stays) * upstream(zone)
        }
    })
}

fn share(part: u32, whole: f64) -> f64 {
    if whole > 0.0 { f64::from(part) / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{assert_close, shares, view};

    #[test]
    fn keeps_all_where_hosts_suffice_and_spreads_the_residue() {
        // Callers 50/25/25 %, hosts 25/50/25 %: a keeps half, all of the rest fits b.
        let split = super::split(&view([2, 1, 1], [1, 2, 1], [0.0; 3]));
        assert_close(shares(&split, "a"), [0.5, 0.5, 0.0]);
        assert_close(shares(&split, "b"), [0.0, 1.0, 0.0]);
        assert_close(shares(&split, "c"), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn every_host_gets_the_same_if_callers_call_alike() {
        for callers in [[5, 3, 1], [1, 0, 7], [2, 2, 2], [9, 1, 0]] {
            for hosts in [[1, 2, 3], [4, 4, 3], [0, 3, 3], [6, 1, 1]] {
                let split = super::split(&view(callers, hosts, [0.0; 3]));
                let all: u32 = callers.iter().sum();
                let total: u32 = hosts.iter().sum();
                for (to, count) in hosts.iter().enumerate() {
                    let arrives: f64 = ["a", "b", "c"]
                        .iter()
                        .zip(callers)
                        .map(|(from, n)| f64::from(n) * shares(&split, from)[to])
                        .sum();
                    let expected = f64::from(all) * f64::from(*count) / f64::from(total);
                    assert!((arrives - expected).abs() < 1e-9, "{callers:?} {hosts:?}");
                }
            }
        }
    }
}
