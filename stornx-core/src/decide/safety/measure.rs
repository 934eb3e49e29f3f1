//! How loaded a workload is: utilisation, demand, response time and requests, from
//! the replicas that serve. What is not known stays unknown and never becomes zero.

use crate::{
    model::{PodUsage, Workload},
    policy::{MetricsType, ScalerPolicy},
    report::ScaleReason,
    units::{Millis, Percent, Rps},
    view::{PodView, View, WorkloadView},
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

fn serving<'a>(workload: &'a WorkloadView<'a>) -> impl Iterator<Item = &'a PodView<'a>> {
    workload.pods.iter().filter(|pod| pod.serves())
}

fn usage<'a>(workload: &'a WorkloadView<'a>) -> impl Iterator<Item = &'a PodUsage> {
    serving(workload).filter_map(|pod| pod.usage)
}

fn cpu_shares<'a>(
    workload: &'a WorkloadView<'a>,
    base: f64,
) -> impl Iterator<Item = f64> + use<'a> {
    usage(workload).map(move |usage| usage.cpu.as_f64() / base)
}

fn memory_shares<'a>(
    workload: &'a WorkloadView<'a>,
    base: f64,
) -> impl Iterator<Item = f64> + use<'a> {
    usage(workload).map(move |usage| usage.memory.as_f64() / base)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0_u32), |(sum, count), v| (sum + v, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Utilisation by the configured metric, averaged over the serving replicas whose
/// usage is known. In `combined`, a resource without a base is left out.
pub(super) fn utilisation(
    workload: &WorkloadView<'_>,
    policy: &ScalerPolicy,
) -> Result<Percent, Unmeasured> {
    let (cpu, memory) = (cpu_base(workload.workload), memory_base(workload.workload));
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
    if workload.ready_total() == 0 {
        return Err(Unmeasured::NothingReady);
    }
    let cpu = cpu.and_then(|base| Some((mean(cpu_shares(workload, base))?, cpu_weight)));
    let memory =
        memory.and_then(|base| Some((mean(memory_shares(workload, base))?, memory_weight)));
    weighted_mean([cpu, memory].into_iter().flatten())
        .map(|share| Percent::saturating(100.0 * share))
        .ok_or(Unmeasured::NoUsage)
}

fn weighted_mean(values: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (sum, weight) = values.fold((0.0, 0.0), |(s, w), (v, by)| (s + v * by, w + by));
    (weight > 0.0).then(|| sum / weight)
}

/// CPU utilisation, averaged over the serving replicas whose usage is known.
pub(super) fn cpu_utilisation(workload: &WorkloadView<'_>) -> Option<Percent> {
    let base = cpu_base(workload.workload)?;
    mean(cpu_shares(workload, base)).map(|share| Percent::saturating(100.0 * share))
}

/// Demand in replicas at full CPU utilisation. `None` unless the CPU of every serving
/// replica is known: a guess would make the loss of a zone look harmless.
pub(super) fn demand(workload: &WorkloadView<'_>) -> Option<f64> {
    let base = cpu_base(workload.workload)?;
    let known = serving(workload).all(|pod| pod.usage.is_some());
    (known && workload.ready_total() > 0).then(|| cpu_shares(workload, base).sum())
}

/// Request-weighted mean of the serving replicas' p95; `None` when none of them
/// served a request.
pub(super) fn p95(workload: &WorkloadView<'_>) -> Option<Millis> {
    let reported = serving(workload).filter_map(|pod| {
        let traffic = pod.traffic?;
        Some((traffic.p95?.get(), traffic.requests.get()))
    });
    weighted_mean(reported).map(Millis::saturating)
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

/// Requests served per second: as the replicas report it, else as their callers do.
pub(super) fn requests(view: &View<'_>, workload: &WorkloadView<'_>) -> Rps {
    if workload.pods.iter().any(|pod| pod.traffic.is_some()) {
        return workload.pods.iter().filter_map(|pod| pod.traffic).map(|t| t.requests).sum();
    }
    let edges = workload.called_by.iter().map(|edge| view.edges[edge.at()].requests);
    Rps::saturating(edges.sum())
}
