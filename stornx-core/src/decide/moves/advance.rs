//! Takes each move under way one step further: reads what is seen of it and writes
//! down what the state machine ([`super::state`]) answers.
//!
//! The replacement is a replica that did not exist when the move began: the one that was
//! told to be it before others, on the chosen node before elsewhere, Ready before others,
//! then the oldest. A replica that the replica set made for another reason in the meantime
//! is told apart that way.
//!
//! Floors are measured from the layout that stood before the surge, not from the one
//! with it: a surge raises what survives the loss of a zone for a while, and ending a
//! move must not count as a loss of that. Only the disruption budget is measured from
//! what is Ready now.

use super::{
    UnderWay, hold,
    state::{self, Count, Sight, Standing, Step, Surge},
};
use crate::{
    decide::{
        Proposal,
        ledger::Ledger,
        safety::{CountBlock, Safety},
    },
    ids::PodName,
    memory::MoveInFlight,
    model::{CountBy, PodPhase, Rollout},
    plan::{Action, MoveEnd, MoveEnding, MoveWay},
    report::{ActionReport, Expected, MoveReason, MoveWhy, Why},
    view::{NodeIndex, PodView, Remembered, View, WorkloadIndex, WorkloadView},
};

/// Finishes, waits for or gives up each move under way.
pub(crate) fn advance(
    view: &View<'_>,
    safety: &Safety,
    memory: &Remembered<'_>,
    ledger: &mut Ledger,
) -> UnderWay {
    let mut under_way =
        UnderWay { proposals: Vec::new(), reasons: view.workloads.iter().map(|_| None).collect() };
    for (workload, remembered) in memory.each_workload() {
        let Some(record) = &remembered.in_flight else { continue };
        if safety.of(workload).count_block == Some(CountBlock::NotManaged) {
            continue; // Remembering drops the record: nothing may be written there.
        }
        // Its count is spoken for until the move ends.
        ledger.count(workload);
        let reading = Reading { view, safety, workload, record };
        let (sight, timeout) = (reading.sight(), view.policy.moves.timeout);
        let step = match record.way {
            MoveWay::Surge => state::next(&sight, timeout),
            MoveWay::Evict => state::next_eviction(&sight, timeout),
            MoveWay::Hold => hold::next(&sight, timeout),
        };
        let (proposal, reason) = reading.write_down(step);
        under_way.proposals.extend(proposal);
        under_way.reasons[workload.at()] = Some(reason);
    }
    under_way
}

struct Reading<'a> {
    view: &'a View<'a>,
    safety: &'a Safety,
    workload: WorkloadIndex,
    record: &'a MoveInFlight,
}

impl<'a> Reading<'a> {
    fn of(&self) -> &'a WorkloadView<'a> {
        &self.view.workloads[self.workload.at()]
    }

    fn active(&self) -> impl Iterator<Item = &'a PodView<'a>> {
        self.of().pods.iter().filter(|pod| pod.pod.phase != PodPhase::Terminating)
    }

    fn newcomers(&self) -> impl Iterator<Item = &'a PodView<'a>> {
        self.active().filter(|pod| !self.record.known_pods.contains(&pod.pod.name))
    }

    fn target(&self) -> Option<NodeIndex> {
        self.view.node(&self.record.to)
    }

    /// Serving replicas by zone without one of the replicas.
    fn without(&self, pod: Option<&PodName>) -> Vec<u32> {
        let mut ready = self.of().ready.clone();
        let pod = pod.and_then(|pod| self.view.pod(self.workload, pod));
        if let Some(zone) = pod.filter(|pod| pod.serves()).and_then(|pod| pod.zone) {
            ready[zone.at()] = ready[zone.at()].saturating_sub(1);
        }
        ready
    }

    /// Whether the disruption budget allows that a replica goes now. One that asks for more
    /// than there was before the surge does not keep the surge: it was not met before, and
    /// the move would never end.
    fn within_budget(&self, pod: &PodName) -> bool {
        let left: u32 = self.without(Some(pod)).iter().sum();
        let kept = self.safety.of(self.workload).floors.min_ready;
        left == self.of().ready_total() || left >= kept.min(self.record.replicas_before)
    }

    /// Whether the victim may go now that `surge` has taken its place.
    fn victim_may_go(&self, surge: &PodName) -> bool {
        let victim = &self.record.victim;
        let floors = &self.safety.of(self.workload).floors;
        let (before, after) = (self.without(Some(surge)), self.without(Some(victim)));
        self.within_budget(victim) && floors.change_allowed(&before, &after).is_ok()
    }

    fn sight(&self) -> Sight {
        let workload = self.of().workload;
        let active = self.active().count();
        let desired = workload.desired as usize;
        let surge = self.surge();
        let (victim_may_go, surge_may_go) = match &surge {
            Surge::Ready(pod) => (self.victim_may_go(pod), self.within_budget(pod)),
            Surge::Misplaced(pod) => (false, self.within_budget(pod)),
            Surge::None | Surge::Unbound(_) | Surge::Coming(_) => (false, true),
        };
        Sight {
            waited: self.view.now.since(self.record.started_at),
            standing: self.standing(),
            count: if workload.desired == self.record.replicas_before {
                Count::Before
            } else if workload.desired == self.record.replicas_before.saturating_add(1)
                && workload.counted_by != CountBy::Others
            {
                Count::Surged
            } else {
                Count::Other
            },
            held: workload.autoscaler.is_some_and(|autoscaler| autoscaler.holds()),
            ending: self.record.ending.clone(),
            missing: active < desired,
            surplus: active > desired,
            victim_stands: self.active().any(|pod| pod.pod.name == self.record.victim),
            victim_may_go,
            warm: self.is_warm(&surge),
            counted: workload.ready_counted.is_none_or(|ready| ready >= workload.desired),
            surge,
            surge_may_go,
            excess: self.excess(),
            all_replaced: self.active().all(|pod| !self.record.known_pods.contains(&pod.pod.name)),
        }
    }

    fn is_warm(&self, surge: &Surge) -> bool {
        let Surge::Ready(pod) = surge else { return false };
        let since = self.view.pod(self.workload, pod).and_then(|pod| pod.pod.ready_since);
        let wait = self.view.policy.balancer.warmup.max(self.of().workload.min_ready);
        since.is_none_or(|since| self.view.now.since(since) >= wait)
    }

    fn standing(&self) -> Standing {
        let workload = self.of().workload;
        let holds = self.record.way == MoveWay::Hold;
        match self.safety.of(self.workload).count_block {
            Some(CountBlock::AutoscalerOwns(_)) if holds && workload.policy.no_moves => {
                Standing::Unwanted
            }
            Some(CountBlock::AutoscalerOwns(_)) => Standing::Autoscaled,
            Some(CountBlock::OptedOut) if workload.autoscaler.is_some() && !holds => {
                Standing::Autoscaled
            }
            Some(CountBlock::OptedOut) if workload.rollout == Rollout::Settled => {
                Standing::Unwanted
            }
            Some(_) => Standing::HandsOff,
            None if workload.policy.no_moves => Standing::Unwanted,
            None => Standing::Free,
        }
    }

    /// How well a newcomer does as the replacement; the smallest does best.
    fn rank(&self, pod: &'a PodView<'a>) -> impl Ord + 'a {
        let elsewhere = pod.node.is_none() || pod.node != self.target();
        (!pod.serves(), !self.is_meant(pod), elsewhere, pod.pod.created_at, &pod.pod.name)
    }

    /// It was told to be the replacement when it was created.
    fn is_meant(&self, pod: &PodView<'_>) -> bool {
        let steered = pod.pod.traces.steered.as_ref();
        steered.is_some_and(|steered| {
            steered.node == self.record.to && steered.since == self.record.started_at
        })
    }

    fn surge(&self) -> Surge {
        let target = self.target();
        let zone = target.map(|node| self.view.nodes[node.at()].zone);
        let meant = self.newcomers().filter(|pod| self.is_meant(pod));
        let on_place = self.newcomers().filter(|pod| target.is_some() && pod.node == target);
        let best_of_meant = meant.min_by_key(|pod| self.rank(pod));
        let best =
            best_of_meant.or_else(|| on_place.min_by_key(|pod| self.rank(pod))).or_else(|| {
                // One that is not bound yet may still come to its place.
                let unbound = self.newcomers().filter(|pod| pod.node.is_none());
                unbound
                    .min_by_key(|pod| self.rank(pod))
                    .or_else(|| self.newcomers().min_by_key(|pod| self.rank(pod)))
            });
        let Some(pod) = best else { return Surge::None };
        let name = pod.pod.name.clone();
        if pod.zone.is_some() && pod.zone != zone {
            Surge::Misplaced(name)
        } else if pod.serves() {
            Surge::Ready(name)
        } else if pod.node.is_none() {
            Surge::Unbound(name)
        } else {
            Surge::Coming(name)
        }
    }

    /// The newcomer that does worst as the replacement, of those that may go.
    fn excess(&self) -> Option<PodName> {
        let may_go = self.newcomers().filter(|pod| self.within_budget(&pod.pod.name));
        may_go.max_by_key(|pod| self.rank(pod)).map(|pod| pod.pod.name.clone())
    }

    fn write_down(&self, step: Step) -> (Option<Proposal>, MoveReason) {
        let workload = self.of().workload;
        let observed = workload.desired;
        let id = workload.id.clone();
        let (action, why, reason) = match step {
            Step::Wait => {
                let since = self.view.now.since(self.record.started_at);
                return (None, MoveReason::Waiting { since });
            }
            Step::Finish { replacement } => {
                let victim = self.record.victim.clone();
                let why = MoveWhy::ReplacementReady {
                    victim: victim.clone(),
                    replacement: replacement.clone(),
                };
                let action = if self.record.way == MoveWay::Hold {
                    let ending = Some(MoveEnding::Finish { replacement });
                    Action::GiveBackMinimum { workload: id, observed, goes: Some(victim), ending }
                } else {
                    Action::FinishMove { workload: id, observed, victim, replacement }
                };
                (action, why, MoveReason::Finished)
            }
            Step::Undo { surge: goes, cause } if self.record.way == MoveWay::Hold => {
                let ending = Some(MoveEnding::Undo { cause });
                let action = Action::GiveBackMinimum { workload: id, observed, goes, ending };
                (action, MoveWhy::GivenUp { cause }, MoveReason::GivenUp { cause })
            }
            Step::Undo { surge, cause } => (
                Action::AbortMove { workload: id, observed, surge, cause },
                MoveWhy::GivenUp { cause },
                MoveReason::GivenUp { cause },
            ),
            Step::Close(end) => {
                let (why, reason) = match end {
                    MoveEnd::Done => (MoveWhy::Done, MoveReason::Closed),
                    MoveEnd::GivenUp(cause) => {
                        (MoveWhy::GivenUp { cause }, MoveReason::GivenUp { cause })
                    }
                };
                (Action::CloseMove { workload: id, observed, end }, why, reason)
            }
        };
        let expected = match reason {
            MoveReason::Finished => Expected {
                request_ms_per_second: self.record.predicted_saving,
                ..Expected::default()
            },
            _ => Expected::default(),
        };
        let report = ActionReport { expected, why: Why::Move(why) };
        (Some(Proposal { action, report }), reason)
    }
}
