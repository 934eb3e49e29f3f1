//! Every interleaving of moves with everything that may happen meanwhile.

mod actors;
mod daemon;
mod faults;
mod product;
mod properties;
mod replay;
mod run;
mod traces;
mod world;
