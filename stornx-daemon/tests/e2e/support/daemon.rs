//! `stornx run` as a process of its own, as users have it.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;
use stornx_testbed::{TestBed, wait::until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{SOON, TestResult};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A daemon that runs; ended with the handle.
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
    port: u16,
}

/// Settings of the tests: cycles and metrics of seconds instead of minutes.
pub(crate) fn quick(namespace: &str, prometheus: &str) -> Vec<(&'static str, String)> {
    [
        ("NAMESPACES", namespace),
        ("PROMETHEUS_URL", prometheus),
        ("CRONJOB_EXPRESSION", "* * * * * *"),
        ("DEBOUNCE_SECONDS", "0.2"),
        ("METRICS_TYPE", "cpu"),
        ("PROMETHEUS_RATE_WINDOW_SECONDS", "5"),
        ("METRICS_MAX_AGE_SECONDS", "5"),
        ("SCALER_COOLDOWN_SECONDS", "3"),
        ("LEASE_SECONDS", "6"),
        ("WRITE_TIMEOUT_SECONDS", "2"),
        ("CLUSTER_MAX_AGE_SECONDS", "5"),
        ("OWN_NAMESPACE", "stornx"),
        // Several daemons share one address.
        ("WEBHOOK_PORT", "0"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// Settings with others in the place of those of the same name.
pub(crate) fn with(
    mut settings: Vec<(&'static str, String)>,
    others: &[(&'static str, &str)],
) -> Vec<(&'static str, String)> {
    settings.retain(|(name, _)| others.iter().all(|(other, _)| other != name));
    settings.extend(others.iter().map(|(name, value)| (*name, (*value).to_owned())));
    settings
}

/// The program, without settings of the surroundings.
pub(crate) fn stornx(bed: &TestBed, user: &str, settings: &[(&str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stornx"));
    command
        .env_clear()
        .env("KUBECONFIG", bed.kubeconfig(user))
        .env("ENV", "development")
        .env("LOG_FORMAT", "json")
        .env("APP_PORT", "0")
        .envs(settings.iter().map(|(name, value)| (*name, value.as_str())))
        .stdin(Stdio::null());
    command
}

impl Daemon {
    /// Starts a daemon that speaks to the API server as `user`; `name` is that of its log.
    pub(crate) async fn start(
        bed: &TestBed,
        user: &str,
        name: &str,
        settings: &[(&str, String)],
    ) -> Result<Self, Failure> {
        let log = bed.folder().join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let before = std::fs::metadata(&log)?.len();
        let child =
            stornx(bed, user, settings).arg("run").stdout(Stdio::null()).stderr(file).spawn()?;
        let mut daemon = Self { child, log, port: 0 };
        let found = until("the daemon to say where it listens", SOON, || async {
            port_in(&daemon.log, before).ok_or("not yet".to_owned())
        });
        daemon.port = found.await?;
        Ok(daemon)
    }

    /// Where a browser finds its page.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// What a path shows: status and body.
    pub(crate) async fn get(&self, path: &str) -> Result<(u16, String), Failure> {
        let limit = Duration::from_secs(10);
        tokio::time::timeout(limit, get(self.port, path)).await.map_err(|_| "no answer")?
    }

    /// A path that must answer 200.
    pub(crate) async fn page(&self, path: &str) -> Result<String, Failure> {
        match self.get(path).await? {
            (200, body) => Ok(body),
            (status, body) => Err(format!("{path}: {status} {body}").into()),
        }
    }

    /// Waits until it is ready.
    pub(crate) async fn wait_ready(&self) -> TestResult {
        until("the daemon to be ready", SOON, || async {
            match self.get("/readyz").await {
                Ok((200, _)) => Ok(()),
                Ok((status, body)) => Err(format!("{status} {body}")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        Ok(())
    }

    /// The lines of its log so far.
    pub(crate) fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Lines that say `reason` about a workload.
    pub(crate) fn lines(&self, workload: &str, reason: &str) -> usize {
        let says = |line: &&Value| line["workload"] == workload && line["reason"] == reason;
        self.log().iter().filter(says).count()
    }

    /// The value of a metric with exactly these labels, in any order.
    pub(crate) async fn metric(
        &self,
        name: &str,
        labels: &[(&str, &str)],
    ) -> Result<Option<f64>, Failure> {
        let page = self.page("/metrics").await?;
        let mut wanted: Vec<_> =
            labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        wanted.sort();
        let value = page.lines().find_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, rest) = series.split_once('{').unwrap_or((series, "}"));
            let inside = rest.strip_suffix('}')?;
            let mut labels: Vec<_> =
                inside.split(',').filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect();
            labels.sort();
            (found == name && labels == wanted).then(|| value.parse().ok())?
        });
        Ok(value)
    }

    /// Asks it to stop, and says how long it took.
    pub(crate) async fn terminate(&mut self) -> Result<Duration, Failure> {
        let began = std::time::Instant::now();
        self.signal("-TERM")?;
        while self.child.try_wait()?.is_none() {
            if began.elapsed() > SOON {
                return Err("the daemon does not end".into());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(began.elapsed())
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Lets it stand still, wherever it is.
    pub(crate) fn freeze(&self) -> TestResult {
        self.signal("-STOP")
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) -> TestResult {
        self.signal("-CONT")
    }

    fn signal(&self, signal: &str) -> TestResult {
        Command::new("kill").args([signal, &self.id().to_string()]).status()?;
        Ok(())
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Resident memory in bytes.
    pub(crate) async fn memory(&self) -> Result<f64, Failure> {
        let found = self.metric("stornx_resident_memory_bytes", &[]).await?;
        found.ok_or_else(|| "no figure of its memory".into())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for so many further cycles.
pub(crate) async fn wait_cycles(daemon: &Daemon, more: f64) -> TestResult {
    let count = || async {
        let mut sum = 0.0;
        for result in ["clean", "partial", "failed", "refused"] {
            let labels = [("cause", "schedule"), ("result", result)];
            sum += daemon.metric("stornx_cycles_total", &labels).await?.unwrap_or_default();
        }
        Ok::<f64, Box<dyn std::error::Error + Send + Sync>>(sum)
    };
    let before = count().await?;
    until("more cycles", SOON, || async {
        let passed = count().await.map_err(|error| error.to_string())? - before;
        if passed >= more { Ok(()) } else { Err(format!("{passed} of {more}")) }
    })
    .await?;
    Ok(())
}

/// The port in the first line that names one after `from`.
fn port_in(log: &Path, from: u64) -> Option<u16> {
    let text = std::fs::read_to_string(log).ok()?;
    let new = text.get(usize::try_from(from).ok()?..)?;
    new.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        line["address"].as_str()?.rsplit(':').next()?.parse().ok()
    })
}

async fn get(port: u16, path: &str) -> Result<(u16, String), Failure> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no status")?;
    Ok((status, body.to_owned()))
}
