//! The live cluster for the commands that only look: one cycle as a dry run.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use stornx_core::{
    engine::{CycleOutcome, Engine, EngineOptions},
    model::Snapshot,
    plan::Planned,
};

use crate::{
    config::Settings,
    run::world::{NeverWrites, World},
};

/// How long the watches may take to see everything.
const SYNC: Duration = Duration::from_secs(60);

/// A cluster to look at.
pub(crate) struct Live {
    // Its watches feed the engine.
    _world: World,
    engine: Engine,
}

impl Live {
    /// Connects and waits until everything is seen.
    pub(crate) async fn open(settings: &Settings) -> anyhow::Result<Self> {
        let world = World::start(settings, None).await?;
        world.cluster.wait_synced(SYNC).await?;
        let options = EngineOptions { dry_run: true, ..settings.engine };
        let engine = world.engine(settings, Arc::new(NeverWrites), options);
        Ok(Self { _world: world, engine })
    }

    /// What is seen now, and what would be decided on it.
    pub(crate) async fn look(&self) -> anyhow::Result<(Snapshot, Planned)> {
        let CycleOutcome { snapshot, planned, errors, .. } = self.engine.cycle().await;
        match (snapshot, planned) {
            (Some(snapshot), Some(planned)) => Ok((snapshot, planned)),
            _ => match errors.into_iter().next() {
                Some(error) => Err(error).context("the cluster cannot be looked at"),
                None => bail!("nothing was seen"),
            },
        }
    }
}

/// Looks once at the live cluster.
pub(crate) fn look_once(settings: &Settings) -> anyhow::Result<(Snapshot, Planned)> {
    super::runtime()?.block_on(async { Live::open(settings).await?.look().await })
}
