//! Where the replicas are: large ones first, each on the emptiest of a few nodes that have
//! room, as a default scheduler that samples its nodes leaves a cluster. Who calls whom
//! plays no part.

use super::{
    GenerateError, Options, Quantity,
    graph::shuffle,
    sizes::{Amount, PODS_PER_NODE, Sizes, Spread},
    stream,
};

/// Nodes looked at for each replica.
const LOOKED_AT: u32 = 8;
/// What each replica of the same workload on a node counts like, as a share of the node.
const CROWDING: f64 = 0.1;

/// Nodes by workload and replica.
pub(super) type Places = Vec<Vec<u32>>;

pub(super) const fn zone_of(node: usize, zones: usize) -> usize {
    node % zones
}

/// A node being filled.
#[derive(Debug, Clone, Copy)]
struct Filled {
    used: Amount,
    pods: usize,
    /// The workload placed last on it, and how many of its replicas.
    last: usize,
    same: u32,
}

pub(super) fn place(sizes: &Sizes, options: &Options) -> Result<Places, GenerateError> {
    let count = sizes.replicas.len();
    let mut order: Vec<usize> = (0..count).collect();
    shuffle(&mut order, &mut stream(options.seed, Quantity::Order));
    order.sort_by_key(|workload| std::cmp::Reverse(sizes.requests[*workload].cpu));
    let empty = Filled { used: Amount { cpu: 0, memory: 0 }, pods: 0, last: count, same: 0 };
    let mut filled = vec![empty; sizes.nodes.len()];
    let mut numbers = stream(options.seed, Quantity::Places);
    let nodes = u32::try_from(filled.len()).unwrap_or(u32::MAX);
    let mut places = vec![Vec::new(); count];
    for workload in order {
        let mut by_zone = vec![0_u32; options.zones];
        for _ in 0..sizes.replicas[workload] {
            // Where there are fewest; who is first differs by workload.
            let zone = (0..options.zones)
                .map(|step| (workload + step) % options.zones)
                .min_by_key(|zone| by_zone[*zone])
                .filter(|_| sizes.spread[workload] == Spread::Zones);
            let cost = |node: usize| {
                let allowed = zone.is_none_or(|zone| zone_of(node, options.zones) == zone);
                let cost = allowed.then(|| filled[node].cost(workload, node, sizes)).flatten()?;
                Some((cost, node))
            };
            let sampled: Vec<usize> =
                (0..LOOKED_AT).map(|_| numbers.below(nodes) as usize).collect();
            let best = |among: &mut dyn Iterator<Item = usize>| {
                among.filter_map(cost).min_by(|a, b| a.0.total_cmp(&b.0))
            };
            let found = best(&mut sampled.into_iter()).or_else(|| best(&mut (0..filled.len())));
            let request = sizes.requests[workload];
            let (_, node) = found.ok_or(GenerateError::NoRoom { cpu: request.cpu })?;
            filled[node].take(workload, request);
            by_zone[zone_of(node, options.zones)] += 1;
            places[workload].push(u32::try_from(node).unwrap_or(u32::MAX));
        }
    }
    Ok(places)
}

impl Filled {
    fn same(&self, workload: usize) -> u32 {
        if self.last == workload { self.same } else { 0 }
    }

    /// How full the node would be with one more replica; none where that may not be.
    fn cost(&self, workload: usize, node: usize, sizes: &Sizes) -> Option<f64> {
        let (request, room) = (sizes.requests[workload], sizes.nodes[node]);
        let (cpu, memory) = (self.used.cpu + request.cpu, self.used.memory + request.memory);
        let same = self.same(workload);
        let fits = cpu <= room.cpu
            && memory <= room.memory
            && self.pods < PODS_PER_NODE
            && (same == 0 || sizes.spread[workload] != Spread::Nodes);
        #[allow(clippy::cast_precision_loss)] // Milli-cores of one node.
        let share = cpu as f64 / room.cpu as f64 + f64::from(same) * CROWDING;
        fits.then_some(share)
    }

    fn take(&mut self, workload: usize, request: Amount) {
        self.same = self.same(workload) + 1;
        self.last = workload;
        self.used.cpu += request.cpu;
        self.used.memory += request.memory;
        self.pods += 1;
    }
}
