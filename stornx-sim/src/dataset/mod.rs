//! Placement data sets: reading, the figure of merit, an independent check of
//! feasibility, and a plain local search to measure by.

pub mod affinity;
pub mod feasibility;
pub mod place;
pub mod rasa;
pub mod snapshot;
