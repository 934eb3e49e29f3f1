//! How many replicas, what each asks for, and what nodes give: the proportions of M3.

use super::{
    Options, Quantity,
    graph::{Graph, shuffle},
    stream,
    traffic::Rates,
};
use crate::world::random::Stream;

/// Pods of a node: the default of the kubelet.
pub(super) const PODS_PER_NODE: usize = 110;

/// Tail index of replicas: Hill estimates of M3 are 1.1 to 1.7 over its largest 10 to 100
/// of 547 services.
const REPLICA_TAIL: f64 = 1.3;
/// The largest workload of M3 has 206 of 3,485 containers, on 96 machines.
const LARGEST_OF_PODS: f64 = 206.0 / 3_485.0;
const LARGEST_PER_NODE: f64 = 206.0 / 96.0;
/// Correlation of the logarithms of replicas and of traffic in M3, where there is traffic.
const REPLICAS_WITH_TRAFFIC: f64 = 0.28;

/// Milli-CPU that a replica asks for, with the share of M3's services that ask for about
/// so much, a ninety-sixth of its largest machine taken as one core.
const CPU_REQUESTS: [(u64, f64); 6] =
    [(250, 0.08), (500, 0.17), (1_000, 0.48), (2_000, 0.20), (3_000, 0.05), (4_000, 0.02)];
/// MiB for each core. They follow CPU with a correlation of 0.7 in M3.
const MEMORY_PER_CORE: [(u64, f64); 4] =
    [(1_024, 0.25), (2_048, 0.40), (4_096, 0.25), (8_192, 0.10)];
/// Machines of M3 by CPU and memory, relative to the largest of either, and their number.
const MACHINES: [(f64, f64, f64); 6] = [
    (0.750, 1.000, 50.0 / 96.0),
    (1.000, 0.576, 17.0 / 96.0),
    (0.404, 0.348, 14.0 / 96.0),
    (0.309, 0.250, 7.0 / 96.0),
    (0.281, 0.253, 4.0 / 96.0),
    (0.500, 0.575, 4.0 / 96.0),
];
/// Memory requested of what M3's machines have.
const MEMORY_SHARE: f64 = 0.278;

/// What replicas of a workload must keep to. Shares are our own choice: M3 names no rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spread {
    Free,
    /// At most one more in one zone than in another.
    Zones,
    /// One on each node.
    Nodes,
}
const SPREAD_OVER_ZONES: f64 = 0.2;
const SPREAD_OVER_NODES: f64 = 0.2;

/// CPU in mCPU, memory in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) cpu: u64,
    pub(super) memory: u64,
}

/// Sizes of everything.
#[derive(Debug)]
pub(super) struct Sizes {
    /// By workload.
    pub(super) replicas: Vec<u32>,
    pub(super) requests: Vec<Amount>,
    pub(super) spread: Vec<Spread>,
    /// By node.
    pub(super) nodes: Vec<Amount>,
}

impl Sizes {
    pub(super) fn draw(graph: &Graph, rates: &Rates, options: &Options) -> Self {
        let count = graph.roles.len();
        let replicas = replicas(rates, options);
        let mut cpu = stream(options.seed, Quantity::Requests);
        let mut memory = stream(options.seed, Quantity::Memory);
        let requests: Vec<Amount> = (0..count)
            .map(|_| {
                let cpu = *drawn(&CPU_REQUESTS, &mut cpu);
                Amount { cpu, memory: drawn(&MEMORY_PER_CORE, &mut memory) * cpu / 1_000 }
            })
            .collect();
        let mut numbers = stream(options.seed, Quantity::Constraints);
        let spread = replicas.iter().map(|replicas| {
            let (drawn, few) = (numbers.unit(), *replicas as usize <= options.size.nodes / 4);
            if drawn < SPREAD_OVER_ZONES {
                Spread::Zones
            } else if few && drawn < SPREAD_OVER_ZONES + SPREAD_OVER_NODES {
                Spread::Nodes
            } else {
                Spread::Free
            }
        });
        let spread = spread.collect();
        let nodes = nodes(&replicas, &requests, options);
        Self { replicas, requests, spread, nodes }
    }
}

/// One of several by their shares; the last takes what rounding leaves.
fn drawn<'a, T>(among: &'a [(T, f64)], numbers: &mut Stream) -> &'a T {
    let mut left = numbers.unit();
    let found = among.iter().find(|(_, share)| {
        left -= share;
        left < 0.0
    });
    &found.unwrap_or(&among[among.len() - 1]).0
}

/// Counts with a Pareto tail that sum to the pods asked for, the larger ones mostly where
/// there is more traffic.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn replicas(rates: &Rates, options: &Options) -> Vec<u32> {
    let (pods, count) = (options.size.pods, rates.workloads.len());
    let largest = (LARGEST_OF_PODS * pods as f64)
        .min(LARGEST_PER_NODE * options.size.nodes as f64)
        .max((pods / count) as f64 + 1.0);
    let mut numbers = stream(options.seed, Quantity::Replicas);
    let mut shape: Vec<f64> =
        (0..count).map(|_| (1.0 - numbers.unit()).powf(-1.0 / REPLICA_TAIL)).collect();
    shape.sort_by(|a, b| b.total_cmp(a));
    let counts = |scale: f64| -> Vec<u32> {
        shape.iter().map(|x| (x * scale).min(largest).round().max(1.0) as u32).collect()
    };
    let sum = |counts: &[u32]| counts.iter().map(|count| *count as usize).sum::<usize>();
    let (mut low, mut high) = (0.0, pods as f64);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if sum(&counts(middle)) <= pods { low = middle } else { high = middle }
    }
    let mut sorted = counts(low);
    // What is still missing goes one by one to those in the middle, where it shows least.
    let missing = pods - sum(&sorted);
    for number in 0..missing {
        let at = count / 4 + number % (count / 2);
        sorted[at] += 1;
    }
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let mut by_traffic: Vec<usize> = (0..count).collect();
    by_traffic.sort_by(|a, b| rates.workloads[*b].total_cmp(&rates.workloads[*a]));
    let mut order: Vec<(f64, usize)> = by_traffic
        .into_iter()
        .enumerate()
        .map(|(rank, workload)| {
            // Ranks spread like a normal number, and chance.
            let known = centred(rank, count);
            let chance = numbers.normal() * (1.0 - REPLICAS_WITH_TRAFFIC.powi(2)).sqrt();
            (REPLICAS_WITH_TRAFFIC * known + chance, workload)
        })
        .collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut replicas = vec![0; count];
    for ((_, workload), own) in order.into_iter().zip(sorted) {
        replicas[workload] = own;
    }
    replicas
}

/// About the normal quantile of a rank, largest first (the logistic one, scaled).
#[allow(clippy::cast_precision_loss)]
fn centred(rank: usize, count: usize) -> f64 {
    let above = (rank as f64 + 0.5) / count as f64;
    ((1.0 - above) / above).ln() / 1.702
}

/// Nodes of M3's kinds, as large as makes the requests the share that is asked for.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn nodes(replicas: &[u32], requests: &[Amount], options: &Options) -> Vec<Amount> {
    let count = options.size.nodes;
    // The same mix in every cluster, whatever the seed: each kind has its share of them.
    let mut kinds: Vec<(f64, f64)> = Vec::with_capacity(count);
    let mut due = 0.0;
    for (cpu, memory, share) in MACHINES {
        due += share * count as f64;
        kinds.resize((due.round() as usize).min(count), (cpu, memory));
    }
    kinds.resize(count, (MACHINES[0].0, MACHINES[0].1));
    shuffle(&mut kinds, &mut stream(options.seed, Quantity::Machines));
    let total = |of: fn(&Amount) -> u64| -> f64 {
        replicas.iter().zip(requests).map(|(n, each)| u64::from(*n) * of(each)).sum::<u64>() as f64
    };
    let units = kinds.iter().fold((0.0, 0.0), |sum, kind| (sum.0 + kind.0, sum.1 + kind.1));
    let cpu = total(|amount| amount.cpu) / options.requested_cpu / units.0;
    let memory = total(|amount| amount.memory) / MEMORY_SHARE / units.1;
    let node = |(c, m): (f64, f64)| Amount {
        cpu: (c * cpu).round() as u64,
        memory: (m * memory).round() as u64,
    };
    kinds.into_iter().map(node).collect()
}
