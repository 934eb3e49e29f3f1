//! The state machine of one move: what follows from what is seen of it now.
//!
//! It keeps no state of its own. The record in the memory says what was begun and how it
//! is about to end, the cluster says how far it came; every pair of the two has one
//! answer, so that a crash between any two writes is only another pair.
//!
//! A surge, by the count that stands:
//!
//! | count | seen | answer |
//! | --- | --- | --- |
//! | neither before nor before + 1, or before + 1 by others | | somebody else decides on the count: close |
//! | before | more replicas than that | wait: one is about to go |
//! | before | an ending is recorded, the victim gone | close: done, or given up as recorded |
//! | before | a finish is recorded, the victim there | another replica went in its place: close |
//! | before | no ending is recorded | after a grace: the surge was never asked for: close |
//! | before + 1 | fewer replicas than that | wait; after the time-out give up, nobody goes |
//! | before + 1 | the victim gone | one replica too many since its loss was made up for: one goes |
//! | before + 1 | the surge is Ready on its place | once it is available, warm and counted by its controller: finish, when that is safe; else wait, and after the time-out give up, the surge goes |
//! | before + 1 | the surge is Ready elsewhere | give up, the surge goes |
//! | before + 1 | the surge is not Ready, or never came | wait; after the time-out give up, the surge goes |
//!
//! A move that holds the minimum of an autoscaler has a machine of its own
//! ([`super::hold`]). An eviction leaves the count alone: it waits until a replacement serves, and is closed
//! in any case after the time-out.
//!
//! While a workload is rolled out or paused nothing of it is written: the record waits
//! until it is ours to write again, and the surge is taken back then. An autoscaler that
//! appears owns the count, the surge included. An owner who opts out gets the surge taken
//! back: it is ours, and he wants nothing of ours.
//!
//! Known weakness: where it is not known who changed the count last, one that somebody
//! else set to exactly one more while the record stands is taken for the surge.

use crate::{
    decide::REQUEST_GRACE,
    ids::PodName,
    plan::{AbortCause, MoveEnd, MoveEnding},
    units::Span,
};

/// The count that stands, as the record knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// As before the move.
    Before,
    /// One more, and nobody else has set that: the surge was asked for.
    Surged,
    /// Set by somebody else.
    Other,
}

/// The replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Surge {
    /// There is no new replica.
    None,
    /// Not bound to a node yet.
    Unbound(PodName),
    /// Not Ready yet.
    Coming(PodName),
    /// Ready in the zone it was meant for.
    Ready(PodName),
    /// Bound in another zone.
    Misplaced(PodName),
}

/// Who else has a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody.
    Free,
    /// Its owner does not want moves.
    Unwanted,
    /// Nothing of it may be written for now: rollout, pause.
    HandsOff,
    /// An autoscaler owns the count.
    Autoscaled,
}

/// What is seen of a move.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    /// Since it began.
    pub(super) waited: Span,
    pub(super) standing: Standing,
    pub(super) count: Count,
    /// The minimum of its autoscaler is raised for it.
    pub(super) held: bool,
    /// How it is about to end, as recorded.
    pub(super) ending: Option<MoveEnding>,
    /// Replicas that exist (not being deleted) are fewer than asked for.
    pub(super) missing: bool,
    /// Replicas that exist are more than asked for.
    pub(super) surplus: bool,
    /// The victim exists and is not being deleted.
    pub(super) victim_stands: bool,
    /// Removing the victim breaks no floor.
    pub(super) victim_may_go: bool,
    pub(super) surge: Surge,
    /// The replacement is available by its workload's own rule, and has been Ready for the
    /// warm-up time: it serves as much as the victim does, and no route has to make way
    /// for it.
    pub(super) warm: bool,
    /// Its controller counts as many Ready as are asked for, the replacement among them. It
    /// has seen then what was written before that one was Ready: the mark of the victim.
    pub(super) counted: bool,
    /// Removing the surge breaks no floor.
    pub(super) surge_may_go: bool,
    /// When the victim is gone: the newcomer that is one too many, if it may go.
    pub(super) excess: Option<PodName>,
    /// None of the replicas known when it began exists any more: only a rollout
    /// replaces all of them.
    pub(super) all_replaced: bool,
}

/// What to do about a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Finish {
        replacement: PodName,
    },
    /// Give up; `surge` goes, if it came at all.
    Undo {
        surge: Option<PodName>,
        cause: AbortCause,
    },
    /// Nothing is left to do.
    Close(MoveEnd),
}

/// The next step of a move by surge.
pub(super) fn next(sight: &Sight, timeout: Span) -> Step {
    match sight.standing {
        Standing::HandsOff => return Step::Wait,
        Standing::Autoscaled => return given_up(AbortCause::AutoscalerAppeared),
        Standing::Free | Standing::Unwanted => {}
    }
    match sight.count {
        Count::Other => given_up(AbortCause::CountChanged),
        Count::Before => back(sight),
        Count::Surged if sight.victim_stands => surged(sight, timeout),
        Count::Surged => victim_lost(sight, timeout),
    }
}

/// The next step of a move by eviction.
pub(super) fn next_eviction(sight: &Sight, timeout: Span) -> Step {
    if sight.victim_stands {
        // Refused, or never asked for; a request may still be on its way.
        return if sight.waited > REQUEST_GRACE {
            given_up(AbortCause::NeverBegan)
        } else {
            Step::Wait
        };
    }
    match &sight.surge {
        Surge::Ready(_) => Step::Close(MoveEnd::Done),
        Surge::Misplaced(_) => given_up(AbortCause::Misplaced),
        _ if sight.waited > timeout => given_up(AbortCause::TimedOut),
        _ if sight.standing == Standing::HandsOff => given_up(AbortCause::RolloutBegan),
        Surge::None | Surge::Unbound(_) | Surge::Coming(_) => Step::Wait,
    }
}

pub(super) const fn given_up(cause: AbortCause) -> Step {
    Step::Close(MoveEnd::GivenUp(cause))
}

/// The count is as before: nothing is left to do but to make sure of it.
fn back(sight: &Sight) -> Step {
    if sight.surplus {
        // The replica set is about to remove one: which, cannot be told yet.
        return Step::Wait;
    }
    match &sight.ending {
        Some(MoveEnding::Finish { .. }) if sight.victim_stands => given_up(AbortCause::AnotherWent),
        Some(MoveEnding::Finish { .. }) => Step::Close(MoveEnd::Done),
        Some(MoveEnding::Undo { cause }) => given_up(*cause),
        // A request may still be on its way.
        None if sight.waited <= REQUEST_GRACE => Step::Wait,
        None if sight.victim_stands => given_up(AbortCause::NeverBegan),
        None => given_up(AbortCause::VictimGone),
    }
}

/// The victim went by itself, and the replica set made up for it although the
/// replacement does already: one of the newcomers is too many.
fn victim_lost(sight: &Sight, timeout: Span) -> Step {
    let cause = if sight.all_replaced { AbortCause::RolloutBegan } else { AbortCause::VictimGone };
    match &sight.excess {
        Some(pod) if !sight.missing => Step::Undo { surge: Some(pod.clone()), cause },
        // What is asked for in vain (a quota) is not asked for any more: nothing goes.
        _ if sight.missing && sight.waited > timeout => Step::Undo { surge: None, cause },
        _ => Step::Wait,
    }
}

fn surged(sight: &Sight, timeout: Span) -> Step {
    let late = sight.waited > timeout;
    let unwanted = sight.standing == Standing::Unwanted;
    let undo = |surge: Option<&PodName>, cause| Step::Undo { surge: surge.cloned(), cause };
    let half = matches!(sight.surge, Surge::Unbound(_)) && sight.waited.times(2) > timeout;
    match &sight.surge {
        // Lowering the count would take nobody away: none is named. So also where what
        // looks like the surge has taken the place of a replica that was lost.
        _ if sight.missing && unwanted => undo(None, AbortCause::NotAllowedAnyMore),
        _ if sight.missing && (late || half) => undo(None, AbortCause::TimedOut),
        _ if sight.missing => Step::Wait,
        Surge::None if unwanted => undo(None, AbortCause::NotAllowedAnyMore),
        Surge::None if late => undo(None, AbortCause::TimedOut),
        Surge::None => Step::Wait,
        Surge::Unbound(pod) | Surge::Coming(pod) if unwanted => {
            undo(Some(pod), AbortCause::NotAllowedAnyMore)
        }
        // What finds no node after half of the time finds none in the other half, and
        // waits because of us.
        Surge::Unbound(pod) if half => undo(Some(pod), AbortCause::TimedOut),
        Surge::Coming(pod) if late => undo(Some(pod), AbortCause::TimedOut),
        Surge::Unbound(_) | Surge::Coming(_) => Step::Wait,
        Surge::Misplaced(pod) if sight.surge_may_go => undo(Some(pod), AbortCause::Misplaced),
        Surge::Ready(pod) if unwanted && sight.surge_may_go => {
            undo(Some(pod), AbortCause::NotAllowedAnyMore)
        }
        Surge::Ready(_) if !unwanted && !sight.warm => Step::Wait,
        Surge::Ready(pod) if !unwanted && sight.victim_may_go && sight.counted => {
            Step::Finish { replacement: pod.clone() }
        }
        Surge::Ready(pod) if late && sight.surge_may_go => {
            let safe = sight.victim_may_go && !sight.counted;
            undo(Some(pod), if safe { AbortCause::NotCounted } else { AbortCause::Unsafe })
        }
        // Removing either would break a floor: waiting is the only safe step.
        Surge::Ready(_) | Surge::Misplaced(_) => Step::Wait,
    }
}
