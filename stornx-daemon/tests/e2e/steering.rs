//! Steering on the real control plane: replicas that StornX asks for come up on the nodes
//! that were chosen for them, by the default scheduler, while other pods come and go and
//! people scale. None waits longer than the time-out.
//!
//! Long form: `STORNX_E2E_REPLICAS=1000`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kube::Client;
use stornx_core::{
    ids::NodeName,
    memory::Memory,
    model::{Node, Snapshot},
    plan::Action,
    policy::Policy,
    report::{ScaleWhy, Trigger, Why},
    units::{Bytes, MilliCpu, Resources},
};
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    cluster::NodeSpec,
    harness::Test,
};
use tokio::task::JoinHandle;

use crate::{
    Failure,
    moves::{is_free, wait_steering},
    support::{
        SOON, TestResult,
        driver::{Dice, Driver, Setup, busy},
        hook, long_form,
        pods::Lives,
        rights::{self, OWN},
        seen,
    },
};

/// Managed, and not.
const HERE: &str = "steering";
const ELSEWHERE: &str = "churn";
const WORKLOADS: usize = 10;
/// Replicas of each at the beginning; people scale it back to that when it has grown.
const LEAST: u32 = 2;
const MOST: u32 = 12;

pub(crate) fn tests() -> Vec<Test> {
    let options = Options { nodes: NodeSpec::many(30), large: true, ..Options::default() };
    vec![Test::own("steering", options, steering)]
}

async fn steering(bed: Arc<TestBed>) -> TestResult {
    let wanted = long_form("STORNX_E2E_REPLICAS", 60)?;
    let admin = bed.client("admin").await?;
    for namespace in [HERE, ELSEWHERE] {
        apps::namespace(&admin, namespace).await?;
    }
    rights::grant(&admin, "stornx", &[HERE]).await?;
    hook::install(&admin, OWN).await?;
    let ours: Vec<Workload> =
        (0..WORKLOADS).map(|number| Workload::new(HERE, &format!("w{number}"), LEAST)).collect();
    for workload in &ours {
        workload.create(&admin).await?;
    }
    let lives = Lives::watch(&admin, HERE);
    let _churn = churn(&admin).await?;

    let (asked, dice) = (Arc::new(AtomicUsize::new(0)), Dice::new(11));
    let count = asked.clone();
    let propose = move |snapshot: &Snapshot, memory: &Memory, _: &Policy| {
        let left = wanted.saturating_sub(count.load(Ordering::SeqCst));
        growths(snapshot, memory, &dice, left)
    };
    let mut policy = busy(&[HERE])?;
    // Where replicas go is the dice's choice here, not the policy's.
    (policy.fault_tolerance.max_zones, policy.fault_tolerance.max_skew) = (100, 100);
    let driver =
        Driver::start(bed.client("stornx").await?, Setup::new(policy, Arc::new(propose))?).await?;
    wait_steering(&driver).await?;
    let _people = people(&admin, ours);

    let mut released = 0;
    let limit = Duration::from_secs(120) + Duration::from_secs(1) * u32::try_from(wanted)?;
    driver
        .turn(limit, |outcome| {
            for action in outcome.done() {
                match action {
                    Action::AddReplicas { nodes, .. } => {
                        asked.fetch_add(nodes.len(), Ordering::SeqCst);
                    }
                    Action::Release { pods, .. } => released += pods.len(),
                    _ => {}
                }
            }
            let rest = outcome
                .memory
                .as_ref()
                .is_some_and(|memory| memory.workloads.values().all(|one| one.intents.is_empty()));
            Ok(asked.load(Ordering::SeqCst) >= wanted && rest)
        })
        .await?;
    judge(&lives, asked.load(Ordering::SeqCst), released)
}

/// At least 99 of 100 on their node, and none waited longer than the time-out.
fn judge(lives: &Lives, asked: usize, released: usize) -> TestResult {
    let pods = lives.all();
    let told: Vec<_> = pods.values().filter(|life| life.told.is_some()).collect();
    let placed = told.iter().filter(|life| life.told == life.node).count();
    let elsewhere =
        told.iter().filter(|life| life.node.is_some() && life.told != life.node).count();
    let longest = pods.values().map(|life| life.waited).max().unwrap_or_default();
    println!(
        "steering: {asked} replicas asked for, {} told, {placed} on their node, {elsewhere} on \
         another, {released} released; the longest wait for a node {:.1} s",
        told.len(),
        longest.as_secs_f64()
    );
    if placed * 100 < asked * 99 || elsewhere > 0 {
        return Err(format!("only {placed} of {asked} are on their node").into());
    }
    if longest > Duration::from_secs(30) {
        return Err(format!("a replica waited {longest:?} for a node").into());
    }
    Ok(())
}

/// One to three replicas more for every workload that rests, on nodes with room.
fn growths(
    snapshot: &Snapshot,
    memory: &Memory,
    dice: &Dice,
    mut left: usize,
) -> Vec<(Action, Why)> {
    let mut growths = Vec::new();
    for workload in snapshot.workloads.iter().filter(|one| is_free(one, memory)) {
        let new = (1 + dice.below(3)).min(left);
        if workload.desired >= MOST || new == 0 {
            continue;
        }
        let roomy: Vec<&Node> = snapshot
            .nodes
            .iter()
            .filter(|node| {
                let free = node.allocatable.saturating_sub(node.reserved);
                // The others that are chosen in the same cycle fit beside it.
                workload.requests.times_fit(&free) > 12
            })
            .collect();
        if roomy.is_empty() {
            continue;
        }
        let nodes: Vec<NodeName> =
            (0..new).map(|_| roomy[dice.below(roomy.len())].name.clone()).collect();
        left -= new;
        let to = workload.desired + u32::try_from(new).unwrap_or(0);
        let why = ScaleWhy {
            workload: workload.id.clone(),
            trigger: Trigger::Utilisation,
            from: workload.desired,
            to,
            utilisation: None,
            p95: None,
            placements: Vec::new(),
            victims: Vec::new(),
        };
        let (id, observed) = (workload.id.clone(), workload.desired);
        growths.push((Action::AddReplicas { workload: id, observed, nodes }, Why::Scale(why)));
    }
    growths
}

/// How often one thing fits into another.
trait TimesFit {
    fn times_fit(&self, room: &Resources) -> u64;
}

impl TimesFit for Resources {
    fn times_fit(&self, room: &Resources) -> u64 {
        let cpu = room.cpu.get() / self.cpu.get().max(1);
        cpu.min(room.memory.get() / self.memory.get().max(1))
    }
}

/// Ends a task with the handle.
struct Ends(JoinHandle<()>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Pods of others, of all sizes, that come and go all the time.
async fn churn(admin: &Client) -> Result<Ends, Failure> {
    let sizes = [(50, 32), (100, 64), (200, 128), (400, 256)];
    let mut others = Vec::new();
    for (number, (cpu, memory)) in sizes.into_iter().enumerate() {
        let requests = Resources { cpu: MilliCpu::new(cpu), memory: Bytes::new(memory << 20) };
        let other = Workload::new(ELSEWHERE, &format!("other{number}"), 3).asking(requests);
        other.create(admin).await?;
        others.push(other);
    }
    let (admin, dice) = (admin.clone(), Dice::new(13));
    Ok(Ends(tokio::spawn(async move {
        loop {
            let other = &others[dice.below(others.len())];
            let replicas = u32::try_from(dice.below(20)).unwrap_or(0);
            let _ = apps::scale(&admin, other, replicas).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    })))
}

/// Somebody scales back what has grown.
fn people(admin: &Client, ours: Vec<Workload>) -> Ends {
    let admin = admin.clone();
    Ends(tokio::spawn(async move {
        loop {
            for workload in &ours {
                let now = seen::replicas(&admin, HERE, &workload.name).await.unwrap_or(0);
                let whole = u32::try_from(now).unwrap_or(0) >= MOST;
                let count = usize::try_from(now).unwrap_or(0);
                if whole && apps::wait_ready(&admin, workload, count, SOON).await.is_ok() {
                    let _ = apps::scale(&admin, workload, LEAST).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }))
}
