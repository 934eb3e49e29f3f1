//! Rounds of a search, and the way from today over the rungs to the summit.

use super::{
    anneal::{Annealer, Cooling},
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
    /// Worth that each move must bring (all traffic inside machines is worth
    /// [`super::Weights::machine`]).
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

    /// Worth at the end, less the price of the moves.
    fn value(&self, price: f64) -> f64 {
        self.worth(self.moves.len()) - price * self.moves.len() as f64
    }

    /// Drops moves at the end that do not pay.
    fn trim(&mut self, price: f64) {
        let mut best = (self.before, 0);
        for (at, step) in self.moves.iter().enumerate() {
            let value = step.worth - price * (at + 1) as f64;
            if value > best.0 + LEAST {
                best = (value, at + 1);
            }
        }
        self.moves.truncate(best.1);
    }
}

/// Worth below this is a rounding error.
const LEAST: f64 = 1e-9;

/// Searches with doubling rounds until `steps` are used or `enough` says so; the result
/// of a longer search is never worse.
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
    /// The last summit could not be reached: swaps on full machines have no room.
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
        let facts = Facts::new(problem);
        let before = gain::total(&facts, &Layout::today(&facts));
        Ok(Self { facts, options, rounds: 0, blocked: false, best: Found { before, moves: Vec::new() } })
    }

    /// Steps that a first round needs to be worth its while.
    #[must_use]
    pub fn first_round(&self) -> u64 {
        self.facts.today.len() as u64 * 64 + 1024
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
    /// cut it short: then it is as if this round had not been.
    pub fn round(&mut self, steps: u64, enough: &mut dyn FnMut() -> bool) -> bool {
        self.rounds += 1;
        let Some(rungs) = Climb::new(&self.facts, &self.options, self.rounds, self.blocked).rungs(steps, enough)
        else {
            return false;
        };
        let mut found = self.list(&rungs);
        found.trim(self.options.price);
        let price = self.options.price;
        if found.value(price) > self.best.value(price) + LEAST {
            self.best = found;
        }
        true
    }

    fn list(&mut self, rungs: &[Layout]) -> Found {
        let facts = &self.facts;
        let mut reached = true;
        let most = self.options.max_moves.unwrap_or(usize::MAX);
        let mut layout = Layout::today(facts);
        let mut shifts: Vec<Shift> = Vec::new();
        for rung in rungs {
            reached = order::lead(facts, &mut layout, rung, most, &mut shifts);
        }
        self.blocked = !reached;
        let mut layout = Layout::today(facts);
        let mut worth = self.best.before;
        let mut moves = Vec::with_capacity(shifts.len());
        for Shift { service, from, to } in shifts {
            worth += gain::of_shift(facts, &layout, service, from, to);
            let container =
                facts.containers(service).find(|container| layout.machine_of(*container) == from);
            if let Some(container) = container {
                layout.shift(facts, container, to);
            }
            moves.push(Move { service, from, to, worth });
        }
        Found { before: self.best.before, moves }
    }
}

/// The placements on the way of one round.
struct Climb<'a> {
    facts: &'a Facts,
    most_moves: u32,
    price: f64,
    seed: u64,
    /// Worth of all traffic, by container that has any: the scale of temperatures.
    unit: f64,
    busy: f64,
    careful: bool,
}

impl<'a> Climb<'a> {
    fn new(facts: &'a Facts, options: &Options, round: u64, careful: bool) -> Self {
        let busy: usize = (0..facts.services)
            .filter(|service| !facts.partners(*service).is_empty())
            .map(|service| facts.containers(service).len())
            .sum();
        let busy = busy.max(1) as f64;
        Self {
            facts,
            most_moves: options
                .max_moves
                .map_or(u32::MAX, |most| u32::try_from(most).unwrap_or(u32::MAX)),
            price: options.price,
            seed: options.seed.wrapping_add(round.wrapping_mul(0xD134_2543_DE82_EF95)),
            unit: (facts.machine_weight + facts.zone_weight) / busy,
            busy,
            careful,
        }
    }

    /// Placements for growing budgets, the last one for the whole; `None` when cut
    /// short.
    fn rungs(&self, steps: u64, enough: &mut dyn FnMut() -> bool) -> Option<Vec<Layout>> {
        let mut annealer = Annealer::new(self.facts, Layout::today(self.facts), self.seed);
        let before = annealer.worth;
        if !annealer.run(self.summit(steps / 100 * SUMMIT_PERCENT), enough) {
            return None;
        }
        let (height, moves) = (annealer.worth - before, annealer.moves);
        let summit = annealer.layout.clone();
        annealer.aim();
        annealer.restart();
        let budgets = budgets(moves);
        let share = steps / 100 * (100 - SUMMIT_PERCENT) / budgets.len().max(1) as u64;
        let mut rungs = Vec::new();
        let mut climbed = 0;
        for budget in budgets {
            let budget = u32::saturating_sub(budget, climbed);
            if budget == 0 {
                continue;
            }
            let price = PRICE * height / f64::from(budget + climbed);
            let cooling = Cooling {
                steps: share,
                hot: self.unit,
                cold: self.unit / 60.0,
                price: price.max(self.price),
                most_moves: budget,
                slope: price / 10.0,
                detour: 2.0 * height / f64::from(moves.max(1)),
                careful: self.careful,
                last_price: price.max(self.price),
            };
            if !annealer.run(cooling, enough) {
                return None;
            }
            climbed += annealer.moves;
            annealer.settle();
            rungs.push(annealer.layout.clone());
        }
        rungs.push(summit);
        Some(rungs)
    }

    /// A move that brings next to nothing is noise.
    fn least_price(&self) -> f64 {
        self.price.max(self.unit / 240.0)
    }

    fn summit(&self, steps: u64) -> Cooling {
        let part = f64::from(self.most_moves) / self.busy;
        let price = PRICE * (self.facts.machine_weight + self.facts.zone_weight) * 0.8
            / f64::from(self.most_moves);
        Cooling {
            steps,
            hot: self.unit * (20.0 * part * part).clamp(0.8, 16.0),
            cold: self.unit / 60.0,
            price: price.max(self.least_price()),
            most_moves: self.most_moves,
            slope: slope(price, self.most_moves),
            detour: 0.0,
            careful: self.careful,
            last_price: self.least_price(),
        }
    }
}

/// Going over a budget by 2 % doubles the price of a move. The list is cut at the budget
/// in any case; a softer limit while annealing keeps it able to change its mind.
fn slope(price: f64, budget: u32) -> f64 {
    price / (0.02 * f64::from(budget)).max(0.1)
}

const SUMMIT_PERCENT: u64 = 60;
const PRICE: f64 = 0.2;

/// Budgets of the rungs below a summit, smallest first.
fn budgets(moves: u32) -> Vec<u32> {
    let mut budgets = Vec::new();
    let mut budget = f64::from(moves) * 0.85;
    while budget >= 16.0 {
        budgets.push(budget as u32);
        budget *= 0.65;
    }
    budgets.reverse();
    budgets
}
