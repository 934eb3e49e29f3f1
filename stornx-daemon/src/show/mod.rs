//! Results as people read them. Shows what was decided; decides nothing.

pub(crate) mod demo;
mod explain;
mod plan;
mod table;
pub(crate) mod words;

pub(crate) use self::{explain::explain, plan::plan};
