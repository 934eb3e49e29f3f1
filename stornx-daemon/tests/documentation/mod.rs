//! The commands of the documentation: which there are, and how each is tested. A block is marked
//! `console` (lines that begin with `$ `; what they print may stand below), `console slow` (the
//! same, takes long) or `sh` (every line). Commands between backticks count as well.
//!
//! The test `docs` of each crate runs the commands of its program that need no cluster, `ship`
//! those that need one.

// Shared by three tests, each of which uses a part of it. All of it is test code, which the lints
// see in functions marked as tests only.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

pub(crate) mod read;
pub(crate) mod ways;
pub(crate) mod workspace;

use std::process::Command;

use read::{Line, root};
use ways::{Way, of};

/// Runs every command of `program`, which is built at `binary`; of those that are only
/// mentioned, or take too long, it asks the program whether it knows them.
pub(crate) fn run_all(program: &str, binary: &str) {
    let ours = |way| -> Vec<Line> {
        let all = of(way).unwrap_or_else(|error| panic!("{error}"));
        all.into_iter().filter(|line| line.program() == program).collect()
    };
    let scratch = tempfile::tempdir().unwrap();
    let mut run = ours(Way::Runs);
    let mut asked = ours(Way::Form);
    let slow = if std::env::var_os("STORNX_SLOW").is_some() { &mut run } else { &mut asked };
    slow.extend(ours(Way::Slow));
    assert!(!run.is_empty(), "the documentation shows commands of {program}");
    for (line, help) in
        run.iter().map(|line| (line, None)).chain(asked.iter().map(|line| (line, Some("--help"))))
    {
        // What a page writes goes to a folder of its own, not into the repository.
        let placed = |word: &&str| match word.strip_prefix("out/") {
            Some(name) => scratch.path().join(name).display().to_string(),
            None => (*word).to_owned(),
        };
        let words = line.words();
        let mut command = Command::new(binary);
        command.env_clear().current_dir(root()).envs(line.variables());
        let output = command.args(words[1..].iter().map(placed)).args(help).output().unwrap();
        assert!(
            output.status.success(),
            "{} fails: {}",
            line.at(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
