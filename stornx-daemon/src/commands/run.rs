//! `stornx run`: the controller.

use std::path::Path;

use crate::{config, run};

/// Runs until a stop is asked for.
pub(crate) fn run(file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    super::runtime()?.block_on(run::run(effective, file.map(Path::to_path_buf)))
}
