//! Rounds of a search: each climbs from today anew, and the best list stays.

use super::{
    climb::{Climb, Goal},
    deepen,
    facts::Facts,
    gain,
    layout::Layout,
    order::{self, Shift},
    problem::{Problem, ProblemError},
};

/// What is wanted of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// Same seed, same moves.
    pub seed: u64,
    /// Most moves; `None` for no limit.
    pub max_moves: Option<usize>,
    /// Worth that each move must bring, in the worth of [`super::Weights`]. At least 0.
    pub price: f64,
}

/// One move of a list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Move {
    /// Position of the service.
    pub service: usize,
    /// Position of the machine that is left.
    pub from: usize,
    /// Position of the machine that receives.
    pub to: usize,
    /// Worth of the placement once this move is complete.
    pub worth: f64,
}

/// What came of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Worth of today's placement.
    pub before: f64,
    /// The moves in order; every prefix is feasible.
    pub moves: Vec<Move>,
}

impl Found {
    /// Worth after the first `moves`.
    #[must_use]
    pub fn worth(&self, moves: usize) -> f64 {
        let last = moves.min(self.moves.len()).checked_sub(1);
        last.and_then(|last| self.moves.get(last)).map_or(self.before, |last| last.worth)
    }

    /// How many of the first `moves` to make: a bundle that would be cut in the middle,
    /// before it pays, is better left out.
    #[must_use]
    pub fn best_prefix(&self, moves: usize, price: f64) -> usize {
        let mut best = (self.before, 0);
        for (at, step) in self.moves.iter().enumerate().take(moves) {
            let value = step.worth - price * (at + 1) as f64;
            if value > best.0 + LEAST {
                best = (value, at + 1);
            }
        }
        best.1
    }

    /// Worth at the end, less the price of the moves.
    fn value(&self, price: f64) -> f64 {
        self.worth(self.moves.len()) - price * self.moves.len() as f64
    }
}

/// Worth below this is a rounding error.
pub(crate) const LEAST: f64 = 1e-9;

/// Searches with doubling rounds until `steps` are used or `enough` says so. With the
/// same seed, more rounds never give a worse list.
///
/// # Errors
/// [`ProblemError`].
pub fn search(
    problem: &Problem,
    options: Options,
    steps: u64,
    enough: &mut dyn FnMut() -> bool,
) -> Result<Found, ProblemError> {
    let mut search = Search::new(problem, options)?;
    let mut left = steps;
    let mut round = search.first_round();
    while left > 0 {
        // A last round that is short is worth nothing: it joins the one before.
        let now = if left < 3 * round { left } else { round };
        if !search.round(now, enough) {
            break;
        }
        left -= now;
        round *= 2;
    }
    Ok(search.into_found())
}

/// A search that goes on in rounds.
#[derive(Debug)]
pub struct Search {
    facts: Facts,
    options: Options,
    rounds: u64,
    /// The last summit could not be reached: swaps on full machines had no room.
    blocked: bool,
    best: Found,
}

impl Search {
    /// Begins with no move at all.
    ///
    /// # Errors
    /// [`ProblemError`].
    pub fn new(problem: &Problem, options: Options) -> Result<Self, ProblemError> {
        problem.validate()?;
        options.validate()?;
        let facts = Facts::new(problem);
        let before = gain::total(&facts, &Layout::today(&facts));
        let best = Found { before, moves: Vec::new() };
        Ok(Self { facts, options, rounds: 0, blocked: false, best })
    }

    /// Steps that a first round needs to be worth its while.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        self.facts.today.len() as u64 * FIRST_STEPS_PER_CONTAINER + LEAST_STEPS
    }

    /// The best so far.
    #[must_use]
    pub fn found(&self) -> &Found {
        &self.best
    }

    /// The best at the end.
    #[must_use]
    pub fn into_found(self) -> Found {
        self.best
    }

    /// Searches once more, from today, and keeps the better result. False when `enough`
    /// cut it short: what it had not completed by then is lost, the best list stays.
    pub fn round(&mut self, steps: u64, enough: &mut dyn FnMut() -> bool) -> bool {
        self.rounds += 1;
        let aside = steps / ASIDE;
        let goal = Goal {
            seed: self.options.seed.wrapping_add(self.rounds.wrapping_mul(SEED_STEP)),
            max_moves: self.options.max_moves,
            price: self.options.price,
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
        let rungs = Climb::new(&self.facts, goal).rungs(steps, enough)?;
        let (most, price) = (self.options.max_moves.unwrap_or(usize::MAX), self.options.price);
        let mut layout = Layout::today(&self.facts);
        let mut shifts = Vec::new();
        let mut reached = true;
        for rung in &rungs {
            reached = order::lead(&self.facts, &mut layout, rung, most, &mut shifts);
        }
        let mut found = self.found_by(&shifts);
        shifts.truncate(found.best_prefix(most, price));
        self.go_deeper(&mut shifts);
        found = self.found_by(&shifts);
        if found.value(price) > self.best.value(price) + LEAST {
            self.best = found;
        }
        Some(reached)
    }

    /// Adds what a few more moves can gain, as long as they gain.
    fn go_deeper(&self, shifts: &mut Vec<Shift>) {
        let facts = &self.facts;
        let most = self.options.max_moves.unwrap_or(usize::MAX);
        let mut layout = Layout::today(facts);
        for Shift { service, from, to } in shifts.iter() {
            layout.shift_one(facts, *service, *from, *to);
        }
        while let Some(more) = deepen::best_sequence(
            facts,
            &layout,
            most.saturating_sub(shifts.len()),
            self.options.price,
        ) {
            for Shift { service, from, to } in &more {
                layout.shift_one(facts, *service, *from, *to);
            }
            shifts.extend(more);
        }
    }

    /// The worth after each move.
    fn found_by(&self, shifts: &[Shift]) -> Found {
        let facts = &self.facts;
        let mut layout = Layout::today(facts);
        let mut worth = self.best.before;
        let moves = shifts
            .iter()
            .map(|Shift { service, from, to }| {
                worth += gain::of_shift(facts, &layout, *service, *from, *to);
                layout.shift_one(facts, *service, *from, *to);
                Move { service: *service, from: *from, to: *to, worth }
            })
            .collect();
        Found { before: self.best.before, moves }
    }
}

impl Options {
    fn validate(&self) -> Result<(), ProblemError> {
        if self.price.is_finite() && self.price >= 0.0 {
            return Ok(());
        }
        Err(ProblemError::Number { place: "options.price".to_owned(), value: self.price })
    }
}

/// The part of a round (one in so many steps) that tries what the rest of it does not:
/// careful steps, which reach all that they see, at low prices.
const ASIDE: u64 = 8;

/// Fewer steps per container leave most containers untouched.
const FIRST_STEPS_PER_CONTAINER: u64 = 64;

/// Fewer steps are no annealing.
const LEAST_STEPS: u64 = 1024;

/// Far apart seeds for the rounds (an odd number without pattern).
const SEED_STEP: u64 = 0xD134_2543_DE82_EF95;
