//! Malformed input of every format: thousands of mutations of valid files from a fixed
//! seed. Nothing may panic, every error names the file, the place in it and what is
//! allowed, and what is still valid can be used.
//!
//! `STORNX_CASES` multiplies the number of mutations (in per cent).

// Helpers of a test may stop at the first thing that is not as it must be.
#![allow(clippy::unwrap_used, clippy::panic)]

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use stornx_core::{decide, memory::Memory, policy::Policy};
use stornx_sim::{
    builtin,
    dataset::{affinity, rasa},
    files,
    scenario::Scenario,
    world::SimWorld,
};

const SNAPSHOT: &str = include_str!("data/snapshot.yaml");
const DATASET: &str = include_str!("data/dataset.json");

/// Values of every wrong kind.
const NONSENSE: [&str; 18] = [
    "null",
    "true",
    "[]",
    "{}",
    "-1",
    "1e999",
    "-0.5",
    "99999999999999999999",
    "NaN",
    ".inf",
    "\"\"",
    "\"\\u0000\"",
    "*alias",
    "&anchor x",
    "!!binary aGk=",
    "zone-zz",
    "0",
    "\u{1F980}",
];

fn cases(usual: u64) -> u64 {
    let percent = std::env::var("STORNX_CASES").ok().map_or(100, |text| text.parse().unwrap());
    usual * percent / 100
}

/// One mutation of a text.
fn mutate(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let at = rng.random_range(0..bytes.len());
    match rng.random_range(0..9) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => {
            let end = (at + rng.random_range(1..40)).min(bytes.len());
            bytes.drain(at..end);
        }
        2 => bytes.truncate(at),
        3 => {
            let end = (at + rng.random_range(1..200)).min(bytes.len());
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        4..=5 => return lines(text, rng),
        _ => return token(text, rng),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Lines doubled, dropped, swapped, indented, or with an unknown field.
fn lines(text: &str, rng: &mut ChaCha8Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (a, b) = (rng.random_range(0..lines.len()), rng.random_range(0..lines.len()));
    match rng.random_range(0..5) {
        0 => lines.insert(a, lines[a].clone()),
        1 => drop(lines.remove(a)),
        2 => lines.swap(a, b),
        3 => lines[a].insert_str(0, "  "),
        _ => {
            let indent: String = lines[a].chars().take_while(|c| *c == ' ').collect();
            lines.insert(a, format!("{indent}unknown: 1"));
        }
    }
    lines.join("\n")
}

/// One value or word replaced by nonsense.
fn token(text: &str, rng: &mut ChaCha8Rng) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/');
    let mut starts = Vec::new();
    let mut inside = false;
    for (index, c) in text.char_indices() {
        if is_word(c) && !inside {
            starts.push(index);
        }
        inside = is_word(c);
    }
    let start = *starts.choose(rng).unwrap();
    let length = text[start..].find(|c| !is_word(c)).unwrap_or(text.len() - start);
    let nonsense = NONSENSE.choose(rng).unwrap();
    format!("{}{nonsense}{}", &text[..start], &text[start + length..])
}

/// What every error must say.
fn says_where_and_what(file: &str, message: &str, text: &str) {
    let first = message.lines().find(|line| line.contains(file));
    let first = first.unwrap_or_else(|| panic!("no file name in {message:?}"));
    let after = &first[first.find(file).unwrap() + file.len()..];
    assert!(after.starts_with(':'), "no place after the file name in {message:?}, input:\n{text}");
    assert!(message.contains("allowed"), "nothing says what is allowed in {message:?}");
    assert!(!message.contains("__serde"), "inner names leak: {message:?}");
}

fn attack(
    seed: u64,
    count: u64,
    text: &str,
    read: impl Fn(&str) -> Result<(), String>,
    file: &str,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut refused = 0;
    for _ in 0..count {
        let mut mutant = mutate(text, &mut rng);
        if rng.random_bool(0.3) && !mutant.is_empty() {
            mutant = mutate(&mutant, &mut rng);
        }
        if let Err(message) = read(&mutant) {
            refused += 1;
            says_where_and_what(file, &message, &mutant);
        }
    }
    // A reader that takes everything would pass all of the above.
    assert!(refused > count / 3, "only {refused} of {count} mutants of {file} were refused");
}

#[test]
fn snapshots() {
    let read = |text: &str| {
        let snapshot = files::parse_snapshot("s.yaml", text).map_err(|e| e.to_string())?;
        let now = snapshot.taken_at;
        let _ = decide::plan(&snapshot, &Policy::default(), &Memory::default(), now);
        Ok(())
    };
    read(SNAPSHOT).unwrap();
    attack(1, cases(4000), SNAPSHOT, read, "s.yaml");
    let snapshot = files::parse_snapshot("s.yaml", SNAPSHOT).unwrap();
    let json = serde_json::to_string_pretty(&snapshot).unwrap();
    assert_eq!(files::parse_snapshot("s.yaml", &json).unwrap(), snapshot);
    attack(2, cases(4000), &json, read, "s.yaml");
}

#[test]
fn scenarios() {
    let read = |text: &str| {
        let scenario = Scenario::parse("x.yaml", text).map_err(|e| e.to_string())?;
        // A world that has no room says so; it does not panic.
        let _ = SimWorld::new(&scenario, 1);
        Ok(())
    };
    for (seed, name) in (3..).zip(builtin::names()) {
        let text = builtin::text(name).unwrap();
        read(text).unwrap();
        attack(seed, cases(500), text, read, "x.yaml");
    }
}

#[test]
fn datasets() {
    let read = |text: &str| {
        let dataset = rasa::parse("d.json", text).map_err(|e| e.to_string())?;
        assert!((0.0..=1.0 + 1e-9).contains(&affinity::by_machine(&dataset, &dataset.deployed)));
        Ok(())
    };
    read(DATASET).unwrap();
    attack(20, cases(4000), DATASET, read, "d.json");
}

#[test]
fn files_that_are_not_there_or_not_text() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.yaml");
    let binary = folder.path().join("binary.yaml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    for path in [&missing, &binary, &folder.path().to_path_buf()] {
        let name = path.display().to_string();
        for message in [
            files::load_snapshot(path).unwrap_err().to_string(),
            rasa::load(path).unwrap_err().to_string(),
            Scenario::read(path).unwrap_err().to_string(),
        ] {
            says_where_and_what(&name, &message, "");
        }
    }
}
