//! `stornx config`: the settings in force, or their reference.

use std::path::Path;

use crate::config;

/// Command line of `stornx config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How to print
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// The formats of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Output {
    /// Variables in force, to be read by a shell
    #[default]
    Env,
    /// A settings file with what is in force
    Yaml,
    /// The reference of all settings with their defaults
    Markdown,
}

/// Prints the settings.
pub(crate) fn run(arguments: &Arguments, file: Option<&Path>) -> anyhow::Result<()> {
    let text = match arguments.output {
        Output::Env => config::as_env(&config::load_from_process(file)?),
        Output::Yaml => config::as_yaml(&config::load_from_process(file)?),
        // About the defaults alone: bad values around us must not hide it.
        Output::Markdown => config::as_markdown(),
    };
    super::print(&text)
}
