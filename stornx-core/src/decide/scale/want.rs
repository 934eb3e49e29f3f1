//! What count a workload asks for, by its load alone; guards come afterwards.
//!
//! Up and down aim at the same count: the least that brings utilisation to the middle
//! of the band; down keeps a margin above it. So while the load varies by less than
//! that margin, the plan after a change does not take it back, and nothing flaps.
//!
//! Memory does not always fall with more replicas: what each holds for itself stays. A
//! growth that did not help is therefore not repeated (`GrowthDidNotHelp`); without that a
//! workload with a large idle base would grow to its maximum.

use crate::{
    decide::safety::WorkloadSafety,
    memory::Growth,
    model::PodPhase,
    policy::ScalerPolicy,
    report::{ScaleReason, Trigger},
    units::Percent,
    view::WorkloadView,
};

/// What a workload asks for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Want {
    /// So many replicas more.
    Up { trigger: Trigger, by: u32 },
    /// So many replicas less.
    Down { by: u32 },
    /// No change.
    Stay(ScaleReason),
}

/// Rounding of a sum of shares, in replicas; far below what any replica serves.
const ROUNDING: f64 = 1e-9;

/// By how much load may vary and still be the same. A tenth is the tolerance of the Kubernetes autoscaler, and about two standard
/// deviations of 400 requests counted.
const LOAD_MARGIN: f64 = 1.1;

/// What `workload` asks for.
pub(super) fn want(
    workload: &WorkloadView<'_>,
    facts: &WorkloadSafety,
    policy: &ScalerPolicy,
    growth: Option<Growth>,
) -> Want {
    let desired = workload.workload.desired;
    if desired == 0 {
        return Want::Stay(ScaleReason::ScaledToZero);
    }
    let least = facts.min.min(facts.max);
    if desired < least {
        return Want::Up {
            trigger: Trigger::BelowMinimum,
            by: (least - desired).min(policy.max_step),
        };
    }
    let Some(utilisation) = facts.utilisation else {
        return Want::Stay(facts.unmeasured.map_or(ScaleReason::NoUsage, ScaleReason::from));
    };
    let load = Load::of(workload, facts, utilisation, policy);
    // By its own work, not by the calls that it waits for.
    let slow = facts.own_p95.is_some_and(|own| own > facts.response_time);
    if utilisation > policy.upper {
        if let Some(growth) = growth.filter(|growth| load.not_helped_by(*growth)) {
            let before = growth.utilisation;
            return Want::Stay(ScaleReason::GrowthDidNotHelp { before, now: utilisation });
        }
        load.up(Trigger::Utilisation, load.needed)
    } else if slow && load.busiest > load.middle {
        load.up(Trigger::ResponseTime, load.needed_by_all(1.0))
    } else if utilisation < policy.lower {
        load.down()
    } else if let Some(p95) = facts.p95.filter(|p95| *p95 > facts.response_time) {
        let own = facts.own_p95.unwrap_or(p95);
        if slow {
            Want::Stay(ScaleReason::SlowButIdle { p95, utilisation })
        } else {
            Want::Stay(ScaleReason::SlowDownstream { p95, own })
        }
    } else {
        Want::Stay(ScaleReason::WithinBand)
    }
}

/// The load of a workload against the band.
struct Load<'a> {
    facts: &'a WorkloadSafety,
    policy: &'a ScalerPolicy,
    desired: u32,
    ready: u32,
    /// Replicas that are there and not being deleted.
    active: u32,
    /// By the metric.
    utilisation: Percent,
    /// Middle of the band.
    middle: Percent,
    /// Utilisation by the metric or by CPU, whichever is more: a workload that is
    /// measured by its memory still serves with its CPU.
    busiest: Percent,
    /// Replicas that bring utilisation to the middle of the band.
    needed: u32,
}

impl<'a> Load<'a> {
    fn of(
        workload: &WorkloadView<'_>,
        facts: &'a WorkloadSafety,
        utilisation: Percent,
        policy: &'a ScalerPolicy,
    ) -> Self {
        let ready = workload.ready_total();
        let active = workload.pods.iter().filter(|pod| pod.pod.phase != PodPhase::Terminating);
        let middle = Percent::saturating(f64::midpoint(policy.lower.get(), policy.upper.get()));
        let busiest = facts.cpu.map_or(utilisation, |cpu| cpu.max(utilisation));
        Self {
            facts,
            policy,
            desired: workload.workload.desired,
            ready,
            active: u32::try_from(active.count()).unwrap_or(u32::MAX),
            utilisation,
            middle,
            busiest,
            needed: replicas_for(ready, utilisation, middle),
        }
    }

    /// Replicas that bring the metric and CPU there, were both `margin` times as high.
    fn needed_by_all(&self, margin: f64) -> u32 {
        let busiest = Percent::saturating(self.busiest.get() * margin);
        replicas_for(self.ready, busiest, self.middle)
    }

    /// Whether a growth that is complete brought utilisation down by less than half of
    /// what sharing the load evenly would have, while no more requests came. Where CPU
    /// is busy, or not known, growth is never judged: then it is load.
    fn not_helped_by(&self, growth: Growth) -> bool {
        let complete = self.desired == growth.to && self.ready >= growth.to;
        let cpu_is_idle = self.facts.cpu.is_some_and(|cpu| cpu <= self.middle);
        let same_load = self.facts.requests.get() <= growth.requests.get() * LOAD_MARGIN;
        let (before, now) = (growth.utilisation.get(), self.utilisation.get());
        let promised = 1.0 - f64::from(growth.from) / f64::from(growth.to.max(1));
        let not_worse = now <= before;
        complete && cpu_is_idle && same_load && not_worse && before - now < before * promised / 2.0
    }

    fn up(&self, trigger: Trigger, needed: u32) -> Want {
        if self.desired >= self.facts.max {
            return Want::Stay(ScaleReason::AtMaximum { max: self.facts.max });
        }
        if needed <= self.desired {
            return self.settling();
        }
        let most = self.facts.max - self.desired;
        Want::Up { trigger, by: (needed - self.desired).min(self.policy.max_step).min(most) }
    }

    fn down(&self) -> Want {
        if self.active != self.desired {
            return self.settling();
        }
        let least = self.facts.min.max(1);
        if self.desired <= least {
            return Want::Stay(ScaleReason::AtMinimum { min: least });
        }
        let needed = self.needed_by_all(LOAD_MARGIN);
        if needed >= self.desired {
            let predicted = predict(self.ready, self.busiest, self.desired - 1);
            return Want::Stay(ScaleReason::RemainingTooBusy { predicted });
        }
        let to = needed.max(least);
        Want::Down { by: (self.desired - to).min(self.policy.max_step) }
    }

    fn settling(&self) -> Want {
        Want::Stay(ScaleReason::Settling { ready: self.ready, desired: self.desired })
    }
}

/// The least count over which the load of `ready` replicas, each used to `utilisation`,
/// uses none beyond `middle`. Load is taken to be shared evenly; for memory, part of
/// which stays with each replica, that is the most a lower count can bring.
fn replicas_for(ready: u32, utilisation: Percent, middle: Percent) -> u32 {
    let needed = f64::from(ready) * utilisation.get() / middle.get().max(f64::MIN_POSITIVE);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates.
    let whole = (needed - ROUNDING).ceil().max(1.0) as u32;
    whole
}

/// Utilisation when the load of `ready` replicas is spread over `left`.
fn predict(ready: u32, utilisation: Percent, left: u32) -> Percent {
    Percent::saturating(utilisation.get() * f64::from(ready) / f64::from(left.min(ready).max(1)))
}
