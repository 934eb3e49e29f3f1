//! `stornx plan`: one dry run, on the live cluster or on a recorded snapshot.

use std::path::{Path, PathBuf};

use crate::{config, show};

use super::Format;

/// Command line of `stornx plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A recorded snapshot (YAML or JSON) instead of the live cluster
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the plan and its report.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    let (_, planned) = super::decided(arguments.snapshot.as_deref(), &effective)?;
    let text = match arguments.output {
        Format::Table => show::plan(&planned),
        Format::Json => serde_json::to_string_pretty(&planned)? + "\n",
        Format::Yaml => serde_saphyr::to_string(&planned)?,
    };
    super::print(&text)
}
