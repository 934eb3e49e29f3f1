//! Istio's DestinationRules: which weights stand for a host, and whose they are.
//!
//! A rule is ours when the field manager `stornx` owns
//! `spec.trafficPolicy.loadBalancer.localityLbSetting` and every locality of its
//! `distribute` is `region/zone` or `region/zone/*` with weights that make a
//! distribution. Load balancer policies of single ports count like those of subsets:
//! they take the place of ours for what they cover.
//!
//! Outlier detection switches Istio's own preference for the caller's zone on, unless
//! the rule switches it off (`enabled: false`); `mesh.localityLbSetting` is taken to be
//! at its default, enabled.

use std::collections::BTreeMap;

use kube::core::DynamicObject;
use serde_json::Value;
use stornx_core::{
    ids::ZoneName,
    model::{Distribution, ForeignRule, RouteTable, Rule},
};

/// The field manager under which StornX writes.
pub(crate) const MANAGER: &str = "stornx";

/// What is kept of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleRecord {
    /// The host that it names, in full; may begin with `*`.
    pub(crate) host: Box<str>,
    /// What it says about localities.
    pub(crate) rule: Rule,
    /// Callers are sent to their own zone first.
    pub(crate) own_zone_first: bool,
    /// It holds for some callers only (`workloadSelector`).
    pub(crate) partial: bool,
}

impl RuleRecord {
    /// Whether it names this host.
    pub(crate) fn names(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => &*self.host == host,
        }
    }

    /// Whether it names more than one host.
    pub(crate) fn is_wildcard(&self) -> bool {
        self.host.starts_with('*')
    }
}

/// A DestinationRule; `None` when it names no host.
pub(crate) fn record(object: &DynamicObject) -> Option<RuleRecord> {
    let spec = object.data.get("spec")?;
    let host = spec.get("host")?.as_str()?;
    let namespace = object.metadata.namespace.as_deref()?;
    // Istio completes only names without a dot.
    let host = if host.contains('.') || host.starts_with('*') {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.svc.cluster.local")
    };
    let policy = spec.get("trafficPolicy");
    let setting = at(policy, &["loadBalancer", "localityLbSetting"]);
    let enabled = setting.and_then(|s| s.get("enabled")).and_then(Value::as_bool);
    let outliers = at(policy, &["outlierDetection"]).is_some();
    Some(RuleRecord {
        host: host.into(),
        rule: rule(object, spec, policy, setting),
        own_zone_first: outliers && enabled != Some(false),
        partial: spec.get("workloadSelector").is_some(),
    })
}

fn at<'a>(value: Option<&'a Value>, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value?, |value, name| value.get(name)).filter(|value| !value.is_null())
}

fn rule(
    object: &DynamicObject,
    spec: &Value,
    policy: Option<&Value>,
    setting: Option<&Value>,
) -> Rule {
    let balanced = |list: Option<&Value>, path: &[&str]| {
        let list = list.and_then(Value::as_array);
        list.into_iter().flatten().any(|item| at(Some(item), path).is_some())
    };
    let subsets = spec.get("subsets");
    let ports = at(policy, &["portLevelSettings"]);
    if balanced(subsets, &["trafficPolicy", "loadBalancer"]) || balanced(ports, &["loadBalancer"]) {
        return Rule::Foreign(ForeignRule::Subsets);
    }
    if at(policy, &["loadBalancer", "zoneAwareLbSetting"]).is_some() {
        return Rule::Foreign(ForeignRule::ZoneAware);
    }
    let has = |name: &str| {
        at(setting, &[name]).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    };
    if has("failover") || has("failoverPriority") {
        return Rule::Foreign(ForeignRule::Failover);
    }
    if !has("distribute") {
        return Rule::None;
    }
    match at(setting, &["distribute"]).and_then(routes) {
        Some(routes) if is_ours(object) => Rule::Ours(routes),
        _ => Rule::Foreign(ForeignRule::Distribute),
    }
}

/// Whether our field manager owns the locality settings.
fn is_ours(object: &DynamicObject) -> bool {
    const PATH: [&str; 4] = ["f:spec", "f:trafficPolicy", "f:loadBalancer", "f:localityLbSetting"];
    object.metadata.managed_fields.iter().flatten().any(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.fields_v1.as_ref().is_some_and(|fields| at(Some(&fields.0), &PATH).is_some())
    })
}

/// The routes of a `distribute`; `None` when it says what the model cannot.
fn routes(distribute: &Value) -> Option<RouteTable> {
    let mut table = RouteTable::new();
    for entry in distribute.as_array()? {
        let from = zone(entry.get("from")?.as_str()?)?;
        let mut weights = BTreeMap::new();
        for (to, weight) in entry.get("to")?.as_object()? {
            let weight = u8::try_from(weight.as_u64()?).ok()?;
            if weights.insert(zone(to)?, weight).is_some() {
                return None;
            }
        }
        if table.insert(from, Distribution::new(weights).ok()?).is_some() {
            return None;
        }
    }
    Some(table)
}

/// The zone of a locality, `region/zone` or `region/zone/*`.
fn zone(locality: &str) -> Option<ZoneName> {
    let mut parts = locality.split('/');
    let (_region, zone) = (parts.next()?, parts.next()?);
    match (parts.next(), parts.next()) {
        (None | Some("*"), None) => ZoneName::new(zone).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(spec: Value, manager: &str) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {
                "namespace": "shop", "name": "cart",
                "managedFields": [{
                    "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                    "fieldsV1": { "f:spec": { "f:trafficPolicy": { "f:loadBalancer": {
                        "f:localityLbSetting": { "f:distribute": {} }
                    }}}}
                }]
            },
            "spec": spec
        }))
        .unwrap()
    }

    fn setting(setting: Value) -> Value {
        json!({ "host": "cart", "trafficPolicy": { "loadBalancer": { "localityLbSetting": setting } } })
    }

    fn distribute() -> Value {
        json!({ "distribute": [
            { "from": "eu/a/*", "to": { "eu/a/*": 80, "eu/b/*": 20 } },
            { "from": "eu/b", "to": { "eu/a": 1, "eu/b": 99 } }
        ]})
    }

    fn read(spec: Value, manager: &str) -> Rule {
        record(&object(spec, manager)).unwrap().rule
    }

    #[test]
    fn our_weights_are_read_back() {
        let Rule::Ours(routes) = read(setting(distribute()), MANAGER) else { panic!("ours") };
        let (a, b): (ZoneName, ZoneName) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!((routes[&a].weight(&a), routes[&a].weight(&b)), (80, 20));
        assert_eq!((routes[&b].weight(&a), routes[&b].weight(&b)), (1, 99));
    }

    #[test]
    fn whose_rule_it_is_and_why_it_is_not_ours() {
        use ForeignRule::{Distribute, Failover, Subsets, ZoneAware};
        let foreign = |spec: Value, manager: &str| match read(spec, manager) {
            Rule::Foreign(kind) => kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(foreign(setting(distribute()), "kubectl"), Distribute);
        let odd = json!({ "distribute": [{ "from": "*", "to": { "eu/a": 100 } }] });
        assert_eq!(foreign(setting(odd), MANAGER), Distribute, "not what we write");
        let short = json!({ "distribute": [{ "from": "eu/a", "to": { "eu/a": 99 } }] });
        assert_eq!(foreign(setting(short), MANAGER), Distribute);
        let failover = json!({ "failover": [{ "from": "eu", "to": "us" }] });
        assert_eq!(foreign(setting(failover), "helm"), Failover);
        let priority = json!({ "failoverPriority": ["topology.kubernetes.io/zone"] });
        assert_eq!(foreign(setting(priority), "helm"), Failover);
        let aware = json!({ "host": "cart", "trafficPolicy": { "loadBalancer": {
            "zoneAwareLbSetting": { "enabled": true }
        }}});
        assert_eq!(foreign(aware, "helm"), ZoneAware);
        let subsets = json!({ "host": "cart", "subsets": [
            { "name": "v1", "trafficPolicy": { "loadBalancer": { "simple": "RANDOM" } } }
        ]});
        assert_eq!(foreign(subsets, "helm"), Subsets);
    }

    #[test]
    fn rules_without_localities_are_no_rules() {
        let tls = json!({ "host": "cart", "trafficPolicy": { "tls": { "mode": "ISTIO_MUTUAL" } },
            "subsets": [{ "name": "v1", "labels": { "version": "v1" } }] });
        assert_eq!(read(tls, "helm"), Rule::None);
        assert_eq!(read(setting(json!({ "enabled": true })), "helm"), Rule::None);
    }

    #[test]
    fn outlier_detection_prefers_the_own_zone() {
        let own = |enabled: Option<bool>, outliers: bool| {
            let mut spec = setting(json!({ "enabled": enabled }));
            if outliers {
                spec["trafficPolicy"]["outlierDetection"] = json!({ "consecutive5xxErrors": 5 });
            }
            record(&object(spec, "helm")).unwrap().own_zone_first
        };
        assert!(own(Some(true), true) && own(None, true));
        assert!(!own(Some(false), true) && !own(Some(true), false));
    }

    #[test]
    fn hosts_are_completed_as_istio_completes_them() {
        let names = |host: &str, whole: &str| {
            record(&object(json!({ "host": host }), "helm")).unwrap().names(whole)
        };
        let whole = "cart.shop.svc.cluster.local";
        assert!(names("cart", whole) && names(whole, whole));
        assert!(names("*.shop.svc.cluster.local", whole) && names("*.local", whole));
        assert!(!names("cart.shop", whole) && !names("*.other.svc.cluster.local", whole));
    }
}
