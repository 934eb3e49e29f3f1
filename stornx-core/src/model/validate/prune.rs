//! What metrics remember longer than the cluster does. A pod that was deleted a minute
//! ago still has a rate over the last two; the cluster is right about what exists, so
//! joining the two drops the rest, and a recorded snapshot always loads.

use super::Known;
use crate::model::{Facts, Snapshot};
use crate::units::Timestamp;

impl Snapshot {
    /// Drops metrics of pods, workloads, nodes and zones that are gone, and lets no fact
    /// come from after the snapshot (clocks of two machines differ by milliseconds).
    pub(in crate::model) fn prune(&mut self) {
        // The names are borrowed from the parts that stay as they are.
        let (mut usage, mut traffic, mut latency) = (
            std::mem::replace(&mut self.usage, missing()),
            std::mem::replace(&mut self.traffic, missing()),
            std::mem::replace(&mut self.latency, missing()),
        );
        let known = Known::of(self);
        if let Some(usage) = value_until(&mut usage, self.taken_at) {
            usage.retain(|usage| known.pods.contains(&usage.pod));
        }
        if let Some(traffic) = value_until(&mut traffic, self.taken_at) {
            traffic.pods.retain(|pod| known.pods.contains(&pod.pod));
            traffic.edges.retain(|edge| {
                known.workloads.contains(&edge.caller) && known.workloads.contains(&edge.callee)
            });
            for edge in &mut traffic.edges {
                edge.routes.retain(|route| {
                    known.zones.contains(&route.from) && known.zones.contains(&route.to)
                });
            }
        }
        if let Some(latency) = value_until(&mut latency, self.taken_at) {
            latency
                .nodes
                .retain(|pair| known.nodes.contains(&pair.from) && known.nodes.contains(&pair.to));
            latency
                .zones
                .retain(|pair| known.zones.contains(&pair.from) && known.zones.contains(&pair.to));
        }
        (self.usage, self.traffic, self.latency) = (usage, traffic, latency);
    }
}

const fn missing<T>() -> Facts<T> {
    Facts::Missing { reason: String::new() }
}

/// The facts to prune, their instant being `taken_at` at the latest.
fn value_until<T>(facts: &mut Facts<T>, taken_at: Timestamp) -> Option<&mut T> {
    match facts {
        Facts::Fresh { as_of, value, .. } | Facts::Stale { as_of, value, .. } => {
            *as_of = taken_at.min(*as_of);
            Some(value)
        }
        Facts::Missing { .. } => None,
    }
}
