//! `stornx cleanup`: takes back everything that StornX left in the cluster. It is the last
//! one that writes: it holds the lease while it does, finishes or undoes the moves that are
//! under way, and takes the memory and the lease away in the end.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use stornx_core::{
    engine::EngineOptions,
    memory::Memory,
    plan::MoveWay,
    policy::Policy,
    ports::{LeaderGate, PortError, StateStore as _},
    units::Span,
};
use stornx_k8s::{
    CleanOptions, Cleaned, ConfigMapStore, Connection, Lease, StoreOptions, clean, clean_lease,
};
use tokio::time::{self, Instant};

use crate::{
    config::{self, Settings},
    run::world::{self, NeverWrites, World},
};

/// Command line of `stornx cleanup`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// How long the end of the moves under way is waited for, besides `MOVE_TIMEOUT_SECONDS`:
/// a request may still be awaited, and what goes takes a moment.
const MOVES_END: Duration = Duration::from_secs(180);

/// Cleans up.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let settings = config::load_from_process(file)?.settings;
    let dry_run = arguments.dry_run || settings.engine.dry_run;
    super::runtime()?.block_on(async {
        let found = if dry_run { would_be_done(&settings).await? } else { done(&settings).await? };
        if found == 0 {
            super::print("nothing of StornX is in its namespaces\n")?;
        }
        Ok(())
    })
}

/// Says what would be done.
async fn would_be_done(settings: &Settings) -> anyhow::Result<usize> {
    let connection = world::connect(settings).await?;
    let options = options(settings, &connection, true)?;
    let mut told = Told::new("would be done: ");
    let store = StoreOptions {
        namespace: options.namespace.clone(),
        name: options.name.clone(),
        timeout: options.timeout,
    };
    let memory = ConfigMapStore::new(&connection, store).load().await?;
    for workload in under_way(&memory) {
        told.tell(&Cleaned { object: workload, done: "its move finished or undone".to_owned() });
    }
    let found = clean(&connection, &options, &NeverWrites, &mut |one| told.tell(&one)).await;
    found.map_err(not_done)?;
    clean_lease(&connection, &options, &mut |one| told.tell(&one)).await?;
    told.end()
}

/// Does it.
async fn done(settings: &Settings) -> anyhow::Result<usize> {
    let mut settings = settings.clone();
    settings.policy = at_rest(&settings.policy);
    let world = World::start(&settings, None).await?;
    let options = options(&settings, &world.connection, false)?;
    let there = lease_is_there(&world.connection, &options).await;
    let lease = Arc::new(world.lease(&settings));
    lead(&lease, settings.kubernetes.lease, &options).await?;
    let mut told = Told::new("");
    let cleaned = async {
        end_moves(&world, &settings, &lease).await?;
        let mut note = |one| told.tell(&one);
        clean(&world.connection, &options, &*lease, &mut note).await.map_err(not_done)
    };
    let cleaned = cleaned.await;
    // Also after an error: nobody has to wait for it to run out.
    lease.release().await;
    cleaned?;
    let mut note = |one| {
        if there {
            told.tell(&one);
        }
    };
    clean_lease(&world.connection, &options, &mut note).await?;
    told.end()
}

/// Whether there is a lease before this run takes it. One that is its own is nothing to tell.
async fn lease_is_there(connection: &Connection, options: &CleanOptions) -> bool {
    let dry = CleanOptions { dry_run: true, ..options.clone() };
    let mut found = false;
    let looked = clean_lease(connection, &dry, &mut |_| found = true).await;
    found || looked.is_err()
}

/// All that could not be taken back.
fn not_done(errors: Vec<PortError>) -> anyhow::Error {
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("not everything could be taken back: {}", errors.join("; "))
}

fn options(
    settings: &Settings,
    connection: &Connection,
    dry_run: bool,
) -> anyhow::Result<CleanOptions> {
    let (namespace, name) = world::own(settings, connection)?;
    Ok(CleanOptions {
        namespaces: settings.policy.namespaces.clone(),
        namespace,
        name,
        keeps_trust: settings.webhook.cert_file.given().is_some(),
        dry_run,
        timeout: Duration::from_millis(settings.kubernetes.write_timeout.as_millis()),
    })
}

/// The policy under which nothing begins any more.
fn at_rest(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.scaler.enabled = false;
    policy.moves.enabled = false;
    policy.balancer.enabled = false;
    policy
}

/// Waits for the lease: for as long as one that died without giving it back keeps it.
async fn lead(lease: &Lease, duration: Span, own: &CleanOptions) -> anyhow::Result<()> {
    let limit = Duration::from_millis(duration.as_millis()).saturating_mul(2);
    let mut leading = lease.leading();
    if time::timeout(limit, leading.wait_for(|leads| *leads)).await.is_ok_and(|led| led.is_ok()) {
        return Ok(());
    }
    match lease.holder() {
        Some(holder) => bail!(
            "{holder} holds the lease, and would write again: stop StornX first \
             (kubectl --namespace {} scale deployment {} --replicas 0)",
            own.namespace,
            own.name
        ),
        None => bail!("the lease could not be taken within {} s", limit.as_secs()),
    }
}

/// Finishes or undoes what is under way, as a daemon with everything switched off does.
async fn end_moves(world: &World, settings: &Settings, lease: &Arc<Lease>) -> anyhow::Result<()> {
    /// Between two cycles.
    const PAUSE: Duration = Duration::from_secs(1);
    let mut under_way = under_way(&world.memory().await?);
    if under_way.is_empty() {
        return Ok(());
    }
    super::print(&format!("moves under way are ended first: {}\n", under_way.join(", ")))?;
    let limit = Duration::from_millis(settings.policy.moves.timeout.as_millis()) + MOVES_END;
    let deadline = Instant::now() + limit;
    world.cluster.wait_synced(limit).await.context("the cluster is not seen")?;
    let options = EngineOptions { dry_run: false, ..settings.engine };
    let gate: Arc<dyn LeaderGate> = lease.clone();
    let engine = world.engine(settings, gate, options);
    loop {
        let outcome = engine.cycle().await;
        for action in outcome.done() {
            super::print(&format!("{action}: done\n"))?;
        }
        if let Some(memory) = &outcome.memory {
            under_way = self::under_way(memory);
        }
        if under_way.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            let why: Vec<String> = outcome.errors.iter().map(ToString::to_string).collect();
            bail!(
                "not over after {} s, and nothing else was done: {} {}",
                limit.as_secs(),
                under_way.join(", "),
                why.join("; ")
            );
        }
        time::sleep(PAUSE).await;
    }
}

/// Workloads with a move that something in the cluster is left of. One that holds a minimum
/// has that taken back from the autoscaler itself.
fn under_way(memory: &Memory) -> Vec<String> {
    let moves = memory.workloads.iter().filter(|(_, one)| {
        one.in_flight.as_ref().is_some_and(|record| record.way != MoveWay::Hold)
    });
    moves.map(|(workload, _)| workload.to_string()).collect()
}

/// Tells each as it is done: what was done before an error is known.
struct Told {
    before: &'static str,
    count: usize,
    failed: anyhow::Result<()>,
}

impl Told {
    const fn new(before: &'static str) -> Self {
        Self { before, count: 0, failed: Ok(()) }
    }

    fn tell(&mut self, one: &Cleaned) {
        self.count += 1;
        if let Err(error) = super::print(&format!("{}{one}\n", self.before)) {
            self.failed = Err(error);
        }
    }

    fn end(self) -> anyhow::Result<usize> {
        self.failed.map(|()| self.count)
    }
}
