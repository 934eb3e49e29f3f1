//! Whatever ends the test bed, nothing of it runs on: seen from outside, by the ids that
//! the machine knows.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use stornx_testbed::{
    harness::{Test, TestResult},
    wait::until,
};

const SOON: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    stornx_testbed::harness::main_outside(vec![
        Test::plain("nothing is left after SIGTERM", || ended_by("TERM")).needs_namespace(),
        Test::plain("nothing is left after SIGKILL", || ended_by("KILL")).needs_namespace(),
    ])
}

/// Starts a cluster in a process of its own, ends that process and looks for the rest.
async fn ended_by(signal: &str) -> TestResult {
    let own = tempfile::tempdir()?;
    let config = own.path().join("kubeconfig");
    let mut outside = start(&config)?;
    let output = outside.stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    lines.find(|line| line.contains("kubectl")).ok_or("the cluster did not start")?;
    let text = std::fs::read_to_string(&config)?;
    let folder = folder_of(&text).ok_or("no data folder in the kubeconfig")?;

    let mut all = of_folder(&folder)?;
    assert_eq!(all.len(), 6, "five servers and Prometheus of {folder}");
    all.extend(below(outside.id())?);
    let status = Command::new("kill").args(["-s", signal, &outside.id().to_string()]).status()?;
    assert!(status.success());
    outside.wait()?;
    until("the end of all processes", SOON, async || {
        let left: Vec<u32> = all.iter().copied().filter(|id| runs(*id)).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("still there: {left:?}")) }
    })
    .await?;
    assert!(of_folder(&folder)?.is_empty());
    if signal == "TERM" {
        assert!(!PathBuf::from(&folder).exists(), "the data folder is gone");
    }
    Ok(())
}

fn start(kubeconfig: &Path) -> std::io::Result<Child> {
    Command::new(env!("CARGO_BIN_EXE_stornx-testbed"))
        .args(["up", "--nodes", "3", "--kubeconfig"])
        .arg(kubeconfig)
        .stdout(Stdio::piped())
        .spawn()
}

/// The folder in which the authority's certificate lies.
fn folder_of(kubeconfig: &str) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(kubeconfig).ok()?;
    let file = PathBuf::from(config["clusters"][0]["cluster"]["certificate-authority"].as_str()?);
    Some(file.parent()?.to_str()?.to_owned())
}

/// Processes whose command line names the folder.
fn of_folder(folder: &str) -> std::io::Result<BTreeSet<u32>> {
    let named = |id: &u32| {
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(folder)
    };
    Ok(ids()?.into_iter().filter(named).collect())
}

/// A process and all that descend from it.
fn below(id: u32) -> std::io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::from([id]);
    loop {
        let children: BTreeSet<u32> = ids()?
            .into_iter()
            .filter(|child| parent(*child).is_some_and(|parent| found.contains(&parent)))
            .filter(|child| !found.contains(child))
            .collect();
        if children.is_empty() {
            return Ok(found);
        }
        found.extend(children);
    }
}

fn ids() -> std::io::Result<Vec<u32>> {
    let entries = std::fs::read_dir("/proc")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn parent(id: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// There, and not merely waiting for its parent to ask how it ended.
fn runs(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/status"))
        .is_ok_and(|status| !status.lines().any(|line| line.starts_with("State:\tZ")))
}
