//! The state machine of a move that holds the minimum of an autoscaler.
//!
//! The count belongs to the autoscaler. Raising its minimum to one more than there are
//! makes it ask for the replacement; giving it back lets it lower the count when it sees
//! fit, and the marked replica goes first then. So whatever the count is, nothing of the
//! move stands in it: only the minimum has to be given back.
//!
//! | minimum | seen | answer |
//! | --- | --- | --- |
//! | raised | a rollout or a pause | wait; after the time-out give it back |
//! | raised | the owner wants no moves | give it back, the replacement marked |
//! | raised | the replacement is Ready on its place | once it is available and warm: give it back, the victim marked, when that is safe |
//! | raised | the replacement is Ready elsewhere | give it back, the replacement marked |
//! | raised | the replacement is not Ready, or never came | wait; after the time-out give it back, the replacement marked |
//! | raised | the victim is gone | give it back: nobody has to go |
//! | not raised | no ending is recorded | after a grace: it never was, or somebody set another: close |
//! | not raised | the one that was to go is gone | close |
//! | not raised | the one that was to go stands | wait; after [`PATIENCE`] time-outs close: the autoscaler keeps it |

use super::state::{Sight, Standing, Step, Surge, given_up};
use crate::{
    decide::REQUEST_GRACE,
    ids::PodName,
    plan::{AbortCause, MoveEnd, MoveEnding},
    units::Span,
};

/// Time-outs from the beginning of a move until its record goes, whatever the autoscaler
/// does. One is for the replacement; an autoscaler looks back for 300 s by default before
/// it lowers a count, which is the time-out's default.
const PATIENCE: u64 = 3;

/// The next step.
pub(super) fn next(sight: &Sight, timeout: Span) -> Step {
    if sight.held { raised(sight, timeout) } else { given_back(sight, timeout) }
}

fn give_back(goes: Option<&PodName>, cause: AbortCause) -> Step {
    Step::Undo { surge: goes.cloned(), cause }
}

fn raised(sight: &Sight, timeout: Span) -> Step {
    let late = sight.waited > timeout;
    let newcomer = match &sight.surge {
        Surge::None => None,
        Surge::Unbound(pod) | Surge::Coming(pod) | Surge::Ready(pod) | Surge::Misplaced(pod) => {
            Some(pod)
        }
    };
    // A mark would be in the way of a rollout.
    match sight.standing {
        Standing::HandsOff if late => return give_back(None, AbortCause::RolloutBegan),
        Standing::HandsOff => return Step::Wait,
        Standing::Unwanted => return give_back(newcomer, AbortCause::NotAllowedAnyMore),
        Standing::Free | Standing::Autoscaled => {}
    }
    let half = sight.waited.times(2) > timeout;
    match &sight.surge {
        _ if !sight.victim_stands => give_back(None, AbortCause::VictimGone),
        Surge::Ready(_) if !sight.warm => Step::Wait,
        Surge::Ready(pod) if sight.victim_may_go => Step::Finish { replacement: pod.clone() },
        Surge::Ready(pod) if late => give_back(Some(pod), AbortCause::Unsafe),
        Surge::Misplaced(pod) => give_back(Some(pod), AbortCause::Misplaced),
        Surge::Unbound(pod) if half => give_back(Some(pod), AbortCause::TimedOut),
        _ if late => give_back(newcomer, AbortCause::TimedOut),
        _ => Step::Wait,
    }
}

fn given_back(sight: &Sight, timeout: Span) -> Step {
    let patient = sight.waited <= timeout.times(PATIENCE);
    match &sight.ending {
        // A request may still be on its way.
        None if sight.waited <= REQUEST_GRACE => Step::Wait,
        None => given_up(AbortCause::NeverBegan),
        Some(MoveEnding::Finish { .. }) if !sight.victim_stands => Step::Close(MoveEnd::Done),
        Some(MoveEnding::Finish { .. }) if !patient => given_up(AbortCause::KeptByAutoscaler),
        Some(MoveEnding::Undo { cause }) if sight.surge == Surge::None || !patient => {
            given_up(*cause)
        }
        Some(_) => Step::Wait,
    }
}
