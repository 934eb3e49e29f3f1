//! A crash at every write, and every write gone wrong: whatever happens to one of them, the
//! cluster ends as if nothing had happened, and nothing of StornX is left on it.
//!
//! The table of writes and faults is made from an undisturbed run of each scenario, and
//! every case is compared with that run (the method of Sieve: Sun and others, OSDI 2022).
//!
//! Long form, all of the table: `STORNX_E2E_CRASHES=all`.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, stream};
use kube::Client;
use stornx_core::{
    engine::CycleOutcome,
    ids::NodeName,
    memory::Memory,
    model::{Snapshot, Workload as Seen},
    plan::{Action, MoveWay},
    policy::{AutoscaledMoves, Policy},
    report::{MoveWhy, ScaleWhy, Trigger, Why},
    units::{Bytes, MilliCpu, Resources, Span},
};
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
};

use crate::{
    Failure,
    moves::{is_free, wait_steering},
    support::{
        SOON, TestResult,
        driver::{Driver, Setup, busy, sketch},
        faults::{Fault, Faults},
        hook,
        pods::Lives,
        rights::OWN,
        seen,
    },
};

/// Cases that run side by side, each in a namespace of its own.
const AT_ONCE: usize = 6;
/// One case: a move that was never begun is given up after 90 s.
const LIMIT: Duration = Duration::from_secs(240);
/// How long a daemon is away after a crash, by its own clock: long enough that nothing of
/// its last reign is still awaited.
const AWAY: Span = Span::from_seconds(100);

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("crash_at_every_write", Options::default(), crashes)]
}

/// What is done in a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Scenario {
    Move,
    UndoneMove,
    EvictionMove,
    Grow,
    Shrink,
}

impl Scenario {
    const ALL: [Self; 5] =
        [Self::Move, Self::UndoneMove, Self::EvictionMove, Self::Grow, Self::Shrink];

    /// Replicas before and after.
    const fn replicas(self) -> (u32, u32) {
        match self {
            Self::Move | Self::UndoneMove | Self::EvictionMove => (3, 3),
            Self::Grow => (2, 4),
            Self::Shrink => (4, 3),
        }
    }

    fn policy(self, namespace: &str) -> Result<Policy, Failure> {
        let mut policy = busy(&[namespace])?;
        if self == Self::EvictionMove {
            policy.moves.autoscaled = AutoscaledMoves::Evict;
        }
        Ok(policy)
    }

    /// What would be begun now, as long as `victim` (or the count) is as at the beginning.
    fn propose(self, workload: &Seen, to: NodeName, victim: &str) -> Option<(Action, Why)> {
        let (id, observed) = (workload.id.clone(), workload.desired);
        let pod = workload.pods.iter().find(|pod| pod.name.name() == victim);
        let scaled = |to, victims| {
            Why::Scale(ScaleWhy {
                workload: workload.id.clone(),
                trigger: Trigger::Idle,
                from: observed,
                to,
                utilisation: None,
                p95: None,
                placements: Vec::new(),
                victims,
            })
        };
        match self {
            Self::Move | Self::UndoneMove | Self::EvictionMove => {
                let (victim, from) = (pod?.name.clone(), pod?.node.clone()?);
                let why = MoveWhy::Undo {
                    workload: id.clone(),
                    victim: victim.clone(),
                    from: from.clone(),
                    to: to.clone(),
                };
                let way = if self == Self::EvictionMove { MoveWay::Evict } else { MoveWay::Surge };
                let action = Action::StartMove { workload: id, observed, way, victim, from, to };
                Some((action, Why::Move(why)))
            }
            Self::Grow if observed == 2 => {
                let action =
                    Action::AddReplicas { workload: id, observed, nodes: vec![to.clone(), to] };
                Some((action, scaled(4, Vec::new())))
            }
            Self::Shrink if observed == 4 => {
                let victims = vec![pod?.name.clone()];
                let why = scaled(3, victims.clone());
                Some((Action::RemoveReplicas { workload: id, observed, victims }, why))
            }
            Self::Grow | Self::Shrink => None,
        }
    }

    /// Whether everything is as the undisturbed run leaves it.
    fn is_over(self, workload: &Seen, victim: &str) -> bool {
        let victim_stands = workload.active().any(|pod| pod.name.name() == victim);
        let ends = usize::try_from(self.replicas().1).unwrap_or(0);
        let whole = workload.pods.len() == ends && workload.ready().count() == ends;
        let unmarked = workload.pods.iter().all(|pod| !pod.traces.victim);
        let gone = match self {
            Self::Move | Self::EvictionMove | Self::Shrink => !victim_stands,
            Self::UndoneMove => workload.policy.no_moves && victim_stands,
            Self::Grow => victim_stands,
        };
        whole && unmarked && gone
    }
}

/// One row of the table.
#[derive(Debug, Clone)]
struct Case {
    scenario: Scenario,
    fault: Option<(usize, Fault)>,
}

async fn crashes(bed: Arc<TestBed>) -> TestResult {
    let all = std::env::var("STORNX_E2E_CRASHES").is_ok_and(|value| value == "all");
    let admin = bed.client("admin").await?;
    let mut number = 0;
    let mut writes = BTreeMap::new();
    for scenario in Scenario::ALL {
        number += 1;
        let case = Case { scenario, fault: None };
        let (found, took) = run(&admin, number, &case).await?;
        println!("crash: {scenario:?} undisturbed, {:.0} s: {found:?}", took.as_secs_f64());
        writes.insert(scenario, found);
    }
    let table: Vec<Case> = table(&writes).filter(|case| all || in_short_form(case)).collect();
    let cases = table.into_iter().enumerate().map(|(at, case)| {
        let (admin, number) = (admin.clone(), number + 1 + at);
        async move {
            let result = run(&admin, number, &case).await;
            (case, result)
        }
    });
    let results: Vec<_> = stream::iter(cases).buffer_unordered(AT_ONCE).collect().await;
    let mut failed = Vec::new();
    let mut rows: Vec<String> = Vec::new();
    for (Case { scenario, fault }, result) in &results {
        let Some((at, fault)) = fault else { continue };
        let name = &writes[scenario][at - 1];
        let row = format!("{scenario:?} write {at} ({name}) {fault:?}");
        match result {
            Ok((_, took)) => {
                rows.push(format!("{row}: as undisturbed, {:.0} s", took.as_secs_f64()))
            }
            Err(error) => failed.push(format!("{row}: {error}")),
        }
    }
    rows.sort();
    for row in &rows {
        println!("crash: {row}");
    }
    println!("crash: {} of {} cases end as the undisturbed run", rows.len(), results.len());
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n").into()) }
}

/// Every write of every scenario with every fault.
fn table(writes: &BTreeMap<Scenario, Vec<String>>) -> impl Iterator<Item = Case> {
    writes.iter().flat_map(|(scenario, writes)| {
        (1..=writes.len()).flat_map(move |at| {
            Fault::ALL.map(|fault| Case { scenario: *scenario, fault: Some((at, fault)) })
        })
    })
}

/// A crash before and after each write of a move; elsewhere, and for other faults, one.
fn in_short_form(case: &Case) -> bool {
    matches!(
        (case.scenario, case.fault),
        (Scenario::Move, Some((_, Fault::KillBefore | Fault::KillAfter)))
            | (Scenario::Move, Some((1, Fault::Fail | Fault::Conflict)))
            | (Scenario::Grow, Some((2, Fault::KillAfter | Fault::Duplicate)))
            | (Scenario::Shrink, Some((2 | 3, Fault::KillAfter | Fault::Delay)))
            | (Scenario::EvictionMove, Some((2, Fault::KillAfter)))
            | (Scenario::UndoneMove, Some((4, Fault::KillAfter)))
    )
}

/// Runs one case to its end and gives the writes that were seen.
async fn run(
    admin: &Client,
    number: usize,
    case: &Case,
) -> Result<(Vec<String>, Duration), Failure> {
    let began = Instant::now();
    let namespace = format!("crash-{number}");
    let scenario = case.scenario;
    apps::namespace(admin, &namespace).await?;
    apps::namespace(admin, OWN).await?;
    hook::install(admin, &namespace).await?;
    // One zone: where in it the replicas are does not matter here.
    let (before, after) = scenario.replicas();
    // Dozens of them share its nodes.
    let small = Resources { cpu: MilliCpu::new(5), memory: Bytes::new(1 << 20) };
    let workload = Workload::new(&namespace, "w", before).in_zone(ZONE).asking(small);
    workload.create(admin).await?;
    apps::wait_ready(admin, &workload, usize::try_from(before)?, SOON).await?;
    if scenario == Scenario::EvictionMove {
        apps::create(admin, &apps::horizontal_autoscaler(&workload, before, before, 80)?).await?;
    }
    let pods = apps::ready_pods(admin, &namespace, &workload.selector()).await?;
    let victim = pods.iter().filter_map(|pod| pod.metadata.name.clone()).min();
    let victim = victim.ok_or("a replica")?;
    let lives = Lives::watch(admin, &namespace);
    while lives.endpoints().get("w").copied() != usize::try_from(before).ok() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if began.elapsed() > SOON {
            return Err("the endpoints never came".into());
        }
    }
    lives.count_fewest();

    let faults = Faults::new(admin.clone(), case.fault);
    let mut last = String::new();
    let mut client = faults.client();
    let mut ahead = Span::ZERO;
    loop {
        let driver = start(client, scenario, &namespace, &victim, ahead).await?;
        let (mut killed, mut stands) = (false, 0);
        {
            let turned =
                turn(admin, &driver, scenario, &namespace, &victim, &mut last, &mut stands);
            tokio::select! {
                result = turned => result.map_err(|error| format!("{error}; {last}"))?,
                () = faults.died() => killed = true,
            }
        }
        if !killed {
            break;
        }
        drop(driver);
        client = admin.clone();
        ahead = AWAY;
    }

    let count = u32::try_from(seen::replicas(admin, &namespace, "w").await?)?;
    if count != after {
        return Err(format!("{count} replicas, not {after}").into());
    }
    let least =
        usize::try_from(before.min(after))? - usize::from(scenario == Scenario::EvictionMove);
    let fewest = lives.fewest().get("w").copied().unwrap_or(0);
    if fewest < least {
        return Err(format!("{fewest} ready endpoints, at least {least} were to stay").into());
    }
    // Gone, so that those who come after have room; whoever looks at a failure finds it there.
    apps::scale(admin, &workload, 0).await?;
    Ok((faults.writes(), began.elapsed()))
}

/// The zone of all replicas.
const ZONE: &str = "zone-a";

async fn start(
    client: Client,
    scenario: Scenario,
    namespace: &str,
    victim: &str,
    ahead: Span,
) -> Result<Driver, Failure> {
    let victim = victim.to_owned();
    let propose = move |snapshot: &Snapshot, memory: &Memory, _: &Policy| {
        let mut nodes = snapshot.nodes.iter().filter(|node| node.zone.as_str() == ZONE);
        let workload = snapshot.workloads.iter().find(|one| one.managed);
        let Some(workload) = workload.filter(|one| is_free(one, memory)) else {
            return Vec::new();
        };
        let from = workload.pods.iter().find(|pod| pod.name.name() == victim);
        let from = from.and_then(|pod| pod.node.clone());
        let to = nodes.find(|node| Some(&node.name) != from.as_ref()).map(|node| node.name.clone());
        to.and_then(|to| scenario.propose(workload, to, &victim)).into_iter().collect()
    };
    let driver = Driver::start(
        client,
        Setup {
            name: namespace.to_owned(),
            policy: scenario.policy(namespace)?,
            propose: Arc::new(propose),
            webhook: Some(stornx_testbed::ports::free()?),
            write: Duration::from_secs(2),
            ahead,
        },
    )
    .await?;
    wait_steering(&driver).await?;
    Ok(driver)
}

/// Turns until everything is over, and once more: nothing is done then.
async fn turn(
    admin: &Client,
    driver: &Driver,
    scenario: Scenario,
    namespace: &str,
    victim: &str,
    last: &mut String,
    stands: &mut u32,
) -> TestResult {
    let mut annotated = false;
    let (wants_off, off) = (scenario == Scenario::UndoneMove, tokio::sync::Notify::new());
    let turned = driver.turn(LIMIT, |outcome: &CycleOutcome| {
        let pods = outcome.snapshot.iter().flat_map(|snapshot| &snapshot.workloads);
        let pods: Vec<_> = pods
            .filter(|one| one.managed)
            .flat_map(|one| &one.pods)
            .map(|pod| (pod.name.name(), pod.phase, &pod.traces))
            .collect();
        *last = format!("{} {pods:?}", sketch(outcome));
        let surged = outcome.done().any(|action| matches!(action, Action::StartMove { .. }));
        if wants_off && surged && !annotated {
            annotated = true;
            off.notify_one();
        }
        let workload = outcome
            .snapshot
            .iter()
            .flat_map(|snapshot| &snapshot.workloads)
            .find(|one| one.managed);
        let rest = outcome.memory.as_ref().is_some_and(|memory| {
            memory.workloads.values().all(|one| one.in_flight.is_none() && one.intents.is_empty())
        });
        let over = rest && workload.is_some_and(|one| scenario.is_over(one, victim));
        *stands = if over && outcome.outcomes.is_empty() { *stands + 1 } else { 0 };
        // Twice, so that what is on its way would be seen.
        Ok(*stands >= 2)
    });
    let meddle = async {
        if wants_off {
            // After a crash the annotation may be all that is left to do.
            tokio::select! {
                () = off.notified() => {}
                () = tokio::time::sleep(Duration::from_secs(20)) => {}
            }
            seen::annotate(admin, namespace, "w", "stornx.io/moves", Some("off")).await?;
        }
        std::future::pending::<TestResult>().await
    };
    tokio::select! {
        result = turned => result,
        result = meddle => result,
    }
}
