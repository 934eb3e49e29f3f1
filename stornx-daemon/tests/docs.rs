//! Every command of the documentation that is ours runs, and its links lead somewhere.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod documentation;

use std::collections::BTreeSet;

use documentation::{commands, pages, run_all};

#[test]
fn every_command_of_the_documentation_runs() {
    run_all("stornx", env!("CARGO_BIN_EXE_stornx"));
}

/// The names that links give to the headings of a page.
fn sections(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            heading.chars().filter(|one| one.is_alphanumeric() || "-_".contains(*one)).collect()
        })
        .collect()
}

/// Links between the pages and to files of the repository lead somewhere.
#[test]
fn links_of_the_documentation_lead_somewhere() {
    for page in pages() {
        let text = std::fs::read_to_string(&page).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let path =
                if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            assert!(path.exists(), "{}: {target} does not exist", page.display());
            let (Some((_, section)), Some("md")) =
                (target.split_once('#'), path.extension().and_then(|name| name.to_str()))
            else {
                continue;
            };
            let there = sections(&std::fs::read_to_string(&path).unwrap());
            assert!(there.contains(section), "{}: {target}: no such section", page.display());
        }
    }
}

#[test]
fn sections_are_named_as_links_name_them() {
    let found = sections("# Two `words`, and_more\ntext\n## 4. Let it act\n");
    assert_eq!(found, ["4-let-it-act", "two-words-and_more"].map(str::to_owned).into());
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
