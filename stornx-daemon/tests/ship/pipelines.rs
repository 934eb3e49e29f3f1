//! The workflow files: read by actionlint, and all that they run is `.ci/`, which developers
//! have, too.

use std::path::{Path, PathBuf};

use serde_json::Value;
use stornx_testbed::harness::Test;

use crate::{
    Failure,
    bless::{file, root},
    support::TestResult,
    tools::actionlint,
};

const FOLDER: &str = ".github/workflows";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("workflows_are_read_by_actionlint", || async { lint() }),
        Test::plain("workflows_call_the_recipes_of_ci", || async { recipes() }),
        Test::plain("release_knows_version_and_changelog", || async { release() }),
    ]
}

fn workflows() -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(FOLDER))? {
        files.push(entry?.path());
    }
    files.sort();
    if files.is_empty() { Err("no workflows".into()) } else { Ok(files) }
}

fn lint() -> TestResult {
    actionlint(&workflows()?)?;
    // It does find what is wrong.
    let wrong = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wrong.yaml");
    let text = "on: push\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - run: ${{ nothing.here }}\n";
    std::fs::write(&wrong, text)?;
    match actionlint(&[wrong]) {
        Err(error) if error.to_string().contains("nothing") => Ok(()),
        other => Err(format!("a wrong workflow: {other:?}").into()),
    }
}

/// Beside recipes: what prepares a machine, and what publishes.
const OTHER: [&str; 5] = [
    "sudo sysctl",
    "sudo apt-get update && sudo apt-get install",
    "helm package",
    "helm push",
    "gh release create",
];

fn recipes() -> TestResult {
    let sections = file(".ci/run")?;
    let mut recipes = 0;
    for path in workflows()? {
        let workflow: Value = serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?;
        for (_, job) in workflow["jobs"].as_object().into_iter().flatten() {
            if job["timeout-minutes"].is_null() {
                return Err(format!("{}: a job without a limit", path.display()).into());
            }
            for step in job["steps"].as_array().into_iter().flatten() {
                let run = step["run"].as_str().unwrap_or(".ci/");
                let section = run.strip_prefix(".ci/run ");
                if section.is_some_and(|name| !sections.contains(&format!("\n    {name})"))) {
                    return Err(format!(".ci/run knows no {run}").into());
                }
                if !run.starts_with(".ci/") && !OTHER.iter().any(|other| run.starts_with(other)) {
                    return Err(format!("{}: {run}", path.display()).into());
                }
                recipes += usize::from(run.starts_with(".ci/r"));
            }
        }
    }
    if recipes < 5 { Err(format!("{recipes} recipes").into()) } else { Ok(()) }
}

fn release() -> TestResult {
    let run = |arguments: [&str; 2]| -> Result<bool, Failure> {
        let mut command = std::process::Command::new(root().join(".ci/release"));
        Ok(command.args(arguments).output()?.status.success())
    };
    let own = format!("v{}", env!("CARGO_PKG_VERSION"));
    let notes = run(["notes", "vUnreleased"])?;
    if run(["version", &own])?
        && !run(["version", "v99.0.0"])?
        && notes
        && !run(["notes", "v99.0.0"])?
    {
        Ok(())
    } else {
        Err("the release does not check its version or finds no changelog".into())
    }
}
