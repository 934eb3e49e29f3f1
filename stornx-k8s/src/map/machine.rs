//! WorkloadEntries of Istio: machines outside the cluster that are endpoints of a Service.
//!
//! istiod joins one to every Service of its namespace whose selector matches its labels, those
//! of the object before those of its specification, if its address is none or an IP address.
//! No EndpointSlice holds it. Where it is stands in it, and is not read: it is no node.

use std::net::IpAddr;

use kube::core::DynamicObject;
use serde_json::Value;

use super::selector::TextLabels;

/// What selects a WorkloadEntry; `None` where it is no endpoint of a Service.
pub(crate) fn record(object: &DynamicObject) -> Option<TextLabels> {
    let spec = object.data.get("spec")?;
    let address = spec.get("address").and_then(Value::as_str).unwrap_or_default();
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return None;
    }
    let labels = spec.get("labels").and_then(Value::as_object);
    let text = |(name, value): (&String, &Value)| Some((name.clone(), value.as_str()?.to_owned()));
    let mut all: TextLabels = labels.into_iter().flatten().filter_map(text).collect();
    all.extend(object.metadata.labels.clone().unwrap_or_default());
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(labels: Value, spec: Value) -> Option<TextLabels> {
        let object = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry",
            "metadata": { "namespace": "shop", "name": "machine", "labels": labels }, "spec": spec
        });
        record(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn labels_of_both_places_select_a_machine() {
        let spec = |address: &str| json!({ "address": address, "labels": { "app": "cart" } });
        let of = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
            Some(owned.collect::<TextLabels>())
        };
        assert_eq!(read(Value::Null, spec("192.0.2.7")), of(&[("app", "cart")]));
        let both = read(json!({ "app": "pay", "team": "a" }), spec("2001:db8::7"));
        assert_eq!(both, of(&[("app", "pay"), ("team", "a")]));
        assert_eq!(
            read(Value::Null, json!({ "address": "192.0.2.7" })),
            None,
            "nothing selects it"
        );
        let remote = json!({ "network": "there", "labels": { "app": "cart" } });
        assert!(read(Value::Null, remote).is_some(), "behind a gateway of its network");
        for address in ["machine.example.com", "unix:///run/cart.sock"] {
            assert_eq!(read(Value::Null, spec(address)), None, "of no Kubernetes Service");
        }
    }
}
