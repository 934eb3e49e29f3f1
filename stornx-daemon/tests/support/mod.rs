//! Runs the built binary the way a user does: from the root of the repository, with
//! none of its settings in the environment.

// Each test binary uses its own part of this module.
#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of the repository as text.
pub(crate) fn file(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A command with a clean environment, in the root of the repository.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(root());
    command
}

/// The binary under test with `arguments`.
pub(crate) fn stornx(arguments: &[&str]) -> Command {
    let mut command = command(&PathBuf::from(env!("CARGO_BIN_EXE_stornx")));
    command.args(arguments);
    command
}

/// What a command printed, which must have succeeded, with nothing on standard error.
pub(crate) fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    assert_eq!(errors, "", "{command:?}");
    text(&output.stdout)
}

/// What a command said on standard error, which must have failed with `code` and
/// nothing on standard output.
pub(crate) fn refused(command: &mut Command, code: i32) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert_eq!(status.code(), Some(code), "{command:?}: {}", text(&stderr));
    assert_eq!(text(&stdout), "", "{command:?}");
    text(&stderr)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
