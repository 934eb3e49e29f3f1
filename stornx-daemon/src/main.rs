//! The binary `stornx`: reads the command line, does one command, and says on standard
//! error what went wrong. Standard output carries the result of the command and
//! nothing else.

mod commands;
mod config;
mod run;
mod show;
mod web;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// StornX moves a Kubernetes cluster with a service mesh, a little each cycle, towards
/// short ways for requests, no overloaded replica, and a survivable loss of a zone.
#[derive(Debug, Parser)]
#[command(name = "stornx", version, max_term_width = 100)]
struct Arguments {
    /// Settings file (YAML); the environment wins over it
    #[arg(long, global = true, env = "STORNX_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an application in a simulated cluster without and with StornX, and compare (the default)
    Demo(commands::demo::Arguments),
    /// Run the controller: in a cluster by service account (ENV=production), outside by kubeconfig (ENV=development)
    Run,
    /// Decide once and write nothing: what StornX would do, why, and what it expects
    Plan(commands::plan::Arguments),
    /// Every decision about one workload, with the numbers
    Explain(commands::explain::Arguments),
    /// Record snapshots of the live cluster, for `plan --snapshot` and `explain --snapshot`
    Record(commands::record::Arguments),
    /// Take back everything that StornX left in the cluster; for when none runs any more
    Cleanup(commands::cleanup::Arguments),
    /// The settings in force: value, source, meaning
    Config(commands::config::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = arguments.config.as_deref();
    let done = match &arguments.command {
        None => commands::demo::run_demo(&commands::demo::Arguments::default()),
        Some(Command::Demo(demo)) => commands::demo::run_demo(demo),
        Some(Command::Run) => commands::run::run(file),
        Some(Command::Record(record)) => commands::record::run(record, file),
        Some(Command::Plan(plan)) => commands::plan::run(plan, file),
        Some(Command::Explain(explain)) => commands::explain::run(explain, file),
        Some(Command::Cleanup(cleanup)) => commands::cleanup::run(cleanup, file),
        Some(Command::Config(config)) => commands::config::run(config, file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stornx: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the reader of our output went away (`stornx plan ... | head`): no failure.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
