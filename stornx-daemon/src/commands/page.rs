//! The web page of the daemon over something else than a live cluster: the simulated one of
//! the demo, or a recorded snapshot. For this machine alone.

use std::{net::Ipv4Addr, sync::Arc, thread};

use anyhow::Context as _;
use stornx_core::{
    engine::{CycleOutcome, DRY_RUN},
    model::Snapshot,
    plan::Planned,
    policy::PricePolicy,
    ports::PortError,
    units::Span,
};
use tokio_util::sync::CancellationToken;

use crate::web::{
    self, Board, Limits, Page,
    view::{Banner, HistoryPlace, Source, Stage},
};

/// Longer than any scenario.
const KEEP: Span = Span::from_seconds(24 * 3600);

/// The page, served until the process ends.
pub(super) struct LocalPage {
    board: Arc<Board>,
    /// Where a browser finds it.
    pub(super) address: String,
}

impl LocalPage {
    /// Serves on `APP_PORT` of this machine.
    pub(super) fn start(banner: Banner, price: PricePolicy) -> anyhow::Result<Self> {
        let port = match std::env::var("APP_PORT") {
            Ok(text) => text
                .parse()
                .with_context(|| format!("APP_PORT = {text:?}: allowed is a port, 0 to 65535"))?,
            Err(_) => 3000,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _within = runtime.enter();
            web::listen((Ipv4Addr::LOCALHOST, port).into())
                .with_context(|| format!("APP_PORT = {port}: the port cannot be listened on"))?
        };
        let address = format!("http://{}/", listener.local_addr()?);
        let board = Board::start(price, KEEP, None);
        let banner = Arc::new(move || banner.clone());
        let (limits, stop) = (Limits::default(), CancellationToken::new());
        let page = Page::new(board.clone(), banner, stop.clone(), limits);
        thread::spawn(move || {
            let routes = web::guarded(web::routes(page));
            runtime.block_on(web::serve(listener, routes, limits, stop));
        });
        Ok(Self { board, address })
    }

    /// Shows a cycle.
    pub(super) fn show(&self, outcome: CycleOutcome) {
        self.board.show_all(Arc::new(outcome));
    }

    /// Another world begins.
    pub(super) fn begin_anew(&self) {
        self.board.begin_anew();
    }
}

/// A banner of something that is no live cluster.
pub(super) fn banner(
    source: Source,
    scenario: Option<&str>,
    dry_run: bool,
    namespaces: Vec<String>,
) -> Banner {
    Banner {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        source,
        stage: Stage::Running,
        dry_run,
        leader: None,
        kubernetes: None,
        scenario: scenario.map(ToOwned::to_owned),
        namespaces,
        not_ready: Vec::new(),
        next_cycle: None,
        overdue_since: None,
        history: HistoryPlace::Memory,
    }
}

/// The cycle of a plan that nobody carries out.
pub(super) fn dry(snapshot: Snapshot, planned: Planned) -> CycleOutcome {
    let not_tried = |action: &stornx_core::plan::Action| {
        Err(PortError::NotTried { what: action.to_string(), detail: DRY_RUN.to_owned() })
    };
    CycleOutcome {
        at: snapshot.taken_at,
        outcomes: planned.plan.actions.iter().map(not_tried).collect(),
        memory: Some(snapshot.memory.clone()),
        snapshot: Some(snapshot),
        planned: Some(planned),
        violations: Vec::new(),
        errors: Vec::new(),
        took: std::collections::BTreeMap::new(),
    }
}
