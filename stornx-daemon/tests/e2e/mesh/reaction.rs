//! Speed of reaction: from the event of a change of endpoints or nodes, as a watch sees it,
//! to the event of the rule that takes it into account. The daemon has its own settings of
//! when a cycle comes, and no schedule that could come first.
//!
//! `STORNX_E2E_CHANGES=25` runs the long form, 200 changes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_testbed::{
    NodeSpec, Options, TestBed,
    apps::{self, Workload},
    cluster::stages::READY,
    harness::Test,
};

use super::{Loaded, loaded, on_changes_alone, shop};
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        daemon::Daemon,
        long_form,
        tape::{Said, Tape},
    },
};

/// The bar: 99 of 100 changes within this.
const BAR: Duration = Duration::from_secs(2);
/// Longer than a change waits for others.
const QUIET: Duration = Duration::from_millis(1200);
/// The zone whose replica comes and goes.
const ZONE: &str = "zone-c";
/// The one that appears.
const NEW: &str = "zone-d";

pub(crate) fn tests() -> Vec<Test> {
    let nodes = shop().map(|shop| NodeSpec::of_scenario(&shop)).unwrap_or_default();
    let nodes = nodes.into_iter().filter(|node| node.zone != NEW).collect();
    vec![Test::own("speed_of_reaction", Options { nodes, ..Options::default() }, reaction)]
}

/// What is changed, and the admin who does it.
struct Scene {
    bed: Arc<TestBed>,
    admin: Client,
    cart: Workload,
    here: String,
    new: NodeSpec,
}

/// What changes, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Unready,
    Ready,
    NodeGone,
    NodeBack,
    PodGone,
    PodCame,
    ZoneAppears,
    ZoneVanishes,
}

impl Change {
    const ALL: [Self; 8] = [
        Self::Unready,
        Self::Ready,
        Self::NodeGone,
        Self::NodeBack,
        Self::PodGone,
        Self::PodCame,
        Self::ZoneAppears,
        Self::ZoneVanishes,
    ];

    /// Whether this is the event that it begins with.
    fn is_begun_by(self, said: &Said) -> bool {
        match self {
            Self::ZoneAppears | Self::ZoneVanishes => matches!(said, Said::Node(_)),
            _ => matches!(said, Said::Endpoints(service) if service == "cart"),
        }
    }
}

async fn reaction(bed: Arc<TestBed>) -> TestResult {
    let rounds = long_form("STORNX_E2E_CHANGES", 1)?;
    let admin = bed.client("admin").await?;
    let scenario = shop()?;
    let new = NodeSpec::of_scenario(&scenario).into_iter().find(|node| node.zone == NEW);
    let Loaded { apps, here, prometheus, .. } = &loaded(&bed, &admin, scenario).await?;
    let tape = Tape::of(&admin, here);
    let mut settings = on_changes_alone(here, &prometheus.url());
    // As users have it.
    settings.retain(|(name, _)| *name != "DEBOUNCE_SECONDS");
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    tape.between(0, |_| true, is_of_cart).await?;

    let cart = apps.workload("cart").ok_or("a workload of the scenario")?.clone();
    let new = new.ok_or("a node of the new zone")?;
    let scene = Scene { bed: Arc::clone(&bed), admin, cart, here: here.clone(), new };
    let mut took: BTreeMap<Change, Vec<Duration>> = BTreeMap::new();
    for _ in 0..rounds {
        for change in Change::ALL {
            tape.quiet(QUIET).await?;
            let from = tape.len();
            scene.make(change).await?;
            let found = tape.between(from, |said| change.is_begun_by(said), is_of_cart).await;
            let found = found.map_err(|error| format!("{change:?}: {error}"))?;
            took.entry(change).or_default().push(found);
        }
    }
    let millis = |all: &[Duration]| all.iter().map(Duration::as_millis).max().unwrap_or(0);
    for (change, all) in &took {
        println!("{change:?}: {} changes, slowest {} ms", all.len(), millis(all));
    }
    let mut all: Vec<Duration> = took.into_values().flatten().collect();
    all.sort_unstable();
    let at = |share: usize| all[(all.len() * share).div_ceil(100).max(1) - 1];
    let (median, p99) = (at(50), at(99));
    println!(
        "speed of reaction: {} changes, median {} ms, p99 {} ms, slowest {} ms",
        all.len(),
        median.as_millis(),
        p99.as_millis(),
        millis(&all),
    );
    if p99 >= BAR {
        return Err(format!("p99 of {} ms", p99.as_millis()).into());
    }
    Ok(())
}

fn is_of_cart(said: &Said) -> bool {
    matches!(said, Said::Weights(rule, _) if rule == "stornx-cart")
}

impl Scene {
    async fn make(&self, change: Change) -> TestResult {
        match change {
            Change::Unready => self.ready(false).await,
            Change::Ready => self.ready(true).await,
            Change::NodeGone => Ok(self.bed.fail_node(&self.node().await?, true).await?),
            Change::NodeBack => Ok(self.bed.fail_node(&self.node().await?, false).await?),
            Change::PodGone => {
                // What replaces it waits for a place.
                self.cordon(true).await?;
                let pod = self.pod().await?;
                self.pods().delete(&pod, &DeleteParams::default().grace_period(0)).await?;
                Ok(())
            }
            Change::PodCame => self.cordon(false).await,
            Change::ZoneAppears => Ok(self.bed.add_nodes(std::slice::from_ref(&self.new)).await?),
            Change::ZoneVanishes => {
                self.nodes().delete(&self.new.name, &DeleteParams::default()).await?;
                Ok(())
            }
        }
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.admin.clone(), &self.here)
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.admin.clone())
    }

    /// The node of the zone.
    async fn node(&self) -> Result<String, Failure> {
        let nodes = self.nodes().list(&kube::api::ListParams::default()).await?;
        let label = "topology.kubernetes.io/zone";
        let of_zone = |node: &&Node| node.labels().get(label).is_some_and(|zone| zone == ZONE);
        Ok(nodes.items.iter().find(of_zone).ok_or("a node of the zone")?.name_any())
    }

    /// The replica in the zone.
    async fn pod(&self) -> Result<String, Failure> {
        let node = self.node().await?;
        let list = kube::api::ListParams::default()
            .labels(&self.cart.selector())
            .fields(&format!("spec.nodeName={node}"));
        let found = self.pods().list(&list).await?;
        Ok(found.items.first().ok_or("a replica in the zone")?.name_any())
    }

    async fn ready(&self, ready: bool) -> TestResult {
        let patch = json!({"metadata": {"annotations": {READY: ready.to_string()}}});
        let pod = self.pod().await?;
        self.pods().patch(&pod, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }

    async fn cordon(&self, cordoned: bool) -> TestResult {
        let patch = json!({"spec": {"unschedulable": cordoned}});
        let node = self.node().await?;
        self.nodes().patch(&node, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        if !cordoned {
            apps::wait_ready(&self.admin, &self.cart, 3, SOON).await?;
        }
        Ok(())
    }
}
