//! What is remembered of hosts after a cycle: beliefs, the run of writes under way, and
//! the back-off of a run that was undone.

use std::{cell::OnceCell, collections::BTreeMap};

use super::{
    figures, follow,
    host::HostState,
    observe::Changing,
    rollout, table,
    untouched::{self, Busiest},
    verify,
};
use crate::{
    ids::HostName,
    memory::{HostMemory, Memory, Untouched},
    model::{Grain, RouteTable, Rule},
    plan::{Action, Planned, RoutePurpose},
    ports::PortError,
    remember::Outcomes,
    report::Effect,
    units::Timestamp,
    view::{HostIndex, View, WorkloadIndex},
};

/// What was written for a host.
struct Write<'a> {
    from: &'a RouteTable,
    purpose: RoutePurpose,
}

/// The other hosts, of which some are what a run is compared with.
struct Others<'a> {
    /// When each was written last, this cycle's writes included.
    written: &'a [Option<Timestamp>],
    busiest: &'a OnceCell<Busiest>,
}

impl Others<'_> {
    fn untouched(
        &self,
        view: &View<'_>,
        host: HostIndex,
        workload: WorkloadIndex,
    ) -> BTreeMap<HostName, Untouched> {
        let busiest = self.busiest.get_or_init(|| Busiest::of(view));
        untouched::record(view, host, workload, self.written, busiest)
    }
}

/// What is remembered of hosts after a cycle.
pub(crate) fn remember_hosts(
    memory: &mut Memory,
    by_zone: &View<'_>,
    planned: &Planned,
    outcomes: &Outcomes,
) {
    let asked = by_zone.policy.balancer.granularity;
    let grain = Grain::of(by_zone.snapshot, asked, memory);
    let by_node = grain.fine.as_ref().map(|fine| View::new(fine, by_zone.policy, by_zone.now));
    let now = by_zone.now;
    let writes = writes(planned, outcomes);
    note_refusals(memory, planned, outcomes, now);
    let mut earlier = std::mem::take(&mut memory.hosts);
    let done = |name| writes.binary_search_by(|(host, _)| (*host).cmp(name)).ok();
    // When each host was written last, this cycle's writes included.
    let written: Vec<Option<Timestamp>> = by_zone
        .hosts
        .iter()
        .map(|host| match done(&host.host.name) {
            Some(_) => Some(now),
            None => earlier.get(&host.host.name).and_then(|host| host.written_at),
        })
        .collect();
    // Ranked when the first one asks: most cycles begin no run.
    let (ranked, ranked_by_node) = (OnceCell::new(), OnceCell::new());
    for (at, host) in by_zone.hosts.iter().enumerate() {
        let name = &host.host.name;
        // Hosts and workloads have the same numbers in both.
        let (view, ranked) = match &by_node {
            Some(by_node) if grain.is_fine(name) => (by_node, &ranked_by_node),
            _ => (by_zone, &ranked),
        };
        let mut kept = earlier.remove(name).unwrap_or_default();
        let write = done(name).map(|at| &writes[at].1);
        let others = Others { written: &written, busiest: ranked };
        let report = planned.report.hosts.get(name);
        let effect = report.and_then(|report| report.verification.as_ref()?.effect.as_ref());
        remember_host(view, HostIndex::new(at), write, effect, &others, &mut kept);
        kept.old_callers = grain.old_callers(name).cloned().unwrap_or_default();
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

/// Notes which writes were refused, and forgets it of those that were not.
fn note_refusals(memory: &mut Memory, planned: &Planned, outcomes: &Outcomes, now: Timestamp) {
    for (action, outcome) in planned.plan.actions.iter().zip(outcomes) {
        let (Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. }) = action else {
            continue;
        };
        match outcome {
            Ok(()) => {
                if let Some(kept) = memory.hosts.get_mut(host) {
                    kept.refused_at = None;
                }
            }
            // Nobody was asked.
            Err(PortError::NotTried { .. } | PortError::NotLeader { .. }) => {}
            Err(_) => memory.hosts.entry(host.clone()).or_default().refused_at = Some(now),
        }
    }
}

fn remember_host(
    view: &View<'_>,
    host: HostIndex,
    write: Option<&Write<'_>>,
    effect: Option<&Effect>,
    others: &Others<'_>,
    kept: &mut HostMemory,
) {
    let Some(workload) = view.hosts[host.at()].workload else {
        // A workload that is made anew under its name is back in a moment.
        let HostMemory { refused_at, backoff, .. } = *kept;
        *kept = HostMemory { refused_at, backoff, ..HostMemory::default() };
        return;
    };
    note_following(view, host, workload, kept);
    rollout::remember(view, workload, kept);
    figures::remember(view, host, kept);
    if view.has_traffic {
        // What is believed does not depend on what is about to change.
        let state = HostState::new(view, host, workload, Some(kept), Changing::default());
        state.beliefs.keep(view, kept);
        if let Some(Write { from, purpose: RoutePurpose::Improve }) = write
            && kept.expectation.is_none()
        {
            kept.expectation = Some(verify::expect(view, &state.seen));
            kept.untouched = others.untouched(view, host, workload);
            kept.before = Some((*from).clone());
        }
    }
    if write.is_some() {
        // The doubt was about other weights.
        kept.astray_since = None;
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
                match effect {
                    // Judged and good: earlier disappointments are forgiven.
                    Some(Effect::NoWorse { .. }) => {
                        kept.backoff = None;
                        close_run(kept);
                    }
                    // It is to be taken back, which could not be done yet.
                    Some(Effect::Worse { ours: true, .. }) if !verify::too_late(kept, view) => {}
                    _ => close_run(kept),
                }
            }
        }
    }
}

/// Notes whether requests fall as the weights say that stand.
fn note_following(
    view: &View<'_>,
    host: HostIndex,
    workload: WorkloadIndex,
    kept: &mut HostMemory,
) {
    let ready = &view.workloads[workload.at()].ready;
    let facts = view.hosts[host.at()].host;
    if matches!(facts.rule, Rule::Ours(_)) {
        let standing = table::standing(view, facts, ready);
        if !standing.broken {
            let found = follow::following(view, host, workload, Some(kept), &standing.split);
            follow::remember(view, &found, kept);
            return;
        }
    }
    kept.astray_since = None;
}

/// Forgets what a run is judged by.
fn close_run(kept: &mut HostMemory) {
    kept.expectation = None;
    kept.untouched.clear();
    kept.before = None;
}
