//! A crash at every write, and every write gone wrong: whatever happens to one of them, the
//! cluster ends as if nothing had happened, and nothing of StornX is left on it.
//!
//! The table of writes and faults is made from an undisturbed run of each scenario, and
//! every case is compared with that run (the method of Sieve: Sun and others, OSDI 2022).
//! A case whose fault did not come is no case: it fails.
//!
//! Long form, all of the table: `STORNX_E2E_CRASHES=all`.

mod behind;
mod deeds;
mod late;
mod others;
mod scenario;
mod stage;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use stornx_core::{engine::CycleOutcome, units::Span};
use stornx_testbed::{TestBed, harness::Test};

use self::{
    scenario::Scenario,
    stage::{AT_ONCE, End, NAME, Slots, Stage, seen},
};
use crate::{
    Failure,
    support::{
        TestResult,
        driver::{Driver, sketch},
        faults::{Fault, Faults, Trouble, Which},
    },
};

/// One case: a move that was never begun is given up after 90 s.
const LIMIT: Duration = Duration::from_secs(240);
/// How often a case is run again whose fault did not come.
const AGAIN: usize = 3;
/// The longest wait of a driver for the answer to one write.
const WRITE: Duration = Duration::from_secs(2);

pub(crate) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::own("crash_at_every_write", stage::options(), crashes),
        Test::own("late_request_of_a_scale_down", stage::options(), late::late),
        Test::own("others_at_every_write", stage::options(), others::others),
        Test::own(
            "move_under_a_controller_that_is_behind",
            stage::options(),
            behind::behind_a_move,
        ),
    ];
    if behind::is_asked_for() {
        tests.push(Test::own("controller_that_is_behind", stage::options(), behind::behind));
    }
    tests
}

/// How long a daemon is away after a crash, by the next one's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Away {
    /// The next one starts at once.
    Not,
    /// Long enough that nothing of the last reign is still awaited.
    Long,
}

impl Away {
    const fn span(self) -> Span {
        match self {
            Self::Not => Span::ZERO,
            Self::Long => Span::from_seconds(100),
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone)]
struct Case {
    scenario: Scenario,
    at: Which,
    fault: Fault,
    away: Away,
}

impl Case {
    const fn kills(&self) -> bool {
        matches!(self.fault, Fault::KillBefore | Fault::KillAfter)
    }

    fn title(&self) -> String {
        let Self { scenario, at, fault, away } = self;
        let next = match away {
            _ if !self.kills() => "",
            Away::Not => ", next at once",
            Away::Long => ", next 100 s later",
        };
        format!("{scenario:?} [{at}] {fault:?}{next}")
    }
}

/// What was seen of one run.
#[derive(Debug, Clone)]
struct Seen {
    writes: Vec<Which>,
    /// The fault came.
    fired: bool,
    end: End,
    /// The most replicas that were not going, and the most that were asked for.
    most: (usize, usize),
    took: Duration,
    story: String,
}

async fn crashes(bed: Arc<TestBed>) -> TestResult {
    let wanted = std::env::var("STORNX_E2E_CRASHES").unwrap_or_default();
    let slots = Slots::new();
    let undisturbed = stream::iter(Scenario::ALL.into_iter().enumerate())
        .map(|(at, scenario)| {
            let (bed, slots) = (&bed, &slots);
            async move {
                let found = run(bed, slots, &format!("calm-{at}"), scenario, None).await;
                Ok::<_, Failure>((scenario, found.map_err(|e| format!("{scenario:?}: {e}"))?))
            }
        })
        .buffer_unordered(AT_ONCE);
    let mut calm: BTreeMap<Scenario, Seen> = BTreeMap::new();
    for found in undisturbed.collect::<Vec<_>>().await {
        let (scenario, seen) = found?;
        calm.insert(scenario, seen);
    }
    for (scenario, Seen { writes, end, most, took, .. }) in &calm {
        let (took, writes) = (took.as_secs_f64(), list(writes));
        println!("crash: {scenario:?} undisturbed, {took:.0} s: {writes}; {most:?}, {end:?}");
    }
    let chosen = |case: &Case| match wanted.as_str() {
        "" => in_short_form(case),
        "all" => true,
        part => case.title().contains(part),
    };
    let table: Vec<Case> = table(&calm).filter(chosen).collect();
    let results = stream::iter(table.into_iter().enumerate())
        .map(|(number, case)| {
            let (bed, slots, calm) = (&bed, &slots, &calm[&case.scenario]);
            async move {
                let name = format!("crash-{}", number + 1);
                let result = disturbed(bed, slots, &name, &case, calm).await;
                let title = format!("{} [{name}]", case.title());
                match &result {
                    Ok(took) => println!("crash: {title}: as undisturbed, {took:.0?}"),
                    Err(error) => println!("crash: {title}: FAILED: {error}"),
                }
                result.map_err(|error| format!("{title}: {error}"))
            }
        })
        .buffer_unordered(AT_ONCE);
    let results: Vec<_> = results.collect().await;
    let failed: Vec<String> = results.iter().filter_map(|one| one.clone().err()).collect();
    let (all, well) = (results.len(), results.len() - failed.len());
    println!("crash: {well} of {all} cases end as the undisturbed run");
    if all == 0 {
        return Err("no case was chosen".into());
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

/// Every write of every scenario with every fault; after a crash, the next one starts at
/// once or later.
fn table(calm: &BTreeMap<Scenario, Seen>) -> impl Iterator<Item = Case> {
    let writes = calm
        .iter()
        .flat_map(|(scenario, seen)| rows(&seen.writes).into_iter().map(|at| (*scenario, at)));
    let faults = Fault::ALL.into_iter().flat_map(|fault| [(fault, Away::Not), (fault, Away::Long)]);
    writes.flat_map(move |(scenario, at)| {
        let cases =
            faults.clone().map(move |(fault, away)| Case { scenario, at: at.clone(), fault, away });
        cases.filter(|case| case.kills() || case.away == Away::Not)
    })
}

/// The writes that a table has rows for, those that every run has: what is remembered may be
/// stored in more than one step, and a count is asked for again when the status of the
/// workload moved on.
fn rows(writes: &[Which]) -> Vec<Which> {
    let may_repeat = |one: &Which| one.name.starts_with("memory") || one.name.starts_with("count");
    let is_row = |one: &&Which| one.nth == 1 || !may_repeat(one);
    writes.iter().filter(is_row).cloned().collect()
}

/// A crash before and after each write of a move, the next one starts at once or later;
/// elsewhere, and for other faults, one each. Those are left out that wait for 60 or 90 s
/// that something asked for may still come.
fn in_short_form(case: &Case) -> bool {
    let at = (case.at.name.as_str(), case.at.nth);
    let later = case.away == Away::Long;
    match (case.scenario, at, case.fault) {
        (Scenario::Move, ("mark" | "count 4", _), Fault::KillBefore | Fault::KillAfter)
        | (Scenario::Grow, ("count 4", _), Fault::KillAfter)
        | (Scenario::EvictionMove | Scenario::Release, ("eviction", _), Fault::KillAfter) => later,
        (Scenario::Move, ("count 3", _), Fault::KillAfter) => !later,
        (Scenario::Move, ("count 3", _), Fault::KillBefore) => later,
        (Scenario::Move, _, Fault::KillBefore) => !later,
        (Scenario::Move, _, Fault::KillAfter) => later,
        (Scenario::Move, ("memory: move + intent", _), Fault::Fail | Fault::Conflict)
        | (Scenario::Move, ("count 3", _), Fault::Delay)
        | (Scenario::Grow, ("count 4", _), Fault::Duplicate)
        | (Scenario::Shrink, ("count 3", _), Fault::Conflict) => true,
        (Scenario::UndoneMove, ("count 3", _), Fault::KillBefore)
        | (Scenario::NeverReady, ("mark", 2), Fault::KillAfter)
        | (Scenario::ShrinkByTwo, ("mark", 2), Fault::KillBefore) => !later,
        _ => false,
    }
}

/// Runs a case and compares its end with that of the undisturbed run. Gives how long it
/// took.
async fn disturbed(
    bed: &TestBed,
    slots: &Slots,
    name: &str,
    case: &Case,
    calm: &Seen,
) -> Result<Duration, Failure> {
    let mut seen = run(bed, slots, name, case.scenario, Some(case)).await?;
    // What is stored in two steps as a rule may be stored in one.
    for again in 1..=AGAIN {
        if seen.fired {
            break;
        }
        seen = run(bed, slots, &format!("{name}-{again}"), case.scenario, Some(case)).await?;
    }
    if !seen.fired {
        return Err(format!("the fault did not come: {}", list(&seen.writes)).into());
    }
    if seen.end != calm.end {
        let Seen { end, story, .. } = seen;
        return Err(format!("ended with {end:?}, undisturbed {:?}; {story}", calm.end).into());
    }
    if seen.most.0 > calm.most.0 || seen.most.1 > calm.most.1 {
        let (most, calm) = (seen.most, calm.most);
        return Err(format!("at most {most:?} replicas, undisturbed {calm:?}").into());
    }
    Ok(seen.took)
}

/// Runs one case to its end.
async fn run(
    bed: &TestBed,
    slots: &Slots,
    namespace: &str,
    scenario: Scenario,
    case: Option<&Case>,
) -> Result<Seen, Failure> {
    let slot = slots.take().await?;
    let result = on_slot(bed, slot, namespace, scenario, case).await;
    slots.give(slot).await;
    result
}

async fn on_slot(
    bed: &TestBed,
    slot: usize,
    namespace: &str,
    scenario: Scenario,
    case: Option<&Case>,
) -> Result<Seen, Failure> {
    let began = Instant::now();
    let stage = Stage::set(bed, slot, namespace, scenario).await?;
    let trouble = case.map(|case| (case.at.clone(), Trouble::Fault(case.fault)));
    let faults = Faults::new(stage.user.clone(), trouble);
    let mut last = String::new();
    let played = async {
        tokio::select! {
            result = play(&stage, &faults, case, &mut last) => result,
            result = stage.owner() => result,
        }
    };
    played.await.map_err(|error| format!("{error}; {last}; writes {}", list(&faults.writes())))?;

    let end = stage.end().await?;
    let (before, after) = scenario.replicas();
    if end.count != i32::try_from(after)? || end.ready != usize::try_from(after)? {
        return Err(format!("not {after} replicas: {end:?}").into());
    }
    if !end.traces.is_empty() || !end.remembered.is_empty() {
        return Err(format!("something is left: {end:?}").into());
    }
    let least =
        usize::try_from(before.min(after))? - usize::from(scenario == Scenario::EvictionMove);
    let fewest = stage.lives.fewest().get(NAME).copied().unwrap_or(0);
    if fewest < least {
        return Err(format!("{fewest} ready endpoints, at least {least} were to stay").into());
    }
    let counts = stage.lives.counts(NAME).ok_or("no count was seen")?;
    if counts.least < usize::try_from(before.min(after))? {
        return Err(format!("the count fell below both: {counts:?}").into());
    }
    let alive = stage.lives.alive(NAME).ok_or("no replica was seen")?;
    if !stage.lives.is_whole() {
        return Err("a watch of the test broke off".into());
    }
    let story = format!("{}; {}", list(&faults.writes()), stage.lives.story());
    stage.clear().await?;
    let most = (alive.most, counts.most);
    Ok(Seen {
        writes: faults.writes(),
        fired: faults.fired()?,
        end,
        most,
        took: began.elapsed(),
        story,
    })
}

/// One process after the other, until everything is over.
async fn play(
    stage: &Stage,
    faults: &Faults,
    case: Option<&Case>,
    last: &mut String,
) -> TestResult {
    let (mut client, mut ahead) = (faults.client(), Span::ZERO);
    loop {
        let driver = stage.start(client, ahead, WRITE).await?;
        let killed = tokio::select! {
            result = turn(stage, &driver, faults, last) => { result?; false }
            () = faults.died() => true,
        };
        if !killed {
            return Ok(());
        }
        drop(driver);
        client = stage.user.clone();
        ahead = case.map_or(Span::ZERO, |case| case.away.span());
    }
}

/// Turns until everything is over, and once more: nothing is done then.
async fn turn(stage: &Stage, driver: &Driver, faults: &Faults, last: &mut String) -> TestResult {
    let mut stands = 0;
    driver
        .turn(LIMIT, |outcome| {
            *last = picture(outcome);
            let workload = outcome.snapshot.as_ref().and_then(seen);
            let ends = |one| stage.scenario.is_over(one, &stage.victims, stage.surged());
            let over = at_rest(outcome) && !faults.is_awaited() && workload.is_some_and(ends);
            stands = if over && outcome.outcomes.is_empty() { stands + 1 } else { 0 };
            // Twice, so that what is on its way would be seen.
            Ok(stands >= 2)
        })
        .await
}

/// Nothing is under way and nothing is intended.
fn at_rest(outcome: &CycleOutcome) -> bool {
    outcome.errors.is_empty()
        && outcome.memory.as_ref().is_some_and(|memory| {
            memory.workloads.values().all(|one| one.in_flight.is_none() && one.intents.is_empty())
        })
}

fn list(writes: &[Which]) -> String {
    let writes: Vec<String> = writes.iter().map(|one| format!("[{one}]")).collect();
    writes.join(" ")
}

/// What helps to see why a case does not end.
fn picture(outcome: &CycleOutcome) -> String {
    let pods: Vec<_> = outcome
        .snapshot
        .iter()
        .filter_map(seen)
        .flat_map(|one| &one.pods)
        .map(|pod| (pod.name.name(), pod.phase, &pod.traces))
        .collect();
    format!("{} {pods:?}", sketch(outcome))
}
