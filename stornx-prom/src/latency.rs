//! Measured round-trip times: pairs of nodes, and the median of each pair of zones (an
//! exporter that measures a node that is just being restarted must not move the zone).

use std::collections::BTreeMap;

use stornx_core::{
    model::{Latency, NodeRoundTrip, ZoneRoundTrip},
    units::Millis,
};

use crate::{places::Places, response::Row};

/// What was read, by pair of nodes of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Pairs {
    pairs: BTreeMap<(usize, usize), f64>,
    pub(crate) any: bool,
}

impl Pairs {
    pub(crate) fn take(&mut self, places: &Places<'_>, row: &Row<'_>) {
        self.any = true;
        let (from, to) = (row.label("from_node"), row.label("to_node"));
        if let (Some(from), Some(to)) = (places.node(from), places.node(to))
            && row.value >= 0.0
        {
            self.pairs.insert((from, to), row.value);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Zones in the order of their names.
    pub(crate) fn finish(&self, places: &Places<'_>) -> Latency {
        let mut zones: BTreeMap<(usize, usize), Vec<f64>> = BTreeMap::new();
        let mut nodes = Vec::with_capacity(self.pairs.len());
        for ((from, to), rtt) in &self.pairs {
            let ((from_name, from_zone), (to_name, to_zone)) =
                (places.nodes[*from], places.nodes[*to]);
            nodes.push(NodeRoundTrip {
                from: from_name.clone(),
                to: to_name.clone(),
                rtt: Millis::saturating(*rtt),
            });
            // A node and itself say nothing of its zone.
            if from != to {
                zones.entry((from_zone, to_zone)).or_default().push(*rtt);
            }
        }
        let zones = zones
            .into_iter()
            .map(|((from, to), rtts)| ZoneRoundTrip {
                from: places.zones[from].name.clone(),
                to: places.zones[to].name.clone(),
                rtt: Millis::saturating(median(rtts)),
            })
            .collect();
        Latency { nodes, zones }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let (below, above) = ((values.len() - 1) / 2, values.len() / 2);
    f64::midpoint(values[below], values[above])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        for (values, middle) in
            [(vec![3.0], 3.0), (vec![9.0, 1.0, 2.0], 2.0), (vec![4.0, 100.0, 1.0, 2.0], 3.0)]
        {
            assert!((median(values) - middle).abs() < 1e-12);
        }
    }
}
