//! What StornX is held to, scenario by scenario: how far its p99 is below that of plain
//! rules, what it sends across zones, and whether any policy that is as quick costs
//! less. And how much of the p99 any policy could take away at all.

use serde::Serialize;
use stornx_core::units::{Millis, Share};

use super::{
    compare::{Comparison, PolicyFigures, disturbance},
    policy::PolicyName,
    run::{RunError, run},
    statistics::Figure,
};
use crate::scenario::{Event, Network, Profile, Scenario, service::Placement};

/// Load or capacity of a zone counts as uneven from so many times its even share on.
const UNEVEN: f64 = 1.25;

/// A p99 within so much of another is the same: histograms are exact to 1 %.
const SAME_P99: f64 = 1.01;

/// By how much one p99 is below another, as a share of the other; negative when above.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Below {
    /// That of StornX.
    pub by: f64,
    /// That of the work alone: the most that any policy could have.
    pub at_most: f64,
}

/// What came of StornX in one scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// Whether load or capacity is uneven over zones, or something breaks.
    pub uneven: bool,
    /// p99 of StornX in ms.
    pub p99_ms: f64,
    /// p99 of the same requests when nothing waits and no network is in between, ms: the
    /// work alone, which no routing, placement or scaling takes away.
    pub work_alone_p99_ms: f64,
    /// How it compares with plain rules.
    pub below_random: Option<Below>,
    /// See [`below_random`](Self::below_random).
    pub below_failover: Option<Below>,
    /// See [`below_random`](Self::below_random).
    pub below_prefer_close: Option<Below>,
    /// Share of its calls across zones.
    pub cross_zone_share: f64,
    /// Transfer and replicas of StornX a month, US dollars.
    pub usd_per_month: f64,
    /// The policy that costs least of those whose p99 is no worse, and what it costs.
    pub cheapest: Option<(PolicyName, f64)>,
}

impl Outcome {
    /// The outcome of a comparison that StornX took part in.
    ///
    /// # Errors
    /// [`RunError`] when the bound cannot be run.
    pub fn of(scenario: &Scenario, comparison: &Comparison) -> Result<Option<Self>, RunError> {
        let of = |name: PolicyName| {
            comparison.policies.iter().find(|(policy, _)| *policy == name).map(|(_, f)| f)
        };
        let Some(own) = of(PolicyName::Stornx) else { return Ok(None) };
        let work_alone = work_alone(scenario, &comparison.seeds)?;
        let p99 = |figures: &PolicyFigures| figures.figures.p99_ms.mean;
        let usd = |figures: &PolicyFigures| figures.figures.total_usd_per_month.mean;
        let below = |name| {
            let theirs = p99(of(name)?);
            Some(Below { by: 1.0 - p99(own) / theirs, at_most: 1.0 - work_alone / theirs })
        };
        let cheapest = comparison
            .policies
            .iter()
            .filter(|(name, other)| {
                *name != PolicyName::Stornx && p99(other) <= p99(own) * SAME_P99
            })
            .map(|(name, other)| (*name, usd(other)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        Ok(Some(Self {
            scenario: scenario.name.clone(),
            uneven: uneven(scenario),
            p99_ms: p99(own),
            work_alone_p99_ms: work_alone,
            below_random: below(PolicyName::Random),
            below_failover: below(PolicyName::Failover),
            below_prefer_close: below(PolicyName::PreferClose),
            cross_zone_share: own.figures.cross_zone_share.mean,
            usd_per_month: usd(own),
            cheapest,
        }))
    }
}

/// Whether a zone gets, at any time, or has, of any service of more than a replica for
/// each zone, much more than its share; or something breaks.
#[must_use]
pub fn uneven(scenario: &Scenario) -> bool {
    let zones = scenario.topology.zones.len() as f64;
    let even = |parts: &[f64]| {
        let total: f64 = parts.iter().sum();
        parts.iter().all(|part| part * zones <= total * UNEVEN)
    };
    let shifts = scenario.events.iter().filter_map(|event| match event {
        Event::TrafficShift(shift) => Some(&shift.rates),
        _ => None,
    });
    let shifted = shifts
        .map(|rates| rates.values().map(|rate| rate.get()).collect::<Vec<_>>())
        .any(|rates| rates.len() == scenario.topology.zones.len() && !even(&rates));
    let entries = scenario.entries.iter().any(|entry| {
        let peaks = entry.rates.values().map(|profile: &Profile| {
            profile.points().iter().map(|point| point.per_second.get()).fold(0.0, f64::max)
        });
        !even(&peaks.collect::<Vec<_>>())
    });
    let placed = scenario.services.iter().any(|service| match &service.placement {
        Some(Placement::Zones(counts)) if f64::from(service.replicas) > zones => {
            !even(&counts.values().map(|count| f64::from(*count)).collect::<Vec<_>>())
        }
        _ => false,
    });
    entries || placed || shifted || disturbance(scenario).is_some()
}

/// Seeds that the work alone is run on: with nothing that waits it varies by less than a
/// bucket of the histogram.
const SEEDS_OF_WORK: usize = 5;

/// p99 in ms of the same requests when a replica takes any number of
/// them at once, CPU is never short, and no network lies in between.
fn work_alone(scenario: &Scenario, seeds: &[u64]) -> Result<f64, RunError> {
    let mut scenario = scenario.clone();
    let none = Millis::saturating(0.0);
    scenario.network = Network {
        same_node_ms: none,
        same_zone_ms: none,
        same_region_ms: none,
        other_region_ms: none,
        ..Network::default()
    };
    for service in &mut scenario.services {
        service.concurrency.workers = 1_000;
        service.limits = None;
        service.autoscaler = None;
        service.work.cpu_share = Share::ZERO;
    }
    scenario.events.retain(|event| matches!(event, Event::TrafficShift(_)));
    let mut values = Vec::with_capacity(seeds.len());
    for seed in seeds.iter().take(SEEDS_OF_WORK) {
        values.push(run(&scenario, PolicyName::Random, *seed, &mut |_| {})?.figures.p99_ms);
    }
    Ok(Figure::of(&values).mean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{builtin, experiment::compare, scenario::Timespan};

    #[test]
    fn uneven_is_what_the_scenarios_say_of_themselves() {
        let uneven: Vec<_> = builtin::names()
            .into_iter()
            .filter(|name| uneven(&builtin::find(name).unwrap()))
            .collect();
        assert_eq!(
            uneven,
            [
                "uneven-inbound",
                "hpa-skew",
                "traffic-shift",
                "chain-of-hotspots",
                "zone-loss",
                "slow-replica",
                "metrics-outage",
                "rollout-during-move",
            ]
        );
    }

    #[test]
    fn an_outcome_is_read_off_the_comparison() {
        let mut scenario = builtin::find("uneven-inbound").unwrap();
        scenario.duration = Timespan::from_seconds(9 * 60);
        let policies = [PolicyName::Stornx, PolicyName::Random, PolicyName::PreferClose];
        let (comparison, _) = compare(&scenario, &policies, &[1], |_| {}).unwrap();
        let outcome = Outcome::of(&scenario, &comparison).unwrap().unwrap();
        let p99 = |at: usize| comparison.policies[at].1.figures.p99_ms.mean;
        let below = outcome.below_random.unwrap();
        assert!((below.by - (1.0 - p99(0) / p99(1))).abs() < 1e-12);
        assert!(below.at_most > below.by);
        assert_eq!(outcome.below_failover, None);
        // Work alone is quicker than anything that waits, and not by orders of magnitude.
        assert!(outcome.work_alone_p99_ms < p99(1).min(p99(0)));
        assert!(outcome.work_alone_p99_ms > p99(1) / 3.0);
        // Whoever drowns is cheaper, but no measure.
        assert_ne!(outcome.cheapest.map(|(name, _)| name), Some(PolicyName::PreferClose));
        let alone = compare(&scenario, &policies[1..2], &[1], |_| {}).unwrap().0;
        assert!(Outcome::of(&scenario, &alone).unwrap().is_none());
    }
}
