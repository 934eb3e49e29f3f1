//! OptiBalancer: the routing weights of every host.
//!
//! For each host it finds what stands, repairs what is not covered, and otherwise moves one
//! step from what stands towards the target. The target is a minimum-cost flow over all
//! callers of the host at once; the step keeps promises of its own. In between lies the
//! judgement whether the target is worth going to at all: inputs are counted over a minute,
//! and a rule rewritten for noise costs every proxy of the mesh an update.
//!
//! | file | decides |
//! | --- | --- |
//! | `table`, `split` | what stands, and whether every zone is named |
//! | `observe` | what this cycle's metrics say |
//! | `figures` | since when they say nothing of a host |
//! | `capacity` | what is believed, remembered and seen together |
//! | `congestion` | what load costs |
//! | `flow`, `round` | the exact optimum, and its whole numbers |
//! | `target`, `proportional` | the target by either rule |
//! | `worth` | whether the target is worth a change |
//! | `effective` | what weights come to where zones have subzones |
//! | `step`, `hold` | how far to go in this cycle |
//! | `rollout` | whether a rollout gets on, which routes sit out |
//! | `follow` | whether the mesh does what was written |
//! | `verify`, `untouched` | whether the last change made things worse, and against what |
//! | `remember` | what the next cycle starts with |
//!
//! Refuses, with a reason each: hosts that are not ours to write, that have no or several
//! workloads, that have only one zone to go to, and all changes but repairs while metrics
//! are missing.

mod capacity;
mod congestion;
mod decide;
mod effective;
mod figures;
mod flow;
mod follow;
#[cfg(test)]
mod frontier;
mod hold;
mod host;
mod observe;
mod proportional;
mod remember;
mod rollout;
mod round;
mod split;
mod step;
mod table;
mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod untouched;
mod verify;
mod worth;

pub use self::effective::{EndpointGroups, effective_shares, effective_weight, nearest_weights};
pub(crate) use self::{
    decide::{Routed, decide},
    remember::remember_hosts,
};
