//! How much: users enter at the entries with a heavy tail, and every request makes calls
//! down the graph.

use super::{
    Quantity,
    graph::{Graph, Role, pareto},
    stream,
};

/// Tail index of the load of entries. M3's traffic by edge has a Hill estimate of 0.8 to
/// 1.1 over its highest 10 to 100 edges; the spread of calls adds to that of entries.
const ENTRY_TAIL: f64 = 1.1;
/// Standard deviation of the logarithm of how often a caller makes one of its calls: most
/// calls of a service are rare ones.
const CALL_SPREAD: f64 = 2.0;
/// Calls that a request makes on the mean, so that it has about a dozen below it at a
/// depth of four: 13 at Google (Seemakhupt et al., SOSP 2023).
const CALLS_PER_REQUEST: f64 = 2.0;
/// Requests per second and pod, on the mean: our own choice, since M3 gives ratios only.
pub(super) const REQUESTS_PER_POD: f64 = 20.0;

/// Requests, as shares of all that workloads get.
#[derive(Debug)]
pub(super) struct Rates {
    /// By workload.
    pub(super) workloads: Vec<f64>,
    /// By edge, in the order of the graph.
    pub(super) edges: Vec<f64>,
}

impl Rates {
    pub(super) fn draw(graph: &Graph, seed: u64) -> Self {
        let mut entering = stream(seed, Quantity::EntryRates);
        let mut workloads: Vec<f64> = graph
            .roles
            .iter()
            .map(|role| if *role == Role::Entry { pareto(&mut entering, ENTRY_TAIL) } else { 0.0 })
            .collect();
        let mut spread = stream(seed, Quantity::Multiplicity);
        let weights: Vec<f64> =
            graph.edges.iter().map(|_| (CALL_SPREAD * spread.normal()).exp()).collect();
        let calls: Vec<f64> = graph
            .roles
            .iter()
            .map(|_| (0.25 + 0.75 * spread.exponential()) * CALLS_PER_REQUEST)
            .collect();
        let mut sums = vec![0.0; workloads.len()];
        for ((caller, _), weight) in graph.edges.iter().zip(&weights) {
            sums[*caller as usize] += weight;
        }
        // Whoever is higher has got all its requests before it makes calls.
        let mut order: Vec<usize> = (0..graph.edges.len()).collect();
        order.sort_by_key(|edge| std::cmp::Reverse(graph.heights[graph.edges[*edge].0 as usize]));
        let mut edges = vec![0.0; graph.edges.len()];
        for edge in order {
            let (caller, callee) = graph.edges[edge];
            let caller = caller as usize;
            edges[edge] = workloads[caller] * calls[caller] * weights[edge] / sums[caller];
            workloads[callee as usize] += edges[edge];
        }
        let total: f64 = workloads.iter().sum();
        for rate in workloads.iter_mut().chain(&mut edges) {
            *rate /= total;
        }
        Self { workloads, edges }
    }
}
