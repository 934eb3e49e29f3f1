//! Every command of the documentation runs. Blocks marked `console` are read; lines
//! that begin with `$ stornx` or `$ stornx-sim` are run with the built binaries, in
//! the order of the page. A line that takes long is marked in the page itself: the
//! block is then `console slow`, and runs with `STORNX_SLOW=1`.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use support::{command, root};

#[derive(Debug)]
struct Line {
    page: String,
    number: usize,
    command: String,
    slow: bool,
}

/// The pages: README and everything in docs/.
fn pages() -> Vec<PathBuf> {
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
fn commands(page: &str, text: &str) -> Vec<Line> {
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

/// `stornx-sim`, built beside the binary under test.
fn simulator() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "-p", "stornx-sim", "--bin", "stornx-sim"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(root()).status().unwrap().success(), "stornx-sim builds");
    Path::new(env!("CARGO_BIN_EXE_stornx")).with_file_name("stornx-sim")
}

#[test]
fn every_command_of_the_documentation_runs() {
    let all = std::env::var_os("STORNX_SLOW").is_some();
    let lines: Vec<_> = all_commands().into_iter().filter(|line| all || !line.slow).collect();
    assert!(!lines.is_empty(), "the documentation shows commands");
    let scratch = tempfile::tempdir().unwrap();
    let mut simulated = None;
    for line in &lines {
        let mut words = line.command.split_whitespace();
        let program = match words.next() {
            Some("stornx") => PathBuf::from(env!("CARGO_BIN_EXE_stornx")),
            Some("stornx-sim") => simulated.get_or_insert_with(simulator).clone(),
            // Everything else (cargo, git) is for people; the pages keep it to that.
            _ => continue,
        };
        let mut run = command(&program);
        // What a page writes goes to a folder of its own, not into the repository.
        let placed = |word: &str| {
            word.strip_prefix("out/").map_or_else(
                || word.to_owned(),
                |name| scratch.path().join(name).display().to_string(),
            )
        };
        run.args(words.map(placed));
        let output = run.output().unwrap();
        assert!(
            output.status.success(),
            "{}:{}: `{}` fails: {}",
            line.page,
            line.number,
            line.command,
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Links between the pages and to files of the repository lead somewhere.
#[test]
fn links_of_the_documentation_lead_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") {
                continue;
            }
            let path = page.parent().unwrap().join(file);
            assert!(path.exists(), "{}: {target} does not exist", page.display());
        }
    }
}

#[test]
fn commands_are_found_in_console_blocks_only() {
    let text = "$ no\n```console\n$ stornx plan\nout\n```\n```sh\n$ no\n```\n```console slow\n$ stornx demo\n```\n";
    let found: Vec<_> = commands("p", text)
        .into_iter()
        .map(|line| (line.number, line.command, line.slow))
        .collect();
    assert_eq!(found, [(3, "stornx plan".to_owned(), false), (10, "stornx demo".to_owned(), true)]);
}
