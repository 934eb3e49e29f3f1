//! Moves on the real control plane, told where to go by the real webhook: while replicas of
//! the boutique move under traffic, no service ever has fewer ready endpoints than before,
//! exactly the victims go, counts are as they were, and no request fails.
//!
//! Long form: `STORNX_E2E_MOVES=500`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use stornx_core::{
    ids::{NodeName, WorkloadRef},
    memory::Memory,
    model::{self, Snapshot},
    plan::{Action, MoveEnd, MoveWay},
    policy::Policy,
    report::{MoveWhy, Why},
};
use stornx_testbed::{
    Options, TestBed,
    apps::{Boutique, Workload, boutique_scenario},
    emulate::{Emulation, Settings},
    harness::Test,
    wait::until,
};

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        driver::{Dice, Driver, Setup, busy},
        hook, long_form,
        pods::Lives,
        rights::{self, OWN},
        seen,
    },
};

pub(crate) fn tests() -> Vec<Test> {
    vec![Test::own("moves", Options::default(), moves)]
}

/// Moves begun at one time.
const AT_ONCE: usize = 6;

async fn moves(bed: Arc<TestBed>) -> TestResult {
    let wanted = long_form("STORNX_E2E_MOVES", 30)?;
    let admin = bed.client("admin").await?;
    let boutique = Boutique::new();
    boutique.deploy(&admin).await?;
    boutique.wait_ready(&admin, SOON).await?;
    let here = boutique.namespace.as_str();
    rights::grant(&admin, "stornx", &[here]).await?;
    hook::install(&admin, OWN).await?;
    let emulation = Emulation::start(&admin, Settings::new(boutique_scenario().clone())).await?;
    let lives = Lives::watch(&admin, here);
    until("every service to have its endpoints", SOON, || async {
        let now = lives.endpoints();
        let lacks = |one: &&Workload| {
            one.namespace == here
                && now.get(&one.name).copied() != usize::try_from(one.replicas).ok()
        };
        match boutique.workloads.iter().find(lacks) {
            None => Ok(()),
            Some(one) => Err(format!("{} is not whole: {now:?}", one.name)),
        }
    })
    .await?;

    let (begun, dice) = (Arc::new(Mutex::new(0)), Dice::new(7));
    let count = begun.clone();
    let propose = move |snapshot: &Snapshot, memory: &Memory, _: &Policy| {
        let flying = memory.workloads.values().filter(|one| one.in_flight.is_some()).count();
        let begun = *count.lock().unwrap_or_else(PoisonError::into_inner);
        let free = AT_ONCE.saturating_sub(flying).min(wanted.saturating_sub(begun));
        (0..free).filter_map(|_| some_move(snapshot, memory, &dice)).collect()
    };
    let driver =
        Driver::start(bed.client("stornx").await?, Setup::new(busy(&[here])?, Arc::new(propose))?)
            .await?;
    wait_steering(&driver).await?;

    let before = lives.endpoints();
    let failed_before = emulation.measurements().requests.failed;
    lives.count_fewest();
    let mut told: Told = Told::default();
    let limit = Duration::from_secs(120) + Duration::from_secs(4) * u32::try_from(wanted)?;
    driver
        .turn(limit, |outcome| {
            for action in outcome.done() {
                told.note(action);
            }
            *begun.lock().unwrap_or_else(PoisonError::into_inner) = told.begun.len();
            let memory = outcome.memory.as_ref();
            let flying =
                memory.is_some_and(|m| m.workloads.values().any(|w| w.in_flight.is_some()));
            Ok(told.begun.len() >= wanted && !flying)
        })
        .await?;
    until("the deployments to be as they were", SOON, || async {
        let now = lives.endpoints();
        if now == before { Ok(()) } else { Err(format!("{now:?}, before {before:?}")) }
    })
    .await?;

    let measured = emulation.measurements();
    let failed = measured.requests.failed - failed_before;
    println!(
        "moves: {} begun, {} done, {} given up {:?}; {} requests, {failed} failed",
        told.begun.len(),
        told.done,
        told.given_up.len(),
        told.given_up,
        measured.requests.succeeded
    );
    let fewest = lives.fewest();
    for (service, ready) in &before {
        if fewest.get(service).is_none_or(|fewest| fewest < ready) {
            return Err(format!("{service} had {ready} ready endpoints, then {fewest:?}").into());
        }
    }
    told.judge(&lives)?;
    if failed > 0 {
        return Err(format!("{failed} requests failed").into());
    }
    for workload in boutique.workloads.iter().filter(|one| one.namespace == here) {
        let count = seen::replicas(&admin, here, &workload.name).await?;
        if u32::try_from(count)? != workload.replicas {
            return Err(format!("{} has {count} replicas", workload.name).into());
        }
    }
    Ok(())
}

/// Waits until new replicas are told where to run.
pub(crate) async fn wait_steering(driver: &Driver) -> TestResult {
    until("the webhook to be registered", SOON, || async {
        let steering = driver.cluster.steering();
        if steering.is_given() { Ok(()) } else { Err(format!("{steering:?}")) }
    })
    .await?;
    Ok(())
}

/// What was done, as the engine says.
#[derive(Default)]
struct Told {
    /// Victims, and where their replacement was to go.
    begun: BTreeMap<String, NodeName>,
    /// Victims that were told to go.
    finished: BTreeSet<String>,
    /// Surges that were told to go.
    undone: BTreeSet<String>,
    replacements: BTreeMap<String, String>,
    done: usize,
    given_up: Vec<String>,
}

impl Told {
    fn note(&mut self, action: &Action) {
        match action {
            Action::StartMove { victim, to, .. } => {
                self.begun.insert(victim.name().to_owned(), to.clone());
            }
            Action::FinishMove { victim, replacement, .. } => {
                self.finished.insert(victim.name().to_owned());
                self.replacements.insert(victim.name().to_owned(), replacement.name().to_owned());
            }
            Action::AbortMove { surge, .. } => {
                self.undone.extend(surge.iter().map(|surge| surge.name().to_owned()));
            }
            Action::CloseMove { end: MoveEnd::Done, .. } => self.done += 1,
            Action::CloseMove { end, .. } => self.given_up.push(format!("{end:?}")),
            _ => {}
        }
    }

    /// Exactly those went that were to go, and the others came up where they were to.
    fn judge(&self, lives: &Lives) -> Result<(), Failure> {
        let pods = lives.all();
        let gone: BTreeSet<&String> =
            pods.iter().filter(|(_, life)| life.going).map(|(name, _)| name).collect();
        let meant: BTreeSet<&String> = self.finished.iter().chain(&self.undone).collect();
        if gone != meant {
            return Err(format!("these went: {gone:?}, these were to: {meant:?}").into());
        }
        let misplaced: Vec<_> = self
            .replacements
            .iter()
            .filter(|(victim, replacement)| {
                let node = pods.get(*replacement).and_then(|life| life.node.as_deref());
                node != self.begun.get(*victim).map(NodeName::as_str)
            })
            .collect();
        println!("moves: {} of {} not on their node", misplaced.len(), self.replacements.len());
        // The scheduler may be quicker than the webhook's registration, never in general.
        if misplaced.len() * 100 > self.replacements.len() {
            return Err(format!("not on their node: {misplaced:?}").into());
        }
        Ok(())
    }
}

/// A move that could begin.
fn some_move(snapshot: &Snapshot, memory: &Memory, dice: &Dice) -> Option<(Action, Why)> {
    let free: Vec<&model::Workload> =
        snapshot.workloads.iter().filter(|one| is_free(one, memory)).collect();
    let workload = *free.get(dice.below(free.len()))?;
    let pod = workload.pods.get(dice.below(workload.pods.len()))?;
    let to = snapshot.nodes.get(dice.below(snapshot.nodes.len()))?.name.clone();
    a_move(workload, pod, to, MoveWay::Surge)
}

/// The move of a replica to a node, with a reason; `None` while it is on no node.
pub(crate) fn a_move(
    workload: &model::Workload,
    pod: &model::Pod,
    to: NodeName,
    way: MoveWay,
) -> Option<(Action, Why)> {
    let (id, victim, from) = (workload.id.clone(), pod.name.clone(), pod.node.clone()?);
    let why = MoveWhy::Undo {
        workload: id.clone(),
        victim: victim.clone(),
        from: from.clone(),
        to: to.clone(),
    };
    let observed = workload.desired;
    let action = Action::StartMove { workload: id, observed, way, victim, from, to };
    Some((action, Why::Move(why)))
}

/// The first replica goes to an empty node of its zone: it is spread as before.
pub(crate) fn move_within_zone(
    snapshot: &Snapshot,
    workload: &model::Workload,
    way: MoveWay,
) -> Option<(Action, Why)> {
    let pod = workload.pods.first()?;
    let from = pod.node.as_ref()?;
    let zone = &snapshot.nodes.iter().find(|node| node.name == *from)?.zone;
    let is_empty = |node: &&model::Node| {
        let empty = workload.pods.iter().all(|pod| pod.node.as_ref() != Some(&node.name));
        empty && node.zone == *zone
    };
    a_move(workload, pod, snapshot.nodes.iter().find(is_empty)?.name.clone(), way)
}

/// All its replicas are there and serve, and nothing of it is under way.
pub(crate) fn is_free(workload: &model::Workload, memory: &Memory) -> bool {
    let id: &WorkloadRef = &workload.id;
    let idle = memory
        .workloads
        .get(id)
        .is_none_or(|one| one.in_flight.is_none() && one.intents.is_empty());
    let whole = workload.pods.len() == usize::try_from(workload.desired).unwrap_or(usize::MAX)
        && workload.ready().count() == workload.pods.len();
    workload.managed && idle && whole
}
