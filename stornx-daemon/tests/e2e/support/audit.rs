//! What the API server says was asked of it, by the users of the daemon.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use serde_json::Value;
use stornx_testbed::{Options, Server};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A place in a log, between two entries; the beginning if nothing is said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place(u64);

/// A log of requests.
#[derive(Debug, Clone)]
pub(crate) struct Audit(PathBuf);

impl Audit {
    /// Options of a cluster that logs the requests of these users: `level` is `Metadata`,
    /// or `Request` for writes with what was written. `name` is that of the files.
    pub(crate) fn of(name: &str, level: &str, users: &[&str], options: Options) -> (Options, Self) {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Another run at the same time has files of its own; process ids are small numbers
        // in every namespace.
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let name = format!("{name}-{now:x}");
        let (policy, log) =
            (folder.join(format!("{name}.yaml")), folder.join(format!("{name}.log")));
        let verbs =
            if level == "Request" { "  verbs: [create, update, patch, delete]\n" } else { "" };
        let text = format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules:\n\
             - level: {level}\n  users: [{}]\n{verbs}- level: None\n",
            users.join(", ")
        );
        if let Err(error) = std::fs::write(&policy, text) {
            // The API server will not start without it, and say so.
            eprintln!("{}: {error}", policy.display());
        }
        let _ = std::fs::remove_file(&log);
        let arguments = vec![
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", log.display()),
        ];
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        let arguments = [(Server::ApiServer, arguments)].into();
        (Options { users, arguments, ..options }, Self(log))
    }

    /// The entries so far.
    pub(crate) fn entries(&self) -> Result<Vec<Value>, Failure> {
        self.entries_since(&mut Place::default())
    }

    /// The entries since a place, which moves to where the log ends now.
    pub(crate) fn entries_since(&self, from: &mut Place) -> Result<Vec<Value>, Failure> {
        let mut file = File::open(&self.0)?;
        file.seek(SeekFrom::Start(from.0))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or(0, |last| last + 1);
        from.0 += u64::try_from(whole)?;
        Ok(text[..whole].lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}
