//! The dashboard and the alerts: every metric in them is one of the daemon, and every expression
//! is evaluated by a real Prometheus that scrapes a daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use serde_json::Value;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::{
    Failure, bless,
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, wait_cycles, with},
        hook,
        load::Load,
        rights,
    },
    tools::promtool,
};

const ALERTS: &str = "deploy/monitoring/alerts.yaml";
const DASHBOARD: &str = "deploy/monitoring/dashboard.json";

pub(crate) fn tests() -> Vec<Test> {
    let options = Options { users: vec!["stornx".to_owned()], ..Options::default() };
    vec![
        Test::plain("alerts_and_their_tests", || async { alerts() }),
        Test::plain("monitoring_in_the_chart_is_the_same", || async { copies() }),
        Test::plain("dashboard_is_whole", || async { dashboard() }),
        Test::own("monitoring_expressions_on_prometheus", options, |bed| async move {
            evaluated(bed).await
        }),
    ]
}

fn alerts() -> TestResult {
    promtool(&["check", "rules", "--lint=all", "--lint-fatal", ALERTS])?;
    promtool(&["test", "rules", "deploy/monitoring/alerts.test.yaml"])?;
    // Each alert is one that some test sees firing.
    let tested = bless::file("deploy/monitoring/alerts.test.yaml")?;
    for name in rules()?.keys() {
        if !tested.contains(&format!("alertname=\"{name}\"")) {
            return Err(format!("{name} is never seen firing").into());
        }
    }
    Ok(())
}

/// A chart cannot read files outside of it.
fn copies() -> TestResult {
    for (path, copy) in [(ALERTS, "alerts.yaml"), (DASHBOARD, "dashboard.json")] {
        bless::same(&format!("deploy/helm/stornx/files/{copy}"), &bless::file(path)?)?;
    }
    Ok(())
}

/// Expression by alert.
fn rules() -> Result<BTreeMap<String, String>, Failure> {
    let file: Value = serde_saphyr::from_str(&bless::file(ALERTS)?)?;
    let mut rules = BTreeMap::new();
    for rule in file["groups"]
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default())
    {
        let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.insert(text("alert"), text("expr"));
    }
    Ok(rules)
}

/// Expressions of the dashboard, by title.
fn panels() -> Result<Vec<(String, String)>, Failure> {
    let dashboard: Value = serde_json::from_str(&bless::file(DASHBOARD)?)?;
    let mut found = Vec::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap_or_default().to_owned();
            found.push((title, target["expr"].as_str().unwrap_or_default().to_owned()));
        }
    }
    for annotation in dashboard["annotations"]["list"].as_array().into_iter().flatten() {
        let expression = annotation["expr"].as_str().unwrap_or_default().to_owned();
        found.push(("annotation".to_owned(), expression));
    }
    Ok(found)
}

/// No two panels are one, none lies on another, and all follow the two choices at the top.
fn dashboard() -> TestResult {
    let dashboard: Value = serde_json::from_str(&bless::file(DASHBOARD)?)?;
    let (mut ids, mut fields) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        if !ids.insert(panel["id"].as_u64()) {
            return Err(format!("twice: {}", panel["id"]).into());
        }
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap_or(u64::MAX);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                if x >= 24 || !fields.insert((x, y)) {
                    return Err(format!("{} lies on another or outside", panel["title"]).into());
                }
            }
        }
    }
    for (title, expression) in panels()? {
        let metrics = names(&expression).len();
        if metrics == 0 || expression.matches("job=~\"$job\"").count() != metrics_used(&expression)
        {
            return Err(format!("{title}: {expression} does not follow the job").into());
        }
    }
    Ok(())
}

/// How often a metric is named.
fn metrics_used(expression: &str) -> usize {
    expression.matches("stornx_").count()
}

/// The metrics in an expression.
fn names(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !word(c));
    words.filter(|name| name.starts_with("stornx_")).map(ToOwned::to_owned).collect()
}

/// The metrics of the daemon. A unit test holds the table of the documentation against the
/// registry; a page does not show what was never counted.
fn registered() -> Result<BTreeSet<String>, Failure> {
    let text = bless::file("docs/running.md")?;
    let table = text.split_once("| metric | labels | meaning |\n").ok_or("no table of metrics")?.1;
    let rows = table.lines().take_while(|line| line.starts_with('|')).skip(1);
    let mut names = BTreeSet::new();
    for row in rows {
        let cell = row.split('|').nth(1).unwrap_or_default();
        for name in cell.split('`').skip(1).step_by(2) {
            // A histogram is read by its buckets.
            let ending = if name.ends_with("_duration_seconds") { "_bucket" } else { "" };
            names.insert(format!("stornx_{name}{ending}"));
        }
    }
    Ok(names)
}

async fn evaluated(bed: Arc<TestBed>) -> TestResult {
    let namespace = "monitored";
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, namespace).await?;
    rights::grant(&admin, "stornx", &[namespace]).await?;
    hook::install(&admin, rights::OWN).await?;
    let load = Load::start(admin.clone(), namespace).await?;
    load.set("busy", 300.0);
    Workload::new(namespace, "busy", 2).create(&admin).await?;
    // The daemon asks the same Prometheus that scrapes it.
    let port = stornx_testbed::ports::free()?;
    let own = stornx_testbed::ports::free()?;
    let scrape = Scrape {
        port: Some(port),
        ..Scrape::each_second([load.address, SocketAddr::from(([127, 0, 0, 1], own))])
    };
    let prometheus = bed.start_prometheus(&scrape).await?;
    let own = own.to_string();
    let settings = with(
        quick(namespace, &prometheus.url()),
        &[("APP_PORT", own.as_str()), ("POD_IP", "10.0.0.7")],
    );
    let daemon = Daemon::start(&bed, "stornx", "monitored", &settings).await?;
    daemon.wait_ready().await?;
    wait_cycles(&daemon, 3.0).await?;

    // What the first row shows is there within seconds.
    for (title, expression) in panels()?.into_iter().take(7) {
        let plain = expression.replace("$job", ".*").replace("1h", "1m");
        until(&format!("{title} to have a value"), SOON, || async {
            let samples = prometheus.query(&plain).await.map_err(|error| error.to_string())?;
            if samples.is_empty() { Err("nothing".to_owned()) } else { Ok(()) }
        })
        .await?;
    }

    let known = registered()?;
    let mut asked = BTreeSet::new();
    let all = panels()?.into_iter().chain(rules()?);
    let (mut count, mut answered) = (0, 0);
    for (title, expression) in all {
        let unknown: Vec<_> = names(&expression).difference(&known).cloned().collect();
        if !unknown.is_empty() {
            return Err(format!("{title}: no metrics of StornX: {unknown:?}").into());
        }
        asked.extend(names(&expression));
        let plain = expression.replace("$job", ".*").replace("$__rate_interval", "1m");
        count += 1;
        let samples =
            prometheus.query(&plain).await.map_err(|error| format!("{title}: {error}"))?;
        answered += usize::from(!samples.is_empty());
    }
    // What is counted and shown nowhere helps nobody.
    let unused: Vec<_> = known.difference(&asked).collect();
    if !unused.is_empty() {
        return Err(format!("in no panel and no alert: {unused:?}").into());
    }
    println!("monitoring: {count} expressions evaluated, {answered} with a value");
    Ok(())
}
