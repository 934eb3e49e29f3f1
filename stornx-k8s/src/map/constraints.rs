//! Where the replicas of a pod template may run.
//!
//! What the model can say is mapped; what it cannot is either the scheduler's to hold
//! (affinity to other workloads, spread over anything but zones: a replica may then
//! wait for a place, which is seen as Pending) or makes the workload `pinned`, so that
//! nothing is added to it (one replica a zone by anti-affinity).
//!
//! - `matchFields` on `metadata.name` becomes a comparison of the label
//!   `kubernetes.io/hostname`, which kubelets set to the name of the node.
//! - A term that cannot be read is left out: terms are alternatives, so fewer terms
//!   admit fewer nodes. When none is left, no node is admitted.
//! - A toleration that cannot be read is left out: fewer nodes are admitted.
//! - Pinned are: host ports, `hostPath` volumes, and claims (`persistentVolumeClaim`,
//!   claim templates of a StatefulSet) unless they are all `ReadWriteMany`, which for a
//!   claim named in a template is not known without reading the claim.

use k8s_openapi::{
    api::core::v1::{
        NodeSelectorRequirement, NodeSelectorTerm, PersistentVolumeClaim, PodSpec,
        Toleration as Object,
    },
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use stornx_core::{
    ids::LabelKey,
    model::{Constraints, NodeExpression, NodeOperator, NodeTerm, Toleration},
};

use super::{
    node,
    selector::{Selector, TextLabels},
};

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// The constraints of a pod template with these labels, in this namespace.
pub(crate) fn constraints(
    spec: &PodSpec,
    labels: &TextLabels,
    namespace: &str,
    claims: &[PersistentVolumeClaim],
) -> Constraints {
    let (node_selector, unreadable_selector) = node_selector(spec);
    let mut node_affinity = node_affinity(spec);
    if unreadable_selector {
        node_affinity = vec![nowhere()];
    }
    Constraints {
        node_selector,
        node_affinity,
        tolerations: spec.tolerations.iter().flatten().filter_map(toleration).collect(),
        one_per_node: keeps_apart(spec, labels, namespace, HOSTNAME),
        max_zone_skew: max_zone_skew(spec, labels),
        pinned: is_pinned(spec, claims) || keeps_apart(spec, labels, namespace, ZONE),
    }
}

fn node_selector(spec: &PodSpec) -> (stornx_core::model::Labels, bool) {
    let all: Vec<Option<_>> = spec
        .node_selector
        .iter()
        .flatten()
        .map(|(key, value)| Some((key.parse().ok()?, value.parse().ok()?)))
        .collect();
    let unreadable = all.iter().any(Option::is_none);
    (all.into_iter().flatten().collect(), unreadable)
}

/// A term that no node meets.
fn nowhere() -> NodeTerm {
    let expression = |operator| {
        let key = HOSTNAME.parse::<LabelKey>().ok()?;
        Some(NodeExpression { key, operator, values: Vec::new() })
    };
    let both = [NodeOperator::Exists, NodeOperator::DoesNotExist];
    NodeTerm { expressions: both.into_iter().filter_map(expression).collect() }
}

fn node_affinity(spec: &PodSpec) -> Vec<NodeTerm> {
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    let Some(required) = required else { return Vec::new() };
    let terms: Vec<_> = required.node_selector_terms.iter().filter_map(term).collect();
    if terms.is_empty() { vec![nowhere()] } else { terms }
}

/// A term, or `None` when it matches nothing: an empty one does not, by definition.
fn term(term: &NodeSelectorTerm) -> Option<NodeTerm> {
    let labels = term.match_expressions.iter().flatten().map(|e| expression(e, &e.key));
    let fields =
        term.match_fields.iter().flatten().map(|field| {
            (field.key == "metadata.name").then(|| expression(field, HOSTNAME)).flatten()
        });
    let expressions: Option<Vec<_>> = labels.chain(fields).collect();
    expressions.filter(|all| !all.is_empty()).map(|expressions| NodeTerm { expressions })
}

fn expression(requirement: &NodeSelectorRequirement, key: &str) -> Option<NodeExpression> {
    let operator = match requirement.operator.as_str() {
        "In" => NodeOperator::In,
        "NotIn" => NodeOperator::NotIn,
        "Exists" => NodeOperator::Exists,
        "DoesNotExist" => NodeOperator::DoesNotExist,
        "Gt" => NodeOperator::Gt,
        "Lt" => NodeOperator::Lt,
        _ => return None,
    };
    let values: Option<Vec<stornx_core::ids::LabelValue>> =
        requirement.values.iter().flatten().map(|value| value.parse().ok()).collect();
    let values = values?;
    let fits = match operator {
        NodeOperator::In | NodeOperator::NotIn => !values.is_empty(),
        NodeOperator::Exists | NodeOperator::DoesNotExist => values.is_empty(),
        NodeOperator::Gt | NodeOperator::Lt => {
            matches!(values.as_slice(), [one] if one.as_str().parse::<i64>().is_ok())
        }
    };
    fits.then_some(NodeExpression { key: key.parse().ok()?, operator, values })
}

fn toleration(toleration: &Object) -> Option<Toleration> {
    let key = toleration.key.as_deref().filter(|key| !key.is_empty());
    let effect = toleration.effect.as_deref().filter(|effect| !effect.is_empty());
    let value = match toleration.operator.as_deref() {
        Some("Exists") => None,
        None | Some("" | "Equal") => {
            Some(toleration.value.as_deref().unwrap_or_default().parse().ok()?)
        }
        // Comparisons of numbers (Kubernetes 1.35): not modelled.
        Some(_) => return None,
    };
    Some(Toleration {
        key: key.map(str::parse).transpose().ok()?,
        value,
        effect: match effect {
            Some(effect) => Some(node::effect(effect)?),
            None => None,
        },
    })
}

fn selects(selector: Option<&LabelSelector>, labels: &TextLabels) -> bool {
    selector.is_some_and(|selector| Selector::of(selector).matches(labels))
}

/// Required anti-affinity to its own kind by this topology.
fn keeps_apart(spec: &PodSpec, labels: &TextLabels, namespace: &str, topology: &str) -> bool {
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.pod_anti_affinity.as_ref())
        .and_then(|pods| pods.required_during_scheduling_ignored_during_execution.as_ref());
    required.into_iter().flatten().any(|term| {
        let listed = term.namespaces.as_ref().filter(|names| !names.is_empty());
        let own = match (listed, &term.namespace_selector) {
            (None, None) => true,
            (Some(names), _) if names.iter().any(|name| name == namespace) => true,
            // Labels of namespaces are not read: a selector is taken to match.
            (_, Some(_)) => true,
            _ => false,
        };
        own && term.topology_key == topology && selects(term.label_selector.as_ref(), labels)
    })
}

fn max_zone_skew(spec: &PodSpec, labels: &TextLabels) -> Option<u32> {
    spec.topology_spread_constraints
        .iter()
        .flatten()
        .filter(|constraint| {
            constraint.topology_key == ZONE
                && constraint.when_unsatisfiable == "DoNotSchedule"
                && selects(constraint.label_selector.as_ref(), labels)
        })
        .filter_map(|constraint| u32::try_from(constraint.max_skew).ok())
        .filter(|skew| *skew > 0)
        .min()
}

fn is_pinned(spec: &PodSpec, claims: &[PersistentVolumeClaim]) -> bool {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let host_port = containers
        .flat_map(|container| container.ports.iter().flatten())
        .any(|port| port.host_port.is_some_and(|port| port > 0));
    let bound = spec
        .volumes
        .iter()
        .flatten()
        .any(|volume| volume.host_path.is_some() || volume.persistent_volume_claim.is_some());
    host_port || bound || !claims.iter().all(is_shared)
}

/// A claim that pods on every node may use at once.
fn is_shared(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.is_some_and(|modes| !modes.is_empty() && modes.iter().all(|m| m == "ReadWriteMany"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Constraints {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let labels = [("app".to_owned(), "cart".to_owned())].into();
        constraints(&spec, &labels, "shop", &[])
    }

    fn affinity(terms: Value) -> Constraints {
        read(json!({ "containers": [], "affinity": { "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms }
        }}}))
    }

    #[test]
    fn selectors_and_affinity_are_read() {
        let constraints = read(json!({ "containers": [], "nodeSelector": { "disk": "ssd" } }));
        assert_eq!(constraints.node_selector.len(), 1);
        let constraints = affinity(json!([
            { "matchExpressions": [
                { "key": "generation", "operator": "Gt", "values": ["3"] },
                { "key": "gpu", "operator": "DoesNotExist" }
            ]},
            { "matchFields": [
                { "key": "metadata.name", "operator": "In", "values": ["node-1", "node-2"] }
            ]}
        ]));
        let [labels, fields] = constraints.node_affinity.as_slice() else { panic!("two terms") };
        assert_eq!(labels.expressions[0].operator, NodeOperator::Gt);
        assert_eq!(labels.expressions[1].operator, NodeOperator::DoesNotExist);
        assert_eq!(fields.expressions[0].key.as_str(), HOSTNAME);
        assert_eq!(fields.expressions[0].values.len(), 2);
    }

    #[test]
    fn what_cannot_be_read_admits_less_not_more() {
        let one_left = affinity(json!([
            {},
            { "matchExpressions": [{ "key": "a", "operator": "Near", "values": ["b"] }] },
            { "matchExpressions": [{ "key": "a", "operator": "Exists" }] }
        ]));
        assert_eq!(one_left.node_affinity.len(), 1);
        let none_left = affinity(json!([{}]));
        assert_eq!(none_left.node_affinity, [nowhere()]);
        assert_eq!(nowhere().expressions.len(), 2);
        let selector = read(json!({ "containers": [], "nodeSelector": { "bad key": "x" } }));
        assert_eq!(selector.node_affinity, [nowhere()]);
    }

    #[test]
    fn tolerations_keep_the_meaning_of_absence() {
        let read = read(json!({ "containers": [], "tolerations": [
            { "operator": "Exists" },
            { "key": "a", "operator": "Exists", "effect": "NoSchedule" },
            { "key": "a", "value": "b" },
            { "key": "a" },
            { "key": "a", "operator": "Gt", "value": "5" }
        ]}));
        let [all, effect, equal, empty] = read.tolerations.as_slice() else { panic!("four") };
        assert_eq!(*all, Toleration::default());
        assert!(effect.value.is_none() && effect.effect.is_some());
        assert_eq!(equal.value.as_ref().unwrap().as_str(), "b");
        assert_eq!(empty.value.as_ref().unwrap().as_str(), "", "Equal to the empty value");
    }

    #[test]
    fn only_anti_affinity_to_itself_counts() {
        let apart = |app: &str, topology: &str, more: Value| {
            let mut term = json!({
                "topologyKey": topology, "labelSelector": { "matchLabels": { "app": app } }
            });
            term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(json!({ "containers": [], "affinity": { "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [term]
            }}}))
        };
        let none = || json!({});
        assert!(apart("cart", HOSTNAME, none()).one_per_node);
        assert!(!apart("other", HOSTNAME, none()).one_per_node);
        assert!(!apart("cart", HOSTNAME, json!({ "namespaces": ["other"] })).one_per_node);
        let by_zone = apart("cart", ZONE, none());
        assert!(by_zone.pinned && !by_zone.one_per_node);
    }

    #[test]
    fn spread_over_zones_takes_the_smallest_skew() {
        let constraint = |skew: i32, topology: &str, when: &str| {
            json!({
                "maxSkew": skew, "topologyKey": topology, "whenUnsatisfiable": when,
                "labelSelector": { "matchLabels": { "app": "cart" } }
            })
        };
        let read = read(json!({ "containers": [], "topologySpreadConstraints": [
            constraint(3, ZONE, "DoNotSchedule"),
            constraint(2, ZONE, "DoNotSchedule"),
            constraint(1, ZONE, "ScheduleAnyway"),
            constraint(1, HOSTNAME, "DoNotSchedule")
        ]}));
        assert_eq!(read.max_zone_skew, Some(2));
    }

    #[test]
    fn what_is_bound_to_its_place_is_pinned() {
        let pinned = |spec: Value| read(spec).pinned;
        assert!(!pinned(json!({ "containers": [{ "name": "a", "ports": [
            { "containerPort": 80 }
        ]}], "volumes": [{ "name": "v", "emptyDir": {} }] })));
        assert!(pinned(json!({ "containers": [{ "name": "a", "ports": [
            { "containerPort": 80, "hostPort": 80 }
        ]}] })));
        for volume in [
            json!({ "name": "v", "hostPath": { "path": "/data" } }),
            json!({ "name": "v", "persistentVolumeClaim": { "claimName": "c" } }),
        ] {
            assert!(pinned(json!({ "containers": [], "volumes": [volume] })));
        }
        let claim = |mode: &str| -> PersistentVolumeClaim {
            serde_json::from_value(json!({ "spec": { "accessModes": [mode] } })).unwrap()
        };
        let with = |mode| {
            constraints(&PodSpec::default(), &TextLabels::new(), "shop", &[claim(mode)]).pinned
        };
        assert!(with("ReadWriteOnce") && with("ReadWriteOncePod") && !with("ReadWriteMany"));
    }
}
