//! Weights that may not stand any more go at once, without the schedule: an endpoint comes
//! that is no pod of this cluster, and a Service loses its selector. What the daemon writes
//! itself makes no cycle of its own. And weights in a namespace that is not managed any more
//! are named, by the daemon and by `stornx cleanup`.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde_json::json;
use stornx_testbed::{NodeSpec, Options, TestBed, apps, harness::Test, wait::until};

use super::{Loaded, loaded, on_changes_alone, shop};
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::{Daemon, stornx},
        rights::OWN,
        tape::{Said, Tape, destination_rules},
    },
};

/// A namespace that was managed once.
const BEFORE: &str = "before";
/// How soon.
const BAR: Duration = Duration::from_secs(2);
/// Longer than a change waits for others, and than a cycle takes.
const QUIET: Duration = Duration::from_millis(1500);

pub(crate) fn tests() -> Vec<Test> {
    let nodes = shop().map(|shop| NodeSpec::of_scenario(&shop)).unwrap_or_default();
    vec![Test::own("given_back_at_once", Options { nodes, ..Options::default() }, at_once)]
}

async fn at_once(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    let scenario = shop()?;
    let Loaded { here, prometheus, .. } = &loaded(&bed, &admin, scenario).await?;
    let tape = Tape::of(&admin, here);
    let settings = on_changes_alone(here, &prometheus.url());
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    written(&tape).await?;
    tape.quiet(QUIET).await?;
    let own = changes(&daemon).await?;
    if own > 0.0 {
        return Err(format!("{own} cycles because of what the daemon wrote itself").into());
    }

    // Somewhere else than in this cluster, and not even ready.
    let slices: Api<EndpointSlice> = Api::namespaced(admin.clone(), here);
    let slice: EndpointSlice = serde_json::from_value(json!({
        "metadata": {"name": "cart-machine", "namespace": here,
            "labels": {"kubernetes.io/service-name": "cart"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["192.0.2.7"], "conditions": {"ready": false}}]
    }))?;
    let from = tape.len();
    let began = std::time::Instant::now();
    apps::create(&admin, &slice).await?;
    gone(&tape, from).await?;
    let foreign = began.elapsed();
    slices.delete("cart-machine", &DeleteParams::default()).await?;

    // Another daemon begins with a cycle, and writes again.
    daemon.terminate().await?;
    left_behind(&admin).await?;
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    written(&tape).await?;
    tape.quiet(QUIET).await?;
    let before = changes(&daemon).await?;
    let services: Api<Service> = Api::namespaced(admin.clone(), here);
    let from = tape.len();
    let began = std::time::Instant::now();
    let without = json!({"spec": {"selector": null}});
    services.patch("cart", &PatchParams::default(), &Patch::Merge(&without)).await?;
    gone(&tape, from).await?;
    let bare = began.elapsed();
    tape.quiet(QUIET).await?;
    let woken = changes(&daemon).await? - before;
    println!(
        "given back at once: {} ms after a foreign endpoint, {} ms after the selector went; \
         {woken} cycles for that, 0 for what was written",
        foreign.as_millis(),
        bare.as_millis(),
    );
    if foreign.max(bare) > BAR || !(1.0..=2.0).contains(&woken) {
        return Err("not at once, or again and again".into());
    }

    let says = |line: &serde_json::Value| line["namespace"] == BEFORE && line["rules"] == 1;
    if !daemon.log().iter().any(says) {
        return Err("the daemon does not say what is left elsewhere".into());
    }
    daemon.terminate().await?;
    let cleanup = |namespaces: String| {
        let settings = [("NAMESPACES", namespaces), ("OWN_NAMESPACE", OWN.to_owned())];
        stornx(&bed, "admin", &settings).arg("cleanup").output()
    };
    let output = cleanup(here.clone())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || !said.contains(&format!("{BEFORE}/stornx-cart")) {
        return Err(format!("a shorter list is clean: {said}").into());
    }
    let output = cleanup(format!("{here},{BEFORE}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(())
}

/// A rule as a daemon wrote it while it managed another namespace too.
async fn left_behind(admin: &Client) -> TestResult {
    apps::namespace(admin, BEFORE).await?;
    let api: Api<DynamicObject> = Api::namespaced_with(admin.clone(), BEFORE, &destination_rules());
    let rule = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "stornx-cart"},
        "spec": {"host": format!("cart.{BEFORE}.svc.cluster.local"), "trafficPolicy": {
            "loadBalancer": {"localityLbSetting": {"distribute": [
                {"from": "region/zone-a/*", "to": {"region/zone-a/*": 100}}
            ]}}
        }}
    });
    let params = PatchParams::apply("stornx");
    api.patch("stornx-cart", &params, &Patch::Apply(rule)).await?;
    Ok(())
}

/// Waits for weights.
async fn written(tape: &Tape) -> TestResult {
    let stands = || tape.stands("stornx-cart").filter(|weights| !weights.is_null());
    until("weights", SOON, || std::future::ready(stands().map(drop).ok_or("none"))).await?;
    Ok(())
}

/// Waits until no weights stand any more.
async fn gone(tape: &Tape, from: usize) -> TestResult {
    let gone = |said: &Said| matches!(said, Said::Weights(rule, weights) if rule == "stornx-cart" && weights.is_null());
    until("no weights", SOON, || {
        let said = tape.since(from);
        let found = said.iter().any(|(_, said)| gone(said));
        std::future::ready(if found { Ok(()) } else { Err(format!("{said:?}")) })
    })
    .await?;
    Ok(())
}

/// Cycles that came because something changed.
async fn changes(daemon: &Daemon) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for result in ["clean", "partial", "failed", "refused"] {
        let labels = [("cause", "change"), ("result", result)];
        sum += daemon.metric("stornx_cycles_total", &labels).await?.unwrap_or_default();
    }
    Ok(sum)
}
