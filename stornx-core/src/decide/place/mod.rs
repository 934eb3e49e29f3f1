//! Where a new replica goes, and which replica leaves.
//!
//! | file | decides |
//! | --- | --- |
//! | `layout` | where the replicas of one workload are, promised ones included |
//! | `feasible` | which nodes can take another replica, and what keeps the others out |
//! | `spread` | in which of their zones it may go |
//! | `ends` | where its requests come from and go to |
//! | `travel` | what its requests would travel from a node |
//! | `least_used` | how full a node is |
//! | `choose` | the node, from all of these |
//! | `remove` | the replica that leaves |
//! | `next` | the nodes for replicas that others ask for |
//!
//! Placing for one workload takes time proportional to the nodes of the cluster plus
//! the replicas of its neighbours. Known weakness: replicas are placed one after the
//! other, each the best for itself; moves correct what that leaves.

mod choose;
mod ends;
mod feasible;
mod layout;
mod least_used;
mod next;
mod remove;
mod spread;
#[cfg(test)]
mod tests;
mod travel;

use self::travel::Travel;
pub(crate) use self::{choose::place, least_used::used_share, next::Next, remove::remove};

/// What costs are compared with: sums of floating-point numbers taken in another order
/// differ by far less, and costs that differ by less are equal for every purpose.
const TIE: f64 = 1e-9;

/// Keeps the items with the least value; values closer than [`TIE`] of `scale` are
/// equal, so that rounding never decides.
fn keep_least<T>(items: &mut Vec<(T, f64)>, scale: f64) {
    let least = items.iter().map(|(_, value)| *value).min_by(f64::total_cmp);
    if let Some(least) = least {
        items.retain(|(_, value)| *value <= least + TIE * scale.abs());
    }
}
