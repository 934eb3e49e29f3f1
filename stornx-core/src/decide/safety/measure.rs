//! How loaded a workload is: utilisation, demand, response time and requests, from
//! the replicas that serve. What is not known stays unknown and never becomes zero.

use crate::{
    model::Workload,
    policy::{MetricsType, ScalerPolicy},
    report::ScaleReason,
    units::{Millis, Percent, Rps},
    view::{Mean, View, WorkloadView},
};

/// Why the utilisation of a workload is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unmeasured {
    /// No request and no limit to measure against.
    NoBase,
    /// Nothing serves.
    NothingReady,
    /// Usage is stale or missing.
    NoUsage,
}

impl From<Unmeasured> for ScaleReason {
    fn from(unmeasured: Unmeasured) -> Self {
        match unmeasured {
            Unmeasured::NoBase => Self::NoBase,
            Unmeasured::NothingReady => Self::NothingReady,
            Unmeasured::NoUsage => Self::NoUsage,
        }
    }
}

/// What utilisation is measured against: the request, without one the limit, without
/// either nothing.
fn base(request: f64, limit: Option<f64>) -> Option<f64> {
    [Some(request), limit].into_iter().flatten().find(|base| *base > 0.0)
}

fn cpu_base(workload: &Workload) -> Option<f64> {
    let limit = workload.limits.map(|limits| limits.cpu.as_f64());
    base(workload.requests.cpu.as_f64(), limit)
}

fn memory_base(workload: &Workload) -> Option<f64> {
    let limit = workload.limits.map(|limits| limits.memory.as_f64());
    base(workload.requests.memory.as_f64(), limit)
}

/// What the replicas of a workload use and serve, added up in one walk over them.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Replicas that serve.
    serving: u32,
    /// Of them, those whose usage is known, and what they use together: thousandths of a core,
    /// bytes.
    measured: u32,
    cpu: f64,
    memory: f64,
    /// Of those that serve.
    p95: Mean,
    /// Requests per second of all replicas; `None` where none of them reports any.
    requests: Option<Rps>,
}

impl Sums {
    pub(super) fn of(workload: &WorkloadView<'_>) -> Self {
        let mut sums = Self::default();
        for pod in &workload.pods {
            if let Some(traffic) = pod.traffic {
                sums.requests = Some(sums.requests.unwrap_or_default() + traffic.requests);
            }
            if !pod.serves() {
                continue;
            }
            sums.serving += 1;
            if let Some(usage) = pod.usage {
                sums.measured += 1;
                sums.cpu += usage.cpu.as_f64();
                sums.memory += usage.memory.as_f64();
            }
            if let Some(traffic) = pod.traffic
                && let Some(p95) = traffic.p95
            {
                sums.p95.add(p95.get(), traffic.requests.get());
            }
        }
        sums
    }

    /// A sum over those whose usage is known as a mean share of what one asks for.
    fn mean_share(&self, sum: f64, base: f64) -> Option<f64> {
        (self.measured > 0).then(|| sum / base / f64::from(self.measured))
    }

    /// CPU utilisation, averaged over the serving replicas whose usage is known.
    pub(super) fn cpu_utilisation(&self, workload: &Workload) -> Option<Percent> {
        let share = self.mean_share(self.cpu, cpu_base(workload)?);
        share.map(|share| Percent::saturating(100.0 * share))
    }

    /// Demand in replicas at full CPU utilisation. `None` unless the CPU of every serving
    /// replica is known: a guess would make the loss of a zone look harmless.
    pub(super) fn demand(&self, workload: &Workload) -> Option<f64> {
        let base = cpu_base(workload)?;
        (self.serving > 0 && self.measured == self.serving).then(|| self.cpu / base)
    }

    /// Request-weighted mean of the serving replicas' p95; `None` when none of them
    /// served a request.
    pub(super) fn p95(&self) -> Option<Millis> {
        self.p95.get().map(Millis::saturating)
    }

    /// Requests served per second: as the replicas report it, else as their callers do.
    pub(super) fn requests(&self, view: &View<'_>, workload: &WorkloadView<'_>) -> Rps {
        self.requests.unwrap_or_else(|| {
            let edges = workload.called_by.iter().map(|edge| view.edges[edge.at()].requests);
            Rps::saturating(edges.sum())
        })
    }
}

fn weighted_mean(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weight) = values.fold((0.0, 0.0), |(s, w), (v, by)| (s + v * by, w + by));
    (weight > 0.0).then(|| sum / weight)
}

/// Utilisation by the configured metric, averaged over the serving replicas whose
/// usage is known. In `combined`, a resource without a base is left out.
pub(super) fn utilisation(
    workload: &Workload,
    sums: &Sums,
    policy: &ScalerPolicy,
) -> Result<Percent, Unmeasured> {
    let (cpu, memory) = (cpu_base(workload), memory_base(workload));
    let (cpu_weight, memory_weight) = match policy.metrics {
        MetricsType::Cpu => (1.0, 0.0),
        MetricsType::Memory => (0.0, 1.0),
        MetricsType::Combined => (policy.cpu_weight.get(), policy.memory_weight.get()),
    };
    let cpu = cpu.filter(|_| cpu_weight > 0.0);
    let memory = memory.filter(|_| memory_weight > 0.0);
    if cpu.is_none() && memory.is_none() {
        return Err(Unmeasured::NoBase);
    }
    if sums.serving == 0 {
        return Err(Unmeasured::NothingReady);
    }
    let cpu = cpu.and_then(|base| Some((sums.mean_share(sums.cpu, base)?, cpu_weight)));
    let memory = memory.and_then(|base| Some((sums.mean_share(sums.memory, base)?, memory_weight)));
    weighted_mean([cpu, memory].into_iter().flatten())
        .map(|share| Percent::saturating(100.0 * share))
        .ok_or(Unmeasured::NoUsage)
}

/// What is left of a p95 without the calls that a workload makes for one request, taken one
/// after the other: a replica that waits for a slow service is not slow itself.
pub(super) fn own_p95(
    view: &View<'_>,
    workload: &WorkloadView<'_>,
    p95: Millis,
    served: Rps,
) -> Millis {
    let waits = |edge: &crate::view::EdgeIndex| {
        let edge = &view.edges[edge.at()];
        edge.seen.p95.get().unwrap_or(0.0) * edge.requests
    };
    let waits: f64 = workload.calls.iter().map(waits).sum();
    let served = served.get();
    Millis::saturating(if served > 0.0 { p95.get() - waits / served } else { p95.get() })
}
