//! `stornx plan`: one dry run on a recorded snapshot.

use std::path::{Path, PathBuf};

use crate::{config, show};

use super::Format;

/// Command line of `stornx plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The recorded snapshot (YAML or JSON)
    #[arg(long, value_name = "FILE")]
    snapshot: PathBuf,
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Prints the plan and its report.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let effective = config::load_from_process(file)?;
    let snapshot = super::snapshot(&arguments.snapshot)?;
    let planned = super::decide(&snapshot, &effective);
    let text = match arguments.output {
        Format::Table => show::plan(&planned),
        Format::Json => serde_json::to_string_pretty(&planned)? + "\n",
        Format::Yaml => serde_saphyr::to_string(&planned)?,
    };
    super::print(&text)
}
