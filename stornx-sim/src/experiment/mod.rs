//! Experiments: one run, many seeds, several policies side by side.

mod compare;
mod curves;
pub mod demand;
mod figures;
mod outcome;
mod policy;
mod proxies;
pub mod recovery;
mod run;
pub mod statistics;
mod table;

pub use self::{
    compare::{Comparison, PolicyFigures, compare, disturbance},
    curves::chart,
    figures::{Figures, RunFigures},
    outcome::{Below, Outcome, uneven},
    policy::{PolicyName, UnknownPolicy},
    run::{CycleRecord, Moment, Run, RunError, run},
    statistics::Figure,
    table::{comparison as comparison_table, outcomes as outcome_tables},
};
