//! Reads the files that users write: snapshots (JSON or YAML), scenarios (YAML) and
//! placement data sets (JSON). A file that cannot be used gives one error that names
//! the file, the line, the path inside it and what is allowed; what is wrong beyond
//! the grammar is listed all at once.
//!
//! Assumes that a file fits into memory and is UTF-8; refuses unknown fields, values
//! outside their unit, and names that are mentioned but not defined.

mod locate;

use std::{fmt, fs, path::Path};

use serde::de::DeserializeOwned;
use stornx_core::model::{Problem, Snapshot};
use thiserror::Error;

use self::locate::Positions;

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{file}: cannot be read: {detail}; allowed: a readable file of UTF-8 text")]
    Read {
        /// Which file.
        file: String,
        /// What came of it.
        detail: String,
    },
    /// It is not of its format.
    #[error("{place}: {message}; allowed: {allowed}")]
    Format {
        /// Where.
        place: Place,
        /// What is wrong, with the values expected there where they are known.
        message: String,
        /// What the file may hold.
        allowed: &'static str,
    },
    /// It is of its format, but does not make sense. Every problem, in file order.
    #[error("{} problem(s), allowed: {allowed}{}", .problems.len(), lines(.problems))]
    Content {
        /// What the file may hold.
        allowed: &'static str,
        /// The problems and where they are.
        problems: Vec<(Place, String)>,
    },
}

fn lines(problems: &[(Place, String)]) -> String {
    problems.iter().map(|(place, message)| format!("\n  {place}: {message}")).collect()
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: String,
    /// Line and column, from 1; `None` when the place has no text of its own.
    pub position: Option<(u64, u64)>,
    /// The path of the value, for example `workloads[3].pods[0].node`; empty for the
    /// whole file.
    pub path: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match self.path.as_str() {
            "" | "." => f.write_str(": at the top"),
            path => write!(f, ": at {path}"),
        }
    }
}

/// The grammar of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grammar {
    /// JSON.
    Json,
    /// YAML (of which JSON is a part, but with poorer messages).
    Yaml,
}

impl Grammar {
    /// JSON when the text begins like a JSON object, whatever the file is called.
    fn of(text: &str) -> Self {
        if text.trim_start_matches('\u{feff}').trim_start().starts_with('{') {
            Self::Json
        } else {
            Self::Yaml
        }
    }
}

/// What a snapshot file may hold.
const SNAPSHOT: &str =
    "a Snapshot (apiVersion stornx.io/v1alpha1) in JSON or YAML, see `stornx-sim schema`";

/// Reads a text file.
///
/// # Errors
/// [`FileError::Read`].
pub fn read(path: &Path) -> Result<String, FileError> {
    fs::read_to_string(path).map_err(|error| FileError::Read {
        file: path.display().to_string(),
        detail: error.to_string(),
    })
}

/// Loads a snapshot.
///
/// # Errors
/// [`FileError`].
pub fn load_snapshot(path: &Path) -> Result<Snapshot, FileError> {
    parse_snapshot(&path.display().to_string(), &read(path)?)
}

/// Reads a snapshot from the text of a file called `file`.
///
/// # Errors
/// [`FileError`].
pub fn parse_snapshot(file: &str, text: &str) -> Result<Snapshot, FileError> {
    let snapshot: Snapshot = parse(file, text, Grammar::of(text), SNAPSHOT)?;
    refuse_problems(file, text, snapshot.problems(), SNAPSHOT)?;
    Ok(snapshot)
}

/// Reads any format from text.
pub(crate) fn parse<T: DeserializeOwned>(
    file: &str,
    text: &str,
    grammar: Grammar,
    allowed: &'static str,
) -> Result<T, FileError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (position, path, message) = match grammar {
        Grammar::Json => match parse_json(text) {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        },
        Grammar::Yaml => match parse_yaml(text) {
            Ok(value) => return Ok(value),
            Err(failure) => failure,
        },
    };
    let position = position.or_else(|| Positions::of(text).of_path(&path));
    Err(FileError::Format {
        place: Place { file: file.to_owned(), position, path },
        message,
        allowed,
    })
}

/// Turns the problems of a value that was read from `text` into one error.
pub(crate) fn refuse_problems(
    file: &str,
    text: &str,
    problems: Vec<Problem>,
    allowed: &'static str,
) -> Result<(), FileError> {
    if problems.is_empty() {
        return Ok(());
    }
    let positions = Positions::of(text);
    let problems = problems
        .into_iter()
        .map(|problem| {
            let position = positions.of_path(&problem.path);
            (Place { file: file.to_owned(), position, path: problem.path }, problem.message)
        })
        .collect();
    Err(FileError::Content { allowed, problems })
}

/// Position, path and message of what could not be read.
type Failure = (Option<(u64, u64)>, String, String);

fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let failure = |path: String, error: &serde_json::Error| {
        let position = (error.line() > 0).then_some((error.line() as u64, error.column() as u64));
        (position, path, without_position(&error.to_string()))
    };
    let value = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| failure(error.path().to_string(), error.inner()))?;
    deserializer.end().map_err(|error| failure(String::new(), &error))?;
    Ok(value)
}

fn parse_yaml<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    let mut path = String::new();
    let read = serde_saphyr::with_deserializer_from_str_with_options(
        text,
        yaml_options(text.len()),
        |deserializer| {
            serde_path_to_error::deserialize(deserializer).map_err(|error| {
                path = error.path().to_string();
                error.into_inner()
            })
        },
    );
    read.map_err(|error| {
        let position = error
            .location()
            .filter(|location| location.line() > 0)
            .map(|location| (location.line(), location.column()));
        (position, path, without_position(&error.without_snippet().to_string()))
    })
}

/// Recorded snapshots of large clusters exceed the reader's usual limits on size, so
/// these grow with the text. What protects against a small file that unfolds into a
/// large one (aliases) stays as it is.
fn yaml_options(length: usize) -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    if let Some(budget) = &mut options.budget {
        budget.max_events = budget.max_events.max(length.saturating_mul(2));
        budget.max_nodes = budget.max_nodes.max(length.saturating_mul(2));
        budget.max_total_scalar_bytes = budget.max_total_scalar_bytes.max(length);
        budget.max_total_comment_bytes = budget.max_total_comment_bytes.max(length);
    }
    options
}

/// The message without the position that readers append: it is shown once, in front.
fn without_position(message: &str) -> String {
    let end = message.rfind(" at line ").unwrap_or(message.len());
    message[..end].replace('\n', " ")
}
