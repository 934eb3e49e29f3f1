//! Placement data sets: reading, the figure of merit, an independent check of
//! feasibility, the search of the product, and a plain local search to measure it by.

pub mod affinity;
pub mod feasibility;
pub mod kernel;
pub mod place;
pub mod rasa;
pub mod snapshot;
