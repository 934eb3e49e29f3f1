//! A terminal: the repository as the folder, the programs on the path, the variables that were
//! exported before, and what runs in the background.

use std::{
    collections::BTreeMap,
    net::TcpStream,
    os::unix::{fs::symlink, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use stornx_testbed::wait::until;

use crate::{
    Failure, bless,
    documentation::read::Line,
    support::{SOON, TestResult},
    tools::{self, said},
};

/// Longer than any command that ends by itself; then it is ended.
const LIMIT: &str = "90";

/// Where StornX shows its page, by default and in the documentation.
const PAGE: u16 = 3000;

/// The terminal of one page.
pub(super) struct Shell {
    folder: PathBuf,
    kubeconfig: PathBuf,
    exported: BTreeMap<String, String>,
    /// With the port that each listens on.
    background: Vec<(Option<u16>, Child)>,
}

impl Shell {
    /// In `folder`, which is made to look like the repository.
    pub(super) fn open(folder: &Path, kubeconfig: &Path) -> Result<Self, Failure> {
        let bin = folder.join("bin");
        std::fs::create_dir_all(&bin)?;
        std::fs::create_dir_all(folder.join("target/testbed"))?;
        for name in ["deploy", "docs", "stornx-daemon"] {
            symlink(bless::root().canonicalize()?.join(name), folder.join(name))?;
        }
        std::fs::copy(kubeconfig, folder.join("target/testbed/kubeconfig"))?;
        symlink(env!("CARGO_BIN_EXE_stornx"), bin.join("stornx"))?;
        for (name, path) in tools::of_users()? {
            symlink(path, bin.join(name))?;
        }
        // As people have it, but an answer that is an error ends it as one.
        let curl =
            "#!/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin exec curl --fail-with-body \"$@\"\n";
        std::fs::write(bin.join("curl"), curl)?;
        said(Command::new("chmod").arg("+x").arg(bin.join("curl")))?;
        let kubeconfig = kubeconfig.to_owned();
        let folder = folder.to_owned();
        Ok(Self { folder, kubeconfig, exported: BTreeMap::new(), background: Vec::new() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.join("bin").display());
        command
            .env_clear()
            .env("PATH", path)
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.kubeconfig)
            .envs(&self.exported)
            .current_dir(&self.folder)
            .stdin(Stdio::null());
        command
    }

    /// What a command printed, or why it failed.
    pub(super) fn run(&self, text: &str) -> Result<String, Failure> {
        said(&mut self.prepared(text))
    }

    /// A command that somebody else will run.
    pub(super) fn prepared(&self, text: &str) -> Command {
        let mut command = self.command("timeout");
        command.args([LIMIT, "sh", "-c", text]);
        command
    }

    /// Remembers what `export` says for the commands that follow.
    pub(super) fn export(&mut self, line: &Line) {
        let words = line.words();
        let variables = words[1..].iter().filter_map(|word| word.split_once('='));
        self.exported.extend(variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    /// Starts what goes on until it is ended, and waits for its port.
    pub(super) async fn start(&mut self, line: &Line, port: Option<u16>) -> TestResult {
        let text = line.command.trim_end_matches('&');
        let log = self.folder.join("background.log");
        let file = std::fs::File::create(&log)?;
        let mut child = self.command("sh");
        child.args(["-c", &format!("exec {text}")]).stdout(file.try_clone()?).stderr(file);
        let mut child = child.spawn()?;
        let Some(port) = port else {
            self.background.push((None, child));
            return Ok(());
        };
        let listens = until("it to listen", SOON, || {
            let open = TcpStream::connect(("127.0.0.1", port)).is_ok();
            std::future::ready(state(&mut child, open, &log))
        })
        .await;
        self.background.push((Some(port), child));
        listens?.map_err(Into::into)
    }

    /// Runs what ends only when it is asked to: until it answers at a path, and to its end.
    pub(super) async fn serve(&mut self, line: &Line, path: &str) -> TestResult {
        self.end(Some(PAGE));
        let mut child = self.command(env!("CARGO_BIN_EXE_stornx"));
        let log = self.folder.join("served.log");
        let words = line.words();
        let mut child = child
            .args(&words[1..])
            .envs(line.variables())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .spawn()?;
        let url = format!("http://localhost:{PAGE}{path}");
        let answers = until("it to answer", Duration::from_secs(60), || {
            let curl =
                self.command("curl").args(["-s", "-m", "5", "-o", "/dev/null", &url]).status();
            let good = curl.is_ok_and(|status| status.success());
            std::future::ready(state(&mut child, good, &log))
        })
        .await;
        // As Ctrl-C does.
        Command::new("kill").args(["-INT", &child.id().to_string()]).status()?;
        let ended = until("it to end", SOON, || {
            std::future::ready(child.try_wait().ok().flatten().ok_or("it runs"))
        })
        .await;
        let _ = child.kill();
        let _ = child.wait();
        answers??;
        // What it was told of Prometheus has to be true by the commands before it.
        let log = printed(&log);
        if log.contains("no connection to Prometheus") {
            return Err(log.into());
        }
        // A page over something that is not live is ended by the signal itself.
        let ended = ended?;
        let ctrl_c = ended.signal() == Some(2) && !line.words().contains(&"run");
        if ended.success() || ctrl_c { Ok(()) } else { Err(log.into()) }
    }

    /// Ends what runs in the background: on a port, or all of it.
    pub(super) fn end(&mut self, port: Option<u16>) {
        for (its, child) in &mut self.background {
            if port.is_none() || *its == port {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        self.background.retain(|(its, _)| port.is_some() && *its != port);
    }
}

/// What a program that goes on has printed.
fn printed(log: &Path) -> String {
    std::fs::read_to_string(log).unwrap_or_default()
}

/// Whether it does its work, is still to be waited for, or has ended.
fn state(child: &mut Child, good: bool, log: &Path) -> Result<Result<(), String>, String> {
    match child.try_wait() {
        Ok(None) if good => Ok(Ok(())),
        Ok(None) => Err(printed(log)),
        _ => Ok(Err(format!("it has ended: {}", printed(log)))),
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.end(None);
    }
}
