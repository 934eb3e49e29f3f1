//! Since when a host has no figures of its own, though the cluster has some.
//!
//! Callers that lose their proxies, or series that vanish, leave a host whose weights nobody
//! follows any more. So what holds for the cluster without metrics holds for each host: after
//! `BALANCER_STALE_SECONDS` without a request its weights decay. Figures that come back after
//! that are acted on once they have been there for as long: a caller that shows up now and
//! then would else have its weights rewritten each time it comes and each time it goes.

use crate::{
    memory::HostMemory,
    model::Rule,
    units::Span,
    view::{HostIndex, View},
};

/// Whether any request to a host is seen, or bytes where requests are not counted.
pub(crate) fn is_called(view: &View<'_>, host: HostIndex) -> bool {
    view.hosts[host.at()].edges.iter().any(|edge| {
        let edge = &view.edges[edge.at()];
        edge.requests > 0.0 || edge.bytes > 0.0
    })
}

/// The time that figures must still be there before anything rests on them, where they were
/// away for so long that weights began to decay.
pub(crate) fn back_too_short(memory: &HostMemory, view: &View<'_>) -> Option<Span> {
    let wait = view.policy.balancer.stale_after;
    let since = memory.unseen_since?;
    let back = memory.seen_since.unwrap_or(view.now);
    let until = back.after(wait);
    (back.since(since) >= wait && until > view.now).then(|| until.since(view.now))
}

/// Notes whether there are figures. Times are kept for weights of ours alone, and change only
/// when figures come or go.
pub(crate) fn remember(view: &View<'_>, host: HostIndex, kept: &mut HostMemory) {
    let ours = matches!(view.hosts[host.at()].host.rule, Rule::Ours(_));
    if !view.has_traffic {
        kept.stale_since.get_or_insert(view.now);
        kept.seen_since = None;
        return;
    }
    let stale = kept.stale_since.take();
    if !ours {
        (kept.unseen_since, kept.seen_since) = (None, None);
    } else if !is_called(view, host) {
        // Nothing was seen of it before that either.
        kept.unseen_since.get_or_insert(stale.unwrap_or(view.now));
        kept.seen_since = None;
    } else if kept.unseen_since.is_some() {
        kept.seen_since.get_or_insert(view.now);
        if back_too_short(kept, view).is_none() {
            (kept.unseen_since, kept.seen_since) = (None, None);
        }
    }
}
