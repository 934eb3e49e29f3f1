//! The core stays what it promises to be: no dependency beyond the list, nothing that
//! touches files, the environment, the network, the clock or threads, and no container
//! whose order changes from run to run.

// Everything here is test code, helpers included.
#![allow(clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What the core may depend on, and why.
const ALLOWED: [&str; 10] = [
    // Object-safe async traits of the ports.
    "async-trait",
    // File formats.
    "serde",
    "serde_core",
    "serde_derive",
    // Errors.
    "thiserror",
    "thiserror-impl",
    // The macros of the above.
    "proc-macro2",
    "quote",
    "syn",
    "unicode-ident",
];

/// Modules of the standard library that reach outside.
const FORBIDDEN_MODULES: [&str; 9] =
    ["env", "fs", "io", "net", "os", "path", "process", "thread", "time"];

/// Names that must not occur: clocks, and containers without an order.
const FORBIDDEN_NAMES: [&str; 6] =
    ["HashMap", "HashSet", "Instant", "SystemTime", "RandomState", "thread_rng"];

/// Where such a name may stand all the same: a table that is wrapped, hashes without a seed,
/// is only looked up and never walked.
const EXCEPTION: (&str, &str) = ("src/view/names.rs", "HashMap");

fn crate_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn dependencies_are_on_the_list() {
    let cargo = env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "-p", "stornx-core", "-e", "normal", "--prefix", "none", "--offline"])
        .current_dir(crate_root())
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8(output.stdout).expect("cargo speaks UTF-8");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree fails: {errors}");
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "stornx-core")
        .collect();
    assert!(names.contains("serde"), "cargo tree lists dependencies: {text}");
    let unlisted: Vec<_> = names.iter().filter(|name| !ALLOWED.contains(*name)).collect();
    assert!(unlisted.is_empty(), "not on the list of the core: {unlisted:?}");
}

/// Source files of the library, test modules left out, by following the module tree.
fn sources(file: &Path, found: &mut Vec<PathBuf>) {
    let text = fs::read_to_string(file).expect("a source can be read");
    let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = file.parent().expect("a file lies in a folder");
    let folder = match stem.as_str() {
        "lib" | "mod" => folder.to_path_buf(),
        _ => folder.join(&stem),
    };
    found.push(file.to_path_buf());
    for module in modules(&text) {
        let candidates = [folder.join(format!("{module}.rs")), folder.join(&module).join("mod.rs")];
        let file = candidates.iter().find(|path| path.is_file());
        sources(file.unwrap_or_else(|| panic!("{module} of {stem} has a file")), found);
    }
}

/// The modules that a file declares for more than tests.
fn modules(text: &str) -> Vec<String> {
    let mut modules = Vec::new();
    let mut only_tests = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[") {
            only_tests |= line == "#[cfg(test)]";
            continue;
        }
        let item = line.trim_start_matches("pub(crate) ").trim_start_matches("pub(super) ");
        let item = item.trim_start_matches("pub ");
        if let Some(name) = item.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';'))
            && !only_tests
        {
            modules.push(name.to_owned());
        }
        only_tests = false;
    }
    modules
}

/// A file without the test module at its end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default()
}

/// The code of a file: comments and white space out.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join(" ")
}

/// The first part of every path under `std::`, groups included.
fn std_modules(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for (at, _) in code.match_indices("std::") {
        let rest = &code[at + "std::".len()..];
        let paths: Vec<&str> = match rest.strip_prefix('{') {
            Some(group) => top_level(group),
            None => vec![rest],
        };
        for path in paths {
            let is_name = |c: &char| c.is_alphanumeric() || *c == '_';
            modules.push(path.trim_start().chars().take_while(is_name).collect());
        }
    }
    modules
}

/// The items of a group up to its closing brace, nested groups kept whole.
fn top_level(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut items) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items
}

/// What a file must not name but does.
fn offences(text: &str) -> Vec<String> {
    let code = code(text);
    let words: BTreeSet<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let names = FORBIDDEN_NAMES.into_iter().filter(|name| words.contains(name));
    let modules = std_modules(&code);
    let modules = modules.into_iter().filter(|module| FORBIDDEN_MODULES.contains(&module.as_str()));
    names.map(str::to_owned).chain(modules).collect()
}

#[test]
fn sources_touch_nothing_outside() {
    let mut files = Vec::new();
    sources(&crate_root().join("src/lib.rs"), &mut files);
    assert!(files.len() > 20, "the sources are found: {}", files.len());
    for file in files {
        let text = fs::read_to_string(&file).expect("a source can be read");
        let mut offences = offences(without_tests(&text));
        if file.ends_with(EXCEPTION.0) {
            offences.retain(|name| name != EXCEPTION.1);
        }
        assert!(offences.is_empty(), "{} names {offences:?}", file.display());
    }
}

#[test]
fn the_scan_finds_what_it_looks_for() {
    for bad in [
        "use std::fs;",
        "use std::{fmt, collections::{BTreeMap, BTreeSet}, env, sync::Arc};",
        "let now = std::time::Duration::ZERO;",
        "use std::{\n    collections::HashMap,\n};",
        "let t = Instant::now();",
        "std::thread::spawn(|| {});",
    ] {
        assert_eq!(offences(bad).len(), 1, "{bad}");
    }
    for good in [
        "use std::{collections::BTreeMap, fmt, sync::Arc};",
        "// std::fs is not used here, nor is a HashMap",
        "let instant = environment.path();",
        "#[error(\"{environment}\")]",
    ] {
        assert_eq!(offences(good), Vec::<String>::new(), "{good}");
    }
}
