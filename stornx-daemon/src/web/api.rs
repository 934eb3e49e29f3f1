//! `/api/v1`: what the page shows, for programs. Read only. What is asked wrongly is refused
//! with what is wrong, where, and what is allowed.

use std::{convert::Infallible, sync::LazyLock};

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{
        StatusCode, Uri,
        header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use futures::stream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stornx_core::{ports::Clock as _, units::Timestamp};

use super::{
    Page, events,
    events::CycleEvent,
    history::Points,
    view::{self, Banner},
};
use crate::run::SystemClock;

/// What was asked wrongly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Refusal {
    /// In one sentence.
    pub(crate) error: String,
    /// What it is about: the name of a parameter, or the path.
    pub(crate) place: String,
    /// What was given.
    pub(crate) value: String,
    /// What is allowed.
    pub(crate) allowed: String,
}

impl Refusal {
    pub(super) fn parameter(place: &str, value: &str, allowed: &str) -> Self {
        Self {
            error: format!("{place} = {value:?}: allowed is {allowed}"),
            place: place.to_owned(),
            value: value.to_owned(),
            allowed: allowed.to_owned(),
        }
    }

    pub(super) fn answer(self, status: StatusCode) -> Response {
        (status, [(CACHE_CONTROL, "no-store")], Json(self)).into_response()
    }
}

/// Every document of `/api/v1`, for its schema.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)] // Only its schema is of interest.
pub(crate) struct Documents {
    /// `/api/v1/state`: everything that the page shows, apart from history.
    state: view::State,
    /// `/api/v1/history?since=MS`: one point for each cycle, thinned out as it ages.
    history: Points,
    /// `/api/v1/edges?search=TEXT`: services whose names contain a text and their edges, also
    /// those that a state leaves out.
    edges: view::Edges,
    /// `/api/v1/events`, event `cycle`: there is a new document.
    cycle_event: CycleEvent,
    /// `/api/v1/events`, event `banner`: the banner has changed.
    banner_event: Banner,
    /// What was asked wrongly, with status 400, 404 or 503.
    refusal: Refusal,
}

/// The schema of every document.
pub(crate) fn schema_of_all() -> schemars::Schema {
    schemars::schema_for!(Documents)
}

/// The parameters of a query, each at most once, of those that are allowed.
fn parameters<'a, const N: usize>(
    uri: &'a Uri,
    allowed: [&str; N],
) -> Result<[Option<&'a str>; N], Refusal> {
    let mut found = [None; N];
    let parts = uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty());
    for part in parts {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let names = if N == 0 { "none".to_owned() } else { allowed.join(", ") };
        let Some(at) = allowed.iter().position(|one| *one == name) else {
            return Err(Refusal {
                error: format!("there is no parameter {name:?}: allowed is {names}"),
                ..Refusal::parameter(name, value, &names)
            });
        };
        if found[at].replace(value).is_some() {
            return Err(Refusal::parameter(name, value, "one value"));
        }
    }
    Ok(found)
}

pub(super) async fn state(State(page): State<Page>, uri: Uri) -> Response {
    if let Err(refusal) = parameters(&uri, []) {
        return refusal.answer(StatusCode::BAD_REQUEST);
    }
    let seat = match page.large.seat() {
        Ok(seat) => seat,
        Err(full) => return full.answer(uri.path()),
    };
    let latest = page.board.documents().borrow().json.clone();
    match serde_json::to_string(&(page.banner)()) {
        // The larger part is text already, and everybody is given the same.
        Ok(banner) => {
            let head = format!(
                "{{\"now\":{},\"banner\":{banner},\"latest\":",
                SystemClock.now().as_millis()
            );
            let length = head.len() + latest.len() + 1;
            let parts = [Bytes::from(head), seat.hold(latest), Bytes::from_static(b"}")];
            let body = Body::from_stream(stream::iter(parts.map(Ok::<_, Infallible>)));
            ([(CONTENT_LENGTH, length)], json(body)).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn json(body: impl Into<Body>) -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    (headers, body.into()).into_response()
}

/// A value that takes a seat, as text; made apart from those who are answered at once.
async fn large<T: Serialize>(
    page: &Page,
    uri: &Uri,
    value: impl FnOnce() -> T + Send + 'static,
) -> Response {
    let seat = match page.large.seat() {
        Ok(seat) => seat,
        Err(full) => return full.answer(uri.path()),
    };
    match seat.make(move || serde_json::to_vec(&value()).map(Bytes::from)).await {
        Some(Ok(text)) => json(text),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

pub(super) async fn history(State(page): State<Page>, uri: Uri) -> Response {
    let since = parameters(&uri, ["since"]).and_then(|[since]| {
        let Some(text) = since else { return Ok(0) };
        text.parse::<u64>().map_err(|_| {
            Refusal::parameter("since", text, "a whole number of milliseconds since 1970")
        })
    });
    match since {
        Err(refusal) => refusal.answer(StatusCode::BAD_REQUEST),
        Ok(since) => {
            let board = page.board.clone();
            large(&page, &uri, move || board.history().since(Timestamp::from_millis(since))).await
        }
    }
}

pub(super) async fn edges(State(page): State<Page>, uri: Uri) -> Response {
    const ALLOWED: &str = "1 to 253 letters, digits, - . or /";
    let legal = |letter: char| letter.is_ascii_alphanumeric() || "-./".contains(letter);
    let search = parameters(&uri, ["search"]).and_then(|[search]| {
        let text = search.unwrap_or_default();
        let good = (1..=253).contains(&text.len()) && text.chars().all(legal);
        good.then_some(text).ok_or_else(|| Refusal::parameter("search", text, ALLOWED))
    });
    match search {
        Err(refusal) => refusal.answer(StatusCode::BAD_REQUEST),
        Ok(text) => {
            let document = page.board.documents().borrow().clone();
            let text = text.to_owned();
            let found = move || document.cycle.as_ref().map(|cycle| view::found(cycle, &text));
            large(&page, &uri, move || found().unwrap_or_default()).await
        }
    }
}

pub(super) async fn events(State(page): State<Page>, uri: Uri) -> Response {
    if let Err(refusal) = parameters(&uri, []) {
        return refusal.answer(StatusCode::BAD_REQUEST);
    }
    let Ok(seat) = page.seats.clone().try_acquire_owned() else {
        let refusal = Refusal::parameter("events", "one more", "fewer readers at one time");
        let answer = refusal.answer(StatusCode::SERVICE_UNAVAILABLE);
        return ([(RETRY_AFTER, "10")], answer).into_response();
    };
    let stop = page.stop.clone();
    events::stream(page.board.documents(), page.banner.clone(), stop, seat).into_response()
}

pub(super) async fn schema(uri: Uri) -> Response {
    match parameters(&uri, []) {
        Err(refusal) => refusal.answer(StatusCode::BAD_REQUEST),
        Ok([]) => {
            static TEXT: LazyLock<Bytes> =
                LazyLock::new(|| serde_json::to_vec(&schema_of_all()).unwrap_or_default().into());
            ([(CONTENT_TYPE, "application/json")], TEXT.clone()).into_response()
        }
    }
}

/// A path that is not there.
pub(super) async fn nothing(uri: Uri) -> Response {
    let allowed = "/, /api/v1/state, /api/v1/edges, /api/v1/history, /api/v1/events, /api/v1/schema, and of a \
                   daemon /api/v1/status, /api/v1/snapshot, /api/v1/plan, /metrics, /healthz, /readyz";
    let refusal = Refusal {
        error: format!("nothing is at {}", uri.path()),
        ..Refusal::parameter("path", uri.path(), allowed)
    };
    refusal.answer(StatusCode::NOT_FOUND)
}
