//! Somebody else acts at every write of a move: what he wants stands in the end, nothing
//! of StornX is left, and no more endpoints are missing than he takes himself.
//!
//! The table of writes and deeds is made from undisturbed runs. A deed comes when the
//! daemon has decided on its write and sent it, and before the API server has it.
//!
//! Long form, all of the table: `STORNX_E2E_OTHERS=all`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Pod},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_core::{
    engine::CycleOutcome,
    model::{Rollout, Workload as Seen},
    plan::Action,
    units::Span,
};
use stornx_testbed::{TestBed, wait::until};

use super::{
    at_rest,
    deeds::{Done, Other, cordon, deed},
    list, picture, rows,
    scenario::Scenario,
    stage::{AT_ONCE, End, NAME, Slots, Stage, seen},
};
use crate::{
    Failure,
    support::{
        SOON, TestResult,
        driver::Driver,
        faults::{Faults, Trouble, Which},
    },
};

/// The longest wait for the answer to one write: what somebody else does comes within it.
const WRITE: Duration = Duration::from_secs(10);
/// One case: a surge that is not seen is given up after 90 s.
const LIMIT: Duration = Duration::from_secs(240);
/// How often a case is run again whose write did not come.
const AGAIN: usize = 3;
/// Cycles in which a paused workload is left alone before it goes on.
const PAUSED: usize = 4;

/// Moves that others meet: one that ends well, one whose surge is taken back, and one by
/// eviction.
const MOVES: [Scenario; 3] = [Scenario::Move, Scenario::NeverReady, Scenario::EvictionMove];

/// Where an autoscaler owns the count, nobody else sets it.
fn may_be(scenario: Scenario, other: Other) -> bool {
    scenario != Scenario::EvictionMove
        || !matches!(other, Other::ScalesUp | Other::ScalesDown | Other::Autoscales)
}

/// One row of the table.
#[derive(Debug, Clone)]
struct Case {
    scenario: Scenario,
    at: Which,
    other: Other,
}

impl Case {
    fn title(&self) -> String {
        let Self { scenario, at, other } = self;
        format!("{scenario:?} [{at}] {other:?}")
    }
}

pub(super) async fn others(bed: Arc<TestBed>) -> TestResult {
    let wanted = std::env::var("STORNX_E2E_OTHERS").unwrap_or_default();
    let slots = Slots::new();
    let mut table = Vec::new();
    let calm = stream::iter(MOVES)
        .map(|scenario| {
            let (bed, slots) = (&bed, &slots);
            async move {
                let namespace = format!("calm-{scenario:?}").to_lowercase();
                let found = super::run(bed, slots, &namespace, scenario, None).await?;
                Ok::<_, Failure>((scenario, found.writes))
            }
        })
        .buffer_unordered(AT_ONCE);
    for found in calm.collect::<Vec<_>>().await {
        let (scenario, writes) = found?;
        println!("others: {scenario:?}: {}", list(&writes));
        let cases = rows(&writes)
            .into_iter()
            .flat_map(|at| Other::ALL.map(|other| Case { scenario, at: at.clone(), other }));
        table.extend(cases);
    }
    table.sort_by_key(|case| (case.scenario, case.at.clone(), case.other));
    table.retain(|case| may_be(case.scenario, case.other));
    table.retain(|case| match wanted.as_str() {
        "" => in_short_form(case),
        "all" => true,
        part => case.title().contains(part),
    });
    let results = stream::iter(table.into_iter().enumerate())
        .map(|(number, case)| {
            let (bed, slots) = (&bed, &slots);
            async move {
                let name = format!("other-{}", number + 1);
                let title = format!("{} ({name})", case.title());
                let began = Instant::now();
                let result = run(bed, slots, &name, &case).await;
                match &result {
                    Ok(said) => println!("others: {title}: {said}, {:.0?}", began.elapsed()),
                    Err(error) => println!("others: {title}: FAILED: {error}"),
                }
                result.map_err(|error| format!("{title}: {error}"))
            }
        })
        .buffer_unordered(AT_ONCE);
    let results: Vec<_> = results.collect().await;
    let failed: Vec<String> = results.iter().filter_map(|one| one.clone().err()).collect();
    let (all, well) = (results.len(), results.len() - failed.len());
    println!("others: {well} of {all} cases end as the other one wants");
    if all == 0 {
        return Err("no case was chosen".into());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

/// Each deed once, at different writes of a move that ends well.
fn in_short_form(case: &Case) -> bool {
    let at = case.at.name.as_str();
    case.scenario == Scenario::Move
        && case.at.nth == 1
        && match case.other {
            Other::ScalesUp => at == "mark",
            Other::ScalesDown => at == "count 4",
            Other::RollsOut => at == "count 3",
            Other::Drains => at == "memory: move",
            Other::Autoscales => at == "count 4",
            Other::Pauses => at == "count 4",
            Other::Deletes => at == "mark",
            Other::DeletesAll => at == "count 3",
        }
}

async fn run(bed: &TestBed, slots: &Slots, name: &str, case: &Case) -> Result<String, Failure> {
    for again in 0..=AGAIN {
        let slot = slots.take().await?;
        let result = on_slot(bed, slot, &format!("{name}-{again}"), case).await;
        slots.give(slot).await;
        if let Some(said) = result? {
            return Ok(said);
        }
    }
    Err("its write did not come".into())
}

/// Runs one case; `None`: its write did not come.
async fn on_slot(
    bed: &TestBed,
    slot: usize,
    namespace: &str,
    case: &Case,
) -> Result<Option<String>, Failure> {
    let stage = Arc::new(Stage::set(bed, slot, namespace, case.scenario).await?);
    let done = Arc::new(Mutex::new(Done::default()));
    let deed = deed(&stage, case.other, done.clone());
    let faults = Faults::new(stage.user.clone(), Some((case.at.clone(), Trouble::First(deed))));
    let driver = stage.start(faults.client(), Span::ZERO, WRITE).await?;
    let mut last = String::new();
    let turned = turn(&stage, &driver, &faults, case, &mut last).await;
    turned.map_err(|error| format!("{error}; {last}; writes {}", list(&faults.writes())))?;
    drop(driver);
    if case.other == Other::Drains {
        cordon(&stage.admin, &stage.from, false).await?;
    }
    if !faults.fired()? {
        return Ok(None);
    }
    let told = std::mem::take(&mut *done.lock().unwrap_or_else(PoisonError::into_inner));
    let result = judge(&stage, case, &told).await;
    let said =
        result.map_err(|error| format!("{error}; {last}; writes {}", list(&faults.writes())))?;
    if let Ok(stage) = Arc::try_unwrap(stage) {
        stage.clear().await?;
    }
    Ok(Some(said))
}

/// Turns until everything is over.
async fn turn(
    stage: &Stage,
    driver: &Driver,
    faults: &Faults,
    case: &Case,
    last: &mut String,
) -> TestResult {
    let (mut stands, mut paused, mut wrong) = (0, 0, None);
    let go_on = tokio::sync::Notify::new();
    let turned = driver.turn(LIMIT, |outcome| {
        *last = picture(outcome);
        let workload = outcome.snapshot.as_ref().and_then(seen);
        if workload.is_some_and(|one| one.rollout == Rollout::Paused) {
            paused += 1;
            // To forget a record writes nothing of the workload.
            let mut actions = outcome.planned.iter().flat_map(|planned| &planned.plan.actions);
            if actions.any(|action| !matches!(action, Action::CloseMove { .. })) {
                wrong = Some(last.clone());
            }
            if paused == PAUSED {
                go_on.notify_one();
            }
            return Ok(false);
        }
        let over = at_rest(outcome) && faults.fired()? && is_over(outcome, workload, stage, case);
        stands = if over && outcome.outcomes.is_empty() { stands + 1 } else { 0 };
        Ok(stands >= 3)
    });
    let owner = async {
        if case.other == Other::Pauses {
            go_on.notified().await;
            let patch = json!({"spec": {"paused": false}});
            let api: Api<Deployment> = Api::namespaced(stage.admin.clone(), &stage.namespace);
            api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
        stage.owner().await
    };
    tokio::select! {
        result = turned => result?,
        result = owner => result?,
    }
    if case.other == Other::Pauses && paused < PAUSED {
        return Err(format!("it was seen paused {paused} times").into());
    }
    wrong.map_or(Ok(()), |wrong| Err(format!("written while paused: {wrong}").into()))
}

/// Whether the other one's deed is through and nothing moves any more. What came of it is
/// judged afterwards.
fn is_over(outcome: &CycleOutcome, workload: Option<&Seen>, stage: &Stage, case: &Case) -> bool {
    match case.other {
        Other::Deletes | Other::DeletesAll => {
            let known = outcome.memory.as_ref().is_none_or(|memory| {
                memory.workloads.keys().any(|id| id.namespace().as_str() == stage.namespace)
            });
            workload.is_none() && !known
        }
        _ => workload.is_some_and(|one| {
            let wanted = usize::try_from(one.desired).unwrap_or(0);
            one.rollout == Rollout::Settled
                && one.pods.len() == wanted
                && (one.ready().count() == wanted || case.scenario == Scenario::NeverReady)
                && (case.other != Other::Autoscales || one.autoscaler.is_some())
        }),
    }
}

async fn judge(stage: &Stage, case: &Case, done: &Done) -> Result<String, Failure> {
    let (before, _) = case.scenario.replicas();
    if matches!(case.other, Other::Deletes | Other::DeletesAll) {
        return gone(stage, case.other).await;
    }
    let end = settled(stage, done.wants).await?;
    if !end.traces.is_empty() || !end.remembered.is_empty() {
        return Err(format!("something is left: {end:?}").into());
    }
    if !end.keeps_costs(case.scenario) {
        return Err(format!("deletion costs of people are gone: {end:?}").into());
    }
    let fewest = stage.lives.fewest().get(NAME).copied().unwrap_or(0);
    let before = usize::try_from(before)?;
    // An eviction takes one itself.
    let took = done.took + usize::from(case.scenario == Scenario::EvictionMove);
    let least = before.min(usize::try_from(done.wants)?).saturating_sub(took);
    if fewest < least {
        return Err(format!("{fewest} ready endpoints, at least {least} were to stay").into());
    }
    let lives = stage.lives.all();
    if let Some(stays) = done.evicted.iter().find(|one| lives.get(*one).is_none_or(|l| !l.going)) {
        return Err(format!("{stays} was evicted and is there").into());
    }
    if !stage.lives.is_whole() {
        return Err("a watch of the test broke off".into());
    }
    let victim = stage.victims.iter().all(|one| lives.get(one).is_some_and(|life| life.going));
    let victim = if victim { "gone" } else { "there" };
    Ok(format!("{} replicas, victim {victim}, at least {fewest} ready", end.count))
}

/// The end, once the count is what the other one wants and as many replicas are there.
async fn settled(stage: &Stage, wants: i32) -> Result<End, Failure> {
    let what = format!("{wants} replicas");
    let end = until(&what, SOON, || async {
        let end = stage.end().await.map_err(|error| error.to_string())?;
        let there = i32::try_from(end.costs.len()).unwrap_or(-1);
        // Those that come after the template forbade it are never Ready.
        let ready = end.ready == end.costs.len() || stage.scenario == Scenario::NeverReady;
        let well = end.count == wants && there == wants && ready;
        if well { Ok(end) } else { Err(format!("{end:?}")) }
    })
    .await?;
    Ok(end)
}

/// Nothing of it is there any more.
async fn gone(stage: &Stage, other: Other) -> Result<String, Failure> {
    let remembered = stage.remembered().await?;
    if !remembered.is_empty() {
        return Err(format!("something is left: {remembered:?}").into());
    }
    until("all to be gone", SOON, || async {
        let pods: Api<Pod> = Api::namespaced(stage.admin.clone(), &stage.namespace);
        let ours = ListParams::default().labels(&stage.workload.selector());
        let left = pods.list(&ours).await.map_err(|error| error.to_string())?.items.len();
        let namespaces: Api<Namespace> = Api::all(stage.admin.clone());
        let namespace =
            namespaces.get_opt(&stage.namespace).await.map_err(|error| error.to_string())?;
        let stays = other == Other::DeletesAll && namespace.is_some();
        if left == 0 && !stays { Ok(()) } else { Err(format!("{left} replicas, {stays}")) }
    })
    .await?;
    Ok("all gone, nothing remembered".to_owned())
}
