//! Ownership with a running daemon: a tool that applies its own rule again and again, and a
//! person who edits, while weights are written. Nobody loses a field, and once nothing
//! changes any more nobody writes because of the others.
//!
//! `STORNX_E2E_OWNERS=300` runs the long form, in seconds.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{DynamicObject, Patch, PatchParams},
};
use serde_json::{Value, json};
use stornx_testbed::{
    NodeSpec, Options, TestBed,
    apps::{self, Boutique, Workload},
    cluster::stages::READY,
    emulate::{Emulation, Settings},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use super::shop;
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, with},
        long_form, rights,
        tape::{Said, Tape, destination_rules, distribute},
    },
};

/// How often the tool applies.
const AGAIN: Duration = Duration::from_secs(2);
/// How long nothing but the tool and the person does anything, at the end.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn tests() -> Vec<Test> {
    let nodes = shop().map(|shop| NodeSpec::of_scenario(&shop)).unwrap_or_default();
    vec![Test::own("ownership", Options { nodes, ..Options::default() }, ownership)]
}

/// The others, with what they want.
struct Others {
    rules: Api<DynamicObject>,
    pods: Api<Pod>,
    applied: usize,
    edited: usize,
}

impl Others {
    /// What the tool has in its source: its own fields and no weights.
    async fn apply(&mut self) -> TestResult {
        let rule = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
            "metadata": {"name": "theirs"},
            "spec": {"host": "cart", "trafficPolicy": {
                "connectionPool": {"tcp": {"maxConnections": 77}},
                "loadBalancer": {"simple": "LEAST_REQUEST"}
            }}
        });
        let params = PatchParams::apply("gitops").force();
        self.rules.patch("theirs", &params, &Patch::Apply(rule)).await?;
        self.applied += 1;
        Ok(())
    }

    /// A person sets another field to another value each time.
    async fn edit(&mut self) -> TestResult {
        self.edited += 1;
        let pool = json!({"http": {"http1MaxPendingRequests": self.edited}});
        let edit = json!({"spec": {"trafficPolicy": {"connectionPool": pool}}});
        let params =
            PatchParams { field_manager: Some("person".to_owned()), ..PatchParams::default() };
        self.rules.patch("theirs", &params, &Patch::Merge(edit)).await?;
        Ok(())
    }

    /// Something for StornX to write about.
    async fn toggle(&self, pod: &str, ready: bool) -> TestResult {
        let patch = json!({"metadata": {"annotations": {READY: ready.to_string()}}});
        self.pods.patch(pod, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// All that is theirs is there, and all that is ours is ours.
    fn check(&self, rule: &Value, weights: bool) -> TestResult {
        let at = |path: &str| rule.pointer(path).cloned().unwrap_or_default();
        let pool = "/spec/trafficPolicy/connectionPool";
        let wanted = [
            (format!("{pool}/tcp/maxConnections"), json!(77)),
            ("/spec/trafficPolicy/loadBalancer/simple".to_owned(), json!("LEAST_REQUEST")),
        ];
        for (path, value) in wanted {
            if at(&path) != value {
                return Err(format!("{path} is lost: {rule}").into());
            }
        }
        let distribute = "/spec/trafficPolicy/loadBalancer/localityLbSetting/distribute";
        if weights && at(distribute).is_null() {
            return Err(format!("our weights are lost: {rule}").into());
        }
        Ok(())
    }
}

async fn ownership(bed: Arc<TestBed>) -> TestResult {
    let length = Duration::from_secs(u64::try_from(long_form("STORNX_E2E_OWNERS", 14)?)?);
    let admin = bed.client("admin").await?;
    let scenario = shop()?;
    let mut apps = Boutique::of_scenario(&scenario);
    apps.workloads = apps.workloads.into_iter().map(Workload::spread).collect();
    apps.deploy(&admin).await?;
    apps.wait_ready(&admin, SOON).await?;
    let here = apps.namespace.clone();
    rights::grant(&admin, "stornx", &[&here]).await?;
    let emulation = Emulation::start(&admin, Settings::new(scenario)).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;
    let mut others = Others {
        rules: Api::namespaced_with(admin.clone(), &here, &destination_rules()),
        pods: Api::namespaced(admin.clone(), &here),
        applied: 0,
        edited: 0,
    };
    others.apply().await?;
    let tape = Tape::of(&admin, &here);
    let settings = with(
        quick(&here, &prometheus.url()),
        &[
            ("SCALER_ENABLED", "false"),
            ("MOVES_ENABLED", "false"),
            ("BALANCER_WARMUP_SECONDS", "0"),
        ],
    );
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    let stands = || tape.stands("theirs").filter(|weights| !weights.is_null());
    until("weights", SOON, || std::future::ready(stands().map(drop).ok_or("none"))).await?;

    // Everybody writes: replicas come and go, so that weights change.
    let pods = apps::ready_pods(&admin, &here, "app=cart").await?;
    let pod = pods.first().ok_or("a replica")?.name_any();
    let from = tape.len();
    let began = Instant::now();
    let mut ready = true;
    while began.elapsed() < length {
        others.apply().await?;
        ready = !ready;
        others.toggle(&pod, ready).await?;
        tokio::time::sleep(AGAIN / 2).await;
        others.edit().await?;
        tokio::time::sleep(AGAIN / 2).await;
    }
    others.toggle(&pod, true).await?;
    let busy = judge(&tape, from, &others)?;
    println!(
        "ownership: in {:.0} s {} applies, {} edits; changes of the rule a minute: {}",
        began.elapsed().as_secs_f64(),
        others.applied,
        others.edited,
        told(&busy, began.elapsed()),
    );
    if busy.get("stornx").is_none_or(|writes| *writes == 0) {
        return Err("no weights were written while others wrote".into());
    }
    // Nothing changes any more: the weights settle, whatever the others go on doing. Rates over
    // five seconds vary by themselves, so a step may still come; whoever fights answers each
    // write of the others.
    let settled = || {
        let said = tape.since(0).into_iter().rev();
        let last = said.into_iter().find(|(_, said)| matches!(said, Said::Weights(..)));
        last.map_or(Duration::ZERO, |(at, _)| at.elapsed())
    };
    until("weights to settle", SOON * 2, || {
        let length = settled();
        std::future::ready(if length > REST { Ok(()) } else { Err(format!("{length:?}")) })
    })
    .await?;
    let (from, edits, began) = (tape.len(), others.edited, Instant::now());
    while began.elapsed() < REST * 2 {
        others.apply().await?;
        others.edit().await?;
        tokio::time::sleep(AGAIN).await;
    }
    let rest = judge(&tape, from, &others)?;
    println!("ownership: at rest, changes of the rule a minute: {}", told(&rest, began.elapsed()));
    let edits = others.edited - edits;
    let of = |who: &str| rest.get(who).copied().unwrap_or(0);
    // An edit changes something each time, an apply of the same does not: more changes than
    // edits would be weights written again as they were.
    if of("others") > edits || 2 * of("stornx") > edits || stands().is_none() {
        return Err(format!("a fight: {rest:?} after {edits} edits").into());
    }
    owned_alone(&others).await
}

/// Nobody but StornX owns the weights, and it owns nothing else.
async fn owned_alone(others: &Others) -> TestResult {
    let rule = others.rules.get("theirs").await?;
    if distribute(&rule).is_null() {
        return Err("no weights".into());
    }
    for one in rule.metadata.managed_fields.iter().flatten() {
        let fields = serde_json::to_string(&one.fields_v1)?;
        let ours = one.manager.as_deref() == Some("stornx");
        let more =
            ["connectionPool", "f:simple", "f:host"].iter().any(|name| fields.contains(name));
        if fields.contains("f:distribute") != ours || (ours && more) {
            return Err(format!("{:?} owns {fields}", one.manager).into());
        }
    }
    Ok(())
}

/// Changes of the rule by who made them; every one of them has all fields.
fn judge(tape: &Tape, from: usize, others: &Others) -> Result<BTreeMap<String, usize>, Failure> {
    let mut changes = BTreeMap::new();
    let said = tape.since(from);
    for (at, (_, what)) in said.iter().enumerate() {
        let Said::Rule(name, rule) = what else { continue };
        if name != "theirs" {
            continue;
        }
        others.check(rule, true)?;
        let ours =
            matches!(said.get(at + 1), Some((_, Said::Weights(name, _))) if name == "theirs");
        *changes.entry(if ours { "stornx" } else { "others" }.to_owned()).or_default() += 1;
    }
    Ok(changes)
}

fn told(changes: &BTreeMap<String, usize>, time: Duration) -> String {
    #[allow(clippy::cast_precision_loss)] // Some hundreds.
    let rate = |count: &usize| *count as f64 * 60.0 / time.as_secs_f64();
    let each = changes.iter().map(|(who, count)| format!("{who} {:.0}", rate(count)));
    each.collect::<Vec<_>>().join(", ")
}
