//! A new replica can run where it is put: its node is ready, schedulable, tolerated,
//! selected, has room after what the plan already promised there, and the replica's own
//! rules (one per node, `maxSkew` over zones) hold. Kubernetes' rules, written down a
//! second time. And while fewer than `FT_MAX_ZONES` zones hold a replica, a new one goes
//! where none is, if any node there could take it.

use std::collections::{BTreeMap, BTreeSet};

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
    let awaited = awaited(ground);
    for change in &changes {
        let place = Place {
            ground,
            change,
            awaited: &awaited,
            eligible: eligible(ground, &change.workload.constraints),
        };
        let mut occupied: BTreeSet<&NodeName> =
            change.workload.pods.iter().filter_map(|pod| pod.node.as_ref()).collect();
        let scales = matches!(change.action, Action::AddReplicas { .. });
        let (mut layout, mut spread) =
            (ground.bound(change.workload), ground.coming(change.workload));
        for name in &change.added {
            let Some(node) = ground.nodes.get(*name) else { continue };
            if scales && spread.contains_key(&node.zone) {
                let room = |node: &Node| {
                    rooms.get(&node.name).is_some_and(|r| r.holds(change.workload.requests))
                };
                if let Some(zone) = place.wider(&spread, &layout, &occupied, room) {
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
            if !occupied.insert(name) && change.workload.constraints.one_per_node {
                refuse("it holds a replica already, and may hold one");
            }
            *layout.entry(&node.zone).or_insert(0) += 1;
            if !place.schedulable_skew(&layout, &node.zone) {
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

/// Nodes that a change of this plan, a move under way, or a replica that was asked for
/// earlier and is not bound yet puts a replica on.
fn awaited<'a>(ground: &Ground<'a>) -> BTreeSet<&'a NodeName> {
    let promised = ground.changes().flat_map(|change| change.added);
    let remembered = || ground.memory.workloads.values();
    let moving = remembered().filter_map(|w| w.in_flight.as_ref()).map(|record| &record.to);
    let asked = remembered().flat_map(|w| &w.intents).map(|intent| &intent.node);
    let unbound = ground.snapshot.workloads.iter().flat_map(|w| &w.pods);
    let told = unbound.filter(|pod| pod.node.is_none()).filter_map(|p| p.traces.steered.as_ref());
    promised.chain(moving).chain(asked).chain(told.map(|steered| &steered.node)).collect()
}

/// The zones that count for the skew of a workload: those with a node that it selects,
/// as the scheduler has it. Not asked for without a `maxSkew`.
fn eligible<'a>(ground: &Ground<'a>, constraints: &Constraints) -> BTreeSet<&'a ZoneName> {
    if constraints.max_zone_skew.is_none() {
        return BTreeSet::new();
    }
    let nodes = ground.snapshot.nodes.iter();
    nodes.filter(|node| is_selected(node, constraints)).map(|node| &node.zone).collect()
}

/// What the place of a new replica is judged by, made once for a change.
struct Place<'c, 'a> {
    ground: &'c Ground<'a>,
    change: &'c Change<'a>,
    awaited: &'c BTreeSet<&'a NodeName>,
    eligible: BTreeSet<&'a ZoneName>,
}

impl<'a> Place<'_, 'a> {
    /// A zone without a replica that could take the next one while the spread may still
    /// widen. Room that a move under way is waiting for does not count: its surge may
    /// not be there yet.
    fn wider(
        &self,
        spread: &Layout<'_>,
        bound: &Layout<'_>,
        occupied: &BTreeSet<&NodeName>,
        room: impl Fn(&Node) -> bool,
    ) -> Option<&'a ZoneName> {
        if zones(spread) >= self.ground.policy.fault_tolerance.max_zones {
            return None;
        }
        let constraints = &self.change.workload.constraints;
        let empty = |zone: &&&'a ZoneName| {
            let mut next = bound.clone();
            *next.entry(*zone).or_insert(0) += 1;
            !spread.contains_key(**zone) && self.schedulable_skew(&next, zone)
        };
        let empty: BTreeSet<&ZoneName> = self.ground.zones.iter().filter(empty).copied().collect();
        let could = |node: &&'a Node| {
            empty.contains(&node.zone)
                && refusal(node, constraints).is_none()
                && room(node)
                && !(constraints.one_per_node && occupied.contains(&node.name))
                && !self.awaited.contains(&node.name)
        };
        self.ground.snapshot.nodes.iter().find(could).map(|node| &node.zone)
    }

    /// Whether the scheduler admits one more replica in `zone`, already counted in
    /// `layout`.
    fn schedulable_skew(&self, layout: &Layout<'_>, zone: &ZoneName) -> bool {
        let Some(max_skew) = self.change.workload.constraints.max_zone_skew else { return true };
        let held = |zone: &ZoneName| layout.get(zone).copied().unwrap_or(0);
        let emptiest = self.eligible.iter().map(|zone| held(zone)).min().unwrap_or(0);
        held(zone) <= emptiest.saturating_add(max_skew)
    }
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
