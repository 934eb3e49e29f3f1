//! Every command of the documentation that is ours runs, and its links lead somewhere.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod documentation;

use documentation::{commands, pages, run_all};

#[test]
fn every_command_of_the_documentation_runs() {
    run_all("stornx", env!("CARGO_BIN_EXE_stornx"));
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
