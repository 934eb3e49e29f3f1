//! One watch: list in pages, then follow events from the version of the list, for ever.
//!
//! The client library has such a loop of its own. This one exists because it has to
//! say more: bookmarks are signs of life (a connection that died in silence is noticed
//! within [`SILENCE`] instead of minutes), and a failure that lasts is logged once and
//! not with each retry.
//!
//! - A version that is too old (410, by answer or by event) leads to a new list, whose
//!   end drops what has vanished meanwhile.
//! - A watch that the server closes is opened again where it stopped; one that was
//!   closed without a word was none, and counts as a failure.
//! - A watch that says nothing for too long is opened anew: only when that fails has it
//!   been dead since its last word. A server may have had nothing to say.
//! - Failures wait, doubling from [`FIRST_WAIT`] to [`LONGEST_WAIT`], each wait spread
//!   by a fifth so that daemons do not retry in step.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Error, Resource,
    api::{ListParams, WatchParams},
    core::WatchEvent,
};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{Shared, kinds::Kind};
use crate::{error, random};

/// The longest time without an event or bookmark. The API server sends a bookmark about
/// every minute, spread by a quarter.
pub(crate) const SILENCE: Duration = Duration::from_secs(90);
/// For the answer to one page of a list: 500 pods are some megabytes.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);
/// For the server's agreement to a watch.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// A watch that has gone on for this long after it was opened has settled: a server that
/// cannot go on from our version says so at once, or after a few events.
const SETTLING: Duration = Duration::from_secs(1);
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Server-side length of a watch in seconds, and by how much it is spread: eleven
/// watches that were opened together are not renewed together.
const LENGTH: (u32, u32) = (240, 60);

/// Why a watch or list ended.
enum End {
    /// The version is too old: list again.
    Gone,
    /// Nothing was said for [`SILENCE`].
    Quiet,
    /// It failed: class for logging, what came of it, and whether that was only noticed
    /// after a long silence.
    Failed(u16, String, bool),
}

impl End {
    fn of(error: &Error) -> Self {
        match error {
            Error::Api(status) if status.code == 410 => Self::Gone,
            _ => Self::Failed(error::class(error), error::detail(error), false),
        }
    }
}

/// Follows a kind until the task is dropped.
pub(crate) async fn follow<K: Kind>(api: Api<K::Object>, page: u32, shared: Arc<Shared>) {
    let mut wait = Wait::default();
    loop {
        let mut version = match list::<K>(&api, page, &shared).await {
            Ok(version) => version,
            Err(end) => {
                fail::<K>(&shared, end, &mut wait).await;
                continue;
            }
        };
        // Whether the version is the one of the list.
        let mut listed = true;
        // The watch before said nothing for too long.
        let mut quiet = false;
        loop {
            let began = Instant::now();
            let end = watch::<K>(&api, &mut version, &shared).await;
            let lived = began.elapsed() >= SETTLING;
            if lived {
                wait.reset();
            }
            let just_listed = std::mem::replace(&mut listed, false);
            let was_quiet = std::mem::replace(&mut quiet, matches!(end, Err(End::Quiet)));
            match end {
                // It may be dead, or there was nothing to say: opening another one tells.
                Err(End::Quiet) => {}
                Ok(()) if lived => {}
                // Closed again and again, each time after a word or two.
                Ok(()) => sleep(wait.next()).await,
                // A list that is too old as soon as it is complete is not asked for
                // again at once.
                Err(End::Gone) if just_listed && !lived => {
                    fail::<K>(&shared, End::Gone, &mut wait).await;
                    break;
                }
                Err(End::Gone) => break,
                Err(End::Failed(class, detail, unnoticed)) => {
                    let end = End::Failed(class, detail, unnoticed || was_quiet);
                    fail::<K>(&shared, end, &mut wait).await;
                }
            }
        }
    }
}

async fn fail<K: Kind>(shared: &Shared, end: End, wait: &mut Wait) {
    let (class, detail, unnoticed) = match end {
        End::Failed(class, detail, unnoticed) => (class, detail, unnoticed),
        // The list took longer than its version lives.
        End::Gone => (410, "its list has expired already".to_owned(), false),
        End::Quiet => (1, "nothing was said".to_owned(), true),
    };
    shared.healths().failed(K::NAME, class, &detail, unnoticed);
    if K::DISPENSABLE && class == 403 && shared.do_without::<K>() {
        *wait = Wait(LONGEST_WAIT);
    }
    sleep(wait.next()).await;
}

/// Lists everything and gives the version to watch from.
async fn list<K: Kind>(api: &Api<K::Object>, page: u32, shared: &Shared) -> Result<String, End> {
    shared.begin_list::<K>();
    let mut params = ListParams::default().limit(page);
    loop {
        let Ok(answer) = timeout(PAGE_TIMEOUT, api.list(&params)).await else {
            return Err(silent(PAGE_TIMEOUT));
        };
        let list = answer.map_err(|error| End::of(&error))?;
        for object in &list.items {
            shared.apply::<K>(object);
        }
        params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            let version = list.metadata.resource_version.filter(|version| !version.is_empty());
            let no_version = || End::Failed(0, "a list without a version".to_owned(), false);
            let version = version.ok_or_else(no_version)?;
            shared.finish_list::<K>();
            return Ok(version);
        }
    }
}

fn silent(limit: Duration) -> End {
    End::Failed(1, format!("nothing within {} s", limit.as_secs()), true)
}

/// Watches from `version` on, keeping it up to date; `Ok` when the server closed.
async fn watch<K: Kind>(
    api: &Api<K::Object>,
    version: &mut String,
    shared: &Shared,
) -> Result<(), End> {
    let (length, spread) = LENGTH;
    // Less than the spread, so it fits.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let params = WatchParams::default().timeout(length + (random() * f64::from(spread)) as u32);
    let Ok(answer) = timeout(OPEN_TIMEOUT, api.watch(&params, version)).await else {
        return Err(silent(OPEN_TIMEOUT));
    };
    let mut events = pin!(answer.map_err(|error| End::of(&error))?.into_stream());
    shared.healths().opened(K::NAME);
    let settles = Instant::now() + SETTLING;
    let (mut settled, mut said) = (false, false);
    loop {
        let until = if settled { Instant::now() + SILENCE } else { settles };
        let next = timeout_at(until, events.next()).await;
        if !settled && Instant::now() >= settles && !matches!(next, Ok(None | Some(Err(_)))) {
            settled = true;
            shared.healths().settled(K::NAME);
            if next.is_err() {
                continue;
            }
        }
        let event = match next {
            Err(_) => return Err(End::Quiet),
            // Not a word: nobody knows whether anything was watched.
            Ok(None) if !settled && !said => {
                let detail = "closed as soon as it was opened".to_owned();
                return Err(End::Failed(2, detail, false));
            }
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => return Err(End::of(&error)),
            Ok(Some(Ok(event))) => event,
        };
        said = true;
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                shared.apply::<K>(&object);
                advance(version, object.meta().resource_version.as_deref());
            }
            WatchEvent::Deleted(object) => {
                shared.delete::<K>(&object);
                advance(version, object.meta().resource_version.as_deref());
            }
            WatchEvent::Bookmark(bookmark) => {
                advance(version, Some(&bookmark.metadata.resource_version));
            }
            WatchEvent::Error(status) => return Err(End::of(&Error::Api(status))),
        }
        shared.healths().sign(K::NAME);
    }
}

fn advance(version: &mut String, to: Option<&str>) {
    if let Some(to) = to.filter(|to| !to.is_empty()) {
        to.clone_into(version);
    }
}

/// Waits between failures.
struct Wait(Duration);

impl Default for Wait {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Wait {
    fn reset(&mut self) {
        *self = Self::default();
    }

    fn next(&mut self) -> Duration {
        let wait = self.0.mul_f64(0.8 + 0.4 * random());
        self.0 = (self.0 * 2).min(LONGEST_WAIT);
        wait
    }
}
