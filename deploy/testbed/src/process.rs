//! One program that runs: started with its log, known by its id, stopped and continued
//! by signals to that id, and ended with its handle. Programs are never looked for by
//! name. Each runs in a process group of its own, so that Ctrl-C on a terminal reaches
//! the test bed alone, which ends them in its own way.

use std::{
    collections::BTreeSet,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{BedError, Result, Tried};

/// Ids of all programs that run, for the case that this process has to end at once.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running<T>(change: impl FnOnce(&mut BTreeSet<u32>) -> T) -> T {
    change(&mut RUNNING.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Ends every program at once.
pub(crate) fn end_all() {
    for id in running(std::mem::take) {
        // One that has ended already needs nothing.
        let _ = send(id, Signal::KILL);
    }
}

fn send(id: u32, signal: Signal) -> std::io::Result<()> {
    let pid = i32::try_from(id).ok().and_then(Pid::from_raw).ok_or(std::io::ErrorKind::NotFound)?;
    Ok(kill_process(pid, signal)?)
}

/// How a program is started.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// Its name in messages, of its log, and the one by which it is called: the control
    /// plane is one program that its name makes one of four.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Where its log is put.
    pub(crate) folder: PathBuf,
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Process {
    start: Start,
    /// Gone once ended.
    child: Option<Child>,
}

impl Process {
    pub(crate) fn start(start: Start) -> Result<Self> {
        let mut process = Self { start, child: None };
        process.restart()?;
        Ok(process)
    }

    /// Where it writes what it does.
    pub(crate) fn log(&self) -> PathBuf {
        self.start.folder.join(format!("{}.log", self.start.name))
    }

    /// The process id, in the namespace of this process.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it anew with the same arguments, after ending it if it still runs.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.end();
        let log = self.log();
        let opening = || format!("open {}", log.display());
        let file =
            std::fs::OpenOptions::new().create(true).append(true).open(&log).tried(opening)?;
        let again = file.try_clone().tried(opening)?;
        let child = Command::new(&self.start.program)
            .arg0(self.start.name)
            .args(&self.start.arguments)
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .process_group(0)
            .spawn()
            .tried(|| format!("start {}", self.start.program.display()))?;
        running(|all| all.insert(child.id()));
        self.child = Some(child);
        Ok(())
    }

    /// Ends it at once (`SIGKILL`) and waits until it is gone.
    pub(crate) fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only for one that is gone already.
            let _ = child.kill();
            let _ = child.wait();
            running(|all| all.remove(&child.id()));
        }
    }

    /// Lets it stand still (`SIGSTOP`): connections stay open and nothing answers.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (`SIGCONT`).
    pub(crate) fn resume(&self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let name = self.start.name;
        let id = self.id().ok_or_else(|| BedError::Absent(format!("{name} does not run")))?;
        send(id, signal).tried(|| format!("send {signal:?} to {name}"))
    }

    /// # Errors
    /// [`BedError::Ended`] when it has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        let status = match self.child.as_mut().map(Child::try_wait) {
            Some(Ok(Some(status))) => status.to_string(),
            _ => return Ok(()),
        };
        Err(BedError::Ended { name: self.start.name, status, log: self.log() })
    }

    /// Resident memory in bytes; none where the system does not tell (not Linux).
    pub(crate) fn memory(&self) -> Option<u64> {
        let status =
            std::fs::read_to_string(Path::new("/proc").join(self.id()?.to_string()).join("status"));
        let kilobytes = status.ok()?.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        })?;
        Some(kilobytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Process {
        Process::start(Start {
            name: "sleeper",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "echo started; exec sleep 600".into()],
            folder: folder.into(),
        })
        .unwrap()
    }

    #[test]
    fn a_process_ends_with_its_handle_and_can_start_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(folder.path());
        let first = process.id().unwrap();
        process.pause().unwrap();
        process.resume().unwrap();
        process.check().unwrap();
        process.restart().unwrap();
        let second = process.id().unwrap();
        assert_ne!(first, second);
        assert!(running(|all| all.contains(&second) && !all.contains(&first)));
        drop(process);
        assert!(send(second, Signal::CONT).is_err(), "the process is gone");
    }

    #[test]
    fn one_that_ended_by_itself_is_named_with_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = Process::start(Start {
            name: "short",
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), "exit 4".into()],
            folder: folder.path().into(),
        })
        .unwrap();
        let message = loop {
            if let Err(error) = process.check() {
                break error.to_string();
            }
            std::thread::yield_now();
        };
        assert!(message.contains("exit status: 4") && message.contains("short.log"), "{message}");
    }
}
