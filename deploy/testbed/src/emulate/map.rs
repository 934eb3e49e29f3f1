//! From Kubernetes objects to what the emulator follows.
//!
//! A pod belongs to the service that its label `app` names, in the scenario's namespace;
//! pods of the ingress may lie in any. Nodes of unknown zones and pods of unknown
//! services are none of the emulator's business.
//!
//! Rules are read as Istio reads them, on its own terms and not with the code under test:
//! the oldest rule for a host counts; of its `distribute`, the first `from` that matches a
//! caller. A destination that stands for several zones at once (`*`, `region/*`) is
//! refused, because how Istio splits it depends on the endpoints.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{ResourceExt, api::DynamicObject};
use serde_json::Value;
use stornx_core::{
    ids::{HostName, Namespace, NodeName, PodName, ZoneName},
    model::{Distribution, RouteTable},
};
use stornx_sim::{
    scenario::{INGRESS, Scenario},
    world::{NodeSeen, PodSeen, Routing},
};

/// The nodes in zones of the scenario.
pub(super) fn nodes(scenario: &Scenario, nodes: Vec<Arc<Node>>) -> Vec<NodeSeen> {
    let seen = |node: Arc<Node>| {
        let zone = node.labels().get("topology.kubernetes.io/zone")?;
        let zone = scenario.topology.zones.iter().find(|one| one.name.as_str() == zone)?;
        let status = node.status.as_ref()?;
        let mut conditions = status.conditions.iter().flatten();
        Some(NodeSeen {
            name: NodeName::new(&node.name_any()).ok()?,
            zone: zone.name.clone(),
            ready: conditions.any(|one| one.type_ == "Ready" && one.status == "True"),
            cpu: status.allocatable.as_ref()?.get("cpu")?.0.parse().ok()?,
        })
    };
    nodes.into_iter().filter_map(seen).collect()
}

/// The pods of the scenario's services, on nodes that were seen.
pub(super) fn pods(scenario: &Scenario, nodes: &[NodeSeen], pods: Vec<Arc<Pod>>) -> Vec<PodSeen> {
    let nodes: BTreeMap<&str, &NodeSeen> =
        nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let seen = |pod: Arc<Pod>| {
        let namespace = pod.namespace()?;
        let service = pod.labels().get("app")?;
        let known = scenario.services.iter().any(|one| one.name == *service);
        if service != INGRESS && !(known && namespace == scenario.namespace.as_str()) {
            return None;
        }
        let bound = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let node = bound.map(|name| nodes.get(name).map(|node| node.name.clone()));
        Some(PodSeen {
            service: service.clone(),
            pod: PodName::new(&Namespace::new(&namespace).ok()?, &pod.name_any()).ok()?,
            // Bound to a node that is not one of ours: not a pod of ours.
            node: node.map_or(Some(None), |found| found.map(Some))?,
            ready: is_endpoint(&pod),
        })
    };
    pods.into_iter().filter_map(seen).collect()
}

fn is_endpoint(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

/// How the callers of each host of the scenario choose.
pub(super) fn routing(
    scenario: &Scenario,
    rules: &[Arc<DynamicObject>],
) -> Result<Vec<(HostName, Routing)>, String> {
    let mut rules: Vec<_> = rules.iter().collect();
    rules.sort_by_key(|rule| (rule.creation_timestamp(), rule.name_any()));
    let mut all = Vec::new();
    for service in &scenario.services {
        let host = scenario.host(&service.name).map_err(|error| error.to_string())?;
        let rule = rules.iter().find(|rule| names(rule, host.as_str()));
        let routing = match rule {
            Some(rule) => of_rule(scenario, rule)
                .map_err(|reason| format!("DestinationRule {}: {reason}", rule.name_any()))?,
            None => Routing::of(scenario.default_split),
        };
        all.push((host, routing));
    }
    Ok(all)
}

fn names(rule: &DynamicObject, host: &str) -> bool {
    let Some(named) = rule.data.pointer("/spec/host").and_then(Value::as_str) else {
        return false;
    };
    // A short name is one of the rule's own namespace.
    let namespace = rule.namespace().unwrap_or_default();
    named == host || host == format!("{named}.{namespace}.svc.cluster.local")
}

fn of_rule(scenario: &Scenario, rule: &DynamicObject) -> Result<Routing, String> {
    let policy = rule.data.pointer("/spec/trafficPolicy");
    let setting = policy.and_then(|policy| policy.pointer("/loadBalancer/localityLbSetting"));
    let distribute = setting.and_then(|setting| setting["distribute"].as_array());
    if let Some(distribute) = distribute {
        return table(scenario, distribute).map(Routing::Weights);
    }
    // Ejection of outliers switches Istio's preference for the caller's zone on.
    let ejects = policy.is_some_and(|policy| policy.get("outlierDetection").is_some());
    let disabled = setting.is_some_and(|setting| setting["enabled"] == Value::Bool(false));
    Ok(if ejects && !disabled {
        Routing::OwnZoneFirst
    } else {
        Routing::of(scenario.default_split)
    })
}

fn table(scenario: &Scenario, distribute: &[Value]) -> Result<RouteTable, String> {
    let mut table = RouteTable::new();
    for zone in &scenario.topology.zones {
        let caller = format!("{}/{}", zone.region, zone.name);
        let first = distribute
            .iter()
            .find(|one| one["from"].as_str().is_some_and(|from| covers(from, &caller)));
        if let Some(first) = first {
            table.insert(zone.name.clone(), weights(scenario, &first["to"])?);
        }
    }
    Ok(table)
}

fn weights(scenario: &Scenario, to: &Value) -> Result<Distribution, String> {
    let mut weights: BTreeMap<ZoneName, u8> = BTreeMap::new();
    for (locality, weight) in to.as_object().into_iter().flatten() {
        let zone = scenario.topology.zones.iter().find(|zone| {
            let name = format!("{}/{}", zone.region, zone.name);
            *locality == name || *locality == format!("{name}/*")
        });
        let zone = zone.ok_or_else(|| format!("{locality:?} is not one zone of the scenario"))?;
        let weight = weight.as_u64().and_then(|weight| u8::try_from(weight).ok());
        weights.insert(zone.name.clone(), weight.ok_or_else(|| format!("weight of {locality:?}"))?);
    }
    Distribution::new(weights).map_err(|error| error.to_string())
}

/// Whether a pattern of Istio covers the locality `region/zone` of a caller.
fn covers(pattern: &str, caller: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => format!("{caller}/").starts_with(start),
        None => pattern == caller || caller.starts_with(&format!("{pattern}/")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apps::boutique_scenario;

    fn rule(name: &str, created: &str, policy: Value) -> Arc<DynamicObject> {
        let object = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": name, "namespace": "boutique", "creationTimestamp": created},
            "spec": {"host": "cart", "trafficPolicy": policy},
        });
        Arc::new(serde_json::from_value(object).unwrap())
    }

    fn distribute(from: &str, to: Value) -> Value {
        json!({"loadBalancer": {"localityLbSetting": {"distribute": [{"from": from, "to": to}]}}})
    }

    fn of_cart(rules: &[Arc<DynamicObject>]) -> Result<Routing, String> {
        let all = routing(boutique_scenario(), rules)?;
        let cart = all.into_iter().find(|(host, _)| host.as_str().starts_with("cart."));
        Ok(cart.unwrap().1)
    }

    #[test]
    fn the_oldest_rule_counts_and_names_callers_by_pattern() {
        let to = json!({"region-1/zone-a/*": 80, "region-1/zone-b/*": 20});
        let old = rule("old", "2026-01-01T00:00:00Z", distribute("region-1/zone-a/*", to));
        let new = rule("new", "2026-02-01T00:00:00Z", json!({"outlierDetection": {}}));
        let Routing::Weights(table) = of_cart(&[new.clone(), old]).unwrap() else {
            panic!("weights");
        };
        assert_eq!(table.len(), 1, "other callers keep the default");
        let zone = |name| ZoneName::new(name).unwrap();
        assert_eq!(table[&zone("zone-a")].weight(&zone("zone-b")), 20);
        assert_eq!(of_cart(&[new]).unwrap(), Routing::OwnZoneFirst);
        let default = Routing::of(boutique_scenario().default_split);
        assert_eq!(of_cart(&[]).unwrap(), default);
    }

    #[test]
    fn a_destination_of_several_zones_is_refused_by_name() {
        let rule =
            rule("wide", "2026-01-01T00:00:00Z", distribute("*", json!({"region-1/*": 100})));
        let message = of_cart(&[rule]).unwrap_err();
        assert!(message.contains("wide") && message.contains("region-1/*"), "{message}");
    }

    #[test]
    fn patterns_end_at_the_parts_of_a_locality() {
        assert!(covers("*", "r/a") && covers("r/*", "r/a") && covers("r/a/*", "r/a"));
        assert!(covers("r/a", "r/a") && covers("r", "r/a"));
        assert!(!covers("r/ab/*", "r/a") && !covers("r/a/*", "r/ab") && !covers("r/b", "r/a"));
    }
}
