//! The settings of every decision. One struct per room; each default carries its
//! argument, each bad value is named with what is allowed. Reading settings from
//! the environment or a file is the daemon's work.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    ids::Namespace,
    units::{Millis, Percent, Rps, Share, Span, UsdPerGigabyte},
};

/// All settings.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Policy {
    /// Namespaces that may be written to; empty means those of the managed
    /// workloads in the snapshot.
    pub namespaces: BTreeSet<Namespace>,
    /// Scaling.
    pub scaler: ScalerPolicy,
    /// Spread over zones and what must survive the loss of one.
    pub fault_tolerance: FaultTolerancePolicy,
    /// Moves of running replicas.
    pub moves: MovePolicy,
    /// Routing weights.
    pub balancer: BalancerPolicy,
    /// Round-trip times where none is measured.
    pub latency: LatencyPolicy,
    /// What traffic between places costs.
    pub price: PricePolicy,
}

/// What utilisation is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum MetricsType {
    /// CPU alone.
    Cpu,
    /// Memory alone: the default of the original StornX, kept for its users.
    #[default]
    Memory,
    /// CPU and memory by their weights.
    Combined,
}

/// Settings of OptiScaler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScalerPolicy {
    /// `SCALER_ENABLED`.
    pub enabled: bool,
    /// `METRICS_TYPE`.
    pub metrics: MetricsType,
    /// `METRICS_UPPER_THRESHOLD`: above it a workload scales up.
    pub upper: Percent,
    /// `METRICS_LOWER_THRESHOLD`: below it a workload scales down.
    pub lower: Percent,
    /// `RESPONSE_TIME_THRESHOLD`: target p95.
    pub response_time: Millis,
    /// `CPU_WEIGHT`, 0 to 100, for combined scores.
    pub cpu_weight: Percent,
    /// `MEMORY_WEIGHT`, 0 to 100, for combined scores.
    pub memory_weight: Percent,
    /// `SCALER_COOLDOWN_SECONDS`: least time between two scale actions on one workload.
    pub cooldown: Span,
    /// `SCALER_MAX_STEP`: most replicas added or removed by one action. 3 at most
    /// doubles a service of three in one cycle.
    pub max_step: u32,
    /// `SCALER_MAX_ACTIONS`: most workloads scaled in one cycle.
    pub max_actions: u32,
    /// `SCALER_MIN_REPLICAS`: where the workload does not say.
    pub min_replicas: u32,
    /// `SCALER_MAX_REPLICAS`: where the workload does not say.
    pub max_replicas: u32,
    /// `SCALER_RESPECT_HPA`: leave counts owned by an HPA or KEDA alone. Those of
    /// workloads that another controller owns are left alone in any case.
    pub respect_autoscalers: bool,
    /// `SCALER_RESPECT_PDB`: never break a disruption budget.
    pub respect_budgets: bool,
}

impl Default for ScalerPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            metrics: MetricsType::Memory,
            upper: Percent::saturating(70.0),
            lower: Percent::saturating(20.0),
            response_time: Millis::saturating(100.0),
            cpu_weight: Percent::saturating(50.0),
            memory_weight: Percent::saturating(50.0),
            cooldown: Span::from_seconds(60),
            max_step: 3,
            max_actions: 5,
            min_replicas: 1,
            max_replicas: 100,
            respect_autoscalers: true,
            respect_budgets: true,
        }
    }
}

/// Settings of spread and zone loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultTolerancePolicy {
    /// `FT_MAX_ZONES`: zones over which the replicas of a workload are spread; a
    /// floor and a ceiling.
    pub max_zones: u32,
    /// `FT_MAX_SKEW`: most replicas that the fullest of those zones may have more
    /// than the emptiest. 1 keeps every zone able to take its share when callers change
    /// places: in the `traffic-shift` scenario, 3 let moves thin out a zone that the
    /// load entered minutes later, and the p99 was up to five times as high.
    pub max_skew: u32,
    /// `FT_SURVIVE_PERCENT`: share of today's demand that the replicas left after
    /// the loss of any zone must be able to serve at full utilisation.
    pub survive: Percent,
}

impl Default for FaultTolerancePolicy {
    fn default() -> Self {
        Self { max_zones: 3, max_skew: 1, survive: Percent::saturating(100.0) }
    }
}

/// What routes are planned between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// Zones.
    #[default]
    Zone,
    /// Nodes, where all can be named; else zones.
    Node,
}

/// How replicas of workloads move whose count an autoscaler owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AutoscaledMoves {
    /// They do not: new replicas are made where they would best be, running ones stay.
    #[default]
    Never,
    /// One at a time in the whole cluster is evicted, within its disruption budgets, and
    /// its controller makes the replacement. One replica less serves in between.
    Evict,
    /// The minimum of a HorizontalPodAutoscaler is raised by one until the replacement is
    /// Ready. Workloads of other autoscalers do not move.
    Hold,
}

/// Settings of moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MovePolicy {
    /// `MOVES_ENABLED`. Switched off, moves in flight are still finished or undone.
    pub enabled: bool,
    /// `MOVE_MAX_PER_CYCLE`: moves begun in one cycle.
    pub max_per_cycle: u32,
    /// `MOVE_MAX_IN_FLIGHT`: moves under way at one time in the whole cluster.
    pub max_in_flight: u32,
    /// `MOVE_MAX_PER_ZONE`: moves into or out of one zone begun in one cycle.
    pub max_per_zone: u32,
    /// `MOVE_MAX_PER_NODE`: moves into or out of one node begun in one cycle.
    pub max_per_node: u32,
    /// `MOVE_HPA_WORKLOADS`: what is done about workloads whose count an autoscaler owns.
    pub autoscaled: AutoscaledMoves,
    /// `MOVE_HORIZON_SECONDS`: over how long a move must pay for itself.
    pub horizon: Span,
    /// `MOVE_TIMEOUT_SECONDS`: a replacement that is not Ready by then goes again.
    pub timeout: Span,
    /// `MOVE_BACKOFF_SECONDS`: how long a workload is left alone after a move; each
    /// move that did not bring what was predicted doubles it.
    pub backoff: Span,
    /// `MOVE_MIN_GAIN_PERCENT`: least predicted saving as a share of the travel
    /// cost of the touched edges. 5 % is above what a minute of counted requests
    /// varies by for services of 30 requests a second and more.
    pub min_gain: Percent,
    /// `MOVE_SEARCH_STEPS`: how much is thought, in steps of a search, about moves that
    /// pay together only; 0 for not at all.
    pub search_steps: u32,
    /// `MOVE_SLOW_FACTOR`: a replica whose p95 is above the response time threshold
    /// and this many times the median of its siblings is slow, and worth replacing
    /// elsewhere.
    pub slow_factor: f64,
}

impl MovePolicy {
    /// The shortest time-out: pods that start at all take seconds to be bound and pulled.
    pub const LEAST_TIMEOUT: Span = Span::from_seconds(30);
}

impl Default for MovePolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            max_per_cycle: 2,
            max_in_flight: 4,
            max_per_zone: 2,
            // Two replicas that change places are two moves on both of their nodes.
            max_per_node: 2,
            autoscaled: AutoscaledMoves::Never,
            horizon: Span::from_seconds(3600),
            timeout: Span::from_seconds(300),
            backoff: Span::from_seconds(600),
            min_gain: Percent::saturating(5.0),
            search_steps: 20_000,
            slow_factor: 3.0,
        }
    }
}

/// The target rule of routing weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum TargetRule {
    /// Minimum-cost flow over all callers of a host at once.
    #[default]
    Flow,
    /// The classic product of scores, caller by caller.
    Proportional,
}

/// Settings of OptiBalancer. Steps, deltas and weights are percentage points.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BalancerPolicy {
    /// `BALANCER_ENABLED`.
    pub enabled: bool,
    /// `BALANCER_POLICY`.
    pub rule: TargetRule,
    /// `BALANCER_GRANULARITY`: what routes are planned between.
    pub granularity: Granularity,
    /// `BALANCER_CREATE_RULES`: a host without a rule gets one. Where not, only rules that
    /// are there are added to.
    pub create_rules: bool,
    /// `BALANCER_MAX_WRITES`: most hosts whose routes one cycle changes.
    pub max_writes: u32,
    /// `BALANCER_MIN_DELTA`: smallest change worth a write (L1).
    pub min_delta: Percent,
    /// `BALANCER_MIN_STEP_SIZE`.
    pub min_step: Percent,
    /// `BALANCER_MAX_STEP_SIZE`.
    pub max_step: Percent,
    /// `BALANCER_URGENCY_THRESHOLD`: delta at which the step is largest.
    pub urgency_threshold: Percent,
    /// `BALANCER_EPSILON`: per-route tolerance.
    pub epsilon: Percent,
    /// `BALANCER_MAX_UTILISATION`: cap of a destination's predicted utilisation.
    pub max_utilisation: Percent,
    /// `BALANCER_RESERVE`: least weight of each destination zone, never below 1.
    pub reserve: Percent,
    /// `BALANCER_WARMUP_SECONDS`: how long a new replica counts only partly.
    pub warmup: Span,
    /// `BALANCER_MIN_GAIN_PERCENT`: a target is left alone while reaching it would
    /// save less than this share of the host's cost, so that noise in the inputs
    /// writes nothing.
    pub min_gain: Percent,
    /// `BALANCER_STALE_SECONDS`: metrics, of all hosts or of one, missing or stale for
    /// longer let weights decay towards the replica-proportional split.
    pub stale_after: Span,
    /// `BALANCER_BACKOFF_SECONDS`: how long a host is left alone after a change that
    /// had to be undone; doubled each time.
    pub backoff: Span,
}

impl Default for BalancerPolicy {
    fn default() -> Self {
        Self {
            enabled: true,
            rule: TargetRule::Flow,
            granularity: Granularity::Zone,
            create_rules: true,
            // A second of writing at some milliseconds a request, so that a cycle soon looks
            // again; a thousand hosts are begun within ten cycles.
            max_writes: 100,
            min_delta: Percent::saturating(5.0),
            min_step: Percent::saturating(5.0),
            max_step: Percent::saturating(20.0),
            urgency_threshold: Percent::saturating(50.0),
            epsilon: Percent::saturating(1.0),
            max_utilisation: Percent::saturating(70.0),
            reserve: Percent::saturating(3.0),
            warmup: Span::from_seconds(30),
            min_gain: Percent::saturating(2.0),
            stale_after: Span::from_seconds(300),
            backoff: Span::from_seconds(600),
        }
    }
}

/// Round-trip times assumed where none is measured. The defaults are typical of
/// public clouds: loopback, one switch, two data centres of a region, two regions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LatencyPolicy {
    /// `LATENCY_SAME_NODE_MS`.
    pub same_node: Millis,
    /// `LATENCY_SAME_ZONE_MS`.
    pub same_zone: Millis,
    /// `LATENCY_SAME_REGION_MS`.
    pub same_region: Millis,
    /// `LATENCY_OTHER_REGION_MS`.
    pub other_region: Millis,
}

impl Default for LatencyPolicy {
    fn default() -> Self {
        Self {
            same_node: Millis::saturating(0.05),
            same_zone: Millis::saturating(0.3),
            same_region: Millis::saturating(1.0),
            other_region: Millis::saturating(30.0),
        }
    }
}

/// What traffic costs, and how money weighs against time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PricePolicy {
    /// `PRICE_CROSS_ZONE_USD_PER_GB`: both sides together; the large public clouds
    /// bill 0.01 to the sender and 0.01 to the receiver.
    pub cross_zone: UsdPerGigabyte,
    /// `PRICE_CROSS_REGION_USD_PER_GB`.
    pub cross_region: UsdPerGigabyte,
    /// `PRICE_WEIGHT_MS`: milliseconds of round trip that are worth one US dollar
    /// per million requests. At 1, a call of 10 kB across zones (0.2 USD per
    /// million) weighs like 0.2 ms more.
    pub weight: Millis,
    /// `PRICE_REPLICA_USD_PER_HOUR`: what a surge replica costs while it runs, for
    /// the payback of moves.
    pub replica_hour: f64,
}

impl Default for PricePolicy {
    fn default() -> Self {
        Self {
            cross_zone: UsdPerGigabyte::saturating(0.02),
            cross_region: UsdPerGigabyte::saturating(0.02),
            weight: Millis::saturating(1.0),
            replica_hour: 0.04,
        }
    }
}

/// A setting whose value is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} = {value}: {allowed}")]
pub struct PolicyProblem {
    /// The environment variable of the setting.
    pub name: &'static str,
    /// The value given.
    pub value: String,
    /// What is allowed.
    pub allowed: &'static str,
}

impl Policy {
    /// Every setting whose value is not allowed, all at once.
    #[must_use]
    pub fn problems(&self) -> Vec<PolicyProblem> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, name, value: String, allowed| {
            if !ok {
                problems.push(PolicyProblem { name, value, allowed });
            }
        };
        let percent = |p: Percent| p.get().to_string();
        let up_to_100 = |p: Percent| p.get() <= 100.0;
        let s = &self.scaler;
        check(
            s.lower < s.upper && s.upper.get() <= 100.0,
            "METRICS_UPPER_THRESHOLD",
            percent(s.upper),
            "above METRICS_LOWER_THRESHOLD and at most 100",
        );
        check(
            s.response_time > Millis::ZERO,
            "RESPONSE_TIME_THRESHOLD",
            s.response_time.get().to_string(),
            "a number of milliseconds above 0",
        );
        for (name, weight) in [("CPU_WEIGHT", s.cpu_weight), ("MEMORY_WEIGHT", s.memory_weight)] {
            check(up_to_100(weight), name, percent(weight), "0 to 100");
        }
        check(
            s.cpu_weight.get() + s.memory_weight.get() > 0.0,
            "CPU_WEIGHT",
            percent(s.cpu_weight),
            "not 0 together with MEMORY_WEIGHT",
        );
        check(s.max_step >= 1, "SCALER_MAX_STEP", s.max_step.to_string(), "at least 1");
        check(
            s.min_replicas >= 1 && s.min_replicas <= s.max_replicas,
            "SCALER_MIN_REPLICAS",
            s.min_replicas.to_string(),
            "1 to SCALER_MAX_REPLICAS",
        );
        let writes = self.balancer.max_writes;
        check(writes >= 1, "BALANCER_MAX_WRITES", writes.to_string(), "at least 1");
        let f = &self.fault_tolerance;
        check(f.max_zones >= 1, "FT_MAX_ZONES", f.max_zones.to_string(), "at least 1");
        check(f.max_skew >= 1, "FT_MAX_SKEW", f.max_skew.to_string(), "at least 1");
        check(up_to_100(f.survive), "FT_SURVIVE_PERCENT", percent(f.survive), "0 to 100");
        let m = &self.moves;
        check(
            m.slow_factor.is_finite() && m.slow_factor > 1.0,
            "MOVE_SLOW_FACTOR",
            m.slow_factor.to_string(),
            "a number above 1",
        );
        check(
            m.timeout >= MovePolicy::LEAST_TIMEOUT,
            "MOVE_TIMEOUT_SECONDS",
            m.timeout.as_seconds_f64().to_string(),
            "at least 30",
        );
        check(
            m.horizon > Span::ZERO,
            "MOVE_HORIZON_SECONDS",
            m.horizon.as_seconds_f64().to_string(),
            "above 0",
        );
        let b = &self.balancer;
        check(
            b.min_step.get() >= 1.0 && b.min_step <= b.max_step,
            "BALANCER_MIN_STEP_SIZE",
            percent(b.min_step),
            "1 to BALANCER_MAX_STEP_SIZE",
        );
        check(up_to_100(b.max_step), "BALANCER_MAX_STEP_SIZE", percent(b.max_step), "at most 100");
        check(
            b.urgency_threshold > Percent::ZERO,
            "BALANCER_URGENCY_THRESHOLD",
            percent(b.urgency_threshold),
            "above 0",
        );
        check(
            (1.0..=20.0).contains(&b.epsilon.get()),
            "BALANCER_EPSILON",
            percent(b.epsilon),
            "1 to 20: weights are whole numbers",
        );
        check(up_to_100(b.min_delta), "BALANCER_MIN_DELTA", percent(b.min_delta), "0 to 100");
        check(
            b.max_utilisation.get() >= 1.0 && up_to_100(b.max_utilisation),
            "BALANCER_MAX_UTILISATION",
            percent(b.max_utilisation),
            "1 to 100",
        );
        check(
            (1.0..=10.0).contains(&b.reserve.get()),
            "BALANCER_RESERVE",
            percent(b.reserve),
            "1 to 10",
        );
        let p = &self.price;
        check(
            p.replica_hour.is_finite() && p.replica_hour >= 0.0,
            "PRICE_REPLICA_USD_PER_HOUR",
            p.replica_hour.to_string(),
            "a number of at least 0",
        );
        problems
    }
}

/// Requests counted in a window: what tells how noisy a rate is.
#[must_use]
pub fn counted(rate: Rps, window: Span) -> f64 {
    rate.get() * window.as_seconds_f64()
}

/// Two standard deviations of a rate counted over a window, as a share of it
/// (requests arrive independently of each other: the count is Poisson). 1 when
/// nothing was counted.
#[must_use]
pub fn noise(rate: Rps, window: Span) -> Share {
    let count = counted(rate, window);
    if count <= 0.0 { Share::saturating(1.0) } else { Share::saturating(2.0 / count.sqrt()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed() {
        assert_eq!(Policy::default().problems(), []);
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let mut policy = Policy::default();
        policy.scaler.upper = Percent::saturating(10.0);
        policy.balancer.reserve = Percent::saturating(0.0);
        policy.moves.slow_factor = f64::NAN;
        let names: Vec<_> = policy.problems().into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["METRICS_UPPER_THRESHOLD", "MOVE_SLOW_FACTOR", "BALANCER_RESERVE"]);
    }
}
