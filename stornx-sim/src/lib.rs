//! A simulated cluster.

pub mod dataset;
pub mod files;
