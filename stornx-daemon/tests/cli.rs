//! The commands as a user runs them: what they print for the examples of the
//! documentation, and what they refuse.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use support::{file, printed, refused, root, stornx};

const THREE_ZONES: &str = "docs/examples/three-zones.yaml";

#[test]
fn help_lists_the_commands_that_work() {
    insta::assert_snapshot!(printed(&mut stornx(&["--help"])));
}

#[test]
fn plan_shows_inputs_actions_and_what_is_left_alone() {
    insta::assert_snapshot!(printed(&mut stornx(&["plan", "--snapshot", THREE_ZONES])));
}

#[test]
fn explain_shows_every_decision_about_a_workload() {
    insta::assert_snapshot!(printed(&mut stornx(&["explain", "cart", "--snapshot", THREE_ZONES])));
    insta::assert_snapshot!(printed(&mut stornx(&[
        "explain",
        "shop/Deployment/web",
        "--snapshot",
        THREE_ZONES
    ])));
}

#[test]
fn plan_as_json_and_yaml_is_one_object_with_plan_and_report() {
    let json = printed(&mut stornx(&["plan", "--snapshot", THREE_ZONES, "-o", "json"]));
    let yaml = printed(&mut stornx(&["plan", "--snapshot", THREE_ZONES, "-o", "yaml"]));
    let from_json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let from_yaml: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(from_json["plan"]["apiVersion"], "stornx.io/v1alpha1");
    assert!(from_json["report"].is_object());
    assert_eq!(numbers_as_floats(from_json), numbers_as_floats(from_yaml));
}

/// YAML writes 8.0 and 8 alike or not as its writer likes; they are the same number.
fn numbers_as_floats(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => number.as_f64().into(),
        Value::Array(items) => items.into_iter().map(numbers_as_floats).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key, numbers_as_floats(value))).collect()
        }
        other => other,
    }
}

#[test]
fn the_same_snapshot_gives_the_same_bytes() {
    let run = || printed(&mut stornx(&["plan", "--snapshot", THREE_ZONES, "-o", "json"]));
    assert_eq!(run(), run());
}

#[test]
fn an_unknown_workload_is_refused_with_near_names() {
    let explain = |name| refused(&mut stornx(&["explain", name, "--snapshot", THREE_ZONES]), 1);
    let error = explain("card");
    assert_eq!(error, "stornx: no workload \"card\"; near names: shop/Deployment/cart\n");
    assert!(explain("shop/StatefulSet/cart").contains("near names: shop/Deployment/cart"));
    let none = explain("zzz");
    assert!(none.ends_with("there are: shop/Deployment/cart, shop/Deployment/web\n"), "{none}");
    // As kubectl's users say it.
    let explain = |name| printed(&mut stornx(&["explain", name, "--snapshot", THREE_ZONES]));
    assert_eq!(explain("shop/cart"), explain("cart"));
}

#[test]
fn a_bad_snapshot_is_refused_with_file_place_and_rule() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.yaml");
    let good = file(THREE_ZONES);
    for (what, replacement, expected) in [
        ("zone: c", "zone: -c", "nodes[2].zone"),
        ("podCapacity: 110", "podCapacity: -3", "podCapacity"),
        ("callee: shop/Deployment/cart", "callee: shop/Deployment/card", "edges[0].callee"),
        ("mesh", "mesh", ""),
    ] {
        std::fs::write(&path, good.replace(what, replacement)).unwrap();
        let mut plan = stornx(&["plan", "--snapshot", path.to_str().unwrap()]);
        if expected.is_empty() {
            // The unchanged file is good, so that the others are refused for their change.
            printed(&mut plan);
        } else {
            let error = refused(&mut plan, 1);
            assert!(error.contains("bad.yaml") && error.contains(expected), "{error}");
        }
    }
    let error = refused(&mut stornx(&["plan", "--snapshot", "nowhere.yaml"]), 1);
    assert!(error.contains("nowhere.yaml"), "{error}");
    // Without a recording it is the live cluster, and there is none.
    assert!(refused(&mut stornx(&["plan"]), 1).contains("ENV=development"));
}

#[test]
fn bad_settings_stop_the_start_with_every_problem() {
    let mut plan = stornx(&["plan", "--snapshot", THREE_ZONES]);
    let error = refused(plan.env("BALANCER_RESERVE", "50").env("METRICS_TYPE", "disk"), 1);
    insta::assert_snapshot!(error);
}

#[test]
fn settings_reach_the_decisions() {
    let mut plan = stornx(&["plan", "--snapshot", THREE_ZONES]);
    let text = printed(plan.env("SCALER_ENABLED", "false").env("BALANCER_ENABLED", "false"));
    assert!(text.contains("scaling is switched off"), "{text}");
    assert!(text.contains("balancing is switched off"), "{text}");
    assert!(text.contains("Nothing is to be done."), "{text}");
}

#[test]
fn settings_come_from_the_file_that_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.yaml");
    std::fs::write(&path, "FT_MAX_ZONES: 2\nBALANCER_EPSILON: 2\n").unwrap();
    let path = path.to_str().unwrap();
    let by_argument = printed(&mut stornx(&["config", "--config", path]));
    let by_variable = printed(stornx(&["config"]).env("STORNX_CONFIG", path));
    assert_eq!(by_argument, by_variable);
    assert!(by_argument.contains("\nFT_MAX_ZONES=2\n"), "{by_argument}");
    assert!(by_argument.contains(&format!("From: {path}:1\nFT_MAX_ZONES=2")), "{by_argument}");
}

/// What `config` prints for a shell means the same to a shell.
#[test]
fn config_as_environment_reads_back() {
    let first = printed(stornx(&["config"]).env("NAMESPACES", "shop,bank"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.env");
    std::fs::write(&path, &first).unwrap();
    let script =
        format!("set -a; . {}; exec {} config", path.display(), env!("CARGO_BIN_EXE_stornx"));
    let mut shell = support::command(std::path::Path::new("/bin/sh"));
    let second = printed(shell.arg("-c").arg(script));
    let values = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn the_settings_reference_is_up_to_date() {
    let generated = printed(stornx(&["config", "-o", "markdown"]).env("FT_MAX_ZONES", "bad"));
    bless_or_compare("docs/settings.md", &generated);
}

#[test]
fn the_example_of_plan_and_report_is_up_to_date() {
    let generated = printed(&mut stornx(&["plan", "--snapshot", THREE_ZONES, "-o", "json"]));
    bless_or_compare("docs/examples/three-zones.plan.json", &generated);
}

/// Compares a committed file with what generates it; `STORNX_BLESS=1` writes it anew.
fn bless_or_compare(path: &str, generated: &str) {
    let whole = root().join(path);
    if std::env::var_os("STORNX_BLESS").is_some() {
        std::fs::write(&whole, generated).unwrap();
    }
    assert!(
        std::fs::read_to_string(&whole).unwrap_or_default() == generated,
        "{path} differs from what generates it; STORNX_BLESS=1 writes it anew"
    );
}
