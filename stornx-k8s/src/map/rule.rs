//! Istio's DestinationRules: which weights stand for a host, and whose they are.
//!
//! A rule is ours when the field manager `stornx`, and nobody else, owns
//! `spec.trafficPolicy.loadBalancer.localityLbSetting.distribute`, and every locality in it
//! is `region/zone`, `region/zone/*` or `region/zone/node` with weights that make a distribution. Who applies
//! the value that we wrote owns it too: it is theirs then.
//!
//! Settings of single ports count like policies of subsets: they take the place of ours
//! for what they cover, also where they say nothing of load balancing.
//!
//! Outlier detection switches Istio's own preference for the caller's zone on, unless
//! the rule switches it off (`enabled: false`); `mesh.localityLbSetting` is taken to be
//! at its default, enabled.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::DynamicObject;
use serde_json::Value;
use stornx_core::{
    ids::{Namespace, NodeName, ZoneName},
    model::{Distribution, ForeignRule, RouteTable, Rule},
};

/// The field manager under which StornX writes.
pub(crate) const MANAGER: &str = "stornx";
/// The label of objects that StornX created; its value is [`MANAGER`].
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// What is kept of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RuleRecord {
    /// The host that it names, in full; may begin with `*`.
    pub(crate) host: Box<str>,
    /// What it says about localities.
    pub(crate) rule: Rule,
    /// The regions of the zones in weights of ours, as the rule has them.
    pub(crate) regions: BTreeMap<ZoneName, Box<str>>,
    /// Callers are sent to their own zone first.
    pub(crate) own_zone_first: bool,
    /// It holds for some callers only (`workloadSelector`, `exportTo`).
    pub(crate) partial: bool,
    /// What of it is ours.
    pub(crate) share: Share,
}

/// What a rule says that we did not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SaidByOthers<'a> {
    host: &'a str,
    foreign: Option<ForeignRule>,
    partial: bool,
    own_zone_first: bool,
}

/// What of a rule is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Share {
    /// Nothing.
    None,
    /// It was created by us, given back, and kept for what others say in it.
    Handed,
    /// The weights.
    Weights,
    /// It was created by us.
    Rule,
}

impl RuleRecord {
    /// Whether it names this host.
    pub(crate) fn names(&self, host: &str) -> bool {
        match self.host.strip_prefix('*') {
            Some(end) => host.ends_with(end),
            None => &*self.host == host,
        }
    }

    /// What others say in it that decides whether weights may stand, and how calls fall
    /// without them. `None` where nothing is said: whatever we write, move or take away in a
    /// rule leaves this as it is.
    pub(crate) fn said_by_others(&self) -> Option<SaidByOthers<'_>> {
        let foreign = match self.rule {
            Rule::Foreign(foreign) => Some(foreign),
            Rule::None | Rule::Ours(_) => None,
        };
        let created = matches!(self.share, Share::Rule | Share::Handed);
        let silent = foreign.is_none() && !self.partial && !self.own_zone_first;
        (!(created && silent)).then_some(SaidByOthers {
            host: &self.host,
            foreign,
            partial: self.partial,
            own_zone_first: self.own_zone_first,
        })
    }

    /// Whether it may name a host of one of these namespaces.
    pub(crate) fn concerns(&self, namespaces: &BTreeSet<Namespace>) -> bool {
        let of = |namespace: &Namespace| format!(".{namespace}.svc.cluster.local");
        namespaces.iter().any(|namespace| match self.host.strip_prefix('*') {
            Some(end) => of(namespace).ends_with(end) || end.ends_with(&of(namespace)),
            None => self.host.ends_with(&of(namespace)),
        })
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
    let exported = spec.get("exportTo").and_then(Value::as_array).filter(|to| !to.is_empty());
    let mut regions = BTreeMap::new();
    Some(RuleRecord {
        host: host.into(),
        rule: rule(object, spec, policy, setting, &mut regions),
        regions,
        own_zone_first: outliers && enabled != Some(false),
        partial: spec.get("workloadSelector").is_some()
            || exported.is_some_and(|to| to.iter().all(|to| to != "*")),
        share: share(&object.metadata),
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
    regions: &mut BTreeMap<ZoneName, Box<str>>,
) -> Rule {
    let filled = |value: Option<&Value>| {
        value.and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    };
    let apart = |subset: &Value| {
        let policy = at(Some(subset), &["trafficPolicy"]);
        at(policy, &["loadBalancer"]).is_some() || filled(at(policy, &["portLevelSettings"]))
    };
    let subsets = spec.get("subsets").and_then(Value::as_array);
    if subsets.into_iter().flatten().any(apart) || filled(at(policy, &["portLevelSettings"])) {
        return Rule::Foreign(ForeignRule::Subsets);
    }
    let balancer = at(policy, &["loadBalancer"]);
    if at(balancer, &["zoneAwareLbSetting"]).is_some() {
        return Rule::Foreign(ForeignRule::ZoneAware);
    }
    if at(balancer, &["consistentHash"]).is_some() {
        return Rule::Foreign(ForeignRule::Sticky);
    }
    if at(setting, &["enabled"]) == Some(&Value::Bool(false))
        || at(balancer, &["simple"]).is_some_and(|simple| simple == "PASSTHROUGH")
    {
        return Rule::Foreign(ForeignRule::SwitchedOff);
    }
    let has = |name: &str| filled(at(setting, &[name]));
    if has("failover") || has("failoverPriority") {
        return Rule::Foreign(ForeignRule::Failover);
    }
    if !has("distribute") {
        return Rule::None;
    }
    match at(setting, &["distribute"]).and_then(|list| routes(list, regions)) {
        Some(routes) if owners(&object.metadata, DISTRIBUTE) == Owners::Ours => Rule::Ours(routes),
        _ => {
            regions.clear();
            Rule::Foreign(ForeignRule::Distribute)
        }
    }
}

const HOST: &[&str] = &["f:host"];
const DISTRIBUTE: &[&str] =
    &["f:trafficPolicy", "f:loadBalancer", "f:localityLbSetting", "f:distribute"];

/// Who owns a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owners {
    Ours,
    /// We do, and others.
    Shared,
    Others,
}

fn owners(meta: &ObjectMeta, path: &[&str]) -> Owners {
    let (mut ours, mut others) = (false, false);
    for entry in meta.managed_fields.iter().flatten() {
        let fields = entry.fields_v1.as_ref().and_then(|fields| fields.0.get("f:spec"));
        if at(fields, path).is_some() {
            if is_ours(entry) { ours = true } else { others = true }
        }
    }
    match (ours, others) {
        (true, false) => Owners::Ours,
        (true, true) => Owners::Shared,
        (false, _) => Owners::Others,
    }
}

/// Whether fields were applied by us. Whoever calls itself so and does not apply is
/// somebody else.
pub(crate) fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER) && entry.operation.as_deref() == Some("Apply")
}

/// What of a rule is ours, by its metadata alone.
pub(crate) fn share(meta: &ObjectMeta) -> Share {
    match (owners(meta, HOST), owners(meta, DISTRIBUTE)) {
        (Owners::Ours, Owners::Others) if is_shared(meta) => Share::Handed,
        (Owners::Ours, _) => Share::Rule,
        (_, Owners::Ours | Owners::Shared) => Share::Weights,
        _ => Share::None,
    }
}

/// Whether others than we say something in the rule.
pub(crate) fn is_shared(meta: &ObjectMeta) -> bool {
    meta.managed_fields.iter().flatten().any(|entry| {
        let fields = entry.fields_v1.as_ref();
        !is_ours(entry) && fields.is_some_and(|fields| at(Some(&fields.0), &["f:spec"]).is_some())
    })
}

/// The routes of a `distribute`; `None` when it says what the model cannot.
fn routes(distribute: &Value, regions: &mut BTreeMap<ZoneName, Box<str>>) -> Option<RouteTable> {
    let mut place = |locality: &str| {
        let (region, zone) = place(locality)?;
        let known = regions.entry(zone.clone()).or_insert_with(|| region.into());
        (**known == *region).then_some(zone)
    };
    let mut table = RouteTable::new();
    for entry in distribute.as_array()? {
        let from = place(entry.get("from")?.as_str()?)?;
        let mut weights = BTreeMap::new();
        for (to, weight) in entry.get("to")?.as_object()? {
            let weight = u8::try_from(weight.as_u64()?).ok()?;
            if weights.insert(place(to)?, weight).is_some() {
                return None;
            }
        }
        if table.insert(from, Distribution::new(weights).ok()?).is_some() {
            return None;
        }
    }
    Some(table)
}

/// The region and place of a locality: `region/zone` or `region/zone/*`, and
/// `region/zone/node` where weights are between nodes.
fn place(locality: &str) -> Option<(&str, ZoneName)> {
    let mut parts = locality.split('/');
    let (region, zone) = (parts.next()?, parts.next()?);
    let zone = ZoneName::new(zone).ok()?;
    match (parts.next(), parts.next()) {
        (None | Some("*"), None) => Some((region, zone)),
        (Some(node), None) => Some((region, zone.with_node(&NodeName::new(node).ok()?))),
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
    fn weights_between_nodes_are_read_back() {
        let between = json!({ "distribute": [
            { "from": "eu/a/n1", "to": { "eu/a/n1": 80, "eu/b/n2": 20 } },
            { "from": "eu/b/n2", "to": { "eu/a/n1": 1, "eu/b/n2": 99 } }
        ]});
        let Rule::Ours(routes) = read(setting(between), MANAGER) else { panic!("ours") };
        let (a, b): (ZoneName, ZoneName) = ("a/n1".parse().unwrap(), "b/n2".parse().unwrap());
        assert_eq!((routes[&a].weight(&a), routes[&b].weight(&b)), (80, 99));
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
        let balancer = |balancer: Value| json!({ "host": "cart", "trafficPolicy": { "loadBalancer": balancer } });
        let off = setting(json!({ "enabled": false }));
        assert_eq!(foreign(off, "helm"), ForeignRule::SwitchedOff);
        let original = balancer(json!({ "simple": "PASSTHROUGH" }));
        assert_eq!(foreign(original, "helm"), ForeignRule::SwitchedOff);
        let sticky = balancer(json!({ "consistentHash": { "useSourceIp": true } }));
        assert_eq!(foreign(sticky, "helm"), ForeignRule::Sticky);
        let ports = json!({ "host": "cart", "trafficPolicy": { "portLevelSettings": [
            { "port": { "number": 80 }, "connectionPool": {} }
        ]}});
        assert_eq!(foreign(ports, "helm"), Subsets, "what a port does not say is at its default");
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
    fn what_we_write_or_take_away_is_not_said_by_others() {
        let policy = |setting: &Value| json!({ "loadBalancer": { "localityLbSetting": setting } });
        let field = |name: &str, manager: &str, fields: Value| {
            json!({ "manager": manager, "operation": name, "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": fields } })
        };
        let weights = json!({ "f:trafficPolicy": { "f:loadBalancer": {
            "f:localityLbSetting": { "f:distribute": {} } } } });
        let host = json!({ "f:host": {} });
        let mut whole = weights.clone();
        whole["f:host"] = json!({});
        let rule = |setting: Option<Value>, fields: Vec<Value>| {
            let mut object = object(json!({ "host": "cart" }), MANAGER);
            if let Some(setting) = setting {
                object.data["spec"]["trafficPolicy"] = policy(&setting);
            }
            object.metadata.managed_fields = serde_json::from_value(json!(fields)).unwrap();
            record(&object).unwrap()
        };
        // Created, written, given back and kept for what others say: silent all the while.
        let apply = |fields: &Value| field("Apply", MANAGER, fields.clone());
        let theirs = |fields: Value| field("Update", "kubectl", fields);
        let created = rule(Some(distribute()), vec![apply(&whole)]);
        assert!(matches!(created.rule, Rule::Ours(_)));
        assert_eq!(created.said_by_others(), None);
        let handed = rule(None, vec![apply(&host), theirs(json!({ "f:exportTo": {} }))]);
        assert_eq!((handed.share, handed.said_by_others()), (Share::Handed, None));
        // Adopted, and given back: what its owner says is the same.
        let owner = || theirs(json!({ "f:host": {} }));
        let without = rule(None, vec![owner()]);
        let with = rule(Some(distribute()), vec![owner(), apply(&weights)]);
        assert!(without.said_by_others().is_some());
        assert_eq!(without.said_by_others(), with.said_by_others());
        // Somebody edits what we wrote.
        let edited = rule(Some(distribute()), vec![apply(&host), theirs(weights)]);
        assert_ne!(edited.said_by_others(), created.said_by_others());
        assert!(edited.said_by_others().is_some());
    }

    #[test]
    fn rules_concern_the_namespaces_of_their_hosts() {
        let shop: BTreeSet<Namespace> = ["shop".parse().unwrap()].into();
        let concerns =
            |host: &str| record(&object(json!({ "host": host }), "helm")).unwrap().concerns(&shop);
        for host in
            ["cart", "cart.shop.svc.cluster.local", "*", "*.local", "*.shop.svc.cluster.local"]
        {
            assert!(concerns(host), "{host}");
        }
        for host in ["cart.other.svc.cluster.local", "*.other.svc.cluster.local", "*.com", "a.com"]
        {
            assert!(!concerns(host), "{host}");
        }
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
