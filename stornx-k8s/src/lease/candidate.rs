//! Gets the lease, keeps it and gives it back: one attempt after the other, each at its
//! time. Why the times are these stands in the module above.

use std::{sync::Arc, time::Duration};

use stornx_core::ports::PortError;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Gate, LeaseOptions,
    record::{Record, Records, Seen, Version},
};
use crate::{
    error::no_answer,
    random,
    stats::{ErrorStats, LEASE},
};

/// The holder renews in parts of the duration like this: three renewals in a row may
/// fail at once before the lease is lost.
pub(super) const RENEWALS: u32 = 8;
/// Others look in parts like this, which is how long a lease that was given back stays
/// untaken.
pub(super) const LOOKS: u32 = 16;
/// One attempt, all its requests together, is given up after such a part: a connection
/// that died in silence leaves time for another attempt before the lease is lost.
const ATTEMPTS: u32 = 3;

/// For giving the lease back, all requests together: a stop has better things to wait
/// for, and a lease that is not given back runs out by itself.
pub(super) const GIVING_BACK: Duration = Duration::from_secs(1);

/// For how long a lease of this duration is held.
pub(super) fn held(duration: Duration) -> Duration {
    duration * 3 / 5
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
    /// Nothing once it has vanished.
    seen: Option<Seen>,
    /// Since when it has stood like this.
    since: Instant,
    /// What it says, or said before it vanished.
    duration: Duration,
}

impl Theirs {
    /// When it runs out, as far as we have seen.
    fn runs_out(&self) -> Instant {
        self.since + held(self.duration)
    }
}

pub(super) struct Candidate<R> {
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
    pub(super) fn new(
        records: R,
        options: &LeaseOptions,
        gate: Arc<Gate>,
        errors: Arc<ErrorStats>,
    ) -> Self {
        let (identity, duration) = (options.identity.clone(), options.duration);
        let (ours, theirs) = (None, None);
        Self { records, identity, duration, gate, ours, theirs, failing: false, errors }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
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
        let limit = self.duration / ATTEMPTS;
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
                let next = Instant::now() + look;
                // A look that is under way when it runs out would be in the way.
                if next + look < runs_out { next } else { runs_out }
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
            return self.renew(ours, sent).await;
        }
        match self.take_over(sent).await? {
            Some(standing) => Ok(standing),
            None => self.look().await,
        }
    }

    /// Unless the answer comes, the version is not known, and has to be read.
    async fn renew(&mut self, ours: Seen, sent: Instant) -> Result<Standing, PortError> {
        match self.records.replace(&ours.record, &ours.version).await {
            Ok(version) => Ok(self.confirm(ours.record, version, sent)),
            Err(error @ PortError::Conflict { .. }) => {
                // Somebody wrote it: whoever it was, it is not ours to count on.
                self.gate.hold(None);
                tracing::warn!("the lease was taken away: {error}");
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a lease that has run out as far as we have seen. Whether that was all there
    /// was to see, the version tells; if not, it has to be looked at.
    async fn take_over(&mut self, sent: Instant) -> Result<Option<Standing>, PortError> {
        let run_out = self.theirs.as_ref().filter(|theirs| theirs.runs_out() <= sent);
        let Some(seen) = run_out.and_then(|theirs| theirs.seen.as_ref()) else { return Ok(None) };
        let record = seen.record.taken(&self.identity, self.duration);
        match self.records.replace(&record, &seen.version).await {
            Ok(version) => Ok(Some(self.confirm(record, version, sent))),
            Err(PortError::Conflict { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks who holds it, and takes it if it is free.
    async fn look(&mut self) -> Result<Standing, PortError> {
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
        let duration = match seen {
            Some(Seen { record, .. }) => {
                self.gate.note_holder(record.holder.clone());
                record.holder.as_ref().filter(|holder| **holder != self.identity)?;
                record.duration
            }
            // Deleted while somebody held it, who learns of it with the next renewal.
            None => self.theirs.as_ref()?.duration,
        };
        let version = |seen: Option<&Seen>| seen.map(|seen| seen.version.clone());
        let since = match &self.theirs {
            Some(theirs) if version(theirs.seen.as_ref()) == version(seen) => theirs.since,
            _ => received,
        };
        let theirs = Theirs { seen: seen.cloned(), since, duration };
        Some(self.theirs.insert(theirs).runs_out())
    }

    fn confirm(&mut self, record: Record, version: Version, sent: Instant) -> Standing {
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
