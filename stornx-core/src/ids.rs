//! Identifiers. Every name that crosses a boundary is a type of its own, checked
//! where it enters, cheap to clone (`Arc<str>`) and ordered by its text, so that
//! ties broken "by identifier" mean the same everywhere.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// A name that cannot be an identifier of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{kind} {value:?} is not valid: {allowed}")]
pub struct IdError {
    kind: &'static str,
    value: String,
    allowed: &'static str,
}

const NAME_RULE: &str = "1 to 253 characters of a-z, A-Z, 0-9, '-', '_', '.', starting and ending with a letter or digit";

/// The union of what Kubernetes allows for object names and label values; the API
/// server has already applied the narrower rule of each kind.
fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= 253
        && first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

macro_rules! text_traits {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::from_str(&text).map_err(de::Error::custom)
            }
        }
        impl TryFrom<&str> for $name {
            type Error = IdError;
            fn try_from(text: &str) -> Result<Self, IdError> {
                Self::from_str(text)
            }
        }
        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": Self::RULE })
            }
        }
    };
}

macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// What the text of this identifier may be.
            pub const RULE: &'static str = NAME_RULE;

            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`IdError`] names the kind, the value and the rule.
            pub fn new(text: &str) -> Result<Self, IdError> {
                if is_name(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(IdError { kind: $kind, value: text.to_owned(), allowed: Self::RULE })
                }
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }
        text_traits!($name);
    };
}

name_id!(
    /// A Kubernetes node.
    NodeName,
    "node name"
);
/// A failure domain: the value of `topology.kubernetes.io/zone`. Unique in the cluster
/// (cloud zone names carry their region). Where routes are planned node by node it is a
/// place within one: `zone/node`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneName(Arc<str>);

impl ZoneName {
    /// What the text of this identifier may be.
    pub const RULE: &'static str = "1 to 253 characters of a-z, A-Z, 0-9, '-', '_', '.', starting and ending with a letter or digit; or two such names with a '/' between, zone and node";

    /// Checks and wraps a name.
    ///
    /// # Errors
    /// [`IdError`] names the kind, the value and the rule.
    pub fn new(text: &str) -> Result<Self, IdError> {
        let (zone, node) = text.split_once('/').unwrap_or((text, "n"));
        if is_name(zone) && is_name(node) {
            Ok(Self(text.into()))
        } else {
            Err(IdError { kind: "zone name", value: text.to_owned(), allowed: Self::RULE })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The place of a node in this zone.
    #[must_use]
    pub fn with_node(&self, node: &NodeName) -> Self {
        Self(format!("{}/{node}", self.domain()).into())
    }

    /// The failure domain: without the node.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.split_once('/').map_or(&self.0, |(zone, _)| zone)
    }

    /// The node, where it is the place of one.
    #[must_use]
    pub fn node(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, node)| node)
    }
}
impl FromStr for ZoneName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}
text_traits!(ZoneName);
name_id!(
    /// The value of `topology.kubernetes.io/region`.
    RegionName,
    "region name"
);
name_id!(
    /// A Kubernetes namespace.
    Namespace,
    "namespace"
);

/// The key of a label, taint or toleration: `[prefix/]name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelKey(Arc<str>);

impl LabelKey {
    /// What the text of a label key may be.
    pub const RULE: &'static str = "[prefix/]name, e.g. topology.kubernetes.io/zone";

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabelKey {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (prefix, name) = text.split_once('/').unwrap_or(("x", text));
        if is_name(prefix) && is_name(name) {
            Ok(Self(text.into()))
        } else {
            Err(IdError { kind: "label key", value: text.to_owned(), allowed: Self::RULE })
        }
    }
}
text_traits!(LabelKey);

/// The value of a label or taint; may be empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelValue(Arc<str>);

impl LabelValue {
    /// What the text of a label value may be.
    pub const RULE: &'static str = "empty, or 1 to 253 characters of a-z, A-Z, 0-9, '-', '_', '.', starting and ending with a letter or digit";

    /// The value as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for LabelValue {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() || is_name(text) {
            Ok(Self(text.into()))
        } else {
            Err(IdError { kind: "label value", value: text.to_owned(), allowed: Self::RULE })
        }
    }
}
text_traits!(LabelValue);

/// The kinds of workload that StornX knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment: replicas are interchangeable, a surge is possible.
    Deployment,
    /// `apps/v1` StatefulSet: replicas have ordinals, a surge of one is not possible.
    StatefulSet,
}

impl WorkloadKind {
    /// The Kubernetes kind.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }
}

/// A workload: `namespace/Kind/name`, for example `shop/Deployment/cart`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadRef {
    text: Arc<str>,
    namespace_end: u16,
    kind: WorkloadKind,
}

impl WorkloadRef {
    /// What the text of a workload reference may be.
    pub const RULE: &'static str =
        "namespace/Kind/name with Kind one of Deployment, StatefulSet, e.g. shop/Deployment/cart";

    /// Builds a reference from its parts.
    ///
    /// # Errors
    /// [`IdError`] when `name` is not a Kubernetes name.
    pub fn new(namespace: &Namespace, kind: WorkloadKind, name: &str) -> Result<Self, IdError> {
        Self::from_str(&format!("{namespace}/{}/{name}", kind.as_str()))
    }

    /// The whole reference as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The namespace part.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace(self.text[..usize::from(self.namespace_end)].into())
    }

    /// The kind part.
    #[must_use]
    pub const fn kind(&self) -> WorkloadKind {
        self.kind
    }

    /// The name alone, for prose and tables.
    #[must_use]
    pub fn name(&self) -> &str {
        let kind_start = usize::from(self.namespace_end) + 1;
        &self.text[kind_start + self.kind.as_str().len() + 1..]
    }
}

impl FromStr for WorkloadRef {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError { kind: "workload", value: text.to_owned(), allowed: Self::RULE };
        let mut parts = text.splitn(3, '/');
        let (Some(namespace), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(refuse());
        };
        let kind = match kind {
            "Deployment" => WorkloadKind::Deployment,
            "StatefulSet" => WorkloadKind::StatefulSet,
            _ => return Err(refuse()),
        };
        if !is_name(namespace) || !is_name(name) {
            return Err(refuse());
        }
        let namespace_end = u16::try_from(namespace.len()).map_err(|_| refuse())?;
        Ok(Self { text: text.into(), namespace_end, kind })
    }
}
text_traits!(WorkloadRef);

/// A pod: `namespace/name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodName {
    text: Arc<str>,
    namespace_end: u16,
}

impl PodName {
    /// What the text of a pod name may be.
    pub const RULE: &'static str = "namespace/name, e.g. shop/cart-7d9f-x2x4k";

    /// Builds a pod name from its parts.
    ///
    /// # Errors
    /// [`IdError`] when `name` is not a Kubernetes name.
    pub fn new(namespace: &Namespace, name: &str) -> Result<Self, IdError> {
        Self::from_str(&format!("{namespace}/{name}"))
    }

    /// The whole name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The namespace part.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace(self.text[..usize::from(self.namespace_end)].into())
    }

    /// The name without its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.text[usize::from(self.namespace_end) + 1..]
    }
}

impl FromStr for PodName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let refuse = || IdError { kind: "pod", value: text.to_owned(), allowed: Self::RULE };
        let (namespace, name) = text.split_once('/').ok_or_else(refuse)?;
        if !is_name(namespace) || !is_name(name) {
            return Err(refuse());
        }
        let namespace_end = u16::try_from(namespace.len()).map_err(|_| refuse())?;
        Ok(Self { text: text.into(), namespace_end })
    }
}
text_traits!(PodName);

/// A host as the mesh sees it: the fully qualified name of a Service, for example
/// `cart.shop.svc.cluster.local`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(Arc<str>);

impl HostName {
    /// What the text of a host may be.
    pub const RULE: &'static str =
        "service.namespace.svc.<cluster domain>, e.g. cart.shop.svc.cluster.local";

    /// The host of a Service in the usual cluster domain.
    ///
    /// # Errors
    /// [`IdError`] when `service` is not a Kubernetes name.
    pub fn of_service(namespace: &Namespace, service: &str) -> Result<Self, IdError> {
        Self::from_str(&format!("{service}.{namespace}.svc.cluster.local"))
    }

    /// The whole host as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The Service name alone.
    #[must_use]
    pub fn service(&self) -> &str {
        self.0.split('.').next().unwrap_or_default()
    }

    /// The namespace of the Service.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace(self.0.split('.').nth(1).unwrap_or_default().into())
    }
}

impl FromStr for HostName {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut parts = text.split('.');
        let label = |part: Option<&str>| part.is_some_and(is_name);
        let (service, namespace) = (label(parts.next()), label(parts.next()));
        let marked = parts.next() == Some("svc");
        if service && namespace && marked && is_name(text) && label(parts.next()) {
            Ok(Self(text.into()))
        } else {
            Err(IdError { kind: "host", value: text.to_owned(), allowed: Self::RULE })
        }
    }
}
text_traits!(HostName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workload_reference_round_trips_with_its_parts() {
        let workload: WorkloadRef = "shop/StatefulSet/redis".parse().unwrap();
        assert_eq!(workload.namespace().as_str(), "shop");
        assert_eq!(workload.kind(), WorkloadKind::StatefulSet);
        assert_eq!(workload.name(), "redis");
        assert_eq!(workload.to_string(), "shop/StatefulSet/redis");
    }

    #[test]
    fn host_gives_service_and_namespace() {
        let host: HostName = "cart.shop.svc.cluster.local".parse().unwrap();
        assert_eq!((host.service(), host.namespace().as_str()), ("cart", "shop"));
    }

    #[test]
    fn a_place_is_a_zone_or_a_node_of_one() {
        let zone: ZoneName = "eu-1".parse().unwrap();
        assert_eq!((zone.domain(), zone.node()), ("eu-1", None));
        let place = zone.with_node(&"n.7".parse().unwrap());
        assert_eq!(place.as_str(), "eu-1/n.7");
        assert_eq!((place.domain(), place.node()), ("eu-1", Some("n.7")));
        for bad in ["eu/", "/n", "eu/n/x", "eu//n", ""] {
            assert!(bad.parse::<ZoneName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_names_say_kind_value_and_rule() {
        for bad in ["", "-a", "a/", "a b", "ä"] {
            let error = NodeName::new(bad).unwrap_err().to_string();
            assert!(error.contains("node name") && error.contains("1 to 253"), "{error}");
        }
        assert!("shop/DaemonSet/x".parse::<WorkloadRef>().is_err());
        assert!("shop/cart/extra/Deployment".parse::<WorkloadRef>().is_err());
        assert!("cart".parse::<PodName>().is_err());
        for bad in ["cart", "cart.shop", "cart.shop.pod.x", ".shop.svc.local", "cart..svc.local"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
