//! The programs of the test bed: Go modules of this crate, built on first use into
//! `target/testbed/bin/` and used by every test binary afterwards.
//!
//! A program is named after the hash of its module files: another version is another
//! file, and nothing is rebuilt that did not change. A lock file keeps test binaries
//! that start together from building twice. Building needs Go and its module proxy; a
//! run whose programs are all there needs neither.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde::Deserialize;

use crate::{
    dirs,
    error::{BedError, Result, Tried},
    tools::{self, HELM, KUBECTL, Tool},
};

/// Names a control plane that was built elsewhere, e.g. of another version of Kubernetes;
/// it must answer to the same four names. It is then not built here.
const CONTROL_PLANE: &str = "STORNX_TESTBED_CONTROLPLANE";

/// Between two lines of progress: often enough to be seen alive.
const PROGRESS: Duration = Duration::from_secs(15);

/// A program of the test bed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// etcd and the three Kubernetes servers in one binary, which is what it is called.
    ControlPlane,
    /// Simulates kubelets.
    Kwok,
    /// Prometheus.
    Prometheus,
    /// Istio's control plane and its validation; built only where a mesh is needed.
    Istiod,
    /// A tool that judges what we ship; built only where it is asked for.
    Tool(Tool),
}

/// Without the service discoveries of cloud providers and their libraries.
pub(crate) const PROMETHEUS_TAGS: &str = "remove_all_sd,enable_kubernetes_sd";

/// How a program is built.
pub(crate) struct Recipe {
    /// Name of the program.
    pub(crate) name: &'static str,
    /// Folder under `programs/`.
    pub(crate) module: &'static str,
    /// What is built.
    pub(crate) package: &'static str,
    /// Build tags.
    pub(crate) tags: &'static str,
    /// The module whose version the program names when asked, if it would not by itself.
    pub(crate) named_by: Option<&'static str>,
    /// How long it took from nothing on two cores, for people who wait.
    pub(crate) cold: &'static str,
}

impl Program {
    const ALL: [Self; 3] = [Self::ControlPlane, Self::Kwok, Self::Prometheus];

    const fn recipe(self) -> Recipe {
        match self {
            // A Kubernetes that is not built by its own scripts calls itself 0.0.0.
            Self::ControlPlane => Recipe {
                name: "controlplane",
                module: "controlplane",
                package: ".",
                tags: "",
                named_by: Some("k8s.io/kubernetes"),
                cold: "3 to 5 minutes",
            },
            Self::Kwok => Recipe {
                name: "kwok",
                module: "kwok",
                package: "sigs.k8s.io/kwok/cmd/kwok",
                tags: "",
                named_by: None,
                cold: "1 minute",
            },
            Self::Prometheus => Recipe {
                name: "prometheus",
                module: "prometheus",
                package: "github.com/prometheus/prometheus/cmd/prometheus",
                tags: PROMETHEUS_TAGS,
                named_by: None,
                cold: "5 minutes",
            },
            Self::Istiod => Recipe {
                name: "istiod",
                module: "istiod",
                package: ".",
                tags: "",
                named_by: None,
                cold: "5 minutes",
            },
            Self::Tool(tool) => tool.recipe(),
        }
    }

    fn path(self) -> Result<PathBuf> {
        let recipe = self.recipe();
        let key = key_of(&module(recipe.module), &format!("{} {}", recipe.tags, recipe.link()?))?;
        Ok(bin().join(format!("{}-{key:016x}", recipe.name)))
    }
}

impl Recipe {
    /// What the linker is told: no symbols, and the version of a Kubernetes program.
    fn link(&self) -> Result<String> {
        let Some(named_by) = self.named_by else {
            return Ok("-s -w".to_owned());
        };
        let file = module(self.module).join("go.mod");
        let version = version_of(&dirs::read(&file)?, named_by).ok_or_else(|| {
            let detail = format!("{} requires no {named_by}", file.display());
            BedError::Build { what: self.name, detail }
        })?;
        // The libraries of Kubernetes 1.x are called 0.x.
        let version = if named_by == KUBECTL { version.replacen("v0.", "v1.", 1) } else { version };
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or("0"), parts.next().unwrap_or("0"));
        if named_by == HELM {
            return Ok(tools::helm_link(&version, &dirs::read(&file)?));
        }
        let place = "k8s.io/component-base/version";
        Ok(format!(
            "-s -w -X {place}.gitVersion={version} -X {place}.gitMajor={major} \
             -X {place}.gitMinor={minor} -X {place}.gitTreeState=clean"
        ))
    }
}

/// The version that a `go.mod` requires of a module.
pub(crate) fn version_of(text: &str, module: &str) -> Option<String> {
    let mut lines = text.lines().map(str::split_whitespace);
    lines
        .find_map(|mut words| (words.next()? == module).then(|| words.next().map(str::to_owned))?)
}

/// The module from whose files the DestinationRule CRD is taken. Istio's CRDs are half
/// a megabyte of generated text, so they are fetched, not copied.
const ISTIO: &str = "istio-crds";

/// Where they lie in it.
const ISTIO_CRDS: &str = "manifests/charts/base/files/crd-all.gen.yaml";

/// The one that is taken.
const DESTINATION_RULES: &str = "destinationrules.networking.istio.io";

/// The programs, all built.
#[derive(Debug, Clone)]
pub struct Programs {
    control_plane: PathBuf,
    kwok: PathBuf,
    prometheus: PathBuf,
    destination_rules: PathBuf,
}

impl Programs {
    /// The programs, built now if they were not. Progress goes to standard error.
    ///
    /// # Errors
    /// [`BedError::NoGo`] when something has to be built and there is no Go,
    /// [`BedError::Build`] with what Go said.
    pub fn ensure() -> Result<Self> {
        let programs = Self {
            control_plane: match std::env::var_os(CONTROL_PLANE) {
                Some(path) => given(path.into())?,
                None => Program::ControlPlane.path()?,
            },
            kwok: Program::Kwok.path()?,
            prometheus: Program::Prometheus.path()?,
            destination_rules: bin()
                .join(format!("{DESTINATION_RULES}-{:016x}.yaml", key_of(&module(ISTIO), "")?)),
        };
        if !programs.complete() {
            let _lock = lock()?;
            programs.build()?;
        }
        Ok(programs)
    }

    pub(crate) fn path(&self, program: Program) -> &Path {
        match program {
            Program::ControlPlane => &self.control_plane,
            Program::Kwok => &self.kwok,
            Program::Prometheus => &self.prometheus,
            // Not one of those that every cluster has: `istiod` gives it.
            Program::Istiod => Path::new("istiod"),
            Program::Tool(_) => Path::new("tool"),
        }
    }

    /// The manifest of the DestinationRule CRD.
    pub(crate) fn destination_rules(&self) -> &Path {
        &self.destination_rules
    }

    fn complete(&self) -> bool {
        Program::ALL.iter().all(|program| self.path(*program).is_file())
            && self.destination_rules.is_file()
    }

    /// Builds what is missing; another process may have built it meanwhile.
    fn build(&self) -> Result<()> {
        if self.complete() {
            return Ok(());
        }
        check_go()?;
        for program in Program::ALL {
            let path = self.path(program);
            if !path.is_file() {
                build(&program.recipe(), path)?;
            }
        }
        if !self.destination_rules.is_file() {
            fetch_destination_rules(&self.destination_rules)?;
        }
        Ok(())
    }
}

/// istiod, built now if it was not.
///
/// # Errors
/// As [`Programs::ensure`].
pub(crate) fn istiod() -> Result<PathBuf> {
    on_demand(Program::Istiod)
}

/// A program that not every cluster needs.
pub(crate) fn on_demand(program: Program) -> Result<PathBuf> {
    let path = program.path()?;
    if path.is_file() {
        return Ok(path);
    }
    let _lock = lock()?;
    if !path.is_file() {
        check_go()?;
        build(&program.recipe(), &path)?;
    }
    Ok(path)
}

/// Whether cluster tests are left out by `STORNX_TESTBED=off`.
#[must_use]
pub fn left_out() -> bool {
    std::env::var("STORNX_TESTBED").is_ok_and(|value| value == "off")
}

/// A program that people named: a typing error must not lead to another being built there.
fn given(path: PathBuf) -> Result<PathBuf> {
    if path.is_absolute() && path.is_file() {
        return Ok(path);
    }
    let what = format!("{CONTROL_PLANE} = {}", path.display());
    Err(BedError::Invalid { what, detail: "an absolute path of a program is needed".to_owned() })
}

fn bin() -> PathBuf {
    dirs::testbed().join("bin")
}

fn module(name: &str) -> PathBuf {
    dirs::sources().join("programs").join(name)
}

/// A hash of the files of a module and of how it is built. The algorithm of the standard library may change
/// with a toolchain, which costs one build.
fn key_of(module: &Path, how: &str) -> Result<u64> {
    let reading = || format!("read {}", module.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(module).tried(reading)? {
        files.push(entry.tried(reading)?.path());
    }
    files.sort();
    let mut hasher = DefaultHasher::new();
    how.hash(&mut hasher);
    for file in files {
        file.file_name().hash(&mut hasher);
        std::fs::read(&file).tried(|| format!("read {}", file.display()))?.hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// Waits for others who build. The lock ends with the file, also when its holder dies.
pub(crate) fn lock() -> Result<std::fs::File> {
    dirs::create(&bin())?;
    let path = bin().join("lock");
    let locking = || format!("lock {}", path.display());
    let file = std::fs::File::create(&path).tried(locking)?;
    if file.try_lock().is_err() {
        eprintln!("testbed: another process is building the programs, waiting for it");
        file.lock().tried(locking)?;
    }
    Ok(file)
}

fn check_go() -> Result<()> {
    let output = Command::new("go").arg("version").output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(BedError::NoGo(output.status.to_string())),
        Err(error) => Err(BedError::NoGo(error.to_string())),
    }
}

fn build(recipe: &Recipe, to: &Path) -> Result<()> {
    let Recipe { name, module: folder, package, tags, cold, .. } = *recipe;
    let link = recipe.link()?;
    eprintln!("testbed: building {name} (the first time {cold} on two cores)");
    let unfinished = to.with_extension("unfinished");
    let mut command = Command::new("go");
    command
        .args(["build", "-v", "-trimpath", "-buildvcs=false", "-ldflags", &link, "-tags", tags])
        .arg("-o")
        .arg(&unfinished)
        .arg(package)
        .current_dir(module(folder))
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off");
    run(name, command)?;
    std::fs::rename(&unfinished, to).tried(|| format!("create {}", to.display()))
}

/// Runs a build. Go names each package on a line of standard error when it begins with
/// it, modules that it fetches, and what is wrong.
fn run(name: &'static str, mut command: Command) -> Result<()> {
    let start = Instant::now();
    let running = || format!("run go for {name}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .tried(running)?;
    let (lines, received) = channel();
    let stderr = child.stderr.take();
    let reader = std::thread::spawn(move || {
        for line in stderr.into_iter().flat_map(|pipe| BufReader::new(pipe).lines()) {
            // A receiver that is gone has its answer.
            let _ = line.map(|line| lines.send(line));
        }
    });
    let mut said: Vec<String> = Vec::new();
    let mut next = start + PROGRESS;
    loop {
        match received.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Ok(line) => said.push(line),
            Err(RecvTimeoutError::Timeout) => {
                let (count, seconds) = (said.len(), start.elapsed().as_secs());
                let last = said.last().map_or("", String::as_str);
                eprintln!("testbed: {name}: {seconds} s, {count} packages, now {last}");
                next += PROGRESS;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().tried(running)?;
    let _ = reader.join();
    if !status.success() {
        let detail = said[said.len().saturating_sub(30)..].join("\n");
        return Err(BedError::Build { what: name, detail: format!("{status}\n{detail}") });
    }
    eprintln!("testbed: built {name} in {} s", start.elapsed().as_secs());
    Ok(())
}

/// What `go mod download -json` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Downloaded {
    dir: PathBuf,
}

fn fetch_destination_rules(to: &Path) -> Result<()> {
    let failed = |detail: String| BedError::Build { what: "the DestinationRule CRD", detail };
    eprintln!("testbed: fetching the DestinationRule CRD");
    let output = Command::new("go")
        .args(["mod", "download", "-json", "istio.io/istio"])
        .current_dir(module(ISTIO))
        .env("GOWORK", "off")
        .output()
        .tried(|| "run go mod download".to_owned())?;
    let downloaded: Downloaded = serde_json::from_slice(&output.stdout)
        .map_err(|_| failed(String::from_utf8_lossy(&output.stderr).into_owned()))?;
    let all = dirs::read(&downloaded.dir.join(ISTIO_CRDS))?;
    let name = format!("\n  name: {DESTINATION_RULES}\n");
    let one = all
        .split("\n---\n")
        .find(|document| document.contains(&name))
        .ok_or_else(|| failed(format!("no {DESTINATION_RULES} in {ISTIO_CRDS}")))?;
    dirs::write(to, one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_changes_with_each_file_and_with_how_it_is_built() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("go.mod"), "module a").unwrap();
        let first = key_of(folder.path(), "").unwrap();
        assert_eq!(first, key_of(folder.path(), "").unwrap());
        assert_ne!(first, key_of(folder.path(), "some_tag").unwrap());
        std::fs::write(folder.path().join("go.sum"), "").unwrap();
        assert_ne!(first, key_of(folder.path(), "").unwrap());
    }

    #[test]
    fn a_program_that_is_named_must_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("controlplane");
        let refused = given(program.clone()).unwrap_err().to_string();
        assert!(refused.contains("STORNX_TESTBED_CONTROLPLANE"), "{refused}");
        std::fs::write(&program, "").unwrap();
        assert_eq!(given(program.clone()).unwrap(), program);
        assert!(given("controlplane".into()).is_err(), "not from any folder that one is in");
    }

    #[test]
    fn kubernetes_names_the_version_that_its_module_requires() {
        let link = Program::ControlPlane.recipe().link().unwrap();
        assert!(link.contains("gitVersion=v1.") && link.contains("gitMajor=1 "), "{link}");
        assert_eq!(Program::Tool(Tool::Kubectl).recipe().link().unwrap(), link);
        let text = "require (\n\tk8s.io/kubernetes-tools v9.9.9\n\tk8s.io/kubernetes v1.34.4\n)";
        assert_eq!(version_of(text, "k8s.io/kubernetes").as_deref(), Some("v1.34.4"));
        assert_eq!(version_of(text, "k8s.io/api"), None);
    }

    #[test]
    fn a_failed_build_gives_what_the_builder_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo some/package >&2; echo undefined: x >&2; exit 3"]);
        let message = run("nothing", command).unwrap_err().to_string();
        assert!(
            message.contains("exit status: 3") && message.contains("undefined: x"),
            "{message}"
        );
    }
}
