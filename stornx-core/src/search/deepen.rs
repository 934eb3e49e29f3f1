//! All placements within a few moves, where there are few enough of them.
//!
//! Annealing sees a placement as better or worse; on a small and full cluster what
//! counts is which placements can be reached at all, and in how many moves. There,
//! breadth-first search looks at everything near, and at everything there is when the
//! cluster is tiny. On large clusters this does nothing.

use std::collections::BTreeSet;

use super::{facts::Facts, gain, layout::Layout, order::Shift, random::Random, rounds::LEAST};

/// Most placements that are looked at: tens of milliseconds.
const MOST: usize = 10_000;

/// With more ways to go on from the first placement, not even two moves would be seen
/// completely.
const MOST_BRANCHES: usize = 500;

/// The moves (at most `most`) to the placement whose worth less `price` for each move is
/// best, if it is better than staying.
pub(crate) fn best_sequence(
    facts: &Facts,
    layout: &Layout,
    most: usize,
    price: f64,
) -> Option<Vec<Shift>> {
    let kinds: usize =
        (0..facts.machines).map(|machine| kinds(facts, layout, machine).count()).sum();
    if kinds * facts.machines > MOST_BRANCHES {
        return None;
    }
    let mut looked = Looked { facts, nodes: Vec::new(), seen: BTreeSet::from([0]) };
    looked.expand(layout, None);
    let mut next = 0;
    while next < looked.nodes.len() && looked.nodes.len() < MOST {
        if looked.nodes[next].depth < most {
            let mut there = layout.clone();
            for Shift { service, from, to } in looked.path(next) {
                there.shift_one(facts, service, from, to);
            }
            looked.expand(&there, Some(next));
        }
        next += 1;
    }
    let mut best = (LEAST, None);
    for (at, node) in looked.nodes.iter().enumerate() {
        let value = node.worth - price * node.depth as f64;
        // Nodes come by growing depth: longer only when it is worth more.
        if node.depth <= most && value > best.0 + LEAST {
            best = (value, Some(at));
        }
    }
    best.1.map(|at| looked.path(at))
}

/// Services on a machine that can be moved.
fn kinds(facts: &Facts, layout: &Layout, machine: usize) -> impl Iterator<Item = usize> {
    let row = layout.row(facts, machine).iter().enumerate();
    row.filter(|(service, count)| **count > 0 && !facts.pinned[*service])
        .map(|(service, _)| service)
}

struct Node {
    parent: Option<usize>,
    shift: Shift,
    depth: usize,
    /// Against the first placement.
    worth: f64,
    /// Sum of a random number for each container on each machine, against the first
    /// placement: the same for the same counts, whatever the order of moves.
    mark: u64,
}

struct Looked<'a> {
    facts: &'a Facts,
    nodes: Vec<Node>,
    seen: BTreeSet<u64>,
}

impl Looked<'_> {
    fn expand(&mut self, layout: &Layout, parent: Option<usize>) {
        let facts = self.facts;
        let (depth, worth, mark) = parent.map_or((0, 0.0, 0), |parent| {
            let node = &self.nodes[parent];
            (node.depth, node.worth, node.mark)
        });
        for from in 0..facts.machines {
            for service in kinds(facts, layout, from) {
                for to in 0..facts.machines {
                    if !layout.fits(facts, service, to) || !layout.allowed(facts, service, from, to)
                    {
                        continue;
                    }
                    let at = |machine: usize| {
                        Random::new((service * facts.machines + machine) as u64).next()
                    };
                    let mark = mark.wrapping_add(at(to)).wrapping_sub(at(from));
                    if self.seen.insert(mark) {
                        let worth = worth + gain::of_shift(facts, layout, service, from, to);
                        let shift = Shift { service, from, to };
                        self.nodes.push(Node { parent, shift, depth: depth + 1, worth, mark });
                    }
                }
            }
        }
    }

    fn path(&self, node: usize) -> Vec<Shift> {
        let mut path = Vec::new();
        let mut at = Some(node);
        while let Some(node) = at {
            path.push(self.nodes[node].shift);
            at = self.nodes[node].parent;
        }
        path.reverse();
        path
    }
}
