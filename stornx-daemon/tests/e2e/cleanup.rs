//! `stornx cleanup`: after it nothing of StornX is left, whatever it was doing when it ended.

use std::{process::Output, sync::Arc};

use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration,
    apps::v1::Deployment,
    autoscaling::v2::HorizontalPodAutoscaler,
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_core::{
    memory::Memory,
    model::Snapshot,
    plan::{Action, ActionKind, MoveWay},
    policy::Policy,
    report::Why,
};
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    wait::until,
};

use crate::{
    Failure,
    moves::{is_free, move_within_zone, wait_steering},
    support::{
        SOON, TestResult,
        daemon::{Daemon, quick, stornx},
        driver::{Driver, Setup, busy},
        hook,
        rights::{self, OWN},
    },
};

const HERE: &str = "cleaned";
/// Its move is under way.
const MOVING: &str = "cart";
/// Its minimum is held.
const HELD: &str = "held";

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("cleanup_leaves_nothing", Options::default(), cleanup)]
}

async fn cleanup(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    hook::install(&admin, OWN).await?;
    let moving = Workload::new(HERE, MOVING, 3);
    let held = Workload::new(HERE, HELD, 4);
    for workload in [&moving, &held] {
        workload.create(&admin).await?;
    }
    apps::create(&admin, &apps::horizontal_autoscaler(&held, 4, 5, 60)?).await?;
    apps::wait_ready(&admin, &moving, 3, SOON).await?;
    apps::wait_ready(&admin, &held, 4, SOON).await?;
    let settings = quick(HERE, "http://127.0.0.1:9");
    let run = |flag: Option<&str>| -> Result<Output, Failure> {
        Ok(stornx(&bed, "admin", &settings).arg("cleanup").args(flag).output()?)
    };

    refused_while_a_daemon_runs(&bed, &settings, &run).await?;
    for moves in [true, false] {
        leave_much(&bed, &admin, moves).await?;
        let before = left(&admin).await?;
        let dry = words(&run(Some("--dry-run"))?)?;
        let done = dry.iter().any(|line| !line.starts_with("would be done: "));
        if left(&admin).await? != before || done || before.is_empty() {
            return Err(format!("a dry run did something: {dry:?}; {before:?}").into());
        }
        let its_move = "would be done: cleaned/Deployment/cart: its move finished or undone";
        if moves != dry.iter().any(|line| line == its_move) {
            return Err(format!("{moves}, a move under way: {dry:?}").into());
        }
        let said = words(&run(None)?)?;
        println!("cleanup: {said:?}");
        let missing = |line: &&&str| !said.iter().any(|one| one.starts_with(**line));
        if let Some(missing) = expected(moves).iter().find(missing) {
            return Err(format!("not said: {missing}; {said:?}").into());
        }
        let after = left(&admin).await?;
        if !after.is_empty() {
            return Err(format!("left: {after:?}").into());
        }
        apps::wait_ready(&admin, &moving, 3, SOON).await?;
        until("the surge to be gone", SOON, || async {
            let pods = pods(&admin).await.map_err(|error| error.to_string())?;
            let (live, cost) = (pods.len(), costs(&pods));
            if live == 7 && cost == ["7"] { Ok(()) } else { Err(format!("{live} pods, {cost:?}")) }
        })
        .await?;
    }
    let again = words(&run(None)?)?;
    if again != ["nothing of StornX is in its namespaces"] {
        return Err(format!("a second run found something: {again:?}").into());
    }
    Ok(())
}

/// What is said, among other things: a daemon's own end of moves takes marks and minima back
/// as well.
const fn expected(moves: bool) -> &'static [&'static str] {
    if moves {
        &[
            "moves under way are ended first: cleaned/Deployment/cart",
            "MutatingWebhookConfiguration stornx: asks about no namespace any more",
            "ConfigMap stornx/stornx: the memory, deleted",
            "Lease stornx/stornx: deleted",
        ]
    } else {
        &["HorizontalPodAutoscaler cleaned/held: its minimum is 2 again", "Pod cleaned/held-"]
    }
}

/// Where a daemon runs it would write again: nothing is done then.
async fn refused_while_a_daemon_runs(
    bed: &TestBed,
    settings: &[(&'static str, String)],
    run: &impl Fn(Option<&str>) -> Result<Output, Failure>,
) -> TestResult {
    let mut daemon = Daemon::start(bed, "stornx", "stornx", settings).await?;
    daemon.wait_ready().await?;
    until("the daemon to lead", SOON, || async {
        let leads = daemon.metric("stornx_leading", &[]).await.map_err(|e| e.to_string())?;
        if leads == Some(1.0) { Ok(()) } else { Err(format!("{leads:?}")) }
    })
    .await?;
    let refused = run(None)?;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    if refused.status.success() || !error.contains("holds the lease") {
        return Err(format!("not refused: {error}").into());
    }
    if !refused.stdout.is_empty() {
        return Err(String::from_utf8_lossy(&refused.stdout).into_owned().into());
    }
    daemon.terminate().await?;
    Ok(())
}

/// Leaves a move under way, a held minimum, a mark and what comes with them.
async fn leave_much(bed: &TestBed, admin: &Client, moves: bool) -> TestResult {
    if moves {
        begin_a_move(bed).await?;
    }
    let ours = PatchParams { field_manager: Some("stornx".to_owned()), ..Default::default() };
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(admin.clone(), HERE);
    let [hpa] = &hpas.list(&ListParams::default()).await?.items[..] else {
        return Err("one autoscaler".into());
    };
    let raised = json!({
        "metadata": { "annotations": { "stornx.io/held-minimum": "2/4" } },
        // Another value in between, so that the field is StornX's.
        "spec": { "minReplicas": 3 }
    });
    hpas.patch(&hpa.name_any(), &ours, &Patch::Merge(raised)).await?;
    let raised = json!({ "spec": { "minReplicas": 4 } });
    hpas.patch(&hpa.name_any(), &ours, &Patch::Merge(raised)).await?;
    let marked = pods(admin).await?.into_iter().find(|pod| pod.name_any().starts_with(HELD));
    let mark = json!({ "metadata": { "annotations": {
        "stornx.io/victim": "7", "controller.kubernetes.io/pod-deletion-cost": "-2147483648"
    } } });
    let api: Api<Pod> = Api::namespaced(admin.clone(), HERE);
    api.patch(&marked.ok_or("a pod")?.name_any(), &ours, &Patch::Merge(mark)).await?;
    Ok(())
}

/// A process that ends when it has begun a move.
async fn begin_a_move(bed: &TestBed) -> TestResult {
    let policy = busy(&[HERE])?;
    let propose = |snapshot: &Snapshot, memory: &Memory, _: &Policy| {
        some_move(snapshot, memory).into_iter().collect()
    };
    let driver =
        Driver::start(bed.client("stornx").await?, Setup::new(policy, Arc::new(propose))?).await?;
    wait_steering(&driver).await?;
    let begun = |outcome: &stornx_core::engine::CycleOutcome| {
        Ok(outcome.done().any(|action| action.kind() == ActionKind::StartMove))
    };
    driver.turn(SOON, begun).await
}

/// What is there of StornX, in words.
async fn left(admin: &Client) -> Result<Vec<String>, Failure> {
    fn noted(what: &impl kube::Resource<DynamicType = ()>, left: &mut Vec<String>) {
        let ours = what.meta().annotations.iter().flatten();
        let ours = ours.filter(|(key, _)| key.starts_with("stornx.io/"));
        left.extend(ours.map(|(key, value)| format!("{:?} {key}={value}", what.meta().name)));
    }
    let mut left = Vec::new();
    pods(admin).await?.iter().for_each(|pod| noted(pod, &mut left));
    let hpas: Api<HorizontalPodAutoscaler> = Api::namespaced(admin.clone(), HERE);
    hpas.list(&ListParams::default()).await?.items.iter().for_each(|one| noted(one, &mut left));
    let loads: Api<Deployment> = Api::namespaced(admin.clone(), HERE);
    for one in loads.list(&ListParams::default()).await?.items {
        noted(&one, &mut left);
        let wanted = if one.name_any() == MOVING { 3 } else { 4 };
        let count = one.spec.and_then(|spec| spec.replicas);
        if count != Some(wanted) {
            left.push(format!("{count:?} replicas instead of {wanted}"));
        }
    }
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), OWN);
    left.extend(maps.get_opt(OWN).await?.map(|_| "the memory".to_owned()));
    let leases: Api<Lease> = Api::namespaced(admin.clone(), OWN);
    left.extend(leases.get_opt(OWN).await?.map(|_| "the lease".to_owned()));
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(admin.clone());
    for hook in hooks.get(OWN).await?.webhooks.into_iter().flatten() {
        let asks = json!(hook.namespace_selector)["matchExpressions"][0]["values"] != json!([""]);
        if asks || hook.client_config.ca_bundle.is_some() {
            left.push(format!("{:?}", hook.namespace_selector));
        }
    }
    Ok(left)
}

/// Pods that are not going.
async fn pods(admin: &Client) -> Result<Vec<Pod>, Failure> {
    let api: Api<Pod> = Api::namespaced(admin.clone(), HERE);
    let mut pods = api.list(&ListParams::default()).await?.items;
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods)
}

fn costs(pods: &[Pod]) -> Vec<String> {
    let costs = pods.iter().filter_map(|pod| {
        pod.annotations().get("controller.kubernetes.io/pod-deletion-cost").cloned()
    });
    costs.collect()
}

/// The lines of a run that went well.
fn words(output: &Output) -> Result<Vec<String>, Failure> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{said} {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok(said.lines().map(ToOwned::to_owned).collect())
}

fn some_move(snapshot: &Snapshot, memory: &Memory) -> Option<(Action, Why)> {
    let moving = snapshot.workloads.iter().find(|one| one.id.name() == MOVING)?;
    move_within_zone(snapshot, moving, MoveWay::Surge).filter(|_| is_free(moving, memory))
}
