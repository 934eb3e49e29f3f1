//! Where the test bed keeps its files: under `target/testbed/` of the build that it
//! belongs to, so that `cargo clean` takes everything away and nothing is written into
//! the sources. `bin/` holds programs, `run/` one folder for each running cluster.

use std::path::{Path, PathBuf};

use crate::error::{Result, Tried};

/// The folder of the build: `CARGO_TARGET_DIR` when it is absolute, else the folder
/// that Cargo marked above this program, else `target` of the workspace.
pub(crate) fn target() -> PathBuf {
    let named = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    if let Some(named) = named.filter(|path| path.is_absolute()) {
        return named;
    }
    let program = std::env::current_exe().unwrap_or_default();
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map_or_else(|| sources().join("../../target"), Path::to_path_buf)
}

/// Everything of the test bed.
#[must_use]
pub fn testbed() -> PathBuf {
    target().join("testbed")
}

/// The sources of this crate, where the Go modules lie.
pub(crate) fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A new folder of its own for one run. Names are short: the path of a Unix socket
/// ends at about 100 bytes.
pub(crate) fn new_run() -> Result<PathBuf> {
    let all = testbed().join("run");
    create(&all)?;
    let folder = tempfile::Builder::new()
        .prefix("")
        .disable_cleanup(true)
        .tempdir_in(&all)
        .tried(|| format!("create a folder in {}", all.display()))?;
    Ok(folder.path().to_path_buf())
}

/// Creates a folder and those above it.
pub(crate) fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).tried(|| format!("create {}", folder.display()))
}

/// Writes a file whole.
pub(crate) fn write(path: &Path, text: impl AsRef<[u8]>) -> Result<()> {
    std::fs::write(path, text).tried(|| format!("write {}", path.display()))
}

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).tried(|| format!("read {}", path.display()))
}
