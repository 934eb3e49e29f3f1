//! The demo as a newcomer runs it.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use std::time::{Duration, Instant};

use support::{printed, refused, stornx};

/// The two figures of a line of the comparison.
fn figures(text: &str, name: &str) -> (f64, f64) {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no line {name:?} in {text}"));
    let numbers: Vec<f64> = line[line.find(name).unwrap() + name.len()..]
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    (numbers[0], numbers[1])
}

#[test]
fn without_a_command_the_boutique_is_shown_faster_and_cheaper_within_a_minute() {
    let start = Instant::now();
    let text = printed(&mut stornx(&[]));
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    for better in
        ["p50", "p95", "p99", "calls across zones", "bytes across zones", "transfer cost a month"]
    {
        let (without, with) = figures(&text, better);
        assert!(with < without, "{better}: {text}");
    }
    let (without, with) = figures(&text, "failed requests");
    assert!(with <= without, "{text}");
    let explained = text.lines().filter(|line| line.trim_start().starts_with("expected: ")).count();
    assert_eq!(explained, 3, "{text}");
    assert_eq!(text, printed(&mut stornx(&["demo"])), "the same seed shows the same");
}

#[test]
fn a_scenario_of_ones_own_is_shown_with_its_own_seed() {
    let demo =
        |seed| printed(&mut stornx(&["demo", "docs/examples/two-services.yaml", "--seed", seed]));
    let (first, second) = (demo("1"), demo("2"));
    assert!(
        first.starts_with("two-services: 20 simulated minutes, the first 5 not measured, seed 1\n")
    );
    assert_ne!(
        first.lines().skip(1).collect::<Vec<_>>(),
        second.lines().skip(1).collect::<Vec<_>>()
    );
}

#[test]
fn an_unknown_scenario_is_refused_with_what_there_is() {
    let error = refused(&mut stornx(&["demo", "online-butik"]), 1);
    assert!(error.contains("online-butik") && error.contains("online-boutique"), "{error}");
}
