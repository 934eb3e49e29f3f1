//! What is not known is not decided on: routes are improved, undone or led around a rollout
//! only on fresh traffic, and return to the replica-proportional split only when traffic,
//! all of it or that of the host, has been unknown for the configured time and weights of
//! ours stand. What is undone has been seen for a full window.
//!
//! How long traffic has been unknown is what the memory says: a restart neither shortens the
//! wait nor begins a decay by itself.

use super::{Violation, ground::Ground};
use crate::{
    ids::{HostName, ZoneName},
    model::{Edge, Facts, Rule},
    plan::{Action, RoutePurpose},
    units::Span,
};

/// Rates over less than a minute tell too little to undo anything.
const LEAST_WINDOW: Span = Span::from_seconds(60);

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
                } else if *purpose == RoutePurpose::Undo
                    && let Some(detail) = hasty(ground, host)
                {
                    violations.push(Violation::UndoneUnseen { host: host.clone(), detail });
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

/// Why it cannot be known yet what a run of writes has done.
fn hasty(ground: &Ground<'_>, host: &HostName) -> Option<&'static str> {
    let memory = ground.memory.hosts.get(host);
    if memory.is_none_or(|memory| memory.expectation.is_none()) {
        return Some("what stood before it is not known");
    }
    let Facts::Fresh { as_of, value, .. } = &ground.snapshot.traffic else { return None };
    let window = value.window.max(LEAST_WINDOW);
    let seen_until = (*as_of).min(ground.planned.plan.at);
    let written = memory.and_then(|memory| memory.written_at);
    written
        .is_some_and(|at| seen_until < at.after(window))
        .then_some("the window of the metrics does not lie after the last write")
}

/// Whether requests to a host, or bytes, are counted between places that there are.
fn is_called(ground: &Ground<'_>, host: &HostName) -> bool {
    let here = |zone: &ZoneName| ground.zones.contains(zone);
    let known = |edge: &&&Edge| {
        ground.workloads.contains_key(&edge.caller) && ground.workloads.contains_key(&edge.callee)
    };
    let routes = ground.edges_of(host).iter().filter(known).flat_map(|edge| &edge.routes);
    routes.filter(|route| here(&route.from) && here(&route.to)).any(|route| {
        let bytes = route.request_bytes + route.response_bytes;
        route.requests.get() > 0.0 || bytes.get() > 0.0
    })
}

/// Why weights may not decay.
fn unfounded(ground: &Ground<'_>, host: &HostName, known: bool) -> Option<&'static str> {
    if known && is_called(ground, host) {
        return Some("traffic is known");
    }
    let stands = ground.hosts.get(host).is_some_and(|host| matches!(host.rule, Rule::Ours(_)));
    if !stands {
        return Some("no weights of ours stand");
    }
    let memory = ground.memory.hosts.get(host);
    let stale = memory.and_then(|memory| memory.stale_since).filter(|_| !known);
    let unseen = memory.and_then(|memory| memory.unseen_since);
    let since = stale.into_iter().chain(unseen).min();
    let waited = since.map(|since| ground.planned.plan.at.since(since));
    let long_enough = ground.policy.balancer.stale_after.as_millis() == 0
        || waited.is_some_and(|waited| waited >= ground.policy.balancer.stale_after);
    (!long_enough).then_some("traffic has not been unknown for BALANCER_STALE_SECONDS")
}
