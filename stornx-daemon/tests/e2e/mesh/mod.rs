//! What routing has to show: how soon a rule follows a change or goes, that no request is cut off,
//! that nobody fights, that slow replicas are left, what it brings against what can be had
//! without it, and that a thousand hosts are written in peace.

mod closed_loop;
mod cut_off;
mod floor;
mod given_back;
mod ownership;
mod reaction;
mod slow;
mod thousand;

use kube::Client;
use stornx_sim::scenario::Scenario;
use stornx_testbed::{
    TestBed,
    apps::{Boutique, Workload},
    emulate::{Emulation, Settings},
    harness::Test,
    prometheus::{Prometheus, Scrape},
    wait::until,
};

use crate::{
    Failure,
    support::{
        SOON,
        daemon::{quick, with},
        rights,
    },
};

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = reaction::tests();
    tests.extend(cut_off::tests());
    tests.extend(ownership::tests());
    tests.extend(given_back::tests());
    tests.extend(slow::tests());
    tests.extend(closed_loop::tests());
    tests.extend(thousand::tests());
    tests
}

fn scenario(file: &str, text: &str) -> Result<Scenario, Failure> {
    Ok(Scenario::parse(file, text)?)
}

/// A front end in three zones that calls one back end.
fn shop() -> Result<Scenario, Failure> {
    scenario("shop.yaml", include_str!("shop.yaml"))
}

/// The shop with replicas in every zone, under load that the metrics show already.
struct Loaded {
    apps: Boutique,
    here: String,
    prometheus: Prometheus,
    /// It ends with this.
    _emulation: Emulation,
}

async fn loaded(bed: &TestBed, admin: &Client, scenario: Scenario) -> Result<Loaded, Failure> {
    let mut apps = Boutique::of_scenario(&scenario);
    apps.workloads = apps.workloads.into_iter().map(Workload::spread).collect();
    apps.ingress.replicas = 3;
    apps.deploy(admin).await?;
    apps.wait_ready(admin, SOON).await?;
    let here = apps.namespace.clone();
    rights::grant(admin, "stornx", &[&here]).await?;
    let emulation = Emulation::start(admin, Settings::new(scenario)).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([emulation.address()])).await?;
    let rates = "rate(istio_requests_total{destination_service_name=\"cart\"}[5s]) > 1";
    until("rates", SOON, || async {
        let found = prometheus.query(rates).await.map_err(|error| error.to_string())?;
        if found.len() < 6 { Err(format!("{} series", found.len())) } else { Ok(()) }
    })
    .await?;
    Ok(Loaded { apps, here, prometheus, _emulation: emulation })
}

/// Routes alone, and neither the schedule nor glances come: what is done follows a change.
fn on_changes_alone(namespace: &str, prometheus: &str) -> Vec<(&'static str, String)> {
    with(
        quick(namespace, prometheus),
        &[
            ("CRONJOB_EXPRESSION", "0 0 29 2 *"),
            ("GLANCE_SECONDS", "86400"),
            ("SCALER_ENABLED", "false"),
            ("MOVES_ENABLED", "false"),
            ("BALANCER_WARMUP_SECONDS", "0"),
        ],
    )
}
