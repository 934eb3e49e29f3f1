//! Who calls whom.
//!
//! Every workload has a height: leaves have 1, and whoever calls has one more than the
//! highest that it calls. Calls go down only, so there are no circles, and the depth of
//! an entry (services on its longest chain of calls, itself included) is its height.
//! Each caller calls one workload just below it, everyone below the entries is called by
//! someone above, and the other edges fall on callers and callees by their fitness,
//! which is what gives the degrees their tail.

use std::collections::BTreeSet;

use super::{GenerateError, Options, Quantity, stream};
use crate::world::random::Stream;

/// Shares of entries (called by nobody) and leaves (calling nobody); the rest is in the
/// middle. 8,591, 25,201 and 30,959 of Alibaba's microservices (Winchester et al.,
/// arXiv:2504.13141, table 1).
pub(super) const ENTRY_SHARE: f64 = 0.13;
pub(super) const LEAF_SHARE: f64 = 0.39;

/// Shares of entries by depth, from 2 on: published call graphs are a few calls deep, most
/// of them three or four (Luo et al., SoCC 2021; Huye et al., ATC 2023: wide, not deep).
const DEPTHS: [f64; 5] = [0.20, 0.30, 0.25, 0.15, 0.10];
/// Shares of middle workloads by height, from 2 on: the lower, the more.
const MIDDLE_HEIGHTS: [f64; 4] = [0.45, 0.30, 0.15, 0.10];

/// The deepest entry.
const HIGHEST: u8 = 6;

/// Tail indices of how popular callees are and how much callers call: with what every
/// workload has at least, the degrees come out as heavy as in M3, whose Hill estimates
/// are 1.4 to 1.8 over the highest 10 to 80 of 161.
const CALLEE_TAIL: f64 = 1.2;
const CALLER_TAIL: f64 = 1.5;

/// What a workload is in the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Entry,
    Middle,
    Leaf,
}

/// The call graph. Workloads are in the order entries, middle, leaves.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) roles: Vec<Role>,
    pub(super) heights: Vec<u8>,
    /// Caller and callee, in order.
    pub(super) edges: Vec<(u32, u32)>,
}

impl Graph {
    pub(super) fn draw(options: &Options) -> Result<Self, GenerateError> {
        let count = options.size.workloads;
        let (roles, heights) = roles(count, &mut stream(options.seed, Quantity::Heights));
        let fit = |quantity| stream(options.seed, quantity);
        let not_entry = |workload: usize| roles[workload] != Role::Entry;
        let callees = Pick::new(&heights, not_entry, CALLEE_TAIL, fit(Quantity::CalleeFitness));
        let callers = Pick::new(&heights, |_| true, CALLER_TAIL, fit(Quantity::CallerFitness));
        let mut numbers = stream(options.seed, Quantity::Edges);
        let mut edges = BTreeSet::new();
        for caller in 0..count {
            if roles[caller] != Role::Leaf {
                let height = heights[caller];
                let callee = callees.draw(&mut numbers, height - 1, height - 1);
                edges.insert((index(caller), callee));
            }
        }
        let called: BTreeSet<u32> = edges.iter().map(|(_, callee)| *callee).collect();
        for callee in 0..count {
            if roles[callee] != Role::Entry && !called.contains(&index(callee)) {
                let caller = callers.draw(&mut numbers, heights[callee] + 1, HIGHEST);
                edges.insert((caller, index(callee)));
            }
        }
        // Popular pairs meet again and again; what is left after many tries are rare ones.
        let mut tries = 0_u64;
        while edges.len() < options.size.edges {
            let caller = callers.draw(&mut numbers, 2, HIGHEST);
            let callee = callees.draw(&mut numbers, 1, heights[caller as usize] - 1);
            edges.insert((caller, callee));
            tries += 1;
            if tries > 1000 * options.size.edges as u64 {
                #[allow(clippy::cast_precision_loss)]
                return Err(GenerateError::Range {
                    what: "number of edges",
                    value: options.size.edges as f64,
                    least: 0.0,
                    most: edges.len() as f64,
                });
            }
        }
        Ok(Self { roles, heights, edges: edges.into_iter().collect() })
    }
}

fn index(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn roles(count: usize, numbers: &mut Stream) -> (Vec<Role>, Vec<u8>) {
    let part = |share: f64| ((share * count as f64).round() as usize).max(1);
    let (entries, leaves) = (part(ENTRY_SHARE), part(LEAF_SHARE));
    let middle = count - entries - leaves;
    let mut roles = vec![Role::Entry; entries];
    roles.resize(entries + middle, Role::Middle);
    roles.resize(count, Role::Leaf);
    // One of each height first, so that no height lacks the one below it.
    let mut middle_heights: Vec<u8> = (0..middle)
        .map(|at| match at {
            0..4 => 2 + at as u8,
            _ => drawn(&MIDDLE_HEIGHTS, numbers),
        })
        .collect();
    let mut entry_heights: Vec<u8> =
        (0..entries).map(|at| if at == 0 { HIGHEST } else { drawn(&DEPTHS, numbers) }).collect();
    // Names say nothing about heights.
    shuffle(&mut middle_heights, numbers);
    shuffle(&mut entry_heights, numbers);
    let mut heights = entry_heights;
    heights.extend(middle_heights);
    heights.resize(count, 1);
    (roles, heights)
}

/// A height from 2 on, by shares.
fn drawn(shares: &[f64], numbers: &mut Stream) -> u8 {
    let mut left = numbers.unit();
    let mut height = 2;
    for share in &shares[..shares.len() - 1] {
        left -= share;
        if left < 0.0 {
            break;
        }
        height += 1;
    }
    height
}

pub(super) fn shuffle<T>(items: &mut [T], numbers: &mut Stream) {
    for at in (1..items.len()).rev() {
        items.swap(at, numbers.below(index(at + 1)) as usize);
    }
}

/// A Pareto number of at least 1.
pub(super) fn pareto(numbers: &mut Stream, tail: f64) -> f64 {
    (1.0 - numbers.unit()).powf(-1.0 / tail)
}

/// Choosing by fitness among workloads of a range of heights.
struct Pick {
    /// Workloads by height.
    order: Vec<u32>,
    /// Where each height begins in it.
    begins: [usize; 8],
    /// Sums of fitness up to and with each.
    sums: Vec<f64>,
}

impl Pick {
    fn new(heights: &[u8], among: impl Fn(usize) -> bool, tail: f64, mut numbers: Stream) -> Self {
        let fitness: Vec<f64> = heights.iter().map(|_| pareto(&mut numbers, tail)).collect();
        let mut order: Vec<u32> = (0..heights.len()).filter(|w| among(*w)).map(index).collect();
        order.sort_by_key(|workload| heights[*workload as usize]);
        let mut begins = [0; 8];
        for (height, begin) in begins.iter_mut().enumerate() {
            *begin = order.partition_point(|w| usize::from(heights[*w as usize]) < height);
        }
        let mut sum = 0.0;
        let sums = order.iter().map(|workload| {
            sum += fitness[*workload as usize];
            sum
        });
        Self { sums: sums.collect(), order, begins }
    }

    /// A workload of a height from `low` to `high`, of which there must be one.
    fn draw(&self, numbers: &mut Stream, low: u8, high: u8) -> u32 {
        let (from, to) = (self.begins[usize::from(low)], self.begins[usize::from(high) + 1]);
        let base = if from == 0 { 0.0 } else { self.sums[from - 1] };
        let wanted = base + numbers.unit() * (self.sums[to - 1] - base);
        let at = from + self.sums[from..to].partition_point(|sum| *sum <= wanted);
        self.order[at.min(to - 1)]
    }
}
