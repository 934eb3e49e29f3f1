//! What a decision becomes: one change at most, and the report of it with its numbers.

use std::collections::BTreeMap;

use super::{
    super::{
        capacity::Estimate,
        host::HostState,
        split::Split,
        step::Step,
        table::{Standing, to_table},
        target::{HostWorld, Value},
        verify,
    },
    Room,
};
use crate::{
    decide::Proposal,
    ids::ZoneName,
    model::Rule,
    plan::{Action, RoutePurpose},
    report::{ActionReport, DestinationReport, Expected, HostReport, RouteReason, RouteWhy, Why},
    units::{Millis, Percent, Rps},
    view::{View, WorkloadIndex, ZoneIndex},
};

/// 730 hours, the month of cloud price lists.
const SECONDS_PER_MONTH: f64 = 730.0 * 3600.0;

/// What comes of a host in a cycle.
pub(super) struct Decision {
    pub(super) report: HostReport,
    pub(super) proposal: Option<Proposal>,
}

/// The numbers that a decision rests on, for the report.
pub(super) struct Numbers<'a> {
    pub(super) state: &'a HostState,
    pub(super) world: &'a HostWorld,
    pub(super) estimates: &'a [Estimate],
    pub(super) now: &'a Value,
    /// What a change leads to should not wait: it relieves a zone, undoes
    /// harm, or sits a rollout out.
    pub(super) urgent: bool,
}

/// A change of routes.
pub(super) struct Change {
    pub(super) purpose: RoutePurpose,
    pub(super) next: Split,
    pub(super) delta: u32,
    pub(super) step: f64,
}

impl Room<'_> {
    /// Writes a step, or says why it is not worth a write.
    pub(super) fn take(
        &self,
        workload: WorkloadIndex,
        standing: &Standing,
        step: Step,
        purpose: RoutePurpose,
        numbers: Option<&Numbers<'_>>,
    ) -> Decision {
        let worth_a_write = step.is_worth_a_write(&self.view.policy.balancer);
        let news = match purpose {
            // Every replica alike rests on who is ready, which is why this cycle came.
            RoutePurpose::Rollout => true,
            RoutePurpose::Decay if !self.view.has_traffic => {
                verify::is_rested(self.memory, self.view)
            }
            // That nothing is seen of a host has to be seen after its last write, too.
            RoutePurpose::Decay => {
                verify::is_rested(self.memory, self.view) && verify::is_news(self.memory, self.view)
            }
            _ => verify::is_news(self.memory, self.view),
        };
        if worth_a_write && news {
            let change = Change { purpose, next: step.next, delta: step.delta, step: step.step };
            return self.change(workload, standing, &change, numbers);
        }
        let reason = match step.change {
            _ if worth_a_write => RouteReason::SeenAlready,
            0 => RouteReason::AtTarget,
            change => RouteReason::BelowMinDelta { change: f64::from(change) },
        };
        match numbers {
            Some(numbers) => self.stay(numbers, step.delta, reason),
            None => leave(reason),
        }
    }

    /// Reports that the routes stay.
    pub(super) fn stay(&self, numbers: &Numbers<'_>, delta: u32, reason: RouteReason) -> Decision {
        let destinations = self.destinations(numbers, &numbers.now.loads);
        let pressing = numbers.state.beliefs.growing;
        let delta = f64::from(delta);
        let report = HostReport {
            destinations,
            delta,
            reason,
            whole_zones: None,
            verification: None,
            pressing,
        };
        Decision { report, proposal: None }
    }

    /// Proposes a change.
    pub(super) fn change(
        &self,
        workload: WorkloadIndex,
        standing: &Standing,
        change: &Change,
        numbers: Option<&Numbers<'_>>,
    ) -> Decision {
        let view = self.view;
        let host = view.hosts[self.host.at()].host;
        let (Some(from), Some(to)) = (standing.table(view, host), to_table(view, &change.next))
        else {
            return leave(RouteReason::TooManyZones { zones: count(view.zones.len()) });
        };
        let after = numbers.map(|numbers| numbers.world.value(&change.next, 0.0));
        let peak = |value: &Value| {
            let numbers = numbers?;
            let utilisation = (0..value.loads.len())
                .filter_map(|at| numbers.world.utilisation(at, value.loads[at]));
            let peak =
                utilisation.fold(None, |peak: Option<f64>, u| Some(peak.map_or(u, |p| p.max(u))));
            numbers.estimates.iter().any(|e| e.age.is_some()).then_some(peak?).map(percent)
        };
        let before = numbers.map(|numbers| numbers.now);
        let cross = |value: Option<&Value>| percent(value.map_or(0.0, |value| value.cross_zone));
        let why = RouteWhy {
            host: host.name.clone(),
            purpose: change.purpose,
            delta: f64::from(change.delta),
            step: change.step,
            largest: largest_change(view, &standing.split, &change.next),
            cross_zone_before: cross(before),
            cross_zone_after: cross(after.as_ref()),
            peak_before: before.and_then(peak),
            peak_after: after.as_ref().and_then(peak),
            effect: None,
        };
        let expected = match (numbers, &after) {
            (Some(numbers), Some(after)) => {
                self.expected(numbers, after, &standing.split, &change.next)
            }
            _ => Expected::default(),
        };
        let destinations = match (numbers, &after) {
            (Some(numbers), Some(after)) => self.destinations(numbers, &after.loads),
            _ => BTreeMap::new(),
        };
        let proposal = Proposal {
            action: Action::SetRoutes {
                host: why.host.clone(),
                workload: view.workloads[workload.at()].workload.id.clone(),
                from,
                to,
                first: !matches!(host.rule, Rule::Ours(_)),
                purpose: change.purpose,
            },
            report: ActionReport { expected, why: Why::Route(why) },
        };
        let report = HostReport {
            destinations,
            delta: f64::from(change.delta),
            reason: RouteReason::Changed,
            whole_zones: None,
            verification: None,
            pressing: numbers.is_some_and(|n| n.urgent || n.state.beliefs.growing),
        };
        Decision { report, proposal: Some(proposal) }
    }

    /// What a change is predicted to save.
    pub(super) fn expected(
        &self,
        numbers: &Numbers<'_>,
        after: &Value,
        now: &Split,
        next: &Split,
    ) -> Expected {
        let bytes = numbers.state.seen.bytes_per_request;
        let usd_per_second = |split: &Split| {
            let mut sum = 0.0;
            for (from, demand) in numbers.world.demand.iter().enumerate() {
                for (to, share) in numbers.world.shares(split.row(from)).enumerate() {
                    let price = self.view.price_per_byte(ZoneIndex::new(from), ZoneIndex::new(to));
                    sum += demand * share * bytes * price;
                }
            }
            sum
        };
        Expected {
            request_ms_per_second: numbers.now.time - after.time,
            usd_per_month: (usd_per_second(now) - usd_per_second(next)) * SECONDS_PER_MONTH,
        }
    }

    pub(super) fn destinations(
        &self,
        numbers: &Numbers<'_>,
        after: &[f64],
    ) -> BTreeMap<ZoneName, DestinationReport> {
        let Numbers { state, world, estimates, now, .. } = numbers;
        let ready = state.seen.zones.iter().enumerate().filter(|(_, zone)| zone.ready > 0);
        ready
            .map(|(zone, seen)| {
                let estimate = &estimates[zone];
                let known = |load: f64| {
                    world.utilisation(zone, load).filter(|_| estimate.age.is_some()).map(percent)
                };
                let report = DestinationReport {
                    ready: seen.ready,
                    capacity: Rps::saturating(world.capacity(zone)),
                    capacity_age: estimate.age,
                    capacity_observations: estimate.observations,
                    utilisation_before: known(now.loads[zone]),
                    utilisation_after: known(after[zone]),
                    p95: seen.p95.map(Millis::saturating),
                    penalty: Millis::saturating(state.beliefs.penalty(zone)),
                };
                (self.view.zones[zone].name.clone(), report)
            })
            .collect()
    }
}

/// A report without numbers.
pub(super) fn leave(reason: RouteReason) -> Decision {
    let (destinations, pressing) = (BTreeMap::new(), false);
    let report = HostReport {
        destinations,
        delta: 0.0,
        reason,
        whole_zones: None,
        verification: None,
        pressing,
    };
    Decision { report, proposal: None }
}

pub(super) fn percent(share: f64) -> Percent {
    Percent::saturating(100.0 * share)
}

pub(super) fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// The route that changes most; the first of equals.
pub(super) fn largest_change(
    view: &View<'_>,
    from: &Split,
    to: &Split,
) -> Option<(ZoneName, ZoneName, u8, u8)> {
    let mut largest: Option<(u8, usize, usize)> = None;
    for row in 0..from.rows() {
        for column in 0..from.columns() {
            let change = from.weight(row, column).abs_diff(to.weight(row, column));
            if change > largest.map_or(0, |(most, ..)| most) {
                largest = Some((change, row, column));
            }
        }
    }
    let (_, row, column) = largest?;
    let name = |zone: usize| view.zones[zone].name.clone();
    Some((name(row), name(column), from.weight(row, column), to.weight(row, column)))
}
