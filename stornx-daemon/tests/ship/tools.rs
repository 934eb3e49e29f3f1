//! The tools that judge, and what they say.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde_json::Value;
use stornx_testbed::{Tool, left_out, schemas};

use crate::{Failure, bless::root};

/// The versions of Kubernetes that the chart is checked for.
pub(crate) const MINORS: [&str; 4] = ["1.33", "1.34", "1.35", "1.36"];

struct Tools {
    helm: PathBuf,
    kubeconform: PathBuf,
    promtool: PathBuf,
    actionlint: PathBuf,
    dockerlint: PathBuf,
    kubectl: PathBuf,
    istioctl: PathBuf,
    schemas: PathBuf,
}

static TOOLS: OnceLock<Tools> = OnceLock::new();

/// Builds and fetches the tools. Inside the network namespace of the tests nothing can be.
pub(crate) fn prepare() -> Result<(), Failure> {
    if left_out() || std::env::args().any(|argument| argument == "--list") {
        return Ok(());
    }
    let tools = Tools {
        helm: Tool::Helm.ensure()?,
        kubeconform: Tool::Kubeconform.ensure()?,
        promtool: Tool::Promtool.ensure()?,
        actionlint: Tool::Actionlint.ensure()?,
        dockerlint: Tool::Dockerlint.ensure()?,
        kubectl: Tool::Kubectl.ensure()?,
        istioctl: Tool::Istioctl.ensure()?,
        schemas: schemas::ensure(&MINORS)?,
    };
    TOOLS.set(tools).map_err(|_| "asked for twice".into())
}

fn tools() -> Result<&'static Tools, Failure> {
    TOOLS.get().ok_or_else(|| "the tools are not there".into())
}

/// The folder of the chart.
pub(crate) fn chart() -> PathBuf {
    root().join("deploy/helm/stornx")
}

/// Helm without anything of this machine's own.
pub(crate) fn helm() -> Result<Command, Failure> {
    let own = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm");
    let mut command = Command::new(&tools()?.helm);
    command.env_clear().env("HOME", &own).current_dir(root()).stdin(Stdio::null());
    for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(name, own.join(name.to_lowercase()));
    }
    Ok(command)
}

/// Helm, only to ask it what it knows.
pub(crate) fn plain_helm() -> Result<Command, Failure> {
    Ok(bare(&tools()?.helm))
}

/// The same for kubectl.
pub(crate) fn kubectl() -> Result<Command, Failure> {
    Ok(bare(&tools()?.kubectl))
}

/// The same for istioctl.
pub(crate) fn istioctl() -> Result<Command, Failure> {
    Ok(bare(&tools()?.istioctl))
}

/// Without anything of this machine's own.
fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("HOME", env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null());
    command
}

/// What users have on their path.
pub(crate) fn of_users() -> Result<[(&'static str, &'static Path); 3], Failure> {
    let tools = tools()?;
    Ok([("helm", &tools.helm), ("kubectl", &tools.kubectl), ("istioctl", &tools.istioctl)])
}

/// What a command printed, or why it failed.
pub(crate) fn said(command: &mut Command) -> Result<String, Failure> {
    let output = command.output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{} {}", text(&output.stdout), text(&output.stderr)).into())
    }
}

/// What was rendered, by arguments: Helm takes a third of a second each time.
static RENDERED: Mutex<BTreeMap<Vec<String>, String>> = Mutex::new(BTreeMap::new());

/// The chart rendered as text, for a release `stornx` in a namespace `stornx`.
pub(crate) fn rendered(arguments: &[&str]) -> Result<String, Failure> {
    let key: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let known = || RENDERED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(text) = known().get(&key) {
        return Ok(text.clone());
    }
    let mut command = helm()?;
    command.args(["template", "stornx"]).arg(chart());
    command.args(["--namespace", "stornx", "--kube-version", "1.34"]).args(arguments);
    let text = said(&mut command)?;
    known().insert(key, text.clone());
    Ok(text)
}

/// The objects of the chart with these values (`--set`).
pub(crate) fn objects(values: &[&str]) -> Result<Objects, Failure> {
    let set: Vec<&str> = values.iter().flat_map(|value| ["--set", value]).collect();
    Objects::read(&rendered(&set)?)
}

/// Parsed objects.
pub(crate) struct Objects(pub(crate) Vec<Value>);

impl Objects {
    pub(crate) fn read(text: &str) -> Result<Self, Failure> {
        let all: Vec<Value> = serde_saphyr::from_multiple(text)?;
        Ok(Self(all.into_iter().filter(Value::is_object).collect()))
    }

    /// `Kind/name`, or `Kind/namespace/name` outside the namespace `stornx`, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.0.iter().map(id).collect();
        names.sort();
        names
    }

    /// One object by the name that [`names`](Self::names) gives it.
    pub(crate) fn get(&self, name: &str) -> Result<&Value, Failure> {
        let found = self.0.iter().find(|object| id(object) == name);
        found.ok_or_else(|| format!("no {name} in {:?}", self.names()).into())
    }

    /// The settings that StornX would read.
    pub(crate) fn settings(&self) -> Result<String, Failure> {
        let object = self.get("ConfigMap/stornx-settings")?;
        let text = object["data"]["stornx.yaml"].as_str();
        text.map(ToOwned::to_owned).ok_or_else(|| "no settings".into())
    }
}

fn id(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    match object["metadata"]["namespace"].as_str() {
        None | Some("stornx") => format!("{kind}/{name}"),
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
    }
}

/// What kubeconform says of a file, for a minor version of Kubernetes.
pub(crate) fn kubeconform(minor: &str, file: &Path) -> Result<String, Failure> {
    let schemas = tools()?.schemas.join(minor).join("{{.ResourceKind}}{{.KindSuffix}}.json");
    let mut command = Command::new(&tools()?.kubeconform);
    command.env_clear().args(["-strict", "-summary", "-schema-location"]).arg(schemas);
    // They have definitions of their own, which no schema of Kubernetes holds.
    command.args(["-skip", "Certificate,Issuer,ServiceMonitor,PrometheusRule"]).arg(file);
    said(&mut command)
}

/// What promtool says, in the root of the repository.
pub(crate) fn promtool(arguments: &[&str]) -> Result<String, Failure> {
    said(Command::new(&tools()?.promtool).env_clear().current_dir(root()).args(arguments))
}

/// What actionlint says of workflow files.
pub(crate) fn actionlint(files: &[PathBuf]) -> Result<String, Failure> {
    // It asks shellcheck where there is one; what it says must not depend on that.
    let mut command = Command::new(&tools()?.actionlint);
    command.env_clear().current_dir(root()).args(["-no-color", "-shellcheck=", "-pyflakes="]);
    said(command.args(files))
}

/// What the linter of BuildKit says of a container file.
pub(crate) fn dockerlint(file: &Path) -> Result<String, Failure> {
    said(Command::new(&tools()?.dockerlint).env_clear().arg(file))
}
