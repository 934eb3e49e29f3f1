//! What a scenario asks of its services at the start of a run: requests per second on
//! every edge of the call graph, computed from entries and fan-outs. Used by the
//! placement baselines (which know the traffic, as their publications assume) and to
//! hold scenarios to the figures that they claim.

use std::collections::BTreeMap;

use stornx_core::ids::{NodeName, ZoneName};

use crate::{
    baseline::placement::{Demand, End, Problem, Site, Traffic},
    scenario::{Scenario, service::Stage},
};

/// Requests per second by caller and callee; the ingress of a zone is the caller of
/// what enters there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rates {
    /// By zone of entry and service entered.
    pub entries: BTreeMap<(ZoneName, String), f64>,
    /// By calling and called service.
    pub calls: BTreeMap<(String, String), f64>,
}

impl Rates {
    /// Requests per second that a service gets.
    #[must_use]
    pub fn of(&self, service: &str) -> f64 {
        let entered =
            self.entries.iter().filter(|((_, to), _)| to == service).map(|(_, rate)| rate);
        let called = self.calls.iter().filter(|((_, to), _)| to == service).map(|(_, rate)| rate);
        entered.chain(called).sum()
    }
}

/// The rates at the start of a run.
#[must_use]
pub fn rates(scenario: &Scenario) -> Rates {
    let mut rates = Rates::default();
    let mut pending: BTreeMap<(String, Option<String>), f64> = BTreeMap::new();
    for entry in &scenario.entries {
        let weights: f64 = entry.operations.values().sum();
        for (zone, profile) in &entry.rates {
            let rate = profile.points().first().map_or(0.0, |point| point.per_second.get());
            *rates.entries.entry((zone.clone(), entry.service.clone())).or_default() += rate;
            if entry.operations.is_empty() {
                *pending.entry((entry.service.clone(), None)).or_default() += rate;
            }
            for (operation, weight) in &entry.operations {
                let key = (entry.service.clone(), Some(operation.clone()));
                *pending.entry(key).or_default() += rate * weight / weights;
            }
        }
    }
    // A checked scenario has no circles: each round follows calls one step down, so
    // there are at most as many rounds as services.
    for _ in 0..=scenario.services.len() {
        let mut next: BTreeMap<(String, Option<String>), f64> = BTreeMap::new();
        for ((service, operation), rate) in &pending {
            for call in
                stages(scenario, service, operation.as_deref()).iter().flat_map(|s| &s.calls)
            {
                let called = rate * call.mean;
                *rates.calls.entry((service.clone(), call.to.clone())).or_default() += called;
                *next.entry((call.to.clone(), call.operation.clone())).or_default() += called;
            }
        }
        pending = next;
    }
    rates
}

fn stages<'a>(scenario: &'a Scenario, service: &str, operation: Option<&str>) -> &'a [Stage] {
    let Some(service) = scenario.services.iter().find(|s| s.name == service) else { return &[] };
    match operation {
        None => &service.stages,
        Some(name) => service.operations.get(name).map_or(&[], |operation| &operation.stages),
    }
}

/// The placement problem of a scenario. Load enters at the first node of its zone.
#[must_use]
pub fn placement_problem(scenario: &Scenario) -> Problem {
    let rates = rates(scenario);
    let sites = sites(scenario);
    let network = &scenario.network;
    let regions: BTreeMap<_, _> =
        scenario.topology.zones.iter().map(|zone| (&zone.name, &zone.region)).collect();
    let rtt = |from: &Site, to: &Site| {
        let pair = network.pairs.iter().find(|pair| {
            let (a, b) = (&pair.between.0, &pair.between.1);
            (a, b) == (&from.zone, &to.zone) || (b, a) == (&from.zone, &to.zone)
        });
        match pair {
            _ if from.name == to.name => network.same_node_ms.get(),
            _ if from.zone == to.zone => network.same_zone_ms.get(),
            Some(pair) => pair.rtt_ms.get(),
            None if regions.get(&from.zone) == regions.get(&to.zone) => {
                network.same_region_ms.get()
            }
            None => network.other_region_ms.get(),
        }
    };
    let rtt = sites.iter().map(|from| sites.iter().map(|to| rtt(from, to)).collect()).collect();
    let demands: Vec<Demand> = scenario
        .services
        .iter()
        .map(|service| Demand {
            service: service.name.clone(),
            replicas: service.replicas,
            requests: service.requests,
            one_per_node: service.constraints.one_per_node,
        })
        .collect();
    let service = |name: &str| demands.iter().position(|demand| demand.service == name);
    let entered = rates.entries.iter().filter_map(|((zone, to), rate)| {
        let site = sites.iter().position(|site| site.zone == *zone)?;
        Some(Traffic { from: End::Site(site), to: service(to)?, rate: *rate })
    });
    let called = rates.calls.iter().filter_map(|((from, to), rate)| {
        Some(Traffic { from: End::Service(service(from)?), to: service(to)?, rate: *rate })
    });
    let traffic = entered.chain(called).collect();
    Problem { sites, rtt, demands, traffic }
}

fn sites(scenario: &Scenario) -> Vec<Site> {
    let names: Vec<(usize, usize, NodeName)> = scenario.node_names();
    names
        .into_iter()
        .map(|(z, g, name)| {
            let zone = &scenario.topology.zones[z];
            let group = &zone.nodes[g];
            Site {
                name,
                zone: zone.name.clone(),
                allocatable: stornx_core::units::Resources { cpu: group.cpu, memory: group.memory },
                pods: group.pods,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    /// The counted call rates per 100 requests at the front end.
    #[test]
    fn online_boutique_has_the_counted_call_rates() {
        let scenario = builtin::find("online-boutique").unwrap();
        let rates = rates(&scenario);
        let per_100 = 100.0 / rates.of("frontend");
        let counted = [
            ("frontend", "productcatalog", 463.7),
            ("frontend", "currency", 287.6),
            ("frontend", "cart", 89.3),
            ("frontend", "recommendation", 71.5),
            ("frontend", "ad", 57.1),
            ("frontend", "shipping", 21.5),
            ("frontend", "checkout", 3.6),
            ("recommendation", "productcatalog", 71.5),
            ("checkout", "currency", 11.9),
            ("checkout", "productcatalog", 8.4),
            ("checkout", "cart", 7.1),
            ("checkout", "shipping", 7.1),
            ("checkout", "payment", 3.6),
            ("checkout", "email", 3.6),
        ];
        for (caller, callee, expected) in counted {
            let rate = rates.calls[&(caller.to_owned(), callee.to_owned())] * per_100;
            let off = (rate - expected).abs();
            assert!(off <= 0.15 || off / expected < 0.005, "{caller} to {callee}: {rate}");
        }
        let redis = rates.of("redis") / rates.of("cart");
        assert!((redis - 1.5).abs() < 1e-9, "{redis}");
        assert_eq!(rates.calls.len(), 15);
    }

    /// Each scenario has the utilisation that its intent speaks of, and its nodes hold
    /// what runs on them.
    #[test]
    fn every_scenario_has_capacity_for_its_load() {
        for name in builtin::names() {
            let scenario = builtin::find(name).unwrap();
            let rates = rates(&scenario);
            for service in &scenario.services {
                let workers = f64::from(service.replicas * service.concurrency.workers);
                let busy = rates.of(&service.name) * service.work.mean_ms.get() / 1000.0;
                assert!(busy / workers < 0.62, "{name}: {} at {}", service.name, busy / workers);
            }
            let placed = crate::baseline::default_spread::place(&placement_problem(&scenario));
            for service in &scenario.services {
                let found: u32 = placed[&service.name].values().sum();
                assert_eq!(found, service.replicas, "{name}: {} does not fit", service.name);
            }
        }
    }
}
