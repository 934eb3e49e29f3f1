//! What StornX is compared with: the routing and placement rules that clusters use
//! today or that were published. Each rule is a pure function in a file of its own
//! that says what it decides, where it comes from and what its known weaknesses are.
//!
//! A routing rule sees a [`HostView`] and gives a [`Split`]; a placement rule sees the
//! cluster as a [`Snapshot`](stornx_core::model::Snapshot) and gives nodes. None of
//! them sees more of the world than the system it stands for would.

pub mod classic;
pub mod default_spread;
pub mod failover;
pub mod greedy_delay;
pub mod load_aware;
pub mod netmarks;
pub mod placement;
pub mod prefer_close;
pub mod random;
pub mod static_split;
pub mod zone_aware;

use std::collections::BTreeMap;

use stornx_core::ids::ZoneName;

/// One destination zone of a host, as a proxy or a controller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Destination {
    /// Ready replicas.
    pub hosts: u32,
    /// Their mean utilisation, 1 for fully used; `None` when nothing reports it.
    pub utilisation: Option<f64>,
    /// p95 of their answers in ms.
    pub p95: Option<f64>,
}

/// A host as a routing rule sees it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostView {
    /// Ready replicas of the calling workloads, by zone. Zones without callers may be
    /// absent; a split is made for each zone that is present.
    pub callers: BTreeMap<ZoneName, u32>,
    /// Destinations, by zone. Zones without a ready replica may be absent.
    pub destinations: BTreeMap<ZoneName, Destination>,
}

impl HostView {
    /// Destination zones that hold a ready replica.
    fn live(&self) -> impl Iterator<Item = (&ZoneName, Destination)> {
        self.destinations.iter().filter(|(_, d)| d.hosts > 0).map(|(zone, d)| (zone, *d))
    }

    fn hosts(&self, zone: &ZoneName) -> u32 {
        self.destinations.get(zone).map_or(0, |destination| destination.hosts)
    }

    fn all_hosts(&self) -> u32 {
        self.live().map(|(_, destination)| destination.hosts).sum()
    }

    /// A split with one distribution for each caller zone, from a rule of weights
    /// that need not sum to anything. Callers for which every weight is zero (nothing
    /// is ready) get an empty distribution.
    fn split(&self, mut weight: impl FnMut(&ZoneName, &ZoneName, Destination) -> f64) -> Split {
        self.callers
            .keys()
            .map(|caller| {
                let weights: Vec<(ZoneName, f64)> = self
                    .live()
                    .map(|(zone, destination)| {
                        (zone.clone(), weight(caller, zone, destination).max(0.0))
                    })
                    .filter(|(_, weight)| *weight > 0.0)
                    .collect();
                let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
                let shares = weights.into_iter().map(|(zone, weight)| (zone, weight / total));
                (caller.clone(), shares.collect())
            })
            .collect()
    }
}

/// Shares of each caller zone's requests by destination zone; each caller's shares
/// sum to 1, or are empty when nothing is ready.
pub type Split = BTreeMap<ZoneName, BTreeMap<ZoneName, f64>>;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn zone(name: &str) -> ZoneName {
        name.parse().unwrap()
    }

    /// Callers and destination hosts of zones a, b, c, with utilisations.
    pub(crate) fn view(callers: [u32; 3], hosts: [u32; 3], used: [f64; 3]) -> HostView {
        let names = ["a", "b", "c"].map(zone);
        HostView {
            callers: names.iter().cloned().zip(callers).collect(),
            destinations: names
                .into_iter()
                .zip(hosts.into_iter().zip(used))
                .map(|(name, (hosts, used))| {
                    (name, Destination { hosts, utilisation: Some(used), p95: None })
                })
                .collect(),
        }
    }

    /// The shares of one caller over a, b, c.
    pub(crate) fn shares(split: &Split, caller: &str) -> [f64; 3] {
        ["a", "b", "c"].map(|to| split[&zone(caller)].get(&zone(to)).copied().unwrap_or(0.0))
    }

    pub(crate) fn assert_close(found: [f64; 3], expected: [f64; 3]) {
        let close = found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-9);
        assert!(close, "{found:?} is not {expected:?}");
    }

    #[test]
    fn a_host_without_ready_replicas_gets_empty_distributions() {
        let nothing = view([1, 1, 1], [0, 0, 0], [0.0; 3]);
        for split in [
            random::split(&nothing),
            prefer_close::split(&nothing),
            failover::split(&nothing),
            static_split::split(&nothing),
            zone_aware::split(&nothing),
            load_aware::LoadAware::default().split(&nothing, 1.0),
        ] {
            assert!(split.len() == 3 && split.values().all(BTreeMap::is_empty));
        }
    }
}
