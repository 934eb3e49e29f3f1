//! The metrics port: asks everything once, joins it with the cluster, and says of each
//! group of facts how well it is known.
//!
//! When the newest samples are from is asked first: it decides what the other answers are
//! worth, and takes all groups with it when it fails. Of the others each takes its own group
//! and no other; a group of which a part is missing is missing, since half a graph looks
//! like silence. Response times are the exception: the graph is of use without them.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use stornx_core::{
    model::{
        ClusterFacts, Edge, Facts, Latency, MetricsFacts, PodTraffic, PodUsage, Source, Traffic,
        nodes_as_places, unnameable,
    },
    ports::MetricsSource,
    units::{Millis, Rps, Share, Timestamp},
};

use crate::{
    ages::{Ages, Kind},
    client::{Client, ClientError, Round},
    error::QueryError,
    latency::Pairs,
    options::PrometheusOptions,
    places::Places,
    queries::{
        BYTES_SENT, LAST_SAMPLES, LATENCY, P95_EDGES, P95_PODS, Query, REQUESTS_SENT,
        REQUESTS_SERVED, TCP_SENT, TCP_SERVED, USAGE,
    },
    response::{Answer, Row},
    routes::{self, BYTES_PER_TCP_EXCHANGE, EdgeView, Found},
    stats::Stats,
    sums::{EdgeKey, EdgeP95, Flows, Joins, Sent, Served, take_edge_p95, take_pod_p95},
    usage::Usage,
    youth::Youth,
};

/// A clock that differs by more is worth a word, seconds. Nothing depends on it.
const CLOCK_DIFFERENCE: f64 = 30.0;

/// An edge of which a larger part goes where the cluster does not send it is worth a word,
/// when as many requests were counted: a tenth of a hundred is ten, and not chance.
const UNEXPLAINED: f64 = 0.1;
const UNEXPLAINED_OF: f64 = 100.0;

const REQUESTS: [&str; 2] = ["requests", "errors"];
const BYTES: [&str; 2] = ["request_bytes", "response_bytes"];

/// Prometheus, or anything with its HTTP API.
#[derive(Debug)]
pub struct Prometheus {
    client: Client,
    options: PrometheusOptions,
}

impl Prometheus {
    /// A source that keeps its connections.
    ///
    /// # Errors
    /// [`ClientError`] when there is no way to judge certificates.
    pub fn new(options: PrometheusOptions) -> Result<Self, ClientError> {
        Ok(Self { client: Client::new(&options)?, options })
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.client.stats()
    }
}

/// What one query gave: its rows added up, or why there are none.
type Asked<T> = Result<T, QueryError>;

/// What all queries of the mesh gave.
struct Mesh {
    sent: Asked<Sent>,
    served: Asked<Served>,
    p95_pods: Asked<BTreeMap<usize, f64>>,
    p95_edges: Asked<EdgeP95>,
    bytes: Asked<Sent>,
    tcp_sent: Asked<Sent>,
    tcp_served: Asked<Served>,
}

/// One cycle of questions.
struct Cycle<'a> {
    client: &'a Client,
    options: &'a PrometheusOptions,
    round: Round,
    places: Places<'a>,
    /// The same with nodes for zones, where all nodes are named.
    by_node: Option<Places<'a>>,
    youth: Vec<Youth>,
    now: Timestamp,
    warnings: std::sync::Mutex<BTreeSet<String>>,
}

impl Cycle<'_> {
    /// Asks a query; a query that these options do not need has no rows.
    async fn ask<T: Send>(
        &self,
        query: &Query,
        mut sums: T,
        mut take: impl FnMut(&mut T, &Row<'_>) + Send,
    ) -> Asked<(T, Answer)> {
        let Some(promql) = query.promql(self.options) else {
            return Ok((sums, Answer::default()));
        };
        let mut each = |row: &Row<'_>| take(&mut sums, row);
        let answer = self.client.ask(&self.round, query.name, &promql, &mut each).await?;
        for warning in &answer.warnings {
            self.warn(format!("query {}: {warning}", query.name));
        }
        for info in &answer.infos {
            tracing::debug!(query = query.name, info, "Prometheus remarks");
        }
        Ok((sums, answer))
    }

    async fn sums<T: Send>(
        &self,
        query: &Query,
        sums: T,
        take: impl FnMut(&mut T, &Row<'_>) + Send,
    ) -> Asked<T> {
        self.ask(query, sums, take).await.map(|(sums, _)| sums)
    }

    fn warn(&self, warning: String) {
        self.warnings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(warning);
    }

    async fn ages(&self) -> Asked<Ages> {
        let (places, labels) = (&self.places, &self.options.labels);
        let take = |ages: &mut Ages, row: &Row<'_>| ages.take(places, labels, row);
        let (mut ages, answer) = self.ask(&LAST_SAMPLES, Ages::new(places), take).await?;
        ages.finish(&answer);
        if let Some(ahead) = ages.clock_difference(self.now)
            && ahead.abs() > CLOCK_DIFFERENCE
        {
            let (seconds, which) = (ahead.abs(), if ahead > 0.0 { "ahead of" } else { "behind" });
            self.warn(format!("the clock of Prometheus is {seconds:.0} s {which} ours"));
        }
        Ok(ages)
    }

    async fn mesh(&self, fresh: &[bool]) -> Mesh {
        let (places, labels, youth) = (&self.places, &self.options.labels, self.youth.as_slice());
        let by_node = self.by_node.as_ref();
        let joins = &Joins { places, by_node, labels, fresh, youth };
        let sent = |parts| move |sums: &mut Sent, row: &Row<'_>| sums.take(joins, parts, row);
        let served = |parts| move |sums: &mut Served, row: &Row<'_>| sums.take(joins, parts, row);
        let (sent, served, p95_pods, p95_edges, bytes, tcp_sent, tcp_served) = futures::join!(
            self.sums(&REQUESTS_SENT, Sent::default(), sent(REQUESTS)),
            self.sums(&REQUESTS_SERVED, Served::default(), served(REQUESTS)),
            self.sums(&P95_PODS, BTreeMap::new(), |sums, row| take_pod_p95(sums, joins, row)),
            self.sums(&P95_EDGES, BTreeMap::new(), |sums, row| take_edge_p95(sums, joins, row)),
            self.sums(&BYTES_SENT, Sent::default(), sent(BYTES)),
            self.sums(&TCP_SENT, Sent::default(), sent(BYTES)),
            self.sums(&TCP_SERVED, Served::default(), served(BYTES)),
        );
        Mesh { sent, served, p95_pods, p95_edges, bytes, tcp_sent, tcp_served }
    }

    async fn usage(&self, fresh: &[bool]) -> Asked<Usage> {
        let (places, labels) = (&self.places, &self.options.labels);
        let take = |usage: &mut Usage, row: &Row<'_>| usage.take(places, labels, fresh, row);
        self.sums(&USAGE, Usage::new(places), take).await
    }

    async fn pairs(&self) -> Asked<Pairs> {
        let take = |pairs: &mut Pairs, row: &Row<'_>| pairs.take(&self.places, row);
        self.sums(&LATENCY, Pairs::default(), take).await
    }

    fn usage_facts(&self, ages: &Ages, usage: Asked<Usage>) -> Facts<Vec<PodUsage>> {
        let usage = match usage {
            Ok(usage) => usage,
            Err(error) => return missing(error.to_string()),
        };
        self.warn_of_silent("resource usage", ages, Kind::Usage);
        if usage.any && !usage.joined {
            return missing(self.not_joined("container metrics", Kind::Usage));
        }
        if !usage.any {
            return missing("no container metrics (container_memory_working_set_bytes) are there");
        }
        match ages.as_of(Kind::Usage, self.now) {
            Some(as_of) => {
                let value = usage.finish(&self.places, &self.youth);
                Facts::Fresh { as_of, source: Source::Prometheus, value }
            }
            None => missing(self.ended("container metrics")),
        }
    }

    fn latency_facts(&self, ages: &Ages, pairs: Asked<Pairs>) -> Facts<Latency> {
        let Some(metric) = &self.options.latency_metric else {
            return missing("no metric of round-trip times is named, none is asked for");
        };
        let pairs = match pairs {
            Ok(pairs) => pairs,
            Err(error) => return missing(error.to_string()),
        };
        if !pairs.any && ages.latency_as_of(self.now).is_some() {
            return missing(format!("{metric}: no pair of nodes was measured lately"));
        }
        if !pairs.any {
            return missing(format!(
                "no exporter measures round-trip times ({metric} is not there)"
            ));
        }
        if pairs.is_empty() {
            return missing(format!(
                "{metric} names no two nodes of the cluster in from_node and to_node"
            ));
        }
        match ages.latency_as_of(self.now) {
            Some(as_of) => {
                let value = pairs.finish(&self.places);
                Facts::Fresh { as_of, source: Source::LatencyExporter, value }
            }
            None => missing(self.ended(metric)),
        }
    }

    /// What is to be said of series of which nothing was heard lately.
    fn ended(&self, what: &str) -> String {
        format!("{what}: no sample within {}", self.options.max_sample_age)
    }

    fn traffic_facts(&self, ages: &Ages, mesh: Mesh, latency: Option<&Latency>) -> Facts<Traffic> {
        let p95_pods = self.or_without(mesh.p95_pods, "response times of replicas");
        let p95_edges = self.or_without(mesh.p95_edges, "response times of routes");
        let (sent, served, bytes, tcp_sent, tcp_served) =
            match (mesh.sent, mesh.served, mesh.bytes, mesh.tcp_sent, mesh.tcp_served) {
                (Ok(a), Ok(b), Ok(c), Ok(d), Ok(e)) => (a, b, c, d, e),
                (a, b, c, d, e) => {
                    let errors = [a.err(), b.err(), c.err(), d.err(), e.err()];
                    let error = first_asked(errors.into_iter().flatten());
                    return missing(error.map(|error| error.to_string()).unwrap_or_default());
                }
            };
        let any = sent.any || served.any || tcp_sent.any || tcp_served.any;
        let joined = sent.joined || served.joined || tcp_sent.joined || tcp_served.joined;
        if !any {
            return missing(
                "no metrics of a mesh: neither istio_requests_total nor istio_tcp_sent_bytes_total \
                 is there",
            );
        }
        let views = Views { sent, served, bytes, tcp_sent, tcp_served, p95_edges };
        let found = views.edges(&self.places, latency, Sent::edge);
        self.warn_of_unexplained(&found);
        // The way between two nodes is not in what their callees say of response times, and
        // nothing that is planned rests on it.
        let by_node = self.by_node.as_ref();
        let by_node = by_node.map(|places| views.edges(places, None, Sent::edge_by_node));
        let value = Traffic {
            window: self.options.window,
            edges: found.into_iter().map(|found| found.edge).collect(),
            by_node: by_node.into_iter().flatten().map(|found| found.edge).collect(),
            pods: views.pods(&self.places, p95_pods.as_ref()),
        };
        if !joined && value.edges.is_empty() {
            return missing(self.not_joined("metrics of the mesh", Kind::Mesh));
        }
        self.warn_of_silent("traffic", ages, Kind::Mesh);
        match ages.as_of(Kind::Mesh, self.now) {
            Some(as_of) => Facts::Fresh { as_of, source: Source::Prometheus, value },
            None => missing(self.ended("metrics of the mesh")),
        }
    }

    /// An answer that facts can do without; says so.
    fn or_without<T>(&self, asked: Asked<T>, what: &str) -> Option<T> {
        asked.map_err(|error| self.warn(format!("{what} are not known: {error}"))).ok()
    }

    fn warn_of_unexplained(&self, found: &[Found]) {
        let window = self.options.window.as_seconds_f64();
        let strange = found.iter().filter(|found| {
            let counted = found.edge.requests().get() * window;
            found.unexplained > UNEXPLAINED && counted >= UNEXPLAINED_OF
        });
        let strange: Vec<_> = strange.collect();
        let most = strange.iter().max_by(|a, b| a.unexplained.total_cmp(&b.unexplained));
        if let Some(Found { edge: Edge { caller, callee, .. }, unexplained }) = most {
            let (count, percent) = (strange.len(), unexplained * 100.0);
            self.warn(format!(
                "routes: a part of {count} edges goes to zones where neither the rule in force nor \
                 the default of the mesh sends it (a failover, a rule of somebody else, a change \
                 within the window), most of all {caller} to {callee}: {percent:.0} %"
            ));
        }
    }

    fn warn_of_silent(&self, what: &str, ages: &Ages, kind: Kind) {
        let limit = self.options.max_sample_age;
        let silent = ages.silent(kind, limit, &self.places, self.now);
        if let Some(first) = silent.iter().map(|pod| self.places.pods[*pod].name).min() {
            let count = silent.len();
            self.warn(format!(
                "{what}: no sample of {count} pods within {limit}, they are left out: {first} first"
            ));
        }
    }

    fn not_joined(&self, what: &str, kind: Kind) -> String {
        let labels = &self.options.labels;
        let (namespace, pod) = match kind {
            Kind::Usage => (&labels.usage_namespace, &labels.usage_pod),
            Kind::Mesh => (&labels.mesh_namespace, &labels.mesh_pod),
        };
        format!(
            "{what} are there, but none names a pod of the cluster in the labels {namespace} and \
             {pod}"
        )
    }
}

/// The error of a query that was asked, rather than of one that was not because of it.
fn first_asked(errors: impl Iterator<Item = QueryError>) -> Option<QueryError> {
    errors.min_by_key(|error| matches!(error, QueryError::NotAsked { .. }))
}

fn missing<T>(reason: impl Into<String>) -> Facts<T> {
    Facts::Missing { reason: reason.into() }
}

/// The graph before it is put together.
struct Views {
    sent: Sent,
    served: Served,
    bytes: Sent,
    tcp_sent: Sent,
    tcp_served: Served,
    p95_edges: Option<EdgeP95>,
}

impl Views {
    fn edges(
        &self,
        places: &Places<'_>,
        latency: Option<&Latency>,
        flows: impl Fn(&Sent, EdgeKey) -> Option<&Flows>,
    ) -> Vec<Found> {
        let mut keys: BTreeSet<EdgeKey> = self.sent.keys().chain(self.served.keys()).collect();
        keys.extend(self.tcp_sent.keys().chain(self.tcp_served.keys()));
        let edges = keys.into_iter().filter_map(|key| {
            let served = self.served.columns(key, places, self.p95_edges.as_ref());
            let tcp_served = self.tcp_served.columns(key, places, None);
            let view = EdgeView {
                sent: flows(&self.sent, key),
                bytes: flows(&self.bytes, key),
                served: served.as_deref(),
                tcp_sent: flows(&self.tcp_sent, key),
                tcp_served: tcp_served.as_deref(),
            };
            routes::edge(places, latency, key, &view)
        });
        edges.collect()
    }

    /// What replicas say that they serve; exchanges over plain connections are estimated
    /// as they are on edges, so that both mean the same.
    fn pods(&self, places: &Places<'_>, p95: Option<&BTreeMap<usize, f64>>) -> Vec<PodTraffic> {
        let (http, tcp) = (&self.served.pods, &self.tcp_served.pods);
        let pods: BTreeSet<usize> = http.keys().chain(tcp.keys()).copied().collect();
        let served = pods.into_iter().map(|pod| {
            let [requests, errors] = http.get(&pod).copied().unwrap_or_default();
            let [there, back] = tcp.get(&pod).copied().unwrap_or_default();
            let exchanges = (there + back) / BYTES_PER_TCP_EXCHANGE;
            let all = requests + exchanges;
            PodTraffic {
                pod: places.pods[pod].name.clone(),
                requests: Rps::saturating(all),
                p95: p95.and_then(|p95| p95.get(&pod)).map(|p95| Millis::saturating(*p95)),
                errors: if all > 0.0 { Share::saturating(errors / all) } else { Share::ZERO },
            }
        });
        served.collect()
    }
}

#[async_trait]
impl MetricsSource for Prometheus {
    async fn observe(&self, cluster: &ClusterFacts, now: Timestamp) -> MetricsFacts {
        let places = Places::of(cluster);
        let named = unnameable(&cluster.nodes).is_none() && !cluster.nodes.is_empty();
        let fine = named
            .then(|| ClusterFacts { nodes: nodes_as_places(&cluster.nodes), ..cluster.clone() });
        let cycle = Cycle {
            client: &self.client,
            options: &self.options,
            round: self.client.round().await,
            youth: Youth::of_all(&places, self.options.window, now),
            places,
            by_node: fine.as_ref().map(Places::of),
            now,
            warnings: std::sync::Mutex::default(),
        };
        let ages = match cycle.ages().await {
            Ok(ages) => ages,
            // Without ages nothing can be believed.
            Err(error) => {
                let reason = error.to_string();
                return MetricsFacts {
                    usage: missing(reason.clone()),
                    traffic: missing(reason.clone()),
                    latency: missing(reason),
                    warnings: Vec::new(),
                };
            }
        };
        let limit = self.options.max_sample_age;
        let (mesh_fresh, usage_fresh) =
            (ages.fresh(Kind::Mesh, limit), ages.fresh(Kind::Usage, limit));
        let (mesh, usage, pairs) =
            futures::join!(cycle.mesh(&mesh_fresh), cycle.usage(&usage_fresh), cycle.pairs());
        let latency = cycle.latency_facts(&ages, pairs);
        let recent = latency.age(now).is_some_and(|age| age <= limit);
        let measured = latency.known().filter(|_| recent);
        let traffic = cycle.traffic_facts(&ages, mesh, measured);
        let usage = cycle.usage_facts(&ages, usage);
        let warnings = cycle.warnings.into_inner();
        let warnings = warnings.unwrap_or_else(std::sync::PoisonError::into_inner);
        MetricsFacts { usage, traffic, latency, warnings: warnings.into_iter().collect() }
    }
}
