//! Tests of moves.

mod layouts;
mod settling;
mod toy;
