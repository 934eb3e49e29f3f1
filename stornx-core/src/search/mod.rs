//! Search over placements.
mod anneal;
mod facts;
mod gain;
mod layout;
mod problem;
mod random;

pub use problem::{Edge, Machine, Problem, ProblemError, Service, Spread, Weights};

/// Experiment.
pub fn experiment(problem: &Problem, args: &[f64], enough: &mut dyn FnMut() -> bool, log: &mut dyn FnMut(&str)) {
    let facts = facts::Facts::new(problem);
    let mut annealer = anneal::Annealer::new(&facts, layout::Layout::today(&facts), 1);
    log(&format!("start {}", annealer.worth));
    let cooling = anneal::Cooling { steps: args[0] as u64, hot: args[1], cold: args[2], price: args[3], most_moves: args[4] as u32 };
    annealer.run(cooling, enough);
    log(&format!("end {} {} moves {}", annealer.worth, gain::total(&facts, &annealer.layout), annealer.moves));
}
