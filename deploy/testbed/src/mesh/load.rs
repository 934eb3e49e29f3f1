//! Requests at a fixed rate through the Envoy of a caller. When a request is to be sent is
//! fixed in advance, and its latency counts from then: an answer that is late does not put
//! off those that come after it, and what waits to be sent is waiting time (no coordinated
//! omission, as in wrk2).

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
};

use super::{
    Caller,
    caller::{FLAGS, length},
    pods::FROM,
};

/// An answer that takes longer is none.
const LIMIT: Duration = Duration::from_secs(20);

/// What came of one request.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// `namespace/name` of the caller's pod.
    pub from: Arc<str>,
    /// When it was to be sent.
    pub due: Instant,
    /// From then until it was answered.
    pub took: Duration,
    /// HTTP status, 0 without an answer.
    pub code: u16,
    /// The pod that answered, or why none did: Envoy's flags (`UH`: no healthy host, `NC`:
    /// no such cluster, `UF`: no connection), else in words.
    pub by: Result<IpAddr, String>,
}

/// What is done with each answer.
pub type Sink = Arc<dyn Fn(Answer) + Send + Sync>;

/// Requests that go on until this is dropped.
#[derive(Debug)]
pub struct Load {
    task: JoinHandle<()>,
    /// Requests per second, as bits.
    rate: Arc<AtomicU64>,
}

struct Line {
    port: u16,
    request: String,
    from: Arc<str>,
    /// Connections that nobody uses.
    idle: Mutex<Vec<TcpStream>>,
    sink: Sink,
}

impl Load {
    /// Sends so many requests per second to a host's port 80.
    #[must_use]
    pub fn start(caller: &Caller, host: &str, rate: f64, sink: Sink) -> Self {
        let from = &caller.from;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {host}\r\nx-to: outbound|80||{host}\r\n{FROM}: {from}\r\n\r\n"
        );
        let line = Line {
            port: caller.listener,
            request,
            from: from.as_str().into(),
            idle: Mutex::default(),
            sink,
        };
        let rate = Arc::new(AtomicU64::new(rate.to_bits()));
        let task = tokio::spawn(send(Arc::new(line), Arc::clone(&rate)));
        Self { task, rate }
    }

    /// Sends so many from now on.
    pub fn set(&self, rate: f64) {
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn send(line: Arc<Line>, rate: Arc<AtomicU64>) {
    let mut due = Instant::now();
    loop {
        let rate = f64::from_bits(rate.load(Ordering::Relaxed)).max(0.01);
        due += Duration::from_secs_f64(1.0 / rate);
        tokio::time::sleep_until(due.into()).await;
        let line = Arc::clone(&line);
        tokio::spawn(async move {
            let asked = tokio::time::timeout(LIMIT, line.ask());
            let (code, by) = match asked.await {
                Ok(Ok((code, by))) => (code, by),
                Ok(Err(error)) => (0, Err(error.to_string())),
                Err(_) => (0, Err("no answer in time".to_owned())),
            };
            let (from, took) = (Arc::clone(&line.from), due.elapsed());
            (line.sink)(Answer { from, due, took, code, by });
        });
    }
}

impl Line {
    async fn ask(&self) -> std::io::Result<(u16, Result<IpAddr, String>)> {
        let idle = lock(&self.idle).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        stream.write_all(self.request.as_bytes()).await?;
        let mut held = String::new();
        let mut part = [0_u8; 4096];
        loop {
            let read = stream.read(&mut part).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            held.push_str(&String::from_utf8_lossy(&part[..read]));
            let Some((head, body)) = held.split_once("\r\n\r\n") else { continue };
            if length(head).is_none_or(|length| body.len() < length) {
                continue;
            }
            let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            let by = match (code, body.trim().parse()) {
                (200, Ok(address)) => Ok(address),
                _ => Err(why(head, body)),
            };
            lock(&self.idle).push(stream);
            return Ok((code, by));
        }
    }
}

/// Envoy's flags, or what it says.
fn why(head: &str, body: &str) -> String {
    let flags = head.lines().find_map(|line| line.strip_prefix(FLAGS)?.strip_prefix(": "));
    match flags.map(str::trim) {
        Some(flags) if flags != "-" && !flags.is_empty() => flags.to_owned(),
        _ => body.chars().take(80).collect(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
