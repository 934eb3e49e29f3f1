//! Draws a large cluster from distributions that were published: a snapshot as it would
//! be observed, of any size up to the limits of Kubernetes.
//!
//! Each quantity (degrees, replicas, traffic, requests, places ...) is drawn from a
//! stream of its own, so that the same options give the same snapshot, and more edges
//! leave the replicas as they are. What is taken from where is said at each constant and
//! in `docs/simulator.md`.
//!
//! Assumes one region, zones of equal size, and a placement that nobody has optimised:
//! as a default scheduler leaves it, evenly full. Refuses sizes that cannot be
//! (fewer pods than workloads, more edges than there are pairs to call each other).

mod graph;
mod place;
mod sizes;
mod snapshot;
#[cfg(test)]
mod tests;
mod traffic;

use stornx_core::{ids::IdError, model::Snapshot};
use thiserror::Error;

use crate::world::random::{Purpose, Stream};

/// The limits that Kubernetes is tested for: nodes and pods of a cluster
/// (<https://kubernetes.io/docs/setup/best-practices/cluster-large/>), and the workloads
/// and edges that this project aims at.
pub const LARGEST: Size = Size { nodes: 5_000, pods: 150_000, workloads: 10_000, edges: 50_000 };

/// Fewer than this make no graph in which every role occurs.
const FEWEST_WORKLOADS: usize = 10;

/// Every workload but entries is called by one at least, every one but leaves calls one:
/// 0.87 + 0.61 edges for each workload.
const FEWEST_EDGES_EACH: f64 = 1.5;

/// How large a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Nodes.
    pub nodes: usize,
    /// Pods in all.
    pub pods: usize,
    /// Workloads.
    pub workloads: usize,
    /// Edges of the call graph.
    pub edges: usize,
}

/// What is generated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// How large.
    pub size: Size,
    /// Over how many zones, from 1 to 26.
    pub zones: usize,
    /// CPU requested by all pods as a share of what nodes can give, up to 0.95. The
    /// cluster M3 has 0.883.
    pub requested_cpu: f64,
    /// The seed.
    pub seed: u64,
}

impl Options {
    /// A cluster of a size, filled like M3, over three zones.
    #[must_use]
    pub const fn new(size: Size, seed: u64) -> Self {
        Self { size, zones: 3, requested_cpu: 0.88, seed }
    }
}

/// What cannot be generated.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum GenerateError {
    /// A number is out of its range.
    #[error("{what} is {value}; allowed: {least} to {most}")]
    Range {
        /// Which.
        what: &'static str,
        /// Its value.
        value: f64,
        /// The least.
        least: f64,
        /// The most.
        most: f64,
    },
    /// Placing failed: requests leave too little room.
    #[error(
        "no node has room for a pod that asks for {cpu} mCPU; allowed: fewer or smaller requests, or more nodes"
    )]
    NoRoom {
        /// What it asks for.
        cpu: u64,
    },
    /// A name is not valid.
    #[error("a generated name: {0}")]
    Name(#[from] IdError),
}

/// What has a stream of its own.
#[derive(Debug, Clone, Copy)]
enum Quantity {
    Heights,
    CalleeFitness,
    CallerFitness,
    Edges,
    Multiplicity,
    EntryRates,
    Sizes,
    Replicas,
    Order,
    Requests,
    Memory,
    Machines,
    Constraints,
    Places,
    Usage,
    Response,
    PodUsage,
    PodRequests,
}

fn stream(seed: u64, quantity: Quantity) -> Stream {
    Stream::new(seed, Purpose::Cluster, quantity as usize)
}

/// Draws a cluster.
///
/// # Errors
/// [`GenerateError`] when the sizes contradict each other or leave no room.
pub fn generate(options: &Options) -> Result<Snapshot, GenerateError> {
    check(options)?;
    let graph = graph::Graph::draw(options)?;
    let rates = traffic::Rates::draw(&graph, options.seed);
    let sizes = sizes::Sizes::draw(&graph, &rates, options);
    let places = place::place(&sizes, options)?;
    snapshot::assemble(&graph, &rates, &sizes, &places, options)
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn check(options: &Options) -> Result<(), GenerateError> {
    let Size { nodes, pods, workloads, edges } = options.size;
    let [n, p, w, e] = [nodes, pods, workloads, edges].map(|count| count as f64);
    let most_pods = (sizes::PODS_PER_NODE as f64 * n * 0.6).min(LARGEST.pods as f64 * 10.0);
    // Nodes differ in size: the largest of M3 takes 1.5 times what the mean one takes. A
    // fifth of all pairs is half of those that may call each other; more would be no graph
    // of services.
    for (what, value, least, most) in [
        ("number of zones", options.zones as f64, 1.0, 26.0),
        ("number of nodes", n, options.zones as f64, LARGEST.nodes as f64 * 10.0),
        ("number of workloads", w, FEWEST_WORKLOADS as f64, LARGEST.workloads as f64 * 10.0),
        ("number of pods", p, w, most_pods),
        ("number of edges", e, (FEWEST_EDGES_EACH * w).ceil(), w * w / 5.0),
        ("share of CPU requested", options.requested_cpu, 0.01, 0.95),
    ] {
        if !(least..=most).contains(&value) {
            return Err(GenerateError::Range { what, value, least, most });
        }
    }
    Ok(())
}
