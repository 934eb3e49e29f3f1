//! Tests of moves.

mod costs;
mod doubts;
mod layouts;
mod memories;
mod settling;
mod slowness;
mod states;
mod toy;
