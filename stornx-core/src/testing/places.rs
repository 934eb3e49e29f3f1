//! What random worlds got later: rules that weights can be added to, weights that were left
//! behind, zones with subzones, pods that are said to be elsewhere, endpoints that are no
//! pods, hosts without a waypoint.
//!
//! From a generator of its own, so that the worlds themselves stay those that their seeds
//! have always meant.

use super::{
    SplitMix64,
    worlds::{Case, parsed},
};
use crate::model::SUBZONE;

/// Adds them to a world.
pub(super) fn add(seed: u64, case: &mut Case) {
    let mut random = SplitMix64::new(seed ^ 0x9e37_79b9_0000_0000);
    for host in &mut case.snapshot.hosts {
        host.adoptable = random.chance(50);
        host.leftover |= random.chance(10);
    }
    if random.chance(25) {
        for node in &mut case.snapshot.nodes {
            if random.chance(80) {
                let part = format!("s{}", random.between(1, 4));
                node.labels.insert(parsed(SUBZONE), parsed(&part));
            }
        }
    }
    for host in &mut case.snapshot.hosts {
        host.displaced = random.chance(5);
        host.ztunnel_only = random.chance(10);
    }
    for workload in &mut case.snapshot.workloads {
        workload.proxied = random.chance(50);
    }
    for host in &mut case.snapshot.hosts {
        host.foreign_endpoints = random.chance(5);
    }
}
