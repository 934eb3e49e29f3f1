//! A fake Prometheus that knows which query it is asked, and a small cluster: two zones,
//! `front` (one pod each) calls `cart` (one pod each), which keeps a connection to `redis`.
#![allow(dead_code)] // Each test file uses its part.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex},
};

use stornx_core::{
    model::{
        ClusterFacts, Host, MetricsFacts, Node, Pod, PodPhase, RouteTraffic, Rule, Snapshot,
        Steering, Traces, Traffic, Workload,
    },
    ports::MetricsSource,
    units::{Resources, Span, Timestamp},
};
use stornx_prom::{Prometheus, PrometheusOptions, PrometheusOptionsBuilder, QUERIES};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
/// What Prometheus's clock says then, seconds.
pub(crate) const EVALUATED: f64 = 1_790_000_000.0;

pub(crate) fn node(name: &str, zone: &str) -> Node {
    Node {
        name: name.parse().unwrap(),
        zone: zone.parse().unwrap(),
        region: "region".parse().unwrap(),
        ready: true,
        schedulable: true,
        allocatable: Resources::default(),
        pod_capacity: 110,
        reserved: Resources::default(),
        reserved_pods: 0,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        named_since: None,
    }
}

pub(crate) fn workload(id: &str, pods: &[(&str, &str)]) -> Workload {
    let pods = pods.iter().map(|(name, node)| Pod {
        name: name.parse().unwrap(),
        node: Some(node.parse().unwrap()),
        phase: PodPhase::Ready,
        created_at: Timestamp::default(),
        ready_since: Some(Timestamp::from_millis(1_780_000_000_000)),
        traces: Traces::default(),
    });
    let pods: Vec<_> = pods.collect();
    Workload {
        id: id.parse().unwrap(),
        managed: true,
        desired: u32::try_from(pods.len()).unwrap(),
        requests: Resources::default(),
        limits: None,
        constraints: stornx_core::model::Constraints::default(),
        autoscaler: None,
        budget: None,
        rollout: stornx_core::model::Rollout::Settled,
        policy: stornx_core::model::WorkloadPolicy::default(),
        startup: None,
        min_ready: Span::ZERO,
        counted_by: stornx_core::model::CountBy::Unknown,
        ready_counted: None,
        proxied: false,
        pods,
    }
}

pub(crate) fn host(name: &str, backend: &str) -> Host {
    Host {
        name: format!("{name}.shop.svc.cluster.local").parse().unwrap(),
        backends: vec![backend.parse().unwrap()],
        rule: Rule::None,
        default_split: stornx_core::model::DefaultSplit::ByReplicas,
        adoptable: false,
        leftover: false,
        displaced: false,
        old_pod: None,
        foreign_endpoints: false,
        ztunnel_only: false,
    }
}

pub(crate) fn cluster() -> ClusterFacts {
    ClusterFacts {
        nodes: vec![node("n1", "a"), node("n2", "b"), node("n3", "b")],
        workloads: vec![
            workload("shop/Deployment/front", &[("shop/front-1", "n1"), ("shop/front-2", "n2")]),
            workload("shop/Deployment/cart", &[("shop/cart-1", "n1"), ("shop/cart-2", "n2")]),
            workload("shop/StatefulSet/redis", &[("shop/redis-0", "n1")]),
        ],
        hosts: vec![
            host("cart", "shop/Deployment/cart"),
            host("front", "shop/Deployment/front"),
            host("redis", "shop/StatefulSet/redis"),
        ],
        mesh: stornx_core::model::Mesh::Routable,
        steering: Steering::default(),
    }
}

/// Rows of an answer: labels (`k=v,k=v`) and values as Prometheus writes them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows(Vec<(String, String)>);

impl Rows {
    pub(crate) fn add(mut self, labels: &str, value: impl ToString) -> Self {
        self.0.push((labels.to_owned(), value.to_string()));
        self
    }

    pub(crate) fn body(&self, evaluated: f64, more: &str) -> String {
        let mut text =
            String::from(r#"{"status":"success","data":{"resultType":"vector","result":["#);
        for (at, (labels, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            let labels = labels.split(',').filter_map(|label| label.split_once('='));
            let labels: Vec<_> = labels.map(|(k, v)| format!(r#""{k}":"{v}""#)).collect();
            let labels = labels.join(",");
            write!(text, r#"{comma}{{"metric":{{{labels}}},"value":[{evaluated},"{value}"]}}"#)
                .unwrap();
        }
        write!(text, "]}}{more}}}").unwrap();
        text
    }
}

/// Labels of a row of a caller.
pub(crate) fn sent(part: &str, pod: &str, from: &str, to: &str) -> String {
    format!(
        "stornx_part={part},reporter=source,namespace=shop,pod={pod},source_workload={from},\
         source_workload_namespace=shop,destination_workload={to},\
         destination_workload_namespace=shop,destination_service={to}.shop.svc.cluster.local"
    )
}

/// Labels of a row of a callee.
pub(crate) fn served(part: &str, pod: &str, from: &str, host: &str) -> String {
    format!(
        "stornx_part={part},namespace=shop,pod={pod},source_workload={from},\
         source_workload_namespace=shop,destination_service={host}.shop.svc.cluster.local"
    )
}

pub(crate) const PODS: [&str; 5] = ["front-1", "front-2", "cart-1", "cart-2", "redis-0"];

/// Answers by query.
pub(crate) type Answers = BTreeMap<&'static str, Rows>;

/// Everything as it should be. Callers see 10 and 30 requests per second, callees 20 and
/// 20; `cart-2` fails one of ten, and callers of zone a see one more failure in ten.
pub(crate) fn answers() -> Answers {
    let mut answers = Answers::new();
    let mut last = Rows::default().add("stornx_part=latency", EVALUATED - 3.0);
    let mut usage = Rows::default();
    for pod in PODS {
        let labels = |part: &str| format!("stornx_part={part},namespace=shop,pod={pod}");
        last = last.add(&labels("usage"), EVALUATED - 7.0).add(&labels("mesh"), EVALUATED - 5.0);
        usage = usage
            .add(&labels("cpu"), 0.25)
            .add(&labels("memory"), 1e8)
            .add(&labels("periods"), 10)
            .add(&labels("throttled"), 2.5);
    }
    answers.insert("last_samples", last);
    answers.insert("usage", usage);
    let requests = Rows::default()
        .add(&sent("requests", "front-1", "front", "cart"), 10)
        .add(&sent("errors", "front-1", "front", "cart"), 1.5)
        .add(&sent("requests", "front-2", "front", "cart"), 30)
        .add(&sent("errors", "front-2", "front", "cart"), 1.5);
    answers.insert("requests_sent", requests);
    let bytes = Rows::default()
        .add(&sent("request_bytes", "front-1", "front", "cart"), 1000)
        .add(&sent("response_bytes", "front-1", "front", "cart"), 4000)
        .add(&sent("request_bytes", "front-2", "front", "cart"), 3000)
        .add(&sent("response_bytes", "front-2", "front", "cart"), 12_000);
    answers.insert("bytes_sent", bytes);
    let requests = Rows::default()
        .add(&served("requests", "front-1", "unknown", "front"), 10)
        .add(&served("requests", "front-2", "unknown", "front"), 30)
        .add(&served("requests", "cart-1", "front", "cart"), 20)
        .add(&served("requests", "cart-2", "front", "cart"), 20)
        .add(&served("errors", "cart-2", "front", "cart"), 2);
    answers.insert("requests_served", requests);
    let p95 = Rows::default()
        .add("namespace=shop,pod=cart-1", 20)
        .add("namespace=shop,pod=cart-2", 50)
        .add("namespace=shop,pod=front-1", "NaN");
    answers.insert("p95_pods", p95);
    let p95 = Rows::default()
        .add(&served("", "cart-1", "front", "cart"), 20)
        .add(&served("", "cart-2", "front", "cart"), 50);
    answers.insert("p95_edges", p95);
    let tcp = Rows::default()
        .add(&sent("request_bytes", "cart-1", "cart", "redis"), 5000)
        .add(&sent("response_bytes", "cart-1", "cart", "redis"), 15_000)
        .add(&sent("request_bytes", "cart-2", "cart", "redis"), 5000)
        .add(&sent("response_bytes", "cart-2", "cart", "redis"), 15_000);
    answers.insert("tcp_sent", tcp);
    let tcp = Rows::default()
        .add(&served("request_bytes", "redis-0", "cart", "redis"), 10_000)
        .add(&served("response_bytes", "redis-0", "cart", "redis"), 30_000);
    answers.insert("tcp_served", tcp);
    let mut latency = Rows::default();
    for (from, to, rtt) in [
        ("n1", "n1", 0.1),
        ("n1", "n2", 2.0),
        ("n1", "n3", 7.0),
        ("n2", "n1", 1.0),
        ("n2", "n3", 0.5),
    ] {
        latency = latency.add(&format!("from_node={from},to_node={to}"), rtt);
    }
    answers.insert("latency", latency);
    answers
}

/// A Prometheus that answers as it is told, query by query.
pub(crate) struct Fake {
    pub(crate) server: MockServer,
    templates: Arc<Mutex<BTreeMap<&'static str, ResponseTemplate>>>,
}

struct ByQuery {
    texts: BTreeMap<String, &'static str>,
    templates: Arc<Mutex<BTreeMap<&'static str, ResponseTemplate>>>,
}

/// The text of a query in a request.
fn asked(request: &Request) -> String {
    let body = String::from_utf8(request.body.clone()).unwrap();
    let url: reqwest::Url = format!("http://x/?{body}").parse().unwrap();
    let pairs: Vec<_> = url.query_pairs().collect();
    assert_eq!(pairs.len(), 1, "query alone, no time: {pairs:?}");
    assert_eq!(pairs[0].0, "query");
    pairs[0].1.to_string()
}

impl Respond for ByQuery {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let name = self.texts[&asked(request)];
        let templates = self.templates.lock().unwrap();
        let empty = || json(&Rows::default().body(EVALUATED, ""));
        templates.get(name).cloned().unwrap_or_else(empty)
    }
}

pub(crate) fn json(body: &str) -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_raw(body.as_bytes().to_vec(), "application/json")
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let server = MockServer::start().await;
        let options = PrometheusOptions::builder(server.uri()).build().unwrap();
        Self::serving(&options, server).await
    }

    /// One that is asked what these options ask.
    pub(crate) async fn asked_with(latency_metric: &str) -> (Self, Prometheus) {
        let server = MockServer::start().await;
        let options = PrometheusOptions::builder(server.uri()).latency_metric(latency_metric);
        let options = options.build().unwrap();
        let fake = Self::serving(&options, server).await;
        (fake, Prometheus::new(options).unwrap())
    }

    async fn serving(options: &PrometheusOptions, server: MockServer) -> Self {
        let texts = QUERIES.iter().filter_map(|query| Some((query.promql(options)?, query.name)));
        let texts = texts.collect();
        let templates = Arc::new(Mutex::new(BTreeMap::new()));
        Mock::given(matchers::method("POST"))
            .and(matchers::path("/api/v1/query"))
            .and(matchers::header("content-type", "application/x-www-form-urlencoded"))
            .respond_with(ByQuery { texts, templates: Arc::clone(&templates) })
            .mount(&server)
            .await;
        Self { server, templates }
    }

    pub(crate) async fn with(answers: &Answers) -> Self {
        let fake = Self::start().await;
        fake.answer(answers, EVALUATED);
        fake
    }

    pub(crate) fn answer(&self, answers: &Answers, evaluated: f64) {
        for (name, rows) in answers {
            self.set(name, json(&rows.body(evaluated, "")));
        }
    }

    pub(crate) fn set(&self, query: &'static str, template: ResponseTemplate) {
        self.templates.lock().unwrap().insert(query, template);
    }

    pub(crate) fn set_all(&self, template: &ResponseTemplate) {
        for query in QUERIES {
            self.set(query.name, template.clone());
        }
    }

    pub(crate) fn options(&self) -> PrometheusOptionsBuilder {
        PrometheusOptions::builder(self.server.uri())
    }

    pub(crate) fn source(&self) -> Prometheus {
        Prometheus::new(self.options().build().unwrap()).unwrap()
    }
}

pub(crate) async fn observe(source: &Prometheus) -> MetricsFacts {
    source.observe(&cluster(), NOW).await
}

/// What these answers become, joined with this cluster.
pub(crate) async fn joined(answers: &Answers, cluster: &ClusterFacts) -> Snapshot {
    let fake = Fake::with(answers).await;
    let metrics = fake.source().observe(cluster, NOW).await;
    let snapshot = Snapshot::assemble(cluster.clone(), metrics, NOW);
    assert_eq!(snapshot.problems(), []);
    snapshot
}

pub(crate) fn traffic(snapshot: &Snapshot) -> &Traffic {
    snapshot.traffic.fresh().unwrap_or_else(|| panic!("{:?}", snapshot.traffic))
}

/// Requests per second of an edge by pair of zones, rounded to thousandths.
pub(crate) fn rates(traffic: &Traffic, caller: &str, callee: &str) -> BTreeMap<String, f64> {
    routes(traffic, caller, callee, |route| route.requests.get())
}

pub(crate) fn routes(
    traffic: &Traffic,
    caller: &str,
    callee: &str,
    value: impl Fn(&RouteTraffic) -> f64,
) -> BTreeMap<String, f64> {
    let edges = traffic.edges.iter();
    let mut found = edges.filter(|e| e.caller.name() == caller && e.callee.name() == callee);
    let edge = found.next();
    assert!(found.next().is_none(), "one edge between two workloads");
    let routes = edge.map(|edge| edge.routes.as_slice()).unwrap_or_default();
    let value = |route| (value(route) * 1000.0).round() / 1000.0;
    routes.iter().map(|route| (format!("{}{}", route.from, route.to), value(route))).collect()
}

pub(crate) fn map(pairs: &[(&str, f64)]) -> BTreeMap<String, f64> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}
