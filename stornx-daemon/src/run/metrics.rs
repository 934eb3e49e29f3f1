//! The metrics of the daemon in the text format of Prometheus: what happened in cycles,
//! what is left alone and why, how old each input is, who leads.

use std::{fmt::Write as _, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};
use std::sync::atomic::AtomicU64;
use stornx_core::{
    engine::{CycleOutcome, Phase},
    model::Steering,
    report::{Input, Report},
    units::Timestamp,
};

use stornx_k8s::{WatchStats, WebhookResult};

use super::{journal::result_name, pace::Cause};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CycleLabels {
    cause: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabels {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    kind: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    decision: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InputLabels {
    input: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    input: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadLabels {
    namespace: String,
    kind: &'static str,
    workload: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WatchLabels {
    watch: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueryLabels {
    query: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    what: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

type RealGauge = Gauge<f64, AtomicU64>;

/// Durations of steps: from a millisecond to the deadline of a cycle.
#[derive(Debug, Clone)]
struct Durations;

impl MetricConstructor<Histogram> for Durations {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.001, 0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
    }
}

/// Answers of the webhook: from a tenth of a millisecond to what a pod waits at most.
const ANSWERS: [f64; 10] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.02, 0.1, 0.5, 2.0];

/// Everything that is counted.
pub(crate) struct Metrics {
    registry: Registry,
    cycles: Family<CycleLabels, Counter>,
    durations: Family<PhaseLabels, Histogram, Durations>,
    actions: Family<ActionLabels, Counter>,
    violations: Counter,
    errors: Family<PhaseLabels, Counter>,
    reasons: Family<ReasonLabels, Gauge>,
    input_age: Family<InputLabels, RealGauge>,
    input_state: Family<StateLabels, Gauge>,
    zone_loss: Family<WorkloadLabels, RealGauge>,
    last_cycle: RealGauge,
    leading: Gauge,
    dry_run: Gauge,
    lease_changes: Counter,
    events_waiting: Gauge,
    events_failed: Counter,
    resident: Gauge,
    /// From the adapters, set before each scrape.
    watch_age: Family<WatchLabels, RealGauge>,
    watch_objects: Family<WatchLabels, Gauge>,
    watch_errors: Family<WatchLabels, Counter>,
    queries: Family<QueryLabels, Counter>,
    kubernetes_errors: Family<ErrorLabels, Counter>,
    webhook_requests: Family<ResultLabels, Counter>,
    webhook_duration: Histogram,
    steering: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("stornx"),
            cycles: Family::default(),
            durations: Family::new_with_constructor(Durations),
            actions: Family::default(),
            violations: Counter::default(),
            errors: Family::default(),
            reasons: Family::default(),
            input_age: Family::default(),
            input_state: Family::default(),
            zone_loss: Family::default(),
            last_cycle: RealGauge::default(),
            leading: Gauge::default(),
            dry_run: Gauge::default(),
            lease_changes: Counter::default(),
            events_waiting: Gauge::default(),
            events_failed: Counter::default(),
            resident: Gauge::default(),
            watch_age: Family::default(),
            watch_objects: Family::default(),
            watch_errors: Family::default(),
            queries: Family::default(),
            kubernetes_errors: Family::default(),
            webhook_requests: Family::default(),
            webhook_duration: Histogram::new(ANSWERS),
            steering: Gauge::default(),
        };
        metrics.register();
        metrics.start_at_zero();
        metrics
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        to.register(
            "build",
            "The version that runs",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        to.register("cycles", "Cycles by cause and result", self.cycles.clone());
        to.register_with_unit(
            "cycle_duration",
            "Duration of the steps of a cycle",
            Unit::Seconds,
            self.durations.clone(),
        );
        to.register("actions", "Actions by kind and result", self.actions.clone());
        to.register("plan_violations", "Violations found by the checker", self.violations.clone());
        to.register("cycle_errors", "Steps of cycles that failed", self.errors.clone());
        to.register(
            "left_alone",
            "Workloads and hosts by the reason why they change or stay, in the last cycle",
            self.reasons.clone(),
        );
        to.register_with_unit(
            "input_age",
            "Age of each input in the last cycle; absent when it is missing",
            Unit::Seconds,
            self.input_age.clone(),
        );
        to.register(
            "input_state",
            "1 for the state that each input was in, in the last cycle",
            self.input_state.clone(),
        );
        to.register_with_unit(
            "zone_loss_demand_served",
            "Share of today's demand that survives the loss of the worst zone, 0 to 1",
            Unit::Ratios,
            self.zone_loss.clone(),
        );
        to.register_with_unit(
            "last_cycle_timestamp",
            "When the last cycle began",
            Unit::Seconds,
            self.last_cycle.clone(),
        );
        to.register("leading", "1 while this process may write", self.leading.clone());
        to.register("dry_run", "1 where nothing is ever written", self.dry_run.clone());
        to.register(
            "lease_changes",
            "Times that leadership was won or lost",
            self.lease_changes.clone(),
        );
        to.register("events_waiting", "Events that wait to be sent", self.events_waiting.clone());
        to.register("events_failed", "Events that could not be sent", self.events_failed.clone());
        to.register_with_unit(
            "resident_memory",
            "Resident memory of the process",
            Unit::Bytes,
            self.resident.clone(),
        );
        to.register_with_unit(
            "watch_age",
            "Time since each watch last heard from the API server",
            Unit::Seconds,
            self.watch_age.clone(),
        );
        to.register("watch_objects", "Objects that each watch knows", self.watch_objects.clone());
        to.register("watch_errors", "Errors of each watch", self.watch_errors.clone());
        to.register("prometheus_queries", "Queries of Prometheus by result", self.queries.clone());
        to.register(
            "kubernetes_errors",
            "Requests to the API server, watches apart, that failed",
            self.kubernetes_errors.clone(),
        );
        to.register(
            "webhook_requests",
            "Pods that the webhook was asked about, by what they were told",
            self.webhook_requests.clone(),
        );
        to.register_with_unit(
            "webhook_duration",
            "Time that the webhook took for an answer, without the way there and back",
            Unit::Seconds,
            self.webhook_duration.clone(),
        );
        to.register(
            "steering",
            "1 while new replicas can be told where to run",
            self.steering.clone(),
        );
    }

    /// Counters that may never count are there from the start: a rate over a series that
    /// appears with its first error shows nothing.
    fn start_at_zero(&self) {
        for phase in Phase::ALL {
            let _ = self.errors.get_or_create(&PhaseLabels { phase: phase.as_str() });
        }
        for result in WebhookResult::ALL {
            let _ = self.webhook_requests.get_or_create(&ResultLabels { result: result.name() });
        }
        for cause in Cause::ALL {
            for result in ["clean", "failed", "refused", "partial"] {
                let _ = self.cycles.get_or_create(&CycleLabels { cause: cause.name(), result });
            }
        }
    }

    /// Counts a cycle.
    pub(crate) fn cycle(&self, cause: Cause, outcome: &CycleOutcome) {
        let result = if !outcome.violations.is_empty() {
            "refused"
        } else if outcome.planned.is_none() {
            "failed"
        } else if outcome.is_clean() {
            "clean"
        } else {
            "partial"
        };
        self.cycles.get_or_create(&CycleLabels { cause: cause.name(), result }).inc();
        self.violations.inc_by(outcome.violations.len() as u64);
        for error in &outcome.errors {
            self.errors.get_or_create(&PhaseLabels { phase: error.phase().as_str() }).inc();
        }
        for (phase, took) in &outcome.took {
            let labels = PhaseLabels { phase: phase.as_str() };
            self.durations.get_or_create(&labels).observe(took.as_seconds_f64());
        }
        self.last_cycle.set(seconds(outcome.at));
        let Some(planned) = &outcome.planned else {
            // Ages and states of a moment ago would look like those of now.
            self.forget_cycle();
            return;
        };
        for (action, result) in planned.plan.actions.iter().zip(&outcome.outcomes) {
            let labels = ActionLabels { kind: action.kind().name(), result: result_name(result) };
            self.actions.get_or_create(&labels).inc();
        }
        self.report(&planned.report);
    }

    fn report(&self, report: &Report) {
        self.reasons.clear();
        let count = |decision, reason| {
            self.reasons.get_or_create(&ReasonLabels { decision, reason }).inc();
        };
        for workload in report.workloads.values() {
            count("scale", workload.scale.name());
            count("move", workload.moves.name());
        }
        for host in report.hosts.values() {
            count("route", host.reason.name());
            if let Some(found) = &host.verification {
                count("verify", found.following.name());
                if let Some(effect) = &found.effect {
                    count("effect", effect.name());
                }
            }
        }

        self.input_age.clear();
        self.input_state.clear();
        for input in &report.inputs {
            let name = Input::name(input.input);
            self.input_state
                .get_or_create(&StateLabels { input: name, state: input.state.name() })
                .set(1);
            if let Some(age) = input.age {
                self.input_age
                    .get_or_create(&InputLabels { input: name })
                    .set(age.as_seconds_f64());
            }
        }

        self.zone_loss.clear();
        for (workload, report) in &report.workloads {
            let Some(served) = report.zone_loss.demand_served else { continue };
            let labels = WorkloadLabels {
                namespace: workload.namespace().to_string(),
                kind: workload.kind().as_str(),
                workload: workload.name().to_owned(),
            };
            self.zone_loss.get_or_create(&labels).set(served.get());
        }
    }

    /// Whether this process may write now.
    pub(crate) fn leading(&self, leading: bool) {
        self.leading.set(i64::from(leading));
    }

    /// Whether this process never writes, and so never leads.
    pub(crate) fn dry_run(&self, dry_run: bool) {
        self.dry_run.set(i64::from(dry_run));
    }

    /// Leadership was won or lost.
    pub(crate) fn lease_changed(&self) {
        self.lease_changes.inc();
    }

    /// What the last cycle found does not hold any more.
    pub(crate) fn forget_cycle(&self) {
        self.reasons.clear();
        self.input_age.clear();
        self.input_state.clear();
        self.zone_loss.clear();
    }

    /// Events that wait, and those that failed since the last call.
    pub(crate) fn events(&self, waiting: usize, failed: u64) {
        self.events_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.events_failed.inc_by(failed);
    }

    /// What the watches are like.
    pub(crate) fn watches(&self, all: &[WatchStats]) {
        // A watch of an API that is gone is gone.
        self.watch_age.clear();
        self.watch_objects.clear();
        for one in all {
            let labels = WatchLabels { watch: one.name };
            if let Some(age) = one.age {
                self.watch_age.get_or_create(&labels).set(age.as_secs_f64());
            }
            let objects = i64::try_from(one.objects).unwrap_or(i64::MAX);
            self.watch_objects.get_or_create(&labels).set(objects);
            raise(&self.watch_errors, &labels, one.errors);
        }
    }

    /// How often a query had a result.
    pub(crate) fn query(&self, query: &'static str, result: &'static str, count: u64) {
        raise(&self.queries, &QueryLabels { query, result }, count);
    }

    /// How often a kind of request failed.
    pub(crate) fn kubernetes_errors(&self, what: &'static str, kind: &'static str, count: u64) {
        raise(&self.kubernetes_errors, &ErrorLabels { what, kind }, count);
    }

    /// The webhook has answered.
    pub(crate) fn webhook(&self, result: WebhookResult, took: Duration) {
        self.webhook_requests.get_or_create(&ResultLabels { result: result.name() }).inc();
        self.webhook_duration.observe(took.as_secs_f64());
    }

    /// Whether new replicas can be told where to run.
    pub(crate) fn steering(&self, steering: &Steering) {
        self.steering.set(i64::from(steering.is_given()));
    }

    /// The page that Prometheus scrapes.
    pub(crate) fn page(&self) -> String {
        if let Some(bytes) = resident_memory() {
            self.resident.set(bytes);
        }
        let mut page = String::new();
        if let Err(error) = text::encode(&mut page, &self.registry) {
            let _ = writeln!(page, "# {error}");
        }
        page
    }
}

/// Brings a counter up to what its owner has counted.
fn raise<L>(family: &Family<L, Counter>, labels: &L, count: u64)
where
    L: Clone + std::hash::Hash + Eq,
{
    let counter = family.get_or_create(labels);
    counter.inc_by(count.saturating_sub(counter.get()));
}

#[allow(clippy::cast_precision_loss)] // Milliseconds since 1970: far below 2^53.
fn seconds(at: Timestamp) -> f64 {
    at.as_millis() as f64 / 1000.0
}

/// Resident memory in bytes, where the system tells it (Linux).
fn resident_memory() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests;
