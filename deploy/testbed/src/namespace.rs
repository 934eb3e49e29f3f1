//! The place where a test bed runs: a user, network and process namespace of its own.
//!
//! **Namespace** (Linux): the program starts itself again under `unshare`, with the same
//! arguments, as the first process of the namespace. Whatever ends it, a crash or
//! `SIGKILL` included, the kernel ends every process in it. All of `10.0.0.0/8` is
//! local there: one server on `0.0.0.0` answers for every pod address. An unprivileged
//! user can do this; nothing outside can be reached, so programs are built before.
//!
//! **Loopback** (macOS, or where `unshare` is refused, or `STORNX_TESTBED=loopback`):
//! the servers listen on free ports of 127.0.0.1 and pods have addresses that nobody
//! can reach. Programs end with the handle of their cluster, on Ctrl-C and `SIGTERM`,
//! but not when the test binary is ended by `SIGKILL`.

use std::{
    env,
    ffi::OsStr,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use crate::{
    error::{BedError, Result, Tried},
    process,
};

/// Says in a process that it is inside already, and where.
const INSIDE: &str = "STORNX_TESTBED_PLACE";

/// What unshare is asked for. `--kill-child`: the end of `unshare`, which is the process
/// that a caller knows and may kill, is the end of everything inside.
const UNSHARE: &[&str] = &[
    "--user",
    "--map-root-user",
    "--net",
    "--pid",
    "--fork",
    "--kill-child=SIGKILL",
    "--mount-proc",
];

/// The address of the control plane: kube-apiserver refuses to advertise a loopback one.
pub(crate) const CONTROL_PLANE: &str = "10.0.255.1";

/// Where a test bed runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a namespace of its own; pod addresses answer.
    Namespace,
    /// On the loopback interface of the machine.
    Loopback,
}

impl Place {
    const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "namespace",
            Self::Loopback => "loopback",
        }
    }

    /// The place that this process is in, if [`enter`] or [`command`] brought it there.
    #[must_use]
    pub fn current() -> Option<Self> {
        let name = env::var(INSIDE).ok()?;
        [Self::Namespace, Self::Loopback].into_iter().find(|place| place.name() == name)
    }
}

/// Brings this process into a place for a test bed. Outside, it becomes `unshare`,
/// which runs this program again with the same arguments (so this call does not
/// return); inside, it sets up the addresses. First call in `main`, before there are
/// threads or open files.
///
/// # Errors
/// When the program cannot be started again or the addresses cannot be set up.
pub fn enter() -> Result<Place> {
    if let Some(place) = Place::current() {
        return settle(place);
    }
    let place = choose();
    let program = env::current_exe().tried(|| "find this program".to_owned())?;
    let error = command_in(place, program.as_os_str()).args(env::args_os().skip(1)).exec();
    Err(BedError::Io { what: "start in a namespace".to_owned(), source: error })
}

/// A command that runs `program` in a new place of its own, as the first process there;
/// `program` calls [`enter`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    command_in(choose(), program.as_ref())
}

fn command_in(place: Place, program: &OsStr) -> Command {
    let mut command = match place {
        Place::Namespace => {
            let mut command = Command::new("unshare");
            command.args(UNSHARE).arg(program);
            command
        }
        Place::Loopback => Command::new(program),
    };
    command.env(INSIDE, place.name());
    command
}

/// A namespace where one can be had, and says where not and why.
fn choose() -> Place {
    if env::var("STORNX_TESTBED").is_ok_and(|value| value == "loopback") {
        return Place::Loopback;
    }
    let output = Command::new("unshare")
        .args(UNSHARE)
        .args(["ip", "link", "set", "lo", "up"])
        .stdin(Stdio::null())
        .output();
    let reason = match output {
        Ok(output) if output.status.success() => return Place::Namespace,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("unshare: {error}"),
    };
    eprintln!("testbed: no network namespace here ({reason}); the control plane runs on loopback");
    Place::Loopback
}

/// Sets up the inside of a place.
fn settle(place: Place) -> Result<Place> {
    if place == Place::Namespace {
        ip(&["link", "set", "lo", "up"])?;
        ip(&["route", "replace", "local", "10.0.0.0/8", "dev", "lo"])?;
        ip(&["address", "replace", &format!("{CONTROL_PLANE}/32"), "dev", "lo"])?;
    }
    end_on_signals()?;
    Ok(place)
}

fn ip(arguments: &[&str]) -> Result<()> {
    let what = || format!("ip {}", arguments.join(" "));
    let output = Command::new("ip").args(arguments).output().tried(what)?;
    if output.status.success() {
        return Ok(());
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(BedError::Invalid { what: what(), detail })
}

/// Ends this process on Ctrl-C and `SIGTERM`. The first process of a namespace ignores
/// both unless it handles them.
fn end_on_signals() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let what = || "watch for signals".to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().tried(what)?;
    let (mut interrupt, mut terminate) = runtime
        .block_on(async {
            Ok::<_, std::io::Error>((
                signal(SignalKind::interrupt())?,
                signal(SignalKind::terminate())?,
            ))
        })
        .tried(what)?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        process::end_all();
        // What a shell says of a program that Ctrl-C ended.
        std::process::exit(130);
    });
    Ok(())
}
