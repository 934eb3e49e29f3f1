//! The API over its routes: what it answers, what it refuses, and that its description is
//! that of what it gives.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header::HeaderMap},
};
use futures::StreamExt as _;
use serde_json::Value;
use stornx_core::{
    engine::CycleOutcome,
    model::Facts,
    policy::PricePolicy,
    ports::PortError,
    units::{Span, Timestamp},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::{
    Board, Limits, Page, api, guarded,
    history::Points,
    routes,
    view::{Banner, Edges, Flow, HistoryPlace, Source, Stage, State},
};

/// A recorded snapshot and its plan, carried out or not.
fn cycle(done: bool) -> CycleOutcome {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/online-boutique.yaml");
    let snapshot = crate::commands::snapshot(std::path::Path::new(root)).unwrap();
    let effective = crate::config::load(None, |_| None).unwrap();
    let planned = crate::commands::decide(&snapshot, &effective);
    let result = |action: &stornx_core::plan::Action| {
        let (what, detail) = (action.to_string(), stornx_core::engine::DRY_RUN.to_owned());
        if done { Ok(()) } else { Err(PortError::NotTried { what, detail }) }
    };
    CycleOutcome {
        at: snapshot.taken_at,
        outcomes: planned.plan.actions.iter().map(result).collect(),
        memory: Some(snapshot.memory.clone()),
        snapshot: Some(snapshot),
        planned: Some(planned),
        violations: Vec::new(),
        errors: Vec::new(),
        took: std::collections::BTreeMap::new(),
    }
}

fn banner() -> Banner {
    Banner {
        version: "1".to_owned(),
        source: Source::Cluster,
        stage: Stage::Running,
        dry_run: true,
        leader: None,
        kubernetes: None,
        scenario: None,
        namespaces: vec!["boutique".to_owned()],
        not_ready: Vec::new(),
        next_cycle: None,
        overdue_since: None,
        history: HistoryPlace::Memory,
    }
}

fn served() -> (Arc<Board>, Router) {
    let board = Board::start(PricePolicy::default(), Span::from_seconds(3600), None);
    let page =
        Page::new(board.clone(), Arc::new(banner), CancellationToken::new(), Limits::default());
    (board, guarded(routes(page)))
}

/// Waits for the document with so high a number.
async fn shown(board: &Board, id: u64) {
    let mut documents = board.documents();
    let waited =
        tokio::time::timeout(Duration::from_secs(20), documents.wait_for(|it| it.id >= id)).await;
    waited.unwrap().unwrap();
}

async fn ask(routes: &Router, method: &str, path: &str) -> (StatusCode, HeaderMap, String) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let answer = routes.clone().oneshot(request).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, 64 << 20).await.unwrap();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(routes: &Router, path: &str) -> (StatusCode, HeaderMap, String) {
    ask(routes, "GET", path).await
}

#[tokio::test]
async fn the_state_is_what_its_type_says_and_history_grows() {
    let (board, routes) = served();
    let (status, _, before) = get(&routes, "/api/v1/state").await;
    let before: State = serde_json::from_str(&before).unwrap();
    assert_eq!((status, before.latest.id, before.latest.cycle), (StatusCode::OK, 0, None));

    board.show(Arc::new(cycle(true)));
    shown(&board, 1).await;
    // Every field of the answer is one of the type, and none is missing.
    let (_, _, text) = get(&routes, "/api/v1/state").await;
    let state: State = serde_json::from_str(&text).unwrap();
    let cycle = state.latest.cycle.unwrap();
    assert_eq!(cycle.zones.len(), 3);
    // Who calls from outside is known as a caller.
    assert_eq!(cycle.services.iter().filter(|service| service.managed).count(), 11);
    assert_eq!(cycle.services.len(), 12);
    assert!(cycle.edges.len() > 10 && cycle.edges[0].requests >= cycle.edges[1].requests);
    assert!(cycle.summary.usd_per_hour.unwrap() > 0.0);
    let cross = cycle.summary.cross_zone.unwrap();
    assert!((0.6..0.75).contains(&cross), "{cross}: every replica alike over three zones");
    assert!(!state.latest.decisions.is_empty());
    // What was written stands on the edges at once.
    let written = state.latest.decisions.iter().find_map(|one| one.host.clone()).unwrap();
    let edge = cycle.edges.iter().find(|edge| edge.host == written).unwrap();
    assert!(edge.routes.iter().all(|route| route.weight.is_some()), "{edge:?}");

    let (_, _, text) = get(&routes, "/api/v1/edges?search=redis").await;
    let found: Edges = serde_json::from_str(&text).unwrap();
    assert!(!found.edges.is_empty() && found.edges.len() < cycle.edges.len());
    assert!(found.edges.iter().all(|edge| edge.callee.ends_with("/redis")), "{found:?}");

    let (_, _, text) = get(&routes, "/api/v1/history").await;
    let history: Points = serde_json::from_str(&text).unwrap();
    assert_eq!(history.points.len(), 1);
    assert!(history.points[0].writes > 0);
    let later = history.points[0].at.as_millis() + 1;
    let (_, _, text) = get(&routes, &format!("/api/v1/history?since={later}")).await;
    assert!(serde_json::from_str::<Points>(&text).unwrap().points.is_empty());
}

#[tokio::test]
async fn what_a_dry_run_decides_again_is_counted_and_not_repeated() {
    let (board, routes) = served();
    for _ in 0..3 {
        board.show_all(Arc::new(cycle(false)));
    }
    shown(&board, 3).await;
    let (_, _, text) = get(&routes, "/api/v1/state").await;
    let state: State = serde_json::from_str(&text).unwrap();
    let planned = cycle(false).outcomes.len();
    assert_eq!(state.latest.decisions.len(), planned);
    assert!(state.latest.decisions.iter().all(|one| one.times == 3));
    assert!(state.latest.decisions.iter().all(|one| one.result.name == "dry-run"));
}

#[tokio::test]
async fn a_cycle_that_fails_is_named_and_the_last_good_one_stays() {
    let (board, routes) = served();
    board.show_all(Arc::new(cycle(true)));
    let error = PortError::Unavailable { what: "list pods".to_owned(), detail: "gone".to_owned() };
    let failed = CycleOutcome {
        at: Timestamp::from_millis(1),
        snapshot: None,
        planned: None,
        outcomes: Vec::new(),
        memory: None,
        errors: vec![stornx_core::engine::CycleError::Observe(error)],
        violations: Vec::new(),
        took: std::collections::BTreeMap::new(),
    };
    board.show_all(Arc::new(failed));
    shown(&board, 2).await;
    let (_, _, text) = get(&routes, "/api/v1/state").await;
    let state: State = serde_json::from_str(&text).unwrap();
    assert!(state.latest.problems[0].contains("list pods"), "{:?}", state.latest.problems);
    assert!(state.latest.cycle.is_some());
    assert_eq!(board.history().since(Timestamp::default()).points.len(), 1);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_with_place_and_rule() {
    let (_, routes) = served();
    for (path, status, place) in [
        ("/api/v1/history?since=yesterday", 400, "since"),
        ("/api/v1/history?since=1&since=2", 400, "since"),
        ("/api/v1/history?until=1", 400, "until"),
        ("/api/v1/edges", 400, "search"),
        ("/api/v1/edges?search=%3Cscript", 400, "search"),
        ("/api/v1/state?verbose", 400, "verbose"),
        ("/api/v1/events?id=1", 400, "id"),
        ("/api/v1/schema?x=1", 400, "x"),
        ("/api/v1/nodes", 404, "path"),
        ("/app.jsx", 404, "path"),
    ] {
        let (found, _, text) = get(&routes, path).await;
        assert_eq!(found, status, "{path}: {text}");
        let refusal: api::Refusal = serde_json::from_str(&text).unwrap();
        assert_eq!(refusal.place, place, "{path}");
        assert!(!refusal.allowed.is_empty() && !refusal.error.is_empty());
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for path in ["/", "/api/v1/state", "/api/v1/events"] {
            let (status, ..) = ask(&routes, method, path).await;
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_answer_says_how_a_browser_takes_it() {
    let (_, routes) = served();
    for path in ["/", "/app.js", "/style.css", "/icon.svg", "/api/v1/state", "/nothing"] {
        let (_, headers, text) = get(&routes, path).await;
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        // Nothing is asked of anybody else (names of XML namespaces are no addresses).
        let outside = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!outside.contains("http://") && !outside.contains("https://"), "{path}");
        for markup in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!text.contains(markup), "{path}: {markup}");
        }
    }
}

#[tokio::test]
async fn readers_of_events_are_told_the_newest_and_are_few() {
    let (board, routes) = served();
    let ask = || {
        let request = Request::get("/api/v1/events").body(Body::empty()).unwrap();
        routes.clone().oneshot(request)
    };
    let mut body = ask().await.unwrap().into_body().into_data_stream();
    let mut next = async || {
        let limit = Duration::from_secs(20);
        let chunk = tokio::time::timeout(limit, body.next()).await.unwrap().unwrap().unwrap();
        String::from_utf8(chunk.to_vec()).unwrap()
    };
    let first = next().await;
    assert!(
        first.contains("event: cycle") && first.contains("data: {\"id\":0,\"now\":"),
        "{first}"
    );
    assert!(first.contains("retry: ") && first.contains("id: 0"), "{first}");
    let second = next().await;
    assert!(second.contains("event: banner") && second.contains("dryRun"), "{second}");
    // One that does not read misses those between, and holds nobody.
    for _ in 0..5 {
        board.show_all(Arc::new(cycle(true)));
    }
    shown(&board, 5).await;
    let last = next().await;
    assert!(last.contains("data: {\"id\":5,"), "{last}");

    let mut readers = Vec::new();
    loop {
        let answer = ask().await.unwrap();
        if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
            assert!(answer.headers().contains_key("retry-after"));
            break;
        }
        readers.push(answer);
        assert!(readers.len() < 1000);
    }
    assert_eq!(readers.len(), 63);
    readers.pop();
    assert_eq!(ask().await.unwrap().status(), StatusCode::OK, "a seat that is left is free");
}

#[tokio::test]
async fn everybody_is_given_the_same_text_and_no_copy() {
    let (board, routes) = served();
    board.show_all(Arc::new(cycle(true)));
    shown(&board, 1).await;
    let held = board.documents().borrow().json.clone();
    for _ in 0..2 {
        let request = Request::get("/api/v1/state").body(Body::empty()).unwrap();
        let answer = routes.clone().oneshot(request).await.unwrap();
        let length = answer.headers()["content-length"].to_str().unwrap().parse::<usize>();
        let parts: Vec<_> = answer.into_body().into_data_stream().collect().await;
        let parts: Vec<_> = parts.into_iter().map(Result::unwrap).collect();
        assert!(parts.iter().any(|part| part.as_ptr() == held.as_ptr()));
        assert_eq!(length, Ok(parts.iter().map(|part| part.len()).sum()));
    }
}

#[tokio::test]
async fn sums_over_zones_are_of_all_edges_and_every_service_is_found() {
    let (board, routes) = served();
    let mut outcome = cycle(true);
    let snapshot = outcome.snapshot.as_mut().unwrap();
    let Facts::Fresh { value, .. } = &mut snapshot.traffic else { panic!("it is fresh") };
    let edges = value.edges.len();
    value.edges = (0..100).flat_map(|_| value.edges.clone()).collect();
    board.show_all(Arc::new(outcome));
    shown(&board, 1).await;
    let (_, _, text) = get(&routes, "/api/v1/state").await;
    let state: State = serde_json::from_str(&text).unwrap();
    assert!(state.now.as_millis() > 1_700_000_000_000);
    let cycle = state.latest.cycle.unwrap();
    assert_eq!(cycle.edges.len() + cycle.left_out.edges, 100 * edges);
    assert_eq!((cycle.edges.len(), cycle.left_out.flows), (600, 0));
    let sum: f64 = cycle.flows.iter().map(|flow| flow.requests).sum();
    let all = cycle.summary.requests.unwrap();
    assert!((sum - all).abs() < 1e-3 * all, "{sum} of {all}");
    for zone in &cycle.zones {
        let from = |flow: &&Flow| flow.from == zone.name;
        let all: f64 = cycle.flows.iter().filter(from).map(|flow| flow.requests).sum();
        let inside = cycle.flows.iter().filter(from).find(|flow| flow.to == zone.name);
        let stays = inside.map_or(0.0, |flow| flow.requests) / all;
        assert!((zone.stays.unwrap() - stays).abs() < 1e-3, "{zone:?}: {stays}");
    }
    for service in &cycle.services {
        let (_, _, text) = get(&routes, &format!("/api/v1/edges?search={}", service.id)).await;
        let found: Edges = serde_json::from_str(&text).unwrap();
        assert_eq!(found.services.first().map(|it| &it.id), Some(&service.id));
        assert_eq!(found.services_left_out, 0);
    }
}

/// One row for each field.
fn rows(schema: &Value, text: &mut String) {
    use std::fmt::Write as _;
    let required: Vec<_> = schema["required"].as_array().into_iter().flatten().collect();
    text.push_str("| field | type | meaning |\n| --- | --- | --- |\n");
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let optional =
            if required.contains(&&Value::from(name.as_str())) { "" } else { ", may be absent" };
        let meaning = field["description"].as_str().unwrap_or_default().replace('\n', " ");
        let _ = writeln!(
            text,
            "| `{name}` | {}{optional} | {} |",
            kind(field),
            meaning.replace('|', "\\|")
        );
    }
    text.push('\n');
}

/// The type of a value in words, definitions as links.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return link(name);
    }
    for join in ["anyOf", "oneOf", "allOf"] {
        if let Some(all) = schema[join].as_array() {
            return all.iter().map(kind).collect::<Vec<_>>().join(" or ");
        }
    }
    let one = |name: &str| match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" => match &schema["additionalProperties"] {
            Value::Object(_) => format!("map to {}", kind(&schema["additionalProperties"])),
            _ => "object".to_owned(),
        },
        "integer" => "whole number".to_owned(),
        "string" => "text".to_owned(),
        "boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    };
    match &schema["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).map(one).collect::<Vec<_>>().join(" or ")
        }
        _ => schema["const"].as_str().map_or_else(|| "any".to_owned(), |it| format!("`{it}`")),
    }
}

fn link(name: &str) -> String {
    format!("[{name}](#{})", name.to_lowercase())
}

/// The reference of the API.
fn reference(schema: &Value) -> String {
    use std::fmt::Write as _;
    let mut text = include_str!("api.md").to_owned();
    rows(schema, &mut text);
    for (name, one) in schema["$defs"].as_object().into_iter().flatten() {
        let about = one["description"].as_str().unwrap_or_default();
        let _ = writeln!(text, "### {name}\n\n{}\n", about.replace('|', "\\|"));
        if one["properties"].is_object() {
            rows(one, &mut text);
            continue;
        }
        let variants = ["oneOf", "anyOf"].iter().find_map(|join| one[*join].as_array());
        for variant in variants.into_iter().flatten() {
            let name = variant["const"].as_str().map(ToOwned::to_owned).or_else(|| {
                variant["properties"].as_object()?.keys().next().map(ToOwned::to_owned)
            });
            let about = variant["description"].as_str().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(text, "- `{}`: {about}", name.unwrap_or_else(|| kind(variant)));
        }
        if let Some(values) = one["enum"].as_array() {
            let values: Vec<_> = values
                .iter()
                .map(|value| format!("`{}`", value.as_str().unwrap_or_default()))
                .collect();
            let _ = writeln!(text, "One of {}.", values.join(", "));
        } else if variants.is_none() {
            let _ = writeln!(text, "A {}.", kind(one));
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

/// `docs/api.md` is the schema in words; `STORNX_BLESS=1` writes it anew.
#[test]
fn the_reference_of_the_api_is_its_schema() {
    let schema = serde_json::to_value(api::schema_of_all()).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api.md");
    let text = reference(&schema);
    if std::env::var_os("STORNX_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stands = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stands == text, "docs/api.md is out of date: STORNX_BLESS=1 writes it anew");
    // Every field says what it means.
    for (name, one) in schema["$defs"].as_object().unwrap() {
        for (field, about) in one["properties"].as_object().into_iter().flatten() {
            assert!(about["description"].is_string(), "{name}.{field} is not described");
        }
    }
}
