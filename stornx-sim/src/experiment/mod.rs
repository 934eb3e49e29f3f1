//! Experiments: one run, many seeds, several policies side by side.

pub mod demand;
pub mod statistics;
