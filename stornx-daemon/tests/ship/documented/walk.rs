//! The pages, each in a terminal of its own.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Stdio},
    sync::Arc,
    thread::JoinHandle,
    time::Instant,
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use stornx_testbed::{TestBed, prometheus::Scrape, wait::until};

use super::{
    kubelet::{self, ACCOUNT, DAEMON, PROMETHEUS},
    shell::Shell,
};
use crate::{
    Failure,
    documentation::{
        read::Line,
        ways::{Way, of},
    },
    support::{SOON, TestResult, daemon::stornx, load::Load},
    tools::said,
};

/// Pages that begin without a release, since they install it.
const INSTALLING: [&str; 2] = ["docs/install.md", "deploy/helm/stornx/README.md"];

/// This one begins with the release of the original: its values stand for it.
const MIGRATING: &str = "docs/migration.md";
const ORIGINAL: &str = "helm install stornx deploy/helm/stornx -n stornx --create-namespace \
     --values stornx-daemon/tests/ship/chart/original.yaml --set image.repository=stornx";

/// What the documentation takes for granted: applications, a Prometheus that kubectl finds, and
/// the definitions that the Prometheus Operator brings.
const WORLD: &str = "
kubectl create namespace shop &&
kubectl create namespace monitoring &&
kubectl create namespace istio-system &&
kubectl -n shop create deployment cart --image=cart --replicas=2 --port=8080 &&
kubectl -n shop create deployment frontend --image=frontend --replicas=2 --port=8080 &&
kubectl -n monitoring create deployment prometheus-server --image=prometheus --port=9090 &&
kubectl -n monitoring expose deployment prometheus-server --port=80 --target-port=9090 &&
kubectl -n monitoring rollout status deployment prometheus-server &&
for kind in ServiceMonitor PrometheusRule; do
  plural=$(echo ${kind}s | tr A-Z a-z)
  kubectl create -f - <<END || exit 1
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: $plural.monitoring.coreos.com}
spec:
  group: monitoring.coreos.com
  names: {kind: $kind, plural: $plural}
  scope: Namespaced
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
END
done";

/// What is left of a page that its own commands do not take away.
const AFTER: &str = "
if helm status stornx -n stornx >/dev/null 2>&1; then helm uninstall stornx -n stornx --wait; fi
kubectl delete namespace tracing --ignore-not-found --wait=false
if kubectl get namespace stornx >/dev/null 2>&1; then
  kubectl -n stornx delete lease,configmap,endpointslice stornx --ignore-not-found
fi";

/// Every page with commands for a cluster.
pub(super) async fn all(bed: Arc<TestBed>) -> TestResult {
    let admin = bed.client("admin").await?;
    let load = Load::start(admin.clone(), "shop").await?;
    load.set("cart", 100.0);
    load.set("frontend", 100.0);
    let scrape = Scrape { port: Some(PROMETHEUS), ..Scrape::each_second([load.address]) };
    bed.start_prometheus(&scrape).await?;

    let mut pages: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in of(Way::Bed)? {
        pages.entry(line.page.clone()).or_default().push(line);
    }
    let install = pages
        .get("docs/install.md")
        .and_then(|lines| lines.iter().find(|line| line.command.starts_with("helm install stornx")))
        .ok_or("docs/install.md does not install")?
        .command
        .clone();
    let (mut count, mut wrong) = (0, Vec::new());
    for (index, (page, lines)) in pages.iter().enumerate() {
        let began = Instant::now();
        let folder = bed.folder().join(format!("page-{index}"));
        let mut walk = Walk {
            shell: Shell::open(&folder, &bed.kubeconfig("admin"))?,
            bed: bed.clone(),
            admin: admin.clone(),
            container: None,
        };
        if index == 0 {
            walk.shell.run(WORLD)?;
        }
        match page.as_str() {
            MIGRATING => walk.shell.run(ORIGINAL).map(drop)?,
            page if INSTALLING.contains(&page) => {}
            _ => walk.shell.run(&install).map(drop)?,
        }
        for line in lines {
            count += 1;
            if let Err(error) = walk.step(line).await {
                // At once, too: a run that hangs says where.
                println!("{}: {error}", line.at());
                wrong.push(format!("{}: {error}", line.at()));
            }
        }
        walk.shell.end(None);
        walk.container = None;
        walk.shell.run(AFTER)?;
        println!("{page}: {} commands in {:.1} s", lines.len(), began.elapsed().as_secs_f64());
    }
    println!("documentation: {count} commands ran on the test bed");
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// One page.
struct Walk {
    shell: Shell,
    bed: Arc<TestBed>,
    admin: Client,
    container: Option<Container>,
}

impl Walk {
    async fn step(&mut self, line: &Line) -> TestResult {
        let words = line.words();
        let has = |word: &str| words.contains(&word);
        if words[0] == "export" {
            self.shell.export(line);
            return Ok(());
        }
        if has("port-forward") || has("logs") {
            self.container().await?;
        }
        if has("port-forward") {
            let ports = words.iter().rev().find_map(|word| word.split(':').next()?.parse().ok());
            return self.shell.start(line, ports).await;
        }
        if words.starts_with(&["stornx", "run"]) {
            return self.shell.serve(line, "/readyz").await;
        }
        if words[0] == "stornx" && has("--serve") {
            return self.shell.serve(line, "/").await;
        }
        if words.starts_with(&["helm", "test"]) {
            self.tested(line).await?;
        } else if self.shell.run(&line.command)?.is_empty() && has("logs") {
            return Err("the log is empty".into());
        }
        self.follow().await
    }

    /// `helm test`, whose pod is ended as its container would: nothing runs here.
    async fn tested(&self, line: &Line) -> TestResult {
        let pods: Api<Pod> = Api::namespaced(self.admin.clone(), "stornx");
        let done = json!({"status": {"phase": "Succeeded"}});
        let ended = until("the pod of the test", SOON, || async {
            let (patch, params) = (Patch::Merge(&done), PatchParams::default());
            pods.patch_status("stornx-dry-run", &params, &patch).await.map(drop)
        });
        let mut command = self.shell.prepared(&line.command);
        let testing = tokio::task::spawn_blocking(move || said(&mut command));
        ended.await?;
        let said = testing.await??;
        let logs = !line.command.contains("--logs") || said.contains("POD LOGS");
        if logs { Ok(()) } else { Err(format!("no log in it: {said}").into()) }
    }

    /// How many replicas the release asks for.
    fn replicas(&self) -> u32 {
        let asked = "kubectl -n stornx get deployment stornx -o 'jsonpath={.spec.replicas}'";
        self.shell.run(asked).ok().and_then(|said| said.trim().parse().ok()).unwrap_or_default()
    }

    /// The daemon of the release runs where it asks for one, with the settings that it mounts.
    async fn container(&mut self) -> TestResult {
        if self.container.is_some() || self.replicas() == 0 {
            return Ok(());
        }
        self.shell.run("kubectl -n stornx rollout status deployment/stornx")?;
        let read =
            "kubectl -n stornx get configmap stornx-settings -o 'jsonpath={.data.stornx\\.yaml}'";
        let file = self.bed.folder().join("mounted.yaml");
        std::fs::write(&file, self.shell.run(read)?)?;
        self.container = Some(Container::start(&self.bed, &file)?);
        let ready = format!("curl -s -m 5 http://localhost:{DAEMON}/readyz");
        let answers = until("the daemon of the release to be ready", SOON, || {
            std::future::ready(self.shell.run(&ready).map_err(|error| error.to_string()))
        });
        answers.await.map(drop).map_err(Into::into)
    }

    /// It ends where none is asked for any more.
    async fn follow(&mut self) -> TestResult {
        if self.container.is_some() && self.replicas() == 0 {
            self.container = None;
        }
        Ok(())
    }
}

/// What would run in the pod.
struct Container {
    child: Child,
    log: Option<JoinHandle<()>>,
}

impl Container {
    fn start(bed: &TestBed, settings: &std::path::Path) -> Result<Self, Failure> {
        // A path of its own: the account has colons in its name, which part a list of paths.
        let kubeconfig = bed.folder().join("account.kubeconfig");
        std::fs::copy(bed.kubeconfig(ACCOUNT), &kubeconfig)?;
        let settings = [
            ("KUBECONFIG", kubeconfig.display().to_string()),
            ("STORNX_CONFIG", settings.display().to_string()),
            ("PROMETHEUS_URL", format!("http://127.0.0.1:{PROMETHEUS}")),
            ("CRONJOB_EXPRESSION", "* * * * * *".to_owned()),
            ("APP_PORT", DAEMON.to_string()),
            ("POD_IP", "10.0.0.7".to_owned()),
            ("WEBHOOK_PORT", "0".to_owned()),
        ];
        let mut child =
            stornx(bed, ACCOUNT, &settings).arg("run").stderr(Stdio::piped()).spawn()?;
        let mut file = std::fs::File::create(kubelet::log())?;
        let lines = child.stderr.take().map(BufReader::new);
        let log = std::thread::spawn(move || {
            for line in lines.into_iter().flat_map(|lines| lines.lines().map_while(Result::ok)) {
                let now = k8s_openapi::jiff::Timestamp::now();
                let _ = writeln!(file, "{now:.9} stderr F {line}");
            }
        });
        Ok(Self { child, log: Some(log) })
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It gives the lease back, as in a pod that is asked to end.
        let _ = std::process::Command::new("kill").arg(self.child.id().to_string()).status();
        let until = Instant::now() + SOON;
        while self.child.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.log.take().map(JoinHandle::join);
    }
}
