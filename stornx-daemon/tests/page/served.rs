//! The page over the simulated cluster and over a recorded snapshot, as users start it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use crate::browser::Failure;

/// A process that serves the page; ended with the handle.
pub(crate) struct Served {
    child: Child,
    pub(crate) url: String,
}

impl Served {
    /// Starts `stornx` with arguments, and waits until it says where the page is.
    pub(crate) fn start(arguments: &[&str]) -> Result<Self, Failure> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_stornx"))
            .env_clear()
            .env("APP_PORT", "0")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let said = child.stderr.take().ok_or("no output")?;
        let mut lines = BufReader::new(said).lines();
        // Ends with the process, if not before.
        let url = lines
            .by_ref()
            .find_map(|line| line.ok()?.strip_prefix("The page is at ").map(ToOwned::to_owned));
        std::thread::spawn(move || lines.for_each(drop));
        match url {
            Some(url) => Ok(Self { child, url }),
            None => {
                let _ = child.kill();
                let _ = child.wait();
                Err(format!("stornx {arguments:?} serves no page").into())
            }
        }
    }

    pub(crate) fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end();
    }
}
