//! What happens during a run, and when.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stornx_core::{
    ids::{NodeName, ZoneName},
    units::{MilliCpu, Rps},
};

use super::{Timespan, load::Point, yes};

/// Something that happens. Instants count from the start of the run; an `until` that
/// is absent means to the end of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Event {
    /// Every node of a zone loses power. When it comes back, nodes join again and
    /// replicas that are still theirs start anew.
    ZoneLoss(ZoneLoss),
    /// One replica works slower.
    SlowReplica(SlowReplica),
    /// Every replica on a node works slower.
    SlowNode(SlowNode),
    /// Something outside the scenario takes CPU on a node.
    NodePressure(NodePressure),
    /// No metrics.
    MetricsOutage(MetricsOutage),
    /// The pod template of a service changes: all its replicas are replaced.
    Rollout(Rollout),
    /// The load of an entry changes places.
    TrafficShift(TrafficShift),
}

/// See [`Event::ZoneLoss`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ZoneLoss {
    /// When.
    pub at: Timespan,
    /// Which.
    pub zone: ZoneName,
    /// When power comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timespan>,
    /// How long users of the lost zone go on being sent there before the balancer in
    /// front of the cluster sends them to the other zones. Their requests fail
    /// whatever StornX does, hence 0 by default.
    #[serde(default)]
    pub entry_failover: Timespan,
}

/// See [`Event::SlowReplica`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowReplica {
    /// When.
    pub at: Timespan,
    /// A replica of this service.
    pub service: String,
    /// In this zone, when it has one there; else anywhere. The first by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneName>,
    /// Work takes so many times as long.
    pub factor: f64,
    /// The longer work also burns CPU (a cold cache, garbage collection) instead of
    /// only waiting (a slow disk).
    #[serde(default = "yes")]
    pub burns_cpu: bool,
    /// When it is over, if the replica still exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timespan>,
}

/// See [`Event::SlowNode`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowNode {
    /// When.
    pub at: Timespan,
    /// Which.
    pub node: NodeName,
    /// Work takes so many times as long.
    pub factor: f64,
    /// The longer work also burns CPU.
    #[serde(default = "yes")]
    pub burns_cpu: bool,
    /// When it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timespan>,
}

/// See [`Event::NodePressure`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodePressure {
    /// When.
    pub at: Timespan,
    /// Where.
    pub node: NodeName,
    /// The CPU taken.
    pub cpu: MilliCpu,
    /// The kubelet reports pressure: the node is tainted with `NoSchedule`.
    #[serde(default = "yes")]
    pub taint: bool,
    /// When it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timespan>,
}

/// What an outage of the metrics looks like.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum OutageKind {
    /// Prometheus does not answer: facts are missing at once.
    #[default]
    Unreachable,
    /// Prometheus answers but scrapes nothing: facts grow stale.
    NotScraped,
}

/// See [`Event::MetricsOutage`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MetricsOutage {
    /// When.
    pub at: Timespan,
    /// What it looks like.
    #[serde(default)]
    pub kind: OutageKind,
    /// When it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timespan>,
}

/// See [`Event::Rollout`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rollout {
    /// When.
    pub at: Timespan,
    /// Which service.
    pub service: String,
}

/// See [`Event::TrafficShift`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrafficShift {
    /// When it begins.
    pub at: Timespan,
    /// How long it takes; the rates change along a straight line.
    #[serde(default)]
    pub over: Timespan,
    /// The entry, by its service; every entry when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Requests per second by zone from then on; zones not named keep theirs.
    pub rates: BTreeMap<ZoneName, Rps>,
}

impl Event {
    /// When it begins.
    #[must_use]
    pub const fn at(&self) -> Timespan {
        match self {
            Self::ZoneLoss(event) => event.at,
            Self::SlowReplica(event) => event.at,
            Self::SlowNode(event) => event.at,
            Self::NodePressure(event) => event.at,
            Self::MetricsOutage(event) => event.at,
            Self::Rollout(event) => event.at,
            Self::TrafficShift(event) => event.at,
        }
    }

    /// When it is over, for those that end.
    #[must_use]
    pub const fn until(&self) -> Option<Timespan> {
        match self {
            Self::ZoneLoss(event) => event.until,
            Self::SlowReplica(event) => event.until,
            Self::SlowNode(event) => event.until,
            Self::NodePressure(event) => event.until,
            Self::MetricsOutage(event) => event.until,
            Self::Rollout(_) | Self::TrafficShift(_) => None,
        }
    }
}

/// `points` with the shift laid over them from its beginning on.
#[must_use]
pub(crate) fn shifted(points: &[Point], shift: &TrafficShift, target: Rps) -> Vec<Point> {
    let begin = shift.at;
    let end = Timespan::from_millis(begin.as_millis() + shift.over.as_millis());
    let mut shifted: Vec<Point> = points.iter().copied().filter(|p| p.at < begin).collect();
    shifted.push(Point { at: begin, per_second: rate_at(points, begin) });
    shifted.push(Point { at: end, per_second: target });
    shifted
}

/// The rate of a profile at an instant; zero without points.
#[must_use]
pub(crate) fn rate_at(points: &[Point], at: Timespan) -> Rps {
    let after = points.partition_point(|point| point.at <= at);
    match (after.checked_sub(1).and_then(|i| points.get(i)), points.get(after)) {
        (Some(a), Some(b)) => {
            let whole = b.at.as_seconds_f64() - a.at.as_seconds_f64();
            let part = at.as_seconds_f64() - a.at.as_seconds_f64();
            let change = b.per_second.get() - a.per_second.get();
            Rps::saturating(a.per_second.get() + change * part / whole)
        }
        (Some(point), None) | (None, Some(point)) => point.per_second,
        (None, None) => Rps::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_keeps_the_past_and_ends_at_its_target() {
        let point = |s, r| Point { at: Timespan::from_seconds(s), per_second: Rps::saturating(r) };
        let points = [point(0, 10.0), point(100, 20.0), point(300, 0.0)];
        let shift = TrafficShift {
            at: Timespan::from_seconds(50),
            over: Timespan::from_seconds(10),
            entry: None,
            rates: BTreeMap::new(),
        };
        let shifted = shifted(&points, &shift, Rps::saturating(80.0));
        let at = |s| format!("{:.1}", rate_at(&shifted, Timespan::from_seconds(s)).get());
        assert_eq!(
            [0, 25, 50, 55, 60, 500].map(at),
            ["10.0", "12.5", "15.0", "47.5", "80.0", "80.0"]
        );
    }
}
