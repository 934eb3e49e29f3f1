//! Least rights: what `deploy/rbac` grants is what the API server's audit log says was
//! used, and nothing is refused.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Node, discovery::v1::EndpointSlice};
use kube::{Api, Client, ResourceExt as _, api::ListParams};
use serde_json::json;
use stornx_core::model::SUBZONE;
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        audit::Audit,
        daemon::{Daemon, quick, wait_cycles, with},
        hook,
        load::Load,
        rights::{self, Right},
        seen,
    },
};

const HERE: &str = "rights";

/// Rights that this test does not provoke, and what does.
const NOT_PROVOKED: [(&str, &str); 9] = [
    // There is no metrics-server in the test bed.
    ("list", "metrics.k8s.io/pods"),
    // Nor are its WorkloadEntries, of all of Istio's kinds.
    ("list", "networking.istio.io/workloadentries"),
    ("watch", "networking.istio.io/workloadentries"),
    // Moves by holding the minimum of an autoscaler.
    ("patch", "autoscaling/horizontalpodautoscalers"),
    // A replica that waits in vain for its node, and moves by eviction.
    ("create", "/pods/eviction"),
    // Nobody calls anything here; the tests of routes run under the same rights. Creating
    // is a patch in the audit log.
    ("get", "networking.istio.io/destinationrules"),
    ("create", "networking.istio.io/destinationrules"),
    ("patch", "networking.istio.io/destinationrules"),
    ("delete", "networking.istio.io/destinationrules"),
];

pub(crate) fn tests() -> Vec<Test> {
    let (options, log) = Audit::of("rights-audit", "Metadata", &["stornx"], Options::default());
    vec![Test::own("least_rights", options, move |bed| async move { used(bed, &log).await })]
}

async fn used(bed: Arc<TestBed>, log: &Audit) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    hook::install(&admin, rights::OWN).await?;
    let load = Load::start(admin.clone(), HERE).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;
    for (name, replicas, used) in [("busy", 2, 300.0), ("idle", 4, 10.0)] {
        load.set(name, used);
        Workload::new(HERE, name, replicas).create(&admin).await?;
    }
    stateful_set(&admin).await?;
    load.set("stateful", 10.0);
    let at = |address: &str| {
        let mut settings = quick(HERE, &prometheus.url());
        settings.push(("POD_IP", address.to_owned()));
        settings
    };
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &at("10.0.0.7")).await?;
    daemon.wait_ready().await?;
    until("both to be scaled and told", SOON, || async {
        let up = seen::events(&admin, HERE, "busy", "ScaledUp").await.map_err(|e| e.to_string())?;
        let down =
            seen::events(&admin, HERE, "idle", "ScaledDown").await.map_err(|e| e.to_string())?;
        if up.is_empty() || down.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await?;
    let sets: Api<StatefulSet> = Api::namespaced(admin.clone(), HERE);
    until("the StatefulSet to go down", SOON, || async {
        let set = sets.get("stateful").await.map_err(|error| error.to_string())?;
        match set.spec.and_then(|spec| spec.replicas) {
            Some(replicas) if replicas < 4 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    // Everything is watched by now: from here on nothing is listed.
    let lists = || -> Result<usize, Failure> {
        Ok(log.entries()?.iter().filter(|event| event["verb"] == "list").count())
    };
    let before = lists()?;
    wait_cycles(&daemon, 3.0).await?;
    if lists()? != before {
        return Err("lists in steady state".into());
    }
    daemon.terminate().await?;
    // The next one leads from another address, and labels nodes.
    let labels = [("BALANCER_GRANULARITY", "node"), ("LOCALITY_LABELS_CRON", "* * * * * *")];
    let settings = with(at("10.0.0.8"), &labels);
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    let nodes: Api<Node> = Api::all(admin.clone());
    until("nodes to have their names", SOON, || async {
        let all = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let named = all.items.iter().filter(|node| node.labels().contains_key(SUBZONE)).count();
        if named == all.items.len() { Ok(()) } else { Err(format!("{named}")) }
    })
    .await?;
    let slices: Api<EndpointSlice> = Api::namespaced(admin.clone(), rights::OWN);
    until("the webhook's address to be its own", SOON, || async {
        let slice = slices.get("stornx-webhook").await.map_err(|error| error.to_string())?;
        match slice.endpoints.first().and_then(|endpoint| endpoint.addresses.first()) {
            Some(address) if address == "10.0.0.8" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    daemon.terminate().await?;

    let (used, refused) = audited(log)?;
    if !refused.is_empty() {
        return Err(format!("refused: {refused:?}").into());
    }
    let not_provoked: BTreeSet<Right> =
        NOT_PROVOKED.iter().map(|(verb, on)| ((*verb).to_owned(), (*on).to_owned())).collect();
    let expected: BTreeSet<Right> = rights::granted()?.difference(&not_provoked).cloned().collect();
    let unused: Vec<_> = expected.difference(&used).collect();
    let provoked: Vec<_> = used.intersection(&not_provoked).collect();
    if !unused.is_empty() {
        return Err(format!("granted and not used: {unused:?}").into());
    }
    if used.iter().any(|right| !expected.contains(right) && !not_provoked.contains(right)) {
        return Err(format!("used and not granted: {:?}", used.difference(&expected)).into());
    }
    println!(
        "rights: {} used, {} of those not expected here: {provoked:?}",
        used.len(),
        provoked.len()
    );
    Ok(())
}

/// Four idle replicas.
async fn stateful_set(client: &Client) -> TestResult {
    let labels = json!({"app": "stateful"});
    let set: StatefulSet = serde_json::from_value(json!({
        "metadata": {"name": "stateful", "namespace": HERE},
        "spec": {
            "replicas": 4,
            "podManagementPolicy": "Parallel",
            "serviceName": "stateful",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{
                "name": "app",
                "image": "stateful:testbed",
                "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
            }]}},
        },
    }))?;
    apps::create(client, &set).await?;
    Ok(())
}

/// What was used, and what was refused.
fn audited(log: &Audit) -> Result<(BTreeSet<Right>, BTreeSet<Right>), Failure> {
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for event in log.entries()? {
        let target = &event["objectRef"];
        let (Some(verb), Some(resource)) = (event["verb"].as_str(), target["resource"].as_str())
        else {
            continue; // Discovery: open to all.
        };
        let group = target["apiGroup"].as_str().unwrap_or_default();
        let mut on = format!("{group}/{resource}");
        if let Some(sub) = target["subresource"].as_str() {
            on = format!("{on}/{sub}");
        }
        let into = if event["responseStatus"]["code"] == 403 { &mut refused } else { &mut used };
        into.insert((verb.to_owned(), on));
    }
    Ok((used, refused))
}
