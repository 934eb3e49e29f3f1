//! The main job: the boutique under the simulator's traffic, seen through the real
//! Prometheus. A service that has too few replicas goes up, placed by the service graph,
//! one that has too many goes down, and the traffic between zones is known well enough to
//! plan its weights.

use std::sync::Arc;

use serde_json::Value;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Boutique, boutique_scenario},
    emulate::{Emulation, Settings},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::support::{
    SOON, TestResult,
    daemon::{Daemon, quick},
    rights, seen,
};

/// Called by others at 300 requests a second; one replica of it is far too few.
const BUSY: &str = "currency";
/// Called seldom; six replicas of it are far too many.
const IDLE: &str = "email";

/// Edges of the service graph that are never without requests for seconds.
const EDGES: usize = 10;

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("boutique", Options::default(), boutique)]
}

async fn boutique(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    let boutique = Boutique::new();
    boutique.deploy(&admin).await?;
    boutique.wait_ready(&admin, SOON).await?;
    let here = boutique.namespace.as_str();
    rights::grant(&admin, "stornx", &[here]).await?;
    for (name, replicas) in [(BUSY, 1), (IDLE, 6)] {
        let workload = boutique.workload(name).ok_or("a service of the boutique")?;
        apps::scale(&admin, workload, replicas).await?;
        apps::wait_ready(&admin, workload, usize::try_from(replicas)?, SOON).await?;
    }
    let traffic = Settings::new(boutique_scenario().clone());
    let emulation = Emulation::start(&admin, traffic).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;

    let daemon = Daemon::start(&bed, "stornx", "stornx", &quick(here, &prometheus.url())).await?;
    daemon.wait_ready().await?;
    until("one to go up and the other down", SOON, || async {
        let busy = seen::replicas(&admin, here, BUSY).await.map_err(|e| e.to_string())?;
        let idle = seen::replicas(&admin, here, IDLE).await.map_err(|e| e.to_string())?;
        if busy > 1 && idle < 6 { Ok(()) } else { Err(format!("{BUSY} {busy}, {IDLE} {idle}")) }
    })
    .await?;
    until("the event that says near whom", SOON, || async {
        let told = seen::events(&admin, here, BUSY, "ScaledUp").await.map_err(|e| e.to_string())?;
        if told.iter().any(|note| note.contains("is nearest to")) {
            Ok(())
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await?;

    // All inputs are known, weights are planned and written.
    for input in ["usage", "traffic", "latency", "routing"] {
        let labels = [("input", input), ("state", "fresh")];
        if daemon.metric("stornx_input_state", &labels).await? != Some(1.0) {
            return Err(format!("{input} is not known").into());
        }
    }
    until("weights to be written", SOON, || async {
        let labels = [("kind", "set-routes"), ("result", "done")];
        let planned = daemon.metric("stornx_actions_total", &labels).await;
        match planned.map_err(|e| e.to_string())? {
            Some(actions) if actions > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let snapshot: Value = serde_json::from_str(&daemon.page("/api/v1/snapshot").await?)?;
    let edges = snapshot["traffic"]["fresh"]["value"]["edges"].as_array().map_or(0, Vec::len);
    if edges < EDGES {
        return Err(format!("only {edges} edges of the service graph are known").into());
    }
    let left_out = emulation.left_out();
    println!("boutique: {edges} edges; the emulator left out {left_out:?}");
    Ok(())
}
