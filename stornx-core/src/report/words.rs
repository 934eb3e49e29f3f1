//! Reasons in plain words: what a person reads in tables, events and logs. Decides
//! nothing. Each sentence fragment fits after the name of the workload or host it is
//! about, starts in lower case and ends without a full stop.

use std::fmt;

use super::{Input, InputState, MoveReason, RouteReason, ScaleReason};
use crate::{
    model::{AutoscalerKind, ForeignRule, Source},
    plan::{AbortCause, GiveBackCause},
    units::Span,
};

/// A span as people say it: seconds below two minutes, minutes below two hours, hours
/// above.
pub(super) fn spoken(span: Span) -> String {
    let seconds = span.as_millis().div_ceil(1000);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h", seconds.div_ceil(3600)),
    }
}

impl fmt::Display for ScaleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GrowthDidNotHelp { before, now } => write!(
                f,
                "the last growth did not relieve it ({:.0} % used before, {:.0} % now): more replicas would not help",
                before.get(),
                now.get()
            ),
            Self::Scaled => f.write_str("its count changes"),
            Self::WithinBand => f.write_str("its utilisation lies within the band"),
            Self::SlowButIdle { p95, utilisation } => write!(
                f,
                "it is slow (p95 {:.0} ms) but idle ({:.0} % used): more replicas would not help",
                p95.get(),
                utilisation.get()
            ),
            Self::SlowDownstream { p95, own } => write!(
                f,
                "its p95 is {:.0} ms, but only {:.0} ms of that without the calls that it waits for",
                p95.get(),
                own.get()
            ),
            Self::SlowLately { p95, since } => {
                write!(f, "its p95 is {:.0} ms, but only for {} so far", p95.get(), spoken(*since))
            }
            Self::RemainingTooBusy { predicted } => write!(
                f,
                "it is idle, but one replica less would use the others to {:.0} %, near the limit",
                predicted.get()
            ),
            Self::BoundToPlace => f.write_str("it is idle, but its replicas are bound to their place and might not find one again; stornx.io/min-replicas says how far it may go down"),
            Self::Disabled => f.write_str("scaling is switched off"),
            Self::NotManaged => f.write_str("its namespace is not managed"),
            Self::OptedOut => f.write_str("its owner does not want it scaled"),
            Self::Paused => f.write_str("its rollout is paused"),
            Self::RolloutInProgress => f.write_str("a rollout is in progress"),
            Self::MoveInFlight => f.write_str("one of its replicas is being moved"),
            Self::AutoscalerOwns { kind } => write!(f, "{kind} owns its count"),
            Self::Cooldown { left } => {
                write!(f, "it was scaled too recently, free again in {}", spoken(*left))
            }
            Self::BudgetUsedUp { allowed } => {
                write!(f, "other workloads used up the {allowed} scale actions of this cycle")
            }
            Self::DisruptionBudget { min_ready } => {
                write!(f, "its disruption budget keeps {min_ready} replicas ready")
            }
            Self::ZoneLossFloor { floor } => {
                write!(f, "fewer than {floor} replicas would not survive the loss of a zone")
            }
            Self::Spread { zones } => {
                write!(f, "it is to be spread over {zones} zones")
            }
            Self::Skew { max } => {
                write!(f, "no zone may hold more than {max} replicas more than another")
            }
            Self::ScaledToZero => f.write_str("its owner has scaled it to zero"),
            Self::Settling { ready, desired } => {
                write!(f, "{ready} of {desired} replicas are ready, the others are awaited")
            }
            Self::AtMinimum { min } => write!(f, "it is at its minimum of {min}"),
            Self::AtMaximum { max } => write!(f, "it is at its maximum of {max}"),
            Self::NoFeasibleNode { detail } => {
                write!(f, "no node can take another replica: {detail}")
            }
            Self::NoBase => {
                f.write_str("it has no requests and no limits to measure utilisation against")
            }
            Self::NoUsage => f.write_str("its usage is stale or missing"),
            Self::NothingReady => f.write_str("none of its replicas is ready"),
        }
    }
}

impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("a replica begins to move"),
            Self::Waiting { since } => {
                write!(f, "a move has been waiting for its replacement for {}", spoken(*since))
            }
            Self::Finished => f.write_str("a move ends: the replacement is ready"),
            Self::Closed => f.write_str("a move has ended: the old replica is gone"),
            Self::QuietHours => f.write_str("no move begins in a quiet hour"),
            Self::NoSteering => f.write_str("a replacement could not be told where to run"),
            Self::GivenUp { cause } => write!(f, "a move is given up: {cause}"),
            Self::WellPlaced { best: None } => f.write_str("no other place is feasible"),
            Self::WellPlaced { best: Some(best) } if *best > 0.0 => {
                write!(f, "well placed: the best move would save only {best:.1} request-ms/s")
            }
            Self::WellPlaced { best: Some(_) } => {
                f.write_str("well placed: no move pays for itself")
            }
            Self::Confirming { since } if since.as_millis() == 0 => {
                f.write_str("a move looks worth it, to be confirmed by new counts")
            }
            Self::Confirming { since } => write!(
                f,
                "a move has looked worth it for {}, to be confirmed by new counts",
                spoken(*since)
            ),
            Self::BudgetUsedUp => {
                f.write_str("better places exist, but other moves used up the budget of this cycle")
            }
            Self::NeedsOthers { moves, saving, price } => write!(
                f,
                "a better place exists if {moves} replicas move together ({saving:.1} request-ms/s \
                 saved, {price:.1} paid), more than may begin at once"
            ),
            Self::NoRoom => f.write_str("a better place exists, but its zone has no room"),
            Self::Disabled => f.write_str("moves are switched off"),
            Self::NotManaged => f.write_str("its namespace is not managed"),
            Self::OptedOut => f.write_str("its owner wants it left alone"),
            Self::NotWanted => f.write_str("its owner does not want moves"),
            Self::NotMovable => f.write_str("its replicas are bound to their place"),
            Self::Paused => f.write_str("its rollout is paused"),
            Self::RolloutInProgress => f.write_str("a rollout is in progress"),
            Self::AutoscalerOwns { kind } => {
                write!(f, "{kind} owns its count, so no replacement can be added first")
            }
            Self::BeingScaled => f.write_str("its count changes in this plan"),
            Self::Backoff { left } => write!(
                f,
                "it was moved, or a move disappointed, too recently: free again in {}",
                spoken(*left)
            ),
            Self::NotSettled => f.write_str("not all of its replicas are ready"),
            Self::NoTraffic => f.write_str("traffic is stale or missing"),
        }
    }
}

impl fmt::Display for RouteReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed => f.write_str("its routes change"),
            Self::AtTarget => f.write_str("its routes are at their target"),
            Self::BelowMinDelta { change } => {
                write!(f, "a change of {change:.0} points is too small to be worth a write")
            }
            Self::GainTooSmall { gain } => {
                write!(f, "the best split would save only {gain:.1} % of its cost")
            }
            Self::Disabled => f.write_str("balancing is switched off"),
            Self::NotRoutable => {
                f.write_str("there is no mesh, or it does not read locality weights")
            }
            Self::Unnamed => f.write_str(
                "a node has no zone or region of its own: a replica there would be cut off",
            ),
            Self::NoRule => {
                f.write_str("it has no rule to add weights to, and none may be created")
            }
            Self::NotManaged => f.write_str("its namespace is not managed"),
            Self::OptedOut => f.write_str("its owner does not want its routes written"),
            Self::Foreign(rule) => write!(f, "its rule is not ours to write: {rule}"),
            Self::NotOneWorkload { backends: 0 } => f.write_str("no workload stands behind it"),
            Self::NotOneWorkload { backends } => {
                write!(f, "{backends} workloads stand behind it; routes are planned for one")
            }
            Self::Displaced => f.write_str(
                "a label puts a pod behind it elsewhere than its node: it could be cut off",
            ),
            Self::ForeignEndpoints => f.write_str(
                "an endpoint behind it is no pod of this cluster: weights would cut it off",
            ),
            Self::NoWaypoint => f.write_str(
                "it is in ambient mode without a waypoint, and no known caller has a proxy: nobody reads weights",
            ),
            Self::OneZone => f.write_str("only one zone holds or can hold an endpoint"),
            Self::TooManyZones { zones } => {
                write!(f, "{zones} zones are more than weights can name")
            }
            Self::NothingReady => f.write_str("nothing behind it is ready"),
            Self::NoDemand => f.write_str("nobody calls it"),
            Self::NoTraffic { since } => {
                write!(f, "traffic has been stale or missing for {}", spoken(*since))
            }
            Self::SeenAgain { left } => write!(
                f,
                "requests to it were not seen for long and are again: free in {}",
                spoken(*left)
            ),
            Self::Backoff { left } => {
                write!(f, "a change was taken back too recently: free again in {}", spoken(*left))
            }
            Self::RollingOut => f.write_str("a rollout is in progress"),
            Self::SeenAlready => f.write_str("a change waits for figures newer than its last write"),
            Self::Waits => f.write_str("other hosts come first in this cycle"),
        }
    }
}

impl fmt::Display for AbortCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TimedOut => "the replacement was not ready in time",
            Self::Misplaced => "the replacement came up in another zone",
            Self::NeverBegan => "its first step was never carried out, or was taken back",
            Self::NotCounted => {
                "the controller of its replicas did not count the new one as Ready in time"
            }
            Self::AnotherWent => "another replica went in the place of the one that was to",
            Self::VictimGone => "the old replica went by itself",
            Self::RolloutBegan => "a rollout began",
            Self::CountChanged => "somebody else changed the replica count",
            Self::KeptByAutoscaler => "the autoscaler keeps the replica that was to go",
            Self::AutoscalerAppeared => "an autoscaler took over the count",
            Self::NotAllowedAnyMore => "the workload was opted out, paused or deleted",
            Self::Unsafe => "removing the old replica would not be safe any more",
        })
    }
}

impl fmt::Display for GiveBackCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(rule) => rule.fmt(f),
            Self::OptedOut => f.write_str("its owner does not want its routes written"),
            Self::Unnamed => f.write_str("a node is in a place that no rule can name"),
            Self::Zones => f.write_str("there are too few or too many zones for weights"),
            Self::SeveralWorkloads => f.write_str("several workloads stand behind it now"),
            Self::NoWorkload => f.write_str("no workload that is known stands behind it any more"),
            Self::Displaced => f.write_str("a label puts a pod elsewhere than its node"),
            Self::ForeignEndpoints => f.write_str("an endpoint is no pod of this cluster"),
        }
    }
}

impl fmt::Display for ForeignRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SeveralRules => "several rules name the host and only one takes effect",
            Self::Distribute => "somebody else set distribute",
            Self::Failover => "somebody else set failover or failoverPriority",
            Self::ZoneAware => "zoneAwareLbSetting is set",
            Self::Subsets => "subsets carry a load balancer policy of their own",
            Self::NotAService => "the host is not a plain Service",
            Self::Wildcard => "a rule over more than this host stands for it",
            Self::Elsewhere => "the rule lies in another namespace than the Service",
            Self::Partial => "it holds for some callers only (workloadSelector, exportTo)",
            Self::SwitchedOff => "it switches locality weights off",
            Self::Sticky => "consistentHash keeps callers with their replica",
        })
    }
}

impl fmt::Display for AutoscalerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hpa => "a HorizontalPodAutoscaler",
            Self::Keda => "a KEDA ScaledObject",
            Self::Controller => "another controller",
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kubernetes => "Kubernetes",
            Self::MetricsServer => "metrics-server",
            Self::Prometheus => "Prometheus",
            Self::LatencyExporter => "latency exporter",
            Self::Simulator => "simulator",
            Self::Dataset => "data set",
        })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Usage => "usage",
            Self::Traffic => "traffic",
            Self::Latency => "latency",
            Self::Steering => "steering of new replicas",
            Self::Routing => "routing",
        })
    }
}

impl fmt::Display for InputState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Missing => "missing",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Millis, Percent};

    #[test]
    fn a_span_is_spoken_in_the_unit_that_fits() {
        let spoken: Vec<_> =
            [0, 1, 90, 120, 121, 7199, 7200].map(|s| spoken(Span::from_seconds(s))).into();
        assert_eq!(spoken, ["0 s", "1 s", "90 s", "2 min", "3 min", "120 min", "2 h"]);
    }

    #[test]
    fn reasons_carry_the_numbers_that_decided() {
        let slow = ScaleReason::SlowButIdle {
            p95: Millis::saturating(250.0),
            utilisation: Percent::saturating(12.0),
        };
        assert_eq!(
            slow.to_string(),
            "it is slow (p95 250 ms) but idle (12 % used): more replicas would not help"
        );
        let owned = ScaleReason::AutoscalerOwns { kind: AutoscalerKind::Keda };
        assert_eq!(owned.to_string(), "a KEDA ScaledObject owns its count");
        let owned = ScaleReason::AutoscalerOwns { kind: AutoscalerKind::Controller };
        assert_eq!(owned.to_string(), "another controller owns its count");
        let foreign = RouteReason::Foreign(ForeignRule::Distribute);
        assert_eq!(
            foreign.to_string(),
            "its rule is not ours to write: somebody else set distribute"
        );
        let given_up = MoveReason::GivenUp { cause: AbortCause::TimedOut };
        assert_eq!(
            given_up.to_string(),
            "a move is given up: the replacement was not ready in time"
        );
    }
}
