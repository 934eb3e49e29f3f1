//! Tests of moves.

mod bundles;
mod costs;
mod doubts;
mod layouts;
mod memories;
mod model;
mod settling;
mod slowness;
mod states;
mod toy;
