//! Nodes.
//!
//! The zone is the label `topology.kubernetes.io/zone`, else its predecessor
//! `failure-domain.beta.kubernetes.io/zone`; a node with neither belongs to the zone
//! `unknown`: such nodes share one failure domain, since nothing says that they do not.
//! The region likewise. A node that is being deleted takes no pods. Labels and taints
//! that the model cannot hold are left out: no selector can name such a label, and no
//! toleration such a taint's key, so an unreadable taint closes the node instead.

use k8s_openapi::{
    api::core::v1::Node as Object,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use stornx_core::{
    ids::{LabelKey, LabelValue, NodeName, RegionName, ZoneName},
    model::{Labels, Node, SUBZONE, Taint, TaintEffect},
    units::{Resources, Timestamp},
};

use super::{instant, quantity, rule::is_ours};

const ZONE: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];
const REGION: [&str; 2] =
    ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
/// The zone and region of nodes without labels.
pub(crate) const UNKNOWN: &str = "unknown";

/// A node as the model has it, without what pods of no known workload ask for there.
/// `None` for a name that is no name.
pub(crate) fn record(node: &Object) -> Option<Node> {
    let name = NodeName::new(node.metadata.name.as_deref()?).ok()?;
    let labels = labels(node);
    let (taints, unreadable_taint) = taints(node);
    let spec = node.spec.as_ref();
    let cordoned = spec.and_then(|spec| spec.unschedulable) == Some(true);
    let going = node.metadata.deletion_timestamp.is_some();
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let quantity_of = |resource: &str| allocatable?.get(resource);
    Some(Node {
        name,
        zone: first(&labels, ZONE)
            .and_then(|zone| ZoneName::new(zone).ok())
            .or_else(|| ZoneName::new(UNKNOWN).ok())?,
        region: first(&labels, REGION)
            .and_then(|region| RegionName::new(region).ok())
            .or_else(|| RegionName::new(UNKNOWN).ok())?,
        ready: is_ready(node),
        schedulable: !cordoned && !going && !unreadable_taint,
        allocatable: Resources {
            cpu: quantity_of("cpu").and_then(quantity::milli_cpu).unwrap_or_default(),
            memory: quantity_of("memory").and_then(quantity::bytes).unwrap_or_default(),
        },
        pod_capacity: quantity_of("pods").and_then(quantity::count).unwrap_or_default(),
        reserved: Resources::default(),
        reserved_pods: 0,
        named_since: named_since(node),
        labels,
        taints,
    })
}

/// The taint of a node of which no cloud controller has said yet where it is.
const UNINITIALIZED: &str = "node.cloudprovider.kubernetes.io/uninitialized";

/// Whether a node does not say in which zone or region it is.
pub(crate) fn is_nameless(node: &Node) -> bool {
    node.zone.as_str() == UNKNOWN || node.region.as_str() == UNKNOWN
}

/// Whether a node takes replicas, or says where it is. One that has just joined does neither:
/// where clouds are asked by a controller of their own, it gets its labels some seconds
/// later, together with the removal of that taint.
pub(crate) fn is_settled(node: &Node) -> bool {
    let uninitialized = || node.taints.iter().any(|taint| taint.key.as_str() == UNINITIALIZED);
    !is_nameless(node) || (node.ready && node.schedulable && !uninitialized())
}

/// Since when a node is a subzone of its own: by a label with its name that we, and nobody
/// else, set.
fn named_since(node: &Object) -> Option<Timestamp> {
    let label = node.metadata.labels.as_ref()?.get(SUBZONE)?;
    let mut owners = owners(&node.metadata);
    let (first, others) = (owners.next()?, owners.next());
    let ours = is_ours(first) && others.is_none() && Some(label) == node.metadata.name.as_ref();
    first.time.as_ref().filter(|_| ours).map(instant)
}

/// Whether we say something of the subzone of a node.
pub(crate) fn is_labelled(meta: &ObjectMeta) -> bool {
    owners(meta).any(is_ours)
}

/// Who set the subzone of a node.
fn owners(meta: &ObjectMeta) -> impl Iterator<Item = &ManagedFieldsEntry> {
    let label = format!("f:{SUBZONE}");
    meta.managed_fields.iter().flatten().filter(move |entry| {
        let fields = entry.fields_v1.as_ref();
        let labels = fields.and_then(|fields| fields.0.get("f:metadata")?.get("f:labels"));
        labels.is_some_and(|labels| labels.get(&label).is_some())
    })
}

fn labels(node: &Object) -> Labels {
    let readable = |(key, value): (&String, &String)| {
        Some((key.parse::<LabelKey>().ok()?, value.parse::<LabelValue>().ok()?))
    };
    node.metadata.labels.iter().flatten().filter_map(readable).collect()
}

fn first<'a>(labels: &'a Labels, keys: [&str; 2]) -> Option<&'a str> {
    keys.iter()
        .filter_map(|key| labels.get(&key.parse::<LabelKey>().ok()?))
        .map(LabelValue::as_str)
        .find(|value| !value.is_empty())
}

fn is_ready(node: &Object) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// The taints, and whether there is one that could not be read.
fn taints(node: &Object) -> (Vec<Taint>, bool) {
    let all: Vec<Option<Taint>> = node
        .spec
        .iter()
        .flat_map(|spec| spec.taints.iter().flatten())
        .map(|taint| {
            Some(Taint {
                key: taint.key.parse().ok()?,
                value: taint.value.as_deref().unwrap_or_default().parse().ok()?,
                effect: effect(&taint.effect)?,
            })
        })
        .collect();
    let unreadable = all.iter().any(Option::is_none);
    (all.into_iter().flatten().collect(), unreadable)
}

/// The effect of a taint or toleration.
pub(crate) fn effect(text: &str) -> Option<TaintEffect> {
    match text {
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(value: serde_json::Value) -> Node {
        record(&serde_json::from_value(value).unwrap()).unwrap()
    }

    #[test]
    fn a_node_of_a_cloud_is_read_whole() {
        let node = node(json!({
            "metadata": { "name": "ip-10-0-1-7.ec2.internal", "labels": {
                "kubernetes.io/hostname": "ip-10-0-1-7",
                "topology.kubernetes.io/zone": "us-east-1a",
                "topology.kubernetes.io/region": "us-east-1"
            }},
            "spec": { "taints": [{ "key": "dedicated", "value": "db", "effect": "NoSchedule" }] },
            "status": {
                "allocatable": { "cpu": "3920m", "memory": "15073280Ki", "pods": "58" },
                "conditions": [
                    { "type": "MemoryPressure", "status": "False" },
                    { "type": "Ready", "status": "True" }
                ]
            }
        }));
        assert_eq!((node.zone.as_str(), node.region.as_str()), ("us-east-1a", "us-east-1"));
        assert!(node.ready && node.schedulable);
        assert_eq!(node.allocatable.cpu.get(), 3920);
        assert_eq!(node.allocatable.memory.get(), 15_073_280 << 10);
        assert_eq!(node.pod_capacity, 58);
        assert_eq!(node.labels.len(), 3);
        assert_eq!(node.taints[0].value.as_str(), "db");
    }

    #[test]
    fn zones_fall_back_to_the_old_label_and_then_to_one_unknown_zone() {
        let old = json!({ "metadata": { "name": "n", "labels": {
            "failure-domain.beta.kubernetes.io/zone": "z1"
        }}});
        let old = node(old);
        assert_eq!((old.zone.as_str(), old.region.as_str()), ("z1", "unknown"));
        let bare = node(json!({ "metadata": { "name": "n" } }));
        assert_eq!((bare.zone.as_str(), bare.region.as_str()), ("unknown", "unknown"));
        assert!(!bare.ready, "no condition is not Ready");
    }

    #[test]
    fn cordoned_leaving_and_unreadably_tainted_nodes_take_nothing() {
        let cordoned = json!({ "metadata": { "name": "n" }, "spec": { "unschedulable": true } });
        assert!(!node(cordoned).schedulable);
        let going = json!({ "metadata": {
            "name": "n", "deletionTimestamp": "2026-11-25T13:00:00Z"
        }});
        assert!(!node(going).schedulable);
        let odd = json!({ "metadata": { "name": "n" }, "spec": { "taints": [
            { "key": "k", "effect": "NoSuchEffect" }
        ]}});
        assert!(!node(odd).schedulable);
    }

    #[test]
    fn a_node_is_named_by_a_label_of_ours_alone() {
        let labelled = |value: &str, managers: &[(&str, &str)]| {
            let entry = |(manager, operation): &(&str, &str)| {
                json!({
                    "manager": manager, "operation": operation, "time": "2026-11-25T13:00:00Z",
                    "fieldsV1": { "f:metadata": { "f:labels": {
                        "f:topology.istio.io/subzone": {}
                    }}}
                })
            };
            let managers: Vec<_> = managers.iter().map(entry).collect();
            node(json!({ "metadata": { "name": "n", "managedFields": managers,
                "labels": { "topology.istio.io/subzone": value } } }))
        };
        let ours = ("stornx", "Apply");
        let since = labelled("n", &[ours]).named_since.unwrap();
        assert_eq!(since.as_millis(), 1_795_611_600_000);
        assert_eq!(labelled("rack-7", &[ours]).named_since, None, "another name");
        assert_eq!(labelled("n", &[("kubectl", "Update")]).named_since, None);
        assert_eq!(labelled("n", &[ours, ("kubectl", "Apply")]).named_since, None);
        assert_eq!(node(json!({ "metadata": { "name": "n" } })).named_since, None);
    }
}
