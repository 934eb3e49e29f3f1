//! What is remembered of hosts after a cycle: beliefs, the run of writes under way, and
//! the back-off of a run that was undone.

use super::{
    host::HostState,
    observe::{CallerView, Changing},
    verify,
};
use crate::{
    ids::HostName,
    memory::{HostMemory, Memory},
    model::{RouteTable, Snapshot},
    plan::{Action, Planned, RoutePurpose},
    policy::Policy,
    remember::Outcomes,
    units::Timestamp,
    view::{HostIndex, View},
};

/// What was written for a host.
struct Write<'a> {
    from: &'a RouteTable,
    purpose: RoutePurpose,
}

/// What is remembered of hosts after a cycle.
pub(crate) fn remember_hosts(
    memory: &mut Memory,
    snapshot: &Snapshot,
    planned: &Planned,
    outcomes: &Outcomes,
    policy: &Policy,
    now: Timestamp,
) {
    let view = View::new(snapshot, policy, now);
    let writes = writes(planned, outcomes);
    let everything = CallerView::of_all(&view);
    let mut earlier = std::mem::take(&mut memory.hosts);
    for (at, host) in view.hosts.iter().enumerate() {
        let name = &host.host.name;
        let mut kept = earlier.remove(name).unwrap_or_default();
        let write = writes.binary_search_by(|(host, _)| (*host).cmp(name)).ok();
        let write = write.map(|at| &writes[at].1);
        remember_host(&view, HostIndex::new(at), write, everything, &mut kept);
        if kept != HostMemory::default() {
            memory.hosts.insert(name.clone(), kept);
        }
    }
}

/// The writes that were done, by host.
fn writes<'a>(planned: &'a Planned, outcomes: &Outcomes) -> Vec<(&'a HostName, Write<'a>)> {
    let done = planned.plan.actions.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
    let mut writes: Vec<_> = done
        .filter_map(|(action, _)| match action {
            Action::SetRoutes { host, from, purpose, .. } => {
                Some((host, Write { from, purpose: *purpose }))
            }
            _ => None,
        })
        .collect();
    writes.sort_by(|a, b| a.0.cmp(b.0));
    writes
}

fn remember_host(
    view: &View<'_>,
    host: HostIndex,
    write: Option<&Write<'_>>,
    everything: CallerView,
    kept: &mut HostMemory,
) {
    let Some(workload) = view.hosts[host.at()].workload else {
        *kept = HostMemory::default();
        return;
    };
    if view.has_traffic {
        kept.stale_since = None;
        // What is believed does not depend on what is about to change.
        let state = HostState::new(view, host, workload, Some(kept), Changing::default());
        state.beliefs.keep(view, kept);
        if let Some(Write { from, purpose: RoutePurpose::Improve }) = write
            && kept.expectation.is_none()
        {
            let seen = CallerView::of_host(view, host);
            kept.expectation = Some(verify::expect(view, &state.seen, seen, everything));
            kept.before = Some((*from).clone());
        }
    } else if kept.stale_since.is_none() {
        kept.stale_since = Some(view.now);
    }
    match write.map(|write| write.purpose) {
        Some(RoutePurpose::Improve) => kept.written_at = Some(view.now),
        Some(RoutePurpose::Undo) => {
            let first = view.policy.balancer.backoff;
            kept.backoff = Some(verify::back_off(kept.backoff, first, view.now));
            kept.written_at = Some(view.now);
            close_run(kept);
        }
        Some(RoutePurpose::Decay | RoutePurpose::Rollout) => {
            kept.written_at = Some(view.now);
            close_run(kept);
        }
        // Naming a zone moves a point or two: the run goes on.
        Some(RoutePurpose::Cover) => {}
        None => {
            if view.has_traffic && kept.expectation.is_some() && verify::run_over(kept, view) {
                // The run is judged and good: earlier disappointments are forgiven.
                kept.backoff = None;
                close_run(kept);
            }
        }
    }
}

/// Forgets what a run is judged by.
fn close_run(kept: &mut HostMemory) {
    kept.expectation = None;
    kept.before = None;
}
