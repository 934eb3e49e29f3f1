//! What weights come to where zones are divided, reckoned anew: the mesh splits the weight
//! of a zone over its subzones by endpoints and rounds each part up, and callers choose a
//! subzone by weight.

use std::collections::BTreeMap;

use super::ground::Ground;
use crate::{
    ids::ZoneName,
    model::{Distribution, Workload},
};

/// Endpoints by zone and subzone.
pub(super) struct Subzones<'a>(BTreeMap<&'a ZoneName, BTreeMap<&'a str, u32>>);

impl<'a> Subzones<'a> {
    /// Those of a workload; `None` where no zone has endpoints in two of them: then a weight
    /// is a share.
    pub(super) fn of(ground: &Ground<'a>, workload: &'a Workload) -> Option<Self> {
        let mut zones: BTreeMap<_, BTreeMap<_, u32>> = BTreeMap::new();
        for pod in workload.pods.iter().filter(|pod| ground.serves(pod)) {
            let node = pod.node.as_ref().and_then(|node| ground.nodes.get(node));
            if let Some(node) = node {
                let subzones = zones.entry(&node.zone).or_default();
                *subzones.entry(node.subzone()).or_insert(0) += 1;
            }
        }
        zones.values().any(|subzones| subzones.len() > 1).then_some(Self(zones))
    }

    /// The weight that a zone really gets. One that holds no endpoint yet gets its own.
    pub(super) fn weight(&self, zone: &ZoneName, weight: u8) -> f64 {
        let Some(subzones) = self.0.get(zone) else { return f64::from(weight) };
        let endpoints: u32 = subzones.values().sum();
        let part = |count: &u32| {
            let exact = u64::from(weight) * u64::from(*count);
            let (quotient, rest) = (exact / u64::from(endpoints), exact % u64::from(endpoints));
            u32::try_from(quotient + u64::from(rest > 0)).map_or(f64::MAX, f64::from)
        };
        subzones.values().map(part).sum()
    }

    /// Percentages that each zone with an endpoint gets of a caller's requests.
    pub(super) fn percentages(&self, row: &Distribution) -> BTreeMap<&'a ZoneName, f64> {
        let real: BTreeMap<&ZoneName, f64> =
            self.0.keys().map(|zone| (*zone, self.weight(zone, row.weight(zone)))).collect();
        let sum: f64 = real.values().sum();
        let percentage = |weight: f64| if sum > 0.0 { 100.0 * weight / sum } else { 0.0 };
        real.into_iter().map(|(zone, weight)| (zone, percentage(weight))).collect()
    }

    /// Most percentage points by which rounding up alone can move a distribution: a point
    /// for each subzone beyond the first of its zone.
    pub(super) fn rounding(&self) -> f64 {
        let beyond: usize = self.0.values().map(|subzones| subzones.len() - 1).sum();
        u32::try_from(beyond).map_or(f64::MAX, f64::from)
    }
}
