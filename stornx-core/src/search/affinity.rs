//! The search on a [`Problem`]: what is worth something is traffic that stays inside
//! machines and zones.

use super::{
    facts::Facts,
    problem::{Problem, ProblemError},
    rounds::{LEAST, List, Rounds},
    terrain::Affinity,
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

    fn of(list: &List) -> Self {
        let step = |step: &super::rounds::Step| Move {
            service: step.shift.service,
            from: step.shift.from,
            to: step.shift.to,
            worth: step.worth,
        };
        Self { before: list.before, moves: list.steps.iter().map(step).collect() }
    }

    /// Worth at the end, less the price of the moves.
    fn value(&self, price: f64) -> f64 {
        self.worth(self.moves.len()) - price * self.moves.len() as f64
    }
}

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
    search.rounds.run(steps, enough);
    Ok(search.found())
}

/// As [`search`], in several lanes: searches with seeds of their own, each with its part of
/// the steps. The best list wins, the first of equals.
///
/// `each` is given what one lane does and calls it for every lane from 0 on, on as many
/// threads as it likes; it returns what they found in the order of the lanes. So the
/// result is the same on any number of threads. Lanes that it leaves out are not
/// searched.
///
/// # Errors
/// [`ProblemError`].
pub fn search_in_lanes(
    problem: &Problem,
    options: Options,
    steps: u64,
    lanes: usize,
    each: impl FnOnce(&(dyn Fn(usize) -> Found + Sync)) -> Vec<Found>,
) -> Result<Found, ProblemError> {
    let nothing = Search::new(problem, options)?.found();
    let lane = |at: usize| {
        let seed = options.seed.wrapping_add(LANE.wrapping_mul(at as u64));
        let steps = steps / lanes.max(1) as u64;
        search(problem, Options { seed, ..options }, steps, &mut || false)
            // It was valid a moment ago.
            .unwrap_or_else(|_| nothing.clone())
    };
    let value = |found: &Found| found.value(options.price);
    let better = |best: Found, found: Found| {
        if value(&found) > value(&best) + LEAST { found } else { best }
    };
    Ok(each(&lane).into_iter().reduce(better).unwrap_or_else(|| nothing.clone()))
}

/// Far apart seeds for the lanes (an odd number without pattern).
const LANE: u64 = 0x9E6C_63D0_876A_68E5;

/// A search that goes on in rounds.
#[derive(Debug)]
pub struct Search {
    rounds: Rounds<Affinity>,
}

impl Search {
    /// Begins with no move at all.
    ///
    /// # Errors
    /// [`ProblemError`].
    pub fn new(problem: &Problem, options: Options) -> Result<Self, ProblemError> {
        problem.validate()?;
        options.validate()?;
        let possible = problem.weights.machine + problem.weights.zone;
        let facts = Facts::new(problem, options.price);
        let rounds = Rounds::new(facts, Affinity { possible }, options.seed, options.max_moves);
        Ok(Self { rounds })
    }

    /// Steps that a first round needs to be worth its while.
    #[must_use]
    pub const fn first_round(&self) -> u64 {
        self.rounds.first_round()
    }

    /// The best so far.
    #[must_use]
    pub fn found(&self) -> Found {
        Found::of(self.rounds.best())
    }

    /// Searches once more, from today, and keeps the better result. False when `enough`
    /// cut it short: what it had not completed by then is lost, the best list stays.
    pub fn round(&mut self, steps: u64, enough: &mut dyn FnMut() -> bool) -> bool {
        self.rounds.round(steps, enough)
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
