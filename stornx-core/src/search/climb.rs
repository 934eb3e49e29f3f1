//! The way from today over the rungs to the summit.
//!
//! The summit is what annealing finds for the whole budget. A rung is what it finds for
//! a smaller budget, from the rung below, when every move off the way to the summit is
//! priced: moves that it makes are moves that the summit needs too, so that one list
//! serves every budget. Budgets grow geometrically: the list is then near the best that
//! its summit allows everywhere, not only at its end.

use super::{
    anneal::{Annealer, Cooling},
    facts::Facts,
    layout::Layout,
    terrain::Terrain,
};

/// What one climb is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) seed: u64,
    pub(crate) max_moves: Option<usize>,
    /// Factor of the prices that the climb sets itself. They make it find bundles worth
    /// their moves; on small problems they hide single moves worth a little.
    pub(crate) strictness: f64,
    /// See [`Cooling::careful`].
    pub(crate) careful: bool,
}

/// The placements on the way of one round.
pub(crate) struct Climb<'a, T> {
    facts: &'a Facts,
    /// Where it begins.
    start: &'a T,
    goal: Goal,
    most_moves: u32,
    /// Worth of all traffic, by container that has any: the scale of temperatures.
    unit: f64,
    /// Containers that have traffic.
    busy: f64,
}

impl<'a, T: Terrain> Climb<'a, T> {
    pub(crate) fn new(facts: &'a Facts, start: &'a T, goal: Goal) -> Self {
        let busy: usize = (0..facts.services)
            .filter(|service| !facts.partners(*service).is_empty())
            .map(|service| facts.containers(service).len())
            .sum();
        let busy = busy.max(1) as f64;
        let most_moves = goal.max_moves.and_then(|most| u32::try_from(most).ok());
        Self {
            facts,
            start,
            goal,
            most_moves: most_moves.unwrap_or(u32::MAX),
            unit: start.possible() / busy,
            busy,
        }
    }

    /// Placements for growing budgets, the last one for the whole; `None` when cut
    /// short.
    pub(crate) fn rungs(
        &self,
        steps: u64,
        enough: &mut dyn FnMut() -> bool,
    ) -> Option<Vec<Layout>> {
        let mut annealer = Annealer::new(self.facts, self.start, self.goal.seed);
        let before = annealer.worth;
        let for_summit = steps / 100 * SUMMIT_PERCENT;
        if !annealer.run(self.summit(for_summit), enough) {
            return None;
        }
        let height = (annealer.worth - before).max(0.0);
        let moves = annealer.moves;
        let summit = annealer.layout.clone();
        annealer.aim();
        annealer.restart();
        let budgets = budgets(moves);
        let share = (steps - for_summit) / budgets.len().max(1) as u64;
        let mut rungs = Vec::new();
        let mut climbed = 0;
        for budget in budgets.into_iter().filter(|_| height > 0.0) {
            if budget <= climbed {
                continue;
            }
            let detour = DETOUR * height / f64::from(moves.max(1));
            if !annealer.run(self.rung(share, height, climbed, budget, detour), enough) {
                return None;
            }
            climbed += annealer.moves;
            annealer.settle();
            rungs.push(annealer.layout.clone());
        }
        rungs.push(summit);
        Some(rungs)
    }

    fn summit(&self, steps: u64) -> Cooling {
        let part = f64::from(self.most_moves) / self.busy;
        let possible = self.start.possible();
        let price = self.goal.strictness * PRICE * 0.8 * possible / f64::from(self.most_moves);
        Cooling {
            steps,
            // Measured: a tenth of the containers wants 0.8 units, two thirds want 8.
            // Hotter, a small budget is spent on noise; colder, a large one stays near
            // today.
            hot: self.unit * (20.0 * part * part).clamp(0.8, 16.0),
            cold: self.unit / COLD,
            price: price.max(self.goal.strictness * self.unit / COLD),
            last_price: self.unit / LAST,
            most_moves: self.most_moves,
            // Going over the budget by 2 % doubles the price. The list is cut at the
            // budget in any case; a soft limit lets the annealing change its mind.
            slope: price / (0.02 * f64::from(self.most_moves)).max(0.1),
            detour: 0.0,
            careful: self.goal.careful,
        }
    }

    fn rung(&self, steps: u64, height: f64, climbed: u32, budget: u32, detour: f64) -> Cooling {
        let price = PRICE * height / f64::from(budget);
        Cooling {
            steps,
            hot: self.unit,
            cold: self.unit / COLD,
            price,
            last_price: price,
            most_moves: budget - climbed,
            slope: price / 10.0,
            detour,
            careful: self.goal.careful,
        }
    }
}

/// Share of the steps that goes into the summit, on which everything rests.
const SUMMIT_PERCENT: u64 = 60;

/// Price of a move, in parts of what a budget brings per move on average: its last
/// moves bring about that.
const PRICE: f64 = 0.2;

/// Price of a move off the way to the summit, in what the summit brings per move on
/// average. A detour costs two moves.
const DETOUR: f64 = 2.0;

/// The coldest temperature, and the lowest price while annealing, in parts of the unit.
const COLD: f64 = 60.0;

/// What a move must bring at the end, in parts of the unit: less is noise.
const LAST: f64 = 240.0;

/// Budgets of the rungs below a summit, smallest first.
fn budgets(moves: u32) -> Vec<u32> {
    let mut budgets = Vec::new();
    let mut budget = f64::from(moves) * HIGHEST_RUNG;
    while budget >= LOWEST_RUNG {
        budgets.push(budget as u32);
        budget *= RUNG_RATIO;
    }
    budgets.reverse();
    budgets
}

/// Budget of the highest rung, in parts of the moves to the summit.
const HIGHEST_RUNG: f64 = 0.85;

/// Budget of a rung in parts of that of the rung above. Nearer rungs share the steps
/// among more of them and were worse at each.
const RUNG_RATIO: f64 = 0.65;

/// Fewer moves need no rung: their order is good enough.
const LOWEST_RUNG: f64 = 16.0;
