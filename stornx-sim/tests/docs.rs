//! Every command of the documentation that is this crate's runs.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../stornx-daemon/tests/documentation/mod.rs"]
mod documentation;

#[test]
fn every_command_of_the_documentation_runs() {
    documentation::run_all("stornx-sim", env!("CARGO_BIN_EXE_stornx-sim"));
}
