//! One server that answers for every pod: with the address that was called, which is the
//! pod's. Where a test gives pods work, an answer takes the time of that work, after those
//! that came before and have the pod's workers, and the round trip from the caller's zone;
//! what was served is counted as the proxies of a mesh would count it.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};

use super::{seen::Seen, telemetry::Telemetry};
use crate::error::{Result, Tried};

/// The port of all containers of the test bed.
const PORT: u16 = 8080;

/// The header in which a caller says which pod it is, as `namespace/pod`.
pub(super) const FROM: &str = "x-from";

/// What a request is to a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Mean of the exponential time of work on a request, milliseconds.
    pub mean_ms: f64,
    /// Requests that are worked on at one time; the others wait.
    pub workers: usize,
    /// Cores that a worker uses while it works.
    pub cores: f64,
    /// Round trip between two zones, milliseconds.
    pub round_trip_ms: f64,
}

struct Pod {
    workers: Arc<Semaphore>,
    slower: f64,
}

/// The pods of a cluster, as their callers see them.
pub struct Pods {
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    work: Option<Work>,
    seen: Option<Arc<Seen>>,
    telemetry: Telemetry,
    pods: Mutex<BTreeMap<IpAddr, Pod>>,
    random: Mutex<u64>,
}

impl std::fmt::Debug for Pods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pods").finish_non_exhaustive()
    }
}

/// Answers at once, until the task is ended.
///
/// # Errors
/// When the port is taken.
pub async fn answer() -> Result<JoinHandle<()>> {
    let state = State {
        work: None,
        seen: None,
        telemetry: Telemetry::default(),
        pods: Mutex::default(),
        random: Mutex::new(1),
    };
    start(Arc::new(state)).await
}

impl Pods {
    /// Lets every pod do this work on each request.
    ///
    /// # Errors
    /// When the port is taken.
    pub async fn start(work: Work, seen: Arc<Seen>, telemetry: Telemetry) -> Result<Self> {
        let state = Arc::new(State {
            work: Some(work),
            seen: Some(seen),
            telemetry,
            pods: Mutex::default(),
            random: Mutex::new(1),
        });
        let task = start(Arc::clone(&state)).await?;
        Ok(Self { state, task })
    }

    /// Makes the work of a pod take so many times as long.
    pub fn slow(&self, pod: IpAddr, factor: f64) {
        self.state.pod(pod, |one, _| one.slower = factor);
    }
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn pod<T>(&self, address: IpAddr, act: impl FnOnce(&mut Pod, Work) -> T) -> Option<T> {
        let work = self.work?;
        let mut pods = lock(&self.pods);
        let pod = pods.entry(address).or_insert_with(|| Pod {
            workers: Arc::new(Semaphore::new(work.workers)),
            slower: 1.0,
        });
        Some(act(pod, work))
    }

    /// Does what a request asks for; gives what is left of the round trip.
    async fn serve(&self, address: IpAddr, head: &str) -> Option<Duration> {
        let began = Instant::now();
        let (workers, slower, work) =
            self.pod(address, |pod, work| (Arc::clone(&pod.workers), pod.slower, work))?;
        let seen = self.seen.as_ref()?;
        let from = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(FROM).then(|| value.trim().to_owned())
        })?;
        let permit = workers.acquire().await.ok()?;
        let took = exponential(&self.random) * work.mean_ms * slower / 1000.0;
        tokio::time::sleep(Duration::from_secs_f64(took)).await;
        drop(permit);
        let busy = took * work.cores;
        self.telemetry.served(seen, &from, address, began.elapsed(), busy);
        let same = seen.zone_of(&from) == seen.pod(address).map(|pod| pod.zone);
        let trip = if same { 0.0 } else { work.round_trip_ms };
        Some(Duration::from_secs_f64(trip / 1000.0))
    }
}

async fn start(state: Arc<State>) -> Result<JoinHandle<()>> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))
        .await
        .tried(|| format!("listen on port {PORT} for all pods"))?;
    Ok(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&state)));
        }
    }))
}

/// Requests have no body: each ends with an empty line.
async fn serve(mut stream: TcpStream, state: Arc<State>) -> Option<()> {
    let _ = stream.set_nodelay(true);
    let own = stream.local_addr().ok()?.ip();
    let text = own.to_string();
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    let mut held = Vec::new();
    let mut part = [0_u8; 4096];
    loop {
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        held.extend_from_slice(&part[..read]);
        while let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let head: Vec<u8> = held.drain(..end + 4).collect();
            if let Some(trip) = state.serve(own, &String::from_utf8_lossy(&head)).await {
                tokio::time::sleep(trip).await;
            }
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

/// Of mean 1, the same for the same seed (`SplitMix64`, Steele and others 2014).
#[allow(clippy::cast_precision_loss)] // 53 bits.
fn exponential(state: &Mutex<u64>) -> f64 {
    let mut state = lock(state);
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let unit = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - unit).ln()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
