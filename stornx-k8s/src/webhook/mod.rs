//! The admission webhook: tells a new replica where to run while it is created.
//!
//! | room | does |
//! | --- | --- |
//! | `server` | HTTPS for the API server |
//! | `review` | whose pod it is; the answer |
//! | `desk` | the book of what stands, and what it is shown |
//! | `patch` | the node affinity that is added |
//! | `certificates` | what the server shows, and who vouches for it |
//! | `registration`, `endpoint` | how the API server knows of us |
//! | `health` | whether new replicas can be told where to run |
//!
//! ```text
//! memory stored -> book -> (pod created) -> review -> patch
//! ```
//!
//! Never a taint, a cordon, a change of a template, or `nodeName`. A pod is never refused,
//! and never waits longer than the registration says, two seconds: whatever is wrong, here
//! or on the way, it is created as if there were no webhook.
//!
//! Only the leader answers with more than "allowed": it alone holds the book. When it stops
//! or loses the lease it takes nothing back. The API server fails to reach it, or is told
//! "allowed", until the next leader has registered itself.

mod certificates;
mod desk;
mod endpoint;
pub(crate) mod health;
mod patch;
mod registration;
mod review;
mod server;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::Uri;
use stornx_core::{
    ids::{Namespace, NodeName, WorkloadRef},
    memory::Memory,
    ports::LeaderGate,
    units::Span,
};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep},
};

pub use self::review::WebhookResult;
use self::{
    certificates::{Files, Keeper, Own, Shown},
    desk::Desk,
    health::Stands,
    registration::Obstacle,
};
pub(crate) use self::{endpoint::service, registration::Registration};
use crate::{
    connect::Connection,
    now,
    stats::{ErrorStats, WEBHOOK},
    watch::Cluster,
};

/// Called with what came of each request and how long it took here.
pub type CountRequest = Arc<dyn Fn(WebhookResult, Duration) + Send + Sync>;

/// How the webhook is served and registered.
#[derive(Clone)]
pub struct WebhookOptions {
    /// The managed namespaces: those whose pods are asked about.
    pub namespaces: BTreeSet<Namespace>,
    /// The namespace of the daemon, where the Service of the webhook is.
    pub namespace: Namespace,
    /// The name of the daemon, and of the MutatingWebhookConfiguration. The Service is
    /// `NAME-webhook`.
    pub name: String,
    /// Where it listens; 0 takes any free port.
    pub port: u16,
    /// `https://HOST:PORT` under which the API server reaches this process, for one outside
    /// the cluster; `None`: by the Service.
    pub url: Option<String>,
    /// The address of this process in the cluster, for the Service.
    pub address: Option<IpAddr>,
    /// Files with the certificate and its key, in PEM; `None`: they are made here.
    pub files: Option<(PathBuf, PathBuf)>,
    /// For one request to the API server.
    pub timeout: Duration,
    /// Told of each request.
    pub count: CountRequest,
}

impl fmt::Debug for WebhookOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookOptions").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How often the registration is looked at.
const LOOK: Duration = Duration::from_secs(30);
/// The same after a failure.
const AGAIN: Duration = Duration::from_secs(5);
/// How often everything else is.
const TICK: Duration = Duration::from_secs(1);

/// The webhook of one process; cheap to clone.
#[derive(Clone)]
pub struct Webhook(Arc<Inner>);

struct Inner {
    desk: Desk,
    options: WebhookOptions,
    gate: OnceLock<Arc<dyn LeaderGate>>,
    said: AtomicBool,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("options", &self.0.options).finish_non_exhaustive()
    }
}

/// The tasks of a webhook that serves; they end with this.
#[derive(Debug)]
pub struct ServingWebhook {
    _tasks: JoinSet<()>,
}

impl Webhook {
    /// A webhook over what a cluster shows. It answers nothing before it is started.
    #[must_use]
    pub fn new(cluster: &Cluster, options: WebhookOptions) -> Self {
        let desk = Desk::new(cluster.shared());
        desk.health().set(Stands::Missing("the webhook is not registered yet".to_owned()));
        Self(Arc::new(Inner { desk, options, gate: OnceLock::new(), said: AtomicBool::new(false) }))
    }

    /// Serves and registers, as tasks of the runtime that this is called in. `gate` says
    /// whether this process leads, `leading` when that changes.
    #[must_use]
    pub fn start(
        &self,
        connection: &Connection,
        gate: Arc<dyn LeaderGate>,
        leading: watch::Receiver<bool>,
    ) -> ServingWebhook {
        let _ = self.0.gate.set(Arc::clone(&gate));
        let shown = Arc::new(Shown::default());
        let (bound, listens) = watch::channel(Listens::Starting);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().serve(Arc::clone(&shown), bound));
        let keeper = match &self.0.options.files {
            Some((certificate, key)) => Keeper::Files(Files::new(certificate.clone(), key.clone())),
            None => Keeper::Own(Box::new(Own::new(names(&self.0.options)))),
        };
        let registrar = Registrar {
            webhook: self.clone(),
            registration: Registration::new(connection.client().clone()),
            errors: connection.error_stats(),
            gate,
            keeper,
            shown,
            listens,
            failing: false,
        };
        tasks.spawn(registrar.run(leading));
        ServingWebhook { _tasks: tasks }
    }

    /// The memory is stored like this: its intents stand from now on.
    pub fn stand(&self, memory: &Memory) {
        self.0.desk.stand(memory);
    }

    /// The nodes that the next replicas of each workload would best go to, best first: for
    /// replicas that others ask for. They take the place of those before, and hold for a
    /// while.
    pub fn prefer(&self, next: BTreeMap<WorkloadRef, Vec<NodeName>>, hold: Span) {
        self.0.desk.prefer(next, now(), hold);
    }

    async fn answer(&self, body: &[u8]) -> review::Answer {
        self.0.desk.health().asked();
        let leads = match self.0.gate.get() {
            Some(gate) => gate.may_write().await,
            None => false,
        };
        review::answer(body, &self.0.desk, leads, now())
    }

    fn count(&self, result: WebhookResult, took: Duration) {
        (self.0.options.count)(result, took);
    }

    /// Says once that something is wrong with what comes in.
    fn refused(&self, problem: &str) {
        if self.0.said.swap(true, Ordering::Relaxed) {
            tracing::debug!("the webhook: {problem}");
        } else {
            tracing::warn!("the webhook: {problem}; more of the like is not said again");
        }
    }

    /// Listens, however long the port is taken, and serves.
    async fn serve(self, shown: Arc<Shown>, bound: watch::Sender<Listens>) {
        let tls = match server::acceptor(shown) {
            Ok(tls) => tls,
            Err(error) => {
                bound.send_replace(Listens::Not(format!("no TLS for the webhook: {error}")));
                return;
            }
        };
        let port = self.0.options.port;
        let listener = loop {
            match server::listen(port).await {
                Ok(listener) => break listener,
                Err(error) => {
                    let why = format!("the webhook cannot listen on port {port}: {error}");
                    bound.send_replace(Listens::Not(why));
                    sleep(AGAIN).await;
                }
            }
        };
        let port = listener.local_addr().map_or(port, |address| address.port());
        tracing::info!(port, "the webhook listens");
        bound.send_replace(Listens::On(port));
        server::serve(listener, tls, self).await;
    }
}

/// Whether the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listens {
    Starting,
    On(u16),
    Not(String),
}

/// The names and addresses by which the API server knows us.
fn names(options: &WebhookOptions) -> Vec<String> {
    let service = endpoint::service(&options.name);
    let by_url = options.url.as_deref().and_then(|url| {
        let uri: Uri = url.parse().ok()?;
        // An IPv6 address stands in brackets there.
        Some(uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned())
    });
    let namespace = &options.namespace;
    by_url.into_iter().chain([format!("{service}.{namespace}.svc")]).collect()
}

/// Keeps certificates current and, while this process leads, the registration.
struct Registrar {
    webhook: Webhook,
    registration: Registration,
    errors: Arc<ErrorStats>,
    gate: Arc<dyn LeaderGate>,
    keeper: Keeper,
    shown: Arc<Shown>,
    listens: watch::Receiver<Listens>,
    failing: bool,
}

impl Registrar {
    async fn run(mut self, mut leading: watch::Receiver<bool>) {
        let mut led = false;
        let mut due = Instant::now();
        loop {
            let certificates = self.turn();
            let leads = self.gate.may_write().await;
            let desk = &self.webhook.0.desk;
            if !leads {
                if std::mem::take(&mut led) {
                    desk.clear();
                }
                desk.health().set(Stands::Elsewhere);
                due = Instant::now();
            } else {
                let news = !std::mem::replace(&mut led, true) || certificates == Ok(true);
                if news || Instant::now() >= due {
                    due = Instant::now() + self.look(certificates.err()).await;
                }
            }
            self.webhook.0.desk.health().tell();
            tokio::select! {
                () = sleep(TICK) => {}
                changed = leading.changed() => {
                    if changed.is_err() {
                        // The lease is gone; may_write says no from now on.
                        sleep(TICK).await;
                    }
                }
            }
        }
    }

    /// Whether there is another certificate now, or why there is none.
    fn turn(&mut self) -> Result<bool, String> {
        let turned = self.keeper.turn(now())?;
        Ok(turned.map(|key| self.shown.set(key)).is_some())
    }

    /// Looks at the registration; says after how long to look again.
    async fn look(&mut self, no_certificate: Option<String>) -> Duration {
        let health = self.webhook.0.desk.health();
        let listens = self.listens.borrow().clone();
        let missing = |reason: String| health.set(Stands::Missing(reason));
        let port = match (listens, no_certificate) {
            (Listens::Starting, _) => return Duration::ZERO,
            (Listens::Not(why), _) | (_, Some(why)) => {
                missing(why);
                return AGAIN;
            }
            (Listens::On(port), None) => port,
        };
        let (options, gate) = (&self.webhook.0.options, &*self.gate);
        let authority = self.keeper.authority();
        match self.registration.look(options, port, authority, gate).await {
            Ok(wrote) => {
                health.set(Stands::Registered);
                if wrote {
                    health.renewed();
                }
                self.failing = false;
                LOOK
            }
            Err(Obstacle::Missing(reason)) => {
                missing(reason);
                AGAIN
            }
            Err(Obstacle::Unknown(error)) => {
                self.errors.count(WEBHOOK, &error);
                // Somebody else wrote, or there is no answer.
                health.doubt(error.to_string());
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("the registration of the webhook: {error}");
                }
                AGAIN
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn options() -> WebhookOptions {
        WebhookOptions {
            namespaces: ["shop", "bank"].iter().map(|name| name.parse().unwrap()).collect(),
            namespace: "stornx".parse().unwrap(),
            name: "stornx".to_owned(),
            port: 0,
            url: None,
            address: None,
            files: None,
            timeout: Duration::from_secs(5),
            count: Arc::new(|_, _| {}),
        }
    }

    #[test]
    fn the_names_are_those_by_which_it_is_reached() {
        let service = "stornx-webhook.stornx.svc";
        assert_eq!(names(&options()), [service]);
        for (url, host) in [
            ("https://10.0.0.7:8443", "10.0.0.7"),
            ("https://hook.example.com", "hook.example.com"),
            ("https://[fd00::7]:8443", "fd00::7"),
        ] {
            let options = WebhookOptions { url: Some(url.to_owned()), ..options() };
            assert_eq!(names(&options), [host, service]);
        }
    }
}
