//! Where a case plays: a namespace and nodes of its own, a workload whose replicas carry
//! deletion costs by which another than the victim would go first, a bystander, and the
//! rights of `deploy/rbac` for the daemon and nothing more.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_core::{
    memory::Memory,
    model::{Snapshot, Workload as Seen},
    policy::Policy,
    ports::StateStore as _,
    units::{Bytes, MilliCpu, Resources, Span},
};
use stornx_k8s::{ConfigMapStore, ConnectOptions, Connection, StoreOptions};
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    cluster::{NodeSpec, stages},
    wait::until,
};

use super::scenario::Scenario;
use crate::{
    Failure,
    moves::{is_free, wait_steering},
    support::{
        SOON,
        driver::{Driver, Setup},
        hook,
        pods::Lives,
        rights::{self, OWN},
    },
};

/// Cases that run side by side, each on nodes of its own.
pub(super) const AT_ONCE: usize = 6;
/// Nodes of each.
const NODES: usize = 3;
/// The zone of all of them: where in it the replicas are does not matter here.
const ZONE: &str = "zone-a";
const SLOT: &str = "testbed.stornx.io/slot";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// The cost of a replica that is made later, by the template: the last to go by itself.
const NEW: &str = "50";
/// The cost of the bystander.
const BESIDE: &str = "20";
/// The name of the workload.
pub(super) const NAME: &str = "w";
/// Its neighbour, which nobody touches.
const BYSTANDER: &str = "b";

/// A cluster with nodes for all cases that run at one time.
pub(super) fn options() -> Options {
    let like = NodeSpec::many(1).remove(0);
    let node = |slot: usize, number: usize| NodeSpec {
        name: node_name(slot, number),
        zone: ZONE.to_owned(),
        labels: [(SLOT.to_owned(), slot.to_string())].into(),
        ..like.clone()
    };
    let nodes = (0..AT_ONCE).flat_map(|slot| (0..NODES).map(move |number| (slot, number)));
    let nodes = nodes.map(|(slot, number)| node(slot, number)).collect();
    Options { nodes, ..Options::default() }
}

fn node_name(slot: usize, number: usize) -> String {
    format!("slot-{slot}-{number}")
}

/// Where a case plays.
pub(super) struct Stage {
    pub(super) admin: Client,
    /// The client of the daemon, with its rights and no more.
    pub(super) user: Client,
    pub(super) namespace: String,
    pub(super) scenario: Scenario,
    pub(super) workload: Workload,
    /// Those that are to go, or to stay where the move is undone.
    pub(super) victims: Vec<String>,
    pub(super) lives: Lives,
    /// Whether something may still be begun.
    pub(super) open: Arc<AtomicBool>,
    /// Node of the first victim.
    pub(super) from: String,
    to: String,
}

/// What is left in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) count: i32,
    pub(super) ready: usize,
    /// The deletion cost of each replica: those from before have one of their own each, so
    /// that this says which are left.
    pub(super) costs: Vec<String>,
    bystanders: Vec<String>,
    /// Annotations of StornX on the Deployment and its pods, but for where one was told
    /// to run.
    pub(super) traces: Vec<String>,
    /// Records and intents in the memory.
    pub(super) remembered: Vec<String>,
}

impl End {
    /// Every replica has the cost that people gave it, whichever of them are left.
    pub(super) fn keeps_costs(&self, scenario: Scenario) -> bool {
        let mut given = costs(scenario);
        let mut kept = self.costs.iter().filter(|cost| *cost != NEW);
        let ours = kept.all(|cost| {
            let at = given.iter().position(|one| one == cost);
            at.map(|at| given.remove(at)).is_some()
        });
        ours && self.bystanders == [BESIDE]
    }
}

impl Stage {
    /// Sets everything up; `slot` is below [`AT_ONCE`], no other case has it at the time.
    pub(super) async fn set(
        bed: &TestBed,
        slot: usize,
        namespace: &str,
        scenario: Scenario,
    ) -> Result<Self, Failure> {
        let admin = bed.client("admin").await?;
        apps::namespace(&admin, namespace).await?;
        apps::namespace(&admin, OWN).await?;
        rights::grant_as(&admin, "stornx", namespace, namespace).await?;
        hook::install(&admin, namespace).await?;
        let (before, _) = scenario.replicas();
        let bystander = on_slot(Workload::new(namespace, BYSTANDER, 1), slot).opted_out();
        bystander.create(&admin).await?;
        let beside = apps::wait_ready(&admin, &bystander, 1, SOON).await?.remove(0);
        // Long enough for the owner to say what he wants before a new one is Ready, and for
        // the daemon to store that it was created.
        let mut workload = on_slot(Workload::new(namespace, NAME, before), slot)
            .pods_annotated(COST, NEW)
            .pods_annotated(stages::READY_AFTER, "1500ms");
        if scenario == Scenario::NeverReady {
            workload = workload.pods_annotated(stages::READY, "false");
        }
        create(&admin, &workload, scenario).await?;
        let victims = dress(&admin, &workload, &beside, scenario).await?;
        let ready = apps::wait_ready(&admin, &workload, usize::try_from(before)?, SOON).await?;
        if scenario == Scenario::EvictionMove {
            let hpa = apps::horizontal_autoscaler(&workload, before, before, 80)?;
            apps::create(&admin, &hpa).await?;
        }
        wait_written_down(&admin, &workload).await?;
        let lives = Lives::watch(&admin, namespace);
        until("the endpoints", SOON, || async {
            let (endpoints, alive) = (lives.endpoints(), lives.alive(NAME));
            let all = usize::try_from(before).ok();
            let whole = endpoints.get(NAME).copied() == all
                && alive.map(|alive| alive.most) == all
                && lives.counts(NAME).is_some();
            if whole { Ok(()) } else { Err(format!("{endpoints:?} {alive:?}")) }
        })
        .await?;
        lives.count_fewest();
        let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        let at = |name: &String| ready.iter().find(|pod| pod.name_any() == *name);
        let beside = node(&beside).unwrap_or_default();
        let from = victims.first().and_then(at).and_then(node).unwrap_or_default();
        let to = if scenario == Scenario::Release {
            beside
        } else {
            let mut others = (0..NODES).map(|number| node_name(slot, number));
            others.find(|node| *node != from).ok_or("a node")?
        };
        Ok(Self {
            user: bed.client("stornx").await?,
            admin,
            namespace: namespace.to_owned(),
            scenario,
            workload,
            victims,
            lives,
            open: Arc::new(AtomicBool::new(true)),
            from,
            to,
        })
    }

    /// A process of the daemon, its clock `ahead` of the wall's.
    pub(super) async fn start(
        &self,
        client: Client,
        ahead: Span,
        write: Duration,
    ) -> Result<Driver, Failure> {
        let (scenario, open) = (self.scenario, self.open.clone());
        let (victims, to) = (self.victims.clone(), self.to.clone());
        let propose = move |snapshot: &Snapshot, memory: &Memory, _: &Policy| {
            let node = snapshot.nodes.iter().find(|node| node.name.as_str() == to);
            let workload = seen(snapshot).filter(|one| is_free(one, memory));
            let (Some(workload), Some(node)) = (workload, node) else { return Vec::new() };
            if !open.load(Ordering::SeqCst) {
                return Vec::new();
            }
            scenario.propose(workload, node.name.clone(), &victims).into_iter().collect()
        };
        let setup = Setup {
            name: self.namespace.clone(),
            policy: scenario.policy(&self.namespace)?,
            propose: Arc::new(propose),
            webhook: Some(stornx_testbed::ports::free()?),
            write,
            ahead,
            product: None,
            idle: Duration::from_secs(1),
        };
        let driver = Driver::start(client, setup).await?;
        wait_steering(&driver).await?;
        Ok(driver)
    }

    /// More replicas than at the beginning have been asked for.
    pub(super) fn surged(&self) -> bool {
        let before = usize::try_from(self.scenario.replicas().0).unwrap_or(0);
        self.lives.counts(NAME).is_some_and(|counts| counts.most > before)
    }

    /// The namespace's own part in what happens while a case runs: an owner who does not
    /// want moves any more. Never comes back.
    pub(super) async fn owner(&self) -> Result<(), Failure> {
        if matches!(self.scenario, Scenario::UndoneMove | Scenario::NeverReady) {
            while !self.surged() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // Once is enough: it is undone for good.
            self.open.store(false, Ordering::SeqCst);
        }
        if self.scenario == Scenario::UndoneMove {
            let (name, off) = ("stornx.io/moves", Some("off"));
            crate::support::seen::annotate(&self.admin, &self.namespace, NAME, name, off).await?;
        }
        std::future::pending().await
    }

    /// What is left, from the API server and not from what the daemon thinks.
    pub(super) async fn end(&self) -> Result<End, Failure> {
        let api: Api<Pod> = Api::namespaced(self.admin.clone(), &self.namespace);
        let all = api.list(&ListParams::default()).await?.items;
        let of = |app: &'static str| {
            all.iter().filter(move |pod| pod.labels().get("app").is_some_and(|one| one == app))
        };
        let cost = |pod: &Pod| pod.annotations().get(COST).cloned().unwrap_or_default();
        let sorted = |mut costs: Vec<String>| {
            costs.sort();
            costs
        };
        let deployments: Api<Deployment> = Api::namespaced(self.admin.clone(), &self.namespace);
        let found = deployments.get_opt(NAME).await?;
        let count = found.as_ref().and_then(|one| one.spec.as_ref()?.replicas);
        let told = |key: &str| ["stornx.io/steered", "stornx.io/preferred"].contains(&key);
        let pods = of(NAME).chain(of(BYSTANDER));
        let mut traces: Vec<String> = pods
            .flat_map(ResourceExt::annotations)
            .filter(|(key, _)| key.starts_with("stornx.io/") && !told(key))
            .map(|(key, value)| format!("pod: {key}={value}"))
            .collect();
        let of_owner = |key: &str| ["stornx.io/moves", "stornx.io/policy"].contains(&key);
        let ours = found
            .iter()
            .flat_map(ResourceExt::annotations)
            .filter(|(key, _)| key.starts_with("stornx.io/") && !of_owner(key));
        traces.extend(ours.map(|(key, value)| format!("{key}={value}")));
        Ok(End {
            count: count.unwrap_or(0),
            ready: of(NAME).filter(|pod| apps::is_ready(pod)).count(),
            costs: sorted(of(NAME).map(cost).collect()),
            bystanders: sorted(of(BYSTANDER).map(cost).collect()),
            traces,
            remembered: self.remembered().await?,
        })
    }

    pub(super) async fn remembered(&self) -> Result<Vec<String>, Failure> {
        let connection = Connection::over(self.admin.clone(), &ConnectOptions::default()).await?;
        let store = ConfigMapStore::new(
            &connection,
            StoreOptions {
                namespace: OWN.parse()?,
                name: self.namespace.clone(),
                timeout: Duration::from_secs(10),
            },
        );
        let memory = store.load().await?;
        let left = memory.workloads.iter().flat_map(|(id, one)| {
            let record = one.in_flight.as_ref().map(|record| format!("{id}: {record:?}"));
            record.into_iter().chain(one.intents.iter().map(move |one| format!("{id}: {one:?}")))
        });
        Ok(left.collect())
    }

    /// Makes room for those who come after; a failed case is left as it is.
    pub(super) async fn clear(self) -> Result<(), Failure> {
        let Self { admin, namespace, .. } = self;
        let hooks: Api<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration> =
            Api::all(admin.clone());
        let _ = hooks.delete(&namespace, &DeleteParams::default()).await;
        let namespaces: Api<Namespace> = Api::all(admin);
        let _ = namespaces.delete(&namespace, &DeleteParams::default()).await;
        Ok(())
    }
}

/// The workload as the daemon sees it.
pub(super) fn seen(snapshot: &Snapshot) -> Option<&Seen> {
    snapshot.workloads.iter().find(|one| one.managed && one.id.name() == NAME)
}

fn on_slot(mut workload: Workload, slot: usize) -> Workload {
    workload.node_selector.insert(SLOT.to_owned(), slot.to_string());
    workload.asking(Resources { cpu: MilliCpu::new(5), memory: Bytes::new(1 << 20) })
}

/// Where a replica is to find no room, no two of the workload and the bystander share a
/// node: StornX leaves that rule to the scheduler.
async fn create(admin: &Client, workload: &Workload, scenario: Scenario) -> Result<(), Failure> {
    apps::create(admin, &workload.service()?).await?;
    let mut deployment = workload.deployment()?;
    if scenario == Scenario::Release
        && let Some(pod) = deployment.spec.as_mut().and_then(|spec| spec.template.spec.as_mut())
    {
        pod.affinity = Some(serde_json::from_value(json!({"podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": {"matchLabels": {"app": BYSTANDER}},
            }],
        }}))?);
    }
    apps::create(admin, &deployment).await?;
    Ok(())
}

/// Waits until its controller has written down that all replicas are there: it changes the
/// version of the Deployment, and a write at an older one is refused.
async fn wait_written_down(admin: &Client, workload: &Workload) -> Result<(), Failure> {
    let api: Api<Deployment> = Api::namespaced(admin.clone(), &workload.namespace);
    let wanted = i32::try_from(workload.replicas)?;
    until("its controller", SOON, || async {
        let found = api.get(&workload.name).await.map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        let through = status.conditions.iter().flatten().any(|one| {
            one.type_ == "Progressing" && one.reason.as_deref() == Some("NewReplicaSetAvailable")
        });
        let well = through
            && status.observed_generation == found.metadata.generation
            && status.available_replicas == Some(wanted);
        if well { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await?;
    Ok(())
}

/// The costs of the replicas from the beginning: the victims would be the last to go.
fn costs(scenario: Scenario) -> Vec<String> {
    let all = 0..usize::try_from(scenario.replicas().0).unwrap_or(0);
    let cost = |at| if at < scenario.victims() { 30 + at } else { 10 + at };
    all.map(|at| cost(at).to_string()).collect()
}

/// Gives each replica a deletion cost of its own, as people do, and chooses the victims:
/// those that would be the last to go. Gives their names.
async fn dress(
    admin: &Client,
    workload: &Workload,
    beside: &Pod,
    scenario: Scenario,
) -> Result<Vec<String>, Failure> {
    let api: Api<Pod> = Api::namespaced(admin.clone(), &workload.namespace);
    let count = usize::try_from(workload.replicas)?;
    let chosen = ListParams::default().labels(&workload.selector());
    let names = until("the replicas", SOON, || async {
        let pods = api.list(&chosen).await.map_err(|error| error.to_string())?.items;
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if names.len() == count { Ok(names) } else { Err(format!("{names:?}")) }
    })
    .await?;
    let mut names: Vec<String> = names;
    names.sort();
    let mut wanted: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for (name, cost) in names.iter().zip(costs(scenario)) {
        wanted.insert(name.clone(), json!({ COST: cost, stages::READY: "true" }));
    }
    wanted.insert(beside.name_any(), json!({ COST: BESIDE }));
    for (name, annotations) in wanted {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        api.patch(&name, &PatchParams::default(), &patch).await?;
    }
    names.truncate(scenario.victims());
    Ok(names)
}

/// The slots that are free.
pub(super) struct Slots(tokio::sync::Mutex<Vec<usize>>);

impl Slots {
    pub(super) fn new() -> Self {
        Self(tokio::sync::Mutex::new((0..AT_ONCE).collect()))
    }

    /// One that is free: no more cases than slots run at one time.
    pub(super) async fn take(&self) -> Result<usize, Failure> {
        Ok(self.0.lock().await.pop().ok_or("no slot is free")?)
    }

    pub(super) async fn give(&self, slot: usize) {
        self.0.lock().await.push(slot);
    }
}
