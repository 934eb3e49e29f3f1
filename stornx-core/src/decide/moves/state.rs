//! The state machine of one move: what follows from what is seen of it now.
//!
//! It keeps no state of its own. The record in the memory says what was begun, the
//! cluster says how far it came; every pair of the two has one answer, so that a crash
//! between any two writes is only another pair.
//!
//! | count that stands | victim | surge | answer |
//! | --- | --- | --- | --- |
//! | neither before nor before + 1 | | | somebody else decides on the count: forget the move |
//! | before | gone | | the move is finished, its record was left over: forget it |
//! | before | there | | after a grace: the surge was never asked for, or is undone: forget it |
//! | before + 1 | gone | | one replica too many since its loss was made up for: one goes |
//! | before + 1 | there | Ready on its place | once it is warm: finish, when that is safe; else wait |
//! | before + 1 | there | Ready elsewhere | give up, the surge goes |
//! | before + 1 | there | not Ready | wait; after the time-out give up, the surge goes |
//! | before + 1 | there | not created yet | wait |
//!
//! While a workload is rolled out, paused or opted out nothing of it is written: the
//! record waits until it is ours to write again, and the surge is taken back then. An
//! autoscaler that appears owns the count, the surge included.
//!
//! Known weakness: when somebody sets the count to exactly one more within the crash
//! window before the surge is asked for, that replica is taken for the surge.

use crate::{ids::PodName, plan::AbortCause, units::Span};

/// How long a record may stand before its surge must be seen. The API server ends
/// every request within 60 s by default and a watch lags by seconds: what is not seen
/// after this was never asked for.
pub(super) const SURGE_GRACE: Span = Span::from_seconds(90);

/// The count that stands, as the record knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// As before the move.
    Before,
    /// One more: the surge was asked for.
    Surged,
    /// Neither.
    Other,
}

/// The replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Surge {
    /// There is no new replica.
    None,
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
    /// Its owner does not want moves (other changes are welcome).
    Unwanted,
    /// Nothing of it may be written for now: rollout, pause, opt-out.
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
    /// Replicas that exist (not being deleted) are fewer than asked for.
    pub(super) missing: bool,
    /// Replicas that exist are more than asked for.
    pub(super) surplus: bool,
    /// The victim exists and is not being deleted.
    pub(super) victim_stands: bool,
    /// Removing the victim breaks no floor.
    pub(super) victim_may_go: bool,
    pub(super) surge: Surge,
    /// The replacement has been Ready for the warm-up time: it serves as much as the
    /// victim does, and no route has to make way for it.
    pub(super) warm: bool,
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
    /// Give up; `surge` goes.
    Undo {
        surge: PodName,
        cause: AbortCause,
    },
    /// The count is as it should be, or is somebody else's: forget the move.
    Forget {
        cause: AbortCause,
    },
}

/// The next step of a move.
pub(super) fn next(sight: &Sight, timeout: Span) -> Step {
    match sight.standing {
        Standing::HandsOff => return Step::Wait,
        Standing::Autoscaled => return Step::Forget { cause: AbortCause::AutoscalerAppeared },
        Standing::Free | Standing::Unwanted => {}
    }
    match sight.count {
        Count::Other => Step::Forget { cause: AbortCause::CountChanged },
        Count::Before => not_surged(sight),
        Count::Surged if sight.victim_stands => surged(sight, timeout),
        Count::Surged => victim_lost(sight),
    }
}

/// The count is as before: nothing is left to do but to make sure of it.
fn not_surged(sight: &Sight) -> Step {
    if sight.surplus || sight.waited <= SURGE_GRACE {
        // The replica set is about to remove one, or a request is still on its way:
        // how it ends cannot be told yet.
        Step::Wait
    } else if sight.victim_stands {
        Step::Forget { cause: AbortCause::NeverBegan }
    } else {
        Step::Forget { cause: AbortCause::VictimGone }
    }
}

/// The victim went by itself, and the replica set made up for it although the
/// replacement does already: one of the newcomers is too many.
fn victim_lost(sight: &Sight) -> Step {
    let cause = if sight.all_replaced { AbortCause::RolloutBegan } else { AbortCause::VictimGone };
    match &sight.excess {
        Some(pod) if !sight.missing => Step::Undo { surge: pod.clone(), cause },
        _ => Step::Wait,
    }
}

fn surged(sight: &Sight, timeout: Span) -> Step {
    let late = sight.waited > timeout;
    let unwanted = sight.standing == Standing::Unwanted;
    match &sight.surge {
        Surge::None => Step::Wait,
        Surge::Coming(pod) if unwanted => undo(pod, AbortCause::NotAllowedAnyMore),
        Surge::Coming(pod) if late => undo(pod, AbortCause::TimedOut),
        Surge::Coming(_) => Step::Wait,
        Surge::Misplaced(pod) if sight.surge_may_go => undo(pod, AbortCause::Misplaced),
        Surge::Ready(pod) if unwanted && sight.surge_may_go => {
            undo(pod, AbortCause::NotAllowedAnyMore)
        }
        Surge::Ready(_) if !unwanted && !sight.warm && !late => Step::Wait,
        Surge::Ready(pod) if !unwanted && sight.victim_may_go => {
            Step::Finish { replacement: pod.clone() }
        }
        Surge::Ready(pod) if late && sight.surge_may_go => undo(pod, AbortCause::Unsafe),
        // Removing either would break a floor: waiting is the only safe step.
        Surge::Ready(_) | Surge::Misplaced(_) => Step::Wait,
    }
}

fn undo(pod: &PodName, cause: AbortCause) -> Step {
    Step::Undo { surge: pod.clone(), cause }
}
