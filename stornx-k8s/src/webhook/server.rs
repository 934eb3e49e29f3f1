//! HTTPS for the API server: one path, one kind of answer.
//!
//! - HTTP/1.1 only. Over HTTP/2 the API server would send everything through one
//!   connection, and when the machine behind it vanishes, every pod of the next half minute
//!   would wait for the time-out. Over HTTP/1.1 the request that timed out closes its
//!   connection, and the next one opens another.
//! - Connections that rest are closed after [`IDLE`], later than the API server does it by
//!   itself: a request that meets a connection while it is being closed is lost.
//! - Requests, connections and handshakes are bounded in size, number and time.
//! - Who asks is not checked: an answer changes nothing in the cluster. Somebody who can
//!   reach the port could claim intents, which come back when no pod follows.

use std::{
    convert::Infallible,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{ServerConfig, server::ResolvesServerCert};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{Webhook, certificates::provider, review};

/// The path that is asked.
pub(crate) const PATH: &str = "/mutate-pods";

/// The largest request: the API server stores no object above 1.5 MiB, and a review holds
/// one.
const LARGEST: usize = 3 << 20;
/// For a handshake, and for a request to arrive once it has begun: more than the API
/// server waits for the whole answer.
const ARRIVAL: Duration = Duration::from_secs(5);
/// The API server closes connections that rest for 90 s.
const IDLE: Duration = Duration::from_secs(120);
/// Connections at one time. Each API server holds as many as it has requests under way.
const CONNECTIONS: usize = 512;

/// Listens on all addresses: both families where the machine has IPv6.
///
/// # Errors
/// When the port cannot be had.
pub(crate) async fn listen(port: u16) -> std::io::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind(("0.0.0.0", port)).await,
    }
}

/// The TLS side.
///
/// # Errors
/// When the provider of cryptography has no safe versions of TLS; it has.
pub(crate) fn acceptor(shown: Arc<dyn ResolvesServerCert>) -> Result<TlsAcceptor, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Serves until the task is dropped.
pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, webhook: Webhook) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files, most likely: others close some.
                tracing::debug!("the webhook cannot accept a connection: {error}");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, webhook) = (tls.clone(), webhook.clone());
        connections.spawn(async move {
            let _permit = permit;
            connection(stream, tls, webhook).await;
        });
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, webhook: Webhook) {
    let _ = stream.set_nodelay(true);
    let stream = match timeout(ARRIVAL, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            webhook.refused(&format!("a connection came to nothing: {error}"));
            return;
        }
        Err(_) => return,
    };
    let service = service_fn(move |request| {
        let webhook = webhook.clone();
        async move { Ok::<_, Infallible>(handle(request, &webhook).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE);
    // How a connection ends is the API server's business.
    let _ = http.serve_connection(TokioIo::new(stream), service).await;
}

async fn handle(request: Request<Incoming>, webhook: &Webhook) -> Response<Full<Bytes>> {
    let plain = |status, text: &'static str| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != PATH {
        return plain(StatusCode::NOT_FOUND, "pods are reviewed on /mutate-pods\n");
    }
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "reviews are posted\n");
    }
    let began = Instant::now();
    let body = timeout(ARRIVAL, Limited::new(request.into_body(), LARGEST).collect()).await;
    let answer = match body {
        Ok(Ok(body)) => webhook.answer(&body.to_bytes()).await,
        Ok(Err(error)) => unread(error.to_string()),
        Err(_) => unread("a request that does not arrive".to_owned()),
    };
    if let Some(problem) = &answer.problem {
        webhook.refused(problem);
    }
    webhook.count(answer.result, began.elapsed());
    let mut response = Response::new(Full::from(answer.body.to_string()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

fn unread(problem: String) -> review::Answer {
    review::allowed("", review::WebhookResult::Problem, Some(problem))
}
