//! The text that is scraped. Names and labels are those of Istio's standard metrics (1.24
//! and later), of cAdvisor as the kubelet shows it, and of an exporter of round-trip
//! times; `namespace` and `pod` are what the scrape target adds.
//!
//! What is simplified: one version, one trust domain, one cluster; every request is plain
//! HTTP; sizes have no buckets but the last; a replica is one container beside the sum of
//! its pod.

use std::fmt::Write as _;

use stornx_core::{ids::PodName, model::Protocol};

use crate::world::{
    agenda::{MILLISECOND, Nanos},
    model::EdgeModel,
    prometheus::{BOUNDS_MS, MOST_NODES_IN_PAIRS},
    state::{Outcome, World},
    tally::{ByOutcome, Series},
};

/// The period over which CPU limits are held: 100 ms, the kernel's default.
const CFS_PERIOD: Nanos = 100 * MILLISECOND;

/// A pod that is shown.
struct Shown<'a> {
    pod: u32,
    name: &'a PodName,
}

/// Both sides of a series of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reporter {
    Source,
    Destination,
}

/// Writes all families.
pub(super) fn expose(world: &mut World, entrances: &[Option<PodName>], factor: f64) -> String {
    for service in 0..world.model.ingress() {
        for place in 0..world.services[service].pods.len() {
            let pod = world.services[service].pods[place];
            world.flush(pod);
        }
    }
    let mut page = Page { world, entrances, factor, text: String::new() };
    page.mesh();
    page.containers();
    page.round_trips();
    page.text
}

struct Page<'a> {
    world: &'a World,
    entrances: &'a [Option<PodName>],
    factor: f64,
    text: String,
}

impl<'a> Page<'a> {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
    fn counter(&mut self, name: &str, labels: &str, value: u64) {
        let value = value as f64 / self.factor;
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }

    /// Pods with their own names, those by which users enter last. What has no power does
    /// not answer a scrape.
    fn shown(&self) -> Vec<Shown<'a>> {
        let world = self.world;
        let services = 0..world.model.ingress();
        let pods = services.flat_map(|service| world.services[service].pods.iter().copied());
        let powered = pods.filter(|pod| {
            let node = world.pods[*pod as usize].node;
            world.nodes[node as usize].up
        });
        let own = powered.map(|pod| Shown { pod, name: &world.pods[pod as usize].name });
        let entrances = self.entrances;
        let ingress = world.services[world.model.ingress()].pods.iter().copied();
        let named = ingress.filter_map(|pod| {
            let name = entrances[world.entrance_zone(pod)?].as_ref()?;
            Some(Shown { pod, name })
        });
        own.chain(named).collect()
    }

    /// Calls `each` for every series of the mesh of one protocol.
    fn each_series(&mut self, protocol: Protocol, mut each: impl FnMut(&mut Self, &str, &Series)) {
        let world = self.world;
        let Some(tally) = &world.tally else { return };
        for Shown { pod, name } in self.shown() {
            let Some(tally) = tally.pod(pod) else { continue };
            let sides = [(Reporter::Source, &tally.sent), (Reporter::Destination, &tally.served)];
            for (reporter, edges) in sides {
                for (edge, outcomes) in edges {
                    let edge = &world.model.edges[*edge as usize];
                    if edge.protocol == protocol {
                        self.each_outcome(reporter, name, edge, outcomes, &mut each);
                    }
                }
            }
        }
    }

    fn each_outcome(
        &mut self,
        reporter: Reporter,
        pod: &PodName,
        edge: &EdgeModel,
        outcomes: &ByOutcome,
        each: &mut impl FnMut(&mut Self, &str, &Series),
    ) {
        for (outcome, series) in outcomes {
            let labels = self.labels(reporter, pod, edge, *outcome);
            each(self, &labels, series);
        }
    }

    fn mesh(&mut self) {
        self.family("istio_requests_total", "counter", "Requests by what they were answered.");
        self.each_series(Protocol::Http, |page, labels, series| {
            page.counter("istio_requests_total", labels, series.counters.requests);
        });
        let name = "istio_request_duration_milliseconds";
        self.family(name, "histogram", "Time from a request to its answer.");
        self.each_series(Protocol::Http, |page, labels, series| page.durations(labels, series));
        for (name, bytes) in [
            ("istio_request_bytes", (|series| series.counters.request_bytes) as fn(&Series) -> u64),
            ("istio_response_bytes", |series| series.counters.response_bytes),
        ] {
            self.family(name, "histogram", "Sizes of bodies.");
            self.each_series(Protocol::Http, |page, labels, series| {
                let requests = series.counters.requests;
                page.counter(&format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), requests);
                page.counter(&format!("{name}_sum"), labels, bytes(series));
                page.counter(&format!("{name}_count"), labels, requests);
            });
        }
        for (name, help, bytes) in [
            (
                "istio_tcp_received_bytes_total",
                "Bytes of requests over plain connections.",
                (|series| series.counters.request_bytes) as fn(&Series) -> u64,
            ),
            (
                "istio_tcp_sent_bytes_total",
                "Bytes of responses over plain connections.",
                |series| series.counters.response_bytes,
            ),
        ] {
            self.family(name, "counter", help);
            let mut last: Option<(String, u64)> = None;
            // Connections do not tell how exchanges ended: outcomes are added up.
            self.each_series(Protocol::Tcp, |page, labels, series| {
                let bytes = bytes(series);
                match &mut last {
                    Some((same, sum)) if same == labels => *sum += bytes,
                    _ => {
                        if let Some((labels, sum)) = last.replace((labels.to_owned(), bytes)) {
                            page.counter(name, &labels, sum);
                        }
                    }
                }
            });
            if let Some((labels, sum)) = last {
                self.counter(name, &labels, sum);
            }
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn durations(&mut self, labels: &str, series: &Series) {
        let name = "istio_request_duration_milliseconds";
        let mut below = 0;
        for (count, bound) in series.counters.buckets.iter().zip(BOUNDS_MS) {
            below += count;
            self.counter(&format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), below);
        }
        let requests = series.counters.requests;
        self.counter(&format!("{name}_bucket"), &format!("{labels},le=\"+Inf\""), requests);
        let sum = series.took as f64 * 1e-6 / self.factor;
        let _ = writeln!(self.text, "{name}_sum{{{labels}}} {sum}");
        self.counter(&format!("{name}_count"), labels, requests);
    }

    /// The labels of a series of the mesh.
    fn labels(
        &self,
        reporter: Reporter,
        pod: &PodName,
        edge: &EdgeModel,
        outcome: Outcome,
    ) -> String {
        let model = &self.world.model;
        let mut text = format!("namespace=\"{}\",pod=\"{}\"", pod.namespace(), pod.name());
        let mut put = |name: &str, value: &str| {
            let _ = write!(text, ",{name}=\"{value}\"");
        };
        put("reporter", if reporter == Reporter::Source { "source" } else { "destination" });
        // Users enter by a pod of the ingress, or from outside of the mesh.
        let entrance = self.entrances.iter().flatten().next().map(PodName::namespace);
        let from_mesh = edge.caller != model.ingress() || entrance.is_some();
        let caller = &model.services[edge.caller].workload;
        // Its pods may lie in a namespace of their own.
        let entrance = entrance.filter(|_| edge.caller == model.ingress());
        let namespace = entrance.unwrap_or_else(|| caller.namespace());
        let caller = from_mesh.then(|| (caller.name(), namespace.as_str()));
        side("source", caller, &mut put);
        let callee = &model.services[edge.callee].workload;
        let namespace = callee.namespace();
        let chosen = outcome != Outcome::NoEndpoint || edge.protocol == Protocol::Tcp;
        side("destination", chosen.then(|| (callee.name(), namespace.as_str())), &mut put);
        let host = &model.services[edge.callee].host;
        put("destination_service", host.as_str());
        put("destination_service_name", host.service());
        put("destination_service_namespace", host.namespace().as_str());
        let secured = reporter == Reporter::Destination && from_mesh;
        let (code, flags) = answered(outcome);
        match edge.protocol {
            Protocol::Http => {
                put("request_protocol", "http");
                put("response_code", code);
                put("response_flags", flags);
            }
            Protocol::Tcp => {
                put("request_protocol", "tcp");
                put("response_flags", "-");
            }
        }
        put("connection_security_policy", if secured { "mutual_tls" } else { "unknown" });
        text
    }

    fn containers(&mut self) {
        let world = self.world;
        let pods = self.shown();
        let own: Vec<_> =
            pods.iter().filter(|shown| world.entrance_zone(shown.pod).is_none()).collect();
        let labels = |shown: &Shown<'_>, container: &str| {
            let (namespace, pod) = (shown.name.namespace(), shown.name.name());
            format!("container=\"{container}\",namespace=\"{namespace}\",pod=\"{pod}\"")
        };
        let service = |shown: &Shown<'_>| world.pods[shown.pod as usize].service as usize;
        let name = |shown: &Shown<'_>| world.model.services[service(shown)].workload.name();

        let metric = "container_cpu_usage_seconds_total";
        self.family(metric, "counter", "CPU time used.");
        for shown in &own {
            let cpu = world.pods[shown.pod as usize].cpu / self.factor;
            for container in ["", name(shown)] {
                let _ = writeln!(self.text, "{metric}{{{}}} {cpu}", labels(shown, container));
            }
        }
        let metric = "container_memory_working_set_bytes";
        self.family(metric, "gauge", "Memory in use.");
        for shown in &own {
            let model = &world.model.services[service(shown)];
            let inside = u64::from(world.pods[shown.pod as usize].inside);
            let memory = (model.memory_base + model.memory_per_request.times(inside)).get();
            for container in ["", name(shown)] {
                let _ = writeln!(self.text, "{metric}{{{}}} {memory}", labels(shown, container));
            }
        }
        let limited = |shown: &&&Shown<'_>| world.model.services[service(shown)].limit.is_some();
        let periods = |shown: &Shown<'_>| {
            let since = World::nanos_of(world.pods[shown.pod as usize].created_at);
            (world.now - since.min(world.now)) / CFS_PERIOD
        };
        let throttled =
            |shown: &Shown<'_>| world.pods[shown.pod as usize].throttled_time / CFS_PERIOD;
        let metric = "container_cpu_cfs_periods_total";
        self.family(metric, "counter", "Periods over which the CPU limit was held.");
        for shown in own.iter().filter(limited) {
            self.counter(metric, &labels(shown, name(shown)), periods(shown));
        }
        let metric = "container_cpu_cfs_throttled_periods_total";
        self.family(metric, "counter", "Periods in which the CPU limit was met.");
        for shown in own.iter().filter(limited) {
            self.counter(metric, &labels(shown, name(shown)), throttled(shown));
        }
    }

    /// Between all nodes; in large clusters between the first two of each zone.
    fn round_trips(&mut self) {
        let world = self.world;
        if !world.scenario.metrics.latency_exporter {
            return;
        }
        let metric = "node_avg_latency_ms";
        self.family(metric, "gauge", "Round-trip time from one node to another.");
        let mut nodes: Vec<usize> = (0..world.nodes.len())
            .filter(|node| !world.model.nodes[*node].gateway && world.nodes[*node].up)
            .collect();
        nodes.sort_by(|a, b| world.model.nodes[*a].name.cmp(&world.model.nodes[*b].name));
        if nodes.len() > MOST_NODES_IN_PAIRS {
            let mut taken = vec![0; world.model.zones.len()];
            nodes.retain(|node| {
                let count = &mut taken[world.model.nodes[*node].zone];
                *count += 1;
                *count <= 2
            });
        }
        for from in &nodes {
            for to in &nodes {
                let half = world.half_between(*from, *to);
                let rtt = world.measured(half, *from, *to, world.now).get();
                let name = |node: &usize| &world.model.nodes[*node].name;
                let (from, to) = (name(from), name(to));
                let _ =
                    writeln!(self.text, "{metric}{{from_node=\"{from}\",to_node=\"{to}\"}} {rtt}");
            }
        }
    }
}

/// The labels of one side of a series: a workload (with its namespace), or nobody known.
fn side(side: &str, workload: Option<(&str, &str)>, put: &mut impl FnMut(&str, &str)) {
    let (name, namespace) = workload.unwrap_or(("unknown", "unknown"));
    let principal = match workload {
        Some((name, namespace)) => format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"),
        None => "unknown".to_owned(),
    };
    let known = |text: &'static str| if workload.is_some() { text } else { "unknown" };
    put(&format!("{side}_workload"), name);
    put(&format!("{side}_workload_namespace"), namespace);
    put(&format!("{side}_canonical_service"), name);
    put(&format!("{side}_canonical_revision"), "latest");
    put(&format!("{side}_principal"), &principal);
    put(&format!("{side}_app"), name);
    put(&format!("{side}_version"), "unknown");
    put(&format!("{side}_cluster"), known("Kubernetes"));
}

/// Response code and flags of Envoy: upstream overflow, connection failure, no healthy
/// upstream, and a caller that hung up.
const fn answered(outcome: Outcome) -> (&'static str, &'static str) {
    match outcome {
        Outcome::Succeeded => ("200", "-"),
        Outcome::Downstream => ("500", "-"),
        Outcome::Refused => ("503", "UO"),
        Outcome::Unreachable => ("503", "UF,URX"),
        Outcome::NoEndpoint => ("503", "UH"),
        Outcome::GivenUp => ("0", "DC"),
    }
}
