//! What a scenario must satisfy beyond the types of its fields: names that are
//! mentioned exist and are named once, numbers make sense together, calls do not run in
//! circles.

use std::collections::{BTreeMap, BTreeSet};

use stornx_core::{
    ids::{NodeName, ZoneName},
    model::Problem,
    units::Bytes,
};

use super::{
    Entry, Event, INGRESS, Profile, Scenario, Service, Timespan,
    service::{Placement, Stage},
};

/// Most zones of a scenario: routes are kept for each pair of zones of each edge.
const MOST_ZONES: usize = 64;
/// Most nodes and replicas at the start, far above what a run in fast time can bear.
const MOST_THINGS: u64 = 100_000;
/// Most workers of a replica, and requests that wait in it.
const MOST_REQUESTS: u32 = 1_000_000;
/// Most calls that one request makes to one service.
const MOST_FAN_OUT: f64 = 200.0;
/// Most calls of one stage: calls of one request under way are counted in 16 bits.
const MOST_CALLS: usize = 100;
/// Most bytes of a request or a response: sums over a run stay countable.
const MOST_BYTES: u64 = 10_000_000_000;
/// Longest round-trip time in milliseconds.
const LONGEST_TRIP: f64 = 60_000.0;
/// Highest rate of an entry in one zone, requests per second.
const HIGHEST_RATE: f64 = 1e7;

struct Check<'a> {
    scenario: &'a Scenario,
    zones: BTreeSet<&'a ZoneName>,
    nodes: BTreeSet<NodeName>,
    services: BTreeMap<&'a str, &'a Service>,
    problems: Vec<Problem>,
}

impl Scenario {
    /// Everything that is wrong with this scenario; empty when it can be run.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut check = Check {
            scenario: self,
            zones: BTreeSet::new(),
            nodes: BTreeSet::new(),
            services: BTreeMap::new(),
            problems: Vec::new(),
        };
        check.topology();
        check.network();
        check.services();
        check.circles();
        check.entries();
        check.routes();
        check.events();
        check.times();
        check.settings();
        check.problems
    }

    /// Every node with the index of its zone and of its group there, in the order of
    /// the file.
    #[must_use]
    pub fn node_names(&self) -> Vec<(usize, usize, NodeName)> {
        let mut names = Vec::new();
        for (z, zone) in self.topology.zones.iter().enumerate() {
            let mut number = 0;
            for (g, group) in zone.nodes.iter().enumerate() {
                if let (Some(name), 1) = (&group.name, group.count) {
                    names.push((z, g, name.clone()));
                    continue;
                }
                for _ in 0..u64::from(group.count).min(MOST_THINGS) {
                    number += 1;
                    if let Ok(name) = NodeName::new(&format!("{}-{number}", zone.name)) {
                        names.push((z, g, name));
                    }
                }
            }
        }
        names
    }
}

impl<'a> Check<'a> {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), message: message.into() });
    }

    fn require(&mut self, ok: bool, path: impl Into<String>, message: impl Into<String>) {
        if !ok {
            self.add(path, message);
        }
    }

    fn zone(&mut self, path: String, zone: &ZoneName) {
        if !self.zones.contains(zone) {
            let known: Vec<_> = self.zones.iter().map(|zone| zone.as_str()).collect();
            let message = format!("no zone {zone}; allowed: {}", known.join(", "));
            self.add(path, message);
        }
    }

    fn node(&mut self, path: String, node: &NodeName) {
        if !self.nodes.contains(node) {
            self.add(path, format!("no node {node} in topology.zones"));
        }
    }

    fn service(&mut self, path: String, service: &str) -> Option<&'a Service> {
        let found = self.services.get(service).copied();
        if found.is_none() {
            let known: Vec<_> = self.services.keys().copied().collect();
            self.add(path, format!("no service {service}; allowed: {}", known.join(", ")));
        }
        found
    }

    fn operation(&mut self, path: String, service: &Service, operation: &str) {
        if !service.operations.contains_key(operation) {
            let known: Vec<_> = service.operations.keys().map(String::as_str).collect();
            let message = format!(
                "{} has no operation {operation}; allowed: {}",
                service.name,
                known.join(", ")
            );
            self.add(path, message);
        }
    }

    fn topology(&mut self) {
        let scenario = self.scenario;
        let zones = &scenario.topology.zones;
        self.require(
            (1..=MOST_ZONES).contains(&zones.len()),
            "topology.zones",
            format!("{} zones; 1 to {MOST_ZONES} are allowed", zones.len()),
        );
        let mut count: u64 = 0;
        for (z, zone) in zones.iter().enumerate() {
            let path = format!("topology.zones[{z}]");
            if !self.zones.insert(&zone.name) {
                self.add(format!("{path}.name"), format!("{} is named twice", zone.name));
            }
            let nodes: u64 = zone.nodes.iter().map(|group| u64::from(group.count)).sum();
            self.require(nodes > 0, format!("{path}.nodes"), "at least one node is needed");
            count += nodes;
            for (g, group) in zone.nodes.iter().enumerate() {
                let path = format!("{path}.nodes[{g}]");
                self.require(
                    group.name.is_none() || group.count == 1,
                    format!("{path}.name"),
                    "only a group with count 1 has a name",
                );
                self.require(group.cpu.get() > 0, format!("{path}.cpu"), "above 0 is allowed");
            }
        }
        if count > MOST_THINGS {
            self.add("topology.zones", format!("{count} nodes; at most {MOST_THINGS} are allowed"));
            return;
        }
        for (z, _, name) in scenario.node_names() {
            if !self.nodes.insert(name.clone()) {
                self.add(format!("topology.zones[{z}].nodes"), format!("{name} is named twice"));
            }
        }
    }

    fn network(&mut self) {
        let network = &self.scenario.network;
        for (p, pair) in network.pairs.iter().enumerate() {
            let (a, b) = &pair.between;
            self.zone(format!("network.pairs[{p}].between[0]"), a);
            self.zone(format!("network.pairs[{p}].between[1]"), b);
            self.require(
                a != b,
                format!("network.pairs[{p}].between"),
                "two different zones are allowed; sameZoneMs is for one zone",
            );
            self.require(
                pair.rtt_ms.get() <= LONGEST_TRIP,
                format!("network.pairs[{p}].rttMs"),
                format!("at most {LONGEST_TRIP} is allowed"),
            );
        }
        let longest = [
            ("sameNodeMs", network.same_node_ms),
            ("sameZoneMs", network.same_zone_ms),
            ("sameRegionMs", network.same_region_ms),
            ("otherRegionMs", network.other_region_ms),
        ];
        for (name, rtt) in longest {
            self.require(
                rtt.get() <= LONGEST_TRIP,
                format!("network.{name}"),
                format!("at most {LONGEST_TRIP} is allowed"),
            );
        }
    }

    fn services(&mut self) {
        let scenario = self.scenario;
        let mut replicas: u64 = 0;
        for (s, service) in scenario.services.iter().enumerate() {
            let path = format!("services[{s}]");
            if let Err(error) = scenario.host(&service.name) {
                self.add(format!("{path}.name"), error.to_string());
            }
            self.require(
                !service.name.contains('.') && service.name.len() <= 63,
                format!("{path}.name"),
                "at most 63 characters without '.' are allowed",
            );
            self.require(
                service.name != INGRESS,
                format!("{path}.name"),
                format!("{INGRESS} is the name of the workload that brings the load in"),
            );
            if self.services.insert(&service.name, service).is_some() {
                self.add(format!("{path}.name"), format!("{} is named twice", service.name));
            }
            replicas += u64::from(service.replicas);
        }
        self.require(!scenario.services.is_empty(), "services", "at least one is needed");
        self.require(
            replicas <= MOST_THINGS,
            "services",
            format!("{replicas} replicas; at most {MOST_THINGS} are allowed"),
        );
        for (s, service) in scenario.services.iter().enumerate() {
            self.one_service(&format!("services[{s}]"), service);
        }
    }

    fn one_service(&mut self, path: &str, service: &'a Service) {
        match &service.placement {
            Some(Placement::Zones(zones)) => {
                for zone in zones.keys() {
                    self.zone(format!("{path}.placement.zones.{zone}"), zone);
                }
                self.placed(path, service, zones.values());
            }
            Some(Placement::Nodes(nodes)) => {
                for node in nodes.keys() {
                    self.node(format!("{path}.placement.nodes.{node}"), node);
                }
                self.placed(path, service, nodes.values());
            }
            None => {}
        }
        let concurrency = &service.concurrency;
        self.require(
            (1..=MOST_REQUESTS).contains(&concurrency.workers),
            format!("{path}.concurrency.workers"),
            format!("1 to {MOST_REQUESTS} are allowed"),
        );
        self.require(
            concurrency.queue <= MOST_REQUESTS,
            format!("{path}.concurrency.queue"),
            format!("at most {MOST_REQUESTS} are allowed"),
        );
        let work = &service.work;
        self.require(
            work.mean_ms.get() <= 3.6e6,
            format!("{path}.work.meanMs"),
            "at most 3600000 is allowed",
        );
        self.require(
            work.variation.is_finite() && (0.0..=10.0).contains(&work.variation),
            format!("{path}.work.variation"),
            "0 to 10 is allowed",
        );
        if let Some(hpa) = &service.autoscaler {
            self.require(
                (1..=hpa.max).contains(&hpa.min),
                format!("{path}.autoscaler.min"),
                "1 to max is allowed",
            );
            self.require(
                u64::from(hpa.max) <= MOST_THINGS,
                format!("{path}.autoscaler.max"),
                format!("at most {MOST_THINGS} is allowed"),
            );
            self.require(
                hpa.target_cpu_percent.get() >= 1.0,
                format!("{path}.autoscaler.targetCpuPercent"),
                "at least 1 is allowed",
            );
            self.require(
                service.requests.cpu.get() > 0,
                format!("{path}.requests.cpu"),
                "an autoscaler on CPU needs a request above 0",
            );
        }
        self.stages(path, &service.stages);
        for (name, operation) in &service.operations {
            let path = format!("{path}.operations.{name}");
            self.require(
                operation.work_factor.is_finite() && (0.0..=1e6).contains(&operation.work_factor),
                format!("{path}.workFactor"),
                "0 to 1000000 is allowed",
            );
            self.stages(&path, &operation.stages);
        }
    }

    fn placed<'b>(&mut self, path: &str, service: &Service, counts: impl Iterator<Item = &'b u32>) {
        let placed: u64 = counts.map(|count| u64::from(*count)).sum();
        self.require(
            placed <= u64::from(service.replicas),
            format!("{path}.placement"),
            format!("{placed} replicas placed of {}", service.replicas),
        );
    }

    fn stages(&mut self, path: &str, stages: &[Stage]) {
        self.require(stages.len() <= 200, format!("{path}.stages"), "at most 200 are allowed");
        for (s, stage) in stages.iter().enumerate() {
            self.require(
                stage.calls.len() <= MOST_CALLS,
                format!("{path}.stages[{s}].calls"),
                format!("at most {MOST_CALLS} are allowed"),
            );
            for (c, call) in stage.calls.iter().enumerate() {
                let path = format!("{path}.stages[{s}].calls[{c}]");
                let callee = self.service(format!("{path}.to"), &call.to);
                if let (Some(callee), Some(operation)) = (callee, &call.operation) {
                    self.operation(format!("{path}.operation"), callee, operation);
                }
                self.require(
                    call.mean.is_finite() && (0.0..=MOST_FAN_OUT).contains(&call.mean),
                    format!("{path}.mean"),
                    format!("0 to {MOST_FAN_OUT} is allowed"),
                );
                let bytes = [call.request_bytes, call.response_bytes];
                self.limits(&path, call.retries, call.timeout, bytes);
            }
        }
    }

    /// What a call and an entry have in common.
    fn limits(&mut self, path: &str, retries: u32, timeout: Timespan, bytes: [Bytes; 2]) {
        self.require(retries <= 10, format!("{path}.retries"), "at most 10 is allowed");
        self.require(timeout > Timespan::ZERO, format!("{path}.timeout"), "above 0 is allowed");
        for (name, bytes) in ["requestBytes", "responseBytes"].into_iter().zip(bytes) {
            self.require(
                bytes.get() <= MOST_BYTES,
                format!("{path}.{name}"),
                format!("at most {MOST_BYTES} is allowed"),
            );
        }
    }

    /// Calls that come back to their caller would never end.
    fn circles(&mut self) {
        let calls: BTreeMap<&str, BTreeSet<&str>> = self
            .services
            .values()
            .map(|service| {
                let own = service.stages.iter();
                let kinds = service.operations.values().flat_map(|operation| &operation.stages);
                let callees =
                    own.chain(kinds).flat_map(|stage| &stage.calls).map(|call| call.to.as_str());
                (service.name.as_str(), callees.collect())
            })
            .collect();
        // Take away services that call nobody left, until none can be taken away.
        let mut left: BTreeSet<&str> = calls.keys().copied().collect();
        loop {
            let ends: Vec<&str> = left
                .iter()
                .copied()
                .filter(|service| calls[service].iter().all(|callee| !left.contains(callee)))
                .collect();
            if ends.is_empty() {
                break;
            }
            for end in ends {
                left.remove(end);
            }
        }
        let circle: Vec<&str> = left.into_iter().collect();
        if !circle.is_empty() {
            let message =
                format!("calls run in a circle, which is not allowed: {}", circle.join(", "));
            self.add("services", message);
        }
    }

    fn entries(&mut self) {
        let scenario = self.scenario;
        self.require(!scenario.entries.is_empty(), "entries", "at least one is needed");
        let mut seen = BTreeSet::new();
        for (e, entry) in scenario.entries.iter().enumerate() {
            let path = format!("entries[{e}]");
            if !seen.insert(&entry.service) {
                self.add(format!("{path}.service"), format!("{} is entered twice", entry.service));
            }
            if let Some(service) = self.service(format!("{path}.service"), &entry.service) {
                for operation in entry.operations.keys() {
                    let path = format!("{path}.operations.{operation}");
                    self.operation(path, service, operation);
                }
            }
            let weights: Vec<f64> = entry.operations.values().copied().collect();
            let positive = weights.iter().all(|w| w.is_finite() && *w >= 0.0);
            self.require(
                weights.is_empty() || (positive && weights.iter().sum::<f64>() > 0.0),
                format!("{path}.operations"),
                "weights of at least 0 with a sum above 0 are allowed",
            );
            let bytes = [entry.request_bytes, entry.response_bytes];
            self.limits(&path, entry.retries, entry.timeout, bytes);
            self.rates(&path, entry);
        }
    }

    fn rates(&mut self, path: &str, entry: &Entry) {
        for (zone, profile) in &entry.rates {
            let path = format!("{path}.rates.{zone}");
            self.zone(path.clone(), zone);
            let points = profile.points();
            if let Profile::Points(points) = profile {
                self.require(!points.is_empty(), path.clone(), "at least one point is needed");
                self.require(
                    points.windows(2).all(|pair| pair[0].at <= pair[1].at),
                    path.clone(),
                    "points in the order of time are allowed",
                );
            }
            self.require(
                points.iter().all(|point| point.per_second.get() <= HIGHEST_RATE),
                path,
                format!("at most {HIGHEST_RATE} requests per second are allowed"),
            );
        }
    }

    fn routes(&mut self) {
        for (service, table) in &self.scenario.routes {
            self.service(format!("routes.{service}"), service);
            for (caller, distribution) in table {
                self.zone(format!("routes.{service}.{caller}"), caller);
                for (zone, _) in distribution.iter() {
                    self.zone(format!("routes.{service}.{caller}.{zone}"), zone);
                }
            }
        }
    }

    fn events(&mut self) {
        for (e, event) in self.scenario.events.iter().enumerate() {
            let path = format!("events[{e}].{}", kind(event));
            if let Some(until) = event.until() {
                self.require(until > event.at(), format!("{path}.until"), "after at is allowed");
            }
            match event {
                Event::ZoneLoss(loss) => self.zone(format!("{path}.zone"), &loss.zone),
                Event::SlowReplica(slow) => {
                    self.service(format!("{path}.service"), &slow.service);
                    if let Some(zone) = &slow.zone {
                        self.zone(format!("{path}.zone"), zone);
                    }
                    self.factor(&path, slow.factor);
                }
                Event::SlowNode(slow) => {
                    self.node(format!("{path}.node"), &slow.node);
                    self.factor(&path, slow.factor);
                }
                Event::NodePressure(pressure) => {
                    self.node(format!("{path}.node"), &pressure.node);
                }
                Event::MetricsOutage(_) => {}
                Event::Rollout(rollout) => {
                    self.service(format!("{path}.service"), &rollout.service);
                }
                Event::TrafficShift(shift) => {
                    if let Some(entry) = &shift.entry {
                        self.require(
                            self.scenario.entries.iter().any(|e| &e.service == entry),
                            format!("{path}.entry"),
                            format!("no entry with service {entry}"),
                        );
                    }
                    for (zone, rate) in &shift.rates {
                        self.zone(format!("{path}.rates.{zone}"), zone);
                        self.require(
                            rate.get() <= HIGHEST_RATE,
                            format!("{path}.rates.{zone}"),
                            format!("at most {HIGHEST_RATE} requests per second are allowed"),
                        );
                    }
                }
            }
        }
    }

    fn factor(&mut self, path: &str, factor: f64) {
        self.require(
            factor.is_finite() && (0.01..=1000.0).contains(&factor),
            format!("{path}.factor"),
            "0.01 to 1000 is allowed",
        );
    }

    fn times(&mut self) {
        let s = self.scenario;
        self.require(s.duration.as_millis() > 0, "duration", "above 0 is allowed");
        self.require(s.warm_up < s.duration, "warmUp", "less than duration is allowed");
        let m = &s.metrics;
        let window = m.rate_window.as_millis();
        let least = [
            ("cycle", s.cycle),
            ("metrics.scrapeInterval", m.scrape_interval),
            ("cluster.hpaInterval", s.cluster.hpa_interval),
            ("measure.sampleInterval", s.measure.sample_interval),
            ("measure.utilisationWindow", s.measure.utilisation_window),
        ];
        for (path, time) in least {
            self.require(time.as_millis() >= 1000, path, "at least 1s is allowed");
        }
        self.require(
            window >= m.scrape_interval.as_millis(),
            "metrics.rateWindow",
            "at least metrics.scrapeInterval is allowed: a rate needs two scrapes",
        );
        self.require(
            window <= 100 * m.scrape_interval.as_millis(),
            "metrics.rateWindow",
            "at most 100 times metrics.scrapeInterval is allowed",
        );
    }

    fn settings(&mut self) {
        for problem in self.scenario.policy.problems() {
            self.add("policy", problem.to_string());
        }
        let cluster = &self.scenario.cluster;
        self.require(
            cluster.max_surge.get() + cluster.max_unavailable.get() > 0.0,
            "cluster.maxSurge",
            "not 0 together with maxUnavailable",
        );
        self.require(
            cluster.max_unavailable.get() <= 100.0,
            "cluster.maxUnavailable",
            "at most 100 is allowed",
        );
    }
}

const fn kind(event: &Event) -> &'static str {
    match event {
        Event::ZoneLoss(_) => "zoneLoss",
        Event::SlowReplica(_) => "slowReplica",
        Event::SlowNode(_) => "slowNode",
        Event::NodePressure(_) => "nodePressure",
        Event::MetricsOutage(_) => "metricsOutage",
        Event::Rollout(_) => "rollout",
        Event::TrafficShift(_) => "trafficShift",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_of_calls_are_refused() {
        let text = "\
apiVersion: stornx.io/v1alpha1
name: circle
intent: Refused.
topology: {zones: [{name: a, nodes: [{cpu: 1, memory: 1Gi}]}]}
services:
  - {name: x, replicas: 1, requests: {cpu: 1}, work: {meanMs: 1}, stages: [{calls: [{to: y}]}]}
  - {name: y, replicas: 1, requests: {cpu: 1}, work: {meanMs: 1}, stages: [{calls: [{to: x}]}]}
entries: [{service: x, rates: {a: 1}}]
duration: 1m
";
        let error = Scenario::parse("c.yaml", text).unwrap_err().to_string();
        assert!(error.contains("c.yaml:6:"), "{error}");
        assert!(error.contains("at services: calls run in a circle"), "{error}");
    }
}
