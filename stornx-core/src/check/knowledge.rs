//! What is not known is not decided on: routes are improved, undone or led around a rollout
//! only on fresh traffic, and return to the replica-proportional split only when traffic
//! has been stale for the configured time and weights of ours stand.
//!
//! How long traffic has been stale is what the memory says: a restart neither shortens the
//! wait nor begins a decay by itself.

use super::{Violation, ground::Ground};
use crate::{
    ids::HostName,
    model::Rule,
    plan::{Action, RoutePurpose},
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let known = ground.snapshot.traffic.fresh().is_some();
    for action in ground.actions() {
        let Action::SetRoutes { host, purpose, .. } = action else { continue };
        match purpose {
            // Naming a zone does not wait for metrics.
            RoutePurpose::Cover => {}
            RoutePurpose::Improve | RoutePurpose::Undo | RoutePurpose::Rollout => {
                if !known {
                    let (host, purpose) = (host.clone(), *purpose);
                    violations.push(Violation::TrafficNotKnown { host, purpose });
                }
            }
            RoutePurpose::Decay => {
                if let Some(detail) = unfounded(ground, host, known) {
                    let host = host.clone();
                    violations.push(Violation::DecayUnfounded { host, detail });
                }
            }
        }
    }
}

/// Why weights may not decay.
fn unfounded(ground: &Ground<'_>, host: &HostName, known: bool) -> Option<&'static str> {
    if known {
        return Some("traffic is known");
    }
    let stands = ground.hosts.get(host).is_some_and(|host| matches!(host.rule, Rule::Ours(_)));
    if !stands {
        return Some("no weights of ours stand");
    }
    let since = ground.memory.hosts.get(host).and_then(|memory| memory.stale_since);
    let waited = since.map(|since| ground.planned.plan.at.since(since));
    let long_enough = ground.policy.balancer.stale_after.as_millis() == 0
        || waited.is_some_and(|waited| waited >= ground.policy.balancer.stale_after);
    (!long_enough).then_some("traffic has not been stale for BALANCER_STALE_SECONDS")
}
