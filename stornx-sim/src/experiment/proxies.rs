//! The routing baselines at work: what proxies know of endpoints and load goes into a
//! rule, its split goes back as whole weights.

use std::collections::{BTreeMap, BTreeSet};

use stornx_core::{
    ids::{HostName, ZoneName},
    model::{Distribution, RouteTable},
};

use super::policy::PolicyName;
use crate::{
    baseline::{
        Destination, HostView, Split, failover, load_aware::LoadAware, prefer_close, random,
        static_split, zone_aware,
    },
    scenario::Scenario,
    world::{Routing, SimWorld},
};

/// All proxies of a run.
pub(super) struct Proxies {
    policy: PolicyName,
    zones: Vec<ZoneName>,
    hosts: Vec<Target>,
}

/// A host and who calls it.
struct Target {
    host: HostName,
    callers: BTreeSet<HostName>,
    /// Zones in which load enters it.
    entered: BTreeSet<ZoneName>,
    load_aware: LoadAware,
}

impl Proxies {
    pub(super) fn new(scenario: &Scenario, policy: PolicyName) -> Self {
        let zones = scenario.topology.zones.iter().map(|zone| zone.name.clone()).collect();
        let calls = |from: &crate::scenario::Service, to: &str| {
            let own = from.stages.iter();
            let kinds = from.operations.values().flat_map(|operation| &operation.stages);
            own.chain(kinds).flat_map(|stage| &stage.calls).any(|call| call.to == to)
        };
        let hosts = scenario
            .services
            .iter()
            .filter_map(|service| {
                let callers = scenario.services.iter().filter(|other| calls(other, &service.name));
                let entries = scenario.entries.iter().filter(|entry| entry.service == service.name);
                Some(Target {
                    // A scenario that was parsed has valid names.
                    host: scenario.host(&service.name).ok()?,
                    callers: callers.filter_map(|other| scenario.host(&other.name).ok()).collect(),
                    entered: entries.flat_map(|entry| entry.rates.keys().cloned()).collect(),
                    load_aware: LoadAware::default(),
                })
            })
            .collect();
        Self { policy, zones, hosts }
    }

    /// Whether the rule depends on more than endpoints.
    pub(super) fn follow_load(&self) -> bool {
        self.policy == PolicyName::LoadAware
    }

    /// Takes in the world as it is, `elapsed` seconds after the last time.
    pub(super) fn update(&mut self, world: &SimWorld, elapsed: f64) {
        let endpoints = world.endpoints();
        let live: BTreeSet<&ZoneName> = endpoints
            .values()
            .flat_map(|zones| zones.iter().filter(|(_, count)| **count > 0))
            .map(|(zone, _)| zone)
            .collect();
        let policy = self.policy;
        for target in &mut self.hosts {
            if plain(policy) {
                // Nothing that weights could express better.
                let _ = world.set_routing(&target.host, Routing::ByReplicas);
                continue;
            }
            let used = world.reported_utilisation(&target.host);
            let empty = BTreeMap::new();
            let destinations = endpoints.get(&target.host).unwrap_or(&empty);
            let callers = |zone: &ZoneName| {
                let replicas =
                    target.callers.iter().filter_map(|host| endpoints.get(host)?.get(zone));
                // A gateway runs in every zone that is up.
                let gateway = target.entered.contains(zone) && live.contains(zone);
                replicas.sum::<u32>() + u32::from(gateway)
            };
            let view = HostView {
                callers: self.zones.iter().map(|zone| (zone.clone(), callers(zone))).collect(),
                destinations: destinations
                    .iter()
                    .map(|(zone, hosts)| {
                        let utilisation = used.get(zone).copied();
                        (zone.clone(), Destination { hosts: *hosts, utilisation, p95: None })
                    })
                    .collect(),
            };
            let split = match policy {
                PolicyName::PreferClose => prefer_close::split(&view),
                PolicyName::Failover => failover::split(&view),
                PolicyName::Static => static_split::split(&view),
                PolicyName::ZoneAware => zone_aware::split(&view),
                PolicyName::LoadAware => target.load_aware.split(&view, elapsed),
                _ => random::split(&view),
            };
            // The host is one of the world's own: it is there.
            let _ = world.set_routing(&target.host, Routing::Weights(table(&split)));
        }
    }
}

/// Rules that spread calls over all replicas alike.
const fn plain(policy: PolicyName) -> bool {
    matches!(
        policy,
        PolicyName::Random
            | PolicyName::DefaultSpread
            | PolicyName::Netmarks
            | PolicyName::GreedyDelay
    )
}

/// Whole weights nearest to a split, by largest remainder. Callers without any
/// destination are left out: they have nowhere to go.
fn table(split: &Split) -> RouteTable {
    split.iter().filter_map(|(caller, shares)| Some((caller.clone(), whole(shares)?))).collect()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 100.
fn whole(shares: &BTreeMap<ZoneName, f64>) -> Option<Distribution> {
    let mut weights: Vec<(&ZoneName, u8, f64)> = shares
        .iter()
        .map(|(zone, share)| {
            let exact = (share * 100.0).clamp(0.0, 100.0);
            (zone, exact.floor() as u8, exact.fract())
        })
        .collect();
    let given: u32 = weights.iter().map(|(_, weight, _)| u32::from(*weight)).sum();
    weights.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(b.0)));
    for (_, weight, _) in weights.iter_mut().take(100_usize.saturating_sub(given as usize)) {
        *weight += 1;
    }
    let named = weights.into_iter().filter(|(_, weight, _)| *weight > 0);
    Distribution::new(named.map(|(zone, weight, _)| (zone.clone(), weight)).collect()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_weights_are_nearest_and_sum_to_100() {
        let shares = |values: [f64; 3]| {
            ["a", "b", "c"].map(|zone| zone.parse().unwrap()).into_iter().zip(values).collect()
        };
        let weights = |values| {
            let found = whole(&shares(values)).unwrap();
            ["a", "b", "c"].map(|zone| found.weight(&zone.parse().unwrap()))
        };
        assert_eq!(weights([1.0 / 3.0; 3]), [34, 33, 33]);
        assert_eq!(weights([0.97, 0.015, 0.015]), [97, 2, 1]);
        assert_eq!(weights([1.0, 0.0, 0.0]), [100, 0, 0]);
        assert_eq!(weights([0.995, 0.005, 0.0]), [100, 0, 0]);
        assert_eq!(whole(&BTreeMap::new()), None);
    }
}
