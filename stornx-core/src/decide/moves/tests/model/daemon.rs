//! The daemon: which request of a cycle is next, and what the API server does about it.
//!
//! Each write is a step of its own, so that anything may happen before and after it. What
//! an actuator looks up and tests before it writes is here as `stornx-k8s` does it: counts
//! are tested by the write itself, replicas are listed freshly. Looking up and marking is
//! one step: what happens between the two is like what happens after both, since the mark
//! alone removes nothing.

use super::{
    product::{Next, Product},
    properties::Broken,
    world::{Answer, Cycle, Daemon, Hpa, Late, Load, MAXIMUM, Phase, Request, Stage, State},
};

/// What the actuator makes sure of freshly, besides what its writes test by themselves.
/// Each can be left out, to see that it is needed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checks {
    /// A record is cleared only while the count is the one that was seen.
    pub(super) count_at_close: bool,
    /// A record is cleared because others changed the count only while StornX was not the
    /// last to set it.
    pub(super) owner_at_close: bool,
    /// A surge that never came is not asked for any more only while fewer replicas are
    /// there than asked for.
    pub(super) missing_at_abort: bool,
    /// A count is lowered only while StornX was the last to set it. That and the count are
    /// read together, and the write holds only for the version that was read.
    pub(super) owner_at_lower: bool,
    /// A write to a count holds only for the version of the Deployment that was read just
    /// before, also when it arrives late.
    pub(super) version_at_count: bool,
    /// A victim is marked before its replacement is asked for.
    pub(super) mark_at_surge: bool,
    /// A count is lowered for a replacement only while its controller counts as many Ready as
    /// are asked for. Without it nobody says how many are counted.
    pub(super) counted_at_lower: bool,
    /// A victim is marked only while all others are alike or better.
    pub(super) order_at_lower: bool,
    /// A write to a minimum holds only for the version of the autoscaler that was read, also
    /// when it arrives late.
    pub(super) version_at_minimum: bool,
    /// A minimum that somebody else set since it was raised stays.
    pub(super) theirs_at_give_back: bool,
}

impl Checks {
    pub(super) const ALL: Self = Self {
        count_at_close: true,
        owner_at_close: true,
        missing_at_abort: true,
        owner_at_lower: true,
        version_at_count: true,
        mark_at_surge: true,
        counted_at_lower: true,
        order_at_lower: true,
        version_at_minimum: true,
        theirs_at_give_back: true,
    };
}

/// Begins a cycle, if it would write anything.
pub(super) fn begin(state: &mut State, product: &Product) -> bool {
    if state.daemon != Daemon::Idle {
        return false;
    }
    let next = product.begin(state.seen(), state.store);
    let goes_on = next != Next::Ends;
    proceed(state, next, true);
    goes_on
}

fn proceed(state: &mut State, next: Next, current: bool) {
    state.daemon = match next {
        Next::Asks { thread, request } => {
            Daemon::Busy(Box::new(Cycle { thread, request, stage: Stage::First, current }))
        }
        Next::Ends => Daemon::Idle,
        Next::Refused(_) => {
            state.broken |= Broken::CHECK;
            Daemon::Idle
        }
    };
}

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Reply {
    /// It is carried out or refused, and the daemon learns of it.
    Given,
    /// It is carried out, and the daemon hears nothing.
    LostAfter,
    /// The daemon hears nothing; it may still be carried out later.
    LostBefore,
}

/// Takes the request of the cycle one step further.
pub(super) fn step(state: &mut State, product: &Product, checks: Checks, reply: Reply) {
    let Daemon::Busy(cycle) = state.daemon.clone() else { return };
    match (&cycle.request, cycle.stage) {
        (Request::Save(memory), _) => save(state, product, &cycle, *memory, reply),
        (Request::Surge { load, observed, victim }, Stage::First) => {
            let of = &mut state.loads[*load];
            if may_surge(of, *observed, *victim) {
                if checks.mark_at_surge {
                    mark(of, Some(*victim));
                }
                set_stage(state, Stage::Marked);
            } else {
                answered(state, product, &cycle, Answer::Refused);
            }
        }
        (Request::Surge { load, observed, .. }, Stage::Marked) => {
            let (load, observed) = (*load, *observed);
            let done = if reply == Reply::LostBefore {
                state.late = Some(Late::Count { load, observed, wanted: observed + 1 });
                false
            } else {
                set_count(state, checks, load, observed, observed + 1)
            };
            if done {
                state.loads[load].wants_to_move = false;
            }
            match (reply, done) {
                (Reply::Given, true) => answered(state, product, &cycle, Answer::Done),
                (Reply::Given, false) => set_stage(state, Stage::Withdraw(Answer::Refused)),
                // It may still arrive: the mark stays.
                _ => answered(state, product, &cycle, Answer::None),
            }
        }
        (
            Request::Surge { load, victim, .. } | Request::Raise { load, victim, .. },
            Stage::Withdraw(answer),
        ) => {
            unmark(&mut state.loads[*load], &[*victim]);
            answered(state, product, &cycle, answer);
        }
        (Request::Lower { load, observed, victim, stands_in }, Stage::First) => {
            let of = &mut state.loads[*load];
            let counted = of.deployment.counted || !stands_in || !checks.counted_at_lower;
            if counted && may_lower(of, *observed, *victim, checks) {
                let marked = victim.and_then(|name| of.pod(name)).is_some_and(|pod| pod.marked);
                of.judge.marked_late |= *stands_in && !marked && checks.mark_at_surge;
                mark(of, *victim);
                set_stage(state, Stage::Marked);
            } else {
                answered(state, product, &cycle, Answer::Refused);
            }
        }
        (Request::Lower { load, observed, stands_in, .. }, Stage::Marked) => {
            let (load, observed) = (*load, *observed);
            if reply == Reply::LostBefore {
                // The count is looked up then, and is still the old one. It may still be
                // lowered: the mark stays.
                state.late = Some(Late::Count { load, observed, wanted: observed - 1 });
                answered(state, product, &cycle, Answer::None);
            } else if set_count(state, checks, load, observed, observed - 1) {
                // Also without an answer: the count is looked up then.
                answered(state, product, &cycle, Answer::Done);
            } else if *stands_in {
                // A victim stays marked as long as its move is under way.
                answered(state, product, &cycle, Answer::Refused);
            } else {
                set_stage(state, Stage::Withdraw(Answer::Refused));
            }
        }
        (Request::Lower { load, victim, .. }, Stage::Withdraw(answer)) => {
            unmark(&mut state.loads[*load], victim.as_slice());
            answered(state, product, &cycle, answer);
        }
        (Request::Raise { load, observed, victim }, Stage::First) => {
            let of = &mut state.loads[*load];
            match of.hpa.filter(|_| may_raise(of, *observed, *victim).is_some()) {
                Some(hpa) => {
                    mark(of, Some(*victim));
                    set_stage(state, Stage::MarkedFor(hpa));
                }
                None => answered(state, product, &cycle, Answer::Refused),
            }
        }
        (Request::Raise { load, observed, .. }, Stage::MarkedFor(read)) => {
            let stands = state.loads[*load].hpa == Some(read) || !checks.version_at_minimum;
            let raised = stands.then(|| raised(read, *observed));
            match write_minimum(state, *load, raised, reply) {
                Answer::Refused => set_stage(state, Stage::Withdraw(Answer::Refused)),
                answer => {
                    if answer == Answer::Done {
                        state.loads[*load].wants_to_move = false;
                    }
                    answered(state, product, &cycle, answer);
                }
            }
        }
        (Request::GiveBack { load, goes, stands_in }, Stage::First) => {
            let of = &mut state.loads[*load];
            match of.hpa.filter(|_| may_give_back(of, *goes, *stands_in)) {
                Some(hpa) => {
                    mark(of, *goes);
                    set_stage(state, Stage::MarkedFor(hpa));
                }
                None => answered(state, product, &cycle, Answer::Refused),
            }
        }
        (Request::GiveBack { load, goes, stands_in }, Stage::MarkedFor(read)) => {
            let stands = state.loads[*load].hpa == Some(read) || !checks.version_at_minimum;
            let given = stands.then(|| given_back(read, checks));
            match write_minimum(state, *load, given, reply) {
                Answer::Refused if goes.is_some() && stands_in.is_none() => {
                    set_stage(state, Stage::Withdraw(Answer::Refused));
                }
                answer => answered(state, product, &cycle, answer),
            }
        }
        (Request::GiveBack { load, goes, .. }, Stage::Marked | Stage::Withdraw(_)) => {
            unmark(&mut state.loads[*load], goes.as_slice());
            answered(state, product, &cycle, Answer::Refused);
        }
        (Request::Raise { .. }, Stage::Marked)
        | (Request::Surge { .. } | Request::Lower { .. }, Stage::MarkedFor(_)) => {
            unreachable!("counts and minima have their own stages")
        }
        (Request::Close { load, observed, changed }, _) => {
            let deployment = &state.loads[*load].deployment;
            let stands = deployment.count == *observed || !checks.count_at_close;
            let theirs = deployment.by_others || !changed || !checks.owner_at_close;
            let closed = stands && theirs;
            answered(state, product, &cycle, if closed { Answer::Done } else { Answer::Refused });
        }
        (Request::Unmark { load, observed, pods }, _) => {
            let of = &mut state.loads[*load];
            let stands = of.deployment.count == *observed && of.active() <= *observed;
            if stands {
                unmark(of, pods);
            }
            answered(state, product, &cycle, if stands { Answer::Done } else { Answer::Refused });
        }
        (Request::Release { load, pods }, _) => {
            // Each is deleted only as the version that was seen: not bound.
            let of = &mut state.loads[*load];
            of.pods.retain(|pod| !pods.contains(&pod.name) || pod.node.is_some());
            answered(state, product, &cycle, Answer::Done);
        }
    }
}

fn answered(state: &mut State, product: &Product, cycle: &Cycle, answer: Answer) {
    let current = match &state.daemon {
        Daemon::Busy(cycle) => cycle.current,
        _ => cycle.current,
    };
    let next = product.go_on(cycle.thread, answer);
    proceed(state, next, current);
}

fn set_stage(state: &mut State, stage: Stage) {
    if let Daemon::Busy(cycle) = &mut state.daemon {
        cycle.stage = stage;
    }
}

fn save(state: &mut State, product: &Product, cycle: &Cycle, memory: u32, reply: Reply) {
    let answer = match (reply, cycle.current) {
        (Reply::Given, false) => Answer::Refused,
        (Reply::Given, true) => {
            store(state, memory);
            Answer::Done
        }
        (Reply::LostAfter, current) => {
            if current {
                store(state, memory);
                disown(state);
            }
            Answer::None
        }
        (Reply::LostBefore, current) => {
            if current {
                state.late = Some(Late::Save(memory));
            }
            Answer::None
        }
    };
    answered(state, product, cycle, answer);
}

/// A save is tied to the version before it: those that are still on their way fail.
fn store(state: &mut State, memory: u32) {
    state.store = memory;
    if matches!(state.late, Some(Late::Save(_))) {
        state.late = None;
    }
}

/// The cycle no longer knows the version that stands.
fn disown(state: &mut State) {
    if let Daemon::Busy(cycle) = &mut state.daemon {
        cycle.current = false;
    }
}

/// What was sent and given up is carried out after all.
pub(super) fn arrive(state: &mut State, checks: Checks) {
    match state.late.take() {
        Some(Late::Save(memory)) => {
            store(state, memory);
            disown(state);
        }
        Some(Late::Count { load, observed, wanted }) => {
            set_count(state, checks, load, observed, wanted);
        }
        Some(Late::Minimum { load, hpa }) => set_minimum(state, load, hpa),
        None => {}
    }
}

/// What of a request is under way when the daemon ends, if anything.
pub(super) fn under_way(state: &State, checks: Checks) -> Option<Late> {
    let Daemon::Busy(cycle) = &state.daemon else { return None };
    match (&cycle.request, cycle.stage) {
        (Request::Save(memory), _) if cycle.current => Some(Late::Save(*memory)),
        (Request::Surge { load, observed, .. }, Stage::Marked) => {
            Some(Late::Count { load: *load, observed: *observed, wanted: observed + 1 })
        }
        (Request::Lower { load, observed, .. }, Stage::Marked) => {
            Some(Late::Count { load: *load, observed: *observed, wanted: observed - 1 })
        }
        (Request::Raise { load, observed, .. }, Stage::MarkedFor(read)) => (state.loads[*load].hpa
            == Some(read))
        .then(|| Late::Minimum { load: *load, hpa: raised(read, *observed) }),
        (Request::GiveBack { load, .. }, Stage::MarkedFor(read)) => (state.loads[*load].hpa
            == Some(read))
        .then(|| Late::Minimum { load: *load, hpa: given_back(read, checks) }),
        _ => None,
    }
}

fn may_lower(load: &Load, observed: u8, victim: Option<u8>, checks: Checks) -> bool {
    if load.deployment.count != observed || (checks.owner_at_lower && load.deployment.by_others) {
        return false;
    }
    let Some(victim) = victim else {
        return load.active() < observed || !checks.missing_at_abort;
    };
    let Some(chosen) = load.pod(victim) else { return false };
    if !checks.order_at_lower {
        return true;
    }
    load.active() == observed
        && !load.deployment.rollout
        && load.pods.iter().all(|other| other.phase >= chosen.phase)
}

/// Whether a replacement may be asked for: no earlier mark is waited for.
fn may_surge(load: &Load, observed: u8, victim: u8) -> bool {
    load.deployment.count == observed
        && load.active() <= observed
        && load.pod(victim).is_some()
        && load.pods.iter().all(|pod| pod.name == victim || !pod.marked)
}

/// What becomes of the autoscaler when its minimum is raised, if it may be.
fn may_raise(load: &Load, observed: u8, victim: u8) -> Option<Hpa> {
    let hpa = load.hpa?;
    let may = load.deployment.count == observed
        && load.pod(victim).is_some()
        && observed < MAXIMUM
        && hpa.held.is_none()
        && load.pods.iter().all(|pod| pod.name == victim || !pod.marked);
    may.then_some(raised(hpa, observed))
}

fn raised(hpa: Hpa, observed: u8) -> Hpa {
    Hpa { min: observed + 1, by_others: false, held: Some((hpa.min, observed + 1)) }
}

fn may_give_back(load: &Load, goes: Option<u8>, stands_in: Option<u8>) -> bool {
    let ready = |name| load.pod(name).is_some_and(|pod| pod.phase == Phase::Ready);
    load.hpa.is_some_and(|hpa| hpa.held.is_some())
        && goes.is_none_or(|name| load.pod(name).is_some())
        && stands_in.is_none_or(ready)
}

/// What becomes of the autoscaler when its minimum is given back.
fn given_back(hpa: Hpa, checks: Checks) -> Hpa {
    let ours = |(_, raised): &(u8, u8)| {
        (hpa.min == *raised && !hpa.by_others) || !checks.theirs_at_give_back
    };
    match hpa.held.filter(ours) {
        Some((before, _)) => Hpa { min: before, by_others: false, held: None },
        None => Hpa { held: None, ..hpa },
    }
}

/// One request to an autoscaler; `None`: what it tests does not hold.
fn write_minimum(state: &mut State, load: usize, hpa: Option<Hpa>, reply: Reply) -> Answer {
    match (hpa, reply) {
        (None, Reply::Given) => Answer::Refused,
        (None, _) => Answer::None,
        (Some(hpa), Reply::LostBefore) => {
            state.late = Some(Late::Minimum { load, hpa });
            Answer::None
        }
        (Some(hpa), Reply::LostAfter) => {
            set_minimum(state, load, hpa);
            Answer::None
        }
        (Some(hpa), Reply::Given) => {
            set_minimum(state, load, hpa);
            Answer::Done
        }
    }
}

/// A write of ours to an autoscaler that passed its tests.
fn set_minimum(state: &mut State, load: usize, hpa: Hpa) {
    let load = &mut state.loads[load];
    let Some(before) = load.hpa else { return };
    if before.held.is_some() && hpa.held.is_some() {
        state.broken |= Broken::SECOND_SURGE;
    }
    load.hpa = Some(hpa);
}

/// One mark at a time: those that were left are taken off.
fn mark(load: &mut Load, victim: Option<u8>) {
    for pod in &mut load.pods {
        pod.marked = Some(pod.name) == victim;
    }
}

fn unmark(load: &mut Load, pods: &[u8]) {
    for pod in load.pods.iter_mut().filter(|pod| pods.contains(&pod.name)) {
        pod.marked = false;
    }
}

/// A write of ours to a count, tested against the one that stands.
fn set_count(state: &mut State, checks: Checks, load: usize, observed: u8, wanted: u8) -> bool {
    let load = &mut state.loads[load];
    let theirs = wanted < observed && checks.owner_at_lower && load.deployment.by_others;
    if load.deployment.count != observed || theirs {
        return false;
    }
    let judge = &mut load.judge;
    load.deployment.count = wanted;
    load.deployment.by_others = false;
    if wanted > observed {
        if judge.surge_out || observed != judge.wish {
            state.broken |= Broken::SECOND_SURGE;
        }
        judge.surge_out = true;
        judge.lowered_by_us = false;
    } else {
        if !judge.surge_out {
            state.broken |= Broken::COUNT_OF_OTHERS;
        }
        judge.surge_out = false;
        judge.lowered_by_us = true;
    }
    true
}
