//! Makes documents of cycles, from a thread of its own: the loop hands each outcome over and
//! goes on. Readers are given the last document; one that is slow skips those between.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use axum::body::Bytes;
use stornx_core::{engine::CycleOutcome, policy::PricePolicy, units::Span};
use tokio::sync::watch;

use super::{
    history::{History, Point},
    keep::Keeper,
    view::{self, HistoryPlace, Latest, MOST_DECISIONS},
};

/// Cycles that may wait for their documents; each holds a snapshot.
const MOST_WAITING: usize = 4;

/// The last document as text: many readers, one serialisation.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) id: u64,
    pub(crate) json: Bytes,
    /// The cycle that it is about, for what it leaves out.
    pub(crate) cycle: Option<Arc<CycleOutcome>>,
}

/// What a board is told.
#[derive(Debug)]
enum Note {
    Cycle(Arc<CycleOutcome>),
    /// What was before is of another world.
    BeginAnew,
    /// What is decided from now on is somebody else's to tell.
    StandBy,
}

/// Where cycles are shown.
#[derive(Debug)]
pub(crate) struct Board {
    cycles: SyncSender<Note>,
    documents: watch::Receiver<Arc<Document>>,
    history: Arc<Mutex<History>>,
    keeper: Arc<Option<Mutex<Keeper>>>,
}

impl Board {
    /// An empty board. History is kept for `keep`, in `file` where one is given.
    pub(crate) fn start(price: PricePolicy, keep: Span, file: Option<&str>) -> Arc<Self> {
        let history = Arc::new(Mutex::new(History::new(keep)));
        let keeper = file.map(|file| Mutex::new(Keeper::start(file.into(), history.clone())));
        let keeper = Arc::new(keeper);
        let (cycles, notes) = sync_channel(MOST_WAITING);
        let mut scribe = Scribe { latest: Latest::default(), cycle: None, price };
        let (sender, documents) = watch::channel(Arc::new(scribe.document()));
        let board = Self { cycles, documents, history: history.clone(), keeper: keeper.clone() };
        thread::spawn(move || turn(&notes, &mut scribe, &sender, &history, &keeper));
        Arc::new(board)
    }

    /// Shows a cycle. Never waits: a cycle that comes too soon is left out.
    pub(crate) fn show(&self, outcome: Arc<CycleOutcome>) {
        match self.cycles.try_send(Note::Cycle(outcome)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::debug!("a cycle is not shown on the page"),
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Shows a cycle, and waits for its turn.
    pub(crate) fn show_all(&self, outcome: Arc<CycleOutcome>) {
        let _ = self.cycles.send(Note::Cycle(outcome));
    }

    /// Shows no cycle any more: somebody else decides. History stays.
    pub(crate) fn stand_by(&self) {
        let _ = self.cycles.send(Note::StandBy);
    }

    /// Forgets what was shown, history as well.
    pub(crate) fn begin_anew(&self) {
        let _ = self.cycles.send(Note::BeginAnew);
    }

    /// The documents.
    pub(crate) fn documents(&self) -> watch::Receiver<Arc<Document>> {
        self.documents.clone()
    }

    /// What was.
    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        lock(&self.history)
    }

    /// Where that is kept.
    pub(crate) fn history_place(&self) -> HistoryPlace {
        let kept = self.keeper.as_ref().as_ref();
        let in_file = kept.is_some_and(|keeper| lock(keeper).in_file().load(Ordering::Relaxed));
        if in_file { HistoryPlace::File } else { HistoryPlace::Memory }
    }

    /// Writes history once more, and waits for it, not for ever.
    pub(crate) fn end(&self, longest: Duration) {
        if let Some(keeper) = self.keeper.as_ref() {
            lock(keeper).end(longest);
        }
    }
}

/// Nothing is left half done under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn turn(
    notes: &Receiver<Note>,
    scribe: &mut Scribe,
    documents: &watch::Sender<Arc<Document>>,
    history: &Mutex<History>,
    keeper: &Option<Mutex<Keeper>>,
) {
    for note in notes {
        match note {
            Note::Cycle(outcome) => {
                if let Some(point) = scribe.take(&outcome) {
                    lock(history).push(point);
                    if let Some(keeper) = keeper {
                        lock(keeper).notify();
                    }
                }
            }
            Note::BeginAnew => {
                lock(history).clear();
                scribe.forget();
            }
            Note::StandBy => scribe.forget(),
        }
        documents.send_replace(Arc::new(scribe.document()));
    }
}

/// Knows what was written last.
struct Scribe {
    latest: Latest,
    cycle: Option<Arc<CycleOutcome>>,
    price: PricePolicy,
}

impl Scribe {
    /// Takes a cycle over; gives its point in history.
    fn take(&mut self, outcome: &Arc<CycleOutcome>) -> Option<Point> {
        let latest = &mut self.latest;
        latest.id += 1;
        let errors = outcome.errors.iter().map(ToString::to_string);
        let dropped = outcome.violations.iter().map(|it| format!("the plan was dropped: {it}"));
        latest.problems = errors.chain(dropped).collect();
        latest.problems.truncate(MOST_DECISIONS);
        let cycle = view::of_cycle(outcome, &self.price)?;
        let point = Point::of(outcome, &cycle);
        latest.cycle = Some(cycle);
        self.cycle = Some(outcome.clone());
        self.decided(view::decisions(outcome));
        Some(point)
    }

    fn forget(&mut self) {
        let id = self.latest.id + 1;
        self.latest = Latest { id, ..Latest::default() };
        self.cycle = None;
    }

    /// The newest first. What is decided again with the same result (a dry run does that
    /// with every cycle) is counted and not repeated.
    fn decided(&mut self, decisions: Vec<view::Decision>) {
        let all = &mut self.latest.decisions;
        let mut fresh = Vec::new();
        for mut decision in decisions {
            let same = |old: &view::Decision| {
                decision.result.name != "done"
                    && (&old.kind, &old.service, &old.host, &old.result.name)
                        == (
                            &decision.kind,
                            &decision.service,
                            &decision.host,
                            &decision.result.name,
                        )
            };
            if let Some(at) = all.iter().position(same) {
                decision.times = all.remove(at).times.saturating_add(1);
            }
            fresh.push(decision);
        }
        all.splice(..0, fresh);
        all.truncate(MOST_DECISIONS);
    }

    fn document(&self) -> Document {
        // Maps have text as keys and numbers are finite: there is nothing to refuse.
        let mut json = serde_json::to_vec(&self.latest).unwrap_or_default();
        // It is kept until the next cycle, and grew by doubling.
        json.shrink_to_fit();
        let json = json.into();
        Document { id: self.latest.id, json, cycle: self.cycle.clone() }
    }
}
