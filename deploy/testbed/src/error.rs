//! What can go wrong with the test bed itself. A test that meets one of these could not
//! judge anything: the message says what was tried and where the logs lie.

use std::{path::PathBuf, time::Duration};

use thiserror::Error;

/// The test bed could not do what was asked.
#[derive(Debug, Error)]
pub enum BedError {
    /// There is no Go to build the programs with.
    #[error(
        "the test bed needs Go to build its programs, and `go version` failed ({0}); \
         STORNX_TESTBED=off leaves the cluster tests out"
    )]
    NoGo(String),
    /// A program could not be built or fetched.
    #[error("{what} could not be built: {detail}")]
    Build {
        /// Which one.
        what: &'static str,
        /// The last lines of the builder.
        detail: String,
    },
    /// A file, folder, socket or process.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What came of it.
        source: std::io::Error,
    },
    /// The API server said no, or nothing.
    #[error("{what}: {source}")]
    Kube {
        /// What was tried.
        what: String,
        /// What came of it.
        source: Box<kube::Error>,
    },
    /// A condition did not come true.
    #[error("{what}: not within {} s; last seen: {last}", .limit.as_secs_f64())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was there instead.
        last: String,
    },
    /// A program ended by itself.
    #[error("{name} ended ({status}); its log: {}", .log.display())]
    Ended {
        /// Which one.
        name: &'static str,
        /// How.
        status: String,
        /// Where it wrote why.
        log: PathBuf,
    },
    /// Asked for something that this run does not have.
    #[error("{0}")]
    Absent(String),
    /// Input from outside the crate that is not what it should be.
    #[error("{what}: {detail}")]
    Invalid {
        /// What it is.
        what: String,
        /// What is wrong with it.
        detail: String,
    },
}

/// Result of the test bed.
pub type Result<T, E = BedError> = std::result::Result<T, E>;

/// Names what was tried with a file, a process or the API server.
pub(crate) trait Tried<T> {
    /// `what` is only made for an error.
    fn tried(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Tried<T> for std::result::Result<T, std::io::Error> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| BedError::Io { what: what(), source })
    }
}

impl<T> Tried<T> for std::result::Result<T, kube::Error> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| BedError::Kube { what: what(), source: Box::new(source) })
    }
}
