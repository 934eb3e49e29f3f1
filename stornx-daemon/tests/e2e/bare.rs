//! Nothing of ours is needed: a cluster with only Kubernetes and a Prometheus that knows
//! nothing. Degraded modes are named once and no error is repeated.

use std::sync::Arc;

use serde_json::Value;
use stornx_testbed::{
    Crd, Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::support::{
    SOON, TestResult,
    daemon::{Daemon, quick, wait_cycles},
    rights, seen,
};

const HERE: &str = "bare";

pub(crate) fn tests() -> Vec<Test> {
    let options = Options { crds: vec![], ..Options::default() };
    vec![Test::own("bare_cluster", options, bare)]
}

async fn bare(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([])).await?;
    let workload = Workload::new(HERE, "alone", 2);
    workload.create(&admin).await?;
    apps::wait_ready(&admin, &workload, 2, SOON).await?;
    let daemon = Daemon::start(&bed, "stornx", "stornx", &quick(HERE, &prometheus.url())).await?;
    daemon.wait_ready().await?;
    wait_cycles(&daemon, 10.0).await?;

    let lines = daemon.log();
    let worse = |line: &&Value| matches!(line["level"].as_str(), Some("WARN" | "ERROR"));
    let mut said: Vec<String> = lines.iter().filter(worse).map(ToString::to_string).collect();
    let count = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    for (input, times) in [("usage-missing", 1), ("traffic-missing", 1), ("latency-missing", 1)] {
        if count(input) != times {
            return Err(format!("{input} was told {} times: {said:#?}", count(input)).into());
        }
    }
    // No warning or error stands there twice, apart from its time.
    for line in &mut said {
        let mut value: Value = serde_json::from_str(line)?;
        value["timestamp"] = Value::Null;
        *line = value.to_string();
    }
    said.sort();
    if let Some(twice) = said.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(format!("told twice: {}", twice[0]).into());
    }
    if seen::replicas(&admin, HERE, "alone").await? != 2 {
        return Err("scaled without knowing anything".into());
    }
    let state = [("input", "usage"), ("state", "missing")];
    if daemon.metric("stornx_input_state", &state).await? != Some(1.0) {
        return Err("the metric does not say that usage is missing".into());
    }

    // Istio is installed later: noticed without a restart.
    let route = |reason| [("decision", "route"), ("reason", reason)];
    if daemon.metric("stornx_left_alone", &route("not-routable")).await? < Some(1.0) {
        return Err("no host is not-routable without a mesh".into());
    }
    bed.create_crd(Crd::DestinationRule).await?;
    until("the mesh to be noticed", SOON, || async {
        match daemon.metric("stornx_left_alone", &route("not-routable")).await {
            Ok(None | Some(0.0)) => Ok(()),
            Ok(Some(hosts)) => Err(format!("{hosts} hosts are not routable")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?;
    Ok(())
}
