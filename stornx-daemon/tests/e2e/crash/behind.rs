//! The controller manager is behind with its view of pods, as it is in a large cluster
//! after a wave of changes: the replica that is marked goes all the same.
//!
//! Of a move that holds ([0024](../../../../docs/decisions/0024-the-mark-comes-first.md)): the
//! victim is marked before its replacement is asked for, and the count is not lowered before
//! the controller counts that one as Ready.
//!
//! Of a scale-down it is known not to hold
//! ([0015](../../../../docs/decisions/0015-a-crash-at-every-write.md)), so that is run when it
//! is asked for: `STORNX_E2E_BEHIND=3000`, the changes of other pods that it has not seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_core::{plan::Action, units::Span};
use stornx_testbed::{Server, TestBed, apps, wait::until};

use super::{
    LIMIT, at_rest, list, picture,
    scenario::Scenario,
    stage::{NAME, Stage, seen},
};
use crate::support::{
    SOON, TestResult,
    driver::Driver,
    faults::{Deed, Faults, Trouble, Which},
    long_form,
};

/// How many changes the controller manager has not seen.
const CHANGES: &str = "STORNX_E2E_BEHIND";

pub(super) fn is_asked_for() -> bool {
    std::env::var_os(CHANGES).is_some()
}

/// Cycles in which a move waits for its proof.
const LOOKS: usize = 5;
/// The longest wait for the answer to one write, a wave before it included.
const WRITE: Duration = Duration::from_secs(60);

/// A change carries this many bytes: what is under way is more than a stream holds.
const BYTES: usize = 4096;

pub(super) async fn behind(bed: Arc<TestBed>) -> TestResult {
    let changes = long_form(CHANGES, 300)?;
    let stage = Stage::set(&bed, 0, "behind", Scenario::Shrink).await?;
    stage.open.store(false, Ordering::SeqCst);
    let faults = Faults::new(stage.user.clone(), None);
    let driver = stage.start(faults.client(), Span::ZERO, Duration::from_secs(10)).await?;
    bed.pause(Server::ControllerManager)?;
    wave(&stage.admin, "behind", changes).await?;
    stage.open.store(true, Ordering::SeqCst);
    let asked = driver
        .turn(SOON, |outcome| {
            Ok(outcome.done().any(|action| matches!(action, Action::RemoveReplicas { .. })))
        })
        .await;
    bed.resume(Server::ControllerManager)?;
    asked?;
    let gone = until("a replica to go", SOON, || async {
        let lives = stage.lives.all();
        let going = lives.into_iter().filter(|(_, life)| life.going).map(|(name, _)| name);
        let going: Vec<String> = going.collect();
        if going.is_empty() { Err("all are there") } else { Ok(going) }
    })
    .await?;
    let said = format!("planned {:?}, gone {gone:?}; {}", stage.victims, stage.lives.story());
    println!("behind: by {changes} changes: {said}");
    if gone == stage.victims { Ok(()) } else { Err(said.into()) }
}

/// Another pod of the namespace changes so often.
async fn wave(admin: &Client, namespace: &str, changes: usize) -> TestResult {
    let api: Api<Pod> = Api::namespaced(admin.clone(), namespace);
    let others = api.list(&ListParams::default().labels("app=b")).await?.items;
    let other = others.first().ok_or("a bystander")?.name_any();
    let flood = stream::iter(0..changes).map(|number| {
        let (api, other) = (&api, &other);
        async move {
            let text = format!("{number} {}", "x".repeat(BYTES));
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"wave": text}}}));
            api.patch_metadata(other, &PatchParams::default(), &patch).await.map(drop)
        }
    });
    flood.buffer_unordered(16).try_collect::<()>().await?;
    Ok(())
}

/// A whole move. The controller manager falls behind before the replacement is Ready, and
/// again when the count is about to be lowered.
pub(super) async fn behind_a_move(bed: Arc<TestBed>) -> TestResult {
    let changes = long_form(CHANGES, 300)?;
    let stage = Stage::set(&bed, 0, "behind-a-move", Scenario::Move).await?;
    let stage = stage.patient(Span::from_seconds(240));
    let (admin, namespace) = (stage.admin.clone(), stage.namespace.clone());
    let falls_behind: Deed = {
        let bed = bed.clone();
        Arc::new(move || {
            let (bed, admin, namespace) = (bed.clone(), admin.clone(), namespace.clone());
            Box::pin(async move {
                bed.pause(Server::ControllerManager)?;
                wave(&admin, &namespace, changes).await
            })
        })
    };
    let lowers = Which { name: format!("count {}", Scenario::Move.replicas().1), nth: 1 };
    let faults = Faults::new(stage.user.clone(), Some((lowers, Trouble::First(falls_behind))));
    let driver = stage.start(faults.client(), Span::ZERO, WRITE).await?;
    let (looks, mut last) = (AtomicUsize::new(0), String::new());
    let both = async {
        tokio::try_join!(
            moved(&stage, &driver, &faults, &looks, &mut last),
            fall_behind(&bed, &stage, &faults, &looks, changes),
        )
    };
    let result = both.await;
    // Whatever came of it: the test bed ends in good order only while all go on.
    bed.resume(Server::ControllerManager)?;
    result.map_err(|error| format!("{error}; {last}; writes {}", list(&faults.writes())))?;
    let gone: Vec<String> = stage
        .lives
        .all()
        .into_iter()
        .filter(|(_, life)| life.going)
        .map(|(name, _)| name)
        .collect();
    let end = stage.end().await?;
    let writes = list(&faults.writes());
    let said = format!(
        "planned {:?}, gone {gone:?}, {writes}; {}; {end:?}",
        stage.victims,
        stage.lives.story()
    );
    println!("behind: a move, by {changes} changes twice: {said}");
    let left = !end.traces.is_empty() || !end.remembered.is_empty() || end.count != 3;
    if gone == stage.victims && !left { Ok(()) } else { Err(said.into()) }
}

/// Turns until the move is over.
async fn moved(
    stage: &Stage,
    driver: &Driver,
    faults: &Faults,
    looks: &AtomicUsize,
    last: &mut String,
) -> TestResult {
    let mut stands = 0;
    driver
        .turn(LIMIT, |outcome| {
            *last = picture(outcome);
            looks.fetch_add(usize::from(outcome.errors.is_empty()), Ordering::SeqCst);
            let workload = outcome.snapshot.as_ref().and_then(seen);
            // Over, whoever went: who did is judged afterwards.
            let whole = workload
                .is_some_and(|one| one.desired == 3 && one.pods.len() == 3 && stage.surged());
            let over = whole && at_rest(outcome) && faults.fired()? && outcome.outcomes.is_empty();
            stands = if over { stands + 1 } else { 0 };
            Ok(stands >= 2)
        })
        .await
}

/// Holds the controller manager up before the replacement is Ready, until the daemon has
/// looked at it often enough; and lets it go on after it was held up a second time.
async fn fall_behind(
    bed: &TestBed,
    stage: &Stage,
    faults: &Faults,
    looks: &AtomicUsize,
    changes: usize,
) -> TestResult {
    let api: Api<Pod> = Api::namespaced(stage.admin.clone(), &stage.namespace);
    let deployments: Api<Deployment> = Api::namespaced(stage.admin.clone(), &stage.namespace);
    let ours = ListParams::default().labels(&stage.workload.selector());
    until("a replacement", SOON, || async {
        let most = stage.lives.alive(NAME).map(|alive| alive.most);
        if most == Some(4) { Ok(()) } else { Err(format!("{most:?}")) }
    })
    .await?;
    bed.pause(Server::ControllerManager)?;
    wave(&stage.admin, &stage.namespace, changes).await?;
    until("it to be Ready", SOON, || async {
        let pods = api.list(&ours).await.map_err(|error| error.to_string())?.items;
        let ready = pods.iter().filter(|pod| apps::is_ready(pod)).count();
        if ready == 4 { Ok(()) } else { Err(format!("{ready}")) }
    })
    .await?;
    let from = looks.load(Ordering::SeqCst);
    until("the daemon to look", SOON, || async {
        let looks = looks.load(Ordering::SeqCst) - from;
        if looks >= LOOKS { Ok(()) } else { Err(format!("{looks}")) }
    })
    .await?;
    let found = deployments.get(NAME).await?;
    let (count, counted) = (
        found.spec.and_then(|spec| spec.replicas),
        found.status.and_then(|status| status.ready_replicas),
    );
    if counted != Some(3) || count != Some(4) || faults.fired()? {
        return Err(format!("{counted:?} are counted, {count:?} are asked for").into());
    }
    bed.resume(Server::ControllerManager)?;
    until("the count to be lowered", LIMIT, || async {
        let lowered = stage.lives.counts(NAME).is_some_and(|counts| counts.least == 3);
        let fired = faults.fired().map_err(|error| error.to_string())?;
        let found = deployments.get(NAME).await.map_err(|error| error.to_string())?;
        let count = found.spec.and_then(|spec| spec.replicas);
        if lowered && fired && count == Some(3) { Ok(()) } else { Err(format!("{count:?}")) }
    })
    .await?;
    bed.resume(Server::ControllerManager)?;
    Ok(())
}
