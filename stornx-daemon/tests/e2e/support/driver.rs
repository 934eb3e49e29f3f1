//! The library as other controllers use it: the real adapters and the real engine in this
//! process, with a proposer of its own in the place of the planner's ideas. What is under
//! way is still continued, checked and remembered by the product.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kube::Client;
use stornx_core::{
    check, decide,
    engine::{CycleOutcome, Engine, EngineOptions, Ports},
    ids::Namespace,
    memory::Memory,
    model::{ClusterFacts, Facts, MetricsFacts, Snapshot},
    plan::{Action, Planned},
    policy::Policy,
    ports::{Clock, LeaderGate, MetricsSource},
    report::{ActionReport, Expected, Why},
    units::{Span, Timestamp},
};
use stornx_k8s::{
    Cluster, ClusterOptions, ConfigMapStore, ConnectOptions, Connection, KubeActuator,
    ServingWebhook, StoreOptions, Webhook, WebhookOptions,
};
use tokio::sync::watch;

use super::rights::OWN;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What could begin now, the first of each workload counts: each with its reason. What the
/// checker would not let through is left out.
pub(crate) type Propose =
    Arc<dyn Fn(&Snapshot, &Memory, &Policy) -> Vec<(Action, Why)> + Send + Sync>;

/// A controller in this process.
pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) cluster: Arc<Cluster>,
    idle: Duration,
    _webhook: Option<ServingWebhook>,
    _leading: watch::Sender<bool>,
}

/// How a driver is set up.
pub(crate) struct Setup {
    /// Name of its memory and of the webhook's configuration.
    pub(crate) name: String,
    pub(crate) policy: Policy,
    pub(crate) propose: Propose,
    /// The port of the webhook; `None`: steering is taken for given, and is not.
    pub(crate) webhook: Option<u16>,
    /// The longest wait for the answer to one write.
    pub(crate) write: Duration,
    /// How far its clock is ahead of the wall's.
    pub(crate) ahead: Span,
    /// With these figures the product plans by itself; nothing is proposed then.
    pub(crate) product: Option<Arc<dyn MetricsSource>>,
    /// A cycle begins so long after the one before where nothing changes.
    pub(crate) idle: Duration,
}

impl Setup {
    /// With what most tests want.
    pub(crate) fn new(policy: Policy, propose: Propose) -> Result<Self, Failure> {
        Ok(Self {
            name: OWN.to_owned(),
            policy,
            propose,
            webhook: Some(stornx_testbed::ports::free()?),
            write: Duration::from_secs(5),
            ahead: Span::ZERO,
            product: None,
            idle: Duration::from_secs(1),
        })
    }
}

/// A policy under which everything may happen at once and at any time.
pub(crate) fn busy(namespaces: &[&str]) -> Result<Policy, Failure> {
    let mut policy = Policy::default();
    for namespace in namespaces {
        policy.namespaces.insert(Namespace::new(namespace)?);
    }
    policy.scaler.cooldown = Span::ZERO;
    policy.scaler.max_actions = 100;
    let moves = &mut policy.moves;
    (moves.max_per_cycle, moves.max_in_flight) = (100, 100);
    (moves.max_per_zone, moves.max_per_node) = (100, 100);
    moves.timeout = Span::from_seconds(30);
    moves.backoff = Span::ZERO;
    policy.balancer.warmup = Span::ZERO;
    Ok(policy)
}

impl Driver {
    /// Connects over `client` and waits until everything is seen.
    pub(crate) async fn start(client: Client, setup: Setup) -> Result<Self, Failure> {
        let connection = Connection::over(client, &ConnectOptions::default()).await?;
        let cluster = Arc::new(Cluster::start(
            &connection,
            ClusterOptions {
                namespaces: setup.policy.namespaces.clone(),
                stale_after: Duration::from_secs(20),
                ..ClusterOptions::default()
            },
        ));
        let leads = Arc::new(AlwaysLeads);
        let (leading, led) = watch::channel(true);
        let mut store = ConfigMapStore::new(
            &connection,
            StoreOptions {
                namespace: Namespace::new(OWN)?,
                name: setup.name.clone(),
                timeout: setup.write,
            },
        );
        let mut serving = None;
        match setup.webhook {
            Some(port) => {
                let webhook = Webhook::new(&cluster, options(&setup, port)?);
                store = store.telling(webhook.clone());
                serving = Some(webhook.start(&connection, leads.clone(), led));
            }
            None => cluster.assume_steering(),
        }
        let ports = Ports {
            cluster: cluster.clone(),
            metrics: setup.product.clone().unwrap_or_else(|| Arc::new(NoMetrics)),
            actuator: Arc::new(KubeActuator::new(&connection, setup.write)),
            store: Arc::new(store),
            leader: leads,
            clock: Arc::new(WallClock(setup.ahead)),
        };
        let propose = setup.propose;
        let mut engine = Engine::new(ports, setup.policy, EngineOptions::default());
        if setup.product.is_none() {
            engine = engine.with_planner(Arc::new(move |snapshot, policy, memory, now| {
                plan(snapshot, policy, memory, now, &propose)
            }));
        }
        cluster.wait_synced(Duration::from_secs(60)).await?;
        Ok(Self { engine, cluster, idle: setup.idle, _webhook: serving, _leading: leading })
    }

    /// Turns until `done` says so of an outcome, at most `limit`.
    pub(crate) async fn turn(
        &self,
        limit: Duration,
        mut done: impl FnMut(&CycleOutcome) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        /// At least so long between two cycles; changes are waited for.
        const PAUSE: Duration = Duration::from_millis(100);
        let deadline = tokio::time::Instant::now() + limit;
        let mut changes = self.cluster.changes();
        loop {
            changes.mark_unchanged();
            let outcome = self.engine.cycle().await;
            if done(&outcome)? {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("not done within {limit:?}: {}", sketch(&outcome)).into());
            }
            let _ = tokio::time::timeout(self.idle, changes.changed()).await;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// What an outcome says that helps to see why nothing goes on.
pub(crate) fn sketch(outcome: &CycleOutcome) -> String {
    let actions: Vec<String> = outcome
        .planned
        .iter()
        .flat_map(|planned| &planned.plan.actions)
        .zip(&outcome.outcomes)
        .map(|(action, result)| format!("{action}: {result:?}"))
        .collect();
    let flying: BTreeMap<_, _> = outcome
        .memory
        .iter()
        .flat_map(|memory| &memory.workloads)
        .filter(|(_, one)| one.in_flight.is_some() || !one.intents.is_empty())
        .collect();
    format!("{actions:?} {:?} {:?} {flying:?}", outcome.errors, outcome.violations)
}

fn options(setup: &Setup, port: u16) -> Result<WebhookOptions, Failure> {
    Ok(WebhookOptions {
        namespaces: setup.policy.namespaces.clone(),
        namespace: Namespace::new(OWN)?,
        name: setup.name.clone(),
        port,
        url: Some(format!("https://127.0.0.1:{port}")),
        address: None,
        files: None,
        timeout: setup.write,
        count: Arc::new(|_, _| {}),
    })
}

/// The product's plan for what is under way, and what is proposed besides.
fn plan(
    snapshot: &Snapshot,
    policy: &Policy,
    memory: &Memory,
    now: Timestamp,
    propose: &Propose,
) -> Planned {
    let mut own = policy.clone();
    (own.scaler.enabled, own.moves.enabled, own.balancer.enabled) = (false, false, false);
    let mut planned = decide::plan(snapshot, &own, memory, now);
    for (action, why) in propose(snapshot, memory, policy) {
        let taken = planned.plan.actions.iter().any(|one| one.workload() == action.workload());
        if taken {
            continue;
        }
        planned.plan.actions.push(action);
        planned.report.actions.push(ActionReport { expected: Expected::default(), why });
        if !check::check(snapshot, policy, memory, &planned).is_empty() {
            planned.plan.actions.pop();
            planned.report.actions.pop();
        }
    }
    planned
}

/// Nothing is measured: places and counts are all that is known.
struct NoMetrics;

#[async_trait]
impl MetricsSource for NoMetrics {
    async fn observe(&self, _: &ClusterFacts, _: Timestamp) -> MetricsFacts {
        let reason = || "nothing is measured in this test".to_owned();
        MetricsFacts {
            usage: Facts::Missing { reason: reason() },
            traffic: Facts::Missing { reason: reason() },
            latency: Facts::Missing { reason: reason() },
            warnings: Vec::new(),
        }
    }
}

struct AlwaysLeads;

#[async_trait]
impl LeaderGate for AlwaysLeads {
    async fn may_write(&self) -> bool {
        true
    }
}

struct WallClock(Span);

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        let wall = Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        wall.after(self.0)
    }
}

/// A generator of choices: the same seed makes the same ones.
pub(crate) struct Dice(Mutex<u64>);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }

    /// A number below `count` (`SplitMix64`, Steele and others 2014).
    pub(crate) fn below(&self, count: usize) -> usize {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(count.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}
