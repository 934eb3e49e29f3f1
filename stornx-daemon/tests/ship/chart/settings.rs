//! Every setting of the daemon can be reached through `config`, with the daemon's own defaults,
//! and nothing else can; what the chart renders is what the daemon accepts.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::{Map, Value, json};
use stornx_testbed::harness::Test;

use crate::{
    Failure,
    bless::file,
    support::TestResult,
    tools::{Objects, objects, rendered, said},
};

/// Where the chart differs from the daemon, and why.
const OWN_DEFAULTS: [(&str, &str); 3] = [
    // A first installation looks and says, before it does.
    ("DRY_RUN", "true"),
    // Made from the release.
    ("OWN_NAME", "stornx"),
    ("OWN_NAMESPACE", "stornx"),
];

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("chart_settings_are_those_of_the_daemon", || async { same_settings() }),
        Test::plain("chart_settings_reach_the_daemon", || async { reach() }),
        Test::plain("chart_schema_is_closed", || async { closed() }),
        Test::plain("chart_refuses_bad_values", || async { refused() }),
        Test::plain("chart_takes_values_of_the_original", || async { original() }),
    ]
}

/// Key under `config` by the name of the setting.
pub(crate) fn table() -> Result<BTreeMap<String, String>, Failure> {
    let keys: BTreeMap<String, String> =
        serde_saphyr::from_str(&file("deploy/helm/stornx/files/settings.yaml")?)?;
    Ok(keys.into_iter().map(|(key, name)| (name, key)).collect())
}

/// The settings in force, by name, as the daemon understands a file.
fn understood(settings: Option<&str>) -> Result<BTreeMap<String, String>, Failure> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stornx"));
    command.env_clear().args(["config", "-o", "yaml"]);
    if let Some(text) = settings {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart-settings.yaml");
        std::fs::write(&path, text)?;
        command.arg("--config").arg(path);
    }
    Ok(serde_saphyr::from_str(&said(&mut command)?)?)
}

pub(super) fn values() -> Result<Value, Failure> {
    Ok(serde_saphyr::from_str(&file("deploy/helm/stornx/values.yaml")?)?)
}

/// The paths of the plain values below a value.
fn leaves(value: &Value, path: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, into);
            }
        }
        _ => drop(into.insert(path.to_owned())),
    }
}

fn same_settings() -> TestResult {
    let table = table()?;
    let defaults = understood(None)?;
    let known: BTreeSet<&String> = defaults.keys().collect();
    let mapped: BTreeSet<&String> = table.keys().collect();
    if known != mapped {
        let (missing, unknown): (Vec<_>, Vec<_>) =
            (known.difference(&mapped).collect(), mapped.difference(&known).collect());
        return Err(
            format!("not in files/settings.yaml: {missing:?}, no settings: {unknown:?}").into()
        );
    }
    let mut keys = BTreeSet::new();
    leaves(&values()?["config"], "", &mut keys);
    if keys != table.values().cloned().collect() {
        return Err(format!("values.yaml has other keys than files/settings.yaml: {keys:?}").into());
    }
    let mut expected = defaults;
    expected.extend(OWN_DEFAULTS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let ours = understood(Some(&objects(&[])?.settings()?))?;
    for (name, value) in &ours {
        if expected.get(name) != Some(value) {
            let wanted = &expected[name];
            return Err(
                format!("{name} is {value:?} in the chart, {wanted:?} in the daemon").into()
            );
        }
    }
    Ok(())
}

/// Puts a value at a path of keys.
fn put(into: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(into.insert(path.to_owned(), value)),
        Some((first, rest)) => {
            let inner = into.entry(first).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Each setting is set to a text of its own, which has to arrive under its name.
fn reach() -> TestResult {
    let table = table()?;
    let mut config = Map::new();
    for (name, key) in &table {
        put(&mut config, key, json!(format!("x-{}", name.to_lowercase())));
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart-reach.yaml");
    std::fs::write(&path, json!({"config": config}).to_string())?;
    let text = rendered(&["--skip-schema-validation", "-f", &path.to_string_lossy()])?;
    let own = "x-own_namespace";
    let objects = Objects::read(&text)?;
    let arrived: BTreeMap<String, String> = serde_saphyr::from_str(&objects.settings()?)?;
    for name in table.keys() {
        // In a cluster there is a service account, and no kubeconfig.
        let wanted = if name == "ENV" {
            "production".to_owned()
        } else {
            format!("x-{}", name.to_lowercase())
        };
        if arrived.get(name) != Some(&wanted) {
            return Err(format!("{name}: {:?}", arrived.get(name)).into());
        }
    }
    objects.get(&format!("Role/{own}/stornx-own"))?;
    // Numbers are written as people write them.
    let numbers = crate::tools::objects(&[
        "config.moves.horizonSeconds=5000000",
        "config.latency.sameNodeMs=0.05",
    ])?;
    let settings = numbers.settings()?;
    for line in ["MOVE_HORIZON_SECONDS: \"5000000\"", "LATENCY_SAME_NODE_MS: \"0.05\""] {
        if !settings.contains(line) {
            return Err(format!("no {line} in {settings}").into());
        }
    }
    Ok(())
}

/// Wherever the schema names properties it allows no others; and those of `config` are the
/// settings.
fn closed() -> TestResult {
    let schema: Value = serde_json::from_str(&file("deploy/helm/stornx/values.schema.json")?)?;
    let mut open = Vec::new();
    look_for_open(&schema, "", &mut open);
    // An environment variable may have anything beside its name: it is Kubernetes' own type.
    if open != ["/properties/extraEnv/items"] {
        return Err(format!("open: {open:?}").into());
    }
    let mut paths = BTreeSet::new();
    properties(&schema["properties"]["config"], "", &mut paths);
    let keys: BTreeSet<String> = table()?.into_values().collect();
    if paths != keys {
        let other: Vec<_> = paths.symmetric_difference(&keys).collect();
        return Err(format!("in one of schema and settings only: {other:?}").into());
    }
    // Every value has its place in the schema.
    let top = values()?;
    for key in top.as_object().into_iter().flatten().map(|(key, _)| key) {
        if schema["properties"][key].is_null() {
            return Err(format!("{key} is not in the schema").into());
        }
    }
    Ok(())
}

fn look_for_open(schema: &Value, path: &str, open: &mut Vec<String>) {
    let Some(inner) = schema.as_object() else { return };
    if inner.contains_key("properties") && schema["additionalProperties"] != false {
        open.push(path.to_owned());
    }
    for (key, value) in inner {
        look_for_open(value, &format!("{path}/{key}"), open);
    }
}

fn properties(schema: &Value, path: &str, into: &mut BTreeSet<String>) {
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        if inner["properties"].is_object() {
            properties(inner, &path, into);
        } else {
            into.insert(path);
        }
    }
}

fn refused() -> TestResult {
    for (set, named) in [
        ("config.dryrun=true", "dryrun"),
        ("config.balancer.minDelta=some", "minDelta"),
        ("config.metricsType=disk", "metricsType"),
        ("config.namespaces=Shop", "namespaces"),
        ("config.appPort=0", "appPort"),
        ("config.prometheusUrl=prometheus:9090", "prometheusUrl"),
        ("config.cronjobExpression=hourly", "cronjobExpression"),
        ("replicas=2", "replicas"),
        ("webhook.certificates=magic", "certificates"),
        ("image.digest=latest", "digest"),
    ] {
        match objects(&[set]) {
            Ok(_) => return Err(format!("{set} is accepted").into()),
            Err(error) if error.to_string().contains(named) => {}
            Err(error) => return Err(format!("{set}: {error}").into()),
        }
    }
    Ok(())
}

/// A values file for the original chart: what it says of settings holds, and what it says of
/// things that are no part of this chart is named in the notes.
fn original() -> TestResult {
    let path = "stornx-daemon/tests/ship/chart/original.yaml";
    let objects = Objects::read(&rendered(&["-f", path])?)?;
    let settings = understood(Some(&objects.settings()?))?;
    for (name, value) in [
        ("NAMESPACES", "online-boutique"),
        ("PROMETHEUS_URL", "http://stornx-prometheus-server"),
        ("CRONJOB_EXPRESSION", "*/5 * * * *"),
        ("METRICS_UPPER_THRESHOLD", "80"),
        ("METRICS_LOWER_THRESHOLD", "30"),
        ("BALANCER_MIN_DELTA", "6"),
        ("FT_MAX_ZONES", "2"),
    ] {
        if settings.get(name).map(String::as_str) != Some(value) {
            return Err(format!("{name}: {:?}", settings.get(name)).into());
        }
    }
    objects.get("ServiceAccount/stornx-sa")?;
    Ok(())
}
