//! Moves of a workload whose count a HorizontalPodAutoscaler owns, by holding its minimum:
//! the real autoscaler asks for the replacement, the victim goes when it lowers the count,
//! and its minimum is given back, also when the record of the move is lost.
//!
//! Nothing is measured in this bed, so that the autoscaler raises a count to its minimum
//! and lowers none: that is done in its place.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::{
    autoscaling::v2::HorizontalPodAutoscaler, core::v1::ConfigMap, core::v1::Pod,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams},
};
use stornx_core::{
    memory::Memory,
    model::Snapshot,
    plan::{Action, ActionKind, MoveEnding, MoveWay},
    policy::{AutoscaledMoves, Policy},
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
        driver::{Driver, Setup, busy},
        hook,
        pods::Lives,
        rights::{self, OWN},
        seen,
    },
};

const HERE: &str = "held";
const NAME: &str = "cart";
const HELD: &str = "stornx.io/held-minimum";
const LIMIT: Duration = Duration::from_secs(90);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("held_minimum", Options::default(), hold)]
}

async fn hold(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    hook::install(&admin, OWN).await?;
    let workload = Workload::new(HERE, NAME, 3);
    workload.create(&admin).await?;
    apps::create(&admin, &apps::horizontal_autoscaler(&workload, 2, 5, 60)?).await?;
    let lives = Lives::watch(&admin, HERE);
    until("the replicas to serve", SOON, || async {
        let now = lives.endpoints();
        if now.get(NAME) == Some(&3) { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await?;

    let mut policy = busy(&[HERE])?;
    policy.moves.autoscaled = AutoscaledMoves::Hold;
    let wish = Arc::new(Mutex::new(1_usize));
    let left = wish.clone();
    let propose = move |snapshot: &Snapshot, memory: &Memory, _: &Policy| {
        let left = *left.lock().unwrap_or_else(PoisonError::into_inner);
        (0..left.min(1)).filter_map(|_| some_move(snapshot, memory)).collect()
    };
    let driver =
        Driver::start(bed.client("stornx").await?, Setup::new(policy, Arc::new(propose))?).await?;
    wait_steering(&driver).await?;
    lives.count_fewest();

    let begun = until_done(&driver, ActionKind::StartMove).await?;
    *wish.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    let Action::StartMove { victim, to, .. } = begun else { return Err("begun".into()) };
    assert_minimum(&admin, (4, Some("2/4"))).await?;
    let given = until_done(&driver, ActionKind::GiveBackMinimum).await?;
    let Action::GiveBackMinimum { goes, ending, .. } = given else { return Err("given".into()) };
    let Some(MoveEnding::Finish { replacement }) = ending else {
        return Err(format!("not finished: {ending:?}").into());
    };
    if goes.as_ref() != Some(&victim) || lives.marked() != [victim.name().to_owned()] {
        return Err(format!("{goes:?} is to go, {:?} is marked", lives.marked()).into());
    }
    assert_minimum(&admin, (2, None)).await?;
    let raised = seen::replicas(&admin, HERE, NAME).await?;
    if raised != 4 {
        return Err(format!("the autoscaler made it {raised}").into());
    }
    // In the place of the autoscaler, which has no figures to lower it by.
    apps::scale(&admin, &workload, 3).await?;
    until_done(&driver, ActionKind::CloseMove).await?;
    let node = lives.all().get(replacement.name()).and_then(|life| life.node.clone());
    if node.as_deref() != Some(to.as_str()) {
        return Err(format!("{replacement} runs on {node:?}, not on {to}").into());
    }
    let gone: Vec<String> =
        lives.all().into_iter().filter(|(_, life)| life.going).map(|(name, _)| name).collect();
    if gone != [victim.name().to_owned()] {
        return Err(format!("{gone:?} went, {victim} was to go").into());
    }
    if lives.fewest().get(NAME).is_none_or(|fewest| *fewest < 3) {
        return Err(format!("fewer served than before: {:?}", lives.fewest()).into());
    }

    lost_memory(&admin, &driver, &wish).await?;
    println!("held: moved with its minimum held, and given back without a memory");
    Ok(())
}

/// The record is lost while the minimum is raised.
async fn lost_memory(admin: &Client, driver: &Driver, wish: &Mutex<usize>) -> TestResult {
    *wish.lock().unwrap_or_else(PoisonError::into_inner) = 1;
    until_done(driver, ActionKind::StartMove).await?;
    *wish.lock().unwrap_or_else(PoisonError::into_inner) = 0;
    assert_minimum(admin, (4, Some("2/4"))).await?;
    let memory: Api<ConfigMap> = Api::namespaced(admin.clone(), OWN);
    memory.delete(OWN, &DeleteParams::default()).await?;
    let given = until_done(driver, ActionKind::GiveBackMinimum).await?;
    if !matches!(given, Action::GiveBackMinimum { goes: None, ending: None, .. }) {
        return Err(format!("something else is known of it: {given:?}").into());
    }
    assert_minimum(admin, (2, None)).await?;
    let pods: Api<Pod> = Api::namespaced(admin.clone(), HERE);
    let marked = |pod: &Pod| {
        pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key("stornx.io/victim"))
    };
    match pods.list(&ListParams::default()).await?.items.iter().find(|pod| marked(pod)) {
        Some(pod) => Err(format!("{:?} is marked", pod.metadata.name).into()),
        None => Ok(()),
    }
}

/// Turns until an action of this kind was done, and gives it.
async fn until_done(driver: &Driver, kind: ActionKind) -> Result<Action, Failure> {
    let mut found = None;
    driver
        .turn(LIMIT, |outcome| {
            found = outcome.done().find(|action| action.kind() == kind).cloned();
            Ok(found.is_some())
        })
        .await
        .map_err(|error| format!("waiting for {kind:?}: {error}"))?;
    found.ok_or_else(|| "nothing was done".into())
}

async fn assert_minimum(admin: &Client, expected: (i32, Option<&str>)) -> TestResult {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(admin.clone(), HERE);
    let list = api.list(&ListParams::default()).await?.items;
    let [one] = list.as_slice() else { return Err(format!("{} autoscalers", list.len()).into()) };
    let min = one.spec.as_ref().and_then(|spec| spec.min_replicas);
    let held = one.metadata.annotations.as_ref().and_then(|all| all.get(HELD));
    if (min, held.map(String::as_str)) != (Some(expected.0), expected.1) {
        return Err(format!("{min:?} {held:?}, not {expected:?}").into());
    }
    Ok(())
}

fn some_move(snapshot: &Snapshot, memory: &Memory) -> Option<(Action, Why)> {
    let workload = snapshot.workloads.iter().find(|one| is_free(one, memory))?;
    move_within_zone(snapshot, workload, MoveWay::Hold)
}
