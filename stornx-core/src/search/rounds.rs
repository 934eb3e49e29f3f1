//! Rounds of a search: each climbs from today anew, and the best list stays.

use super::{
    climb::{Climb, Goal},
    deepen,
    facts::Facts,
    layout::Layout,
    order,
    terrain::{Shift, Terrain},
};

/// A step of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) shift: Shift,
    /// Worth of the placement once this move is complete.
    pub(crate) worth: f64,
    /// What this move and all before it cost.
    pub(crate) paid: f64,
}

/// A list of moves.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List {
    /// Worth before the first move.
    pub(crate) before: f64,
    pub(crate) steps: Vec<Step>,
}

impl List {
    /// Worth at the end, less the price of the moves.
    fn value(&self) -> f64 {
        self.steps.last().map_or(self.before, |last| last.worth - last.paid)
    }

    /// How many of the first `most` moves to make: a bundle that would be cut in the
    /// middle, before it pays, is better left out.
    pub(crate) fn best_prefix(&self, most: usize) -> usize {
        let mut best = (self.before, 0);
        for (at, step) in self.steps.iter().enumerate().take(most) {
            let value = step.worth - step.paid;
            if value > best.0 + LEAST {
                best = (value, at + 1);
            }
        }
        best.1
    }
}

/// Worth below this is a rounding error.
pub(crate) const LEAST: f64 = 1e-9;

/// A search that goes on in rounds, from a terrain that stands at today's placement.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    facts: Facts,
    start: T,
    seed: u64,
    max_moves: Option<usize>,
    /// Placements that are looked at one by one where there are few.
    looks: usize,
    rounds: u64,
    /// The last summit could not be reached: swaps on full machines had no room.
    blocked: bool,
    best: List,
}

impl<T: Terrain> Rounds<T> {
    /// Begins with no move at all.
    pub(crate) fn new(facts: Facts, start: T, seed: u64, max_moves: Option<usize>) -> Self {
        let before = start.worth(&facts, &Layout::today(&facts));
        let best = List { before, steps: Vec::new() };
        Self { facts, start, seed, max_moves, looks: LOOKS, rounds: 0, blocked: false, best }
    }

    /// Another number of placements to look at one by one where there are few.
    pub(crate) fn looking_at(mut self, looks: usize) -> Self {
        self.looks = looks;
        self
    }

    /// Steps that a first round needs to be worth its while.
    pub(crate) const fn first_round(&self) -> u64 {
        self.facts.today.len() as u64 * FIRST_STEPS_PER_CONTAINER + LEAST_STEPS
    }

    /// The best so far.
    pub(crate) const fn best(&self) -> &List {
        &self.best
    }

    /// Doubling rounds until `steps` are used or `enough` says so.
    pub(crate) fn run(&mut self, steps: u64, enough: &mut dyn FnMut() -> bool) {
        let mut left = steps;
        let mut round = self.first_round();
        while left > 0 {
            // A last round that is short is worth nothing: it joins the one before.
            let now = if left < 3 * round { left } else { round };
            if !self.round(now, enough) {
                break;
            }
            left -= now;
            round *= 2;
        }
    }

    /// Searches once more, from today, and keeps the better result. False when `enough`
    /// cut it short: what it had not completed by then is lost, the best list stays.
    pub(crate) fn round(&mut self, steps: u64, enough: &mut dyn FnMut() -> bool) -> bool {
        self.rounds += 1;
        let aside = steps / ASIDE;
        let goal = Goal {
            seed: self.seed.wrapping_add(self.rounds.wrapping_mul(SEED_STEP)),
            max_moves: self.max_moves,
            strictness: 1.0,
            careful: self.blocked,
        };
        let Some(reached) = self.climb(goal, steps - aside, enough) else { return false };
        self.blocked = !reached;
        let goal = Goal { seed: !goal.seed, strictness: 0.1, careful: true, ..goal };
        self.climb(goal, aside, enough).is_some()
    }

    /// One climb, and whether its summit was reached; `None` when cut short.
    fn climb(&mut self, goal: Goal, steps: u64, enough: &mut dyn FnMut() -> bool) -> Option<bool> {
        let rungs = Climb::new(&self.facts, &self.start, goal).rungs(steps, enough)?;
        let most = self.max_moves.unwrap_or(usize::MAX);
        let (mut layout, mut terrain) = (Layout::today(&self.facts), self.start.clone());
        let mut shifts = Vec::new();
        let mut reached = true;
        for rung in &rungs {
            reached = order::lead(&self.facts, &mut terrain, &mut layout, rung, most, &mut shifts);
        }
        shifts.truncate(self.list(&shifts).best_prefix(most));
        // What a budget has been spent on may leave too little for what is better: go on
        // from the end of the list, and from shorter and shorter beginnings of it.
        let mut kept = shifts.len();
        loop {
            let mut deeper = shifts[..kept].to_vec();
            let looked = self.go_deeper(&mut deeper);
            let list = self.list(&deeper);
            if list.value() > self.best.value() + LEAST {
                self.best = list;
            }
            if !looked || kept == 0 {
                return Some(reached);
            }
            kept /= 2;
        }
    }

    /// Adds what a few more moves can gain, as long as they gain. False where there are
    /// too many placements to look at.
    fn go_deeper(&self, shifts: &mut Vec<Shift>) -> bool {
        let facts = &self.facts;
        let most = self.max_moves.unwrap_or(usize::MAX);
        let (mut layout, mut terrain) = (Layout::today(facts), self.start.clone());
        for shift in shifts.iter() {
            self.make(&mut terrain, &mut layout, *shift);
        }
        if !deepen::is_small(facts, &layout) {
            return false;
        }
        loop {
            let left = most.saturating_sub(shifts.len());
            let Some(more) = deepen::best_sequence(facts, &mut terrain, &layout, left, self.looks)
            else {
                return true;
            };
            let more = self.ordered(&terrain, &layout, more);
            for shift in &more {
                self.make(&mut terrain, &mut layout, *shift);
            }
            shifts.extend(more);
        }
    }

    /// The same moves, those that bring most first where the way allows it.
    fn ordered(&self, terrain: &T, layout: &Layout, shifts: Vec<Shift>) -> Vec<Shift> {
        let facts = &self.facts;
        let mut goal = layout.clone();
        for shift in &shifts {
            goal.shift_one(facts, *shift);
        }
        let (mut terrain, mut layout) = (terrain.clone(), layout.clone());
        let mut ordered = Vec::new();
        let most = shifts.len();
        let reached = order::lead(facts, &mut terrain, &mut layout, &goal, most, &mut ordered);
        if reached && layout.same_counts(&goal) { ordered } else { shifts }
    }

    fn make(&self, terrain: &mut T, layout: &mut Layout, shift: Shift) -> f64 {
        let gain = terrain.gain(&self.facts, layout, shift);
        let gain = terrain.go(shift, gain);
        terrain.keep();
        layout.shift_one(&self.facts, shift);
        gain
    }

    /// Worth and price after each move.
    fn list(&self, shifts: &[Shift]) -> List {
        let (mut layout, mut terrain) = (Layout::today(&self.facts), self.start.clone());
        let (mut worth, mut paid) = (self.best.before, 0.0);
        let steps = shifts
            .iter()
            .map(|shift| {
                worth += self.make(&mut terrain, &mut layout, *shift);
                paid += self.facts.price[shift.service];
                Step { shift: *shift, worth, paid }
            })
            .collect();
        List { before: self.best.before, steps }
    }
}

/// Placements that are looked at one by one: tens of milliseconds for a function of counts.
const LOOKS: usize = 10_000;

/// The part of a round (one in so many steps) that tries what the rest of it does not:
/// careful steps, which reach all that they see, at low prices.
const ASIDE: u64 = 8;

/// Fewer steps per container leave most containers untouched.
const FIRST_STEPS_PER_CONTAINER: u64 = 64;

/// Fewer steps are no annealing.
const LEAST_STEPS: u64 = 1024;

/// Far apart seeds for the rounds (an odd number without pattern).
const SEED_STEP: u64 = 0xD134_2543_DE82_EF95;
