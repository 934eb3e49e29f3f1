//! Where requests come from or go to, kept by node in flat lists that are used again for
//! one workload after the other.

use crate::view::{NodeIndex, View, WorkloadIndex, ZoneIndex};

/// A set of nodes that gives them in their order, in a time that depends on how many they
/// are and not on how many there could be.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    /// A bit for each node.
    words: Vec<u64>,
    /// A bit for each word that has one.
    upper: Vec<u64>,
}

impl Marks {
    pub(super) fn new(nodes: usize) -> Self {
        let words = nodes.div_ceil(64);
        Self { words: vec![0; words], upper: vec![0; words.div_ceil(64)] }
    }

    pub(super) fn mark(&mut self, node: NodeIndex) {
        let word = node.at() / 64;
        self.words[word] |= 1 << (node.at() % 64);
        self.upper[word / 64] |= 1 << (word % 64);
    }

    /// Empties the set into a list.
    pub(super) fn drain_into(&mut self, nodes: &mut Vec<NodeIndex>) {
        for (at, upper) in self.upper.iter_mut().enumerate() {
            for word in ones(std::mem::take(upper)) {
                let word = at * 64 + word;
                let bits = std::mem::take(&mut self.words[word]);
                nodes.extend(ones(bits).map(|bit| NodeIndex::new(word * 64 + bit)));
            }
        }
    }
}

/// The positions of the bits that are set.
fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(at)
    })
}

/// Requests per second by the place where they come from or go to, in one or more lanes
/// that share their places: what one of them has not, is zero there. By zone always; by node
/// where pairs of nodes were measured, since only then a node is not as far as its zone.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    lanes: usize,
    /// By zone and lane.
    zones: Vec<f64>,
    /// By node and lane; empty where they are not asked for.
    rates: Vec<f64>,
    marks: Marks,
    /// Those with rates, once [`settle`](Self::settle) has been called.
    nodes: Vec<NodeIndex>,
}

/// Requests per second of a lane.
pub(super) type InLane = (usize, f64);

impl Ends {
    pub(super) fn new(view: &View<'_>, lanes: usize) -> Self {
        let nodes = if view.latency.has_node_pairs() { view.nodes.len() } else { 0 };
        Self {
            lanes,
            zones: vec![0.0; lanes * view.zones.len()],
            rates: vec![0.0; lanes * nodes],
            marks: Marks::new(nodes),
            nodes: Vec::new(),
        }
    }

    /// Forgets all requests.
    pub(super) fn clear(&mut self) {
        for node in self.nodes.drain(..) {
            self.rates[node.at() * self.lanes..][..self.lanes].fill(0.0);
        }
        self.zones.fill(0.0);
    }

    /// Adds requests of one zone, one after the other, each evenly over the ready replicas
    /// of `workload` there.
    pub(super) fn add(
        &mut self,
        view: &View<'_>,
        workload: WorkloadIndex,
        zone: ZoneIndex,
        rates: impl Iterator<Item = InLane> + Clone,
    ) {
        let zones = &mut self.zones[zone.at() * self.lanes..][..self.lanes];
        for (lane, rate) in rates.clone() {
            zones[lane] += rate;
        }
        if self.rates.is_empty() || rates.clone().next().is_none() {
            return;
        }
        let nodes = view.serving(workload, zone);
        let replicas = nodes.len() as f64;
        for node in nodes {
            let here = &mut self.rates[node.at() * self.lanes..][..self.lanes];
            for (lane, rate) in rates.clone() {
                here[lane] += rate / replicas;
            }
            self.marks.mark(*node);
        }
    }

    /// Ends adding.
    pub(super) fn settle(&mut self) {
        self.marks.drain_into(&mut self.nodes);
    }

    /// Of one node, where pairs of nodes were measured.
    pub(super) fn rate(&self, node: NodeIndex, lane: usize) -> f64 {
        self.rates[node.at() * self.lanes + lane]
    }

    /// Requests of a lane by zone, where there are any.
    pub(super) fn by_zone(&self, lane: usize) -> impl Iterator<Item = (ZoneIndex, f64)> {
        let zones = self.zones.iter().skip(lane).step_by(self.lanes).enumerate();
        let zones = zones.map(|(zone, rate)| (ZoneIndex::new(zone), *rate));
        zones.filter(|(_, rate)| *rate > 0.0)
    }
}
