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
/// that share their places: what one of them has not, is zero there.
#[derive(Debug, Clone)]
pub(super) struct Ends {
    lanes: usize,
    /// By node and lane; zero where `nodes` has the node not.
    rates: Vec<f64>,
    marks: Marks,
    /// Those with requests, in their order, once [`settle`](Self::settle) has been called.
    nodes: Vec<NodeIndex>,
    /// By zone where no replica is ready any more, and lane.
    zones: Vec<f64>,
}

/// Requests per second of a lane.
pub(super) type InLane = (usize, f64);

impl Ends {
    pub(super) fn new(view: &View<'_>, lanes: usize) -> Self {
        Self {
            lanes,
            rates: vec![0.0; lanes * view.nodes.len()],
            marks: Marks::new(view.nodes.len()),
            nodes: Vec::new(),
            zones: vec![0.0; lanes * view.zones.len()],
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
    /// of `workload` there. `rates` holds each replica's part afterwards.
    pub(super) fn add(
        &mut self,
        view: &View<'_>,
        workload: WorkloadIndex,
        zone: ZoneIndex,
        rates: &mut [InLane],
    ) {
        if rates.is_empty() {
            return;
        }
        let ready = view.workloads[workload.at()].ready[zone.at()];
        if ready == 0 {
            for (lane, rate) in rates {
                self.zones[zone.at() * self.lanes + *lane] += *rate;
            }
            return;
        }
        for (_, rate) in rates.iter_mut() {
            *rate /= f64::from(ready);
        }
        for node in view.serving(workload, zone) {
            let here = &mut self.rates[node.at() * self.lanes..][..self.lanes];
            for (lane, each) in rates.iter() {
                here[*lane] += each;
            }
            self.marks.mark(*node);
        }
    }

    /// Ends adding.
    pub(super) fn settle(&mut self) {
        self.marks.drain_into(&mut self.nodes);
    }

    /// The nodes with requests, in their order.
    pub(super) fn nodes(&self) -> &[NodeIndex] {
        &self.nodes
    }

    /// Requests of a lane by node, in the order of the nodes.
    fn by_node(&self, lane: usize) -> impl Iterator<Item = (NodeIndex, f64)> {
        let rate = move |node: &NodeIndex| (*node, self.rate(*node, lane));
        self.nodes.iter().map(rate).filter(|(_, rate)| *rate > 0.0)
    }

    /// Of one node.
    pub(super) fn rate(&self, node: NodeIndex, lane: usize) -> f64 {
        self.rates[node.at() * self.lanes + lane]
    }

    /// Requests of a lane by zone.
    pub(super) fn by_zone(
        &self,
        view: &View<'_>,
        lane: usize,
    ) -> impl Iterator<Item = (ZoneIndex, f64)> {
        let nodes = self.by_node(lane).map(|(node, rate)| (view.latency.zone_of(node), rate));
        nodes.chain(self.without_replicas(lane))
    }

    /// Of it, those of zones where no replica is ready any more.
    pub(super) fn without_replicas(&self, lane: usize) -> impl Iterator<Item = (ZoneIndex, f64)> {
        let zones = self.zones.iter().skip(lane).step_by(self.lanes).enumerate();
        let zones = zones.map(|(zone, rate)| (ZoneIndex::new(zone), *rate));
        zones.filter(|(_, rate)| *rate > 0.0)
    }
}
