//! What came of the weights that were written, in words.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::words::spoken;
use crate::{
    ids::ZoneName,
    units::{Millis, Percent, Share, Span},
};

/// Why something could not be verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Unverified {
    /// Traffic is stale or missing.
    NoTraffic,
    /// Replicas have come or are going within the window of the metrics.
    Unsettled,
    /// Too few requests were counted to tell.
    FewRequests,
    /// No response time is known, now or from before.
    NoLatency,
    /// More is asked of it than before: that may explain everything.
    MoreDemand,
}

/// Whether requests fall as the weights say that stand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Following {
    /// The window of the metrics does not lie after the last write yet.
    TooEarly {
        /// Time that is left.
        left: Span,
    },
    /// It cannot be told.
    Unverified {
        /// Why.
        why: Unverified,
    },
    /// They do.
    AsWritten {
        /// Largest difference of a route, percentage points.
        off: Percent,
    },
    /// They do not, by more than the counts vary; a second window has to confirm it.
    Doubtful {
        /// Zone of the callers.
        from: ZoneName,
        /// Zone that gets more or less than it should, by most.
        to: ZoneName,
        /// What the weights come to.
        written: Percent,
        /// What it gets.
        seen: Percent,
    },
    /// They have not for longer than a window.
    Astray {
        /// Zone of the callers.
        from: ZoneName,
        /// Zone that gets more or less than it should, by most.
        to: ZoneName,
        /// What the weights come to.
        written: Percent,
        /// What it gets.
        seen: Percent,
        /// For how long it has been seen.
        since: Span,
    },
}

/// What the run of writes under way has done to those who call the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// The window of the metrics does not lie after the last write yet.
    TooEarly {
        /// Time that is left.
        left: Span,
    },
    /// It cannot be told.
    Unverified {
        /// Why.
        why: Unverified,
    },
    /// Nothing is worse than before.
    NoWorse {
        /// Hosts whose routes were not touched, that it was compared with.
        compared_with: u32,
    },
    /// It is worse than before, and worse than what was not touched explains.
    Worse {
        /// p95 that callers saw before.
        p95_before: Option<Millis>,
        /// p95 that they would see if it had changed as that of the untouched did.
        p95_expected: Option<Millis>,
        /// p95 that they see.
        p95: Option<Millis>,
        /// Share of failures before.
        errors_before: Share,
        /// Share of failures now.
        errors: Share,
        /// Hosts whose routes were not touched, that it was compared with.
        compared_with: u32,
        /// The zones that get more answer worse than those that get less, and the mesh
        /// does what was written: the weights did it.
        ours: bool,
    },
}

/// What came of the weights of a host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Verification {
    /// Whether requests fall as they say.
    pub following: Following,
    /// What the run of writes under way has done; absent when none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

impl Following {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TooEarly { .. } => "too-early",
            Self::Unverified { .. } => "unverified",
            Self::AsWritten { .. } => "as-written",
            Self::Doubtful { .. } => "doubtful",
            Self::Astray { .. } => "astray",
        }
    }
}

impl Effect {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TooEarly { .. } => "too-early",
            Self::Unverified { .. } => "unverified",
            Self::NoWorse { .. } => "no-worse",
            Self::Worse { ours: true, .. } => "worse",
            Self::Worse { ours: false, .. } => "worse-not-by-weights",
        }
    }
}

impl fmt::Display for Unverified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTraffic => "traffic is stale or missing",
            Self::Unsettled => "replicas have come or are going",
            Self::FewRequests => "too few requests were counted",
            Self::NoLatency => "response times are not known",
            Self::MoreDemand => "more is asked of it than before",
        })
    }
}

impl fmt::Display for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooEarly { left } => {
                write!(f, "whether requests fall as written is seen in {}", spoken(*left))
            }
            Self::Unverified { why } => {
                write!(f, "could not verify that requests fall as written: {why}")
            }
            Self::AsWritten { off } => {
                write!(f, "requests fall as written, to {:.1} points", off.get())
            }
            Self::Doubtful { from, to, written, seen } => write!(
                f,
                "{from}→{to} gets {:.0} % of the requests, {:.0} % are written: to be confirmed",
                seen.get(),
                written.get()
            ),
            Self::Astray { from, to, written, seen, since } => write!(
                f,
                "the mesh does not follow: {from}→{to} has got {:.0} % of the requests for {}, \
                 {:.0} % are written (callers without a proxy, endpoints taken out by their \
                 callers, or routes of somebody else)",
                seen.get(),
                spoken(*since),
                written.get()
            ),
        }
    }
}

/// A number of hosts that something was compared with.
fn against(f: &mut fmt::Formatter<'_>, hosts: u32) -> fmt::Result {
    match hosts {
        0 => f.write_str(" (nothing untouched to compare with)"),
        1 => f.write_str(" (compared with 1 untouched host)"),
        more => write!(f, " (compared with {more} untouched hosts)"),
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooEarly { left } => {
                write!(f, "what the change did is seen in {}", spoken(*left))
            }
            Self::Unverified { why } => write!(f, "could not verify what the change did: {why}"),
            Self::NoWorse { compared_with } => {
                f.write_str("nothing is worse since the change")?;
                against(f, *compared_with)
            }
            Self::Worse {
                p95_before,
                p95_expected,
                p95,
                errors_before,
                errors,
                compared_with,
                ours,
            } => {
                f.write_str("worse since the change:")?;
                if let (Some(before), Some(expected), Some(now)) = (p95_before, p95_expected, p95) {
                    let (before, expected, now) = (before.get(), expected.get(), now.get());
                    write!(f, " p95 from {before:.0} to {now:.0} ms, {expected:.0} expected,")?;
                }
                let (before, now) = (100.0 * errors_before.get(), 100.0 * errors.get());
                write!(f, " failures from {before:.1} to {now:.1} %")?;
                against(f, *compared_with)?;
                f.write_str(if *ours { "" } else { "; the weights do not explain it" })
            }
        }
    }
}
