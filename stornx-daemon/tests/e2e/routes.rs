//! Routing rules: written as the real API server keeps them, given back without a trace,
//! and obeyed by real Envoys that a real istiod told about them.

mod nodes;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use stornx_core::{
    decide::{EndpointGroups, effective_shares},
    ids::{HostName, Namespace, ZoneName},
    model::{Distribution, RouteTable, Rule},
    plan::{Action, GiveBackCause, RoutePurpose},
    ports::{Actuator as _, ClusterSource as _, PortError},
};
use stornx_k8s::{Cluster, ClusterOptions, ConnectOptions, Connection, KubeActuator};
use stornx_testbed::{
    NodeSpec, Options, TestBed, apps,
    harness::Test,
    mesh::{self, Caller, Istiod, Place},
    wait::until,
};

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::stornx,
        driver::Dice,
        long_form,
        rights::{self, OWN},
        tape::destination_rules,
    },
};

const HERE: &str = "routes";
const USER: &str = "stornx";

pub(crate) fn tests() -> Vec<Test> {
    let options = Options { nodes: nodes(), ..Options::default() };
    let undivided = Options { nodes: nodes::nodes(), ..Options::default() };
    vec![
        Test::own("nodes_obey", undivided, nodes::nodes_obey).needs_mesh(),
        Test::own("rules_are_adopted_created_and_given_back", options.clone(), rules),
        Test::own("mesh_obeys", options, obeys).needs_mesh(),
    ]
}

/// Five zones in two regions; in each one node without and three with a subzone.
fn nodes() -> Vec<NodeSpec> {
    let one = NodeSpec::many(1).remove(0);
    let zones = [("r1", "r1a"), ("r1", "r1b"), ("r1", "r1c"), ("r2", "r2a"), ("r2", "r2b")];
    let of_zone = |(region, zone): (&str, &str)| {
        (0..4)
            .map(|at| {
                let mut node = one.clone();
                node.name = format!("{zone}-{at}");
                (node.region, node.zone) = (region.to_owned(), zone.to_owned());
                if at > 0 {
                    let (key, value) = ("topology.istio.io/subzone".to_owned(), format!("s{at}"));
                    node.labels.insert(key, value);
                }
                node
            })
            .collect::<Vec<_>>()
    };
    zones.into_iter().flat_map(of_zone).collect()
}

/// The writing side, as the daemon has it.
struct Writer {
    cluster: Cluster,
    actuator: KubeActuator,
}

impl Writer {
    async fn start(bed: &TestBed) -> Result<Self, Failure> {
        let admin = bed.client("admin").await?;
        apps::namespace(&admin, HERE).await?;
        rights::grant(&admin, USER, &[HERE]).await?;
        let client = bed.client(USER).await?;
        let connection = Connection::over(client, &ConnectOptions::default()).await?;
        let cluster = Cluster::start(
            &connection,
            ClusterOptions {
                namespaces: [Namespace::new(HERE)?].into(),
                ..ClusterOptions::default()
            },
        );
        cluster.wait_synced(SOON).await?;
        let actuator = KubeActuator::new(&connection, Duration::from_secs(5)).with_istio(&cluster);
        Ok(Self { cluster, actuator })
    }

    /// The rule of a host as it is seen.
    async fn rule(&self, host: &HostName) -> Result<Rule, Failure> {
        let facts = self.cluster.observe().await?;
        let host = facts.hosts.into_iter().find(|one| one.name == *host);
        Ok(host.ok_or("no such host")?.rule)
    }

    async fn write(
        &self,
        host: &HostName,
        from: &RouteTable,
        to: &RouteTable,
    ) -> Result<(), PortError> {
        let seen = self.rule(host).await.map_err(|error| PortError::Unavailable {
            what: "look at the rule".to_owned(),
            detail: error.to_string(),
        })?;
        let first = !matches!(seen, Rule::Ours(_));
        self.write_where(host, from, to, first).await
    }

    /// Writes where a plan saw no weights of ours (`first`), or those that are `from`.
    async fn write_where(
        &self,
        host: &HostName,
        from: &RouteTable,
        to: &RouteTable,
        first: bool,
    ) -> Result<(), PortError> {
        let (host, from, to) = (host.clone(), from.clone(), to.clone());
        let workload = workload(&host);
        let purpose = RoutePurpose::Improve;
        self.actuator.apply(&Action::SetRoutes { host, workload, from, to, first, purpose }).await
    }

    async fn give_back(&self, host: &HostName) -> Result<(), PortError> {
        let (host, workload) = (host.clone(), Some(workload(host)));
        let cause = GiveBackCause::OptedOut;
        self.actuator.apply(&Action::GiveBackRoutes { host, workload, cause }).await
    }

    async fn sees(&self, host: &HostName, wanted: &Rule) -> TestResult {
        until("the rule to be seen", SOON, || async {
            match self.rule(host).await {
                Ok(rule) if rule == *wanted => Ok(()),
                Ok(rule) => Err(format!("{rule:?}")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        Ok(())
    }
}

fn workload(host: &HostName) -> stornx_core::ids::WorkloadRef {
    let text = format!("{HERE}/Deployment/{}", host.service());
    text.parse().unwrap_or_else(|_| unreachable!("a Service's name is a workload's name"))
}

fn host(service: &str) -> Result<HostName, Failure> {
    Ok(HostName::of_service(&Namespace::new(HERE)?, service)?)
}

fn rules_here(client: &Client) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), HERE, &destination_rules())
}

async fn service(client: &Client, name: &str) -> TestResult {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": name, "namespace": HERE},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}
    }))?;
    apps::create(client, &service).await?;
    Ok(())
}

/// Random weights of every zone for every zone.
fn table(dice: &Dice, zones: &[ZoneName]) -> Result<RouteTable, Failure> {
    let mut table = RouteTable::new();
    for from in zones {
        let mut weights: Vec<u8> = zones.iter().map(|_| 1).collect();
        let mut left = 100 - zones.len();
        for weight in weights.iter_mut().skip(1) {
            let part = dice.below(left + 1);
            *weight += u8::try_from(part)?;
            left -= part;
        }
        weights[0] += u8::try_from(left)?;
        let turn = dice.below(zones.len());
        weights.rotate_left(turn);
        table
            .insert(from.clone(), Distribution::new(zones.iter().cloned().zip(weights).collect())?);
    }
    Ok(table)
}

fn zones() -> Vec<ZoneName> {
    let mut zones: Vec<String> = nodes().into_iter().map(|node| node.zone).collect();
    zones.dedup();
    zones.iter().filter_map(|zone| zone.parse().ok()).collect()
}

/// Adopted and created rules, what others do beside us, and what is left afterwards.
async fn rules(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    let writer = Writer::start(&bed).await?;
    let (api, dice, zones) = (rules_here(&admin), Dice::new(3), zones());
    let (first, second) = (table(&dice, &zones)?, table(&dice, &zones)?);
    service(&admin, "bare").await?;
    service(&admin, "ruled").await?;
    let theirs = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "theirs", "namespace": HERE},
        "spec": {"host": "ruled", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}}
    });
    let params = PatchParams::apply("gitops").force();
    let before = api.patch("theirs", &params, &Patch::Apply(theirs.clone())).await?;
    let (bare, ruled) = (host("bare")?, host("ruled")?);
    for one in [&bare, &ruled] {
        writer.sees(one, &Rule::None).await?;
        writer.write(one, &first, &first).await?;
        writer.sees(one, &Rule::Ours(first.clone())).await?;
    }
    // Created: labelled, and it goes with its Service.
    let created = api.get("stornx-bare").await?;
    let owner = created.metadata.owner_references.iter().flatten().next();
    if owner.map(|owner| owner.kind.as_str()) != Some("Service") {
        return Err(format!("not owned by the Service: {:?}", created.metadata).into());
    }
    if api.get_opt("stornx-ruled").await?.is_some() {
        return Err("created beside a rule that could be adopted".into());
    }
    // They apply theirs again and again, we write: neither loses a field.
    for turn in 0..10 {
        let mut again = theirs.clone();
        again["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] = json!(turn + 1);
        api.patch("theirs", &params, &Patch::Apply(again)).await?;
        let (from, to) = if turn % 2 == 0 { (&first, &second) } else { (&second, &first) };
        writer.sees(&ruled, &Rule::Ours(from.clone())).await?;
        writer.write(&ruled, from, to).await?;
        let now = api.get("theirs").await?;
        if now.data["spec"]["trafficPolicy"]["connectionPool"]["tcp"]["maxConnections"] != turn + 1
        {
            return Err(format!("their field was lost: {}", now.data).into());
        }
        writer.sees(&ruled, &Rule::Ours(to.clone())).await?;
    }
    // What does not stand is not written over.
    let stale = writer.write(&ruled, &second, &second).await;
    if !matches!(stale, Err(PortError::Conflict { .. })) {
        return Err(format!("written over what was not expected: {stale:?}").into());
    }
    // A person takes our field: it is theirs, and stays.
    let distribute = json!([{"from": "r1/r1a/*", "to": {"r1/r1a/*": 100}}]);
    let edit = json!({"spec": {"trafficPolicy": {"loadBalancer": {"localityLbSetting": {"distribute": distribute}}}}});
    api.patch("stornx-bare", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    let edited = writer.write(&bare, &first, &second).await;
    if !matches!(edited, Err(PortError::Conflict { .. })) {
        return Err(format!("fought with a person: {edited:?}").into());
    }
    let edit = json!({"spec": {"trafficPolicy": null}});
    api.patch("stornx-bare", &PatchParams::default(), &Patch::Merge(&edit)).await?;
    // Gone since the plan was made, whether or not that is known here: not put back.
    for seen in [false, true] {
        if seen {
            writer.sees(&bare, &Rule::None).await?;
        }
        let gone = writer.write_where(&bare, &first, &second, false).await;
        if !matches!(gone, Err(PortError::Conflict { .. })) {
            return Err(format!("put back what somebody removed: {gone:?}").into());
        }
    }
    writer.write(&bare, &first, &second).await?;
    writer.sees(&bare, &Rule::Ours(second.clone())).await?;
    // What the command would do, and then does.
    let settings = [("NAMESPACES", HERE.to_owned()), ("OWN_NAMESPACE", OWN.to_owned())];
    for (flag, words) in [(Some("--dry-run"), "would be done"), (None, "weights removed")] {
        let output = stornx(&bed, "admin", &settings).arg("cleanup").args(flag).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let rules = said.lines().filter(|line| line.contains("DestinationRule"));
        if !output.status.success() || !said.contains(words) || rules.count() != 2 {
            return Err(format!("{said} {}", String::from_utf8_lossy(&output.stderr)).into());
        }
    }
    for one in [&bare, &ruled] {
        writer.sees(one, &Rule::None).await?;
        writer.write(one, &first, &first).await?;
        writer.sees(one, &Rule::Ours(first.clone())).await?;
    }
    // Given back: byte for byte what was there, or nothing; twice is once.
    api.patch("theirs", &params, &Patch::Apply(theirs)).await?;
    for _ in 0..2 {
        for one in [&bare, &ruled] {
            writer.give_back(one).await?;
            writer.sees(one, &Rule::None).await?;
        }
    }
    let after = api.get("theirs").await?;
    if after.data["spec"] != before.data["spec"] {
        return Err(format!("not as it was: {} {}", before.data, after.data).into());
    }
    let left = api.list(&ListParams::default()).await?.items;
    if left.len() != 1 {
        return Err(format!("{} rules are left", left.len()).into());
    }
    Ok(())
}

/// One pod with its zone and group.
struct Placed {
    address: IpAddr,
    zone: ZoneName,
    group: String,
}

/// Distributions as planned, written as in production, counted by real Envoys.
async fn obeys(bed: Arc<TestBed>) -> TestResult {
    /// Envoy takes localities in turn by weight, so that counts are nearer than chance
    /// would have them; by chance the standard error would be 0.65 points at most.
    const REQUESTS: u64 = 6000;
    let count = long_form("STORNX_E2E_DISTRIBUTIONS", 10)?;
    let admin = bed.client("admin").await?;
    let writer = Writer::start(&bed).await?;
    let (dice, zones) = (Dice::new(11), zones());
    let answering = mesh::answer().await?;
    let istiod = Istiod::start(&bed).await?;
    let mut callers = BTreeMap::new();
    for (name, region, zone) in
        [("caller-a", "r1", "r1a"), ("caller-b", "r1", "r1c"), ("caller-c", "r2", "r2b")]
    {
        let place =
            Place { region: region.to_owned(), zone: zone.to_owned(), subzone: String::new() };
        let caller = Caller::start(&bed, &istiod, name, HERE, &place).await?;
        callers.insert(zone.parse::<ZoneName>()?, caller);
    }
    let began = Instant::now();
    let mut layouts = Vec::new();
    for number in 0..count.min(10) {
        let name = format!("callee-{number}");
        let placed = layout(&admin, &dice, &name, number).await?;
        layouts.push((host(&name)?, placed, RouteTable::new()));
    }
    let (mut worst, mut sum, mut checked) = (0.0_f64, 0.0, 0);
    let mut written = Vec::new();
    for number in 0..count {
        let at = number % layouts.len();
        let (host, placed, stands) = &mut layouts[at];
        let to = table(&dice, &zones)?;
        writer.write(host, stands, &to).await?;
        *stands = to.clone();
        writer.sees(host, &Rule::Ours(to.clone())).await?;
        let name = format!("stornx-{}", host.service());
        let mut rule = rules_here(&admin).get(&name).await?;
        rule.metadata.managed_fields = None;
        written.push(serde_json::to_value(&rule)?);
        for (zone, caller) in &callers {
            let off = compare(host, &to[zone], placed, caller, REQUESTS).await?;
            worst = worst.max(off);
            sum += off;
            checked += 1;
        }
    }
    let rejected: Vec<_> = mesh::judge(&written)?.into_iter().flatten().collect();
    println!(
        "{count} distributions, {checked} counted with {REQUESTS} requests each in {:.0} s: \
         worst {worst:.2}, mean {:.2} points; {} rejected by istiod's validation",
        began.elapsed().as_secs_f64(),
        sum / f64::from(checked),
        rejected.len(),
    );
    answering.abort();
    if worst > 1.0 || !rejected.is_empty() {
        return Err(format!("off by {worst:.2} points, rejected: {rejected:?}").into());
    }
    Ok(())
}

/// Waits until the proxy was told what the weights come to, sends requests, and gives the
/// largest difference of a zone's share in percentage points.
async fn compare(
    host: &HostName,
    row: &Distribution,
    placed: &[Placed],
    caller: &Caller,
    requests: u64,
) -> Result<f64, Failure> {
    let mut by_group: BTreeMap<(ZoneName, String), u32> = BTreeMap::new();
    for pod in placed {
        *by_group.entry((pod.zone.clone(), pod.group.clone())).or_default() += 1;
    }
    let mut groups = EndpointGroups::new();
    for ((zone, _), count) in &by_group {
        groups.entry(zone.clone()).or_default().push(*count);
    }
    let expected = effective_shares(row, &groups);
    until("the proxy to be told", SOON, || async {
        let told = caller.groups(host.as_str()).await?;
        let total: u64 = told.values().sum();
        let mut shares: BTreeMap<ZoneName, f64> = BTreeMap::new();
        for (place, weight) in &told {
            let zone = place.split('/').nth(1).unwrap_or_default();
            let zone: ZoneName = zone.parse().map_err(|_| format!("no zone: {place}"))?;
            *shares.entry(zone).or_default() += *weight as f64 / total as f64;
        }
        let same = shares.len() == expected.len()
            && shares.iter().all(|(zone, share)| {
                expected.get(zone).is_some_and(|wanted| (wanted - share).abs() < 1e-9)
            });
        if same { Ok(()) } else { Err(format!("{told:?}, expected {expected:?}")) }
    })
    .await?;
    let counts = caller.count(host.as_str(), requests).await?;
    let mut shares: BTreeMap<&ZoneName, f64> = BTreeMap::new();
    for (address, count) in counts {
        let pod = placed.iter().find(|pod| pod.address == address);
        let pod = pod.ok_or_else(|| format!("{address} is none of its pods"))?;
        *shares.entry(&pod.zone).or_default() += count as f64 / requests as f64;
    }
    let off = |zone: &ZoneName| {
        let found = shares.get(zone).copied().unwrap_or_default();
        100.0 * (found - expected.get(zone).copied().unwrap_or_default()).abs()
    };
    Ok(expected.keys().map(off).fold(0.0, f64::max))
}

/// A Service with pods in one to five zones, in the first half of a round without
/// subzones, in the second with one to three in each zone.
async fn layout(
    client: &Client,
    dice: &Dice,
    name: &str,
    number: usize,
) -> Result<Vec<Placed>, Failure> {
    service(client, name).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), HERE);
    let (count, subzones) = (number % 5 + 1, number % 10 >= 5);
    let mut wanted = Vec::new();
    let all = zones();
    for at in 0..count {
        let zone = &all[(at + number) % all.len()];
        let groups = if subzones { 1 + dice.below(3) } else { 1 };
        for group in 0..groups {
            let node = if subzones { group + 1 } else { 0 };
            for _ in 0..=dice.below(3) {
                let pod_name = format!("{name}-{}", wanted.len());
                let pod: Pod = serde_json::from_value(json!({
                    "metadata": {"name": pod_name, "namespace": HERE, "labels": {"app": name}},
                    "spec": {"nodeName": format!("{zone}-{node}"), "containers": [
                        {"name": "app", "image": "callee:testbed", "ports": [{"containerPort": 8080}]}
                    ]}
                }))?;
                pods.create(&PostParams::default(), &pod).await?;
                wanted.push((pod_name, zone.clone(), format!("s{node}")));
            }
        }
    }
    let mut placed = Vec::new();
    for (pod_name, zone, group) in wanted {
        let address = until("a pod to have an address", SOON, || async {
            let pod = pods.get(&pod_name).await.map_err(|error| error.to_string())?;
            let address = pod.status.and_then(|status| status.pod_ip).unwrap_or_default();
            address.parse::<IpAddr>().map_err(|_| "none yet".to_owned())
        })
        .await?;
        placed.push(Placed { address, zone, group });
    }
    Ok(placed)
}
