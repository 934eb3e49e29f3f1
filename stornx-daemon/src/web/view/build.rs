//! Makes the document of a cycle from its outcome.

use std::collections::BTreeMap;

use stornx_core::{
    engine::{CycleOutcome, DRY_RUN},
    ids::WorkloadRef,
    model::{Snapshot, Workload},
    plan::{Action, Planned},
    policy::PricePolicy,
    ports::PortError,
    report::{HostReport, Report, WorkloadReport},
};

use super::{
    Cycle, CycleResult, Decision, Edges, Expected, Host, LeftOut, MOST_FOUND, MOST_HOSTS,
    MOST_SERVICES, Reason, Service, Summary, count, graph, round, waits, zones,
};
use crate::{run::result_name, show::words};

/// The document of a cycle; `None` when nothing was planned.
pub(crate) fn of_cycle(outcome: &CycleOutcome, price: &PricePolicy) -> Option<Cycle> {
    let (snapshot, planned) = (outcome.snapshot.as_ref()?, outcome.planned.as_ref()?);
    let report = &planned.report;
    let managed = zones::managed(snapshot, report);
    let weights = graph::weights(outcome);
    let (services, services_left) = services(snapshot, report, MOST_SERVICES, |_| true);
    let (hosts, hosts_left) = hosts(snapshot, report, &weights);
    let (flows, flows_left) = graph::flows(snapshot);
    let (edges, edges_left) = graph::edges(snapshot, &weights, |_| true);
    let known: std::collections::BTreeSet<_> = managed.iter().map(|(id, _)| *id).collect();
    let (waiting, waiting_left) = waits::waiting(outcome, report, |id| known.contains(id));
    Some(Cycle {
        at: outcome.at,
        took: outcome.took.values().map(|took| took.as_millis()).sum(),
        result: if !outcome.violations.is_empty() {
            CycleResult::Refused
        } else if outcome.is_clean() {
            CycleResult::Clean
        } else {
            CycleResult::Partial
        },
        summary: summary(outcome, snapshot, &managed, price),
        inputs: report.inputs.clone(),
        zones: zones::zones(snapshot, &managed),
        services,
        hosts,
        flows,
        edges,
        waiting,
        left_out: LeftOut {
            services: services_left,
            hosts: hosts_left,
            flows: flows_left,
            edges: edges_left,
            waiting: waiting_left,
        },
    })
}

/// Services whose names contain a text, and their edges.
pub(crate) fn found(outcome: &CycleOutcome, text: &str) -> Edges {
    let (Some(snapshot), Some(planned)) = (&outcome.snapshot, &outcome.planned) else {
        return Edges::default();
    };
    let text = text.to_lowercase();
    let names = |id: &WorkloadRef| id.as_str().to_lowercase().contains(&text);
    let (edges, left_out) = graph::edges(snapshot, &graph::weights(outcome), |edge| {
        names(&edge.caller) || names(&edge.callee)
    });
    let (services, services_left_out) =
        services(snapshot, &planned.report, MOST_FOUND, |workload| names(&workload.id));
    Edges { edges, left_out, services, services_left_out }
}

fn summary(
    outcome: &CycleOutcome,
    snapshot: &Snapshot,
    managed: &[(&WorkloadRef, &WorkloadReport)],
    price: &PricePolicy,
) -> Summary {
    let total = graph::total(snapshot, price);
    let remembered = outcome.memory.iter().flat_map(|memory| memory.workloads.values());
    Summary {
        services: count(managed.len()),
        replicas: managed.iter().flat_map(|(_, report)| report.ready.values()).sum(),
        nodes: count(snapshot.nodes.len()),
        requests: total.map(|total| round(total.requests)),
        p95_ms: total.and_then(|total| total.p95()),
        cross_zone: total.and_then(|total| total.cross_zone()),
        errors: total.and_then(|total| total.errors()),
        // Cents of cents count in a small cluster.
        usd_per_hour: total.map(|total| (total.usd_per_hour * 1e6).round() / 1e6),
        moving: count(remembered.filter(|memory| memory.in_flight.is_some()).count()),
    }
}

fn services(
    snapshot: &Snapshot,
    report: &Report,
    most: usize,
    wanted: impl Fn(&Workload) -> bool,
) -> (Vec<Service>, usize) {
    let mut all: Vec<_> = snapshot
        .workloads
        .iter()
        .filter(|workload| wanted(workload))
        .filter_map(|workload| Some((workload, report.workloads.get(&workload.id)?)))
        .collect();
    // Workloads lie in the order of their names: equals stay so.
    all.sort_by_key(|(workload, report)| std::cmp::Reverse((workload.managed, report.requests)));
    let left_out = all.len().saturating_sub(most);
    all.truncate(most);
    (all.into_iter().map(|(workload, report)| service(workload, report)).collect(), left_out)
}

fn service(workload: &Workload, report: &WorkloadReport) -> Service {
    Service {
        id: workload.id.to_string(),
        name: workload.id.name().to_owned(),
        namespace: workload.id.namespace().to_string(),
        managed: workload.managed,
        ready: report.ready.clone(),
        desired: workload.desired,
        utilisation: report.utilisation.map(|used| round(used.get())),
        p95_ms: report.p95.map(|p95| round(p95.get())),
        requests: round(report.requests.get()),
        scale: Reason { name: report.scale.name().to_owned(), text: report.scale.to_string() },
        moves: Reason { name: report.moves.name().to_owned(), text: report.moves.to_string() },
    }
}

fn hosts(
    snapshot: &Snapshot,
    report: &Report,
    weights: &graph::AllWeights<'_>,
) -> (Vec<Host>, usize) {
    let backends: BTreeMap<_, _> = snapshot
        .hosts
        .iter()
        .map(|host| (&host.name, <&[WorkloadRef; 1]>::try_from(host.backends.as_slice()).ok()))
        .collect();
    let left_out = report.hosts.len().saturating_sub(MOST_HOSTS);
    let hosts = report.hosts.iter().take(MOST_HOSTS).map(|(name, report)| Host {
        name: name.to_string(),
        service: backends.get(name).copied().flatten().map(|[backend]| backend.to_string()),
        reason: Reason { name: report.reason.name().to_owned(), text: report.reason.to_string() },
        delta: round(report.delta),
        weights: weights.get(name).map(|weights| weights.table.clone().into_owned()),
        by_node: weights.get(name).is_some_and(|weights| weights.by_node),
        verification: verification(report),
    });
    (hosts.collect(), left_out)
}

fn verification(report: &HostReport) -> Vec<Reason> {
    let Some(found) = &report.verification else { return Vec::new() };
    let following =
        Reason { name: found.following.name().to_owned(), text: found.following.to_string() };
    let effect = found
        .effect
        .as_ref()
        .map(|effect| Reason { name: effect.name().to_owned(), text: effect.to_string() });
    std::iter::once(following).chain(effect).collect()
}

/// What an action is about: its workload, or the host where there is none.
fn subject(action: &Action) -> String {
    let host = || action.host().map(ToString::to_string).unwrap_or_default();
    action.workload().map_or_else(host, ToString::to_string)
}

/// What a cycle decided, in the order of its plan.
pub(crate) fn decisions(outcome: &CycleOutcome) -> Vec<Decision> {
    let Some(Planned { plan, report }) = &outcome.planned else { return Vec::new() };
    let with_reasons = plan.actions.iter().zip(&report.actions).zip(&outcome.outcomes);
    with_reasons
        .map(|((action, reason), result)| Decision {
            at: outcome.at,
            times: 1,
            kind: action.kind().name().to_owned(),
            service: subject(action),
            host: match action {
                Action::SetRoutes { host, .. } | Action::GiveBackRoutes { host, .. } => {
                    Some(host.to_string())
                }
                _ => None,
            },
            action: action.to_string(),
            why: reason.why.to_string(),
            expected: Expected {
                request_ms_per_second: round(reason.expected.request_ms_per_second),
                usd_per_month: round(reason.expected.usd_per_month),
                text: words::expected(&reason.expected),
            },
            result: Reason {
                name: match result {
                    Err(PortError::NotTried { .. }) if !outcome.violations.is_empty() => "refused",
                    Err(PortError::NotTried { detail, .. }) if detail == DRY_RUN => "dry-run",
                    result => result_name(result),
                }
                .to_owned(),
                text: match result {
                    Ok(()) => "done".to_owned(),
                    Err(error) => error.to_string(),
                },
            },
            numbers: reason.why.clone(),
        })
        .collect()
}
