//! Every metric is in the table of `docs/running.md`, and nothing else is.

use std::collections::BTreeSet;

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
