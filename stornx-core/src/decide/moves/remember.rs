//! What is remembered of workloads after a cycle: moves in flight, back-off, what a
//! move was expected to do, which replicas look slow.
//!
//! A function of what was seen, planned and done, called twice by the engine: with
//! "everything will succeed" for the records that are stored before acting, and with
//! what came of it. An action that failed leaves no trace, so that the next cycle sees
//! the world and decides anew. Entries of workloads that are gone or not managed any
//! more are dropped: the memory stays as small as the cluster.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    doubt, payback, slow,
    verify::{self, Verdict},
};
use crate::{
    ids::{NodeName, PodName, WorkloadRef},
    memory::{Backoff, FinishedMove, Intent, Memory, MoveInFlight, Placed, WorkloadMemory},
    model::{Pod, Rollout, Snapshot, Traffic, Workload},
    plan::{AbortCause, Action, MoveEnd, MoveEnding, Planned},
    policy::Policy,
    remember::Outcomes,
    report::MoveReason,
    units::{Span, Timestamp},
    view::{Remembered, View},
};

/// What is remembered of workloads after a cycle.
pub(crate) fn remember_workloads(
    memory: &mut Memory,
    view: &View<'_>,
    planned: &Planned,
    outcomes: &Outcomes,
) {
    let cycle = Cycle { snapshot: view.snapshot, planned, policy: view.policy, now: view.now };
    cycle.drop_strangers(memory);
    cycle.judge_moves(memory);
    cycle.note_wishes(memory, view);
    cycle.note_slow(memory, view);
    cycle.drop_used_intents(memory);
    for (at, (action, outcome)) in planned.plan.actions.iter().zip(outcomes).enumerate() {
        if outcome.is_ok() {
            cycle.note_done(memory, at, action);
        }
    }
    memory.workloads.retain(|_, remembered| {
        cycle.drop_expired(remembered);
        *remembered != WorkloadMemory::default()
    });
}

/// How long a replica that was asked for is told where to run. Its controller makes it
/// within seconds; one that comes later is most likely another one.
const INTENT_STANDS: Span = Span::from_seconds(60);

/// How long after a move it may still be taken back: later, the world that it made
/// worse is another one.
const UNDO_WITHIN: Span = Span::from_seconds(1800);

/// How long the last move of a workload may still be taken back.
pub(super) fn undo_left(remembered: &WorkloadMemory, now: Timestamp) -> Span {
    let until = remembered.moved_at.map_or(now, |at| at.after(UNDO_WITHIN));
    until.since(now)
}

struct Cycle<'a> {
    snapshot: &'a Snapshot,
    planned: &'a Planned,
    policy: &'a Policy,
    now: Timestamp,
}

impl Cycle<'_> {
    fn traffic(&self) -> Option<&Traffic> {
        self.snapshot.traffic.fresh()
    }

    fn workload(&self, id: &WorkloadRef) -> Option<&Workload> {
        self.snapshot.workloads.iter().find(|workload| workload.id == *id)
    }

    fn drop_strangers(&self, memory: &mut Memory) {
        let namespaces = &self.policy.namespaces;
        let mut known: Vec<&WorkloadRef> = self
            .snapshot
            .workloads
            .iter()
            .filter(|workload| workload.managed)
            .map(|workload| &workload.id)
            .filter(|id| namespaces.is_empty() || namespaces.contains(&id.namespace()))
            .collect();
        known.sort();
        memory.workloads.retain(|id, _| known.binary_search(&id).is_ok());
    }

    /// Compares finished moves with what was expected of them.
    fn judge_moves(&self, memory: &mut Memory) {
        for (id, remembered) in &mut memory.workloads {
            let Some(expected) = &remembered.expectation else { continue };
            let disturbed = self.traffic().is_some_and(|traffic| self.disturbed(traffic, id));
            let verdict = verify::verdict(expected, self.traffic(), id, self.now, disturbed);
            match verdict {
                Verdict::Open => continue,
                Verdict::Unknown => {}
                Verdict::Satisfied => forgive(remembered),
                Verdict::Disappointed => self.disappoint(remembered),
                Verdict::Regressed => {
                    self.disappoint(remembered);
                    // Taking it back does not wait; what comes after it does.
                    if let Some(backoff) = &mut remembered.move_backoff {
                        backoff.until = self.now;
                    }
                }
            }
            remembered.expectation = None;
            remembered.last_move = remembered
                .last_move
                .take()
                .filter(|_| verdict == Verdict::Regressed)
                .map(|last| FinishedMove { regressed: true, ..last });
        }
    }

    /// Whether replicas of the workload or of one that it talks to are new: what is seen of
    /// the edges between them is not the work of a move then.
    fn disturbed(&self, traffic: &Traffic, id: &WorkloadRef) -> bool {
        let is_new = |id: &WorkloadRef| {
            self.workload(id).is_some_and(|workload| {
                let settling = |pod: &Pod| {
                    let cold = traffic.window.times(2);
                    pod.ready_since.is_none_or(|since| self.now.since(since) < cold)
                };
                workload.rollout == Rollout::InProgress || workload.pods.iter().any(settling)
            })
        };
        let others = traffic.edges.iter().filter_map(|edge| match id {
            id if edge.caller == *id => Some(&edge.callee),
            id if edge.callee == *id => Some(&edge.caller),
            _ => None,
        });
        is_new(id) || others.collect::<BTreeSet<_>>().into_iter().any(is_new)
    }

    /// One disappointment more: the wait doubles.
    fn disappoint(&self, remembered: &mut WorkloadMemory) {
        let failures = remembered.move_backoff.map_or(0, |backoff| backoff.failures);
        let failures = failures.saturating_add(1);
        let until = self.now.after(payback::backoff_span(self.policy, failures));
        remembered.move_backoff = Some(Backoff { until, failures });
    }

    /// Since when a move of each workload has been worth it, or none has, and which
    /// wishes did not last.
    fn note_wishes(&self, memory: &mut Memory, view: &View<'_>) {
        let changes = doubt::changes(view, &Remembered::of(view, memory));
        for (id, report) in &self.planned.report.workloads {
            let wanted = matches!(
                report.moves,
                MoveReason::Confirming { .. }
                    | MoveReason::BudgetUsedUp
                    | MoveReason::NeedsOthers { .. }
                    | MoveReason::NoRoom
                    | MoveReason::Started
            );
            if wanted {
                let remembered = memory.workloads.entry(id.clone()).or_default();
                remembered.wanted_since.get_or_insert(self.now);
                continue;
            }
            // What has nowhere to go needs no memory of it.
            if matches!(report.moves, MoveReason::WellPlaced { best: Some(_) })
                && let Some(at) = view.workload(id)
            {
                let remembered = memory.workloads.entry(id.clone()).or_default();
                let placed = doubt::standing(remembered, changes[at.at()]);
                let placed = placed.unwrap_or(Placed { since: self.now, lapsed: 0 });
                let lapsed = remembered.wanted_since.is_some();
                remembered.placed = Some(if lapsed { doubt::lapse(placed) } else { placed });
            }
            if let Some(remembered) = memory.workloads.get_mut(id) {
                remembered.wanted_since = None;
            }
        }
    }

    /// For how many cycles in a row each replica has looked slow. Without fresh traffic
    /// nothing is seen, and what was seen before counts no longer.
    fn note_slow(&self, memory: &mut Memory, view: &View<'_>) {
        for workload in view.workloads.iter().filter(|workload| workload.workload.managed) {
            let id = &workload.workload.id;
            let before = memory.workloads.get(id).map(|remembered| &remembered.slow);
            let count = |pod: &PodName| before.and_then(|slow| slow.get(pod)).copied().unwrap_or(0);
            let slow: BTreeMap<PodName, u32> = slow::suspects(view, workload)
                .into_iter()
                .map(|suspect| suspect.pod.pod.name.clone())
                .map(|pod| {
                    // Counted as far as it decides: a memory that grows is written anew
                    // in each cycle.
                    let cycles = count(&pod).saturating_add(1).min(slow::CYCLES);
                    (pod, cycles)
                })
                .collect();
            if !slow.is_empty() || before.is_some_and(|before| !before.is_empty()) {
                memory.workloads.entry(id.clone()).or_default().slow = slow;
            }
        }
    }

    /// Intents that a replica was created with are used up, others run out.
    fn drop_used_intents(&self, memory: &mut Memory) {
        for (id, remembered) in &mut memory.workloads {
            if remembered.intents.is_empty() {
                continue;
            }
            let pods = self.workload(id).map_or(&[][..], |workload| &workload.pods);
            remembered.intents.retain(|intent| intent.stands(pods, self.now));
        }
    }

    fn intend(&self, remembered: &mut WorkloadMemory, id: &WorkloadRef, nodes: &[NodeName]) {
        let steerable = self.workload(id).is_some_and(Workload::is_steerable);
        if steerable && self.snapshot.steering.is_given() {
            let until = self.now.after(INTENT_STANDS);
            let names = (0..).map(|number| self.now.after(Span::from_millis(number)));
            let intent =
                |(node, since): (&NodeName, _)| Intent { node: node.clone(), since, until };
            remembered.intents.extend(nodes.iter().zip(names).map(intent));
        }
    }

    fn note_done(&self, memory: &mut Memory, at: usize, action: &Action) {
        let Some(workload) = action.workload() else { return };
        let remembered = memory.workloads.entry(workload.clone()).or_default();
        match action {
            Action::AddReplicas { workload, nodes, .. } => {
                remembered.scaled_at = Some(self.now);
                self.intend(remembered, workload, nodes);
            }
            Action::RemoveReplicas { .. } => {
                remembered.scaled_at = Some(self.now);
            }
            Action::StartMove { workload, observed, way, victim, from, to } => {
                let known = self.workload(workload).map_or_else(Vec::new, |workload| {
                    workload.pods.iter().map(|pod| pod.name.clone()).collect()
                });
                let expected = self.planned.report.actions.get(at).map(|report| report.expected);
                remembered.wanted_since = None;
                remembered.placed = None;
                self.intend(remembered, workload, std::slice::from_ref(to));
                remembered.in_flight = Some(MoveInFlight {
                    started_at: self.now,
                    way: *way,
                    victim: victim.clone(),
                    from: from.clone(),
                    to: to.clone(),
                    replicas_before: *observed,
                    known_pods: known,
                    predicted_saving: expected
                        .map_or(0.0, |expected| expected.request_ms_per_second),
                    ending: None,
                });
            }
            Action::FinishMove { workload, replacement, .. } => {
                self.note_finished(remembered, workload, replacement);
                let replacement = replacement.clone();
                if let Some(record) = &mut remembered.in_flight {
                    record.ending = Some(MoveEnding::Finish { replacement });
                }
            }
            Action::AbortMove { cause, .. } => {
                if let Some(record) = &mut remembered.in_flight {
                    record.ending = Some(MoveEnding::Undo { cause: *cause });
                }
            }
            Action::GiveBackMinimum { workload, ending: Some(ending), .. } => {
                if let MoveEnding::Finish { replacement } = ending {
                    self.note_finished(remembered, workload, replacement);
                }
                if let Some(record) = &mut remembered.in_flight {
                    record.ending = Some(ending.clone());
                }
            }
            Action::CloseMove { workload, end, .. } => {
                match end {
                    MoveEnd::Done => self.note_closed(remembered, workload),
                    MoveEnd::GivenUp(cause) => self.note_given_up(remembered, *cause),
                }
                remembered.in_flight = None;
            }
            Action::GiveBackMinimum { ending: None, .. }
            | Action::Unmark { .. }
            | Action::Release { .. }
            | Action::SetRoutes { .. }
            | Action::GiveBackRoutes { .. } => {}
        }
    }

    /// The victim is gone. What the end of a move leaves was noted when it was asked for,
    /// unless it ended without us: by eviction, or in a crash.
    fn note_closed(&self, remembered: &mut WorkloadMemory, workload: &WorkloadRef) {
        let Some(record) = remembered.in_flight.as_ref() else { return };
        if remembered.moved_at.is_some_and(|moved| moved >= record.started_at) {
            return;
        }
        let pods = self.workload(workload).map_or(&[][..], |workload| &workload.pods);
        let replaces = |pod: &&Pod| {
            pod.node.as_ref() == Some(&record.to) && !record.known_pods.contains(&pod.name)
        };
        if let Some(pod) = pods.iter().find(replaces) {
            self.note_finished(remembered, workload, &pod.name);
        }
    }

    fn note_finished(
        &self,
        remembered: &mut WorkloadMemory,
        workload: &WorkloadRef,
        replacement: &PodName,
    ) {
        let Some(record) = remembered.in_flight.as_ref() else { return };
        let (victim, came_from) = (record.victim.clone(), record.from.clone());
        let was_undo = remembered.last_move.take().is_some_and(|last| last.regressed);
        remembered.moved_at = Some(self.now);
        remembered.slow.remove(&victim);
        self.back_off(remembered);
        // What is taken back is not taken back again.
        remembered.expectation = None;
        if let (false, Some(traffic)) = (was_undo, self.traffic()) {
            remembered.expectation = Some(verify::expectation(traffic, workload, self.now));
            remembered.last_move = Some(FinishedMove {
                replacement: replacement.clone(),
                came_from,
                regressed: false,
            });
        }
    }

    fn note_given_up(&self, remembered: &mut WorkloadMemory, cause: AbortCause) {
        remembered.last_move = None;
        remembered.expectation = None;
        match cause {
            AbortCause::TimedOut
            | AbortCause::Unsafe
            | AbortCause::NotCounted
            | AbortCause::Misplaced
            | AbortCause::AnotherWent => self.disappoint(remembered),
            AbortCause::VictimGone => {
                remembered.moved_at = Some(self.now);
                self.back_off(remembered);
            }
            AbortCause::RolloutBegan
            | AbortCause::CountChanged
            | AbortCause::KeptByAutoscaler
            | AbortCause::AutoscalerAppeared
            | AbortCause::NotAllowedAnyMore
            | AbortCause::NeverBegan => self.back_off(remembered),
        }
    }

    /// Waits as long as the disappointments so far ask for, without a new one.
    fn back_off(&self, remembered: &mut WorkloadMemory) {
        let failures = remembered.move_backoff.map_or(0, |backoff| backoff.failures);
        let until = self.now.after(payback::backoff_span(self.policy, failures));
        remembered.move_backoff = Some(Backoff { until, failures });
    }

    /// Drops what decides nothing any more.
    fn drop_expired(&self, remembered: &mut WorkloadMemory) {
        let over = |backoff: &Backoff| backoff.until <= self.now;
        let regressed = remembered.last_move.as_ref().is_some_and(|last| last.regressed);
        if regressed
            && remembered.in_flight.is_none()
            && undo_left(remembered, self.now) == Span::ZERO
        {
            remembered.last_move = None;
            self.back_off(remembered);
        }
        if remembered.move_backoff.is_some_and(|b| over(&b) && b.failures == 0) {
            remembered.move_backoff = None;
        }
    }
}

fn forgive(remembered: &mut WorkloadMemory) {
    if let Some(backoff) = &mut remembered.move_backoff {
        backoff.failures = 0;
    }
}
