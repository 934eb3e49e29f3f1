//! Invariant 8: at most the configured number of moves and scale actions per cycle, per
//! workload and per zone, of routing writes per cycle unless none of them may wait, and no
//! move on a workload or change on a host that is to be left alone for a while. Taking back
//! a move that made things worse need not wait, nor need routes that relieve a zone above the
//! cap.

use std::collections::BTreeMap;

use super::{Violation, counts, ground::Ground};
use crate::{
    ids::WorkloadRef,
    model::Facts,
    plan::{Action, MoveWay, RoutePurpose},
    report::{RouteWhy, Why},
    units::Span,
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    scale_actions(ground, violations);
    moves(ground, violations);
    routes(ground, violations);
}

fn spent(budget: &'static str, used: usize, allowed: u32, violations: &mut Vec<Violation>) {
    let used = u32::try_from(used).unwrap_or(u32::MAX);
    if used > allowed {
        violations.push(Violation::BudgetExceeded { budget, used, allowed });
    }
}

fn scale_actions(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let scaler = &ground.policy.scaler;
    let mut actions = 0;
    for change in ground.changes() {
        if !matches!(change.action, Action::AddReplicas { .. } | Action::RemoveReplicas { .. }) {
            continue;
        }
        actions += 1;
        let size = usize::try_from(counts::size(&change)).unwrap_or(usize::MAX);
        spent("SCALER_MAX_STEP", size, scaler.max_step, violations);
        let scaled = ground.memory.workloads.get(&change.workload.id).and_then(|w| w.scaled_at);
        let at = ground.planned.plan.at;
        if let Some(scaled) = scaled
            && at < scaled.after(scaler.cooldown)
        {
            let (workload, left) =
                (change.workload.id.clone(), scaled.after(scaler.cooldown).since(at));
            violations.push(Violation::TooSoon { workload, left });
        }
    }
    spent("SCALER_MAX_ACTIONS", actions, scaler.max_actions, violations);
}

fn moves(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let policy = &ground.policy.moves;
    let (mut begun, mut by_zone, mut by_node) = (0, BTreeMap::new(), BTreeMap::new());
    let mut evictions = 0;
    for action in ground.actions() {
        let Action::StartMove { workload, way, from, to, .. } = action else { continue };
        begun += 1;
        evictions += usize::from(*way == MoveWay::Evict);
        for node in [from, to] {
            *by_node.entry(node).or_insert(0) += 1;
        }
        let (from, to) = (ground.zone_of(from), ground.zone_of(to));
        for zone in from.into_iter().chain(to.filter(|to| Some(*to) != from)) {
            *by_zone.entry(zone).or_insert(0) += 1;
        }
        if let (Some(left), false) = (backoff(ground, workload), taken_back(ground, action)) {
            violations.push(Violation::TooSoon { workload: workload.clone(), left });
        }
    }
    if begun == 0 {
        return;
    }
    spent("MOVE_MAX_PER_CYCLE", begun, policy.max_per_cycle, violations);
    // A move that ends in this plan may fail to: it counts until it has ended.
    let records = || ground.memory.workloads.values().filter_map(|w| w.in_flight.as_ref());
    spent("MOVE_MAX_IN_FLIGHT", records().count() + begun, policy.max_in_flight, violations);
    if evictions > 0 {
        let under_way = records().filter(|record| record.way == MoveWay::Evict).count();
        spent("evictions at one time", under_way + evictions, 1, violations);
    }
    for used in by_node.into_values() {
        spent("MOVE_MAX_PER_NODE", used, policy.max_per_node, violations);
    }
    for used in by_zone.into_values() {
        spent("MOVE_MAX_PER_ZONE", used, policy.max_per_zone, violations);
    }
}

/// How long a workload is still left alone after its last move or a disappointment.
fn backoff(ground: &Ground<'_>, workload: &WorkloadRef) -> Option<Span> {
    let remembered = ground.memory.workloads.get(workload)?;
    let at = ground.planned.plan.at;
    let moved = remembered.moved_at.map(|moved| moved.after(ground.policy.moves.backoff));
    let until = moved.max(remembered.move_backoff.map(|backoff| backoff.until))?;
    (at < until).then(|| until.since(at))
}

/// Whether an action takes back the last move of its workload, which made things worse.
fn taken_back(ground: &Ground<'_>, action: &Action) -> bool {
    let Action::StartMove { workload, victim, .. } = action else { return false };
    let last = ground.memory.workloads.get(workload).and_then(|w| w.last_move.as_ref());
    last.is_some_and(|last| last.regressed && last.replacement == *victim)
}

/// Whether routes are rewritten to relieve a zone that is above the cap, and do not make
/// the busiest zone busier: that need not wait.
fn relieves(ground: &Ground<'_>, why: &Why) -> bool {
    let Why::Route(RouteWhy { peak_before: Some(before), peak_after: Some(after), .. }) = why
    else {
        return false;
    };
    *before > ground.policy.balancer.max_utilisation && after <= before
}

fn routes(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let at = ground.planned.plan.at;
    for (action, report) in ground.actions().zip(&ground.planned.report.actions) {
        if let Action::SetRoutes { host, purpose: RoutePurpose::Improve, .. } = action
            && !relieves(ground, &report.why)
            && let Some(backoff) = ground.memory.hosts.get(host).and_then(|memory| memory.backoff)
            && at < backoff.until
        {
            let (host, left) = (host.clone(), backoff.until.since(at));
            violations.push(Violation::RoutesTooSoon { host, left });
        }
    }
    // Names of zones that a rule lacks, and rules that go, do not wait: they count unless they
    // were refused last time, and alone may be more.
    let may_wait = |action: &Action| matches!(action, Action::SetRoutes { purpose, .. } if *purpose != RoutePurpose::Cover);
    let counts = |action: &&Action| match action {
        Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } => {
            let memory = ground.memory.hosts.get(host);
            may_wait(action) || memory.is_none_or(|memory| memory.refused_at.is_none())
        }
        _ => false,
    };
    if ground.actions().any(may_wait) {
        let used = ground.actions().filter(counts).count();
        spent("BALANCER_MAX_WRITES", used, ground.policy.balancer.max_writes, violations);
    }
    too_late(ground, violations);
    seen_already(ground, violations);
}

/// What must not wait is done before everything else.
fn too_late(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let mut others = false;
    for action in ground.actions() {
        match action {
            Action::SetRoutes { host, purpose: RoutePurpose::Cover, .. }
            | Action::GiveBackRoutes { host, .. } => {
                if others {
                    violations.push(Violation::RoutesTooLate { host: host.clone() });
                }
            }
            _ => others = true,
        }
    }
}

/// Between two steps of a host without figures.
const BETWEEN_STEPS: Span = Span::from_seconds(15);

/// Each step of a host has figures of its own, or comes a while after the last one. Every
/// replica alike during a rollout, or every zone named, rests on who is ready.
fn seen_already(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let at = ground.planned.plan.at;
    for action in ground.actions() {
        let Action::SetRoutes { host, purpose, .. } = action else { continue };
        let memory = ground.memory.hosts.get(host);
        let Some(written) = memory.and_then(|memory| memory.written_at) else { continue };
        let hasty = match (purpose, &ground.snapshot.traffic) {
            (RoutePurpose::Cover | RoutePurpose::Rollout, _) => false,
            (_, Facts::Fresh { as_of, .. }) => (*as_of).min(at) <= written,
            _ => at < written.after(BETWEEN_STEPS),
        };
        if hasty {
            violations.push(Violation::RoutesSeenAlready { host: host.clone() });
        }
    }
}
