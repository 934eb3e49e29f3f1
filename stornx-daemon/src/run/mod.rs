//! `stornx run`: the controller. Connects, waits until everything is seen and this
//! process may write, and lets the engine turn: with the schedule, early after changes,
//! with glances between. Decides nothing about workloads.
//!
//! | room | does |
//! | --- | --- |
//! | `world` | adapters and ports: the glue |
//! | `pace` | when the next cycle comes |
//! | `labels` | nodes as subzones of the mesh |
//! | `journal` | what is news in a cycle |
//! | `telling` | logs and events |
//! | `metrics`, `http` | what the port shows |
//! | `logs`, `clock` | logging, time |
//! | `traces` | a trace of each cycle (feature `otel`) |
//!
//! A stop that is asked for ends it within five seconds: no action is begun any more, the
//! one under way is waited for, the memory is saved, the lease is given back. What does
//! not end in time is left, and then the lease as well, to run out by itself: a write of
//! ours may still be under way.

mod clock;
mod http;
mod journal;
mod labels;
mod logs;
mod metrics;
mod pace;
mod telling;
#[cfg(feature = "otel")]
mod traces;
pub(crate) mod world;

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use stornx_core::{
    engine::{CycleOutcome, Engine},
    ports::LeaderGate,
    units::Span,
};
use stornx_k8s::{Lease, ServingWebhook};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    time,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{clock::SystemClock, journal::result_name};
use self::{
    http::{Last, Shop, Shown},
    metrics::Metrics,
    pace::{Cause, Wakeups},
    telling::Teller,
    world::{NeverWrites, World},
};
use crate::{
    config::{self, Effective, Settings},
    web::{self, Board, Limits, Page, view::Stage},
};

/// How long what is under way may take to end after a stop was asked for; with the
/// release of the lease and the end of connections it stays below five seconds.
const GRACE: Duration = Duration::from_millis(3000);

/// How long preferences for new replicas hold: a few cycles of the default schedule. Then
/// nobody knows whether they still are the best.
const PREFERENCES: Span = Span::from_seconds(300);

/// How long giving the lease back may take.
const RELEASE: Duration = Duration::from_secs(1);

/// How often the settings file is looked at for another log level.
const LOOK_AT_FILE: Duration = Duration::from_secs(5);

/// Runs until a stop is asked for.
pub(crate) async fn run(effective: Effective, file: Option<PathBuf>) -> anyhow::Result<()> {
    let settings = effective.settings;
    let log_level = logs::start(&settings);
    let stop = stop_on_signals()?;
    let metrics = Arc::new(Metrics::new());
    metrics.dry_run(settings.engine.dry_run);
    let (shown, showing) =
        watch::channel(Shown { stage: Stage::Syncing, turned: Instant::now(), last: None });

    let listener = listen(settings.port)?;
    let address = listener.local_addr()?;
    tracing::info!(%address, version = env!("CARGO_PKG_VERSION"), "StornX starts");
    let live = Arc::<OnceLock<Live>>::default();
    let history = &settings.history;
    let board = Board::start(settings.policy.price.clone(), history.keep(), history.file.given());
    let shop = Shop {
        shown: showing,
        metrics: metrics.clone(),
        live: live.clone(),
        dry_run: settings.engine.dry_run,
    };
    let banner = http::banner_of(&shop, &settings, &board);
    let limits = Limits::default();
    let page = Page::new(board.clone(), banner, stop.clone(), limits);
    let served = tokio::spawn(http::serve(listener, shop, page, limits, stop.clone()));
    tokio::spawn(follow_file(file, log_level, settings.log.clone()));

    let turned = tokio::select! {
        world = connect(&settings, &metrics) => {
            let controller =
                Controller::new(&settings, Arc::new(world?), metrics, shown, board.clone())?;
            let _ = live.set(Live { world: controller.world.clone(), lease: controller.lease.clone() });
            controller.turn(&stop).await
        }
        () = stop.cancelled() => Ok(()),
    };
    // A page that nobody stops reading must not hold the process.
    let _ = time::timeout(Duration::from_millis(500), served).await;
    // Nor must a volume that hangs.
    let _ = tokio::task::spawn_blocking(move || board.end(Duration::from_millis(300))).await;
    tracing::info!("StornX has stopped");
    turned
}

/// Connects, however long the API server is away: said once, tried again and again.
async fn connect(settings: &Settings, metrics: &Arc<Metrics>) -> anyhow::Result<World> {
    const AGAIN: Duration = Duration::from_secs(2);
    let mut said = false;
    loop {
        match World::start(settings, Some(metrics)).await {
            Err(error) if world::may_pass(&error) => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!("{error:#}; trying again");
                }
                time::sleep(AGAIN).await;
            }
            done => return done,
        }
    }
}

/// The adapters, once they are there, for what the port shows.
pub(crate) struct Live {
    world: Arc<World>,
    lease: Option<Arc<Lease>>,
}

impl Live {
    /// Version of the API server.
    fn kubernetes(&self) -> String {
        self.world.connection.version().to_owned()
    }

    /// Who holds the lease, as last seen.
    fn holder(&self) -> Option<String> {
        self.lease.as_ref()?.holder()
    }

    /// What keeps the cluster from being seen, in words.
    fn not_ready(&self) -> Vec<String> {
        self.world.cluster.not_ready()
    }

    /// Brings the figures of the adapters into the metrics.
    async fn refresh(&self, metrics: &Metrics) {
        // Asked now: a process that was frozen must not show what was so before.
        metrics.leading(match &self.lease {
            Some(lease) => lease.may_write().await,
            None => false,
        });
        metrics.watches(&self.world.cluster.stats());
        metrics.steering(&self.world.cluster.steering());
        for (name, query) in self.world.prometheus.stats().queries {
            for (result, count) in query.results {
                metrics.query(name, result, count);
            }
        }
        for (what, kind, count) in self.world.errors() {
            metrics.kubernetes_errors(what, kind, count);
        }
    }
}

/// The loop and what it needs.
struct Controller {
    world: Arc<World>,
    /// `None` in a dry run, which takes no part in the election.
    lease: Option<Arc<Lease>>,
    /// Its tasks end with this.
    _webhook: Option<ServingWebhook>,
    /// Labels nodes; ends with this.
    _labels: tokio::task::JoinSet<()>,
    engine: Engine,
    wakeups: Wakeups,
    teller: Teller,
    /// Whether it led when it was last looked at.
    leads: bool,
    metrics: Arc<Metrics>,
    shown: watch::Sender<Shown>,
    board: Arc<Board>,
    #[cfg(feature = "otel")]
    traces: traces::Traces,
}

impl Controller {
    fn new(
        settings: &Settings,
        world: Arc<World>,
        metrics: Arc<Metrics>,
        shown: watch::Sender<Shown>,
        board: Arc<Board>,
    ) -> anyhow::Result<Self> {
        let dry_run = settings.engine.dry_run;
        let lease = (!dry_run).then(|| Arc::new(world.lease(settings)));
        let webhook = lease.as_ref().and_then(|lease| world.serve_webhook(lease));
        let gate: Arc<dyn LeaderGate> = match &lease {
            Some(lease) => lease.clone(),
            None => Arc::new(NeverWrites),
        };
        let engine = world.engine(settings, gate, settings.engine);
        let wakeups = Wakeups::new(settings.schedule.clone(), settings.pace, &world.cluster);
        let teller = Teller::start(world.events.clone(), lease.clone(), metrics.clone());
        let mut labels = tokio::task::JoinSet::new();
        if let Some(lease) = &lease {
            labels.spawn(labels::label(settings.clone(), world.clone(), lease.clone()));
        }
        Ok(Self {
            world,
            lease,
            _webhook: webhook,
            _labels: labels,
            engine,
            wakeups,
            teller,
            leads: false,
            metrics,
            shown,
            board,
            #[cfg(feature = "otel")]
            traces: traces::Traces::start()?,
        })
    }

    /// Turns until a stop is asked for, then ends in order.
    async fn turn(mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        let stopper = self.engine.stopper();
        let orderly = tokio::select! {
            () = self.cycles() => true,
            () = async {
                stop.cancelled().await;
                stopper.stop();
                time::sleep(GRACE).await;
            } => false,
        };
        self.show(Stage::Stopping, None);
        #[cfg(feature = "otel")]
        self.traces.end();
        match &self.lease {
            Some(lease) if orderly => {
                // An API server that hangs must not hold us.
                let _ = time::timeout(RELEASE, lease.release()).await;
            }
            Some(_) => {
                tracing::warn!("a write may still be under way: the lease runs out by itself")
            }
            None => {}
        }
        Ok(())
    }

    /// Cycles until the engine is stopped.
    async fn cycles(&mut self) {
        let stopper = self.engine.stopper();
        let mut cause = Cause::Start;
        while !stopper.is_stopped() {
            if !self.may_begin(&mut cause).await {
                continue;
            }
            self.wakeups.caught_up();
            let outcome = match cause {
                Cause::Glance => self.engine.glance().await,
                Cause::Start | Cause::Due | Cause::Changed => Some(self.engine.cycle().await),
            };
            if let Some(outcome) = outcome {
                self.metrics.cycle(cause, &outcome);
                #[cfg(feature = "otel")]
                self.traces.cycle(cause, &outcome);
                self.teller.tell(&outcome);
                self.prefer(&outcome);
                self.show(Stage::Running, Some(outcome));
            } else {
                self.show(Stage::Running, None);
            }
            cause = self.next_cause(&stopper).await;
        }
    }

    /// Tells the webhook where the next replicas would best go, for those that others ask
    /// for.
    fn prefer(&self, outcome: &CycleOutcome) {
        let Some(webhook) = &self.world.webhook else { return };
        let Some(planned) = &outcome.planned else { return };
        let workloads = planned.report.workloads.iter();
        let next = workloads.map(|(id, report)| (id.clone(), report.next.clone()));
        webhook.prefer(next.filter(|(_, nodes)| !nodes.is_empty()).collect(), PREFERENCES);
    }

    /// Whether everything is seen and this process may write. Otherwise waits a moment
    /// for it; the next cycle is then the first of a reign.
    async fn may_begin(&mut self, cause: &mut Cause) -> bool {
        /// The longest wait before a stop is noticed.
        const MOMENT: Duration = Duration::from_millis(250);
        let leading = match &self.lease {
            Some(lease) => lease.may_write().await,
            None => true,
        };
        self.lead(leading);
        if !self.world.cluster.synced() {
            self.show(Stage::Syncing, None);
            time::sleep(MOMENT).await;
            return false;
        }
        if !leading {
            *cause = Cause::Start;
            self.show(Stage::Waiting, None);
            time::sleep(MOMENT).await;
            return false;
        }
        if *cause == Cause::Start {
            self.say_weights_elsewhere();
            self.show(Stage::FirstCycle, None);
        }
        true
    }

    /// Names the namespaces that are not managed (any more) and still hold weights.
    fn say_weights_elsewhere(&self) {
        for (namespace, rules) in self.world.cluster.weights_elsewhere() {
            tracing::warn!(
                namespace,
                rules,
                "routing rules hold weights of StornX, and it is not in NAMESPACES: nobody follows them"
            );
        }
    }

    /// Says it once when leadership is won or lost.
    fn lead(&mut self, leading: bool) {
        let Some(lease) = &self.lease else { return };
        if std::mem::replace(&mut self.leads, leading) == leading {
            return;
        }
        self.metrics.lease_changed();
        if leading {
            tracing::info!(holder = lease.holder(), "this process leads");
        } else {
            // What the last cycle found is somebody else's to tell now.
            self.metrics.forget_cycle();
            self.board.stand_by();
            tracing::warn!(holder = lease.holder(), "this process does not lead any more");
        }
    }

    /// Waits for the next cause, or a stop.
    async fn next_cause(&mut self, stopper: &stornx_core::engine::Stop) -> Cause {
        const MOMENT: Duration = Duration::from_millis(250);
        let Self { wakeups, shown, .. } = self;
        let next = wakeups.next();
        tokio::pin!(next);
        loop {
            tokio::select! {
                cause = &mut next => return cause,
                () = time::sleep(MOMENT) => {
                    if stopper.is_stopped() {
                        return Cause::Due;
                    }
                    shown.send_modify(|shown| shown.turned = Instant::now());
                }
            }
        }
    }

    fn show(&self, stage: Stage, outcome: Option<CycleOutcome>) {
        let outcome = outcome.map(Arc::new);
        if let Some(outcome) = &outcome {
            self.board.show(outcome.clone());
        }
        self.shown.send_modify(|shown| {
            shown.stage = stage;
            shown.turned = Instant::now();
            if let Some(outcome) = outcome.filter(|outcome| outcome.planned.is_some()) {
                shown.last = Some(Arc::new(Last::new(outcome)));
            }
        });
    }
}

/// A token that is cancelled by SIGTERM or SIGINT.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
        token.cancel();
    });
    Ok(stop)
}

/// Listens on all addresses: both families where the machine has IPv6.
fn listen(port: u16) -> anyhow::Result<TcpListener> {
    web::listen((Ipv6Addr::UNSPECIFIED, port).into())
        .or_else(|_| web::listen((Ipv4Addr::UNSPECIFIED, port).into()))
        .with_context(|| format!("APP_PORT = {port}: the port cannot be listened on"))
}

/// Follows `LOG_LEVEL` in the settings file. Other settings need a restart: a half of
/// new ones in the middle of a cycle helps nobody.
async fn follow_file(file: Option<PathBuf>, level: logs::LogLevel, mut current: config::LogFilter) {
    let Some(file) = file else { return };
    let mut every = time::interval(LOOK_AT_FILE);
    let mut seen = None;
    loop {
        every.tick().await;
        let changed = std::fs::metadata(&file).and_then(|data| data.modified()).ok();
        if changed == seen {
            continue;
        }
        seen = changed;
        match config::load_from_process(Some(&file)) {
            Ok(effective) if effective.settings.log != current => {
                current = effective.settings.log;
                level.set(&current);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!("the settings file is not used any more: {error}"),
        }
    }
}
