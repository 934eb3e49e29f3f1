//! Files that are generated and committed.

use std::path::{Path, PathBuf};

use crate::Failure;

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the repository.
pub(crate) fn file(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(root().join(path)).map_err(|error| format!("{path}: {error}").into())
}

/// Compares a committed file with what generates it; `STORNX_BLESS=1` writes it anew.
pub(crate) fn same(path: &str, generated: &str) -> Result<(), Failure> {
    if std::env::var_os("STORNX_BLESS").is_some() {
        std::fs::write(root().join(path), generated)?;
    }
    if file(path).unwrap_or_default() == generated {
        Ok(())
    } else {
        Err(format!("{path} differs from what generates it; STORNX_BLESS=1 writes it anew").into())
    }
}
