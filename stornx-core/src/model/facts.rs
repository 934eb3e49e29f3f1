//! How well something is known. A group of facts is fresh, stale or missing, and
//! says since when and from where: the absence of data is a value of its own and
//! never looks like a zero.

use serde::{Deserialize, Serialize};

use crate::units::{Span, Timestamp};

/// Where a group of facts comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The Kubernetes API.
    Kubernetes,
    /// The `metrics.k8s.io` API.
    MetricsServer,
    /// Prometheus, or anything with its HTTP API.
    Prometheus,
    /// An exporter of node-to-node round-trip times, read through Prometheus.
    LatencyExporter,
    /// The simulated world.
    Simulator,
    /// A data set.
    Dataset,
}

/// A group of facts with its age and source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Facts<T> {
    /// Known and recent enough to decide on.
    #[serde(rename_all = "camelCase")]
    Fresh {
        /// The instant that the facts describe.
        as_of: Timestamp,
        /// Who says so.
        source: Source,
        /// The facts.
        value: T,
    },
    /// Known, but too old to decide on.
    #[serde(rename_all = "camelCase")]
    Stale {
        /// The instant that the facts describe.
        as_of: Timestamp,
        /// Who said so.
        source: Source,
        /// The facts.
        value: T,
    },
    /// Not known.
    #[serde(rename_all = "camelCase")]
    Missing {
        /// Why not, in plain words.
        reason: String,
    },
}

impl<T> Facts<T> {
    /// The facts, only when they may be decided on.
    #[must_use]
    pub const fn fresh(&self) -> Option<&T> {
        match self {
            Self::Fresh { value, .. } => Some(value),
            Self::Stale { .. } | Self::Missing { .. } => None,
        }
    }

    /// The facts, fresh or stale, for showing.
    #[must_use]
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Fresh { value, .. } | Self::Stale { value, .. } => Some(value),
            Self::Missing { .. } => None,
        }
    }

    /// How old the facts are; `None` when there are none.
    #[must_use]
    pub const fn age(&self, now: Timestamp) -> Option<Span> {
        match self {
            Self::Fresh { as_of, .. } | Self::Stale { as_of, .. } => Some(now.since(*as_of)),
            Self::Missing { .. } => None,
        }
    }

    /// The same facts, stale when they are older than `limit` at `now`.
    #[must_use]
    pub fn judged(self, now: Timestamp, limit: Span) -> Self {
        match self {
            Self::Fresh { as_of, source, value } if now.since(as_of) > limit => {
                Self::Stale { as_of, source, value }
            }
            other => other,
        }
    }
}
