//! Routes between nodes: the daemon labels nodes with their names and leaves the labels of
//! others alone, real Envoys obey weights between nodes, and cleaning up takes labels back.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use stornx_core::{
    ids::ZoneName,
    model::{Distribution, RouteTable, Rule, SUBZONE},
};
use stornx_testbed::{
    NodeSpec, TestBed, apps,
    mesh::{self, Caller, Istiod, Place},
    wait::until,
};

use super::{HERE, Writer, host, rules_here, service, table};
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, stornx, with},
        driver::Dice,
        long_form,
        rights::{self, OWN},
    },
};

const ZONES: [&str; 3] = ["r1a", "r1b", "r2a"];

/// Two nodes in each of three zones, in two regions.
pub(super) fn nodes() -> Vec<NodeSpec> {
    let one = NodeSpec::many(1).remove(0);
    let node = |(zone, at): (&str, usize)| {
        let mut node = one.clone();
        node.name = format!("{zone}-{at}");
        (node.region, node.zone) = (zone[..2].to_owned(), zone.to_owned());
        node
    };
    ZONES.into_iter().flat_map(|zone| [(zone, 0), (zone, 1)]).map(node).collect()
}

/// The subzone of each node.
async fn labels(client: &Client) -> Result<BTreeMap<String, String>, Failure> {
    let api: Api<Node> = Api::all(client.clone());
    let nodes = api.list(&ListParams::default()).await?.items;
    let label = |node: &Node| Some((node.name_any(), node.labels().get(SUBZONE)?.clone()));
    Ok(nodes.iter().filter_map(label).collect())
}

async fn set_label(client: &Client, node: &str, value: Option<&str>) -> TestResult {
    let api: Api<Node> = Api::all(client.clone());
    let patch = json!({"metadata": {"labels": {SUBZONE: value}}});
    api.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(())
}

async fn all_named(client: &Client) -> TestResult {
    until("every node to have its name", SOON, || async {
        let labels = labels(client).await.map_err(|error| error.to_string())?;
        let own = labels.iter().filter(|(node, label)| node == label).count();
        if own == 6 { Ok(()) } else { Err(format!("{labels:?}")) }
    })
    .await?;
    Ok(())
}

pub(super) async fn nodes_obey(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    let settings = with(
        quick(HERE, "http://127.0.0.1:9"),
        &[("BALANCER_GRANULARITY", "node"), ("LOCALITY_LABELS_CRON", "* * * * * *")],
    );
    // Somebody else divides a zone: no node is labelled.
    set_label(&admin, "r1b-1", Some("rack-7")).await?;
    let mut daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    until("the daemon to say so", SOON, || {
        let told = "r1b-1 has a subzone label of somebody else";
        let said = daemon.log().iter().any(|line| line.to_string().contains(told));
        std::future::ready(if said { Ok(()) } else { Err("not yet") })
    })
    .await?;
    let foreign: BTreeMap<String, String> = [("r1b-1".to_owned(), "rack-7".to_owned())].into();
    if labels(&admin).await? != foreign {
        return Err(format!("labelled beside somebody else: {:?}", labels(&admin).await?).into());
    }
    set_label(&admin, "r1b-1", None).await?;
    all_named(&admin).await?;
    daemon.terminate().await?;

    obey(&bed, &admin).await?;

    // Labels of ours go, one that somebody else has taken over stays.
    set_label(&admin, "r2a-0", Some("rack-9")).await?;
    let settings = with(settings, &[("OWN_NAMESPACE", OWN)]);
    for (flag, left) in [(Some("--dry-run"), 6), (None, 1)] {
        let output = stornx(&bed, "admin", &settings).arg("cleanup").args(flag).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = said.lines().filter(|line| line.contains("its subzone label removed"));
        let found = labels(&admin).await?;
        if !output.status.success() || lines.count() != 5 || found.len() != left {
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(format!("{found:?}; {said} {errors}").into());
        }
    }
    if labels(&admin).await?.get("r2a-0").map(String::as_str) != Some("rack-9") {
        return Err("the label of somebody else is gone".into());
    }
    Ok(())
}

/// Random weights between nodes, counted by Envoys that are on nodes.
async fn obey(bed: &TestBed, admin: &Client) -> TestResult {
    const REQUESTS: u64 = 6000;
    let count = long_form("STORNX_E2E_NODE_DISTRIBUTIONS", 8)?;
    let writer = Writer::start(bed).await?;
    let places: Vec<ZoneName> = nodes()
        .iter()
        .filter_map(|node| format!("{}/{}", node.zone, node.name).parse().ok())
        .collect();
    let answering = mesh::answer().await?;
    let istiod = Istiod::start(bed).await?;
    service(admin, "callee").await?;
    let placed = pods(admin).await?;
    let host = host("callee")?;
    let mut callers = Vec::new();
    for (name, at) in [("caller-a", 0), ("caller-b", 3), ("caller-c", 4)] {
        let node = &nodes()[at];
        let place = Place {
            region: node.region.clone(),
            zone: node.zone.clone(),
            subzone: node.name.clone(),
        };
        let caller = Caller::start(bed, &istiod, name, HERE, &place).await?;
        callers.push((places[at].clone(), caller));
    }
    let dice = Dice::new(23);
    let (mut stands, mut written) = (RouteTable::new(), Vec::new());
    let (mut worst, mut checked) = (0.0_f64, 0);
    for _ in 0..count {
        let to = table(&dice, &places)?;
        writer.write(&host, &stands, &to).await?;
        writer.sees(&host, &Rule::Ours(to.clone())).await?;
        let mut rule = rules_here(admin).get("stornx-callee").await?;
        rule.metadata.managed_fields = None;
        written.push(serde_json::to_value(&rule)?);
        for (place, caller) in &callers {
            worst = worst.max(compare(host.as_str(), &to[place], &placed, caller, REQUESTS).await?);
            checked += 1;
        }
        stands = to;
    }
    let rejected: Vec<_> = mesh::judge(&written)?.into_iter().flatten().collect();
    answering.abort();
    println!(
        "{count} distributions between nodes, {checked} counted with {REQUESTS} requests each: \
         worst {worst:.2} points; {} rejected by istiod's validation",
        rejected.len(),
    );
    if worst > 1.0 || !rejected.is_empty() {
        return Err(format!("off by {worst:.2} points, rejected: {rejected:?}").into());
    }
    Ok(())
}

/// One to three pods on five of the nodes, each with its place.
async fn pods(client: &Client) -> Result<BTreeMap<IpAddr, ZoneName>, Failure> {
    let api: Api<Pod> = Api::namespaced(client.clone(), HERE);
    let mut placed = BTreeMap::new();
    for (at, node) in nodes().iter().take(5).enumerate() {
        for replica in 0..=at % 3 {
            let name = format!("callee-{at}-{replica}");
            let pod: Pod = serde_json::from_value(json!({
                "metadata": {"name": name, "namespace": HERE, "labels": {"app": "callee"}},
                "spec": {"nodeName": node.name, "containers": [
                    {"name": "app", "image": "callee:testbed", "ports": [{"containerPort": 8080}]}
                ]}
            }))?;
            api.create(&PostParams::default(), &pod).await?;
            let address = until("a pod to have an address", SOON, || async {
                let pod = api.get(&name).await.map_err(|error| error.to_string())?;
                let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
                address.parse::<IpAddr>().map_err(|_| "none yet".to_owned())
            })
            .await?;
            placed.insert(address, format!("{}/{}", node.zone, node.name).parse()?);
        }
    }
    Ok(placed)
}

/// The largest difference of a node's share from its weight, of those that hold endpoints, in
/// percentage points.
async fn compare(
    host: &str,
    row: &Distribution,
    placed: &BTreeMap<IpAddr, ZoneName>,
    caller: &Caller,
    requests: u64,
) -> Result<f64, Failure> {
    let mut wanted: BTreeMap<&ZoneName, f64> = BTreeMap::new();
    for place in placed.values() {
        wanted.insert(place, f64::from(row.weight(place)));
    }
    let total: f64 = wanted.values().sum();
    until("the proxy to be told", SOON, || async {
        let told = caller.groups(host).await?;
        let sum: u64 = told.values().sum();
        let fits = |(place, weight): (&&ZoneName, &f64)| {
            let of = told.iter().find(|(key, _)| key.ends_with(&format!("/{place}")));
            of.is_some_and(|(_, told)| (*told as f64 / sum as f64 - weight / total).abs() < 1e-9)
        };
        let same = told.len() == wanted.len() && wanted.iter().all(fits);
        if same { Ok(()) } else { Err(format!("{told:?}, expected {wanted:?}")) }
    })
    .await?;
    let mut seen: BTreeMap<&ZoneName, f64> = BTreeMap::new();
    for (address, count) in caller.count(host, requests).await? {
        let place = placed.get(&address).ok_or_else(|| format!("{address} is none of its pods"))?;
        *seen.entry(place).or_default() += count as f64 / requests as f64;
    }
    let off = |(place, weight): (&&ZoneName, &f64)| {
        100.0 * (seen.get(*place).copied().unwrap_or_default() - weight / total).abs()
    };
    Ok(wanted.iter().map(off).fold(0.0, f64::max))
}
