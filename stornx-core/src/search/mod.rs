//! Search over placements: which few moves make a placement worth most.
//!
//! Decides an ordered list of single moves. Every prefix is feasible (room on the
//! receiving machine, compatible machines, most per machine, zones kept, skew), best
//! saving per move first, so that a budget of k moves is the first k.
//!
//! How: the summit is the placement that annealing finds for the whole budget; rungs
//! are placements for smaller budgets, each annealed from the rung below with a price
//! on leaving the way to the summit; the list climbs from rung to rung.
//!
//! Since a move goes from one machine to another, replacement first and victim first
//! need the same room: on the machine that receives. Each prefix is what the cluster
//! looks like once its last move is complete.
//!
//! Pure: effort is counted in steps, the seed is an argument, and a caller who must
//! answer in time says so through `enough`. The same problem, options and answers of
//! `enough` give the same list.

mod affinity;
mod anneal;
mod climb;
mod deepen;
mod facts;
mod gain;
mod layout;
mod order;
mod problem;
mod random;
mod rounds;
mod terrain;

pub use affinity::{Found, Move, Options, Search, search, search_in_lanes};
pub(crate) use facts::Facts;
pub(crate) use layout::Layout;
pub use problem::{Edge, Machine, Problem, ProblemError, Service, Spread, Weights};
pub(crate) use rounds::Rounds;
pub(crate) use terrain::{Shift as Step, Terrain};
