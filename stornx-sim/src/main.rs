//! The command line of the laboratory. Standard output carries the result and nothing
//! else; progress and errors go to standard error. Exit codes: 0 done, 1 failed, 2 the
//! command or its input is not what it should be.

mod commands;

use std::process::ExitCode;

use clap::Parser;

use crate::commands::{Arguments, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Input(error)) => {
            eprintln!("stornx-sim: {error:#}");
            ExitCode::from(2)
        }
        Err(Failure::Work(error)) => {
            eprintln!("stornx-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}
