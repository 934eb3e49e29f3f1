//! A simulated cluster.

pub mod baseline;
pub mod dataset;
pub mod experiment;
pub mod files;
pub mod plot;
