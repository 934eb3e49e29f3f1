//! What the daemon shows on `APP_PORT`. Nothing here changes anything.
//!
//! | path | shows |
//! | --- | --- |
//! | `/healthz`, `/health` | alive: the loop has turned lately |
//! | `/readyz` | all watches synced, and a first cycle done or waiting for the lease |
//! | `/metrics` | counters, in the text format of Prometheus |
//! | `/`, and the rest of `/api/v1` | the page and what it shows ([`crate::web`]) |
//! | `/api/v1/status` | what it is, who leads, what keeps it from being ready |
//! | `/api/v1/snapshot` | what the last cycle decided on: the input of `stornx plan --snapshot` |
//! | `/api/v1/plan` | what the last cycle decided, as `stornx plan -o json` prints it |

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use stornx_core::{engine::CycleOutcome, ports::Clock as _};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;

use super::{Live, clock::SystemClock, metrics::Metrics, pace};
use crate::{
    config::Settings,
    web::{
        self, BannerOf, Board, Large, Limits, Page, Seat,
        view::{Banner, Source, Stage},
    },
};

/// The loop is stuck when it has not turned for longer: every wait in it is shorter.
const STUCK: Duration = Duration::from_secs(300);

/// What the loop shows of itself.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) stage: Stage,
    /// When the loop turned last.
    pub(crate) turned: Instant,
    /// The last cycle that planned something.
    pub(crate) last: Option<Arc<Last>>,
}

/// A cycle, and what is told of it as text: made for the first who asks, shared by all.
#[derive(Debug)]
pub(crate) struct Last {
    pub(crate) outcome: Arc<CycleOutcome>,
    snapshot: OnceLock<Bytes>,
    plan: OnceLock<Bytes>,
}

impl Last {
    pub(crate) const fn new(outcome: Arc<CycleOutcome>) -> Self {
        Self { outcome, snapshot: OnceLock::new(), plan: OnceLock::new() }
    }

    fn snapshot(&self) -> Option<Bytes> {
        let snapshot = self.outcome.snapshot.as_ref()?;
        Some(self.snapshot.get_or_init(|| pretty(snapshot)).clone())
    }

    fn plan(&self) -> Option<Bytes> {
        let planned = self.outcome.planned.as_ref()?;
        Some(self.plan.get_or_init(|| pretty(planned)).clone())
    }
}

/// A value as a file of it looks. Maps have text as keys and numbers are finite: there is
/// nothing to refuse.
fn pretty(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec_pretty(value).unwrap_or_default();
    text.push(b'\n');
    // It is kept until the next cycle, and grew by doubling.
    text.shrink_to_fit();
    text.into()
}

/// The state behind the port.
#[derive(Clone)]
pub(crate) struct Shop {
    pub(crate) shown: watch::Receiver<Shown>,
    pub(crate) metrics: Arc<Metrics>,
    /// The adapters, once there is a connection.
    pub(crate) live: Arc<OnceLock<Live>>,
    pub(crate) dry_run: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    stage: Stage,
    dry_run: bool,
    /// Who holds the lease.
    leader: Option<String>,
    /// What keeps the cluster from being seen.
    not_ready: Vec<String>,
    last_cycle: Option<stornx_core::units::Timestamp>,
    actions: usize,
}

/// What stands in the banner of the page.
pub(crate) fn banner_of(shop: &Shop, settings: &Settings, board: &Arc<Board>) -> BannerOf {
    let (shop, board) = (shop.clone(), board.clone());
    let schedule = settings.schedule.clone();
    let namespaces: Vec<_> = settings.policy.namespaces.iter().map(ToString::to_string).collect();
    Arc::new(move || {
        let stage = shop.shown.borrow().stage;
        let (live, now) = (shop.live.get(), SystemClock.now());
        let last = shop.shown.borrow().last.as_ref().map(|last| last.outcome.at);
        let running = stage == Stage::Running;
        Banner {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source: Source::Cluster,
            stage,
            dry_run: shop.dry_run,
            leader: live.and_then(Live::holder),
            kubernetes: live.map(Live::kubernetes),
            scenario: None,
            namespaces: namespaces.clone(),
            not_ready: if stage == Stage::Syncing { not_ready(&shop) } else { Vec::new() },
            next_cycle: running.then(|| pace::due_after(&schedule, now)).flatten(),
            overdue_since: last
                .filter(|_| running)
                .and_then(|last| pace::overdue(&schedule, last, now)),
            history: board.history_place(),
        }
    })
}

/// Serves until `stop` is over.
pub(crate) async fn serve(
    listener: TcpListener,
    shop: Shop,
    page: Page,
    limits: Limits,
    stop: CancellationToken,
) {
    let texts = Router::new()
        .route("/api/v1/snapshot", get(snapshot))
        .route("/api/v1/plan", get(plan))
        .with_state((shop.clone(), page.large()));
    // Probes and metrics take no seat.
    let routes = Router::new()
        .route("/healthz", get(alive))
        .route("/health", get(alive))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/v1/status", get(status))
        .with_state(shop)
        .merge(texts)
        .merge(web::routes(page));
    web::serve(listener, web::guarded(routes), limits, stop).await;
}

async fn alive(State(shop): State<Shop>) -> Response {
    let still = shop.shown.borrow().turned.elapsed();
    if still < STUCK {
        "ok\n".into_response()
    } else {
        let text = format!("the loop has not turned for {} s\n", still.as_secs());
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

async fn ready(State(shop): State<Shop>) -> Response {
    let stage = shop.shown.borrow().stage;
    if stage.is_ready() {
        "ok\n".into_response()
    } else {
        let text = match stage {
            Stage::Syncing => {
                format!("not everything is seen yet\n{}\n", not_ready(&shop).join("\n"))
            }
            Stage::FirstCycle => "the first cycle is under way\n".to_owned(),
            Stage::Stopping => "stopping\n".to_owned(),
            Stage::Waiting | Stage::Running => "ok\n".to_owned(),
        };
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    }
}

fn not_ready(shop: &Shop) -> Vec<String> {
    match shop.live.get() {
        Some(live) => live.not_ready(),
        None => vec!["there is no connection to the API server yet".to_owned()],
    }
}

async fn metrics(State(shop): State<Shop>) -> Response {
    if let Some(live) = shop.live.get() {
        live.refresh(&shop.metrics).await;
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(CONTENT_TYPE, kind)], shop.metrics.page()).into_response()
}

async fn status(State(shop): State<Shop>) -> Json<Status> {
    let shown = shop.shown.borrow().clone();
    let planned = shown.last.as_ref().and_then(|last| last.outcome.planned.as_ref());
    Json(Status {
        version: env!("CARGO_PKG_VERSION"),
        stage: shown.stage,
        dry_run: shop.dry_run,
        leader: shop.live.get().and_then(Live::holder),
        not_ready: not_ready(&shop),
        last_cycle: shown.last.as_ref().map(|last| last.outcome.at),
        actions: planned.map_or(0, |planned| planned.plan.actions.len()),
    })
}

type Desk = State<(Shop, Large)>;

async fn snapshot(State((shop, large)): Desk, uri: Uri) -> Response {
    text(&shop, large.seat().map_err(|full| full.answer(uri.path())), Last::snapshot).await
}

async fn plan(State((shop, large)): Desk, uri: Uri) -> Response {
    text(&shop, large.seat().map_err(|full| full.answer(uri.path())), Last::plan).await
}

/// A text of the last cycle; 404 while there is none.
async fn text(
    shop: &Shop,
    seat: Result<Seat, Response>,
    of: fn(&Last) -> Option<Bytes>,
) -> Response {
    let seat = match seat {
        Ok(seat) => seat,
        Err(full) => return full,
    };
    let last = shop.shown.borrow().last.clone();
    match seat.make(move || last.as_deref().and_then(of).ok_or(())).await {
        Some(Ok(text)) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Some(Err(())) => {
            (StatusCode::NOT_FOUND, "no cycle has planned anything yet\n").into_response()
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
