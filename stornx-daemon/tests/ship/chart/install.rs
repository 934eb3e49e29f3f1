//! The chart on a real API server: installed into a namespace of the level `restricted`, upgraded
//! from a dry run to acting, and uninstalled, with the daemon running under the service account
//! of the release and with the settings that it mounts. Only the container is not real.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::{apps::v1::Deployment, core::v1::Namespace};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    discovery::{Discovery, verbs},
};
use serde_json::{Value, json};
use stornx_testbed::{
    Options, TestBed,
    apps::{self, Workload},
    harness::Test,
    prometheus::Scrape,
    wait::until,
};

use crate::{
    Failure,
    support::{
        SOON, TestResult,
        audit::{Audit, Place},
        daemon::{Daemon, stornx, wait_cycles},
        load::Load,
        seen,
    },
    tools::{chart, helm, said},
};

/// What the release is managed as.
const ACCOUNT: &str = "system:serviceaccount:stornx:stornx";
const SHOP: &str = "shop";

pub(crate) fn tests() -> Vec<Test> {
    let (options, log) = Audit::of("chart-audit", "Metadata", &[ACCOUNT], Options::default());
    vec![Test::own("chart_install_upgrade_uninstall", options, |bed| async move {
        life(bed, log).await
    })]
}

async fn life(bed: Arc<TestBed>, log: Audit) -> TestResult {
    let admin = bed.client("admin").await?;
    restricted_namespace(&admin).await?;
    apps::namespace(&admin, SHOP).await?;
    super::branches::notes(&bed.kubeconfig("admin"))?;
    let before = everything(&admin).await?;
    let load = Load::start(admin.clone(), SHOP).await?;
    let prometheus = bed.start_prometheus(&Scrape::each_second([load.address])).await?;
    for (name, replicas, used) in [("busy", 2, 300.0), ("idle", 4, 10.0)] {
        load.set(name, used);
        Workload::new(SHOP, name, replicas).create(&admin).await?;
    }

    // Looks, and cannot do more.
    let url = format!("config.prometheusUrl={}", prometheus.url());
    let values = ["--set", &url, "--set-json", QUICK];
    release(&bed, "install", &[&values[..], &["--wait", "--timeout", "60s"]].concat())?;
    test_pod(&bed, &admin).await?;
    let mut place = Place::default();
    // What that pod would run.
    let (_, settings) = mounted(&bed, &admin, "plan").await?;
    let plan = said(stornx(&bed, ACCOUNT, &settings).arg("plan"))?;
    if !plan.contains("busy") {
        return Err(format!("no word of the workload: {plan}").into());
    }
    let daemon = start(&bed, &admin, "dry").await?;
    daemon.wait_ready().await?;
    wait_cycles(&daemon, 3.0).await?;
    drop(daemon);
    let (used, refused) = asked(&log, &mut place)?;
    if !refused.is_empty() || used.iter().any(|right| !reads(right)) {
        return Err(format!("dry run: used {used:?}, refused {refused:?}").into());
    }

    // Acts, after an upgrade that keeps everything else.
    release(&bed, "upgrade", &["--reuse-values", "--set", "config.dryRun=false", "--wait"])?;
    let mut daemon = start(&bed, &admin, "acting").await?;
    daemon.wait_ready().await?;
    until("both to be scaled", SOON, || async {
        let said = |name, what| seen::events(&admin, SHOP, name, what);
        let up = said("busy", "ScaledUp").await.map_err(|error| error.to_string())?;
        let down = said("idle", "ScaledDown").await.map_err(|error| error.to_string())?;
        if up.is_empty() || down.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await?;
    // As the notes of the chart look for them.
    let events: Api<k8s_openapi::api::core::v1::Event> = Api::all(admin.clone());
    let ours = ListParams::default().fields("reportingComponent=stornx.io/stornx");
    if events.list(&ours).await?.items.is_empty() {
        return Err("the notes of the chart do not find the events".into());
    }
    until("the webhook to be registered", SOON, || async {
        match registered(&admin).await.map_err(|error| error.to_string())? {
            (namespaces, true, 1) if namespaces == json!([SHOP]) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;

    // Another upgrade, while it runs, takes nothing of what it wrote.
    let memory = memory(&admin).await?;
    release(&bed, "upgrade", &["--reuse-values", "--set", "config.logLevel=debug"])?;
    let (namespaces, trusted, endpoints) = registered(&admin).await?;
    if namespaces != json!([SHOP]) || !trusted || endpoints != 1 {
        return Err(format!("after an upgrade: {namespaces} {trusted} {endpoints}").into());
    }
    if memory.is_empty() || self::memory(&admin).await?.is_empty() {
        return Err("the memory is gone".into());
    }
    wait_cycles(&daemon, 2.0).await?;
    daemon.terminate().await?;
    let (used, refused) = asked(&log, &mut place)?;
    if !refused.is_empty() {
        return Err(format!("acting: refused {refused:?}").into());
    }

    release(&bed, "uninstall", &["--wait"])?;
    until("everything of the release to be gone", SOON, || async {
        let now = everything(&admin).await.map_err(|error| error.to_string())?;
        let left: Vec<_> = now.difference(&before).filter(|id| !id.contains("/shop/")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await?;
    println!("chart: installed, upgraded twice and uninstalled; {} rights used", used.len());
    Ok(())
}

/// What the daemon of a test needs to be quick, as values.
const QUICK: &str = r#"config={"namespaces":["shop"],"appPort":3000,"cronjobExpression":"* * * * * *",
"debounceSeconds":0.2,"metricsType":"cpu","metricsMaxAgeSeconds":5,"kubernetes":{"leaseSeconds":6,
"writeTimeoutSeconds":2,"clusterMaxAgeSeconds":5},"prometheus":{"rateWindowSeconds":5},
"scaler":{"cooldownSeconds":3}}"#;

async fn restricted_namespace(admin: &Client) -> TestResult {
    let level = "pod-security.kubernetes.io/enforce";
    let namespace: Namespace = serde_json::from_value(json!({
        "metadata": {"name": "stornx", "labels": {level: "restricted"}}
    }))?;
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    namespaces.create(&Default::default(), &namespace).await?;
    // The level is enforced: a pod as most charts have it is refused.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(admin.clone(), "stornx");
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "loose"}, "spec": {"containers": [{"name": "a", "image": "a"}]}
    }))?;
    match pods.create(&kube::api::PostParams { dry_run: true, ..Default::default() }, &pod).await {
        Err(error) if error.to_string().contains("restricted") => Ok(()),
        other => Err(format!("a pod without security context: {other:?}").into()),
    }
}

/// Runs Helm on the release.
fn release(bed: &TestBed, verb: &str, more: &[&str]) -> TestResult {
    let mut command = helm()?;
    command.env("KUBECONFIG", bed.kubeconfig("admin")).args([verb, "stornx"]);
    if verb != "uninstall" {
        command.arg(chart());
    }
    command.args(["--namespace", "stornx"]).args(more);
    said(&mut command).map_err(|error| format!("helm {verb}: {error}"))?;
    Ok(())
}

/// `helm test`, in which the pod is ended as its container would: nothing runs here.
async fn test_pod(bed: &TestBed, admin: &Client) -> TestResult {
    let mut command = helm()?;
    command.env("KUBECONFIG", bed.kubeconfig("admin"));
    command.args(["test", "stornx", "--namespace", "stornx", "--timeout", "60s"]);
    let testing = tokio::task::spawn_blocking(move || said(&mut command));
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(admin.clone(), "stornx");
    until("the pod of the test to end", SOON, || async {
        let done = json!({"status": {"phase": "Succeeded"}});
        let patch = Patch::Merge(&done);
        let patched = pods.patch_status("stornx-dry-run", &PatchParams::default(), &patch).await;
        patched.map(drop).map_err(|error| error.to_string())
    })
    .await?;
    testing.await??;
    // It stays for its log; the documentation says to delete it.
    pods.delete("stornx-dry-run", &Default::default()).await?;
    Ok(())
}

/// The daemon, with the settings that its pod mounts and as its service account.
async fn start(bed: &TestBed, admin: &Client, name: &str) -> Result<Daemon, Failure> {
    let (container, settings) = mounted(bed, admin, name).await?;
    if container["args"] != json!(["run"]) || container["env"][0]["name"] != "STORNX_CONFIG" {
        return Err(format!("another container: {container}").into());
    }
    Daemon::start(bed, ACCOUNT, name, &settings).await
}

/// Settings for a process in the place of the container.
type Mounted = (Value, Vec<(&'static str, String)>);

/// The container of the Deployment, and what it would see.
async fn mounted(bed: &TestBed, admin: &Client, name: &str) -> Result<Mounted, Failure> {
    let deployments: Api<Deployment> = Api::namespaced(admin.clone(), "stornx");
    let deployment = serde_json::to_value(deployments.get("stornx").await?)?;
    let container = deployment["spec"]["template"]["spec"]["containers"][0].clone();
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(admin.clone(), "stornx");
    let settings = maps.get("stornx-settings").await?.data.unwrap_or_default();
    let file = bed.folder().join(format!("{name}.yaml"));
    std::fs::write(&file, settings.get("stornx.yaml").ok_or("no settings")?)?;
    let file = file.to_string_lossy().into_owned();
    // A path of its own: the account has colons in its name, which part a list of paths.
    let kubeconfig = bed.folder().join("account.kubeconfig");
    std::fs::copy(bed.kubeconfig(ACCOUNT), &kubeconfig)?;
    let settings = vec![
        ("KUBECONFIG", kubeconfig.to_string_lossy().into_owned()),
        ("STORNX_CONFIG", file),
        ("POD_IP", "10.0.0.7".to_owned()),
        ("WEBHOOK_PORT", "0".to_owned()),
    ];
    Ok((container, settings))
}

type Rights = BTreeSet<(String, String)>;

/// What was used and what was refused since a place in the log.
fn asked(log: &Audit, place: &mut Place) -> Result<(Rights, Rights), Failure> {
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for event in log.entries_since(place)? {
        let target = &event["objectRef"];
        let (Some(verb), Some(resource)) = (event["verb"].as_str(), target["resource"].as_str())
        else {
            continue;
        };
        let into = if event["responseStatus"]["code"] == 403 { &mut refused } else { &mut used };
        into.insert((verb.to_owned(), resource.to_owned()));
    }
    Ok((used, refused))
}

fn reads((verb, _): &(String, String)) -> bool {
    ["get", "list", "watch"].contains(&verb.as_str())
}

/// What the webhook is asked about, whether it is trusted, and how many addresses it has.
async fn registered(admin: &Client) -> Result<(Value, bool, usize), Failure> {
    use k8s_openapi::api::{
        admissionregistration::v1::MutatingWebhookConfiguration, discovery::v1::EndpointSlice,
    };
    let hooks: Api<MutatingWebhookConfiguration> = Api::all(admin.clone());
    let hook = serde_json::to_value(hooks.get("stornx").await?)?;
    let slices: Api<EndpointSlice> = Api::namespaced(admin.clone(), "stornx");
    let slice = slices.get("stornx-webhook").await?;
    let webhook = &hook["webhooks"][0];
    let values = webhook["namespaceSelector"]["matchExpressions"][0]["values"].clone();
    Ok((values, webhook["clientConfig"]["caBundle"].is_string(), slice.endpoints.len()))
}

/// What is remembered.
async fn memory(admin: &Client) -> Result<String, Failure> {
    let maps: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(admin.clone(), "stornx");
    let map = serde_json::to_value(maps.get("stornx").await?)?;
    Ok([&map["data"], &map["binaryData"]]
        .map(|part| part.as_object().map_or(String::new(), |_| part.to_string()))
        .concat())
}

/// Every object of the cluster: group, kind, namespace, name. What comes and goes by itself is
/// left out.
async fn everything(admin: &Client) -> Result<BTreeSet<String>, Failure> {
    let mut ids = BTreeSet::new();
    for group in Discovery::new(admin.clone()).run().await?.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            // Events age, and the addresses of Services are the API server's own books, which
            // it goes through every few minutes.
            let passing = ["Event", "IPAddress"].contains(&resource.kind.as_str());
            if passing || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(admin.clone(), &resource);
            for object in api.list(&ListParams::default()).await?.items {
                let namespace = object.metadata.namespace.unwrap_or_default();
                let name = object.metadata.name.unwrap_or_default();
                ids.insert(format!("{}/{namespace}/{name}", resource.kind));
            }
        }
    }
    Ok(ids)
}
