//! Asks one question at a time of the HTTP API of Prometheus and reads the answer up to
//! a limit.
//!
//! Queries are sent as forms (`POST /api/v1/query`): they are longer than some proxies
//! allow an address to be. No `time` is given: Prometheus evaluates at its own clock, by
//! which the ages of samples are judged. Redirections are not followed, since they would
//! turn the form into an empty address; compressed answers are counted decompressed.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Response, Url, redirect};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::{
    error::{QueryError, start_of},
    options::{Auth, PrometheusOptions, check_token},
    response::{self, Answer, BadAnswer, Row},
    stats::{Counter, Read, Stats},
    tls,
};

/// Queries under way at one time: enough to hide round trips, few enough that a small
/// Prometheus (20 queries at once by default) serves others too.
const AT_ONCE: usize = 4;

/// How much of the body of a failure is read for its text.
const FAILURE_LIMIT: usize = 64 << 10;

/// A client that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("no client for Prometheus: {detail}")]
pub struct ClientError {
    detail: String,
}

#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    url: Url,
    auth: Auth,
    timeout: Duration,
    body_limit: usize,
    permits: Semaphore,
    counter: Counter,
}

/// What the queries of one cycle have in common.
#[derive(Debug)]
pub(crate) struct Round {
    /// The header of a token; or the file that holds none, and why.
    authorization: Result<Option<HeaderValue>, (String, String)>,
    state: std::sync::Mutex<Reached>,
}

/// Whether Prometheus is there.
#[derive(Debug, Default)]
enum Reached {
    #[default]
    NotKnown,
    /// It has answered a query.
    Yes,
    /// It has not, and the rest need not be asked.
    No(String),
}

impl Client {
    pub(crate) fn new(options: &PrometheusOptions) -> Result<Self, ClientError> {
        let failed = |detail: String| ClientError { detail };
        let secure = options.base.scheme() == "https";
        let tls = tls::config(secure, options.ca.as_deref()).map_err(failed)?;
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .default_headers(options.headers.iter().cloned().collect::<HeaderMap>())
            .user_agent(concat!("stornx/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(options.timeout)
            .pool_max_idle_per_host(AT_ONCE)
            .build()
            .map_err(|error| failed(chain(&error)))?;
        let url = options.base.join("api/v1/query").map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            http,
            url,
            auth: options.auth.clone(),
            timeout: options.timeout,
            body_limit: options.body_limit,
            permits: Semaphore::new(AT_ONCE),
            counter: Counter::default(),
        })
    }

    pub(crate) fn stats(&self) -> Stats {
        self.counter.snapshot()
    }

    /// Begins the queries of a cycle: reads the token anew.
    pub(crate) async fn round(&self) -> Round {
        let authorization = match &self.auth {
            Auth::None | Auth::Basic { .. } => Ok(None),
            Auth::Bearer(token) => bearer(token.expose()).map_err(|why| (String::new(), why)),
            Auth::BearerFile(path) => {
                let read = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string());
                let header = read.and_then(|token| bearer(token.trim()));
                header.map_err(|why| (path.display().to_string(), why))
            }
        };
        Round { authorization, state: std::sync::Mutex::default() }
    }

    /// Asks one query; hands each row to `each`.
    ///
    /// # Errors
    /// [`QueryError`]; rows that were handed over before are to be thrown away.
    pub(crate) async fn ask(
        &self,
        round: &Round,
        query: &'static str,
        promql: &str,
        each: &mut (dyn FnMut(&Row<'_>) + Send),
    ) -> Result<Answer, QueryError> {
        // The semaphore is never closed; without a permit the query would still be right.
        let _permit = self.permits.acquire().await;
        if let Some(detail) = round.given_up() {
            let error = QueryError::NotAsked { query, detail };
            self.counter.count(query, Duration::ZERO, Err(&error));
            return Err(error);
        }
        let begun = Instant::now();
        let result = self.exchange(round, query, promql, each).await;
        round.learn(result.as_ref().map(|_| ()));
        let read = result.as_ref().map(|(answer, bytes)| Read {
            rows: answer.rows,
            skipped: answer.skipped,
            bytes: *bytes as u64,
        });
        self.counter.count(query, begun.elapsed(), read);
        if let Err(error) = &result {
            tracing::debug!(query, %error, "query failed");
        }
        result.map(|(answer, _)| answer)
    }

    async fn exchange(
        &self,
        round: &Round,
        query: &'static str,
        promql: &str,
        each: &mut (dyn FnMut(&Row<'_>) + Send),
    ) -> Result<(Answer, usize), QueryError> {
        let mut request = self
            .http
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json")
            .body(form("query", promql));
        if let Auth::Basic { user, password } = &self.auth {
            request = request.basic_auth(user, Some(password.expose()));
        }
        match &round.authorization {
            Ok(Some(value)) => request = request.header(header::AUTHORIZATION, value),
            Ok(None) => {}
            Err((path, detail)) => {
                let (path, detail) = (path.clone(), detail.clone());
                return Err(QueryError::Token { query, path, detail });
            }
        }
        let response = request.send().await.map_err(|error| self.failed(query, &error))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(query, status, response).await);
        }
        let body = self.body(query, response, self.body_limit).await?;
        match response::read(&body, each) {
            Ok(answer) => Ok((answer, body.len())),
            Err(BadAnswer::Rejected { kind, detail }) => {
                Err(QueryError::Rejected { query, kind, detail })
            }
            Err(BadAnswer::Garbage(detail)) => {
                Err(QueryError::Garbage { query, detail, start: start_of(&body) })
            }
        }
    }

    async fn body(
        &self,
        query: &'static str,
        mut response: Response,
        limit: usize,
    ) -> Result<Vec<u8>, QueryError> {
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| self.failed(query, &error))?
        {
            if body.len() + chunk.len() > limit {
                return Err(QueryError::TooLarge { query, limit });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// What a status that is no success means. Prometheus says more in the body (400, 422,
    /// 503); whatever stands before it may not.
    async fn refused(
        &self,
        query: &'static str,
        status: StatusCode,
        response: Response,
    ) -> QueryError {
        let mut detail = String::new();
        if let Some(after) = response.headers().get(header::RETRY_AFTER) {
            // Not waited for: the next cycle asks again.
            let _ = write!(detail, "retry after {}; ", start_of(after.as_bytes()));
        }
        if let Some(to) = response.headers().get(header::LOCATION) {
            let _ = write!(detail, "redirects to {}; ", start_of(to.as_bytes()));
        }
        let body = self.body(query, response, FAILURE_LIMIT).await.unwrap_or_default();
        match response::read(&body, &mut |_| {}) {
            Err(BadAnswer::Rejected { kind, detail }) => {
                return QueryError::Rejected { query, kind, detail };
            }
            _ => detail.push_str(&start_of(&body)),
        }
        let status = status.as_u16();
        match status {
            401 | 403 => QueryError::Unauthorised { query, status, detail },
            _ => QueryError::Status { query, status, detail },
        }
    }

    fn failed(&self, query: &'static str, error: &reqwest::Error) -> QueryError {
        if error.is_timeout() {
            QueryError::Timeout { query, after: self.timeout }
        } else if error.is_connect() {
            QueryError::Connect { query, detail: chain(error) }
        } else {
            QueryError::Broken { query, detail: chain(error) }
        }
    }
}

impl Round {
    /// Why the rest need not be asked. Without this a Prometheus that is down would be
    /// waited for once for each batch of queries.
    fn given_up(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match &*state {
            Reached::No(detail) => Some(detail.clone()),
            Reached::NotKnown | Reached::Yes => None,
        }
    }

    /// No connection means that nobody is there. A time-out means it only as long as
    /// nothing was answered: one query may be too heavy where the others are not.
    fn learn(&self, result: Result<(), &QueryError>) {
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(()) => *state = Reached::Yes,
            Err(error @ (QueryError::Connect { .. } | QueryError::Timeout { .. }))
                if matches!(*state, Reached::NotKnown) =>
            {
                *state = Reached::No(error.to_string());
            }
            Err(_) => {}
        }
    }
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

fn bearer(token: &str) -> Result<Option<HeaderValue>, String> {
    check_token(token).map_err(|allowed| format!("does not hold a token: {allowed}"))?;
    let mut value =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// One field of a form.
fn form(name: &str, value: &str) -> String {
    let mut text = String::with_capacity(name.len() + value.len() * 3 / 2);
    text.push_str(name);
    text.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'*') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}
