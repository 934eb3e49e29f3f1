//! OptiBalancer.

pub(crate) mod flow;
pub(crate) mod split;
pub(crate) mod step;
#[cfg(test)]
mod testing;
