//! OptiBalancer.

pub(crate) mod split;
pub(crate) mod step;
#[cfg(test)]
mod testing;
