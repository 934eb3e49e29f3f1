//! What breaks around the daemon: it neither ends nor writes on stale data, says so once,
//! and goes on when things are back.
//!
//! `STORNX_E2E_CYCLES=10000` runs the long form of the memory test.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use stornx_testbed::{
    Crd, Options, Server, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::support::{
    SOON, TestResult,
    daemon::{Daemon, quick, wait_cycles},
    load::Load,
    proxy::Proxy,
    rights, seen,
};

pub(crate) const HERE: &str = "faults";

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::own("faults", Options::default(), faults),
        Test::own("memory_stays", Options::default(), memory_stays),
    ]
}

/// A daemon over one workload whose load a test sets.
pub(crate) struct Scene {
    pub(crate) bed: Arc<TestBed>,
    pub(crate) admin: Client,
    pub(crate) load: Load,
    pub(crate) daemon: Daemon,
}

async fn scene(bed: Arc<TestBed>, more: &[(&'static str, &str)]) -> Result<Scene, crate::Failure> {
    scene_behind(bed, more, None).await
}

/// The same with something between the daemon and Prometheus.
pub(crate) async fn scene_behind(
    bed: Arc<TestBed>,
    more: &[(&'static str, &str)],
    proxy: Option<&Proxy>,
) -> Result<Scene, crate::Failure> {
    let admin = bed.client("admin").await?;
    apps::namespace(&admin, HERE).await?;
    rights::grant(&admin, "stornx", &[HERE]).await?;
    let load = Load::start(admin.clone(), HERE).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;
    // 50 % of what it asks for: nothing to do.
    load.set("calm", 150.0);
    let workload = Workload::new(HERE, "calm", 3);
    workload.create(&admin).await?;
    apps::wait_ready(&admin, &workload, 3, SOON).await?;
    let url = match proxy {
        Some(proxy) => proxy.before(prometheus.address),
        None => prometheus.url(),
    };
    let mut settings = quick(HERE, &url);
    for (name, value) in more {
        settings.retain(|(known, _)| known != name);
        settings.push((name, (*value).to_owned()));
    }
    let daemon = Daemon::start(&bed, "stornx", "stornx", &settings).await?;
    daemon.wait_ready().await?;
    wait_input(&daemon, "fresh").await?;
    Ok(Scene { bed, admin, load, daemon })
}

async fn wait_input(daemon: &Daemon, state: &str) -> TestResult {
    until(&format!("usage to be {state}"), SOON, || async {
        let labels = [("input", "usage"), ("state", state)];
        match daemon.metric("stornx_input_state", &labels).await {
            Ok(Some(1.0)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(())
}

impl Scene {
    /// Lines of the log with a reason.
    pub(crate) fn count(&self, reason: &str) -> usize {
        self.daemon.log().iter().filter(|line| line["reason"] == reason).count()
    }

    /// A jump of load that was seen before the fault, and held back by an annotation,
    /// changes nothing once only the old figures are left.
    pub(crate) async fn blind(
        &self,
        what: &str,
        state: &str,
        begin: impl FnOnce() -> stornx_testbed::Result<()>,
    ) -> TestResult {
        let told = || self.count(&format!("usage-{state}"));
        let before = told();
        let replicas = seen::replicas(&self.admin, HERE, "calm").await?;
        seen::annotate(&self.admin, HERE, "calm", "stornx.io/scaling", Some("off")).await?;
        self.load.set("calm", 1500.0);
        until(&format!("{what}: the jump to be seen"), SOON, || async {
            let page = self.daemon.page("/api/v1/plan").await.map_err(|e| e.to_string())?;
            let plan: Value = serde_json::from_str(&page).map_err(|e| e.to_string())?;
            let calm = &plan["report"]["workloads"][format!("{HERE}/Deployment/calm")];
            match calm["utilisation"].as_f64() {
                Some(used) if used > 200.0 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        begin()?;
        wait_input(&self.daemon, state).await?;
        seen::annotate(&self.admin, HERE, "calm", "stornx.io/scaling", None).await?;
        wait_cycles(&self.daemon, 5.0).await?;
        if seen::replicas(&self.admin, HERE, "calm").await? != replicas {
            return Err(format!("{what}: scaled on stale data").into());
        }
        if told() != before + 1 {
            return Err(format!("{what}: told {} times", told() - before).into());
        }
        Ok(())
    }

    /// Usage is known again and decides again; then back to three calm replicas.
    pub(crate) async fn sees_again(&self, what: &str) -> TestResult {
        wait_input(&self.daemon, "fresh").await?;
        until(&format!("{what}: to scale again"), SOON, || async {
            match seen::replicas(&self.admin, HERE, "calm").await {
                Ok(replicas) if replicas > 3 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        self.load.set("calm", 150.0);
        apps::scale(&self.admin, &Workload::new(HERE, "calm", 3), 3).await?;
        Ok(())
    }

    /// A fault of the API server or its store: no cycle plans anything, it is said once,
    /// and cycles go through again afterwards.
    async fn cut_off(&mut self, what: &str, server: Server, pause: bool) -> TestResult {
        let errors = || ["observe", "load", "save", "store-intents"].map(|phase| self.count(phase));
        let (before, recovered) = (errors(), self.count("recovered"));
        let fault = |begin: bool| match (pause, begin) {
            (true, true) => self.bed.pause(server),
            (true, false) => self.bed.resume(server),
            (false, _) => self.bed.kill(server),
        };
        fault(true)?;
        until(&format!("{what}: to be noticed"), SOON, || async {
            if errors() == before { Err("not said") } else { Ok(()) }
        })
        .await?;
        // Longer than `CLUSTER_MAX_AGE_SECONDS`, in a cycle each second: the memory cannot
        // be loaded, then the cluster is not known any more. Each is said once.
        tokio::time::sleep(Duration::from_secs(9)).await;
        let after = errors();
        if after.iter().zip(before).any(|(after, before)| after - before > 1) {
            return Err(format!("{what}: said again and again: {before:?}, {after:?}").into());
        }
        if pause {
            fault(false)?;
        } else {
            self.bed.restart(server).await?;
        }
        until(&format!("{what}: cycles to go through again"), SOON, || async {
            if self.count("recovered") > recovered { Ok(()) } else { Err("not said") }
        })
        .await?;
        if !self.daemon.runs() {
            return Err(format!("{what}: the daemon has ended").into());
        }
        Ok(())
    }
}

async fn faults(bed: Arc<TestBed>) -> TestResult {
    let more = [("PROMETHEUS_TIMEOUT_SECONDS", "1")];
    let mut scene = scene(bed.clone(), &more).await?;

    scene.blind("Prometheus down", "missing", || bed.kill(Server::Prometheus)).await?;
    bed.restart(Server::Prometheus).await?;
    scene.sees_again("Prometheus back").await?;

    scene.blind("Prometheus slow", "missing", || bed.pause(Server::Prometheus)).await?;
    bed.resume(Server::Prometheus)?;
    scene.sees_again("Prometheus quick").await?;

    let silent = || {
        scene.load.silent(true);
        Ok(())
    };
    scene.blind("nothing scraped", "missing", silent).await?;
    scene.load.silent(false);
    scene.sees_again("scraped again").await?;

    bed.remove_crd(Crd::DestinationRule).await?;
    wait_cycles(&scene.daemon, 3.0).await?;
    bed.create_crd(Crd::DestinationRule).await?;
    wait_cycles(&scene.daemon, 3.0).await?;

    scene.cut_off("API server killed", Server::ApiServer, false).await?;
    scene.cut_off("etcd frozen", Server::Etcd, true).await?;
    wait_input(&scene.daemon, "fresh").await?;
    scene.load.set("calm", 1500.0);
    scene.sees_again("after all faults").await?;
    Ok(())
}

/// Memory does not grow over many cycles: not by more than the noise of an allocator
/// between the first tenth and the end.
async fn memory_stays(bed: Arc<TestBed>) -> TestResult {
    let cycles: f64 = std::env::var("STORNX_E2E_CYCLES").map_or(Ok(300.0), |text| text.parse())?;
    let scene = scene(bed, &[("DEBOUNCE_SECONDS", "0.01")]).await?;
    // Each change of a node triggers a cycle.
    let nodes: Api<Node> = Api::all(scene.admin.clone());
    let name = nodes.list(&Default::default()).await?.items[0].metadata.name.clone();
    let name = name.ok_or("a node has a name")?;
    let mut highest_early: f64 = 0.0;
    let (mut done, mut change) = (0.0, 0_u64);
    let mut progress = (done, Instant::now());
    while done < cycles {
        if done > progress.0 {
            progress = (done, Instant::now());
        } else if progress.1.elapsed() > SOON {
            return Err(format!("no cycles after changes any more, after {done}").into());
        }
        for _ in 0..20 {
            change += 1;
            let cordon = json!({"spec": {"unschedulable": change % 2 == 1}});
            nodes.patch(&name, &PatchParams::default(), &Patch::Merge(cordon)).await?;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        done = 0.0;
        for result in ["clean", "partial"] {
            let labels = [("cause", "change"), ("result", result)];
            done += scene.daemon.metric("stornx_cycles_total", &labels).await?.unwrap_or_default();
        }
        if done < cycles / 5.0 {
            highest_early = highest_early.max(scene.daemon.memory().await?);
        }
    }
    let last = scene.daemon.memory().await?;
    let mebibytes = |bytes: f64| bytes / f64::from(1 << 20);
    println!(
        "{done} cycles after changes: {:.1} MiB at most in the first fifth, {:.1} MiB at the end",
        mebibytes(highest_early),
        mebibytes(last)
    );
    if last > highest_early * 1.1 + f64::from(2 << 20) {
        return Err(format!("{:.1} MiB more", mebibytes(last - highest_early)).into());
    }
    Ok(())
}
