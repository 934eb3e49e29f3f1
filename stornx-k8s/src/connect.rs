//! The connection: a client with time-outs, what the server is, and what it serves.
//!
//! Required is what exists since Kubernetes 1.23; what an older server lacks is named
//! at the start, all of it at once, instead of failing later. Optional APIs
//! (DestinationRules, WorkloadEntries, KEDA, pod metrics) are looked for again and again: they
//! appear when somebody installs them and vanish when somebody removes them. A look
//! that fails changes nothing of what is known, and what has vanished is believed at
//! the second look in a row: a server that has just started does not know of all kinds.

use std::{fmt, sync::Arc, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use stornx_core::ports::PortError;
use thiserror::Error;
use tokio::{sync::watch, task::JoinSet, time::sleep};

use crate::{
    error::{is_not_found, no_answer, port_error, within},
    stats::{DISCOVERY, ErrorStats},
};

/// An API that the cluster may or may not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OptionalApi {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    without: &'static str,
}

pub(crate) const DESTINATION_RULES: OptionalApi = OptionalApi {
    group: "networking.istio.io",
    version: "v1",
    kind: "DestinationRule",
    plural: "destinationrules",
    without: "no routes are planned",
};
pub(crate) const WORKLOAD_ENTRIES: OptionalApi = OptionalApi {
    group: "networking.istio.io",
    version: "v1",
    kind: "WorkloadEntry",
    plural: "workloadentries",
    without: "no machine outside the cluster is an endpoint",
};
pub(crate) const KEDA: OptionalApi = OptionalApi {
    group: "keda.sh",
    version: "v1alpha1",
    kind: "ScaledObject",
    plural: "scaledobjects",
    without: "no replica count belongs to KEDA",
};
pub(crate) const POD_METRICS: OptionalApi = OptionalApi {
    group: "metrics.k8s.io",
    version: "v1beta1",
    kind: "PodMetrics",
    plural: "pods",
    without: "CPU and memory are read from Prometheus",
};

/// Groups that the adapter cannot do without, and since when Kubernetes has them.
const REQUIRED: [(&str, &str, &str); 5] = [
    ("autoscaling", "v2", "1.23"),
    ("coordination.k8s.io", "v1", "1.14"),
    ("discovery.k8s.io", "v1", "1.21"),
    ("events.k8s.io", "v1", "1.19"),
    ("policy", "v1", "1.21"),
];

/// An optional API that is not served, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingApi {
    /// `group/version plural`.
    pub api: String,
    /// What StornX does without it, in plain words.
    pub consequence: &'static str,
}

impl fmt::Display for MissingApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not served: {}", self.api, self.consequence)
    }
}

/// Which optional APIs the cluster serves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// `networking.istio.io/v1` DestinationRules.
    pub destination_rules: bool,
    /// `networking.istio.io/v1` WorkloadEntries.
    pub workload_entries: bool,
    /// `keda.sh/v1alpha1` ScaledObjects.
    pub keda: bool,
    /// `metrics.k8s.io/v1beta1` pods.
    pub pod_metrics: bool,
    /// Those that are not there.
    pub missing: Vec<MissingApi>,
}

impl Capabilities {
    /// Whether something that `before` has is missing here.
    fn lacks(&self, before: &Self) -> bool {
        self.missing.iter().any(|api| !before.missing.contains(api))
    }
}

/// Where the connection comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Access {
    /// The service account of the pod.
    #[default]
    InCluster,
    /// `KUBECONFIG`, else `~/.kube/config`.
    Kubeconfig {
        /// A context of it, else its current one.
        context: Option<String>,
    },
}

/// How to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Where the connection comes from.
    pub access: Access,
    /// For a connection to be made, and for a request to be written.
    pub connect_timeout: Duration,
    /// For the answer to one request of discovery.
    pub read_timeout: Duration,
    /// How often optional APIs are looked for.
    pub look_every: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            access: Access::default(),
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(10),
            look_every: Duration::from_secs(30),
        }
    }
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The service account or kubeconfig cannot be used.
    #[error("cannot connect to Kubernetes: {0}")]
    Config(String),
    /// The server did not say what it is.
    #[error("cannot use this Kubernetes: {0}")]
    Server(#[from] PortError),
    /// The server is too old.
    #[error(
        "Kubernetes {version} lacks what StornX needs (1.23 has all of it): {}",
        missing.join(", ")
    )]
    TooOld {
        /// What the server says it is.
        version: String,
        /// `group/version (since)` of everything that it lacks.
        missing: Vec<String>,
    },
}

/// A connection to a Kubernetes API server. Optional APIs are looked for until it is
/// dropped.
pub struct Connection {
    client: Client,
    version: String,
    capabilities: Arc<watch::Sender<Capabilities>>,
    errors: Arc<ErrorStats>,
    _look: JoinSet<()>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let mut config = config(&options.access).await?;
        config.connect_timeout = Some(options.connect_timeout);
        config.write_timeout = Some(options.connect_timeout);
        // Answers are waited for by each caller: a watch is one that goes on for minutes.
        config.read_timeout = None;
        let client = Client::try_from(config)
            .map_err(|error| ConnectError::Config(crate::error::detail(&error)))?;
        Self::over(client, options).await
    }

    /// The same over a client that is there already.
    ///
    /// # Errors
    /// [`ConnectError::Server`] and [`ConnectError::TooOld`].
    pub async fn over(client: Client, options: &ConnectOptions) -> Result<Self, ConnectError> {
        let limit = options.read_timeout;
        let what = "get /version";
        let version = within(limit, what, client.apiserver_version()).await?.git_version;
        let groups = groups(&client, limit).await?;
        let missing: Vec<String> = REQUIRED
            .iter()
            .filter(|(group, version, _)| !groups.serve(group, version))
            .map(|(group, version, since)| format!("{group}/{version} (since {since})"))
            .collect();
        if !missing.is_empty() {
            return Err(ConnectError::TooOld { version, missing });
        }
        let errors = Arc::new(ErrorStats::default());
        let look = Look { client: client.clone(), limit, errors: Arc::clone(&errors) };
        let found = look.look(&Capabilities::default()).await?;
        for missing in &found.missing {
            tracing::info!("{missing}");
        }
        let capabilities = Arc::new(watch::Sender::new(found));
        let mut task = JoinSet::new();
        let every = options.look_every;
        task.spawn(look.keep_looking(every, Arc::clone(&capabilities)));
        Ok(Self { client, version, capabilities, errors, _look: task })
    }

    /// The client, for the other parts of this crate.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// What the server says it is, e.g. `v1.34.4`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// How often what went wrong since the start: who met it (`discovery`, `events`,
    /// `lease`, `pod-metrics`, `store`, `webhook`), the kind of error (`unavailable`, `conflict`,
    /// `rejected`), and the count; only what went wrong is there.
    #[must_use]
    pub fn errors(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.errors.all()
    }

    pub(crate) fn error_stats(&self) -> Arc<ErrorStats> {
        Arc::clone(&self.errors)
    }

    /// Which optional APIs are served, as last looked for.
    #[must_use]
    pub fn capabilities(&self) -> watch::Receiver<Capabilities> {
        self.capabilities.subscribe()
    }
}

async fn config(access: &Access) -> Result<Config, ConnectError> {
    let broken = |error: &dyn fmt::Display| ConnectError::Config(error.to_string());
    match access {
        Access::InCluster => Config::incluster().map_err(|error| broken(&error)),
        Access::Kubeconfig { context } => {
            let options = KubeConfigOptions { context: context.clone(), ..Default::default() };
            let file = Kubeconfig::read().map_err(|error| broken(&error))?;
            Config::from_custom_kubeconfig(file, &options).await.map_err(|error| broken(&error))
        }
    }
}

/// `group/version` of all that is served, core excepted.
struct Groups(Vec<String>);

impl Groups {
    fn serve(&self, group: &str, version: &str) -> bool {
        self.0.iter().any(|served| *served == format!("{group}/{version}"))
    }
}

/// A server that has just started answers before it knows its own APIs; `apps/v1` is
/// older than anything that could be missing for good.
async fn groups(client: &Client, limit: Duration) -> Result<Groups, PortError> {
    let what = "get /apis";
    let list = within(limit, what, client.list_api_groups()).await?;
    let versions = list.groups.into_iter().flat_map(|group| group.versions);
    let groups = Groups(versions.map(|version| version.group_version).collect());
    if groups.serve("apps", "v1") {
        Ok(groups)
    } else {
        let detail = "the server does not know its own APIs yet".to_owned();
        Err(PortError::Unavailable { what: what.to_owned(), detail })
    }
}

/// Looks for the optional APIs.
struct Look {
    client: Client,
    /// For the answer to one request.
    limit: Duration,
    errors: Arc<ErrorStats>,
}

impl Look {
    async fn look(&self, before: &Capabilities) -> Result<Capabilities, PortError> {
        let groups = groups(&self.client, self.limit).await?;
        let destination_rules =
            self.serves(&groups, DESTINATION_RULES, before.destination_rules).await?;
        let workload_entries =
            self.serves(&groups, WORKLOAD_ENTRIES, before.workload_entries).await?;
        let keda = self.serves(&groups, KEDA, before.keda).await?;
        let pod_metrics = self.serves(&groups, POD_METRICS, before.pod_metrics).await?;
        let missing = [
            (destination_rules, DESTINATION_RULES),
            (workload_entries, WORKLOAD_ENTRIES),
            (keda, KEDA),
            (pod_metrics, POD_METRICS),
        ]
        .into_iter()
        .filter(|(served, _)| !served)
        .map(|(_, api)| MissingApi {
            api: format!("{}/{} {}", api.group, api.version, api.plural),
            consequence: api.without,
        })
        .collect();
        Ok(Capabilities { destination_rules, workload_entries, keda, pod_metrics, missing })
    }

    /// Whether one is served. A group whose own server does not answer (metrics-server
    /// behind the aggregation layer) stays what it was.
    async fn serves(
        &self,
        groups: &Groups,
        api: OptionalApi,
        before: bool,
    ) -> Result<bool, PortError> {
        if !groups.serve(api.group, api.version) {
            return Ok(false);
        }
        let group_version = format!("{}/{}", api.group, api.version);
        let what = format!("get /apis/{group_version}");
        let call = self.client.list_api_group_resources(&group_version);
        let error = match tokio::time::timeout(self.limit, call).await {
            Ok(Ok(list)) => {
                return Ok(list.resources.iter().any(|resource| resource.name == api.plural));
            }
            Ok(Err(error)) if is_not_found(&error) => return Ok(false),
            Ok(Err(error)) => port_error(&what, &error),
            Err(_) => no_answer(&what, self.limit),
        };
        match error {
            PortError::Unavailable { .. } => {
                self.errors.count(DISCOVERY, &error);
                Ok(before)
            }
            error => Err(error),
        }
    }

    async fn keep_looking(self, every: Duration, capabilities: Arc<watch::Sender<Capabilities>>) {
        let (mut failing, mut doubted) = (false, None);
        loop {
            sleep(every).await;
            let before = capabilities.borrow().clone();
            match self.errors.counted(DISCOVERY, self.look(&before).await) {
                // An API server that has just started does not know of all kinds yet: what
                // has vanished is believed when the next look says the same.
                Ok(found) if found.lacks(&before) && doubted.as_ref() != Some(&found) => {
                    failing = false;
                    doubted = Some(found);
                }
                Ok(found) => {
                    failing = false;
                    doubted = None;
                    note_changes(&before, &found);
                    capabilities.send_if_modified(|known| {
                        let changed = *known != found;
                        *known = found;
                        changed
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!("cannot look for optional APIs: {error}");
                    }
                }
            }
        }
    }
}

fn note_changes(before: &Capabilities, found: &Capabilities) {
    for gone in found.missing.iter().filter(|api| !before.missing.contains(api)) {
        tracing::warn!("{gone}");
    }
    for new in before.missing.iter().filter(|api| !found.missing.contains(api)) {
        tracing::info!("{} is served now", new.api);
    }
}
