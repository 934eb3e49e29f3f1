//! The traffic on the pods that really run: the simulator's users, calls and queues on
//! the nodes, pods and routing rules of a cluster, shown on `/metrics` as a mesh, cAdvisor
//! and an exporter of round-trip times would show them.
//!
//! Time passes in the simulator as it does here, or faster by a factor; its counters are
//! divided by that factor, so that rates per real second are rates per simulated second.
//! A scrape first brings it up to the present. Where a machine cannot keep up, time is
//! left out and counted ([`Emulation::left_out`]): rates are then too low, and a test
//! that depends on them should say so.
//!
//! Decides nothing: pods come from the scheduler and kwok, weights from whoever wrote the
//! rules. While the API server is away everything stays as it was last seen.

mod map;
mod watch;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{Router, http::header, routing::get};
use kube::Client;
use stornx_core::units::Span;
use stornx_sim::{
    scenario::Scenario,
    world::{Emulator, Measurements},
};
use tokio::{net::TcpListener, task::JoinHandle, time::MissedTickBehavior};

use crate::error::{BedError, Result, Tried};
use watch::Watched;

/// Between two steps: short against a scrape, long against the cost of a step.
const STEP: Duration = Duration::from_millis(100);

/// The longest time that one step makes up for.
const MOST: Duration = Duration::from_secs(2);

/// What is emulated, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Services, calls and load. Its zones must be those of the nodes.
    pub scenario: Scenario,
    /// For every random choice.
    pub seed: u64,
    /// Seconds that pass in the simulator in one second here, 0.001 to 1000.
    pub factor: f64,
    /// Where `/metrics` is served; port 0 takes a free one.
    pub listen: SocketAddr,
}

impl Settings {
    /// A scenario in real time, served on 127.0.0.1.
    #[must_use]
    pub fn new(scenario: Scenario) -> Self {
        Self { scenario, seed: 1, factor: 1.0, listen: SocketAddr::from(([127, 0, 0, 1], 0)) }
    }

    /// In fast time.
    #[must_use]
    pub fn faster(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }
}

/// Traffic that runs until this is dropped.
#[derive(Debug)]
pub struct Emulation {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    tasks: Vec<JoinHandle<()>>,
}

/// The simulator and the clock that drives it.
#[derive(Debug)]
struct State {
    emulator: Emulator,
    scenario: Scenario,
    factor: f64,
    watched: Watched,
    /// What of the cluster was taken over.
    version: u64,
    /// Up to when time has passed.
    at: Instant,
    left_out: Duration,
    /// Why the cluster could not be taken over, said once.
    refused: Option<String>,
}

impl Emulation {
    /// Starts the traffic over the cluster that `client` sees and waits until its nodes
    /// and pods are known.
    ///
    /// # Errors
    /// When the scenario or the factor is not valid, or the address is taken.
    pub async fn start(client: &Client, settings: Settings) -> Result<Self> {
        let Settings { scenario, seed, factor, listen } = settings;
        let refused = |detail: String| BedError::Invalid {
            what: format!("scenario {}", scenario.name),
            detail,
        };
        let emulator = Emulator::new(&scenario, seed)
            .map_err(|error| refused(error.to_string()))?
            .with_time_factor(factor)
            .map_err(|error| refused(error.to_string()))?;
        let listening = || format!("listen on {listen}");
        let listener = TcpListener::bind(listen).await.tried(listening)?;
        let address = listener.local_addr().tried(listening)?;

        let (watched, mut tasks) = watch::start(client);
        watched.wait_listed().await?;
        let state = Arc::new(Mutex::new(State {
            emulator,
            scenario,
            factor,
            watched,
            version: 0,
            at: Instant::now(),
            left_out: Duration::ZERO,
            refused: None,
        }));
        tasks.push(tokio::spawn(serve(listener, Arc::clone(&state))));
        tasks.push(tokio::spawn(pass_time(Arc::clone(&state))));
        Ok(Self { address, state, tasks })
    }

    /// Where `/metrics` is served.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What really happened so far, in simulated time: the truth behind the metrics.
    #[must_use]
    pub fn measurements(&self) -> Measurements {
        lock(&self.state).emulator.measurements()
    }

    /// How much simulated time has passed.
    #[must_use]
    pub fn elapsed(&self) -> Span {
        lock(&self.state).emulator.elapsed()
    }

    /// Real time that was left out because the machine was too slow for the factor.
    #[must_use]
    pub fn left_out(&self) -> Duration {
        lock(&self.state).left_out
    }
}

impl Drop for Emulation {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl State {
    /// Takes over what has changed and brings the simulator up to the present.
    fn step(&mut self) {
        self.follow();
        let now = Instant::now();
        let passed = now.duration_since(self.at);
        self.at = now;
        self.left_out += passed.saturating_sub(MOST);
        self.emulator.advance(simulated(passed.min(MOST), self.factor));
    }

    fn follow(&mut self) {
        let version = self.watched.version();
        if version == self.version {
            return;
        }
        self.version = version;
        let result = self.take_over();
        if let Err(reason) = &result
            && self.refused.as_ref() != Some(reason)
        {
            eprintln!("testbed: emulator: {reason}");
        }
        self.refused = result.err();
    }

    fn take_over(&mut self) -> Result<(), String> {
        let nodes = map::nodes(&self.scenario, self.watched.nodes());
        let pods = map::pods(&self.scenario, &nodes, self.watched.pods());
        self.emulator.set_cluster(&nodes, &pods).map_err(|error| error.to_string())?;
        for (host, routing) in map::routing(&self.scenario, &self.watched.rules())? {
            self.emulator.set_routing(&host, routing).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// At most 2,000 s: far below what a number of milliseconds holds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn simulated(passed: Duration, factor: f64) -> Span {
    Span::from_millis((passed.as_secs_f64() * factor * 1000.0).round() as u64)
}

async fn pass_time(state: Arc<Mutex<State>>) {
    let mut steps = tokio::time::interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        steps.tick().await;
        let state = Arc::clone(&state);
        // Ends only with the runtime.
        if tokio::task::spawn_blocking(move || lock(&state).step()).await.is_err() {
            return;
        }
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let metrics = async move || {
        let text = tokio::task::spawn_blocking(move || {
            let mut state = lock(&state);
            state.step();
            state.emulator.expose()
        });
        let plain = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
        (plain, text.await.unwrap_or_default())
    };
    let router = Router::new().route("/metrics", get(metrics));
    // Ends with the task.
    let _ = axum::serve(listener, router).await;
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
