//! A new replica can run where it is put: its node is ready, schedulable, tolerated,
//! selected, has room after what the plan already promised there, and the replica's own
//! rules (one per node, `maxSkew` over zones) hold. Kubernetes' rules, written down a
//! second time. And while fewer than `FT_MAX_ZONES` zones hold a replica, a new one goes
//! where none is, if any node there could take it.

use std::collections::BTreeMap;

use super::{
    Violation,
    ground::{Change, Ground, Layout, zones},
};
use crate::{
    ids::{NodeName, ZoneName},
    model::{Constraints, Labels, Node, NodeExpression, NodeOperator, Taint, TaintEffect},
    plan::Action,
    units::Resources,
};

pub(super) fn check(ground: &Ground<'_>, violations: &mut Vec<Violation>) {
    let changes: Vec<_> = ground.changes().filter(|change| !change.added.is_empty()).collect();
    if changes.is_empty() {
        return;
    }
    let mut rooms = rooms(ground);
    for change in &changes {
        let scales = matches!(change.action, Action::AddReplicas { .. });
        let (mut layout, mut spread) =
            (ground.bound(change.workload), ground.coming(change.workload));
        for (index, name) in change.added.iter().enumerate() {
            let Some(node) = ground.nodes.get(*name) else { continue };
            if scales && spread.contains_key(&node.zone) {
                let room = |node: &Node| {
                    rooms.get(&node.name).is_some_and(|r| r.holds(change.workload.requests))
                };
                if let Some(zone) = wider(ground, change, index, &spread, &layout, room) {
                    let (workload, zone) = (change.workload.id.clone(), zone.clone());
                    violations.push(Violation::SpreadNotWidened { workload, zone });
                }
            }
            *spread.entry(&node.zone).or_insert(0) += 1;
            let mut refuse = |reason: &'static str| {
                violations.push(Violation::CannotRunThere {
                    workload: change.workload.id.clone(),
                    node: (*name).clone(),
                    reason,
                });
            };
            if let Some(reason) = refusal(node, &change.workload.constraints) {
                refuse(reason);
            }
            if !rooms.get_mut(*name).is_some_and(|room| room.take(change.workload.requests)) {
                refuse("it has no room left");
            }
            if change.workload.constraints.one_per_node && occupied(change, index, name) {
                refuse("it holds a replica already, and may hold one");
            }
            *layout.entry(&node.zone).or_insert(0) += 1;
            if !schedulable_skew(ground, change, &layout, &node.zone) {
                refuse("its zone would be fuller than maxSkew allows");
            }
        }
    }
}

/// What is free on a node.
struct Room {
    free: Resources,
    pods: i64,
}

impl Room {
    /// Whether there is room for one replica.
    fn holds(&self, requests: Resources) -> bool {
        self.pods > 0 && requests.cpu <= self.free.cpu && requests.memory <= self.free.memory
    }

    /// Takes room for one replica; whether there was enough.
    fn take(&mut self, requests: Resources) -> bool {
        let fits = self.holds(requests);
        self.pods -= 1;
        self.free = self.free.saturating_sub(requests);
        fits
    }
}

/// What is free on every node now: what pods on their way out still hold is not.
fn rooms<'a>(ground: &Ground<'a>) -> BTreeMap<&'a NodeName, Room> {
    let mut rooms: BTreeMap<&NodeName, Room> = ground
        .snapshot
        .nodes
        .iter()
        .map(|node| {
            let free = node.allocatable.saturating_sub(node.reserved);
            let pods = i64::from(node.pod_capacity) - i64::from(node.reserved_pods);
            (&node.name, Room { free, pods })
        })
        .collect();
    for workload in &ground.snapshot.workloads {
        for pod in &workload.pods {
            if let Some(room) = pod.node.as_ref().and_then(|node| rooms.get_mut(node)) {
                room.take(workload.requests);
            }
        }
    }
    rooms
}

/// A zone without a replica that could take the next one while the spread may still
/// widen. Room that a move under way is waiting for does not count: its surge may not be
/// there yet.
fn wider<'a>(
    ground: &Ground<'a>,
    change: &Change<'_>,
    index: usize,
    spread: &Layout<'_>,
    bound: &Layout<'_>,
    room: impl Fn(&Node) -> bool,
) -> Option<&'a ZoneName> {
    if zones(spread) >= ground.policy.fault_tolerance.max_zones {
        return None;
    }
    let constraints = &change.workload.constraints;
    let could = |node: &&'a Node| {
        !spread.contains_key(&node.zone)
            && refusal(node, constraints).is_none()
            && room(node)
            && !(constraints.one_per_node && occupied(change, index, &node.name))
            && !awaited(ground, &node.name)
            && {
                let mut next = bound.clone();
                *next.entry(&node.zone).or_insert(0) += 1;
                schedulable_skew(ground, change, &next, &node.zone)
            }
    };
    ground.snapshot.nodes.iter().find(could).map(|node| &node.zone)
}

fn awaited(ground: &Ground<'_>, node: &NodeName) -> bool {
    let promised = |action: &Action| match action {
        Action::AddReplicas { nodes, .. } => nodes.contains(node),
        Action::StartMove { to, .. } => to == node,
        _ => false,
    };
    let moving = ground.memory.workloads.values().filter_map(|w| w.in_flight.as_ref());
    ground.actions().any(promised) || moving.into_iter().any(|record| record.to == *node)
}

/// Whether a node holds a replica of the workload, one that this action puts there
/// included.
fn occupied(change: &Change<'_>, index: usize, node: &NodeName) -> bool {
    let there = change.workload.pods.iter().any(|pod| pod.node.as_ref() == Some(node));
    there || change.added[..index].contains(&node)
}

/// Whether the scheduler admits one more replica in `zone`, already counted in `layout`.
/// Zones count when a node of theirs is selected, as the scheduler has it.
fn schedulable_skew(
    ground: &Ground<'_>,
    change: &Change<'_>,
    layout: &Layout<'_>,
    zone: &ZoneName,
) -> bool {
    let constraints = &change.workload.constraints;
    let Some(max_skew) = constraints.max_zone_skew else { return true };
    let eligible = ground.snapshot.nodes.iter().filter(|node| is_selected(node, constraints));
    let held = |zone: &ZoneName| layout.get(zone).copied().unwrap_or(0);
    let emptiest = eligible.map(|node| held(&node.zone)).min().unwrap_or(0);
    held(zone) <= emptiest.saturating_add(max_skew)
}

/// Why a node does not admit replicas with these constraints.
fn refusal(node: &Node, constraints: &Constraints) -> Option<&'static str> {
    let untolerated = node.taints.iter().any(|taint| repels(taint, constraints));
    if !node.ready {
        Some("it is not ready")
    } else if !node.schedulable {
        Some("it is cordoned")
    } else if untolerated {
        Some("it has a taint that is not tolerated")
    } else if !is_selected(node, constraints) {
        Some("it is not selected by the workload")
    } else {
        None
    }
}

fn repels(taint: &Taint, constraints: &Constraints) -> bool {
    if taint.effect == TaintEffect::PreferNoSchedule {
        return false;
    }
    for toleration in &constraints.tolerations {
        let key = toleration.key.as_ref().is_none_or(|key| *key == taint.key);
        let value = toleration.value.as_ref().is_none_or(|value| *value == taint.value);
        let effect = toleration.effect.is_none_or(|effect| effect == taint.effect);
        if key && value && effect {
            return false;
        }
    }
    true
}

fn is_selected(node: &Node, constraints: &Constraints) -> bool {
    for (key, value) in &constraints.node_selector {
        if node.labels.get(key) != Some(value) {
            return false;
        }
    }
    // Terms are alternatives; one without expressions matches nothing.
    constraints.node_affinity.is_empty()
        || constraints.node_affinity.iter().any(|term| {
            let matching = term.expressions.iter().filter(|e| matches(e, &node.labels)).count();
            matching > 0 && matching == term.expressions.len()
        })
}

fn matches(expression: &NodeExpression, labels: &Labels) -> bool {
    let listed = labels.get(&expression.key).map(|value| expression.values.contains(value));
    let number = |text: &str| text.parse::<i64>().ok();
    let label = labels.get(&expression.key).and_then(|value| number(value.as_str()));
    let bound = expression.values.first().and_then(|value| number(value.as_str()));
    match expression.operator {
        NodeOperator::In => listed == Some(true),
        NodeOperator::NotIn => listed != Some(true),
        NodeOperator::Exists => listed.is_some(),
        NodeOperator::DoesNotExist => listed.is_none(),
        NodeOperator::Gt => matches!((label, bound), (Some(label), Some(bound)) if label > bound),
        NodeOperator::Lt => matches!((label, bound), (Some(label), Some(bound)) if label < bound),
    }
}
