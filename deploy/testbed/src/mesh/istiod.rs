//! istiod outside of a cluster, and its judgement of rules.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    apps,
    cluster::{ADMIN, TestBed},
    dirs,
    error::{BedError, Result, Tried},
    ports,
    process::{Process, Start},
    programs,
    wait::until,
};

/// How long it may take to answer proxies.
const STARTED: Duration = Duration::from_secs(60);

/// Upstream Envoy knows none of Istio's filters, and nobody signs certificates here: a
/// cluster that waits for either is never ready.
const MESH: &str = "enableAutoMtls: false\ndefaultConfig:\n  discoveryAddress: 127.0.0.1:15010\n";

/// An istiod that runs; ended with the handle.
#[derive(Debug)]
pub struct Istiod {
    _process: Process,
    /// Where proxies join, on 127.0.0.1.
    pub(super) port: u16,
}

impl Istiod {
    /// Starts it over a cluster.
    ///
    /// # Errors
    /// When it does not answer in time, with its log kept in the folder of the cluster.
    pub async fn start(bed: &TestBed) -> Result<Self> {
        let folder = bed.folder().join("mesh");
        dirs::create(&folder)?;
        dirs::write(&folder.join("mesh"), MESH)?;
        // It keeps its certificate authority there, and waits for the namespace for ever.
        apps::namespace(&bed.client(ADMIN).await?, "istio-system").await?;
        let (port, http, monitoring) = (ports::free()?, ports::free()?, ports::free()?);
        // The environment is an argument: a program is started by name and arguments alone.
        let program = programs::istiod()?;
        let flags = [
            format!("--kubeconfig={}", bed.kubeconfig(ADMIN).display()),
            format!("--meshConfig={}", folder.join("mesh").display()),
            format!("--grpcAddr=127.0.0.1:{port}"),
            format!("--httpAddr=127.0.0.1:{http}"),
            format!("--monitoringAddr=127.0.0.1:{monitoring}"),
            "--httpsAddr=".to_owned(),
            "--secureGRPCAddr=".to_owned(),
            "--ctrlz_port=0".to_owned(),
            "--registries=Kubernetes".to_owned(),
        ];
        let mut arguments = vec![
            "PILOT_ENABLE_METADATA_EXCHANGE=false".to_owned(),
            "POD_NAMESPACE=istio-system".to_owned(),
            "POD_NAME=istiod-testbed".to_owned(),
            program.to_string_lossy().into_owned(),
            "discovery".to_owned(),
        ];
        arguments.extend(flags);
        let process = Process::start(Start {
            name: "istiod",
            program: "/usr/bin/env".into(),
            arguments,
            folder: bed.folder().to_path_buf(),
        })?;
        let ready = format!("http://127.0.0.1:{http}/ready");
        let answers = || async {
            let answer = async { reqwest::get(&ready).await?.error_for_status() };
            answer.await.map(drop).map_err(|error| error.to_string())
        };
        until("istiod to be ready", STARTED, answers).await?;
        Ok(Self { _process: process, port })
    }
}

/// What Istio's own validation says of DestinationRules: for each, nothing or why not.
///
/// # Errors
/// When it could not be asked.
pub fn judge(rules: &[serde_json::Value]) -> Result<Vec<Option<String>>> {
    let asking = || "ask istio-validate".to_owned();
    let mut child = Command::new(programs::istiod()?)
        .arg("istio-validate")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .tried(asking)?;
    let lines: String = rules.iter().map(|rule| format!("{rule}\n")).collect();
    let mut input = child.stdin.take();
    let writer = std::thread::spawn(move || input.as_mut()?.write_all(lines.as_bytes()).ok());
    let output = child.wait_with_output().tried(asking)?;
    let _ = writer.join();
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts: Vec<_> =
        text.lines().map(|line| (line != "ok").then(|| line.to_owned())).collect();
    if verdicts.len() == rules.len() && output.status.success() {
        return Ok(verdicts);
    }
    let detail = format!("{} answers to {} rules", verdicts.len(), rules.len());
    Err(BedError::Invalid { what: asking(), detail })
}
