//! The whole product at once: the daemon sees the boutique's traffic, finds a replica that
//! would do better elsewhere, and moves it there, told by its own webhook; replicas that an
//! autoscaler asks for come up near their callers too.

use std::sync::{Arc, Mutex, PoisonError};

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
    daemon::{Daemon, quick, with},
    hook,
    pods::Lives,
    rights::{self, OWN},
    seen,
};

/// Called by others at 300 requests a second.
const BUSY: &str = "currency";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("nearer", Options::default(), nearer)]
}

async fn nearer(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    let boutique = Boutique::new();
    boutique.deploy(&admin).await?;
    boutique.wait_ready(&admin, SOON).await?;
    let here = boutique.namespace.as_str();
    rights::grant(&admin, "stornx", &[here]).await?;
    hook::install(&admin, OWN).await?;
    let busy = boutique.workload(BUSY).ok_or("a service of the boutique")?;
    let traffic = Settings::new(boutique_scenario().clone());
    let emulation = Emulation::start(&admin, traffic).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;
    let lives = Lives::watch(&admin, here);

    let port = stornx_testbed::ports::free()?.to_string();
    let url = format!("https://127.0.0.1:{port}");
    let settings = with(
        quick(here, &prometheus.url()),
        &[
            ("WEBHOOK_ENABLED", "true"),
            ("WEBHOOK_PORT", &port),
            ("WEBHOOK_URL", &url),
            ("SCALER_ENABLED", "false"),
            ("MOVE_BACKOFF_SECONDS", "10"),
            ("MOVE_TIMEOUT_SECONDS", "30"),
            ("BALANCER_WARMUP_SECONDS", "1"),
        ],
    );
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    until("a move to be done", SOON, || async {
        let labels = [("kind", "close-move"), ("result", "done")];
        match daemon.metric("stornx_actions_total", &labels).await.map_err(|e| e.to_string())? {
            Some(done) if done > 0.0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let told = lives.all().into_values().filter(|life| life.told.is_some()).collect::<Vec<_>>();
    if told.is_empty() || told.iter().any(|life| life.node.is_some() && life.told != life.node) {
        return Err(format!("not where they were told: {told:?}").into());
    }
    let finished = Mutex::new(0);
    until("an event to say that a move was finished", SOON, || async {
        let mut found = 0;
        for workload in boutique.workloads.iter().filter(|one| one.namespace == here) {
            let events = seen::events(&admin, here, &workload.name, "MoveFinished").await;
            found += events.map_err(|error| error.to_string())?.len();
        }
        *finished.lock().unwrap_or_else(PoisonError::into_inner) = found;
        if found == 0 { Err("none so far".to_owned()) } else { Ok(()) }
    })
    .await?;
    let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);

    // Somebody else asks for replicas: they are told where they would best be.
    let before = apps::ready_pods(&admin, here, &busy.selector()).await?.len();
    apps::scale(&admin, busy, u32::try_from(before)? + 2).await?;
    apps::wait_ready(&admin, busy, before + 2, SOON).await?;
    let preferred = apps::ready_pods(&admin, here, &busy.selector()).await?;
    let preferred = preferred
        .iter()
        .filter(|pod| {
            let all = pod.metadata.annotations.as_ref();
            all.is_some_and(|all| all.contains_key("stornx.io/preferred"))
        })
        .count();
    println!("nearer: {} told, {finished} events, {preferred} preferred", told.len());
    if preferred == 0 {
        return Err("nobody told the new replicas where they would best be".into());
    }
    Ok(())
}
