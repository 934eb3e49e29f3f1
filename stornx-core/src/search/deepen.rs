//! All placements within a few moves, where there are few enough of them.
//!
//! Annealing sees a placement as better or worse; on a small and full cluster what
//! counts is which placements can be reached at all, and in how many moves. There,
//! breadth-first search looks at everything near, and at everything there is when the
//! cluster is tiny. On large clusters this does nothing.

use std::collections::BTreeSet;

use super::{
    facts::Facts,
    layout::Layout,
    random::Random,
    rounds::LEAST,
    terrain::{Shift, Terrain},
};

/// With more ways to go on from the first placement, not even two moves would be seen
/// completely.
const MOST_BRANCHES: usize = 500;

/// Whether there are few enough ways to go on.
pub(crate) fn is_small(facts: &Facts, layout: &Layout) -> bool {
    let kinds: usize =
        (0..facts.machines).map(|machine| kinds(facts, layout, machine).count()).sum();
    kinds * facts.machines <= MOST_BRANCHES
}

/// The moves (at most `most`) to the placement whose worth less what the moves cost is
/// best, if it is better than staying; about `looks` placements are looked at. `terrain` stands at `layout`, before and after.
pub(crate) fn best_sequence(
    facts: &Facts,
    terrain: &mut impl Terrain,
    layout: &Layout,
    most: usize,
    looks: usize,
) -> Option<Vec<Shift>> {
    let mut looked = Looked { facts, nodes: Vec::new(), seen: BTreeSet::from([0]) };
    looked.expand(terrain, layout, None);
    let mut next = 0;
    while next < looked.nodes.len() && looked.nodes.len() < looks {
        if looked.nodes[next].depth < most {
            let mut there = layout.clone();
            let path = looked.path(next);
            for shift in &path {
                let gain = terrain.gain(facts, &there, *shift);
                terrain.go(*shift, gain);
                there.shift_one(facts, *shift);
            }
            looked.expand(terrain, &there, Some(next));
            path.iter().for_each(|_| terrain.back());
        }
        next += 1;
    }
    let mut best = (LEAST, None);
    for (at, node) in looked.nodes.iter().enumerate() {
        let value = node.worth - node.price;
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
    /// Of the moves.
    price: f64,
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
    fn expand(&mut self, terrain: &mut impl Terrain, layout: &Layout, parent: Option<usize>) {
        let facts = self.facts;
        let (depth, worth, price, mark) = parent.map_or((0, 0.0, 0.0, 0), |parent| {
            let node = &self.nodes[parent];
            (node.depth, node.worth, node.price, node.mark)
        });
        for from in 0..facts.machines {
            for service in kinds(facts, layout, from) {
                for to in 0..facts.machines {
                    let shift = Shift { service, from, to };
                    if !layout.fits(facts, service, to) || !layout.allowed(facts, terrain, shift) {
                        continue;
                    }
                    let at = |machine: usize| {
                        Random::new((service * facts.machines + machine) as u64).next()
                    };
                    let mark = mark.wrapping_add(at(to)).wrapping_sub(at(from));
                    if self.seen.insert(mark) {
                        let worth = worth + terrain.gain(facts, layout, shift);
                        let price = price + facts.price[service];
                        self.nodes.push(Node {
                            parent,
                            shift,
                            depth: depth + 1,
                            worth,
                            price,
                            mark,
                        });
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
