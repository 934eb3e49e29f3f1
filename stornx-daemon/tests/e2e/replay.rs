//! What a live cycle decided is what a replay of its snapshot decides, byte for byte.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value;
use stornx_testbed::{
    TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
};

use crate::support::{
    SOON, TestResult,
    daemon::{Daemon, quick, stornx},
    load::Load,
    rights,
};

const HERE: &str = "replay";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("replay", stornx_testbed::Options::default(), replay)]
}

async fn replay(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    let load = Load::start(admin.clone(), HERE).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;
    for (name, replicas, used) in [("busy", 2, 300.0), ("idle", 4, 10.0), ("calm", 3, 150.0)] {
        load.set(name, used);
        Workload::new(HERE, name, replicas).create(&admin).await?;
    }
    let settings = quick(HERE, &prometheus.url());
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;

    // A cycle that acted, and later ones with something to remember.
    let deadline = Instant::now() + SOON;
    let (mut compared, mut acted, mut remembered) = (0, false, false);
    while !(acted && remembered && compared >= 3) {
        if Instant::now() > deadline {
            let seen = format!("{compared} compared, acted: {acted}, remembered: {remembered}");
            return Err(seen.into());
        }
        let (snapshot, plan) = same_cycle(&daemon).await?;
        let file = bed.folder().join("recorded.json");
        std::fs::write(&file, &snapshot)?;
        let output = stornx(&bed, "stornx", &settings)
            .args(["plan", "-o", "json", "--snapshot"])
            .arg(&file)
            .output()?;
        let replayed = String::from_utf8_lossy(&output.stdout).into_owned();
        if replayed != plan {
            std::fs::write(bed.folder().join("live.json"), &plan)?;
            std::fs::write(bed.folder().join("replayed.json"), &replayed)?;
            return Err("recorded.json: live.json and replayed.json differ".into());
        }
        compared += 1;
        let plan: Value = serde_json::from_str(&plan)?;
        acted |= plan["plan"]["actions"].as_array().is_some_and(|actions| !actions.is_empty());
        let snapshot: Value = serde_json::from_str(&snapshot)?;
        remembered |= snapshot["memory"]["workloads"].is_object();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Recording from outside gives a file that can be replayed as well.
    let file = bed.folder().join("outside.yaml");
    let output = stornx(&bed, "stornx", &settings).args(["record", "--out"]).arg(&file).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let output = stornx(&bed, "stornx", &settings)
        .args(["explain", "busy", "--snapshot"])
        .arg(&file)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !text.contains("busy") {
        return Err(format!("explain: {text} {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let took = daemon.terminate().await?;
    if took.as_secs() >= 5 {
        return Err(format!("stopping took {took:?}").into());
    }
    Ok(())
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Snapshot and plan of one and the same cycle.
async fn same_cycle(daemon: &Daemon) -> Result<(String, String), Failure> {
    for _ in 0..100 {
        let plan = daemon.page("/api/v1/plan").await?;
        let snapshot = daemon.page("/api/v1/snapshot").await?;
        let after = daemon.page("/api/v1/plan").await?;
        // A plan carries the instant that it was decided for.
        if plan == after {
            return Ok((snapshot, plan));
        }
    }
    Err("every cycle is shorter than two requests".into())
}
