//! The independent checker of plans: the invariants of the design, verified by code
//! that shares nothing with the planner but the data types. It runs on every plan, in
//! tests, in simulation and before acting; a plan with one violation is dropped whole.
//!
//! It judges what a plan would do, never whether it is the best plan. Where the report
//! makes a claim that an invariant rests on (the step of a cycle, a predicted
//! utilisation), the claim is held against the invariant and, as far as the snapshot
//! tells, against the facts.
//!
//! It assumes a snapshot as it is: replicas count as endpoints while they are Ready on
//! a node that exists. What is not known (stale usage, missing traffic) forbids nothing
//! by itself, except where the design asks for knowledge.
//!
//! | room | invariants |
//! | --- | --- |
//! | `names` | every id exists, every action has its reason, nothing is done twice |
//! | `routes`, `steps` | 1 (coverage) and 2 (steps) |
//! | `knowledge` | routes that rest on traffic, while it is not known |
//! | `counts`, `spread` | 3 (minimum, maximum, disruption budget, zones and skew) |
//! | `moves` | 4 (replacement first, counts conserved) |
//! | `zone_loss` | 5 |
//! | `utilisation` | 6 |
//! | `shares` | what weights come to where zones are divided |
//! | `ownership` | 7 and 9 (whose it is, and where) |
//! | `budgets` | 8 |
//! | `placement` | a new replica can run where it is put |
//! | `leftovers` | only what is left over is tidied up |

mod budgets;
mod counts;
mod ground;
mod knowledge;
mod leftovers;
mod moves;
mod names;
mod ownership;
mod placement;
mod routes;
mod shares;
mod spread;
mod steps;
#[cfg(test)]
mod tests;
mod utilisation;
mod violation;
mod zone_loss;

use self::ground::Ground;
pub use self::violation::{Owner, Violation};
use crate::{
    memory::Memory,
    model::{Grain, Snapshot},
    plan::{Action, Planned},
    policy::Policy,
};

/// Everything in `planned` that must not be done; empty when it may be carried out.
/// The order is that of the rules above and, within a rule, that of the plan.
#[must_use]
pub fn check(
    snapshot: &Snapshot,
    policy: &Policy,
    memory: &Memory,
    planned: &Planned,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    if planned.plan.actions.is_empty() && planned.report.actions.is_empty() {
        return violations;
    }
    let ground = Ground::new(snapshot, policy, memory, planned);
    names::check(&ground, &mut violations);
    if !violations.is_empty() {
        // Every other rule reads ids and reasons as given.
        return violations;
    }
    for part in parts(snapshot, policy, memory, planned) {
        let snapshot = part.snapshot.as_ref().unwrap_or(snapshot);
        let ground = Ground::new(snapshot, policy, memory, &part.planned);
        routes::check(&ground, &mut violations);
        steps::check(&ground, &mut violations);
        utilisation::check(&ground, &mut violations);
    }
    knowledge::check(&ground, &mut violations);
    counts::check(&ground, &mut violations);
    spread::check(&ground, &mut violations);
    moves::check(&ground, &mut violations);
    zone_loss::check(&ground, &mut violations);
    ownership::check(&ground, &mut violations);
    budgets::check(&ground, &mut violations);
    placement::check(&ground, &mut violations);
    leftovers::check(&ground, &mut violations);
    violations
}

/// Routes of hosts that are planned between the same places, with everything else of the
/// plan.
struct Part {
    /// The cluster with those places; `None` for the one as it is.
    snapshot: Option<Snapshot>,
    planned: Planned,
}

/// The plan by what its routes are planned between: zones, or where that is asked for and can
/// be, nodes.
fn parts(snapshot: &Snapshot, policy: &Policy, memory: &Memory, planned: &Planned) -> Vec<Part> {
    let grain = Grain::of(snapshot, policy.balancer.granularity, memory);
    let part = |fine: bool| {
        let mut part = planned.clone();
        let keeps: Vec<bool> = planned
            .plan
            .actions
            .iter()
            .map(|action| match action {
                Action::SetRoutes { host, .. } => grain.is_fine(host) == fine,
                _ => true,
            })
            .collect();
        let (mut actions, mut reasons) = (keeps.iter(), keeps.iter());
        part.plan.actions.retain(|_| actions.next().copied().unwrap_or(true));
        part.report.actions.retain(|_| reasons.next().copied().unwrap_or(true));
        part
    };
    let mut parts = vec![Part { snapshot: None, planned: part(false) }];
    if let Some(fine) = &grain.fine {
        parts.push(Part { snapshot: Some(fine.clone()), planned: part(true) });
    }
    parts
}
