//! Something between a controller and the API server that knows its writes and lets one
//! of them go wrong.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use flate2::read::GzDecoder;
use futures::future::BoxFuture;
use http::{Method, Request, Response, request::Parts};
use k8s_openapi::ByteString;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tower::service_fn;

/// What happens to one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// The process is gone before it is sent.
    KillBefore,
    /// The process is gone before its answer comes.
    KillAfter,
    /// The server fails and does nothing.
    Fail,
    /// Another write was first.
    Conflict,
    /// It is carried out after the caller has given up.
    Delay,
    /// It is carried out twice.
    Duplicate,
}

impl Fault {
    pub(crate) const ALL: [Self; 6] = [
        Self::KillBefore,
        Self::KillAfter,
        Self::Fail,
        Self::Conflict,
        Self::Delay,
        Self::Duplicate,
    ];
}

/// What somebody else does at one write.
pub(crate) type Deed =
    Arc<dyn Fn() -> BoxFuture<'static, Result<(), super::Failure>> + Send + Sync>;

/// What is done about one write.
#[derive(Clone)]
pub(crate) enum Trouble {
    /// It goes wrong.
    Fault(Fault),
    /// Somebody else is first, and it is carried out then.
    First(Deed),
    /// It is kept until it is let go, whether or not the caller has given up.
    Held,
}

/// How long a delayed write is on its way: longer than a driver waits for an answer.
const LATE: Duration = Duration::from_secs(4);

struct Inner {
    client: Client,
    at: Option<(Which, Trouble)>,
    writes: Mutex<Vec<Which>>,
    /// The write came, and what came of it.
    fired: AtomicBool,
    failed: Mutex<Option<String>>,
    dead: AtomicBool,
    died: Notify,
    /// For a write that is held: it came, it may go, it has been answered.
    held: Notify,
    let_go: Notify,
    landed: watch::Sender<Option<u16>>,
}

/// Between a controller and the API server.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Inner>);

impl Faults {
    /// Lets this write go wrong; `None`: none.
    pub(crate) fn new(client: Client, at: Option<(Which, Trouble)>) -> Self {
        Self(Arc::new(Inner {
            client,
            at,
            writes: Mutex::default(),
            fired: AtomicBool::new(false),
            failed: Mutex::default(),
            dead: AtomicBool::new(false),
            died: Notify::new(),
            held: Notify::new(),
            let_go: Notify::new(),
            landed: watch::Sender::new(None),
        }))
    }

    /// Whether the write came that something was to happen to.
    ///
    /// # Errors
    /// What somebody else wanted to do then did not work.
    pub(crate) fn fired(&self) -> Result<bool, super::Failure> {
        match self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            Some(error) => Err(error.into()),
            None => Ok(self.0.fired.load(Ordering::SeqCst)),
        }
    }

    /// Whether a write is still on its way that its caller has given up.
    pub(crate) fn is_awaited(&self) -> bool {
        let late = matches!(&self.0.at, Some((_, Trouble::Held | Trouble::Fault(Fault::Delay))));
        late && self.0.fired.load(Ordering::SeqCst) && self.0.landed.borrow().is_none()
    }

    /// Comes back when a write is held.
    pub(crate) async fn held(&self) {
        self.0.held.notified().await;
    }

    /// Lets the write go that is held, and gives the status of its answer.
    pub(crate) async fn let_go(&self) -> Option<u16> {
        let mut landed = self.0.landed.subscribe();
        self.0.let_go.notify_one();
        landed.wait_for(Option::is_some).await.ok().and_then(|status| *status)
    }

    /// The client of the controller.
    pub(crate) fn client(&self) -> Client {
        let this = self.clone();
        let namespace = this.0.client.default_namespace().to_owned();
        Client::new(service_fn(move |request| this.clone().pass(request)), namespace)
    }

    /// The writes so far, in their order.
    pub(crate) fn writes(&self) -> Vec<Which> {
        self.0.writes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Comes back when the process is to be gone.
    pub(crate) async fn died(&self) {
        self.0.died.notified().await;
    }

    async fn pass(self, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        if self.0.dead.load(Ordering::SeqCst) {
            return std::future::pending().await;
        }
        if request.method() == Method::GET {
            return self.0.client.send(request).await;
        }
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await?;
        let which = write(&parts, &bytes).map(|name| self.note(name));
        let again = || {
            let mut request = Request::new(Body::from(bytes.to_vec()));
            request.method_mut().clone_from(&parts.method);
            request.uri_mut().clone_from(&parts.uri);
            request.headers_mut().clone_from(&parts.headers);
            request
        };
        let trouble = self.0.at.as_ref().filter(|(at, _)| which.as_ref() == Some(at));
        let Some((_, trouble)) = trouble.cloned() else {
            return self.0.client.send(again()).await;
        };
        self.0.fired.store(true, Ordering::SeqCst);
        let fault = match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::First(deed) => {
                // To its end, whether or not the caller waits.
                let (this, deed) = (self.clone(), deed());
                let done = tokio::spawn(async move {
                    if let Err(error) = deed.await {
                        let mut failed =
                            this.0.failed.lock().unwrap_or_else(PoisonError::into_inner);
                        *failed = Some(error.to_string());
                    }
                });
                let _ = done.await;
                return self.0.client.send(again()).await;
            }
            Trouble::Held => {
                let (this, late) = (self.clone(), again());
                tokio::spawn(async move {
                    this.0.held.notify_one();
                    this.0.let_go.notified().await;
                    this.land(late).await;
                });
                return std::future::pending().await;
            }
        };
        match fault {
            Fault::KillBefore => self.die().await,
            Fault::KillAfter => {
                let _ = self.0.client.send(again()).await;
                self.die().await
            }
            Fault::Fail => Ok(refusal(500, "InternalError")),
            Fault::Conflict => Ok(refusal(409, "Conflict")),
            Fault::Delay => {
                let (this, late) = (self.clone(), again());
                tokio::spawn(async move {
                    tokio::time::sleep(LATE).await;
                    this.land(late).await;
                });
                std::future::pending().await
            }
            Fault::Duplicate => {
                let first = self.0.client.send(again()).await;
                let _ = self.0.client.send(again()).await;
                first
            }
        }
    }

    fn note(&self, name: String) -> Which {
        let mut writes = self.0.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = writes.iter().filter(|one| one.name == name).count() + 1;
        let which = Which { name, nth };
        writes.push(which.clone());
        which
    }

    async fn land(&self, late: Request<Body>) {
        let status = self.0.client.send(late).await.map(|one| one.status().as_u16());
        self.0.landed.send_replace(Some(status.unwrap_or(0)));
    }

    async fn die(&self) -> Result<Response<Body>, kube::Error> {
        self.0.dead.store(true, Ordering::SeqCst);
        self.0.died.notify_one();
        std::future::pending().await
    }
}

/// A write by what it is: its name, and how many of this name came before it, itself
/// included. The numbers of writes differ from run to run, since what is remembered is
/// stored in more or fewer steps; what a write says does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Which {
    pub(crate) name: String,
    pub(crate) nth: usize,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, nth } = self;
        if *nth == 1 { write!(f, "{name}") } else { write!(f, "{name}, {nth}") }
    }
}

/// The name of a write of an action or of the memory; `None` for reads and for what keeps
/// the webhook registered.
fn write(request: &Parts, body: &[u8]) -> Option<String> {
    if request.method == Method::GET {
        return None;
    }
    let path = request.uri.path();
    let body = || serde_json::from_slice::<Value>(body).unwrap_or_default();
    if path.contains("/configmaps") {
        return Some(format!("memory: {}", remembered(&body()).unwrap_or_default()));
    }
    if path.ends_with("/scale") {
        let operations = body();
        let value =
            operations.as_array().into_iter().flatten().find(|o| o["path"] == "/spec/replicas");
        return Some(format!("count {}", value.map_or(&Value::Null, |one| &one["value"])));
    }
    if path.ends_with("/eviction") {
        return Some("eviction".to_owned());
    }
    let marks = !body()["metadata"]["annotations"]["stornx.io/victim"].is_null();
    path.contains("/pods/").then(|| if marks { "mark" } else { "unmark" }.to_owned())
}

/// What is under way by the memory in a ConfigMap, as it is stored.
fn remembered(object: &Value) -> Option<String> {
    let packed: ByteString =
        serde_json::from_value(object["binaryData"]["memory.json.gz"].clone()).ok()?;
    let memory: Value = serde_json::from_reader(GzDecoder::new(packed.0.as_slice())).ok()?;
    let parts = memory["workloads"].as_object().into_iter().flatten().flat_map(|(_, one)| {
        let ending = one["inFlight"]["ending"].as_object().and_then(|ending| ending.keys().next());
        let record = one["inFlight"].as_object().map(|_| match ending {
            None => "move".to_owned(),
            Some(ending) => format!("move about to {ending}"),
        });
        let has = |key: &str, name: &str| (!one[key].is_null()).then(|| name.to_owned());
        [record, has("intents", "intent"), has("scaledAt", "scaled")]
    });
    let parts: Vec<String> = parts.flatten().collect();
    Some(if parts.is_empty() { "nothing".to_owned() } else { parts.join(" + ") })
}

fn refusal(code: u16, reason: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "as the test wants it", "reason": reason, "code": code
    });
    let mut response = Response::new(Body::from(status.to_string().into_bytes()));
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}
