//! Asks one question at a time of the HTTP API of Prometheus and reads the answer up to
//! a limit.
//!
//! Queries are sent as forms (`POST /api/v1/query`): they are longer than some proxies
//! allow an address to be. No `time` is given: Prometheus evaluates at its own clock, by
//! which the ages of samples are judged. Redirections are not followed, since they would
//! turn the form into an empty address; compressed answers are counted decompressed.

use std::{
    fmt::Write as _,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use reqwest::{Response, Url, redirect};
use thiserror::Error;
use tokio::sync::Semaphore;

use crate::{
    error::{QueryError, start_of},
    options::{Auth, PrometheusOptions, check_token},
    response::{Answer, BadAnswer, Reader, Row},
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
    state: Mutex<Reached>,
}

/// Whether Prometheus is there, as far as this round has shown.
#[derive(Debug, Default)]
struct Reached {
    /// It has answered a query.
    answered: bool,
    /// Queries since then that it has not answered in time.
    silent: usize,
    /// Why the rest need not be asked.
    given_up: Option<String>,
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
        Round { authorization, state: Mutex::default() }
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
            warnings: answer.warnings.len() as u64,
            remarks: answer.infos.len() as u64,
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
        let mut reader = Reader::default();
        self.read(query, response, &mut reader, each).await?;
        let (bytes, head) = (reader.bytes(), start_of(reader.head()));
        match reader.finish() {
            Ok(answer) => Ok((answer, bytes)),
            Err(bad) => Err(bad.of(query, head)),
        }
    }

    /// Reads a body up to the limit, row by row.
    async fn read(
        &self,
        query: &'static str,
        mut response: Response,
        reader: &mut Reader,
        each: &mut (dyn FnMut(&Row<'_>) + Send),
    ) -> Result<(), QueryError> {
        while let Some(part) = response.chunk().await.map_err(|error| self.failed(query, &error))? {
            if reader.bytes() + part.len() > self.body_limit {
                return Err(QueryError::TooLarge { query, limit: self.body_limit });
            }
            let fed = reader.feed(&part, each);
            fed.map_err(|bad| bad.of(query, start_of(reader.head())))?;
        }
        Ok(())
    }

    /// What a status that is no success means. Prometheus says more in the body (400, 422,
    /// 503); whatever stands before it may not.
    async fn refused(
        &self,
        query: &'static str,
        status: StatusCode,
        mut response: Response,
    ) -> QueryError {
        let mut detail = String::new();
        if let Some(after) = response.headers().get(header::RETRY_AFTER) {
            // Not waited for: the next cycle asks again.
            let _ = write!(detail, "retry after {}; ", start_of(after.as_bytes()));
        }
        if let Some(to) = response.headers().get(header::LOCATION) {
            let _ = write!(detail, "redirects to {}; ", start_of(to.as_bytes()));
        }
        let mut reader = Reader::default();
        // What cannot be read of a failure is not needed.
        while let Ok(Some(part)) = response.chunk().await {
            let enough = reader.bytes() + part.len() > FAILURE_LIMIT;
            if enough || reader.feed(&part, &mut |_| {}).is_err() {
                break;
            }
        }
        let start = start_of(reader.head());
        match reader.finish() {
            Err(BadAnswer::Rejected { kind, detail }) => {
                return QueryError::Rejected { query, kind, detail };
            }
            _ => detail.push_str(&start),
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

impl BadAnswer {
    fn of(self, query: &'static str, start: String) -> QueryError {
        match self {
            Self::Rejected { kind, detail } => QueryError::Rejected { query, kind, detail },
            Self::Garbage(detail) => QueryError::Garbage { query, detail, start },
        }
    }
}

impl Round {
    /// Why the rest need not be asked. Without this a Prometheus that is down would be
    /// waited for once for each batch of queries.
    fn given_up(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.given_up.clone()
    }

    /// Nobody is there when there is no connection, when the first query is not answered
    /// in time, or when as many in a row are not as are under way at once. One query alone
    /// may be too heavy where the others are not.
    fn learn(&self, result: Result<(), &QueryError>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = match result {
            Ok(()) => {
                (state.answered, state.silent) = (true, 0);
                return;
            }
            Err(QueryError::Connect { .. }) => true,
            Err(QueryError::Timeout { .. }) => {
                state.silent += 1;
                !state.answered || state.silent >= AT_ONCE
            }
            Err(_) => false,
        };
        if let (true, Err(error)) = (gone, result) {
            state.given_up.get_or_insert_with(|| error.to_string());
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
