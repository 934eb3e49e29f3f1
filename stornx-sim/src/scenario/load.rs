//! The load of a scenario: where requests enter, how many, and of which kind.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};
use stornx_core::{
    ids::ZoneName,
    units::{Bytes, Rps},
};

use super::{Timespan, service};

/// A service into which load enters. Requests arrive independently of each other (a
/// Poisson process by zone) at the pod of the `ingress` workload in that zone, which
/// sends them on to the service as any caller would.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// The service.
    pub service: String,
    /// Weights of its operations; all requests are plain ones when empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub operations: BTreeMap<String, f64>,
    /// Requests per second over time, by zone; other zones get none.
    pub rates: BTreeMap<ZoneName, Profile>,
    /// Bytes of one request.
    #[serde(default = "service::request_bytes")]
    pub request_bytes: Bytes,
    /// Bytes of one response.
    #[serde(default = "service::response_bytes")]
    pub response_bytes: Bytes,
    /// How long a user waits.
    #[serde(default = "service::timeout")]
    pub timeout: Timespan,
    /// Attempts after the first, on connect failure and 503 only.
    #[serde(default = "service::retries")]
    pub retries: u32,
}

/// A rate at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Point {
    /// When, from the start of the run.
    pub at: Timespan,
    /// Requests per second.
    pub per_second: Rps,
}

/// A rate over time: one number, or points joined by straight lines (two points at the
/// same instant make a step). The first point holds before it, the last one after it.
#[derive(Debug, Clone, PartialEq, Serialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Profile {
    /// The same all the time, in requests per second.
    Constant(Rps),
    /// Points in the order of time.
    Points(Vec<Point>),
}

impl<'de> Deserialize<'de> for Profile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ProfileVisitor;

        impl<'de> de::Visitor<'de> for ProfileVisitor {
            type Value = Profile;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("requests per second, or a list of {at, perSecond}")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Profile, E> {
                Rps::new(value).map(Profile::Constant).map_err(E::custom)
            }
            #[allow(clippy::cast_precision_loss)] // Rates are far below 2^53.
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Profile, E> {
                self.visit_f64(value as f64)
            }
            #[allow(clippy::cast_precision_loss)]
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Profile, E> {
                self.visit_f64(value as f64)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Profile, A::Error> {
                let mut points = Vec::new();
                while let Some(point) = list.next_element()? {
                    points.push(point);
                }
                Ok(Profile::Points(points))
            }
        }

        deserializer.deserialize_any(ProfileVisitor)
    }
}

impl Profile {
    /// The points, with at least one.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        match self {
            Self::Constant(per_second) => {
                vec![Point { at: Timespan::ZERO, per_second: *per_second }]
            }
            Self::Points(points) => points.clone(),
        }
    }
}
