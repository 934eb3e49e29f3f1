//! What is added to a pod that is steered: a JSON patch.
//!
//! `required`: every alternative of the pod's own node affinity is narrowed to the node
//! (alternatives are ORed, so ours has to be in each), or one is made. `preferred`: one
//! more preference, of the greatest weight there is. Both by the field `metadata.name`,
//! which the scheduler looks up directly, and which is right where the label
//! `kubernetes.io/hostname` is not the name of the node. An annotation says what was done.
//!
//! Nothing that is there is changed or taken away. A pod whose affinity is not of the
//! expected shape gets no patch: the API server refuses it by itself, or knows more than we.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use stornx_core::steer::Steer;

use crate::map::traces::{PREFERRED, STEERED, steered_value};

/// The weight of our preference: the greatest that the API allows. It still is one of the
/// scheduler's several scores, so it decides among nodes that are alike otherwise.
const WEIGHT: i32 = 100;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERENCES: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// The operations that steer a pod with these metadata and this `spec`; `None` when it
/// cannot be done.
pub(crate) fn patch(meta: &ObjectMeta, spec: &Value, steer: &Steer) -> Option<Vec<Value>> {
    let (mut operations, key, value) = match steer {
        Steer::Required(steered) => {
            let operations = require(spec, steered.node.as_str())?;
            (operations, STEERED, steered_value(steered))
        }
        Steer::Preferred(node) => {
            let operations = vec![prefer(spec, node.as_str())?];
            (operations, PREFERRED, node.to_string())
        }
    };
    operations.push(match &meta.annotations {
        Some(_) => {
            let name = key.replace('~', "~0").replace('/', "~1");
            add(&format!("/metadata/annotations/{name}"), json!(value))
        }
        None => add("/metadata/annotations", json!({ key: value })),
    });
    Some(operations)
}

fn add(path: &str, value: Value) -> Value {
    json!({ "op": "add", "path": path, "value": value })
}

fn by_name(node: &str) -> Value {
    json!({ "key": "metadata.name", "operator": "In", "values": [node] })
}

/// A member that is an object; `Some(None)` when it is not there, `None` when it is
/// something else.
fn member<'a>(parent: &'a Value, name: &str) -> Option<Option<&'a Value>> {
    match parent.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value @ Value::Object(_)) => Some(Some(value)),
        Some(_) => None,
    }
}

fn require(spec: &Value, node: &str) -> Option<Vec<Value>> {
    let term = || json!({ "matchFields": [by_name(node)] });
    let selector = || json!({ "nodeSelectorTerms": [term()] });
    let Some(affinity) = member(spec, "affinity")? else {
        let whole = json!({ "nodeAffinity": { REQUIRED: selector() } });
        return Some(vec![add("/spec/affinity", whole)]);
    };
    let Some(of_nodes) = member(affinity, "nodeAffinity")? else {
        return Some(vec![add("/spec/affinity/nodeAffinity", json!({ REQUIRED: selector() }))]);
    };
    let path = format!("/spec/affinity/nodeAffinity/{REQUIRED}");
    let Some(required) = member(of_nodes, REQUIRED)? else {
        return Some(vec![add(&path, selector())]);
    };
    let terms = required.get("nodeSelectorTerms")?.as_array()?;
    let mut operations = Vec::with_capacity(terms.len());
    for (number, term) in terms.iter().enumerate() {
        let term = term.as_object()?;
        let path = format!("{path}/nodeSelectorTerms/{number}/matchFields");
        let list = |name: &str| match term.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::Array(list)) => Some(Some(list)),
            Some(_) => None,
        };
        let (labels, fields) = (list("matchExpressions")?, list("matchFields")?);
        if [labels, fields].iter().flatten().all(|list| list.is_empty()) {
            // An empty term admits no node; with ours in it, it would admit one.
            continue;
        }
        operations.push(match fields {
            Some(_) => add(&format!("{path}/-"), by_name(node)),
            None => add(&path, json!([by_name(node)])),
        });
    }
    // Without an alternative that admits a node there is nothing to narrow.
    (!operations.is_empty()).then_some(operations)
}

fn prefer(spec: &Value, node: &str) -> Option<Value> {
    let preference =
        || json!({ "weight": WEIGHT, "preference": { "matchFields": [by_name(node)] } });
    let Some(affinity) = member(spec, "affinity")? else {
        let whole = json!({ "nodeAffinity": { PREFERENCES: [preference()] } });
        return Some(add("/spec/affinity", whole));
    };
    let Some(of_nodes) = member(affinity, "nodeAffinity")? else {
        let whole = json!({ PREFERENCES: [preference()] });
        return Some(add("/spec/affinity/nodeAffinity", whole));
    };
    let path = format!("/spec/affinity/nodeAffinity/{PREFERENCES}");
    match of_nodes.get(PREFERENCES) {
        None | Some(Value::Null) => Some(add(&path, json!([preference()]))),
        Some(Value::Array(_)) => Some(add(&format!("{path}/-"), preference())),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stornx_core::{model::Steered, units::Timestamp};

    use super::*;

    fn required(node: &str) -> Steer {
        Steer::Required(Steered { node: node.parse().unwrap(), since: Timestamp::from_millis(7) })
    }

    /// The pod after the patch.
    fn patched(pod: &Value, steer: &Steer) -> Option<Value> {
        let meta: ObjectMeta = serde_json::from_value(pod["metadata"].clone()).unwrap();
        let operations = patch(&meta, &pod["spec"], steer)?;
        let operations: json_patch::Patch =
            serde_json::from_value(Value::Array(operations)).unwrap();
        let mut pod = pod.clone();
        json_patch::patch(&mut pod, &operations).unwrap();
        Some(pod)
    }

    /// Whether required node affinity admits a node, as the documentation of the API says
    /// it: terms are ORed, what is in them is ANDed, an empty term admits nothing.
    fn admits(pod: &Value, node: &str, label: Option<&str>) -> bool {
        let required = &pod["spec"]["affinity"]["nodeAffinity"][REQUIRED];
        if required.is_null() {
            return true;
        }
        let holds = |requirement: &Value, value: Option<&str>| {
            let values = requirement["values"].as_array().cloned().unwrap_or_default();
            let among = value.is_some_and(|value| values.contains(&json!(value)));
            match requirement["operator"].as_str().unwrap() {
                "In" => among,
                "NotIn" => !among,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                other => panic!("{other}"),
            }
        };
        let list = |term: &Value, name: &str| term[name].as_array().cloned().unwrap_or_default();
        required["nodeSelectorTerms"].as_array().unwrap().iter().any(|term| {
            let (labels, fields) = (list(term, "matchExpressions"), list(term, "matchFields"));
            (labels.len() + fields.len() > 0)
                && labels.iter().all(|one| holds(one, label))
                && fields.iter().all(|one| holds(one, Some(node)))
        })
    }

    fn pod(affinity: Value) -> Value {
        json!({ "metadata": { "annotations": { "team": "shop" } }, "spec": { "affinity": affinity } })
    }

    #[test]
    fn every_shape_of_a_pod_can_be_steered() {
        let shapes = [
            json!({ "metadata": {}, "spec": {} }),
            json!({ "metadata": { "annotations": {} }, "spec": { "affinity": null } }),
            pod(json!({})),
            pod(json!({ "podAntiAffinity": {} })),
            pod(json!({ "nodeAffinity": null })),
            pod(json!({ "nodeAffinity": {} })),
            pod(json!({ "nodeAffinity": { REQUIRED: null, PREFERENCES: null } })),
            pod(json!({ "nodeAffinity": { PREFERENCES: [
                { "weight": 1, "preference": { "matchExpressions": [] } }
            ] } })),
        ];
        for shape in shapes {
            let steered = patched(&shape, &required("a")).unwrap();
            assert!(admits(&steered, "a", None) && !admits(&steered, "b", None), "{steered}");
            assert_eq!(steered["metadata"]["annotations"][STEERED], "a@7");
            let steered = patched(&shape, &Steer::Preferred("a".parse().unwrap())).unwrap();
            assert!(admits(&steered, "b", None), "{steered}");
            let all = &steered["spec"]["affinity"]["nodeAffinity"][PREFERENCES];
            let ours = all.as_array().unwrap().last().unwrap();
            assert_eq!(ours["weight"], 100);
            assert_eq!(ours["preference"]["matchFields"][0]["values"], json!(["a"]));
            assert_eq!(steered["metadata"]["annotations"][PREFERRED], "a");
            let before = shape["metadata"]["annotations"].get("team");
            assert_eq!(steered["metadata"]["annotations"].get("team"), before);
        }
    }

    #[test]
    fn what_cannot_be_narrowed_is_left_as_it_is() {
        let of = |required: Value| pod(json!({ "nodeAffinity": { REQUIRED: required } }));
        for shape in [
            of(json!({ "nodeSelectorTerms": [] })),
            of(json!({ "nodeSelectorTerms": [{}, { "matchExpressions": [] }] })),
            of(json!({})),
            of(json!("surprise")),
            of(json!({ "nodeSelectorTerms": [{ "matchFields": "surprise" }] })),
            pod(json!([])),
        ] {
            assert_eq!(patched(&shape, &required("a")), None, "{shape}");
        }
        let odd = pod(json!({ "nodeAffinity": { PREFERENCES: "surprise" } }));
        assert_eq!(patched(&odd, &Steer::Preferred("a".parse().unwrap())), None);
    }

    fn requirement(field: bool) -> impl Strategy<Value = Value> {
        let key = if field { "metadata.name" } else { "disk" };
        let values: &'static [&'static str] = if field { &["a", "b"] } else { &["x", "y"] };
        let operators: &'static [&'static str] =
            if field { &["In", "NotIn"] } else { &["In", "NotIn", "Exists", "DoesNotExist"] };
        (prop::sample::select(operators), prop::sample::select(values)).prop_map(
            move |(operator, value)| match operator {
                "In" | "NotIn" => json!({ "key": key, "operator": operator, "values": [value] }),
                _ => json!({ "key": key, "operator": operator }),
            },
        )
    }

    fn term() -> impl Strategy<Value = Value> {
        let list = |field| prop::option::of(prop::collection::vec(requirement(field), 0..3));
        (list(false), list(true)).prop_map(|(labels, fields)| {
            let mut term = json!({});
            for (name, list) in [("matchExpressions", labels), ("matchFields", fields)] {
                if let Some(list) = list {
                    term[name] = json!(list);
                }
            }
            term
        })
    }

    proptest! {
        #[test]
        fn a_steered_pod_admits_what_both_allow(
            terms in prop::option::of(prop::collection::vec(term(), 1..4)),
            target in prop::sample::select(&["a", "b", "c"][..]),
        ) {
            let mut affinity = json!({});
            if let Some(terms) = &terms {
                affinity = json!({ "nodeAffinity": { REQUIRED: { "nodeSelectorTerms": terms } } });
            }
            let before = pod(affinity);
            let after = patched(&before, &required(target));
            for node in ["a", "b", "c"] {
                for label in [None, Some("x"), Some("y")] {
                    let both = admits(&before, node, label) && node == target;
                    match &after {
                        Some(after) => prop_assert_eq!(admits(after, node, label), both, "{}", after),
                        // Nothing admits it in the first place.
                        None => prop_assert!(!admits(&before, node, label)),
                    }
                }
            }
            let soft = patched(&before, &Steer::Preferred(target.parse().unwrap())).unwrap();
            for node in ["a", "b", "c"] {
                for label in [None, Some("x"), Some("y")] {
                    prop_assert_eq!(admits(&soft, node, label), admits(&before, node, label));
                }
            }
        }
    }
}
