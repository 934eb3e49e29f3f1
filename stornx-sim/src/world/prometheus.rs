//! Prometheus as decisions see it: counters scraped now and then, rates over a window of
//! scrapes, quantiles from the buckets of Istio with straight lines inside them. What
//! happened since the last scrape is not known, and a pod is not known until it has been
//! scraped twice.

use std::collections::VecDeque;

use stornx_core::{
    model::{
        Edge, Facts, Latency, MetricsFacts, NodeRoundTrip, PodTraffic, PodUsage, Protocol,
        RouteTraffic, Source, Traffic, ZoneRoundTrip,
    },
    units::{Bytes, BytesPerSecond, MilliCpu, Millis, Percent, Rps, Share, Span, Timestamp},
};

use super::{
    agenda::{Kind, Nanos, SECOND},
    measure::share,
    model::{EdgeModel, nanos},
    random::hashed,
    state::World,
};

/// Upper bounds of the buckets of `istio_request_duration_milliseconds`.
pub(crate) const BOUNDS_MS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// The mesh counts bytes on TCP edges, not exchanges: rates are estimated with one
/// exchange for so many bytes, both directions together.
const BYTES_PER_TCP_EXCHANGE: f64 = 1000.0;

/// Measurements by pair of nodes up to so many nodes, by pair of zones alone above.
pub(crate) const MOST_NODES_IN_PAIRS: usize = 64;

/// The counters of one series of requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters {
    pub(crate) requests: u64,
    errors: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) buckets: [u64; BOUNDS_MS.len() + 1],
}

impl Counters {
    #[inline]
    pub(crate) fn record(&mut self, took: Nanos, succeeded: bool, request: u64, response: u64) {
        self.requests += 1;
        self.errors += u64::from(!succeeded);
        self.request_bytes += request;
        self.response_bytes += response;
        self.buckets[bucket_of(took)] += 1;
    }

    fn since(&self, earlier: &Self) -> Self {
        let mut buckets = self.buckets;
        for (count, before) in buckets.iter_mut().zip(earlier.buckets) {
            *count -= before;
        }
        Self {
            requests: self.requests - earlier.requests,
            errors: self.errors - earlier.errors,
            request_bytes: self.request_bytes - earlier.request_bytes,
            response_bytes: self.response_bytes - earlier.response_bytes,
            buckets,
        }
    }

    /// `histogram_quantile(0.95, ...)`.
    #[allow(clippy::cast_precision_loss)]
    fn p95(&self) -> Option<Millis> {
        let rank = self.requests as f64 * 0.95;
        let (mut below, mut low) = (0.0, 0.0);
        if self.requests == 0 {
            return None;
        }
        for (count, high) in self.buckets.iter().zip(BOUNDS_MS) {
            let count = *count as f64;
            if below + count >= rank {
                return Some(Millis::saturating(low + (high - low) * (rank - below) / count));
            }
            below += count;
            low = high;
        }
        Some(Millis::saturating(low))
    }
}

/// The bucket that a duration falls into.
#[inline]
fn bucket_of(took: Nanos) -> usize {
    #[allow(clippy::cast_precision_loss)]
    let millis = took as f64 * 1e-6;
    let mut bucket = usize::from(FIRST_BUCKETS[took.leading_zeros() as usize]);
    while bucket < BOUNDS_MS.len() && millis > BOUNDS_MS[bucket] {
        bucket += 1;
    }
    bucket
}

/// The first bucket that durations of so many leading zeros can fall into, so that two
/// or three comparisons find theirs.
const FIRST_BUCKETS: [u8; 65] = {
    let mut first = [0; 65];
    let mut zeros = 1;
    while zeros < 64 {
        // The least duration of so many zeros, and whole nanoseconds below a bound.
        let least = 1_u64 << (63 - zeros);
        let mut bucket = 0;
        while bucket < BOUNDS_MS.len() && BOUNDS_MS[bucket] * 1e6 < (least as f64) * 0.999 {
            bucket += 1;
        }
        first[zeros] = bucket as u8;
        zeros += 1;
    }
    first[0] = BOUNDS_MS.len() as u8;
    first
};

/// What one scrape found of a pod.
#[derive(Debug, Clone)]
struct PodSample {
    pod: u32,
    cpu: f64,
    memory: Bytes,
    served: Counters,
}

#[derive(Debug)]
struct Scrape {
    at: Nanos,
    routes: Vec<Counters>,
    /// In the order of pods.
    pods: Vec<PodSample>,
}

impl Scrape {
    fn pod(&self, pod: u32) -> Option<&PodSample> {
        let at = self.pods.binary_search_by_key(&pod, |sample| sample.pod).ok()?;
        Some(&self.pods[at])
    }
}

/// The database.
#[derive(Debug, Default)]
pub(crate) struct Prometheus {
    scrapes: VecDeque<Scrape>,
    /// Outages under way, by kind.
    pub(crate) unreachable: u32,
    pub(crate) not_scraped: u32,
}

impl World {
    /// Prometheus scrapes, unless it is down.
    pub(crate) fn scrape(&mut self) {
        let interval = nanos(self.scenario.metrics.scrape_interval);
        self.agenda.add(self.now + interval, Kind::Scrape, 0, 0);
        if self.prometheus.unreachable + self.prometheus.not_scraped > 0 {
            return;
        }
        let mut pods = Vec::new();
        for service in 0..self.model.ingress() {
            for place in 0..self.services[service].pods.len() {
                let pod = self.services[service].pods[place];
                self.flush(pod);
                let state = &self.pods[pod as usize];
                if state.alive {
                    let model = &self.model.services[service];
                    let inside = model.memory_per_request.times(u64::from(state.inside));
                    pods.push(PodSample {
                        pod,
                        cpu: state.cpu,
                        memory: model.memory_base + inside,
                        served: state.served.clone(),
                    });
                }
            }
        }
        pods.sort_unstable_by_key(|sample| sample.pod);
        let prometheus = &mut self.prometheus;
        prometheus.scrapes.push_back(Scrape { at: self.now, routes: self.routes.clone(), pods });
        // The newest scrape may not be visible yet: one more than a window is kept.
        let keep = nanos(self.scenario.metrics.rate_window) + 2 * interval;
        let delay = nanos(self.scenario.metrics.scrape_delay);
        while prometheus.scrapes.len() > 2 && prometheus.scrapes[0].at + keep + delay < self.now {
            prometheus.scrapes.pop_front();
        }
    }

    /// The scrapes that a query sees: all of the last window.
    fn window(&self) -> Option<Vec<&Scrape>> {
        let metrics = &self.scenario.metrics;
        let delay = nanos(metrics.scrape_delay);
        let visible = self.prometheus.scrapes.iter().filter(|s| s.at + delay <= self.now);
        let last = visible.clone().next_back()?;
        let from = last.at.saturating_sub(nanos(metrics.rate_window));
        let scrapes: Vec<_> = visible.filter(|scrape| scrape.at >= from).collect();
        (scrapes.len() >= 2).then_some(scrapes)
    }

    /// What the metrics say now.
    pub(crate) fn metrics_facts(&self) -> MetricsFacts {
        let missing = |reason: &str| MetricsFacts {
            usage: Facts::Missing { reason: reason.to_owned() },
            traffic: Facts::Missing { reason: reason.to_owned() },
            latency: Facts::Missing { reason: reason.to_owned() },
            warnings: Vec::new(),
        };
        if self.prometheus.unreachable > 0 {
            return missing("Prometheus does not answer");
        }
        let Some(scrapes) = self.window() else {
            return missing("a rate needs two scrapes");
        };
        let at = scrapes[scrapes.len() - 1].at;
        MetricsFacts {
            usage: self.judged(at, self.usage(&scrapes)),
            traffic: self.judged(at, self.traffic(&scrapes)),
            latency: if self.scenario.metrics.latency_exporter {
                self.judged(at, self.latency(at))
            } else {
                Facts::Missing { reason: "no exporter measures round-trip times".to_owned() }
            },
            warnings: Vec::new(),
        }
    }

    fn judged<T>(&self, at: Nanos, value: T) -> Facts<T> {
        let facts = Facts::Fresh { as_of: Self::stamp(at), source: Source::Simulator, value };
        let now: Timestamp = Self::stamp(self.now);
        facts.judged(now, self.scenario.metrics.stale_after.span())
    }

    /// Each pod of the last scrape with its first scrape in the window and the seconds
    /// between them, when it was scraped twice.
    fn pods_in<'a>(
        scrapes: &'a [&'a Scrape],
    ) -> impl Iterator<Item = (&'a PodSample, &'a PodSample, f64)> {
        let last = scrapes[scrapes.len() - 1];
        last.pods.iter().filter_map(move |sample| {
            let (at, first) = scrapes[..scrapes.len() - 1]
                .iter()
                .find_map(|scrape| Some((scrape.at, scrape.pod(sample.pod)?)))?;
            Some((first, sample, seconds(last.at - at)))
        })
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn usage(&self, scrapes: &[&Scrape]) -> Vec<PodUsage> {
        Self::pods_in(scrapes)
            .map(|(first, last, passed)| PodUsage {
                pod: self.pods[last.pod as usize].name.clone(),
                cpu: MilliCpu::new(((last.cpu - first.cpu) * 1000.0 / passed).round() as u64),
                memory: last.memory,
                throttled: None,
            })
            .collect()
    }

    fn traffic(&self, scrapes: &[&Scrape]) -> Traffic {
        let (first, last) = (scrapes[0], scrapes[scrapes.len() - 1]);
        let passed = seconds(last.at - first.at);
        let zones = self.model.zones.len();
        let mut edges = Vec::new();
        for (index, edge) in self.model.edges.iter().enumerate() {
            let mut routes = Vec::new();
            for pair in 0..zones * zones {
                let at = index * zones * zones + pair;
                let seen = last.routes[at].since(&first.routes[at]);
                if seen.requests > 0 {
                    routes.push(self.route_traffic(pair, &seen, passed, edge.protocol));
                }
            }
            if !routes.is_empty() {
                edges.push(self.edge(edge, routes));
            }
        }
        let pods = Self::pods_in(scrapes)
            .map(|(first, last, passed)| {
                let seen = last.served.since(&first.served);
                PodTraffic {
                    pod: self.pods[last.pod as usize].name.clone(),
                    requests: rate(seen.requests, passed),
                    p95: seen.p95(),
                    errors: share(seen.errors, seen.requests),
                }
            })
            .collect();
        Traffic {
            window: Span::from_millis((last.at - first.at) / 1_000_000),
            edges,
            pods,
            by_node: Vec::new(),
        }
    }

    fn edge(&self, edge: &EdgeModel, routes: Vec<RouteTraffic>) -> Edge {
        let callee = &self.model.services[edge.callee];
        Edge {
            caller: self.model.services[edge.caller].workload.clone(),
            callee: callee.workload.clone(),
            host: callee.host.clone(),
            protocol: edge.protocol,
            routes,
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn route_traffic(
        &self,
        pair: usize,
        seen: &Counters,
        passed: f64,
        protocol: Protocol,
    ) -> RouteTraffic {
        let zones = self.model.zones.len();
        let bytes = (seen.request_bytes + seen.response_bytes) as f64;
        let (requests, p95, errors) = match protocol {
            Protocol::Http => {
                (rate(seen.requests, passed), seen.p95(), share(seen.errors, seen.requests))
            }
            Protocol::Tcp => {
                let exchanges = bytes / BYTES_PER_TCP_EXCHANGE;
                (Rps::saturating(exchanges / passed), None, Share::ZERO)
            }
        };
        RouteTraffic {
            from: self.model.zones[pair / zones].name.clone(),
            to: self.model.zones[pair % zones].name.clone(),
            requests,
            request_bytes: BytesPerSecond::saturating(seen.request_bytes as f64 / passed),
            response_bytes: BytesPerSecond::saturating(seen.response_bytes as f64 / passed),
            p95,
            errors,
        }
    }

    /// A round trip of twice `half` between two places as the exporter measures it.
    pub(crate) fn measured(&self, half: Nanos, a: usize, b: usize, at: Nanos) -> Millis {
        let noise: Percent = self.scenario.metrics.latency_noise;
        let drawn = hashed(self.seed, [a as u64, b as u64, at]) * 2.0 - 1.0;
        Millis::saturating(seconds(half) * 2000.0 * (1.0 + drawn * noise.get() / 100.0))
    }

    /// Half a round trip between two nodes.
    pub(crate) fn half_between(&self, a: usize, b: usize) -> Nanos {
        let zones = self.model.zones.len();
        if a == b {
            self.model.half_same_node
        } else {
            self.model.half_trip[self.model.nodes[a].zone * zones + self.model.nodes[b].zone]
        }
    }

    /// Round-trip times as the exporter measured them at its last scrape.
    fn latency(&self, at: Nanos) -> Latency {
        let zones = self.model.zones.len();
        let measured = |half: Nanos, a: usize, b: usize| self.measured(half, a, b, at);
        let mut latency = Latency::default();
        for (a, from) in self.model.zones.iter().enumerate() {
            for (b, to) in self.model.zones.iter().enumerate() {
                latency.zones.push(ZoneRoundTrip {
                    from: from.name.clone(),
                    to: to.name.clone(),
                    rtt: measured(self.model.half_trip[a * zones + b], a, b),
                });
            }
        }
        if self.model.nodes.len() > MOST_NODES_IN_PAIRS {
            return latency;
        }
        for (a, from) in self.model.nodes.iter().enumerate() {
            for (b, to) in self.model.nodes.iter().enumerate() {
                if !self.nodes[a].up || !self.nodes[b].up {
                    continue;
                }
                let half = self.half_between(a, b);
                latency.nodes.push(NodeRoundTrip {
                    from: from.name.clone(),
                    to: to.name.clone(),
                    rtt: measured(half, zones + a, zones + b),
                });
            }
        }
        latency
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(nanos: Nanos) -> f64 {
    nanos as f64 / SECOND as f64
}

#[allow(clippy::cast_precision_loss)]
fn rate(count: u64, seconds: f64) -> Rps {
    Rps::saturating(count as f64 / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::agenda::MILLISECOND;

    #[test]
    fn quantiles_are_interpolated_inside_the_bucket() {
        let mut counters = Counters::default();
        for _ in 0..90 {
            counters.record(MILLISECOND, true, 0, 0);
        }
        for _ in 0..10 {
            counters.record(20 * MILLISECOND, false, 0, 0);
        }
        // 95 of 100: half of the ten in (10, 25] lie below.
        assert!((counters.p95().unwrap().get() - 17.5).abs() < 1e-9);
        assert_eq!(counters.since(&counters.clone()).p95(), None);
        let mut endless = Counters::default();
        endless.record(u64::MAX / 2, true, 0, 0);
        assert!((endless.p95().unwrap().get() - 3_600_000.0).abs() < 1e-9);
    }
}
