//! What came of a move: the edges it touched against the same edges before it, and
//! against all other edges, so that a bad hour of the whole cluster is not taken for
//! the work of one move.
//!
//! Tells a clear regression (taken back, once) from a disappointment (waits longer
//! next time). A change of demand explains a change of latency: then nothing is said.

use crate::{
    decide::evidence::slowdown,
    ids::WorkloadRef,
    memory::Expectation,
    model::{Edge, Traffic},
    units::{Millis, Share, Span, Timestamp},
    view::Seen,
};

/// Routes follow a move over a few cycles, and the window of the metrics must lie
/// after them.
const LEAST_WAIT: Span = Span::from_seconds(240);

/// After this nothing that is seen can be put down to the move.
const TOO_LATE: Span = Span::from_seconds(1800);

/// Demand that differs by more explains a different latency.
const SAME_DEMAND: f64 = 0.25;

/// p95 that much worse than that of the other edges. A p95 of a few hundred requests
/// varies by some 10 %: 15 % is worse, 50 % is the move.
const WORSE: f64 = 1.15;
const CLEARLY_WORSE: f64 = 1.5;

/// Least difference of p95 in ms that anybody notices.
const NOTICEABLE_MS: f64 = 2.0;
const CLEARLY_NOTICEABLE_MS: f64 = 10.0;

/// Rise of the error share.
const MORE_ERRORS: f64 = 0.01;
const CLEARLY_MORE_ERRORS: f64 = 0.03;

/// What came of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// Too early to tell.
    Open,
    /// Nothing can be said.
    Unknown,
    /// As expected.
    Satisfied,
    /// Worse than before.
    Disappointed,
    /// Clearly worse: to be taken back.
    Regressed,
}

/// The state of the edges of a workload, to be compared later.
pub(super) fn expectation(traffic: &Traffic, of: &WorkloadRef, now: Timestamp) -> Expectation {
    let touches = |edge: &&Edge| edge.caller == *of || edge.callee == *of;
    let touched = || traffic.edges.iter().filter(touches);
    let ours = touched().map(Seen::of).sum::<Seen>();
    let others = traffic.edges.iter().filter(|edge| !touches(edge)).map(Seen::of).sum::<Seen>();
    Expectation {
        since: now,
        p95_before: ours.p95.get().map(Millis::saturating),
        errors_before: Share::saturating(ours.errors.get().unwrap_or(0.0)),
        others_p95_before: others.p95.get().map(Millis::saturating),
        demand_before: touched().map(Edge::requests).sum(),
    }
}

/// Compares what was expected with what is seen now. While something else is known to
/// disturb the edges, nothing is said.
pub(super) fn verdict(
    expected: &Expectation,
    traffic: Option<&Traffic>,
    of: &WorkloadRef,
    now: Timestamp,
    disturbed: bool,
) -> Verdict {
    let waited = now.since(expected.since);
    let ripe = |traffic: &&Traffic| waited >= LEAST_WAIT.max(traffic.window.times(3));
    let Some(traffic) = traffic.filter(ripe).filter(|_| !disturbed) else {
        return if waited > TOO_LATE { Verdict::Unknown } else { Verdict::Open };
    };
    if waited > TOO_LATE {
        return Verdict::Unknown;
    }
    let found = expectation(traffic, of, now);
    let (before, after) = (expected.demand_before.get(), found.demand_before.get());
    if before <= 0.0 || (after - before).abs() > SAME_DEMAND * before {
        return Verdict::Unknown;
    }
    latency(expected, &found).max(failures(expected.errors_before, found.errors_before))
}

fn latency(expected: &Expectation, found: &Expectation) -> Verdict {
    let (Some(before), Some(after)) = (expected.p95_before, found.p95_before) else {
        return Verdict::Unknown;
    };
    let (before, after) = (before.get(), after.get());
    // Where all others got slower too, that part is not of this move's making.
    let others = (expected.others_p95_before, found.others_p95_before);
    let common = slowdown(others.0.map(Millis::get), others.1.map(Millis::get));
    let own = before * common;
    if after > CLEARLY_WORSE * own && after - own > CLEARLY_NOTICEABLE_MS {
        Verdict::Regressed
    } else if after > WORSE * own && after - own > NOTICEABLE_MS {
        Verdict::Disappointed
    } else {
        Verdict::Satisfied
    }
}

fn failures(before: Share, after: Share) -> Verdict {
    let rise = after.get() - before.get();
    if rise > CLEARLY_MORE_ERRORS {
        Verdict::Regressed
    } else if rise > MORE_ERRORS {
        Verdict::Disappointed
    } else {
        Verdict::Unknown
    }
}
