//! `stornx run`: the controller.

use std::path::Path;

use anyhow::bail;

use crate::{
    config::{self, Environment},
    run,
};

/// Runs until a stop is asked for.
pub(crate) fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    let settings = &effective.settings;
    let outside = settings.environment == Environment::Development && !settings.engine.dry_run;
    if outside && settings.kubernetes.own_namespace.given().is_none() {
        bail!(
            "OWN_NAMESPACE is not set: outside a cluster it must say where the lease and the memory \
             lie (those of the StornX in the cluster, if there is one: two leases are two writers); \
             with DRY_RUN=true nothing is written and none is needed"
        );
    }
    super::runtime()?.block_on(run::run(effective, file.map(Path::to_path_buf)))
}
