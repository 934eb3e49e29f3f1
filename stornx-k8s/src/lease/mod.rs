//! The lease: at most one daemon writes.
//!
//! With `T` the duration of the lease and `D` three fifths of it:
//!
//! - We hold it until `D` after our last *confirmed* request was *sent*, by our own
//!   monotonic clock. The API server wrote it at that instant or later.
//! - Somebody else takes it only after `D` without seeing the record change, by their
//!   own monotonic clock, counted from when they had *received* it: at the instant of
//!   our write or later. So they begin when we have ended. Wall clocks are written into
//!   the record for people and compared by nobody.
//! - [`may_write`](LeaderGate::may_write) is true only while one whole write time-out
//!   is left, so that a write is answered or given up before the lease can be taken.
//! - Every write of the record names the object and the version that it replaces. Taking
//!   it needs no look of its own before: if the record has changed since, it fails.
//! - A record that vanishes while somebody holds it is waited for like one that stands
//!   still. Whoever starts after it vanished cannot know: do not delete the Lease of a
//!   daemon that runs.
//!
//! How soon a dead leader is followed, with `a` the longest that an answer takes: its
//! last renewal is written at `t`. A look that is under way then may still show the
//! record before it (`a`); the next is sent a sixteenth of `T` later and shows it (`a`);
//! `D` after that the other sends the request that takes it, at that instant and not
//! with the next look, and no look is under way then. It leads with the answer (`a`).
//! In all `T` (3/5 + 1/16) + 3 `a`, less than `T` while answers take less than a ninth
//! of it: 1.6 s of 15. What is given back is taken `T`/16 + 3 `a` later at most.
//!
//! How the leader keeps it: with a write time-out of a third of `T`, the longest that
//! settings allow, writes may begin for 4/15 of `T` after a renewal was sent; the next is
//! sent after an eighth. The answer may take another seventh before writing pauses, and
//! nearly half of `T` before the lease is lost.
//!
//! Clocks may differ in rate by as much as the answer takes to arrive, which is what is
//! left between "sent" and "received"; real clocks differ by less than a thousandth. They
//! must go on while a process stands still. That of a machine that is suspended does not:
//! a daemon that wakes up on it believes for the rest of `D` what was true before.
//!
//! `kube-lease-manager` was looked at and is not used: it compares the wall clock of
//! one machine with the record of another, and does not say until when one holds.

mod candidate;
mod record;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stornx_core::{ids::Namespace, ports::LeaderGate};
use tokio::{sync::watch, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    candidate::Candidate,
    record::{KubeRecords, Records},
};
use crate::{connect::Connection, stats::ErrorStats};

/// How the lease is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Who we are; must differ between any two processes, also one after the other.
    pub identity: String,
    /// How long after its last sign of life a leader is replaced.
    pub duration: Duration,
    /// The longest that one action of the actuator may take. Has to be well below half of
    /// the duration: 19/40 of it are left of the lease when a renewal is due.
    pub write_timeout: Duration,
}

/// A lease, asked for and renewed by a task of its own.
#[derive(Debug)]
pub struct Lease {
    gate: Arc<Gate>,
    stop: CancellationToken,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

/// What the task says and others ask.
#[derive(Debug)]
struct Gate {
    write_timeout: Duration,
    held_until: Mutex<Option<Instant>>,
    leading: watch::Sender<bool>,
    holder: Mutex<Option<String>>,
}

impl Gate {
    fn held_until(&self) -> Option<Instant> {
        *self.held_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, until: Option<Instant>) {
        *self.held_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        self.publish();
    }

    /// The last instant at which a write may begin.
    fn closes_at(&self) -> Option<Instant> {
        self.held_until()?.checked_sub(self.write_timeout)
    }

    fn is_open(&self) -> bool {
        self.closes_at().is_some_and(|closes| Instant::now() < closes)
    }

    fn publish(&self) {
        let open = self.is_open();
        self.leading.send_if_modified(|was| std::mem::replace(was, open) != open);
    }

    fn note_holder(&self, holder: Option<String>) {
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = holder;
    }
}

impl Lease {
    /// Asks for the lease from now on, as a task of the runtime that this is called in.
    #[must_use]
    pub fn start(connection: &Connection, options: LeaseOptions) -> Self {
        let records = KubeRecords::new(connection.client().clone(), &options);
        Self::over(records, &options, connection.error_stats())
    }

    fn over(
        records: impl Records + 'static,
        options: &LeaseOptions,
        errors: Arc<ErrorStats>,
    ) -> Self {
        let gate = Arc::new(Gate {
            write_timeout: options.write_timeout,
            held_until: Mutex::default(),
            leading: watch::Sender::new(false),
            holder: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let candidate = Candidate::new(records, options, Arc::clone(&gate), errors);
        let task = tokio::spawn(candidate.run(stop.clone()));
        Self { gate, stop, task: tokio::sync::Mutex::new(Some(task)) }
    }

    /// Whether writes may begin; changes as soon as they may not any more.
    #[must_use]
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.gate.leading.subscribe()
    }

    /// Who holds the lease, as last seen.
    #[must_use]
    pub fn holder(&self) -> Option<String> {
        self.gate.holder.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gives the lease back, so that nobody has to wait for it to run out; tries for a
    /// second at most. No write may be under way.
    pub async fn release(&self) {
        self.gate.hold(None);
        self.stop.cancel();
        // The task ends by itself; a panic of it has nothing left to release.
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.gate.hold(None);
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

#[async_trait]
impl LeaderGate for Lease {
    async fn may_write(&self) -> bool {
        self.gate.is_open()
    }
}
