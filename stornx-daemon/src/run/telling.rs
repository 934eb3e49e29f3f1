//! Tells what is news: as log lines at once, as events on workloads by and by. Events
//! are writes: only the one that may write sends them, none in a dry run, and a cluster
//! that has much to tell (the first cycle over thousands of workloads) is told slowly.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stornx_core::{engine::CycleOutcome, ids::WorkloadRef, ports::LeaderGate};
use stornx_k8s::{EventKind, EventRecorder, Lease};
use tokio::{sync::mpsc, time};
use tracing::Level;

use super::{
    journal::{EventReason, Journal, Note},
    metrics::Metrics,
};

/// Events that may wait. The log has all of them.
const MOST_WAITING: usize = 1000;

/// Least time between two events: 20 a second, far below what an API server minds.
const BETWEEN: Duration = Duration::from_millis(50);

struct Event {
    workload: WorkloadRef,
    reason: EventReason,
    text: String,
}

/// Tells.
pub(super) struct Teller {
    journal: Journal,
    events: Option<mpsc::Sender<Event>>,
    metrics: Arc<Metrics>,
    failed: Arc<AtomicU64>,
}

impl Teller {
    pub(super) fn start(
        recorder: EventRecorder,
        lease: Option<Arc<Lease>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let failed = Arc::new(AtomicU64::new(0));
        let events = lease.map(|lease| {
            let (sender, receiver) = mpsc::channel(MOST_WAITING);
            tokio::spawn(send(receiver, recorder, lease, failed.clone()));
            sender
        });
        Self { journal: Journal::default(), events, metrics, failed }
    }

    /// Tells what is new in a cycle.
    pub(super) fn tell(&mut self, outcome: &CycleOutcome) {
        for note in self.journal.notes(outcome) {
            log(&note);
            let (Some(events), Some(reason), Some(workload)) =
                (&self.events, note.event, note.workload)
            else {
                continue;
            };
            if events.try_send(Event { workload, reason, text: note.text }).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        let waiting =
            self.events.as_ref().map_or(0, |events| events.max_capacity() - events.capacity());
        self.metrics.events(waiting, self.failed.swap(0, Ordering::Relaxed));
    }
}

async fn send(
    mut events: mpsc::Receiver<Event>,
    recorder: EventRecorder,
    lease: Arc<Lease>,
    failed: Arc<AtomicU64>,
) {
    // One line for a time of failures, not one for each event.
    let mut well = true;
    while let Some(event) = events.recv().await {
        if !lease.may_write().await {
            continue;
        }
        let Event { workload, reason: EventReason { reason, warning }, text } = event;
        let kind = if warning { EventKind::Warning } else { EventKind::Normal };
        match recorder.publish(&workload, reason, &text, kind).await {
            Ok(()) => well = true,
            Err(error) => {
                failed.fetch_add(1, Ordering::Relaxed);
                if std::mem::replace(&mut well, false) {
                    tracing::warn!(%workload, "events cannot be sent: {error}");
                }
            }
        }
        time::sleep(BETWEEN).await;
    }
}

fn log(note: &Note) {
    macro_rules! line {
        ($level:ident) => {
            match &note.workload {
                Some(workload) => tracing::event!(
                    Level::$level,
                    about = note.about,
                    %workload,
                    reason = note.reason,
                    "{}",
                    note.text
                ),
                None => tracing::event!(
                    Level::$level,
                    about = note.about,
                    reason = note.reason,
                    "{}",
                    note.text
                ),
            }
        };
    }
    match note.level {
        Level::ERROR => line!(ERROR),
        Level::WARN => line!(WARN),
        Level::INFO => line!(INFO),
        Level::DEBUG => line!(DEBUG),
        Level::TRACE => line!(TRACE),
    }
}
