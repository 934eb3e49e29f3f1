//! Invariants 7 and 9: nothing that another controller owns, nothing that its owner
//! keeps from us, nothing outside the monitored namespaces is written.
//!
//! Clearing the record of a move without touching the count writes nothing in the
//! cluster but our own memory, and is always allowed. What StornX left on pods it may take
//! back wherever it may write at all: a mark, an order, the minimum of an autoscaler that
//! it raised. Taking a surge back is a write like any other: it
//! waits until the workload may be written again, and an owner who opted out wants just
//! that. Routes may change during a rollout: endpoints stay endpoints.

use super::{Owner, Violation, ground::Ground};
use crate::{
    ids::Namespace,
    model::{AutoscalerKind, Host, Mesh, Rollout, Rule, Workload},
    plan::{Action, GiveBackCause, MoveWay, RoutePurpose},
    policy::AutoscaledMoves,
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    for action in ground.actions() {
        if matches!(action, Action::CloseMove { .. }) {
            continue;
        }
        let mut owners = Vec::new();
        let workload = action.workload().and_then(|id| ground.workloads.get(id)).copied();
        match (action, workload) {
            (Action::GiveBackRoutes { host, cause, .. }, workload) => {
                let Some(host) = ground.hosts.get(host) else { continue };
                whose(ground, workload, host, &mut owners);
                if !may_give_back(ground, workload, host, *cause) {
                    let detail = "nothing of ours stands there that is not to stand".to_owned();
                    let action = action.to_string();
                    violations.push(Violation::NotALeftover { action, detail });
                }
            }
            (_, None) => continue,
            (Action::SetRoutes { host, purpose, .. }, Some(workload)) => {
                place(ground, workload, &workload.id.namespace(), &mut owners);
                if let Some(host) = ground.hosts.get(host) {
                    place(ground, workload, &host.name.namespace(), &mut owners);
                    routes(ground, workload, host, *purpose, &mut owners);
                }
            }
            (
                Action::GiveBackMinimum { .. } | Action::Unmark { .. } | Action::Release { .. },
                Some(workload),
            ) => place(ground, workload, &workload.id.namespace(), &mut owners),
            (_, Some(workload)) => {
                place(ground, workload, &workload.id.namespace(), &mut owners);
                replicas(ground, workload, action, &mut owners);
            }
        }
        owners.dedup();
        let refuse = |owner| Violation::NotOurs { action: action.to_string(), owner };
        violations.extend(owners.into_iter().map(refuse));
    }
}

/// Whether a host is in a managed namespace: by its workload, or where there is none, by the
/// list.
fn whose(ground: &Ground<'_>, workload: Option<&Workload>, host: &Host, owners: &mut Vec<Owner>) {
    let namespace = host.name.namespace();
    match workload {
        Some(workload) => {
            place(ground, workload, &workload.id.namespace(), owners);
            place(ground, workload, &namespace, owners);
        }
        None if ground.policy.namespaces.contains(&namespace) => {}
        None => owners.push(Owner::NotMonitored),
    }
}

fn place(ground: &Ground<'_>, workload: &Workload, namespace: &Namespace, owners: &mut Vec<Owner>) {
    let monitored = &ground.policy.namespaces;
    if !workload.managed || !(monitored.is_empty() || monitored.contains(namespace)) {
        owners.push(Owner::NotMonitored);
    }
}

fn replicas(ground: &Ground<'_>, workload: &Workload, action: &Action, owners: &mut Vec<Owner>) {
    let (policy, wishes) = (ground.policy, &workload.policy);
    let scales = matches!(action, Action::AddReplicas { .. } | Action::RemoveReplicas { .. });
    let starts = matches!(action, Action::StartMove { .. });
    if let Some(autoscaler) = workload.autoscaler {
        let always = autoscaler.kind == AutoscalerKind::Controller;
        let way = match (action, policy.moves.autoscaled) {
            (Action::StartMove { way: MoveWay::Evict, .. }, AutoscaledMoves::Evict) => true,
            (Action::StartMove { way: MoveWay::Hold, .. }, AutoscaledMoves::Hold) => {
                autoscaler.kind == AutoscalerKind::Hpa
            }
            _ => false,
        };
        if always || (policy.scaler.respect_autoscalers && !way) {
            owners.push(Owner::Autoscaler(autoscaler.kind));
        }
    }
    if workload.rollout != Rollout::Settled {
        owners.push(Owner::Rollout(workload.rollout));
    }
    if wishes.opted_out && !matches!(action, Action::AbortMove { .. }) {
        owners.push(Owner::OptedOut);
    }
    if starts && ground.snapshot.quiet {
        owners.push(Owner::QuietHour);
    }
    if starts && !ground.snapshot.steering.is_given() {
        owners.push(Owner::NoSteering);
    }
    if (wishes.no_scaling && scales) || (wishes.no_moves && starts) {
        owners.push(Owner::NotWanted);
    }
    if (!policy.scaler.enabled && scales) || (!policy.moves.enabled && starts) {
        owners.push(Owner::SwitchedOff);
    }
    if (scales || starts) && ground.in_flight(&workload.id).is_some() {
        owners.push(Owner::MoveInFlight);
    }
}

/// Whether something of ours stands, and may not.
fn may_give_back(
    ground: &Ground<'_>,
    workload: Option<&Workload>,
    host: &Host,
    cause: GiveBackCause,
) -> bool {
    let stands = host.leftover || matches!(host.rule, Rule::Ours(_));
    let behind = match workload {
        Some(workload) => host.backends.contains(&workload.id),
        None => host.backends.is_empty(),
    };
    let wishes = workload.map(|workload| &workload.policy);
    stands
        && behind
        && match cause {
            GiveBackCause::Foreign(rule) => host.rule == Rule::Foreign(rule),
            GiveBackCause::OptedOut => {
                wishes.is_some_and(|wishes| wishes.opted_out || wishes.no_routing)
            }
            GiveBackCause::Unnamed => ground.snapshot.mesh == Mesh::Unnamed,
            GiveBackCause::Zones => !(2..=100).contains(&ground.zones.len()),
            GiveBackCause::SeveralWorkloads => host.backends.len() > 1,
            GiveBackCause::NoWorkload => host.backends.is_empty(),
            GiveBackCause::Displaced => host.displaced,
            GiveBackCause::ForeignEndpoints => host.foreign_endpoints,
        }
}

/// Whether a workload with a proxy of its own is seen to call the host.
fn has_reader(ground: &Ground<'_>, host: &Host) -> bool {
    let edges = ground.snapshot.traffic.fresh().into_iter().flat_map(|traffic| &traffic.edges);
    let mut callers = edges.filter(|edge| edge.host == host.name).map(|edge| &edge.caller);
    callers.any(|id| ground.workloads.get(id).is_some_and(|caller| caller.proxied))
}

fn routes(
    ground: &Ground<'_>,
    workload: &Workload,
    host: &Host,
    purpose: RoutePurpose,
    owners: &mut Vec<Owner>,
) {
    if workload.policy.opted_out {
        owners.push(Owner::OptedOut);
    }
    if workload.policy.no_routing {
        owners.push(Owner::NotWanted);
    }
    // A zone that was cut off is named again even when nothing is to be improved.
    if !ground.policy.balancer.enabled && purpose == RoutePurpose::Improve {
        owners.push(Owner::SwitchedOff);
    }
    if ground.snapshot.mesh != Mesh::Routable {
        owners.push(Owner::NoMesh);
    }
    // What stands of ours is kept whole, and taken back by steps, whoever reads it.
    let kept = matches!(purpose, RoutePurpose::Cover | RoutePurpose::Decay);
    if host.ztunnel_only && !kept && !has_reader(ground, host) {
        owners.push(Owner::NobodyReads);
    }
    if let Rule::Foreign(rule) = host.rule {
        owners.push(Owner::ForeignRule(rule));
    }
    if !matches!(host.backends.as_slice(), [one] if *one == workload.id) {
        owners.push(Owner::OtherBackends);
    }
}
