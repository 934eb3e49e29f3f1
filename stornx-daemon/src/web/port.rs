//! The port: takes connections, and lets go of those that only cost. hyper ends a connection
//! whose request does not come; here ends one that does not read, and the one that has been
//! still for longest when there are too many, so that a probe is always let in.

use std::{
    collections::BTreeMap,
    future::Future,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::{self, Instant, Sleep},
};
use tokio_util::sync::CancellationToken;

/// What readers may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at one time; then the one that was still for longest is ended.
    pub(crate) connections: usize,
    /// Large answers at one time.
    pub(crate) large: usize,
    /// Readers of events at one time.
    pub(crate) events: usize,
    /// For the next request on a connection to come, and to be whole.
    pub(crate) head: Duration,
    /// For the next byte of an answer to be taken.
    pub(crate) stall: Duration,
    /// For an answer to be taken as a whole.
    pub(crate) longest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            large: 16,
            events: 64,
            // Longer than the usual time between two scrapes, and than proxies keep connections.
            head: Duration::from_secs(75),
            stall: Duration::from_secs(10),
            longest: Duration::from_secs(120),
        }
    }
}

/// Most bytes of requests or small answers that wait in one connection.
const MOST_BUFFERED: usize = 32 << 10;
/// After an error of the system, such as too many open files.
const BREATH: Duration = Duration::from_millis(100);

/// What the system keeps of answers that a connection has not taken yet: left to itself it
/// keeps some megabytes, which no limit here sees, and says only after a third of them has gone
/// that there is room, so that who reads slowly looks like one who does not read. The system
/// doubles this.
const SEND_BUFFER: u32 = 64 << 10;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Listens on an address.
///
/// # Errors
/// Those of the system, such as a port that is taken.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Connections that are accepted inherit it.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` is cancelled and what is under way has ended.
pub(crate) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let (connections, mut tasks) = (Arc::new(Connections::default()), JoinSet::new());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            time::sleep(BREATH).await;
            continue;
        };
        let place = Connections::enter(&connections, limits.connections);
        tasks.spawn(one(stream, place, routes.clone(), limits, stop.clone()));
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn one(
    stream: TcpStream,
    place: Place,
    routes: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let cut = place.sign.cut.clone();
    let io = TokioIo::new(Patient::new(stream, place.sign.clone(), limits));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MOST_BUFFERED)
        // Shared texts are written from where they are.
        .writev(true)
        .serve_connection(io, TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let mut stopping = false;
    loop {
        tokio::select! {
            () = cut.cancelled() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection has ended");
                }
                return;
            }
        }
    }
}

/// The connections that there are.
#[derive(Debug, Default)]
struct Connections {
    open: Mutex<BTreeMap<u64, Arc<Sign>>>,
    entered: AtomicU64,
}

/// A connection's sign of life.
#[derive(Debug)]
struct Sign {
    /// Ends it.
    cut: CancellationToken,
    since: Instant,
    /// When a byte came or went last, ms after `since`.
    last: AtomicU64,
}

impl Sign {
    fn touch(&self) {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::Relaxed);
    }

    fn still(&self) -> Duration {
        self.since
            .elapsed()
            .saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// The place of a connection; left with it.
struct Place {
    all: Arc<Connections>,
    number: u64,
    sign: Arc<Sign>,
}

impl Connections {
    fn enter(all: &Arc<Self>, most: usize) -> Place {
        let number = all.entered.fetch_add(1, Ordering::Relaxed);
        let (cut, since) = (CancellationToken::new(), Instant::now());
        let sign = Arc::new(Sign { cut, since, last: AtomicU64::new(0) });
        let mut open = all.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= most.max(1) {
            // Of those that are equally still, the one that came first.
            let stillest = open.iter().rev().max_by_key(|(_, sign)| sign.still());
            if let Some(number) = stillest.map(|(number, _)| *number)
                && let Some(sign) = open.remove(&number)
            {
                sign.cut.cancel();
            }
        }
        open.insert(number, sign.clone());
        Place { all: all.clone(), number, sign }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.all.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.remove(&self.number);
    }
}

/// A stream that fails when what is written to it is not taken in time.
struct Patient {
    stream: TcpStream,
    sign: Arc<Sign>,
    limits: Limits,
    /// Since when something waits to be written.
    begun: Option<Instant>,
    /// It runs while nothing is taken.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    const fn new(stream: TcpStream, sign: Arc<Sign>, limits: Limits) -> Self {
        Self { stream, sign, limits, begun: None, waits: None }
    }

    fn wrote(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        let end = *self.begun.get_or_insert(now) + self.limits.longest;
        let late = || Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        if result.is_ready() {
            self.waits = None;
            self.sign.touch();
            return if now < end { result } else { late() };
        }
        let until = end.min(now + self.limits.stall);
        let waits = self.waits.get_or_insert_with(|| Box::pin(time::sleep_until(until)));
        ready!(waits.as_mut().poll(cx));
        late()
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if read.is_ready() {
            self.sign.touch();
        }
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.wrote(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// All that there was is written: hyper asks for this then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (self.begun, self.waits) = (None, None);
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
