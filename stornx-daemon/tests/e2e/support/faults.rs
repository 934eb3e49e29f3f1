//! Something between a controller and the API server that numbers its writes and lets one
//! of them go wrong.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::json;
use tokio::sync::Notify;
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

/// How long a delayed write is on its way: longer than a driver waits for an answer.
const LATE: Duration = Duration::from_secs(4);

struct Inner {
    client: Client,
    at: Option<(usize, Fault)>,
    writes: Mutex<Vec<String>>,
    dead: AtomicBool,
    died: Notify,
}

/// Between a controller and the API server.
#[derive(Clone)]
pub(crate) struct Faults(Arc<Inner>);

impl Faults {
    /// Lets the write of this number (from 1) go wrong; `None`: none.
    pub(crate) fn new(client: Client, at: Option<(usize, Fault)>) -> Self {
        Self(Arc::new(Inner {
            client,
            at,
            writes: Mutex::default(),
            dead: AtomicBool::new(false),
            died: Notify::new(),
        }))
    }

    /// The client of the controller.
    pub(crate) fn client(&self) -> Client {
        let this = self.clone();
        let namespace = this.0.client.default_namespace().to_owned();
        Client::new(service_fn(move |request| this.clone().pass(request)), namespace)
    }

    /// The writes so far, in their order.
    pub(crate) fn writes(&self) -> Vec<String> {
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
        let Some(name) = write(&request) else { return self.0.client.send(request).await };
        let number = {
            let mut writes = self.0.writes.lock().unwrap_or_else(PoisonError::into_inner);
            writes.push(name);
            writes.len()
        };
        let fault = self.0.at.filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let Some(fault) = fault else { return self.0.client.send(request).await };
        let (parts, body) = request.into_parts();
        let bytes = body.collect_bytes().await?;
        let again = || {
            let mut request = Request::new(Body::from(bytes.to_vec()));
            request.method_mut().clone_from(&parts.method);
            request.uri_mut().clone_from(&parts.uri);
            request.headers_mut().clone_from(&parts.headers);
            request
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
                let (client, late) = (self.0.client.clone(), again());
                tokio::spawn(async move {
                    tokio::time::sleep(LATE).await;
                    let _ = client.send(late).await;
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

    async fn die(&self) -> Result<Response<Body>, kube::Error> {
        self.0.dead.store(true, Ordering::SeqCst);
        self.0.died.notify_one();
        std::future::pending().await
    }
}

/// The name of a write of an action or of the memory; `None` for reads and for what keeps
/// the webhook registered.
fn write(request: &Request<Body>) -> Option<String> {
    if request.method() == Method::GET {
        return None;
    }
    let path = request.uri().path();
    let kinds = [
        ("/configmaps", "memory"),
        ("/scale", "scale"),
        ("/eviction", "eviction"),
        ("/pods/", "mark"),
    ];
    kinds.iter().find(|(part, _)| path.contains(part)).map(|(_, name)| (*name).to_owned())
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
