//! What waits, and what for. Each reason for leaving something alone is sorted once, here:
//! a state that nothing follows from (a service within its band) waits for nothing.

use std::collections::BTreeMap;

use stornx_core::{
    engine::CycleOutcome,
    ids::HostName,
    plan::Action,
    report::{Effect, Following, HostReport, MoveReason, Report, RouteReason, ScaleReason},
    units::Span,
};

use super::{MOST_WAITING, Reason, Waiting, WaitsFor};

/// What waits after a cycle, and how much is left out.
pub(super) fn waiting(
    outcome: &CycleOutcome,
    report: &Report,
    is_managed: impl Fn(&stornx_core::ids::WorkloadRef) -> bool,
) -> (Vec<Waiting>, usize) {
    let mut all = Vec::new();
    for (id, report) in report.workloads.iter().filter(|(id, _)| is_managed(id)) {
        let subject = id.to_string();
        if let Some((waits_for, left)) = scale(&report.scale) {
            let reason =
                Reason { name: report.scale.name().to_owned(), text: report.scale.to_string() };
            all.push(wait(waits_for, "scale", subject.clone(), reason, left));
        }
        if let Some((waits_for, left)) = moves(&report.moves) {
            let reason =
                Reason { name: report.moves.name().to_owned(), text: report.moves.to_string() };
            all.push(wait(waits_for, "move", subject, reason, left));
        }
    }
    let done = written(outcome);
    for (host, report) in &report.hosts {
        of_host(host, report, done.get(host).copied(), &mut all);
    }
    // What is soonest first; equals by name.
    all.sort_by(|a, b| {
        (a.waits_for, a.left.is_none(), a.left, &a.subject, &a.about).cmp(&(
            b.waits_for,
            b.left.is_none(),
            b.left,
            &b.subject,
            &b.about,
        ))
    });
    let left_out = all.len().saturating_sub(MOST_WAITING);
    all.truncate(MOST_WAITING);
    (all, left_out)
}

fn wait(
    waits_for: WaitsFor,
    about: &str,
    subject: String,
    reason: Reason,
    left: Option<Span>,
) -> Waiting {
    let left = left.map(|left| left.as_millis());
    Waiting { waits_for, about: about.to_owned(), subject, reason, left }
}

type Wait = Option<(WaitsFor, Option<Span>)>;

fn scale(reason: &ScaleReason) -> Wait {
    match reason {
        ScaleReason::Cooldown { left } => Some((WaitsFor::Cooldown, Some(*left))),
        ScaleReason::BudgetUsedUp { .. } => Some((WaitsFor::Budget, None)),
        ScaleReason::MoveInFlight
        | ScaleReason::RolloutInProgress
        | ScaleReason::Settling { .. } => Some((WaitsFor::UnderWay, None)),
        ScaleReason::SlowLately { .. } => Some((WaitsFor::Counts, None)),
        ScaleReason::NoUsage => Some((WaitsFor::Input, None)),
        reason if reason.is_guard() => Some((WaitsFor::Guard, None)),
        _ => None,
    }
}

const fn moves(reason: &MoveReason) -> Wait {
    match reason {
        MoveReason::Backoff { left } => Some((WaitsFor::Cooldown, Some(*left))),
        MoveReason::BudgetUsedUp | MoveReason::NeedsOthers { .. } => Some((WaitsFor::Budget, None)),
        MoveReason::Started | MoveReason::Waiting { .. } | MoveReason::Finished => {
            Some((WaitsFor::UnderWay, None))
        }
        MoveReason::Confirming { .. } => Some((WaitsFor::Counts, None)),
        MoveReason::NoTraffic => Some((WaitsFor::Input, None)),
        MoveReason::NoRoom | MoveReason::QuietHours | MoveReason::NoSteering => {
            Some((WaitsFor::Guard, None))
        }
        _ => None,
    }
}

const fn route(reason: &RouteReason) -> Wait {
    match reason {
        RouteReason::Backoff { left } => Some((WaitsFor::Cooldown, Some(*left))),
        RouteReason::Waits => Some((WaitsFor::Budget, None)),
        RouteReason::SeenAlready => Some((WaitsFor::Counts, None)),
        RouteReason::RollingOut => Some((WaitsFor::UnderWay, None)),
        RouteReason::NoTraffic { .. } => Some((WaitsFor::Input, None)),
        RouteReason::NoRule
        | RouteReason::OptedOut
        | RouteReason::Foreign(_)
        | RouteReason::Unnamed
        | RouteReason::Displaced
        | RouteReason::ForeignEndpoints
        | RouteReason::TooManyZones { .. } => Some((WaitsFor::Guard, None)),
        _ => None,
    }
}

/// How far the routes of each host were moved in a cycle, percentage points.
fn written(outcome: &CycleOutcome) -> BTreeMap<&HostName, f64> {
    outcome.done().filter_map(moved).collect()
}

fn moved(action: &Action) -> Option<(&HostName, f64)> {
    let Action::SetRoutes { host, from, to, .. } = action else { return None };
    let points: u32 = to
        .iter()
        .map(|(caller, next)| from.get(caller).map_or(0, |before| before.distance(next)))
        .sum();
    Some((host, f64::from(points)))
}

fn of_host(host: &HostName, report: &HostReport, moved: Option<f64>, all: &mut Vec<Waiting>) {
    /// Below this the split is at its target: weights are whole.
    const NEAR: f64 = 1.0;
    let subject = host.to_string();
    if let Some((waits_for, left)) = route(&report.reason) {
        let reason =
            Reason { name: report.reason.name().to_owned(), text: report.reason.to_string() };
        all.push(wait(waits_for, "route", subject.clone(), reason, left));
    }
    if let Some(moved) = moved.filter(|moved| report.delta - moved > NEAR) {
        let left = report.delta - moved;
        let text = format!(
            "{left:.0} of {:.0} points are left to its target: the next step comes with a later cycle",
            report.delta
        );
        let reason = Reason { name: "on-the-way".to_owned(), text };
        all.push(wait(WaitsFor::NextCycle, "route", subject.clone(), reason, None));
    }
    let Some(found) = &report.verification else { return };
    let following = &found.following;
    let looked_at = match following {
        Following::TooEarly { left } => Some(Some(*left)),
        Following::Doubtful { .. } => Some(None),
        _ => None,
    };
    if let Some(left) = looked_at {
        let reason = Reason { name: following.name().to_owned(), text: following.to_string() };
        all.push(wait(WaitsFor::Counts, "route", subject.clone(), reason, left));
    } else if let Some(effect @ Effect::TooEarly { left }) = &found.effect {
        let reason = Reason { name: effect.name().to_owned(), text: effect.to_string() };
        all.push(wait(WaitsFor::Counts, "route", subject, reason, Some(*left)));
    }
}
