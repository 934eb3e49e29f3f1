//! Whatever goes wrong between us and Prometheus: named, contained, over with the next
//! cycle.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests are tests.

mod support;

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use stornx_core::{
    model::{Facts, MetricsFacts},
    ports::MetricsSource,
    testing::contract,
    units::Span,
};
use stornx_prom::{Auth, Prometheus, PrometheusOptions, QUERIES, Secret};
use support::{EVALUATED, Fake, NOW, Rows, answers, cluster, json, observe, workload};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use wiremock::ResponseTemplate;

fn reason<T>(facts: &Facts<T>) -> &str {
    match facts {
        Facts::Missing { reason } => reason,
        _ => panic!("known"),
    }
}

/// All groups are missing for this reason.
fn all_missing(metrics: &MetricsFacts, part: &str) {
    for reason in [reason(&metrics.usage), reason(&metrics.traffic), reason(&metrics.latency)] {
        assert!(reason.contains(part), "{reason:?} does not contain {part:?}");
    }
}

/// Everything is known again.
async fn all_fresh(source: &Prometheus) {
    let metrics = observe(source).await;
    assert!(metrics.usage.fresh().is_some(), "{:?}", metrics.usage);
    assert!(metrics.traffic.fresh().is_some(), "{:?}", metrics.traffic);
    assert!(metrics.latency.fresh().is_some(), "{:?}", metrics.latency);
    assert!(metrics.warnings.is_empty(), "{:?}", metrics.warnings);
}

fn results(source: &Prometheus, query: &str) -> Vec<(&'static str, u64)> {
    let stats = source.stats();
    let found = stats.queries.iter().find(|(name, _)| **name == query);
    found.map(|(_, stats)| stats.results.clone().into_iter().collect()).unwrap_or_default()
}

#[tokio::test]
async fn the_port_keeps_its_promises() {
    let fake = Fake::with(&answers()).await;
    contract::metrics_source(&fake.source(), &cluster(), NOW).await;
    contract::metrics_source(&Fake::start().await.source(), &cluster(), NOW).await;
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let source = Prometheus::new(PrometheusOptions::builder(url).build().unwrap()).unwrap();
    all_missing(&observe(&source).await, "query last_samples: no connection to Prometheus");
    assert_eq!(results(&source, "last_samples"), [("connect", 1)]);
    assert_eq!(source.stats().last_success_age, None);
    assert_eq!(source.stats().queries.len(), 1, "the rest need not be asked");
}

#[tokio::test]
async fn too_slow() {
    let fake = Fake::with(&answers()).await;
    let options = fake.options().timeout(Duration::from_secs(1)).build().unwrap();
    let source = Prometheus::new(options).unwrap();
    all_fresh(&source).await;
    fake.set_all(&json("{}").set_delay(Duration::from_secs(60)));
    all_missing(&observe(&source).await, "query last_samples: no answer within 1s");
    fake.answer(&answers(), EVALUATED);
    all_fresh(&source).await;
    assert_eq!(results(&source, "last_samples"), [("ok", 2), ("timeout", 1)]);
}

#[tokio::test]
async fn one_slow_query_takes_its_group_alone() {
    let fake = Fake::with(&answers()).await;
    fake.set("usage", json("{}").set_delay(Duration::from_secs(60)));
    let options = fake.options().timeout(Duration::from_secs(2)).build().unwrap();
    let metrics = observe(&Prometheus::new(options).unwrap()).await;
    assert_eq!(reason(&metrics.usage), "query usage: no answer within 2s");
    assert!(metrics.traffic.fresh().is_some() && metrics.latency.fresh().is_some());
}

#[tokio::test]
async fn gone_in_the_middle() {
    let fake = Fake::with(&answers()).await;
    for query in QUERIES.into_iter().filter(|query| query.name != "last_samples") {
        fake.set(query.name, json("{}").set_delay(Duration::from_secs(60)));
    }
    let options = fake.options().timeout(Duration::from_secs(1)).build().unwrap();
    let source = Prometheus::new(options).unwrap();
    let metrics = observe(&source).await;
    assert!(reason(&metrics.traffic).contains("no answer within 1s"));
    let count = |kind| {
        let stats = source.stats();
        let results = stats.queries.values().filter_map(|query| query.results.get(kind));
        results.sum::<u64>()
    };
    // Four are under way at once: when all of them were silent the rest is not waited for.
    // Each of the first three that runs out makes room for one more, which a busy machine
    // may begin before the fourth runs out too.
    let (silent, not_asked) = (count("timeout"), count("not_asked"));
    assert_eq!((count("ok"), silent + not_asked), (1, 9));
    assert!((4..=7).contains(&silent), "{silent}");
}

#[tokio::test]
async fn each_failing_query_takes_its_own_group() {
    let fake = Fake::with(&answers()).await;
    let source = fake.source();
    for query in QUERIES {
        fake.answer(&answers(), EVALUATED);
        fake.set(query.name, ResponseTemplate::new(500).set_body_string("oh no"));
        let metrics = observe(&source).await;
        let missing = |facts: bool| !facts;
        let lost = [
            missing(metrics.usage.fresh().is_some()),
            missing(metrics.traffic.fresh().is_some()),
            missing(metrics.latency.fresh().is_some()),
        ];
        let (expected, warnings) = match query.name {
            "last_samples" => ([true, true, true], 0),
            "usage" => ([true, false, false], 0),
            "latency" => ([false, false, true], 0),
            // Facts can do without response times, and say so.
            "p95_pods" | "p95_edges" => ([false, false, false], 1),
            _ => ([false, true, false], 0),
        };
        assert_eq!(lost, expected, "{}", query.name);
        assert_eq!(metrics.warnings.len(), warnings, "{:?}", metrics.warnings);
    }
    fake.answer(&answers(), EVALUATED);
    all_fresh(&source).await;
}

#[tokio::test]
async fn partial_answers_are_used_and_their_warnings_carried() {
    let fake = Fake::with(&answers()).await;
    let more = r#","warnings":["store 3 is not there","store 4 is not there"],"infos":["metric might not be a counter"]"#;
    fake.set("usage", json(&answers()["usage"].body(EVALUATED, more)));
    let source = fake.source();
    let metrics = observe(&source).await;
    assert_eq!(metrics.usage.fresh().unwrap().len(), 5);
    assert_eq!(
        metrics.warnings,
        ["query usage: store 3 is not there", "query usage: store 4 is not there"]
    );
    let stats = &source.stats().queries["usage"];
    assert_eq!((stats.warnings, stats.remarks, stats.rows), (2, 1, 20));
}

#[tokio::test]
async fn whatever_is_no_answer_is_named_with_how_it_begins() {
    let fake = Fake::with(&answers()).await;
    let source = fake.source();
    let whole = answers()["usage"].body(EVALUATED, "");
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let wrong = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"pod":7},"value":[1,"1"]}]}}"#;
    for (body, part) in [
        ("<html>\nlogin</html>", r#""<html> login</html>""#),
        (&whole[..whole.len() - 30], "EOF"),
        (matrix, "resultType is \"matrix\", not \"vector\""),
        (wrong, "invalid type: integer `7`"),
        ("", "EOF"),
    ] {
        fake.set("usage", json(body));
        let metrics = observe(&source).await;
        let reason = reason(&metrics.usage);
        assert!(reason.starts_with("query usage: not an answer of Prometheus"), "{reason}");
        assert!(reason.contains(part), "{reason}");
        assert!(metrics.traffic.fresh().is_some());
    }
    fake.answer(&answers(), EVALUATED);
    all_fresh(&source).await;
    assert_eq!(results(&source, "usage"), [("garbage", 5), ("ok", 1)]);
}

#[tokio::test]
async fn statuses_say_what_they_mean() {
    let fake = Fake::with(&answers()).await;
    let source = fake.source();
    let rejected = r#"{"status":"error","errorType":"execution","error":"too many samples"}"#;
    for (template, expected) in [
        (
            ResponseTemplate::new(401).set_body_string("who are you"),
            "query usage: not let in (status 401): who are you",
        ),
        (ResponseTemplate::new(403), "query usage: not let in (status 403): "),
        (
            ResponseTemplate::new(429).insert_header("retry-after", "30"),
            "query usage: status 429: retry after 30; ",
        ),
        (
            ResponseTemplate::new(503).set_body_string(rejected),
            "query usage: Prometheus says execution: too many samples",
        ),
        (
            ResponseTemplate::new(200).set_body_string(rejected),
            "query usage: Prometheus says execution: too many samples",
        ),
        (
            ResponseTemplate::new(302).insert_header("location", "/login"),
            "query usage: status 302: redirects to /login; ",
        ),
    ] {
        fake.set("usage", template);
        assert_eq!(reason(&observe(&source).await.usage), expected);
    }
}

#[tokio::test]
async fn answers_beyond_the_limit_are_not_read_to_their_end() {
    let fake = Fake::with(&answers()).await;
    let small = |limit| Prometheus::new(fake.options().body_limit(limit).build().unwrap()).unwrap();
    let huge = vec![b' '; 200_000];
    fake.set("usage", ResponseTemplate::new(200).set_body_raw(huge.clone(), "application/json"));
    let metrics = observe(&small(100_000)).await;
    assert_eq!(reason(&metrics.usage), "query usage: the answer has more than 100000 bytes");
    // What counts is what it becomes, not what is sent.
    let squeezed = gzip(&huge);
    assert!(squeezed.len() < 1000);
    let template = ResponseTemplate::new(200).insert_header("content-encoding", "gzip");
    fake.set("usage", template.set_body_raw(squeezed, "application/json"));
    let metrics = observe(&small(100_000)).await;
    assert_eq!(reason(&metrics.usage), "query usage: the answer has more than 100000 bytes");
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn compressed_answers_are_read() {
    let fake = Fake::start().await;
    for (name, rows) in answers() {
        let body = gzip(rows.body(EVALUATED, "").as_bytes());
        let template = ResponseTemplate::new(200).insert_header("content-encoding", "gzip");
        fake.set(name, template.set_body_raw(body, "application/json"));
    }
    all_fresh(&fake.source()).await;
    let requests = fake.server.received_requests().await.unwrap();
    assert!(requests.iter().all(|request| request.headers["accept-encoding"] == "gzip"));
}

#[tokio::test]
async fn a_clock_that_differs_is_a_warning_and_no_age() {
    let fake = Fake::start().await;
    for (ahead, expected) in [
        (-300.0, Some("the clock of Prometheus is 300 s behind ours")),
        (31.0, Some("the clock of Prometheus is 31 s ahead of ours")),
        (-29.0, None),
    ] {
        let mut shifted = answers();
        let mut last = Rows::default().add("stornx_part=latency", EVALUATED + ahead - 4.0);
        for pod in support::PODS {
            for part in ["usage", "mesh"] {
                let labels = format!("stornx_part={part},namespace=shop,pod={pod}");
                last = last.add(&labels, EVALUATED + ahead - 4.0);
            }
        }
        shifted.insert("last_samples", last);
        fake.answer(&shifted, EVALUATED + ahead);
        let metrics = observe(&fake.source()).await;
        assert_eq!(metrics.warnings, expected.into_iter().collect::<Vec<_>>());
        assert_eq!(metrics.usage.age(NOW), Some(Span::from_seconds(4)));
        assert_eq!(metrics.traffic.age(NOW), Some(Span::from_seconds(4)));
        assert_eq!(metrics.usage.fresh().unwrap().len(), 5);
    }
}

#[tokio::test]
async fn who_we_are_goes_with_every_query() {
    let fake = Fake::with(&answers()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let header = async |expected: &str| {
        let requests = fake.server.received_requests().await.unwrap();
        for request in &requests[requests.len() - QUERIES.len()..] {
            assert_eq!(request.headers["authorization"], expected);
            assert_eq!(request.headers["x-scope-orgid"], "shop");
        }
    };
    let with = |auth| {
        let options = fake.options().auth(auth).header("X-Scope-OrgID", "shop");
        Prometheus::new(options.build().unwrap()).unwrap()
    };
    all_fresh(&with(Auth::Bearer(Secret::new("abc")))).await;
    header("Bearer abc").await;
    let basic = Auth::Basic { user: "me".to_owned(), password: Secret::new("hush") };
    all_fresh(&with(basic)).await;
    header("Basic bWU6aHVzaA==").await;

    let from_file = with(Auth::BearerFile(file.clone()));
    all_missing(&observe(&from_file).await, "query last_samples: token file");
    std::fs::write(&file, "first\n").unwrap();
    all_fresh(&from_file).await;
    header("Bearer first").await;
    std::fs::write(&file, "second\n").unwrap();
    all_fresh(&from_file).await;
    header("Bearer second").await;
    std::fs::write(&file, "two words").unwrap();
    all_missing(&observe(&from_file).await, "does not hold a token");
}

#[tokio::test]
async fn a_path_before_the_api_is_kept() {
    let fake = Fake::with(&answers()).await;
    let url = format!("{}/prometheus", fake.server.uri());
    let source = Prometheus::new(PrometheusOptions::builder(url).build().unwrap()).unwrap();
    // The fake knows no such path.
    all_missing(&observe(&source).await, "query last_samples: status 404");
    let requests = fake.server.received_requests().await.unwrap();
    assert_eq!(requests[0].url.path(), "/prometheus/api/v1/query");
}

#[tokio::test]
async fn the_number_of_queries_does_not_depend_on_the_cluster() {
    let mut counts = Vec::new();
    for workloads in [1, 300] {
        let fake = Fake::with(&answers()).await;
        let mut cluster = cluster();
        for number in 0..workloads {
            let names: Vec<_> = (0..5).map(|pod| format!("shop/w{number}-{pod}")).collect();
            let pods: Vec<_> = names.iter().map(|name| (name.as_str(), "n1")).collect();
            cluster.workloads.push(workload(&format!("shop/Deployment/w{number}"), &pods));
        }
        let metrics = fake.source().observe(&cluster, NOW).await;
        assert!(metrics.traffic.fresh().is_some());
        counts.push(fake.server.received_requests().await.unwrap().len());
    }
    assert_eq!(counts, [QUERIES.len(), QUERIES.len()]);
    assert!(counts[0] <= 12);
}

/// A server that answers every request with nothing, and counts connections.
async fn bare_server(listener: TcpListener, connections: Arc<AtomicUsize>) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(answer_all(stream));
    }
}

async fn answer_all(mut stream: TcpStream) {
    while read_request(&mut stream).await.is_some() {
        let body = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request with its body.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?.to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut body = vec![0; length.parse().ok()?];
    stream.read_exact(&mut body).await.ok().map(|_| ())
}

#[tokio::test]
async fn connections_are_few_and_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let server = tokio::spawn(bare_server(listener, Arc::clone(&connections)));
    let source = Prometheus::new(PrometheusOptions::builder(url).build().unwrap()).unwrap();
    for _ in 0..20 {
        all_missing(&observe(&source).await, "");
    }
    assert_eq!(results(&source, "usage"), [("ok", 20)]);
    let connections = connections.load(Ordering::SeqCst);
    assert!(connections <= 4, "{connections} connections for 200 queries");
    server.abort();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_said_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_request(&mut stream).await;
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"status\":";
            stream.write_all(half).await.unwrap();
        }
    });
    let source = Prometheus::new(PrometheusOptions::builder(url).build().unwrap()).unwrap();
    all_missing(&observe(&source).await, "query last_samples: the answer broke off");
    server.abort();
}
