//! Every decision. [`plan`] reads as the list of its steps: safety facts first, then
//! what is under way, counts and places, moves, and routes for the layout as it is without
//! the replicas that go. What routes need at once (every zone named, rules that nobody
//! follows gone) comes first in the plan all the same: nothing else may make it late.
//!
//! | room | decides |
//! | --- | --- |
//! | `safety` | what may not be touched, and why; the floors that hold for every room |
//! | `zone_loss` | what survives the loss of each zone |
//! | `scale` | replica counts |
//! | `place` | the node of each new replica, and which replica goes |
//! | `moves` | moves of running replicas, from begin to end |
//! | `balance` | routing weights |
//! | `evidence` | what of a change is not of our making |
//! | `leftovers` | what StornX left on pods and takes away again |
//! | `pacing` | which routing writes this cycle makes |
//! | `ledger` | what this cycle has promised already |

mod balance;
mod evidence;
mod inputs;
mod ledger;
mod leftovers;
mod moves;
mod pacing;
mod place;
mod safety;
mod scale;
mod zone_loss;

pub(crate) use self::balance::remember_hosts;
pub use self::balance::{EndpointGroups, effective_shares, effective_weight, nearest_weights};
pub(crate) use self::moves::remember_workloads;
pub(crate) use self::scale::remember_counts;

use std::collections::BTreeSet;

use self::{
    balance::Routed,
    ledger::Ledger,
    safety::{CountBlock, Safety},
};
use crate::{
    ids::{NodeName, PodName},
    memory::Memory,
    model::{Grain, Snapshot},
    plan::{Action, MoveWay, Plan, Planned},
    policy::Policy,
    report::{ActionReport, Report, WorkloadReport},
    units::{Span, Timestamp},
    view::{Remembered, View, WorkloadIndex},
};

/// How long a request may still arrive and be carried out after nobody waits for its answer
/// any more. The API server ends every request within 60 s by default, and a watch lags by
/// seconds: what is not seen after this was never asked for.
pub(crate) const REQUEST_GRACE: Span = Span::from_seconds(90);

/// An action with its reason.
pub(crate) struct Proposal {
    pub(crate) action: Action,
    pub(crate) report: ActionReport,
}

/// Decides what to do about `snapshot`. Total and deterministic: any snapshot gives a
/// plan, the same input gives the same bytes. Names that a snapshot mentions without
/// defining them are passed over.
#[must_use]
pub fn plan(snapshot: &Snapshot, policy: &Policy, memory: &Memory, now: Timestamp) -> Planned {
    let view = View::new(snapshot, policy, now);
    let remembered = Remembered::of(&view, memory);
    let safety = Safety::assess(&view, &remembered);
    let mut ledger = Ledger::new(&view, &remembered);

    let under_way = moves::advance(&view, &safety, &remembered, &mut ledger);
    let scaled = scale::decide(&view, &safety, &remembered, &mut ledger);
    let moved = moves::decide(&view, &safety, &remembered, &mut ledger, &under_way);
    let tidied = leftovers::decide(&view, &safety, &remembered, &mut ledger);
    let leaving_now = under_way.proposals.iter().chain(&scaled.proposals).chain(&moved.proposals);
    let gone = leaving(&view, leaving_now);
    let grain = Grain::of(snapshot, policy.balancer.granularity, memory);
    let mut routed = routes(&view, &grain, &remembered, &gone);
    let at_once = pacing::pace(&mut ledger, memory, &mut routed);

    let mut planned = Planned {
        plan: Plan { at: now, ..Plan::default() },
        report: Report { at: now, inputs: inputs::report(&view), ..Report::default() },
    };
    let proposals = at_once
        .into_iter()
        .chain(under_way.proposals)
        .chain(scaled.proposals)
        .chain(moved.proposals)
        .chain(tidied)
        .chain(routed.proposals);
    for proposal in proposals {
        planned.plan.actions.push(proposal.action);
        planned.report.actions.push(proposal.report);
    }
    let destinations = moves::Destinations::new(&view, &ledger);
    let mut next = place::Next::new(&view, &ledger, &destinations);
    let reasons = scaled.reasons.into_iter().zip(moved.reasons);
    // Collected in the order of their names, which makes the map without looking for places.
    let reports = view.each_workload().zip(reasons).map(|((at, workload), (scale, moves))| {
        let facts = safety.of(at);
        let report = WorkloadReport {
            ready: ready_by_zone(&view, workload),
            utilisation: facts.utilisation,
            p95: facts.p95,
            requests: facts.requests,
            zone_loss: facts.zone_loss.clone(),
            scale,
            moves,
            growth: moved.growth.get(&at).cloned(),
            next: wishes(&view, &safety, &mut next, at),
        };
        (workload.workload.id.clone(), report)
    });
    planned.report.workloads = reports.collect();
    planned.report.hosts = routed.reports;
    planned
}

/// The routes of hosts that are planned by zone, and of those that are planned by node.
fn routes(
    view: &View<'_>,
    grain: &Grain,
    memory: &Remembered<'_>,
    gone: &BTreeSet<PodName>,
) -> Routed {
    let mut routed = balance::decide(view, memory, gone, |host| !grain.is_fine(host));
    for (host, report) in &mut routed.reports {
        report.whole_zones = grain.why_whole(host).cloned();
    }
    if let Some(fine) = &grain.fine {
        let view = View::new(fine, view.policy, view.now);
        let memory = Remembered::of(&view, memory.all);
        let by_node = balance::decide(&view, &memory, gone, |host| grain.is_fine(host));
        routed.proposals.extend(by_node.proposals);
        routed.reports.extend(by_node.reports);
        routed.proposals.sort_by(|a, b| a.action.host().cmp(&b.action.host()));
    }
    routed
}

/// Where the next replicas of a workload would best go, if they can be told so.
fn wishes(
    view: &View<'_>,
    safety: &Safety,
    next: &mut place::Next<'_>,
    at: WorkloadIndex,
) -> Vec<NodeName> {
    let workload = view.workloads[at.at()].workload;
    let block = safety.of(at).count_block;
    let ours = !matches!(block, Some(CountBlock::NotManaged | CountBlock::OptedOut));
    if !(ours && workload.is_steerable() && view.snapshot.steering.is_given()) {
        return Vec::new();
    }
    let nodes = next.of(at);
    nodes.into_iter().map(|node| view.nodes[node.at()].node.name.clone()).collect()
}

/// The replicas that routes are not to reckon with: those that the plan removes. Of a move
/// within a zone the replacement is left out instead, since it takes over for one that is
/// warm: the zone stays as it was.
fn leaving<'a>(
    view: &View<'_>,
    proposals: impl Iterator<Item = &'a Proposal>,
) -> BTreeSet<PodName> {
    let removed = |proposal: &'a Proposal| match &proposal.action {
        Action::RemoveReplicas { victims, .. } => victims.as_slice(),
        Action::FinishMove { workload, victim, replacement, .. } => {
            let pod = |name| view.pod(view.workload(workload)?, name)?.zone;
            let within = pod(victim) == pod(replacement);
            std::slice::from_ref(if within { replacement } else { victim })
        }
        Action::AbortMove { surge: Some(surge), .. } => std::slice::from_ref(surge),
        Action::StartMove { victim, way: MoveWay::Evict, .. } => std::slice::from_ref(victim),
        _ => &[],
    };
    proposals.flat_map(removed).cloned().collect()
}

fn ready_by_zone(
    view: &View<'_>,
    workload: &crate::view::WorkloadView<'_>,
) -> std::collections::BTreeMap<crate::ids::ZoneName, u32> {
    view.zones
        .iter()
        .zip(&workload.ready)
        .filter(|(_, ready)| **ready > 0)
        .map(|(zone, ready)| (zone.name.clone(), *ready))
        .collect()
}
