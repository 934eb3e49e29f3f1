//! Moves of running replicas, from begin to end.
//!
//! | file | decides |
//! | --- | --- |
//! | `state`, `advance` | what becomes of each move under way |
//! | `gates` | which workloads may move at all |
//! | `objective`, `split` | what a layout costs, and what one replica elsewhere changes |
//! | `destinations` | the few nodes of a zone that are worth a look |
//! | `near` | which of them are near to what a workload talks to |
//! | `search` | which moves would lower the cost most |
//! | `bundles` | moves that pay together only, however many |
//! | `growth` | where one replica more would save more than moves |
//! | `eviction` | who leaves a full zone for a replica that saves more there |
//! | `payback` | whether a move is worth it; back-off |
//! | `doubt` | how much more it must save, and for how long, where it was looked at before |
//! | `slow` | which replicas are slow and go elsewhere |
//! | `verify` | what came of a move |
//! | `remember` | what the next cycle must know |
//!
//! A plan begins moves in this order: a move that made things worse is taken back,
//! slow replicas are replaced, then ways are shortened.

mod advance;
mod bundles;
mod destinations;
mod doubt;
mod eviction;
mod gates;
mod growth;
mod hold;
mod near;
mod objective;
mod payback;
mod remember;
mod search;
mod slow;
mod split;
mod state;
mod verify;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use self::{advance::advance, destinations::Destinations, remember::remember_workloads};
use self::{
    doubt::Doubt,
    eviction::Eviction,
    objective::{Objective, Shift},
    search::{Candidate, Chosen, Effect, Found, Scratch, Search},
};
use super::{Proposal, ledger::Ledger, safety::Safety};
use crate::{
    plan::Action,
    report::{ActionReport, Expected, Growth, MoveReason, MoveWhy, Why},
    view::{NodeIndex, PodView, Remembered, View, WorkloadIndex},
};

/// Seconds of a month of 730 hours.
const MONTH_SECONDS: f64 = 730.0 * 3600.0;

/// What becomes of the moves under way.
pub(crate) struct UnderWay {
    pub(crate) proposals: Vec<Proposal>,
    /// One for each workload of the view; `None` where no move is under way.
    pub(crate) reasons: Vec<Option<MoveReason>>,
}

/// What was decided.
pub(crate) struct Moved {
    pub(crate) proposals: Vec<Proposal>,
    /// One for each workload of the view.
    pub(crate) reasons: Vec<MoveReason>,
    /// Where a replica more would save more than moves do.
    pub(crate) growth: BTreeMap<WorkloadIndex, Growth>,
}

/// Decides which moves begin.
pub(crate) fn decide(
    view: &View<'_>,
    safety: &Safety,
    memory: &Remembered<'_>,
    ledger: &mut Ledger,
    under_way: &UnderWay,
) -> Moved {
    let destinations = Destinations::new(view, ledger);
    let mut room = Room { view, safety, memory, ledger, destinations: &destinations };
    let reasons = room.gates(under_way);
    let mut moved = Moved { proposals: Vec::new(), reasons, growth: BTreeMap::new() };
    room.take_back(&mut moved);
    room.replace_slow(&mut moved);
    room.shorten_ways(&mut moved);
    moved
}

struct Room<'a, 'v> {
    view: &'a View<'v>,
    safety: &'a Safety,
    memory: &'a Remembered<'a>,
    ledger: &'a mut Ledger,
    destinations: &'a Destinations,
}

/// What stands for a workload that may move until something better is known of it.
const OPEN: MoveReason = MoveReason::WellPlaced { best: None };

impl<'v> Room<'_, 'v> {
    fn gates(&self, under_way: &UnderWay) -> Vec<MoveReason> {
        let gate = |(at, under_way): (usize, &Option<MoveReason>)| {
            let at = WorkloadIndex::new(at);
            under_way.clone().unwrap_or_else(|| {
                gates::may_move(self.view, self.safety, self.memory, self.ledger, at)
                    .err()
                    .unwrap_or(OPEN)
            })
        };
        under_way.reasons.iter().enumerate().map(gate).collect()
    }

    /// Takes back the moves that made things clearly worse, each once. The back-off
    /// that the regression began does not hold this up.
    fn take_back(&mut self, moved: &mut Moved) {
        for (at, remembered) in self.memory.each_workload() {
            let Some(last) = remembered.last_move.as_ref().filter(|last| last.regressed) else {
                continue;
            };
            let Some(to) = self.view.node(&last.came_from) else { continue };
            if moved.reasons[at.at()] != OPEN {
                continue;
            }
            // Until it is taken back, or that is given up, nothing else moves here.
            moved.reasons[at.at()] =
                MoveReason::Backoff { left: remember::undo_left(remembered, self.view.now) };
            let pod = self.view.pod(at, &last.replacement).filter(|pod| pod.serves());
            let Some((pod, from)) = pod.and_then(|pod| Some((pod, pod.node?))) else { continue };
            if from == to || !self.is_possible(at, from, to) {
                continue;
            }
            let why = MoveWhy::Undo {
                workload: self.view.workloads[at.at()].workload.id.clone(),
                victim: pod.pod.name.clone(),
                from: self.view.nodes[from.at()].node.name.clone(),
                to: last.came_from.clone(),
            };
            self.promise(at, from, to);
            self.propose(
                Beginning { at, pod, from, to, expected: Expected::default(), why },
                moved,
            );
        }
    }

    fn replace_slow(&mut self, moved: &mut Moved) {
        for (at, workload) in self.view.each_workload() {
            if moved.reasons[at.at()] != OPEN {
                continue;
            }
            let remembered = self.memory.workload(at);
            let (view, safety) = (self.view, self.safety);
            let Some(slow) =
                slow::replacement(view, safety, self.ledger, self.destinations, remembered, at)
            else {
                continue;
            };
            let pod = slow.suspect.pod;
            let (from, to) = (slow.from, slow.to);
            let rate = pod.traffic.map_or(0.0, |traffic| traffic.requests.get());
            let expected = Expected {
                request_ms_per_second: rate * (slow.suspect.p95 - slow.suspect.siblings),
                ..Expected::default()
            };
            let why = MoveWhy::Slow {
                workload: workload.workload.id.clone(),
                victim: pod.pod.name.clone(),
                from: view.nodes[from.at()].node.name.clone(),
                to: view.nodes[to.at()].node.name.clone(),
                p95: slow.suspect.p95,
                siblings_p95: slow.suspect.siblings,
            };
            self.promise(at, from, to);
            self.propose(Beginning { at, pod, from, to, expected, why }, moved);
        }
    }

    fn shorten_ways(&mut self, moved: &mut Moved) {
        let movable: Vec<bool> = moved.reasons.iter().map(|reason| *reason == OPEN).collect();
        if !movable.contains(&true) {
            return;
        }
        let view = self.view;
        let mut objective = Objective::new(view, self.safety, self.memory);
        let doubts = doubt::doubts(view, self.memory);
        let search = Search {
            view,
            safety: self.safety,
            destinations: self.destinations,
            movable: &movable,
            doubts: &doubts,
        };
        let mut scratch = Scratch::new(view);
        let found: Vec<Found> = view
            .each_workload()
            .map(|(at, _)| {
                if movable[at.at()] {
                    search.of(&objective, &mut scratch, self.ledger, at)
                } else {
                    Found::default()
                }
            })
            .collect();
        let mut held = BTreeSet::new();
        let memory = self.memory;
        let chosen = search.choose(&mut objective, self.ledger, &found, memory, |candidate| {
            // A bundle was wished for when one of its workloads was.
            let wishes = || candidate.shifts.iter().map(|shift| shift.workload);
            let confirmed = wishes().any(|at| is_confirmed(view, memory, &doubts, at));
            if !confirmed {
                held.extend(wishes());
            }
            confirmed
        });
        self.explain(&found, &held, &chosen, &doubts, moved);
        moved.growth = chosen.growth.into_iter().collect();
        for (candidate, effects) in &chosen.begun {
            for effect in effects {
                self.propose_shift(effect, candidate, moved);
            }
        }
        if let Some(eviction) = &chosen.eviction {
            self.propose_eviction(eviction, moved);
        }
    }

    /// The reasons of the workloads that may move and do not.
    fn explain(
        &self,
        found: &[Found],
        held: &BTreeSet<WorkloadIndex>,
        chosen: &Chosen,
        doubts: &[Doubt],
        moved: &mut Moved,
    ) {
        for (at, _) in self.view.each_workload() {
            let reason = &mut moved.reasons[at.at()];
            if *reason != OPEN {
                continue;
            }
            let best = found[at.at()].best.as_ref();
            let worth_it = best.is_some_and(|best| best.net() > 0.0);
            let no_room = !worth_it && found[at.at()].blocked.is_some();
            let confirmed = is_confirmed(self.view, self.memory, doubts, at);
            let wish = held.contains(&at) || ((worth_it || no_room) && !confirmed);
            if let Some(bundle) = chosen.too_large.iter().find(|b| b.touches(at)) {
                *reason = MoveReason::NeedsOthers {
                    moves: u32::try_from(bundle.shifts.len()).unwrap_or(u32::MAX),
                    saving: bundle.saving,
                    price: bundle.price,
                };
                continue;
            }
            if chosen.waits(at) {
                // Those that begin now are told so afterwards.
                *reason = MoveReason::BudgetUsedUp;
                continue;
            }
            *reason = if chosen.refuted.contains(&at) || !(wish || worth_it || no_room) {
                MoveReason::WellPlaced { best: best.map(|best| best.saving - best.price) }
            } else if wish {
                let remembered = self.memory.workload(at);
                let since = remembered.and_then(|remembered| remembered.wanted_since);
                let since = self.view.now.since(since.unwrap_or(self.view.now));
                MoveReason::Confirming { since }
            } else if no_room {
                MoveReason::NoRoom
            } else {
                MoveReason::BudgetUsedUp
            };
        }
    }

    fn propose_eviction(&self, eviction: &Eviction, moved: &mut Moved) {
        let view = self.view;
        let Some(shift) = eviction.leaves.shifts.first() else { return };
        let Some(pod) = self.youngest(*shift) else { return };
        let Shift { workload: at, from, to } = *shift;
        let name = |node: NodeIndex| view.nodes[node.at()].node.name.clone();
        let why = MoveWhy::MakesRoom {
            workload: view.workloads[at.at()].workload.id.clone(),
            victim: pod.pod.name.clone(),
            from: name(from),
            to: name(to),
            makes_room_for: view.workloads[eviction.makes_room_for.at()].workload.id.clone(),
        };
        let expected =
            Expected { request_ms_per_second: eviction.leaves.saving, ..Expected::default() };
        self.propose(Beginning { at, pod, from, to, expected, why }, moved);
    }

    /// The replica that goes from a node: the youngest, which has least to lose (caches,
    /// connections).
    fn youngest(&self, shift: Shift) -> Option<&PodView<'v>> {
        let workload = &self.view.workloads[shift.workload.at()];
        let on_node =
            workload.pods.iter().filter(|pod| pod.serves() && pod.node == Some(shift.from));
        on_node.max_by(|a, b| (a.pod.created_at, &b.pod.name).cmp(&(b.pod.created_at, &a.pod.name)))
    }

    fn propose_shift(&self, effect: &Effect, candidate: &Candidate, moved: &mut Moved) {
        let shift = effect.shift;
        let Some(pod) = self.youngest(shift) else { return };
        let expected = Expected {
            request_ms_per_second: effect.saving,
            usd_per_month: (effect.before.usd - effect.after.usd) * MONTH_SECONDS,
        };
        let why = match candidate.shifts.len() {
            1 => self.why(effect, pod),
            _ => self.why_together(effect, candidate, pod),
        };
        let Shift { workload: at, from, to } = shift;
        self.propose(Beginning { at, pod, from, to, expected, why }, moved);
    }

    fn why_together(&self, effect: &Effect, candidate: &Candidate, pod: &PodView<'v>) -> MoveWhy {
        let view = self.view;
        let name = |node: NodeIndex| view.nodes[node.at()].node.name.clone();
        let id = |at: WorkloadIndex| view.workloads[at.at()].workload.id.clone();
        let Shift { workload, from, to } = effect.shift;
        let others: BTreeSet<WorkloadIndex> = candidate
            .shifts
            .iter()
            .map(|shift| shift.workload)
            .filter(|o| *o != workload)
            .collect();
        MoveWhy::Together {
            workload: id(workload),
            victim: pod.pod.name.clone(),
            from: name(from),
            to: name(to),
            with: others.into_iter().map(id).collect(),
            moves: u32::try_from(candidate.shifts.len()).unwrap_or(u32::MAX),
            saving: candidate.saving,
            price: candidate.price,
        }
    }

    fn why(&self, effect: &Effect, pod: &PodView<'v>) -> MoveWhy {
        let view = self.view;
        let (from, to) = (effect.shift.from, effect.shift.to);
        let at = effect.shift.workload;
        let workload = view.workloads[at.at()].workload.id.clone();
        let victim = pod.pod.name.clone();
        let name = |node: NodeIndex| view.nodes[node.at()].node.name.clone();
        let zone = |node: NodeIndex| view.zones[view.nodes[node.at()].zone.at()].name.clone();
        if effect.crowd_saving > 0.5 * effect.saving {
            return MoveWhy::Crowded {
                workload,
                victim,
                from: name(from),
                to: name(to),
                used_before: effect.crowd_before,
                used_after: effect.crowd_after,
            };
        }
        let heaviest = effect.heaviest.map(|edge| {
            let edge = &view.edges[edge.at()];
            let other = if edge.caller == at { edge.callee } else { edge.caller };
            let rate = crate::units::Rps::saturating(edge.requests);
            (view.workloads[other.at()].workload.id.clone(), rate)
        });
        MoveWhy::Nearer {
            workload,
            victim,
            from: name(from),
            from_zone: zone(from),
            to: name(to),
            to_zone: zone(to),
            heaviest,
            cost_before: effect.before.cost,
            cost_after: effect.after.cost,
            price: effect.price,
        }
    }

    /// Whether floors, budgets and room allow that a replica goes from one node to
    /// another now.
    fn is_possible(&self, at: WorkloadIndex, from: NodeIndex, to: NodeIndex) -> bool {
        let (zone_from, zone_to) = (self.view.nodes[from.at()].zone, self.view.nodes[to.at()].zone);
        gates::layout_allowed(self.view, self.safety, at, zone_from, zone_to)
            && self.ledger.move_allowed(zone_from, zone_to)
            && self.ledger.node_allows(from)
            && self.ledger.way_allowed(gates::way(self.view, self.safety, at))
            && !self.ledger.is_counted(at)
            && destinations::takes(self.view, self.ledger, at, to)
    }

    /// Spends budgets and room on a move.
    fn promise(&mut self, at: WorkloadIndex, from: NodeIndex, to: NodeIndex) {
        self.ledger.promise(to, self.view.workloads[at.at()].workload.requests);
        self.ledger.spend_move(at, gates::way(self.view, self.safety, at), from, to);
    }

    fn propose(&self, beginning: Beginning<'_, '_>, moved: &mut Moved) {
        let Beginning { at, pod, from, to, expected, why } = beginning;
        let workload = self.view.workloads[at.at()].workload;
        let name = |node: NodeIndex| self.view.nodes[node.at()].node.name.clone();
        moved.reasons[at.at()] = MoveReason::Started;
        moved.proposals.push(Proposal {
            action: Action::StartMove {
                workload: workload.id.clone(),
                observed: workload.desired,
                way: gates::way(self.view, self.safety, at),
                victim: pod.pod.name.clone(),
                from: name(from),
                to: name(to),
            },
            report: ActionReport { expected, why: Why::Move(why) },
        });
    }
}

/// A move to begin, with its reason.
struct Beginning<'a, 'v> {
    at: WorkloadIndex,
    pod: &'a PodView<'v>,
    from: NodeIndex,
    to: NodeIndex,
    expected: Expected,
    why: MoveWhy,
}

/// Whether a move of a workload has been worth it for long enough.
fn is_confirmed(
    view: &View<'_>,
    memory: &Remembered<'_>,
    doubts: &[Doubt],
    at: WorkloadIndex,
) -> bool {
    let remembered = memory.workload(at);
    let since = remembered.and_then(|remembered| remembered.wanted_since);
    since.is_some_and(|since| view.now.since(since) >= doubts[at.at()].lasting(view.window))
}
