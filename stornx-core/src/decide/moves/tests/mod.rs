//! Tests of moves.

mod layouts;
