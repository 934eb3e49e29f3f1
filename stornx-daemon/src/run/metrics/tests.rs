//! Every metric is in the table of `docs/running.md`, and nothing else is.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// One member of each family: an empty one is not on the page.
fn full() -> Metrics {
    let metrics = Metrics::new();
    let _ = metrics.actions.get_or_create(&ActionLabels { kind: "a", result: "b" });
    let _ = metrics.durations.get_or_create(&PhaseLabels { phase: "a" });
    let _ = metrics.reasons.get_or_create(&ReasonLabels { decision: "a", reason: "b" });
    let _ = metrics.input_age.get_or_create(&InputLabels { input: "a" });
    let _ = metrics.input_state.get_or_create(&StateLabels { input: "a", state: "b" });
    let workload = WorkloadLabels { namespace: "a".into(), kind: "b", workload: "c".into() };
    let _ = metrics.zone_loss.get_or_create(&workload);
    let _ = metrics.watch_age.get_or_create(&WatchLabels { watch: "a" });
    let _ = metrics.watch_objects.get_or_create(&WatchLabels { watch: "a" });
    let _ = metrics.watch_errors.get_or_create(&WatchLabels { watch: "a" });
    let _ = metrics.queries.get_or_create(&QueryLabels { query: "a", result: "b" });
    let _ = metrics.kubernetes_errors.get_or_create(&ErrorLabels { what: "a", kind: "b" });
    metrics
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let page = full().page();
    let registered: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE stornx_")?.split_once(' '))
        .map(|(name, kind)| match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        })
        .collect();
    let text = include_str!("../../../../docs/running.md");
    let table = text.split_once("| metric | labels | meaning |\n").unwrap().1;
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(1);
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
    let documented: BTreeSet<String> = names.map(ToOwned::to_owned).collect();
    assert_eq!(registered, documented);
}

/// `docs/metrics.md` in full: name, type, labels and meaning, as the page says them.
fn reference() -> String {
    let page = full().page();
    let labels: BTreeMap<&str, String> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let (name, rest) = line.split_once('{')?;
            let names = rest.split_once('}')?.0.split(',').filter_map(|one| one.split_once('='));
            let named: Vec<_> = names
                .filter(|(name, _)| *name != "le")
                .map(|(name, _)| format!("`{name}`"))
                .collect();
            Some((name, named.join(", ")))
        })
        .collect();
    let mut text = "# Metrics\n\n\
        <!-- Generated; a test fails when it differs, and STORNX_BLESS=1 writes it anew. -->\n\n\
        What `/metrics` shows. What the values of labels mean is told in\n\
        [running.md](running.md#where-to-look), and what to do about them in\n\
        [troubleshooting.md](troubleshooting.md).\n\n\
        | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n"
        .to_owned();
    let help: BTreeMap<&str, &str> =
        page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split_once(' ')).collect();
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, kind) in kinds {
        let (shown, sample) = match kind {
            "counter" => (format!("{name}_total"), format!("{name}_total")),
            "info" => (format!("{name}_info"), format!("{name}_info")),
            "histogram" => (name.to_owned(), format!("{name}_bucket")),
            _ => (name.to_owned(), name.to_owned()),
        };
        let labels = labels.get(sample.as_str()).map_or("", String::as_str);
        let meaning = help.get(name).unwrap().trim_end_matches('.');
        writeln!(text, "| `{shown}` | {kind} | {labels} | {meaning} |").unwrap();
    }
    text
}

/// A metric that is registered stands in the reference, and no other does.
#[test]
fn the_reference_of_metrics_is_that_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
    let text = reference();
    let registered = include_str!("../metrics.rs").matches("to.register").count();
    let rows = text.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, registered, "a family is empty here: fill it in full()");
    if std::env::var_os("STORNX_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stands = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stands == text, "docs/metrics.md is out of date: STORNX_BLESS=1 writes it anew");
}
