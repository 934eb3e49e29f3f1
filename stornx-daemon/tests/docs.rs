//! Every command of the documentation is tested in some way, those of ours that need no cluster
//! run, and links lead somewhere.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod documentation;

use std::{collections::BTreeSet, process::Command};

use documentation::{
    read::{Place, commands, pages},
    run_all,
    ways::{Way, count, of, way},
    workspace::Workspace,
};

#[test]
fn every_command_of_the_documentation_runs() {
    run_all("stornx", env!("CARGO_BIN_EXE_stornx"));
}

#[test]
fn every_command_of_the_documentation_is_tested_in_some_way() {
    let count = count().unwrap_or_else(|error| panic!("{error}"));
    println!("documentation: {count:?}");
}

/// What cargo is told is there, and what it passes on to `stornx` are options of it.
#[test]
fn what_cargo_is_told_is_in_the_workspace() {
    let workspace = Workspace::read();
    for line in of(Way::Cargo).unwrap() {
        workspace.knows(&line).unwrap_or_else(|error| panic!("{}: {error}", line.at()));
        let words = line.words();
        let Some(place) = words.iter().position(|word| *word == "--") else { continue };
        if words[1] == "run" && !words.contains(&"-p") {
            let mut command = Command::new(env!("CARGO_BIN_EXE_stornx"));
            let output = command.env_clear().args(&words[place + 1..]).arg("--help").output();
            assert!(output.unwrap().status.success(), "{}", line.at());
        }
    }
    let line = |command: &str| commands("p", &format!("```sh\n{command}\n```\n")).remove(0);
    for wrong in ["cargo test -p stornx-none", "cargo test --test none", "cargo run --relase"] {
        workspace.knows(&line(wrong)).unwrap_err();
    }
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
fn commands_are_found_where_people_see_them() {
    let text = "$ no\n```console\n$ stornx plan\nout\n```\nas `helm\nlist -A`, `not this`\n```sh\n\
        A=b kubectl get \\\n  pods  # all '\ncurl 'x #y' && cd z\n```\n```text\n$ no\n```\n\
        ```console slow\n$ stornx demo\n```\n";
    let found: Vec<_> = commands("p", text)
        .into_iter()
        .map(|line| (line.number, line.command, line.place))
        .collect();
    let line = |number, command: &str, place| (number, command.to_owned(), place);
    assert_eq!(
        found,
        [
            line(3, "stornx plan", Place::Console),
            line(9, "A=b kubectl get pods", Place::Shell),
            line(11, "curl 'x #y'", Place::Shell),
            line(11, "cd z", Place::Shell),
            line(17, "stornx demo", Place::Slow),
            line(6, "helm list -A", Place::Prose),
        ]
    );
}

/// What no rule knows is an error, and so is a block that nobody would read.
#[test]
fn a_command_that_no_test_knows_is_an_error() {
    let line = commands("p", "```sh\nwget http://somewhere\n```\n").remove(0);
    assert!(way(&line).unwrap_err().contains("p:2"));
    let of_a_kind = std::panic::catch_unwind(|| commands("p", "```bash\nstornx plan\n```\n"));
    assert!(of_a_kind.is_err());
}
