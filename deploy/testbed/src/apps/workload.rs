//! One Deployment and its Service, as data, and what tests do with a running one.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Pod, Service},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use stornx_core::units::{Bytes, MilliCpu, Resources};

use super::objects::{create, typed};
use crate::{
    cluster::stages::READY,
    error::{BedError, Result, Tried},
    wait::until,
};

/// A Deployment of one container and the Service in front of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Name of the Deployment, of the Service and value of the label `app`.
    pub name: String,
    /// Replicas.
    pub replicas: u32,
    /// What one replica asks for.
    pub requests: Resources,
    /// What one replica may use.
    pub limits: Option<Resources>,
    /// The Service's port is named `tcp` instead of `http`.
    pub tcp: bool,
    /// Annotations of the Deployment.
    pub annotations: BTreeMap<String, String>,
    /// Annotations of its pods.
    pub pod_annotations: BTreeMap<String, String>,
    /// Labels that a node must have.
    pub node_selector: BTreeMap<String, String>,
    /// Its pods are spread evenly over the zones, whatever it costs.
    pub spread: bool,
    /// Mounts the claim `NAME-data`.
    pub claim: bool,
    /// `spec.paused`.
    pub paused: bool,
}

/// How a rollout goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roll {
    /// New pods become Ready and replace the old ones.
    Through,
    /// New pods never become Ready: the rollout stands until the next one.
    Stuck,
}

impl Workload {
    /// A workload with the requests of a small service of the boutique.
    #[must_use]
    pub fn new(namespace: &str, name: &str, replicas: u32) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            replicas,
            requests: Resources { cpu: MilliCpu::new(100), memory: Bytes::new(64 << 20) },
            limits: None,
            tcp: false,
            annotations: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            node_selector: BTreeMap::new(),
            spread: false,
            claim: false,
            paused: false,
        }
    }

    /// Its owner wants StornX to leave it alone.
    #[must_use]
    pub fn opted_out(self) -> Self {
        self.annotated("stornx.io/policy", "off")
    }

    /// With an annotation on the Deployment, e.g. one by which its owner opts out.
    #[must_use]
    pub fn annotated(mut self, key: &str, value: &str) -> Self {
        self.annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With an annotation on its pods, e.g. one of [`stages`](crate::cluster::stages).
    #[must_use]
    pub fn pods_annotated(mut self, key: &str, value: &str) -> Self {
        self.pod_annotations.insert(key.to_owned(), value.to_owned());
        self
    }

    /// With `spec.paused`.
    #[must_use]
    pub fn paused(mut self) -> Self {
        self.paused = true;
        self
    }

    /// Only on nodes of one zone.
    #[must_use]
    pub fn in_zone(mut self, zone: &str) -> Self {
        self.node_selector.insert("topology.kubernetes.io/zone".to_owned(), zone.to_owned());
        self
    }

    /// Spread evenly over the zones.
    #[must_use]
    pub fn spread(mut self) -> Self {
        self.spread = true;
        self
    }

    /// Asking for this much a replica.
    #[must_use]
    pub fn asking(mut self, requests: Resources) -> Self {
        self.requests = requests;
        self
    }

    /// The label by which its pods are found.
    #[must_use]
    pub fn selector(&self) -> String {
        format!("app={}", self.name)
    }

    /// The Deployment.
    ///
    /// # Errors
    /// When a field is not what Kubernetes expects.
    pub fn deployment(&self) -> Result<Deployment> {
        let mut resources = json!({"requests": quantities(&self.requests)});
        if let Some(limits) = &self.limits {
            resources["limits"] = quantities(limits);
        }
        let mut container = json!({
            "name": self.name,
            "image": format!("{}:testbed", self.name),
            "ports": [{"name": self.port_name(), "containerPort": 8080}],
            "resources": resources,
        });
        let mut pod = json!({});
        if self.claim {
            container["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
            pod["volumes"] = json!([{
                "name": "data",
                "persistentVolumeClaim": {"claimName": self.claim_name()},
            }]);
        }
        if !self.node_selector.is_empty() {
            pod["nodeSelector"] = json!(self.node_selector);
        }
        pod["containers"] = json!([container]);
        let labels = json!({"app": self.name});
        if self.spread {
            pod["topologySpreadConstraints"] = json!([{
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": labels},
            }]);
        }
        typed(
            &format!("Deployment {}", self.name),
            json!({
                "metadata": {
                    "name": self.name,
                    "namespace": self.namespace,
                    "labels": labels,
                    "annotations": self.annotations,
                },
                "spec": {
                    "replicas": self.replicas,
                    "paused": self.paused,
                    "selector": {"matchLabels": labels},
                    "template": {
                        "metadata": {"labels": labels, "annotations": self.pod_annotations},
                        "spec": pod,
                    },
                },
            }),
        )
    }

    /// The Service.
    ///
    /// # Errors
    /// When a field is not what Kubernetes expects.
    pub fn service(&self) -> Result<Service> {
        typed(
            &format!("Service {}", self.name),
            json!({
                "metadata": {"name": self.name, "namespace": self.namespace},
                "spec": {
                    "selector": {"app": self.name},
                    "ports": [{"name": self.port_name(), "port": 80, "targetPort": 8080}],
                },
            }),
        )
    }

    /// The claim of [`Workload::claim`].
    #[must_use]
    pub fn claim_name(&self) -> String {
        format!("{}-data", self.name)
    }

    fn port_name(&self) -> &'static str {
        if self.tcp { "tcp" } else { "http" }
    }

    /// Creates both.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn create(&self, client: &Client) -> Result<()> {
        create(client, &self.service()?).await?;
        create(client, &self.deployment()?).await
    }

    /// Starts a rollout by changing the pod template.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn roll(&self, client: &Client, roll: Roll) -> Result<()> {
        let api: Api<Deployment> = Api::namespaced(client.clone(), &self.namespace);
        let ready = (roll == Roll::Through).to_string();
        let rolled = || format!("roll {}", self.name);
        let before = api.get(&self.name).await.tried(rolled)?;
        let revision = before.metadata.generation.unwrap_or_default().to_string();
        let patch = json!({"spec": {"template": {"metadata": {"annotations": {
            "testbed.stornx.io/rolled-at": revision,
            READY: ready,
        }}}}});
        api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .tried(rolled)?;
        Ok(())
    }
}

fn quantities(resources: &Resources) -> Value {
    json!({"cpu": resources.cpu.to_string(), "memory": resources.memory.to_string()})
}

/// The Ready pods of a workload that are not being deleted.
///
/// # Errors
/// When the API server does not answer.
pub async fn ready_pods(client: &Client, namespace: &str, selector: &str) -> Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let chosen = ListParams::default().labels(selector).match_any();
    let found = api.list(&chosen).await.tried(|| format!("list pods {selector} of {namespace}"))?;
    Ok(found.items.into_iter().filter(is_ready).collect())
}

/// Whether a pod is Ready and not being deleted.
#[must_use]
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions.any(|one| one.type_ == "Ready" && one.status == "True")
}

/// Waits until a Deployment has exactly `replicas` Ready pods.
///
/// # Errors
/// [`BedError::Deadline`] with what was seen last.
pub async fn wait_ready(
    client: &Client,
    workload: &Workload,
    replicas: usize,
    limit: Duration,
) -> Result<Vec<Pod>> {
    let what = format!("{replicas} ready pods of {}", workload.name);
    until(&what, limit, || async {
        let pods = ready_pods(client, &workload.namespace, &workload.selector()).await;
        let pods = pods.map_err(|error: BedError| error.to_string())?;
        if pods.len() == replicas { Ok(pods) } else { Err(format!("{} ready", pods.len())) }
    })
    .await
}
