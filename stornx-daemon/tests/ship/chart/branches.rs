//! Every branch of the templates: rendered with values, compared as objects.

use std::path::Path;

use serde_json::{Value, json};
use stornx_testbed::harness::Test;

use crate::{
    Failure,
    support::TestResult,
    tools::{Objects, objects, rendered},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        Test::plain("chart_objects_by_values", || async { sets_of_objects() }),
        Test::plain("chart_fields_by_values", || async { fields() }),
        Test::plain("chart_is_restricted", || async { restricted() }),
        Test::plain("chart_log_level_needs_no_new_pod", || async { log_level() }),
        Test::plain("chart_webhook_is_that_of_deploy_webhook", || async { webhook() }),
    ]
}

const ACT: &str = "config.dryRun=false";

/// What is there in a dry run.
const ALWAYS: [&str; 9] = [
    "ClusterRole/stornx-read",
    "ClusterRoleBinding/stornx-read",
    "ConfigMap/stornx-settings",
    "Deployment/stornx",
    "Pod/stornx-dry-run",
    "Role/stornx-own",
    "RoleBinding/stornx-own",
    "Service/stornx",
    "ServiceAccount/stornx",
];

/// What comes with writing.
const ACTING: [&str; 9] = [
    "ClusterRole/stornx-webhook",
    "ClusterRoleBinding/stornx-webhook",
    "ConfigMap/stornx",
    "EndpointSlice/stornx-webhook",
    "Lease/stornx",
    "MutatingWebhookConfiguration/stornx",
    "Role/default/stornx-write",
    "RoleBinding/default/stornx-write",
    "Service/stornx-webhook",
];

/// Values, what comes with them, and what goes.
fn sets_of_objects() -> TestResult {
    let cases: [(&[&str], &[&str], &[&str]); 18] = [
        (&[], &[], &[]),
        (&[ACT], &ACTING, &[]),
        (
            &[ACT, "config.webhook.enabled=false"],
            &[
                "ConfigMap/stornx",
                "Lease/stornx",
                "Role/default/stornx-write",
                "RoleBinding/default/stornx-write",
            ],
            &[],
        ),
        (&["serviceAccount.create=false"], &[], &["ServiceAccount/stornx"]),
        (&["test.enabled=false"], &[], &["Pod/stornx-dry-run"]),
        (
            &["rbac.create=false"],
            &[],
            &[
                "ClusterRole/stornx-read",
                "ClusterRoleBinding/stornx-read",
                "Role/stornx-own",
                "RoleBinding/stornx-own",
            ],
        ),
        (&["replicaCount=2"], &["PodDisruptionBudget/stornx"], &[]),
        (&["replicaCount=2", "podDisruptionBudget.enabled=false"], &[], &[]),
        (&["priorityClass.create=true"], &["PriorityClass/stornx"], &[]),
        (&["priorityClass.create=true", "priorityClassName=high"], &[], &[]),
        (&["networkPolicy.enabled=true"], &["NetworkPolicy/stornx"], &[]),
        (&["serviceMonitor.enabled=true"], &["ServiceMonitor/stornx"], &[]),
        (&["prometheusRule.enabled=true"], &["PrometheusRule/stornx"], &[]),
        (&["dashboard.enabled=true"], &["ConfigMap/stornx-dashboard"], &[]),
        (&["historyVolume.enabled=true"], &["PersistentVolumeClaim/stornx-history"], &[]),
        (&["historyVolume.enabled=true", "historyVolume.existingClaim=mine"], &[], &[]),
        // Certificates are of use only where the webhook is.
        (&["webhook.certificates=cert-manager"], &[], &[]),
        (&["config.webhook.enabled=true"], &[], &[]),
    ];
    for (values, more, less) in cases {
        let mut wanted: Vec<&str> = ALWAYS.iter().chain(more).copied().collect();
        wanted.retain(|name| !less.contains(name));
        wanted.sort_unstable();
        let names = objects(values)?.names();
        if names != wanted {
            return Err(format!("{values:?}: {names:?}, not {wanted:?}").into());
        }
    }
    let managed = [ACT, "webhook.certificates=cert-manager"];
    let objects = objects(&managed)?;
    for name in ["Issuer/stornx-webhook", "Certificate/stornx-webhook"] {
        objects.get(name)?;
    }
    Ok(())
}

/// One field of one object.
struct Field {
    values: &'static [&'static str],
    object: &'static str,
    path: &'static str,
    wanted: Value,
}

fn field(
    values: &'static [&'static str],
    object: &'static str,
    path: &'static str,
    wanted: Value,
) -> Field {
    Field { values, object, path, wanted }
}

const DEPLOYMENT: &str = "Deployment/stornx";
const POD: &str = "/spec/template/spec";
const HOOK: &str = "MutatingWebhookConfiguration/stornx";

#[rustfmt::skip] // One field, one line: a table reads better.
fn all_fields() -> Vec<Field> {
    let certificate = json!({"kind": "ClusterIssuer", "name": "ours"});
    vec![
        field(&[], DEPLOYMENT, "/spec/replicas", json!(1)),
        field(&["replicaCount=3"], DEPLOYMENT, "/spec/replicas", json!(3)),
        field(&["replicaCount=3"], DEPLOYMENT, "/spec/template/spec/topologySpreadConstraints/0/topologyKey", json!("topology.kubernetes.io/zone")),
        field(&[], DEPLOYMENT, "/spec/template/spec/topologySpreadConstraints", Value::Null),
        field(&["topologySpreadConstraints[0].topologyKey=x"], DEPLOYMENT, "/spec/template/spec/topologySpreadConstraints/0", json!({"topologyKey": "x"})),
        field(&[], DEPLOYMENT, "/spec/template/spec/containers/0/image", json!(concat!("ghcr.io/stornx/stornx:", env!("CARGO_PKG_VERSION")))),
        field(&["image.repository=r/s", "image.tag=t"], DEPLOYMENT, "/spec/template/spec/containers/0/image", json!("r/s:t")),
        field(&["image.repository=r/s", "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"], DEPLOYMENT, "/spec/template/spec/containers/0/image", json!("r/s@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")),
        field(&["imagePullSecrets[0].name=s"], DEPLOYMENT, "/spec/template/spec/imagePullSecrets", json!([{"name": "s"}])),
        field(&["config.appPort=8080"], DEPLOYMENT, "/spec/template/spec/containers/0/ports/0/containerPort", json!(8080)),
        field(&[], DEPLOYMENT, "/spec/template/spec/containers/0/ports/1", Value::Null),
        field(&[ACT, "config.webhook.port=9443"], DEPLOYMENT, "/spec/template/spec/containers/0/ports/1/containerPort", json!(9443)),
        field(&[ACT, "config.webhook.port=9443"], "Service/stornx-webhook", "/spec/ports/0/targetPort", json!(9443)),
        field(&[], DEPLOYMENT, "/spec/template/spec/containers/0/readinessProbe/httpGet", json!({"path": "/readyz", "port": "http"})),
        field(&[], DEPLOYMENT, "/spec/template/spec/containers/0/livenessProbe/httpGet", json!({"path": "/healthz", "port": "http"})),
        field(&[], DEPLOYMENT, "/spec/template/spec/containers/0/startupProbe", Value::Null),
        field(&["startupProbe.enabled=true"], DEPLOYMENT, "/spec/template/spec/containers/0/startupProbe/failureThreshold", json!(30)),
        field(&["livenessProbe.enabled=false"], DEPLOYMENT, "/spec/template/spec/containers/0/livenessProbe", Value::Null),
        field(&["readinessProbe.enabled=false"], DEPLOYMENT, "/spec/template/spec/containers/0/readinessProbe", Value::Null),
        field(&["extraEnv[0].name=A", "extraEnv[0].value=b"], DEPLOYMENT, "/spec/template/spec/containers/0/env/2", json!({"name": "A", "value": "b"})),
        field(&["prometheusSecret=p"], DEPLOYMENT, "/spec/template/spec/volumes/1", json!({"name": "prometheus", "secret": {"secretName": "p"}})),
        field(&["prometheusSecret=p"], DEPLOYMENT, "/spec/template/spec/containers/0/volumeMounts/1/mountPath", json!("/etc/stornx/prometheus")),
        field(&["volumes[0].name=v", "volumeMounts[0].name=v"], DEPLOYMENT, "/spec/template/spec/volumes/1/name", json!("v")),
        field(&["historyVolume.enabled=true"], DEPLOYMENT, "/spec/template/spec/volumes/1/persistentVolumeClaim/claimName", json!("stornx-history")),
        field(&["historyVolume.enabled=true"], DEPLOYMENT, "/spec/template/spec/containers/0/volumeMounts/1/mountPath", json!("/var/lib/stornx")),
        field(&["historyVolume.enabled=true", "historyVolume.existingClaim=mine"], DEPLOYMENT, "/spec/template/spec/volumes/1/persistentVolumeClaim/claimName", json!("mine")),
        // The volume of one node cannot be held by two pods.
        field(&["historyVolume.enabled=true"], DEPLOYMENT, "/spec/strategy/rollingUpdate", json!({"maxSurge": 0, "maxUnavailable": 1})),
        field(&[], DEPLOYMENT, "/spec/strategy/rollingUpdate", json!({"maxSurge": 1, "maxUnavailable": 0})),
        field(&["historyVolume.enabled=true", "historyVolume.size=1Gi", "historyVolume.storageClass=fast"], "PersistentVolumeClaim/stornx-history", "/spec", json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast"})),
        field(&["historyVolume.enabled=true", "replicaCount=2", "historyVolume.accessMode=ReadWriteMany"], "PersistentVolumeClaim/stornx-history", "/spec/accessModes", json!(["ReadWriteMany"])),
        field(&["volumes[0].name=v", "volumeMounts[0].name=v"], DEPLOYMENT, "/spec/template/spec/containers/0/volumeMounts/1/name", json!("v")),
        field(&["priorityClass.create=true"], DEPLOYMENT, "/spec/template/spec/priorityClassName", json!("stornx")),
        field(&["priorityClass.create=true"], "PriorityClass/stornx", "/value", json!(1_000_000)),
        field(&["priorityClassName=high"], DEPLOYMENT, "/spec/template/spec/priorityClassName", json!("high")),
        field(&["nodeSelector.a=b"], DEPLOYMENT, "/spec/template/spec/nodeSelector", json!({"a": "b"})),
        field(&["tolerations[0].key=k"], DEPLOYMENT, "/spec/template/spec/tolerations", json!([{"key": "k"}])),
        field(&["affinity.podAffinity.x=y"], DEPLOYMENT, "/spec/template/spec/affinity", json!({"podAffinity": {"x": "y"}})),
        field(&["podLabels.a=b"], DEPLOYMENT, "/spec/template/metadata/labels/a", json!("b")),
        field(&["podAnnotations.a=b"], DEPLOYMENT, "/spec/template/metadata/annotations/a", json!("b")),
        field(&["serviceAccount.create=false"], DEPLOYMENT, "/spec/template/spec/serviceAccountName", json!("default")),
        field(&["serviceAccount.name=own"], DEPLOYMENT, "/spec/template/spec/serviceAccountName", json!("own")),
        field(&["serviceAccount.annotations.a=b"], "ServiceAccount/stornx", "/metadata/annotations", json!({"a": "b"})),
        field(&["service.annotations.a=b"], "Service/stornx", "/metadata/annotations", json!({"a": "b"})),
        field(&["service.port=80"], "Service/stornx", "/spec/ports/0/port", json!(80)),
        field(&["replicaCount=2", "podDisruptionBudget.maxUnavailable=50%"], "PodDisruptionBudget/stornx", "/spec/maxUnavailable", json!("50%")),
        field(&["rbac.extraRules[0].verbs[0]=get"], "ClusterRole/stornx-read", "/rules/8", json!({"verbs": ["get"]})),
        field(&["networkPolicy.enabled=true"], "NetworkPolicy/stornx", "/spec/egress/2/ports/0/port", json!(9090)),
        field(&["networkPolicy.enabled=true", "config.prometheusUrl=https://p"], "NetworkPolicy/stornx", "/spec/egress/2/ports/0/port", json!(443)),
        field(&["networkPolicy.enabled=true", "config.prometheusUrl=http://p"], "NetworkPolicy/stornx", "/spec/egress/2/ports/1/port", json!(9090)),
        field(&["networkPolicy.enabled=true"], "NetworkPolicy/stornx", "/spec/egress/2/ports/1", Value::Null),
        field(&["networkPolicy.enabled=true", "networkPolicy.prometheusPort=9000"], "NetworkPolicy/stornx", "/spec/egress/2/ports/1", Value::Null),
        field(&["networkPolicy.enabled=true", "config.prometheusUrl=http://p"], "NetworkPolicy/stornx", "/spec/egress/2/ports/0/port", json!(80)),
        field(&["networkPolicy.enabled=true", "networkPolicy.prometheusPort=9000"], "NetworkPolicy/stornx", "/spec/egress/2/ports/0/port", json!(9000)),
        field(&["networkPolicy.enabled=true", "networkPolicy.extraEgress[0].a=b"], "NetworkPolicy/stornx", "/spec/egress/3", json!({"a": "b"})),
        field(&["networkPolicy.enabled=true", "networkPolicy.httpFrom[0].podSelector.a=b"], "NetworkPolicy/stornx", "/spec/ingress/0/from", json!([{"podSelector": {"a": "b"}}])),
        field(&["networkPolicy.enabled=true"], "NetworkPolicy/stornx", "/spec/ingress/1", Value::Null),
        field(&["networkPolicy.enabled=true", ACT], "NetworkPolicy/stornx", "/spec/ingress/1/ports/0/port", json!("webhook")),
        field(&["serviceMonitor.enabled=true", "serviceMonitor.labels.a=b"], "ServiceMonitor/stornx", "/metadata/labels/a", json!("b")),
        field(&["serviceMonitor.enabled=true"], "ServiceMonitor/stornx", "/spec/endpoints/0/port", json!("http")),
        field(&["dashboard.enabled=true"], "ConfigMap/stornx-dashboard", "/metadata/labels/grafana_dashboard", json!("1")),
        field(&[ACT, "webhook.certificates=secret", "webhook.existingSecret=tls", "webhook.caBundle=Zm9v"], HOOK, "/webhooks/0/clientConfig/caBundle", json!("Zm9v")),
        field(&[ACT, "webhook.certificates=secret", "webhook.existingSecret=tls"], DEPLOYMENT, "/spec/template/spec/volumes/1/secret/secretName", json!("tls")),
        field(&[ACT, "webhook.certificates=cert-manager"], HOOK, "/metadata/annotations", json!({"cert-manager.io/inject-ca-from": "stornx/stornx-webhook"})),
        field(&[ACT, "webhook.certificates=cert-manager"], "Certificate/stornx-webhook", "/spec/issuerRef", json!({"kind": "Issuer", "name": "stornx-webhook"})),
        field(&[ACT, "webhook.certificates=cert-manager", "webhook.issuerRef.kind=ClusterIssuer", "webhook.issuerRef.name=ours"], "Certificate/stornx-webhook", "/spec/issuerRef", certificate),
        field(&[ACT, "webhook.objectSelector.matchLabels.a=b"], HOOK, "/webhooks/0/objectSelector", json!({"matchLabels": {"a": "b"}})),
        field(&[ACT, "webhook.addressType=IPv6"], "EndpointSlice/stornx-webhook", "/addressType", json!("IPv6")),
        // The names of everything that StornX looks for follow the release.
        field(&[ACT, "fullnameOverride=other"], "MutatingWebhookConfiguration/other", "/webhooks/0/clientConfig/service/name", json!("other-webhook")),
        field(&[ACT, "config.kubernetes.ownName=own"], "Role/stornx-own", "/rules/1/resourceNames", json!(["own"])),
        field(&["nameOverride=zed"], "Deployment/stornx-zed", "/spec/selector/matchLabels/app.kubernetes.io~1name", json!("zed")),
        field(&["namespace=else"], "Deployment/else/stornx", "/spec/template/spec/serviceAccountName", json!("stornx")),
    ]
}

fn fields() -> TestResult {
    for Field { values, object, path, wanted } in all_fields() {
        let objects = objects(values).map_err(|error| format!("{values:?}: {error}"))?;
        let found = objects.get(object)?.pointer(path).unwrap_or(&Value::Null);
        if *found != wanted {
            return Err(format!("{values:?}: {object}{path} is {found}, not {wanted}").into());
        }
    }
    match objects(&["historyVolume.enabled=true", "replicaCount=2"]) {
        Err(error) if error.to_string().contains("must be ReadWriteMany") => {}
        Err(error) => return Err(error),
        Ok(_) => return Err("a volume of one node for two replicas".into()),
    }
    let missing = objects(&[ACT, "webhook.certificates=secret"]);
    match missing {
        Err(error) if error.to_string().contains("webhook.existingSecret is needed") => {}
        Err(error) => return Err(error),
        Ok(_) => return Err("certificates from a Secret without its name".into()),
    }
    for (values, settings) in [
        (
            &[ACT, "webhook.certificates=cert-manager"][..],
            "WEBHOOK_CERT_FILE: \"/etc/stornx/webhook/tls.crt\"",
        ),
        (&["config.env=development"][..], "LOG_FORMAT: \"text\""),
        (&["config.env=staging"][..], "LOG_FORMAT: \"auto\""),
        (&["historyVolume.enabled=true"][..], "HISTORY_FILE: \"/var/lib/stornx/history.json\""),
        (&["config.namespaces={b,a}"][..], "NAMESPACES: \"b,a\""),
    ] {
        let text = objects(values)?.settings()?;
        if !text.contains(settings) {
            return Err(format!("{values:?}: no {settings} in {text}").into());
        }
    }
    Ok(())
}

/// What Pod Security asks of `restricted`, of both pods.
fn restricted() -> TestResult {
    let objects = objects(&["replicaCount=2", ACT])?;
    let pods = [
        objects.get(DEPLOYMENT)?.pointer(POD).cloned().unwrap_or_default(),
        objects.get("Pod/stornx-dry-run")?["spec"].clone(),
    ];
    for pod in pods {
        let container = &pod["containers"][0]["securityContext"];
        let right = pod["securityContext"]["runAsNonRoot"] == true
            && pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
            && container["allowPrivilegeEscalation"] == false
            && container["readOnlyRootFilesystem"] == true
            && container["capabilities"] == json!({"drop": ["ALL"]})
            && pod["containers"][0]["resources"]["limits"]["memory"].is_string();
        if !right {
            return Err(format!("not restricted: {pod}").into());
        }
    }
    Ok(())
}

/// Settings that are followed while StornX runs do not restart it; others do.
fn log_level() -> TestResult {
    let sum = |values: &[&str]| -> Result<Value, Failure> {
        let objects = objects(values)?;
        Ok(objects.get(DEPLOYMENT)?["spec"]["template"]["metadata"]["annotations"]["checksum/settings"].clone())
    };
    let before = sum(&[])?;
    if before != sum(&["config.logLevel=debug"])? {
        return Err("another log level is another pod".into());
    }
    if before == sum(&["config.balancer.epsilon=2"])? {
        return Err("another setting is the same pod".into());
    }
    Ok(())
}

/// The manifest for those who do not use Helm says the same.
fn webhook() -> TestResult {
    let file = Objects::read(&crate::bless::file("deploy/webhook/stornx.yaml")?)?;
    let chart = objects(&[ACT])?;
    if file.get(HOOK)?["webhooks"] != chart.get(HOOK)?["webhooks"] {
        return Err("the configurations differ".into());
    }
    let name = "Service/stornx-webhook";
    let mut service = chart.get(name)?["spec"].clone();
    service["ports"][0].as_object_mut().map(|port| port.remove("protocol"));
    if file.get(name)?["spec"] != service {
        return Err(format!("the Services differ: {service}").into());
    }
    Ok(())
}

/// What Helm says after an installation; it wants to see a cluster for that.
pub(super) fn notes(kubeconfig: &Path) -> TestResult {
    let notes = |values: &[&str]| -> Result<String, Failure> {
        let mut command = crate::tools::helm()?;
        command.env("KUBECONFIG", kubeconfig);
        command.args(["install", "stornx"]).arg(crate::tools::chart());
        command.args(["--namespace", "stornx", "--dry-run=client"]).args(values);
        let text = crate::tools::said(&mut command)?;
        text.split_once("\nNOTES:\n")
            .map(|(_, notes)| notes.to_owned())
            .ok_or_else(|| "no notes".into())
    };
    let cases: [(&[&str], &[&str], &[&str]); 3] = [
        (
            &[],
            &["It writes nothing", "helm test stornx", "config.dryRun=false"],
            &["cleanup", "kiali"],
        ),
        (
            &["--set", ACT],
            &["manages default", "stornx cleanup", "config.dryRun=true"],
            &["It writes nothing"],
        ),
        (
            &["-f", "stornx-daemon/tests/ship/chart/original.yaml"],
            &["`kiali`", "`prometheus`", "`persistence`"],
            &[],
        ),
    ];
    for (values, says, silent) in cases {
        let text = notes(values)?;
        if let Some(missing) = says.iter().find(|part| !text.contains(**part)) {
            return Err(format!("{values:?}: no {missing:?} in {text}").into());
        }
        if let Some(part) = silent.iter().find(|part| text.contains(**part)) {
            return Err(format!("{values:?}: {part:?} in {text}").into());
        }
    }
    rendered(&["-f", "deploy/helm/stornx/values-development.yaml"])?;
    Ok(())
}
