//! How far apart two places are: measured where it was measured, the mean of the
//! zones where only other nodes of them were, the heuristic otherwise.

use super::{NodeIndex, NodeView, ZoneIndex, ZoneView, names::Names};
use crate::{ids::NodeName, model::Latency, policy::LatencyPolicy};

/// Round-trip times in ms.
pub(crate) struct LatencyTable {
    same_node: f64,
    zone_of: Vec<ZoneIndex>,
    zone_count: usize,
    /// By pair of zones, row by row.
    zones: Vec<f64>,
    /// Whether the pair of zones was measured.
    zones_measured: Vec<bool>,
    /// By measuring node: measured nodes in order of index.
    nodes: Vec<Vec<Measured>>,
    /// By measured node: by how many ms each other node that measured it is farther than its
    /// zone.
    deviations_to: Vec<Vec<(NodeIndex, f64)>>,
    has_node_pairs: bool,
    /// By node: how much nearer a pod on the same node is than one on another node of its zone.
    nearer_within: Vec<f64>,
}

/// The round trip to a node.
#[derive(Debug, Clone, Copy)]
struct Measured {
    to: NodeIndex,
    rtt: f64,
    /// By how many ms that is more than between the zones.
    farther: f64,
}

impl LatencyTable {
    pub(super) fn new(
        measured: Option<&Latency>,
        (nodes, names): (&[NodeView<'_>], &Names<'_>),
        zones: &[ZoneView<'_>],
        policy: &LatencyPolicy,
    ) -> Self {
        let zone_count = zones.len();
        let mut table = Self {
            same_node: policy.same_node.get(),
            zone_of: nodes.iter().map(|node| node.zone).collect(),
            zone_count,
            zones: heuristic(zones, policy),
            zones_measured: vec![false; zone_count * zone_count],
            nodes: vec![Vec::new(); nodes.len()],
            deviations_to: vec![Vec::new(); nodes.len()],
            has_node_pairs: false,
            nearer_within: Vec::new(),
        };
        if let Some(measured) = measured {
            table.take_nodes(measured, names);
            table.take_zones(measured, zones);
            table.compare();
        }
        let nearer = |(node, zone): (usize, &ZoneIndex)| {
            let node = NodeIndex::new(node);
            table.between_zones(*zone, *zone) - table.between_nodes(node, node)
        };
        table.nearer_within = table.zone_of.iter().enumerate().map(nearer).collect();
        table
    }

    /// Keeps measured pairs of nodes, and their mean for the pair of their zones.
    fn take_nodes(&mut self, measured: &Latency, names: &Names<'_>) {
        let mut last: Option<(&NodeName, Option<usize>)> = None;
        let mut sums = vec![(0.0, 0_u32); self.zones.len()];
        for pair in &measured.nodes {
            // Pairs come by the node that measured.
            let from = match last {
                Some((name, found)) if *name == pair.from => found,
                _ => names.find(pair.from.as_str()),
            };
            last = Some((&pair.from, from));
            let to = names.find(pair.to.as_str());
            let (Some(from), Some(to)) = (from.map(NodeIndex::new), to.map(NodeIndex::new)) else {
                continue;
            };
            let rtt = pair.rtt.get();
            self.nodes[from.at()].push(Measured { to, rtt, farther: 0.0 });
            self.has_node_pairs = true;
            if from != to {
                let sum = &mut sums[self.pair(self.zone_of[from.at()], self.zone_of[to.at()])];
                *sum = (sum.0 + rtt, sum.1 + 1);
            }
        }
        for row in &mut self.nodes {
            row.sort_by_key(|measured| measured.to);
            row.dedup_by_key(|measured| measured.to);
            row.shrink_to_fit();
        }
        for (pair, (sum, count)) in sums.into_iter().enumerate() {
            if count > 0 {
                self.zones[pair] = sum / f64::from(count);
                self.zones_measured[pair] = true;
            }
        }
    }

    fn take_zones(&mut self, measured: &Latency, zones: &[ZoneView<'_>]) {
        let index = |name| super::find(zones, |zone| zone.name, name).map(ZoneIndex::new);
        for pair in &measured.zones {
            if let (Some(from), Some(to)) = (index(&pair.from), index(&pair.to)) {
                let pair_at = self.pair(from, to);
                self.zones[pair_at] = pair.rtt.get();
                self.zones_measured[pair_at] = true;
            }
        }
    }

    /// Notes for each measured pair how much farther it is than its zones are.
    fn compare(&mut self) {
        for from in (0..self.nodes.len()).map(NodeIndex::new) {
            let mut row = std::mem::take(&mut self.nodes[from.at()]);
            for measured in row.iter_mut().filter(|measured| measured.to != from) {
                let to = measured.to;
                let usual = self.between_zones(self.zone_of[from.at()], self.zone_of[to.at()]);
                measured.farther = measured.rtt - usual;
                self.deviations_to[to.at()].push((from, measured.farther));
            }
            self.nodes[from.at()] = row;
        }
        self.deviations_to.iter_mut().for_each(Vec::shrink_to_fit);
    }

    const fn pair(&self, from: ZoneIndex, to: ZoneIndex) -> usize {
        from.at() * self.zone_count + to.at()
    }

    /// The zone of a node.
    pub(crate) fn zone_of(&self, node: NodeIndex) -> ZoneIndex {
        self.zone_of[node.at()]
    }

    /// Between two nodes.
    pub(crate) fn between_nodes(&self, from: NodeIndex, to: NodeIndex) -> f64 {
        let row = &self.nodes[from.at()];
        if let Ok(at) = row.binary_search_by_key(&to, |measured| measured.to) {
            return row[at].rtt;
        }
        if from == to {
            return self.same_node;
        }
        self.between_zones(self.zone_of[from.at()], self.zone_of[to.at()])
    }

    /// How much nearer a pod on the same node is than one on another node of its zone.
    pub(crate) fn nearer_within(&self, node: NodeIndex) -> f64 {
        self.nearer_within[node.at()]
    }

    /// The other nodes that a node measured, with by how much each is farther than
    /// [`between_zones`](Self::between_zones) says.
    pub(crate) fn deviations_from(
        &self,
        node: NodeIndex,
    ) -> impl Iterator<Item = (NodeIndex, f64)> {
        let others = self.nodes[node.at()].iter().filter(move |measured| measured.to != node);
        others.map(|measured| (measured.to, measured.farther))
    }

    /// The same for the other nodes that measured it.
    pub(crate) fn deviations_to(&self, node: NodeIndex) -> &[(NodeIndex, f64)] {
        &self.deviations_to[node.at()]
    }

    /// Between two nodes of two zones (of one zone: two different nodes of it).
    pub(crate) fn between_zones(&self, from: ZoneIndex, to: ZoneIndex) -> f64 {
        self.zones[self.pair(from, to)]
    }

    /// Whether any pair of nodes was measured: then pairs differ within a zone.
    pub(crate) const fn has_node_pairs(&self) -> bool {
        self.has_node_pairs
    }

    /// Whether the distance between two zones was measured.
    pub(crate) fn is_measured(&self, from: ZoneIndex, to: ZoneIndex) -> bool {
        self.zones_measured[self.pair(from, to)]
    }
}

fn heuristic(zones: &[ZoneView<'_>], policy: &LatencyPolicy) -> Vec<f64> {
    let distance = |from: &ZoneView<'_>, to: &ZoneView<'_>| {
        if from.name == to.name && from.name.node().is_some() {
            policy.same_node
        } else if from.name.domain() == to.name.domain() {
            policy.same_zone
        } else if from.region == to.region {
            policy.same_region
        } else {
            policy.other_region
        }
    };
    zones.iter().flat_map(|from| zones.iter().map(move |to| distance(from, to).get())).collect()
}
