//! Reads the commands of the documentation and runs them: blocks marked `console`, lines
//! that begin with `$ `, in the order of the page. A block that takes long is marked
//! `console slow` and runs with `STORNX_SLOW=1` only. Each crate runs the lines of its
//! own binary; lines of other programs (cargo, git) are for people.

// Shared by the tests of two crates, each of which uses a part of it.
#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// The root of the repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A command and where it stands.
#[derive(Debug)]
pub(crate) struct Line {
    page: String,
    pub(crate) number: usize,
    pub(crate) command: String,
    pub(crate) slow: bool,
}

/// The pages: README and everything in docs/.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CONTRIBUTING.md")];
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// The commands of a page.
pub(crate) fn commands(page: &str, text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut block: Option<bool> = None;
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some("console") => block = Some(false),
            Some("console slow") => block = Some(true),
            Some(_) => block = None,
            None => {
                if let (Some(slow), Some(command)) = (block, line.strip_prefix("$ ")) {
                    lines.push(Line {
                        page: page.to_owned(),
                        number: index + 1,
                        command: command.to_owned(),
                        slow,
                    });
                }
            }
        }
    }
    lines
}

fn all_commands() -> Vec<Line> {
    pages()
        .iter()
        .flat_map(|page| {
            let text = std::fs::read_to_string(page).unwrap();
            commands(&page.strip_prefix(root()).unwrap().display().to_string(), &text)
        })
        .collect()
}

/// Runs every line of `program`, which is built at `binary`.
pub(crate) fn run_all(program: &str, binary: &str) {
    let all = std::env::var_os("STORNX_SLOW").is_some();
    let scratch = tempfile::tempdir().unwrap();
    let mut count = 0;
    for line in all_commands().into_iter().filter(|line| all || !line.slow) {
        let mut words = line.command.split_whitespace();
        if words.next() != Some(program) {
            continue;
        }
        // What a page writes goes to a folder of its own, not into the repository.
        let placed = |word: &str| match word.strip_prefix("out/") {
            Some(name) => scratch.path().join(name).display().to_string(),
            None => word.to_owned(),
        };
        let mut command = Command::new(binary);
        command.env_clear().current_dir(root()).args(words.map(placed));
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}:{}: `{}` fails: {}",
            line.page,
            line.number,
            line.command,
            String::from_utf8_lossy(&output.stderr)
        );
        count += 1;
    }
    assert!(count > 0, "the documentation shows commands of {program}");
}
