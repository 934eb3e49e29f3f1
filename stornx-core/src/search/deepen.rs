//! All sequences of a few single moves, where there are few enough of them.
//!
//! Annealing sees a placement as better or worse; on a small and full cluster what
//! counts is which placements can be reached at all, and in how many moves. There,
//! everything within a few moves is looked at.

use super::{facts::Facts, gain, layout::Layout, order::Shift, rounds::LEAST};

/// Most sequences that are looked at from one placement: a few milliseconds.
const MOST: usize = 20_000;

/// Longest sequence.
const DEEPEST: u32 = 4;

/// The sequence of at most `most` moves whose worth less `price` for each move is best,
/// if it is better than nothing.
pub(crate) fn best_sequence(
    facts: &Facts,
    layout: &Layout,
    most: usize,
    price: f64,
) -> Option<Vec<Shift>> {
    let branches = facts.machines.saturating_sub(1)
        * (0..facts.machines).map(|machine| kinds(facts, layout, machine).count()).sum::<usize>();
    let depth = (1..=DEEPEST)
        .take_while(|depth| branches.checked_pow(*depth).is_some_and(|all| all <= MOST))
        .last()?;
    let mut dive =
        Dive { facts, layout: layout.clone(), price, path: Vec::new(), best: (LEAST, Vec::new()) };
    dive.look(0.0, most.min(depth as usize));
    Some(dive.best.1).filter(|path| !path.is_empty())
}

/// Services on a machine that can be moved.
fn kinds<'a>(
    facts: &'a Facts,
    layout: &'a Layout,
    machine: usize,
) -> impl Iterator<Item = usize> + 'a {
    let row = layout.row(facts, machine).iter().enumerate();
    row.filter(|(service, count)| **count > 0 && !facts.pinned[*service])
        .map(|(service, _)| service)
}

struct Dive<'a> {
    facts: &'a Facts,
    layout: Layout,
    price: f64,
    path: Vec<Shift>,
    best: (f64, Vec<Shift>),
}

impl Dive<'_> {
    fn look(&mut self, value: f64, left: usize) {
        if left == 0 {
            return;
        }
        for from in 0..self.facts.machines {
            let services: Vec<usize> = kinds(self.facts, &self.layout, from).collect();
            for service in services {
                for to in 0..self.facts.machines {
                    if self.layout.allowed(self.facts, service, from, to)
                        && self.layout.fits(self.facts, service, to)
                    {
                        self.follow(value, left, Shift { service, from, to });
                    }
                }
            }
        }
    }

    fn follow(&mut self, value: f64, left: usize, shift: Shift) {
        let Shift { service, from, to } = shift;
        let worth = gain::of_shift(self.facts, &self.layout, service, from, to);
        let value = value + worth - self.price;
        self.layout.shift_one(self.facts, service, from, to);
        self.path.push(shift);
        // Longer only when it is worth more, not by a rounding error.
        if value > self.best.0 + LEAST {
            self.best = (value, self.path.clone());
        }
        self.look(value, left - 1);
        self.path.pop();
        self.layout.shift_one(self.facts, service, to, from);
    }
}
