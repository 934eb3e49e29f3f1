//! The glue: makes the adapters from the settings and hands them to the engine as ports.
//! The one file that names both Kubernetes and Prometheus.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use async_trait::async_trait;
use stornx_core::{
    engine::{Engine, EngineOptions, Ports},
    ids::Namespace,
    memory::Memory,
    model::{ClusterFacts, Facts, MetricsFacts, PodUsage},
    policy::Granularity,
    ports::{Clock as _, LeaderGate, MetricsSource, StateStore as _},
    units::{Span, Timestamp},
};
use stornx_k8s::{
    Access, Cluster, ClusterOptions, ConfigMapStore, ConnectError, ConnectOptions, Connection,
    EventRecorder, KubeActuator, Lease, LeaseOptions, PodMetrics, ServingWebhook, StoreOptions,
    Webhook, WebhookOptions,
};
use stornx_prom::{Prometheus, PrometheusOptions};

use super::{clock::SystemClock, metrics::Metrics};
use crate::config::{Environment, Settings};

/// The adapters of one process.
pub(crate) struct World {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) prometheus: Arc<Prometheus>,
    pub(crate) events: EventRecorder,
    pub(crate) connection: Connection,
    metrics: Arc<JoinedMetrics>,
    store: Arc<ConfigMapStore>,
    /// Tells new replicas where to run; `None` where nothing is written, or it is switched
    /// off.
    pub(crate) webhook: Option<Webhook>,
    /// Where the memory and the lease lie, and their name.
    pub(crate) own: (Namespace, String),
    identity: String,
}

impl World {
    /// Connects and starts the watches. Without metrics it is a world to look at: nothing
    /// is written, so no replica is told anything.
    pub(crate) async fn start(
        settings: &Settings,
        metrics: Option<&Arc<Metrics>>,
    ) -> anyhow::Result<Self> {
        let connection = connect(settings).await?;
        let own = own(settings, &connection)?;
        tracing::info!(
            server = connection.version(),
            namespace = %own.0,
            name = own.1,
            "connected; memory and lease lie here"
        );
        let timeout = duration(settings.kubernetes.write_timeout);
        let namespaces = settings.policy.namespaces.clone();
        let cluster = Arc::new(Cluster::start(
            &connection,
            ClusterOptions {
                namespaces: namespaces.clone(),
                stale_after: duration(settings.kubernetes.max_age),
                by_node: settings.policy.balancer.granularity == Granularity::Node,
                ..ClusterOptions::default()
            },
        ));
        let webhook = webhook(settings, &cluster, &own, metrics);
        let prometheus = Arc::new(Prometheus::new(prometheus_options(settings)?)?);
        let metrics = Arc::new(JoinedMetrics {
            pods: PodMetrics::new(&connection, namespaces, duration(settings.prometheus.timeout)),
            prometheus: prometheus.clone(),
            max_age: settings.engine.metrics_max_age,
        });
        let (namespace, name) = own.clone();
        let mut store = ConfigMapStore::new(&connection, StoreOptions { namespace, name, timeout });
        if let Some(webhook) = &webhook {
            store = store.telling(webhook.clone());
        }
        let identity = identity();
        Ok(Self {
            events: EventRecorder::new(&connection, &cluster, identity.clone(), timeout),
            cluster,
            prometheus,
            metrics,
            store: Arc::new(store),
            webhook,
            connection,
            own,
            identity,
        })
    }

    /// Requests to the API server that failed, watches apart: what, how, how often.
    pub(crate) fn errors(&self) -> Vec<(&'static str, &'static str, u64)> {
        self.connection.errors()
    }

    /// What is remembered.
    pub(crate) async fn memory(&self) -> anyhow::Result<Memory> {
        Ok(self.store.load().await?)
    }

    /// Takes part in the election of the one that writes.
    pub(crate) fn lease(&self, settings: &Settings) -> Lease {
        let (namespace, name) = self.own.clone();
        let options = LeaseOptions {
            namespace,
            name,
            identity: self.identity.clone(),
            duration: duration(settings.kubernetes.lease),
            write_timeout: duration(settings.kubernetes.write_timeout),
        };
        Lease::start(&self.connection, options)
    }

    /// Serves the webhook while the lease lasts.
    pub(crate) fn serve_webhook(&self, lease: &Arc<Lease>) -> Option<ServingWebhook> {
        let webhook = self.webhook.as_ref()?;
        Some(webhook.start(&self.connection, lease.clone(), lease.leading()))
    }

    /// An engine in this world.
    pub(crate) fn engine(
        &self,
        settings: &Settings,
        leader: Arc<dyn LeaderGate>,
        options: EngineOptions,
    ) -> Engine {
        let timeout = duration(settings.kubernetes.write_timeout);
        let ports = Ports {
            cluster: self.cluster.clone(),
            metrics: self.metrics.clone(),
            actuator: Arc::new(
                KubeActuator::new(&self.connection, timeout).with_istio(&self.cluster),
            ),
            store: self.store.clone(),
            leader,
            clock: Arc::new(SystemClock),
        };
        let engine = Engine::new(ports, settings.policy.clone(), options);
        if settings.quiet.is_empty() {
            return engine;
        }
        let hours = settings.quiet.clone();
        engine.with_quiet_hours(Arc::new(move |now| {
            i64::try_from(now.as_millis())
                .ok()
                .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
                .is_some_and(|now| hours.contain(now))
        }))
    }
}

/// The webhook. In a dry run, and where it is only looked, plans are made as if there were
/// one.
fn webhook(
    settings: &Settings,
    cluster: &Cluster,
    (namespace, name): &(Namespace, String),
    metrics: Option<&Arc<Metrics>>,
) -> Option<Webhook> {
    if !settings.webhook.enabled {
        return None;
    }
    let Some(metrics) = metrics.filter(|_| !settings.engine.dry_run) else {
        cluster.assume_steering();
        return None;
    };
    let metrics = Arc::clone(metrics);
    let options = WebhookOptions {
        namespaces: settings.policy.namespaces.clone(),
        namespace: namespace.clone(),
        name: name.clone(),
        port: settings.webhook.port,
        url: settings.webhook.url.given().map(ToOwned::to_owned),
        address: std::env::var("POD_IP").ok().and_then(|address| address.parse().ok()),
        files: settings.webhook.files(),
        timeout: duration(settings.kubernetes.write_timeout),
        count: Arc::new(move |result, took| metrics.webhook(result, took)),
    };
    Some(Webhook::new(cluster, options))
}

/// Usage from metrics-server where its API is there and current, from Prometheus
/// otherwise; everything else from Prometheus.
struct JoinedMetrics {
    pods: PodMetrics,
    prometheus: Arc<Prometheus>,
    max_age: Span,
}

#[async_trait]
impl MetricsSource for JoinedMetrics {
    async fn observe(&self, cluster: &ClusterFacts, now: Timestamp) -> MetricsFacts {
        let (usage, mut metrics) =
            tokio::join!(self.pods.observe(now), self.prometheus.observe(cluster, now));
        metrics.usage = join(usage, metrics.usage, now, self.max_age);
        metrics
    }
}

/// The usage to decide on: that of metrics-server unless it is missing or too old, with
/// what it does not know (throttling) added from Prometheus.
fn join(
    server: Facts<Vec<PodUsage>>,
    prometheus: Facts<Vec<PodUsage>>,
    now: Timestamp,
    max_age: Span,
) -> Facts<Vec<PodUsage>> {
    let Facts::Fresh { as_of, source, mut value } = server.judged(now, max_age) else {
        return prometheus;
    };
    if let Some(known) = prometheus.judged(now, max_age).fresh() {
        let throttled: std::collections::BTreeMap<_, _> =
            known.iter().map(|usage| (&usage.pod, usage.throttled)).collect();
        for usage in &mut value {
            usage.throttled = throttled.get(&usage.pod).copied().flatten();
        }
    }
    Facts::Fresh { as_of, source, value }
}

/// Whether what kept a world from starting may pass by itself: the API server is away,
/// or does not know its own APIs yet. Bad settings and an old server do not.
pub(crate) fn may_pass(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<ConnectError>(), Some(ConnectError::Server(_)))
}

/// A gate for those that never write.
pub(crate) struct NeverWrites;

#[async_trait]
impl LeaderGate for NeverWrites {
    async fn may_write(&self) -> bool {
        false
    }
}

/// Connects to the API server.
pub(crate) async fn connect(settings: &Settings) -> anyhow::Result<Connection> {
    let access = match settings.environment {
        Environment::Production => Access::InCluster,
        Environment::Development => Access::Kubeconfig { context: None },
    };
    // Two looks, after which a CRD that vanished is believed to be gone, are over before
    // its watch has failed for too long.
    let look_every = (duration(settings.kubernetes.max_age) / 3)
        .clamp(Duration::from_secs(1), Duration::from_secs(30));
    let options = ConnectOptions { access, look_every, ..ConnectOptions::default() };
    Connection::connect(&options).await.context(match settings.environment {
        Environment::Production => {
            "with ENV=production StornX runs in a cluster; ENV=development takes the kubeconfig"
        }
        Environment::Development => "with ENV=development StornX takes the kubeconfig",
    })
}

/// Where the memory and the lease lie, and their name.
pub(crate) fn own(
    settings: &Settings,
    connection: &Connection,
) -> anyhow::Result<(Namespace, String)> {
    let here = connection.client().default_namespace();
    let namespace = settings.kubernetes.own_namespace.given().unwrap_or(here);
    let namespace =
        Namespace::new(namespace).with_context(|| format!("OWN_NAMESPACE = {namespace:?}"))?;
    Ok((namespace, settings.kubernetes.name.given().unwrap_or("stornx").to_owned()))
}

/// A name that no other process has, also not the next one in this place: that of the
/// pod or machine, the process, and when it started.
fn identity() -> String {
    let place = std::env::var("POD_NAME").or_else(|_| std::env::var("HOSTNAME"));
    let place = place.unwrap_or_else(|_| "stornx".to_owned());
    let started = SystemClock.now().as_millis();
    format!("{place}-{}-{started:x}", std::process::id())
}

/// The options of Prometheus' client. The settings were checked when they were loaded; a
/// file may have gone since.
fn prometheus_options(settings: &Settings) -> anyhow::Result<PrometheusOptions> {
    let options = settings.prometheus.options(settings.engine.metrics_max_age);
    options.map_err(|_| anyhow::anyhow!("the settings of Prometheus do not hold any more"))
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(span.as_millis())
}

#[cfg(test)]
mod tests {
    use stornx_core::{
        model::Source,
        units::{Bytes, MilliCpu, Share},
    };

    use super::*;

    fn usage(cpu: u64, throttled: Option<f64>) -> Vec<PodUsage> {
        vec![PodUsage {
            pod: "shop/cart-1".parse().unwrap(),
            cpu: MilliCpu::new(cpu),
            memory: Bytes::new(1),
            throttled: throttled.map(|share| Share::new(share).unwrap()),
        }]
    }

    fn known(at: u64, source: Source, value: Vec<PodUsage>) -> Facts<Vec<PodUsage>> {
        Facts::Fresh { as_of: Timestamp::from_millis(at), source, value }
    }

    #[test]
    fn metrics_server_is_preferred_while_it_is_current() {
        let limit = Span::from_millis(100);
        let now = Timestamp::from_millis(1000);
        let prometheus = || known(990, Source::Prometheus, usage(2, Some(0.5)));
        let current = known(950, Source::MetricsServer, usage(1, None));
        assert_eq!(
            join(current, prometheus(), now, limit),
            known(950, Source::MetricsServer, usage(1, Some(0.5)))
        );
        let old = known(800, Source::MetricsServer, usage(1, None));
        assert_eq!(join(old, prometheus(), now, limit), prometheus());
        let missing = Facts::Missing { reason: "no API".to_owned() };
        assert_eq!(join(missing, prometheus(), now, limit), prometheus());
    }
}
