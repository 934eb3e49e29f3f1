//! What can go wrong with one query. Each says which query and what came back.

use std::time::Duration;

use thiserror::Error;

/// A query without a usable answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QueryError {
    /// No connection.
    #[error("query {query}: no connection to Prometheus: {detail}")]
    Connect {
        /// Which query.
        query: &'static str,
        /// Why not.
        detail: String,
    },
    /// Not answered in time.
    #[error("query {query}: no answer within {after:?}")]
    Timeout {
        /// Which query.
        query: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The connection broke before the answer had ended.
    #[error("query {query}: the answer broke off: {detail}")]
    Broken {
        /// Which query.
        query: &'static str,
        /// What happened.
        detail: String,
    },
    /// An answer beyond the limit.
    #[error("query {query}: the answer has more than {limit} bytes")]
    TooLarge {
        /// Which query.
        query: &'static str,
        /// The limit in bytes, decompressed.
        limit: usize,
    },
    /// 401 or 403.
    #[error("query {query}: not let in (status {status}): {detail}")]
    Unauthorised {
        /// Which query.
        query: &'static str,
        /// The status.
        status: u16,
        /// What came with it.
        detail: String,
    },
    /// The token file cannot be used.
    #[error("query {query}: token file {path}: {detail}")]
    Token {
        /// Which query.
        query: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// Another status than success.
    #[error("query {query}: status {status}: {detail}")]
    Status {
        /// Which query.
        query: &'static str,
        /// The status.
        status: u16,
        /// What came with it.
        detail: String,
    },
    /// Prometheus understood and said no.
    #[error("query {query}: Prometheus says {kind}: {detail}")]
    Rejected {
        /// Which query.
        query: &'static str,
        /// `errorType`.
        kind: String,
        /// `error`.
        detail: String,
    },
    /// The answer is not what the API of Prometheus answers.
    #[error("query {query}: not an answer of Prometheus ({detail}): {start:?}")]
    Garbage {
        /// Which query.
        query: &'static str,
        /// Where reading failed.
        detail: String,
        /// How it begins.
        start: String,
    },
    /// Not asked, because Prometheus did not answer the queries before.
    #[error("query {query}: not asked: {detail}")]
    NotAsked {
        /// Which query.
        query: &'static str,
        /// What came of the others.
        detail: String,
    },
}

impl QueryError {
    /// One word for counters.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Timeout { .. } => "timeout",
            Self::Broken { .. } => "broken",
            Self::TooLarge { .. } => "too_large",
            Self::Unauthorised { .. } => "unauthorised",
            Self::Token { .. } => "token",
            Self::Status { .. } => "status",
            Self::Rejected { .. } => "rejected",
            Self::Garbage { .. } => "garbage",
            Self::NotAsked { .. } => "not_asked",
        }
    }
}

/// The first 200 characters of a body, on one line.
pub(crate) fn start_of(body: &[u8]) -> String {
    let head = &body[..body.len().min(800)];
    let text = String::from_utf8_lossy(head);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}
