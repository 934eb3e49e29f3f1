//! Who wrote what under which lease: the oracle of the tests with several daemons.
//!
//! It knows nothing of our clocks: it reads in the order and with the times of the API
//! server who renewed the lease when, and who wrote what when. A lease is current from the
//! request that renewed it until the time for which it is held has passed, or until
//! somebody else holds it.

use std::time::Duration;

use jiff::Timestamp;

use super::audit::{Audit, Place};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One write that the API server accepted.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    user: String,
    /// When the request came in, and when the answer went out, ms.
    received: i64,
    answered: i64,
    what: String,
    /// The holder that was written, when it is a lease.
    lease: Option<String>,
}

impl Entry {
    /// Whether a user wrote something else than the lease.
    pub(crate) fn is_write_of(&self, user: &str) -> bool {
        self.user == user && self.lease.is_none()
    }
}

/// The writes since `from`, events apart.
pub(crate) fn entries(log: &Audit, from: &mut Place) -> Result<Vec<Entry>, Failure> {
    let mut entries = Vec::new();
    for event in log.entries_since(from)? {
        let accepted = event["responseStatus"]["code"].as_i64().is_some_and(|code| code < 300);
        let target = &event["objectRef"];
        if !accepted || target["resource"] == "events" {
            continue;
        }
        let at = |field: &str| -> Result<i64, Failure> {
            let text = event[field].as_str().ok_or("no time")?;
            Ok(text.parse::<Timestamp>()?.as_millisecond())
        };
        let holder = &event["requestObject"]["spec"]["holderIdentity"];
        let is_lease = target["resource"] == "leases";
        entries.push(Entry {
            user: event["user"]["username"].as_str().unwrap_or_default().to_owned(),
            received: at("requestReceivedTimestamp")?,
            answered: at("stageTimestamp")?,
            what: format!("{} {}/{}", event["verb"], target["resource"], target["name"]),
            lease: is_lease.then(|| holder.as_str().unwrap_or_default().to_owned()),
        });
    }
    entries.sort_by_key(|entry| entry.received);
    Ok(entries)
}

/// What was found where nothing was wrong. Times are ms.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) writes: usize,
    /// From the last renewal of a holder that was lost to the answer to the next one's
    /// first, for each time that it was lost.
    pub(crate) taken: Vec<i64>,
    /// From the answer to a holder that gave the lease back to the next one's request.
    pub(crate) given_back: Vec<i64>,
}

/// A lease that stands.
struct Reign<'a> {
    user: &'a str,
    /// The process.
    identity: &'a str,
    renewed: i64,
    until: i64,
}

/// Goes through all that was written; `held` is for how long a lease is held after its
/// last renewal.
///
/// # Errors
/// A write without a current lease, or a lease that was taken before its time.
pub(crate) fn judge(entries: &[Entry], held: Duration) -> Result<Judged, Failure> {
    let held = i64::try_from(held.as_millis())?;
    let mut judged = Judged::default();
    let mut reign: Option<Reign<'_>> = None;
    let (mut given_back, mut last_write): (Option<i64>, Option<&Entry>) = (None, None);
    for entry in entries {
        let Some(identity) = entry.lease.as_deref() else {
            judged.writes += 1;
            let under = reign
                .as_ref()
                .filter(|reign| reign.user == entry.user && entry.answered <= reign.until);
            if under.is_none() {
                return Err(format!("{} without a lease: {entry:?}", entry.what).into());
            }
            last_write = Some(entry);
            continue;
        };
        let same = reign.as_ref().is_some_and(|reign| reign.identity == identity);
        if !same && let Some(write) = last_write.filter(|last| last.answered > entry.received) {
            return Err(format!("{write:?} while the lease changes hands: {entry:?}").into());
        }
        if identity.is_empty() {
            reign = None;
            given_back = Some(entry.answered);
            continue;
        }
        if let Some(before) = reign.as_ref().filter(|_| !same) {
            if entry.received < before.until {
                let holder = before.identity;
                return Err(format!("taken from {holder} before its time: {entry:?}").into());
            }
            judged.taken.push(entry.answered - before.renewed);
        }
        if let Some(answered) = given_back.take() {
            judged.given_back.push(entry.received - answered);
        }
        let (renewed, until) = (entry.received, entry.received + held);
        reign = Some(Reign { user: &entry.user, identity, renewed, until });
    }
    Ok(judged)
}
