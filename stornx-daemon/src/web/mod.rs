//! The web page and `/api/v1`: what the loop does, for people and for programs. Nothing here
//! changes anything, and nothing is decided on it.
//!
//! | room | does |
//! | --- | --- |
//! | `view` | the documents, made from the outcome of a cycle |
//! | `board` | hands outcomes over, keeps the last document and the decisions |
//! | `history`, `keep` | one point for each cycle, thinned out; in a file where one is given |
//! | `api`, `events` | JSON and server-sent events |
//! | `large`, `port` | what readers may take: shared texts, seats, connections and time |
//! | `assets` | the page |
//!
//! The page asks for nothing outside this process, and whatever comes from the cluster is put
//! into it as text.

mod api;
mod assets;
mod board;
mod events;
mod history;
mod keep;
mod large;
mod port;
#[cfg(test)]
mod tests;
pub(crate) mod view;

use std::sync::Arc;

use axum::{
    Router,
    http::{
        HeaderValue,
        header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    middleware,
    response::Response,
    routing::get,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::view::Banner;
pub(crate) use self::{
    board::Board,
    large::{Large, Seat},
    port::{Limits, listen, serve},
};

/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Says what stands in the banner now.
pub(crate) type BannerOf = Arc<dyn Fn() -> Banner + Send + Sync>;

/// What is behind the page.
#[derive(Clone)]
pub(crate) struct Page {
    board: Arc<Board>,
    banner: BannerOf,
    /// Ends the streams of events.
    stop: CancellationToken,
    seats: Arc<Semaphore>,
    large: Large,
}

impl Page {
    pub(crate) fn new(
        board: Arc<Board>,
        banner: BannerOf,
        stop: CancellationToken,
        limits: Limits,
    ) -> Self {
        let (seats, large) = (Arc::new(Semaphore::new(limits.events)), Large::new(limits.large));
        Self { board, banner, stop, seats, large }
    }

    /// The seats for large answers, for what else there is on the port.
    pub(crate) fn large(&self) -> Large {
        self.large.clone()
    }
}

/// The page and its API.
pub(crate) fn routes(page: Page) -> Router {
    Router::new()
        .route("/api/v1/state", get(api::state))
        .route("/api/v1/edges", get(api::edges))
        .route("/api/v1/history", get(api::history))
        .route("/api/v1/events", get(api::events))
        .route("/api/v1/schema", get(api::schema))
        .merge(assets::routes())
        .fallback(api::nothing)
        .with_state(page)
}

/// Every answer of the port says how a browser is to take it.
pub(crate) fn guarded(routes: Router) -> Router {
    routes.layer(middleware::map_response(|mut answer: Response| async move {
        let headers = answer.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        answer
    }))
}
