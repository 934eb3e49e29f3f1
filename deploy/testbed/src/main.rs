//! The test bed for people: a cluster with the boutique to point `kubectl` at.

mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stornx_testbed::Programs;

/// A real Kubernetes control plane and Prometheus; containers and packets are simulated.
#[derive(Debug, Parser)]
#[command(name = "stornx-testbed")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Builds the programs (minutes, once) and nothing else.
    Build,
    /// Starts a cluster with the boutique and ends it on Ctrl-C.
    Up(up::Up),
    /// The inside of `up`.
    #[command(hide = true)]
    Inside(up::Inside),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Build => Programs::ensure().map(drop).map_err(anyhow::Error::from),
        Command::Up(arguments) => up::outside(&arguments),
        Command::Inside(arguments) => up::inside(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
