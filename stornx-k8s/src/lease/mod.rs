//! The lease: at most one daemon writes.
//!
//! How it is safe, with `D` four fifths of the duration of the lease (the rest is what
//! others need to see that it was not renewed, so that a dead leader is followed within
//! the duration):
//!
//! - We hold it until `D` after our last *confirmed* request was *sent*, by our own
//!   monotonic clock. The API server wrote it at that instant or later.
//! - Somebody else takes it only after seeing the record unchanged for `D`, by their
//!   own monotonic clock, counted from when they had *received* it: at the instant of
//!   our write or later. So they begin when we have ended. Wall clocks are written into
//!   the record for people and compared by nobody.
//! - [`may_write`](LeaderGate::may_write) is true only while one whole write time-out
//!   is left, so that a write is answered or given up before the lease can be taken.
//! - Every write of the record names the version that it replaces.
//! - A record that vanishes while somebody holds it is waited for like one that stands
//!   still. Whoever starts after it vanished cannot know: do not delete the Lease of a
//!   daemon that runs.
//!
//! Clocks may differ in rate by as much as the answer takes to arrive, which is what is
//! left between "sent" and "received"; real clocks differ by less than a thousandth.
//!
//! `kube-lease-manager` was looked at and is not used: it compares the wall clock of
//! one machine with the record of another, and does not say until when one holds.

mod record;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use stornx_core::{
    ids::Namespace,
    ports::{LeaderGate, PortError},
};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::record::{KubeRecords, Record, Records, Seen};
use crate::{
    connect::Connection,
    error::no_answer,
    random,
    stats::{ErrorStats, LEASE},
};

/// How the lease is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// Who we are; must differ between any two processes, also one after the other.
    pub identity: String,
    /// For how long it holds without being renewed; renewed at a third of it.
    pub duration: Duration,
    /// The longest that one action of the actuator may take. Has to be well below two
    /// thirds of the duration: that is what is left when a renewal is due.
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
        let candidate = Candidate {
            records,
            identity: options.identity.clone(),
            duration: options.duration,
            gate: Arc::clone(&gate),
            ours: None,
            theirs: None,
            failing: false,
            errors,
        };
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

/// A third of the duration: two renewals may fail before the lease runs out.
const RENEWALS: u32 = 3;
/// How often others look, as a part of the duration: how long a released lease stays
/// untaken.
const LOOKS: u32 = 8;

/// For giving the lease back, all requests together: a stop has better things to wait
/// for, and a lease that is not given back runs out by itself.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// For how long a lease of this duration is held. A look (an eighth) and its answer fit
/// into the fifth that is left.
fn held(duration: Duration) -> Duration {
    duration * 4 / 5
}

/// What came of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Held,
    /// By somebody else, whose lease runs out then unless it is renewed.
    Theirs(Instant),
}

/// The record of somebody else.
struct Theirs {
    /// Its version; empty once it has vanished.
    version: String,
    /// Since when it has stood like this.
    since: Instant,
    duration: Duration,
}

struct Candidate<R> {
    records: R,
    identity: String,
    duration: Duration,
    gate: Arc<Gate>,
    /// The record as we last wrote it.
    ours: Option<Seen>,
    /// The record of somebody else, as last seen.
    theirs: Option<Theirs>,
    failing: bool,
    errors: Arc<ErrorStats>,
}

impl<R: Records> Candidate<R> {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                next = self.attempt() => next,
                () = stop.cancelled() => break,
            };
            if !self.wait(next, &stop).await {
                break;
            }
        }
        self.give_back().await;
    }

    /// One attempt to get or keep the lease; says when to try next.
    async fn attempt(&mut self) -> Instant {
        let sent = Instant::now();
        let limit = self.duration / RENEWALS;
        let what = "renew the lease";
        let outcome = match timeout(limit, self.step(sent)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(no_answer(what, limit)),
        };
        let spread = 0.8 + 0.2 * random();
        let look = (self.duration / LOOKS).mul_f64(spread);
        match self.errors.counted(LEASE, outcome) {
            Ok(Standing::Held) => {
                self.recovered();
                sent + (self.duration / RENEWALS).mul_f64(spread)
            }
            Ok(Standing::Theirs(runs_out)) => {
                self.recovered();
                (Instant::now() + look).min(runs_out)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("the lease: {error}");
                }
                Instant::now() + look
            }
        }
    }

    fn recovered(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("the lease can be read and written again");
        }
    }

    async fn step(&mut self, sent: Instant) -> Result<Standing, PortError> {
        if let Some(ours) = self.ours.take() {
            // Unless the answer comes, the version is not known, and has to be read.
            return match self.records.replace(&ours.record, &ours.version).await {
                Ok(version) => Ok(self.confirm(ours.record, version, sent)),
                Err(error @ PortError::Conflict { .. }) => {
                    // Somebody wrote it: whoever it was, it is not ours to count on.
                    self.gate.hold(None);
                    tracing::warn!("the lease was taken away: {error}");
                    Err(error)
                }
                Err(error) => Err(error),
            };
        }
        let seen = self.records.read().await?;
        let received = Instant::now();
        if let Some(runs_out) = self.runs_out(seen.as_ref(), received)
            && received < runs_out
        {
            return Ok(Standing::Theirs(runs_out));
        }
        // What is sent from here on is sent after `received`.
        let (record, version) = match seen {
            Some(seen) => {
                let record = seen.record.taken(&self.identity, self.duration);
                let version = self.records.replace(&record, &seen.version).await?;
                (record, version)
            }
            None => {
                let record = Record::first(&self.identity, self.duration);
                let version = self.records.create(&record).await?;
                (record, version)
            }
        };
        Ok(self.confirm(record, version, received))
    }

    /// When the lease of somebody else runs out, as far as we have seen; `None` when it
    /// is nobody's, or ours by a request whose answer did not come.
    fn runs_out(&mut self, seen: Option<&Seen>, received: Instant) -> Option<Instant> {
        let (version, duration) = match seen {
            Some(Seen { record, version }) => {
                self.gate.note_holder(record.holder.clone());
                record.holder.as_ref().filter(|holder| **holder != self.identity)?;
                (version.clone(), record.duration)
            }
            // Deleted while somebody held it, who learns of it with the next renewal.
            None => (String::new(), self.theirs.as_ref()?.duration),
        };
        let since = match &self.theirs {
            Some(theirs) if theirs.version == version => theirs.since,
            _ => received,
        };
        self.theirs = Some(Theirs { version, since, duration });
        Some(since + held(duration))
    }

    fn confirm(&mut self, record: Record, version: String, sent: Instant) -> Standing {
        self.gate.note_holder(record.holder.clone());
        self.ours = Some(Seen { record, version });
        self.theirs = None;
        self.gate.hold(Some(sent + held(self.duration)));
        Standing::Held
    }

    /// Waits until `next`, telling when the gate closes meanwhile; false to stop.
    async fn wait(&self, next: Instant, stop: &CancellationToken) -> bool {
        loop {
            let closes = self.gate.closes_at().filter(|closes| *closes > Instant::now());
            let until = closes.map_or(next, |closes| closes.min(next));
            tokio::select! {
                () = sleep_until(until) => {}
                () = stop.cancelled() => return false,
            }
            self.gate.publish();
            if Instant::now() >= next {
                return true;
            }
        }
    }

    async fn give_back(&mut self) {
        self.gate.hold(None);
        let what = "give the lease back";
        let outcome = match timeout(GIVING_BACK, self.release()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(no_answer(what, GIVING_BACK)),
        };
        match self.errors.counted(LEASE, outcome) {
            Ok(true) => tracing::info!("the lease is given back"),
            Ok(false) => {}
            Err(error) => tracing::warn!("the lease was not given back: {error}"),
        }
    }

    /// Says whether it was ours. A stop drops an attempt whose answer has not come: the
    /// record tells what became of it, and if the request arrives later still, it names
    /// a version that stands no more.
    async fn release(&mut self) -> Result<bool, PortError> {
        let mut known = self.ours.take();
        loop {
            let seen = match known.take() {
                Some(ours) => Some(ours),
                None => self.records.read().await?,
            };
            let is_ours = |seen: &Seen| seen.record.holder.as_deref() == Some(&self.identity);
            let Some(Seen { record, version }) = seen.filter(is_ours) else { return Ok(false) };
            match self.records.replace(&record.released(), &version).await {
                Ok(_) => return Ok(true),
                // Renewed or taken in between: read which.
                Err(PortError::Conflict { .. }) => tokio::task::yield_now().await,
                Err(error) => return Err(error),
            }
        }
    }
}
