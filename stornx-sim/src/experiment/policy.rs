//! The policies that an experiment can compare, by the names of the documentation.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// A policy under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyName {
    /// The product with its default settings (and the overrides of the scenario).
    Stornx,
    /// See [`random`](crate::baseline::random).
    Random,
    /// See [`prefer_close`](crate::baseline::prefer_close).
    PreferClose,
    /// See [`failover`](crate::baseline::failover).
    Failover,
    /// See [`static_split`](crate::baseline::static_split).
    Static,
    /// See [`zone_aware`](crate::baseline::zone_aware).
    ZoneAware,
    /// See [`load_aware`](crate::baseline::load_aware).
    LoadAware,
    /// See [`classic`](crate::baseline::classic).
    Classic,
    /// See [`default_spread`](crate::baseline::default_spread); routes like `random`.
    DefaultSpread,
    /// See [`netmarks`](crate::baseline::netmarks); routes like `random`.
    Netmarks,
    /// See [`greedy_delay`](crate::baseline::greedy_delay); routes like `random`.
    GreedyDelay,
}

/// A name that is no policy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("policy {name:?} is not known; allowed: {}", PolicyName::ALL.map(PolicyName::as_str).join(", "))]
pub struct UnknownPolicy {
    name: String,
}

impl PolicyName {
    /// Every policy, the product first.
    pub const ALL: [Self; 11] = [
        Self::Stornx,
        Self::Random,
        Self::PreferClose,
        Self::Failover,
        Self::Static,
        Self::ZoneAware,
        Self::LoadAware,
        Self::Classic,
        Self::DefaultSpread,
        Self::Netmarks,
        Self::GreedyDelay,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stornx => "stornx",
            Self::Random => "random",
            Self::PreferClose => "prefer-close",
            Self::Failover => "failover",
            Self::Static => "static-80-10-10",
            Self::ZoneAware => "zone-aware",
            Self::LoadAware => "load-aware-locality",
            Self::Classic => "classic",
            Self::DefaultSpread => "default-spread",
            Self::Netmarks => "netmarks",
            Self::GreedyDelay => "greedy-delay",
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for PolicyName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl FromStr for PolicyName {
    type Err = UnknownPolicy;
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let known = Self::ALL.into_iter().find(|policy| policy.as_str() == text);
        known.ok_or_else(|| UnknownPolicy { name: text.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_unknown_ones_list_what_is_allowed() {
        for policy in PolicyName::ALL {
            assert_eq!(policy.as_str().parse(), Ok(policy));
        }
        let message = "best".parse::<PolicyName>().unwrap_err().to_string();
        assert!(message.contains("\"best\"") && message.contains("load-aware-locality"));
    }
}
