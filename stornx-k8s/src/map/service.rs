//! Services and EndpointSlices.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use stornx_core::ids::{HostName, Namespace};

use super::selector::Selector;

/// The annotation by which Istio reads `trafficDistribution` from Services of older
/// servers.
const ISTIO_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// What Istio says, and with which label somebody asks, about a waypoint before a Service.
/// The label may be on the namespace instead; the condition tells of both.
const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

/// The Service, or the ServiceImport, that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const IMPORT_NAME: &str = "multicluster.kubernetes.io/service-name";

/// The identity of an object.
pub(crate) type Uid = Box<str>;

/// What is kept of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceRecord {
    /// Its name as the mesh sees it.
    pub(crate) host: HostName,
    /// What owns a rule that is made for it.
    pub(crate) uid: Option<Uid>,
    /// Which pods of its namespace are behind it.
    pub(crate) selector: Selector,
    /// It has an address of its own, so that callers go through the balancing of the
    /// mesh and not to an address of a pod that they looked up.
    pub(crate) plain: bool,
    /// It asks for callers to be sent to their own zone first.
    pub(crate) own_zone_first: bool,
    /// A waypoint is before it.
    pub(crate) waypoint: bool,
}

/// A Service; `None` when no selector says what is behind it.
pub(crate) fn record(service: &Service) -> Option<ServiceRecord> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.clone().filter(|selector| !selector.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let meta = &service.metadata;
    let namespace = Namespace::new(meta.namespace.as_deref()?).ok()?;
    let annotated = meta.annotations.as_ref().and_then(|all| all.get(ISTIO_DISTRIBUTION));
    let distribution = spec.traffic_distribution.as_ref().or(annotated);
    Some(ServiceRecord {
        host: HostName::of_service(&namespace, meta.name.as_deref()?).ok()?,
        uid: meta.uid.as_deref().map(Into::into),
        selector: Selector::of_labels(selector),
        plain: spec.cluster_ip.as_deref() != Some("None"),
        own_zone_first: matches!(
            distribution.map(String::as_str),
            Some("PreferClose" | "PreferSameZone" | "PreferSameNode")
        ),
        waypoint: has_waypoint(service),
    })
}

/// What the condition says; without one (an Istio that writes none) what the label asks for.
fn has_waypoint(service: &Service) -> bool {
    let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
    let bound = conditions.into_iter().flatten().find(|one| one.type_ == WAYPOINT_BOUND);
    let asked = service.metadata.labels.as_ref().and_then(|labels| labels.get(USE_WAYPOINT));
    let asked = || asked.is_some_and(|name| !matches!(name.as_str(), "" | "none"));
    bound.map_or_else(asked, |condition| condition.status == "True")
}

/// What is kept of an EndpointSlice: whether the endpoints that take requests have
/// changed. What they are is known from the pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SliceRecord {
    /// A hash of the endpoints that take requests.
    ready: u64,
    /// The Service, `namespace/name`, where some endpoint of it is no pod of this cluster,
    /// ready or not. Nothing is kept of all others, which are nearly all.
    pub(crate) foreign_to: Option<Box<str>>,
}

/// An EndpointSlice.
///
/// istiod takes an endpoint for that of a pod when it refers to one, and passes over it while
/// it does not know the pod; what refers to none it serves from no place at all, which no
/// weights name. (Where such an address is that of a pod in the namespace, istiod takes the
/// place of that pod: that is not looked at, the Service is left alone.) Slices for
/// `ServiceImport`s it does not read.
pub(crate) fn slice(slice: &EndpointSlice) -> SliceRecord {
    let mut hasher = DefaultHasher::new();
    let mut foreign = false;
    for endpoint in &slice.endpoints {
        let ready = endpoint.conditions.as_ref().is_none_or(|c| c.ready != Some(false));
        if ready {
            (&endpoint.addresses, &endpoint.zone).hash(&mut hasher);
        }
        let target = endpoint.target_ref.as_ref().and_then(|target| target.kind.as_deref());
        foreign |= target != Some("Pod");
    }
    SliceRecord { ready: hasher.finish(), foreign_to: service(slice).filter(|_| foreign) }
}

/// The Service that a slice belongs to, as istiod sees it.
fn service(slice: &EndpointSlice) -> Option<Box<str>> {
    let labels = slice.metadata.labels.as_ref()?;
    let name = labels.get(SERVICE_NAME).filter(|_| !labels.contains_key(IMPORT_NAME))?;
    Some(format!("{}/{name}", slice.metadata.namespace.as_deref()?).into())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(spec: Value) -> Option<ServiceRecord> {
        let value = json!({ "metadata": { "namespace": "shop", "name": "cart" }, "spec": spec });
        record(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn services_are_hosts_by_their_full_names() {
        let plain = read(json!({ "selector": { "app": "cart" }, "clusterIP": "10.96.0.7" }));
        let plain = plain.unwrap();
        assert_eq!(plain.host.as_str(), "cart.shop.svc.cluster.local");
        assert!(plain.plain && !plain.own_zone_first);
        let headless = read(json!({ "selector": { "app": "cart" }, "clusterIP": "None" }));
        assert!(!headless.unwrap().plain);
        let close =
            read(json!({ "selector": { "app": "cart" }, "trafficDistribution": "PreferClose" }));
        assert!(close.unwrap().own_zone_first);
        assert_eq!(read(json!({ "clusterIP": "10.96.0.7" })), None, "nothing is known behind it");
        let external = json!({ "selector": { "a": "b" }, "type": "ExternalName" });
        assert_eq!(read(external), None);
    }

    #[test]
    fn a_waypoint_is_told_by_its_condition_else_by_the_label() {
        let waypoint = |label: Option<&str>, bound: Option<&str>| {
            let condition = |status| {
                json!([{
                    "type": WAYPOINT_BOUND, "status": status, "reason": "r", "message": "m",
                    "lastTransitionTime": "2026-11-25T12:00:00Z"
                }])
            };
            let value = json!({
                "metadata": { "namespace": "shop", "name": "cart",
                    "labels": label.map(|name| json!({ USE_WAYPOINT: name })) },
                "spec": { "selector": { "app": "cart" } },
                "status": { "conditions": bound.map(condition) }
            });
            record(&serde_json::from_value(value).unwrap()).unwrap().waypoint
        };
        assert!(!waypoint(None, None));
        assert!(waypoint(Some("shop-waypoint"), None));
        assert!(!waypoint(Some("none"), None));
        assert!(waypoint(None, Some("True")), "asked for by the namespace");
        assert!(!waypoint(Some("gone"), Some("False")), "it does not exist");
    }

    #[test]
    fn slices_change_with_what_is_ready() {
        let read = |ready: bool, zone: &str| {
            let value = json!({ "metadata": {}, "addressType": "IPv4", "endpoints": [
                { "addresses": ["10.0.0.1"], "conditions": { "ready": ready }, "zone": zone }
            ], "ports": [{ "port": 80 }] });
            slice(&serde_json::from_value(value).unwrap())
        };
        assert_eq!(read(true, "a"), read(true, "a"));
        assert_ne!(read(true, "a"), read(false, "a"));
        assert_ne!(read(true, "a"), read(true, "b"));
        assert_eq!(read(false, "a"), read(false, "b"));
    }

    #[test]
    fn endpoints_that_refer_to_no_pod_are_foreign_to_their_service() {
        let read = |labels: Value, target: Value, ready: bool| {
            let value = json!({
                "metadata": { "namespace": "shop", "name": "cart-1", "labels": labels },
                "addressType": "IPv4", "ports": [{ "port": 80 }], "endpoints": [
                    { "addresses": ["10.0.0.1"], "targetRef": { "kind": "Pod", "name": "cart-1" } },
                    { "addresses": ["192.0.2.1"], "targetRef": target,
                        "conditions": { "ready": ready } }
                ]
            });
            slice(&serde_json::from_value(value).unwrap()).foreign_to
        };
        let cart = || json!({ SERVICE_NAME: "cart" });
        let pod = json!({ "kind": "Pod", "name": "cart-2" });
        assert_eq!(read(cart(), pod, true), None);
        for ready in [true, false] {
            assert_eq!(read(cart(), Value::Null, ready).as_deref(), Some("shop/cart"));
        }
        let node = json!({ "kind": "Node", "name": "n1" });
        assert_eq!(read(cart(), node, true).as_deref(), Some("shop/cart"));
        assert_eq!(read(Value::Null, Value::Null, true), None, "of no Service");
        let import = json!({ SERVICE_NAME: "derived", IMPORT_NAME: "cart" });
        assert_eq!(read(import, Value::Null, true), None);
    }
}
