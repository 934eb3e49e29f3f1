//! The rights in the chart. `deploy/rbac/stornx.yaml`, under which all end-to-end tests run, is
//! what the chart renders with everything switched on.

use std::collections::BTreeSet;

use serde_json::Value;
use stornx_testbed::harness::Test;

use crate::{
    bless,
    support::{TestResult, rights},
    tools::{Objects, objects, rendered},
};

const FILE: &str = "deploy/rbac/stornx.yaml";

const HEAD: &str = "\
# What StornX may do, and nothing that it does not: the end-to-end tests run under these
# roles, and one of them compares what the API server's audit log says was used.
#
# Rendered from the chart (deploy/helm/stornx) with everything switched on; a test fails when
# it differs. The chart gives less where less is switched on.
#
# Change \"stornx\" (where it runs) and \"default\" (what it manages: one Role and one
# RoleBinding for each namespace in NAMESPACES).
apiVersion: v1
kind: ServiceAccount
metadata:
  name: stornx
  namespace: stornx
";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("chart_rights_are_those_of_the_tests", || async { same() }),
        Test::plain("chart_rights_follow_what_is_switched_on", || async { least() }),
    ]
}

fn same() -> TestResult {
    let arguments = ["-s", "templates/rbac.yaml", "--set", "rbac.all=true,config.dryRun=false"];
    let text = rendered(&arguments)?;
    let mut plain = HEAD.to_owned();
    let mut labels = false;
    for line in text.lines().filter(|line| !line.starts_with("# Source: ")) {
        // Labels of the release mean nothing without one.
        labels = line == "  labels:" || (labels && line.starts_with("    "));
        if !labels && !line.trim().is_empty() {
            plain += line;
            plain += "\n";
        }
    }
    bless::same(FILE, &plain)
}

/// Verb and resource of every rule in roles whose name ends so.
fn granted(objects: &Objects, suffix: &str) -> BTreeSet<(String, String)> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    let mut rights = BTreeSet::new();
    for object in &objects.0 {
        if !object["metadata"]["name"].as_str().unwrap_or_default().ends_with(suffix) {
            continue;
        }
        for rule in object["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert((verb, format!("{group}/{resource}")));
                    }
                }
            }
        }
    }
    rights
}

/// Whether there is a right to change something of these resources.
fn may(rights: &BTreeSet<(String, String)>, resource: &str) -> bool {
    rights
        .iter()
        .any(|(verb, on)| on == resource && !["get", "list", "watch"].contains(&verb.as_str()))
}

const SCALE: &str = "apps/deployments/scale";
const EVICT: &str = "/pods/eviction";
const MINIMUM: &str = "autoscaling/horizontalpodautoscalers";
const ROUTES: &str = "networking.istio.io/destinationrules";
const HOOK: &str = "admissionregistration.k8s.io/mutatingwebhookconfigurations";
const EVENTS: &str = "events.k8s.io/events";
const NODES: &str = "/nodes";

fn least() -> TestResult {
    // Switched on, and what may then be changed of the six.
    // What is switched off is still finished, taken back or kept from cutting a zone off.
    let cases: [(&[&str], &[&str]); 11] = [
        (&[], &[]),
        (
            &["config.dryRun=true", "rbac.all=true"],
            &[SCALE, EVICT, MINIMUM, ROUTES, HOOK, EVENTS, NODES],
        ),
        (
            &["config.dryRun=false", "config.balancer.granularity=node"],
            &[SCALE, EVICT, ROUTES, HOOK, EVENTS, NODES],
        ),
        (&["config.dryRun=false"], &[SCALE, EVICT, ROUTES, HOOK, EVENTS]),
        (
            &["config.dryRun=false", "config.balancer.enabled=false"],
            &[SCALE, EVICT, ROUTES, HOOK, EVENTS],
        ),
        (&["config.dryRun=false", "config.webhook.enabled=false"], &[SCALE, ROUTES, EVENTS]),
        (
            &["config.dryRun=false", "config.moves.hpaWorkloads=hold"],
            &[SCALE, EVICT, MINIMUM, ROUTES, HOOK, EVENTS],
        ),
        (
            &[
                "config.dryRun=false",
                "config.webhook.enabled=false",
                "config.moves.hpaWorkloads=evict",
            ],
            &[SCALE, EVICT, ROUTES, EVENTS],
        ),
        (
            &["config.dryRun=false", "config.scaler.enabled=false", "config.moves.enabled=false"],
            &[SCALE, EVICT, ROUTES, HOOK, EVENTS],
        ),
        (
            &[
                "config.dryRun=false",
                "config.moves.enabled=false",
                "config.moves.hpaWorkloads=hold",
            ],
            &[SCALE, EVICT, MINIMUM, ROUTES, HOOK, EVENTS],
        ),
        (
            &[
                "config.dryRun=false",
                "config.scaler.enabled=false",
                "config.moves.enabled=false",
                "config.balancer.enabled=false",
                "config.webhook.enabled=false",
            ],
            &[SCALE, ROUTES, EVENTS],
        ),
    ];
    let everything = rights::granted()?;
    for (values, changes) in cases {
        let objects = objects(values)?;
        let rights = granted(&objects, "");
        for resource in [SCALE, EVICT, MINIMUM, ROUTES, HOOK, EVENTS, NODES] {
            if may(&rights, resource) != changes.contains(&resource) {
                return Err(format!("{values:?}: {resource}: {rights:?}").into());
            }
        }
        if !rights.is_subset(&everything) {
            return Err(format!("{values:?}: more than the tests run under").into());
        }
    }
    // In a dry run nothing may be written anywhere.
    let dry = granted(&objects(&[])?, "");
    if let Some(right) =
        dry.iter().find(|(verb, _)| !["get", "list", "watch"].contains(&verb.as_str()))
    {
        return Err(format!("{right:?} in a dry run").into());
    }
    // Rights to write workloads are given in the named namespaces, and in no other.
    let two = objects(&["config.dryRun=false", "config.namespaces={shop,bank}"])?;
    let roles: Vec<String> =
        two.names().into_iter().filter(|name| name.starts_with("Role/")).collect();
    if roles != ["Role/bank/stornx-write", "Role/shop/stornx-write", "Role/stornx-own"] {
        return Err(format!("{roles:?}").into());
    }
    let cluster = granted(&two, "-read");
    if cluster.iter().any(|(verb, _)| verb != "list" && verb != "watch") {
        return Err(format!("in the whole cluster: {cluster:?}").into());
    }
    let none = objects(&["rbac.create=false"])?;
    if none.names().iter().any(|name| name.contains("Role")) {
        return Err("roles, though none are wanted".into());
    }
    Ok(())
}
