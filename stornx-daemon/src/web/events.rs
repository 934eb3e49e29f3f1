//! `/api/v1/events`: says that there is something new, and not what. A reader fetches the
//! state when it is told, so that a slow one holds nobody and misses nothing.
//!
//! | event | data |
//! | --- | --- |
//! | `cycle` | the id of the newest document; also the first thing that a reader is told |
//! | `banner` | the banner, when something in it has changed |

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures::{Stream, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stornx_core::{ports::Clock as _, units::Timestamp};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use super::{BannerOf, board::Document, view::Banner};
use crate::run::SystemClock;

/// A reader that was cut off asks again after this long.
const RETRY: Duration = Duration::from_secs(2);
/// A sign of life, so that proxies between do not give up.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How often the banner is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Then a reader has to ask again: one that is gone without a word keeps its seat no longer.
const LONGEST: Duration = Duration::from_secs(3600);

/// Data of the event `cycle`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CycleEvent {
    /// Number of the newest document.
    pub(crate) id: u64,
    /// When this was said, by the clock of the server.
    pub(crate) now: Timestamp,
}

struct Reader {
    documents: watch::Receiver<Arc<Document>>,
    banner_of: BannerOf,
    /// As the reader knows it; told first, since it may have changed since the state was.
    banner: Option<Banner>,
    look: time::Interval,
    until: Instant,
    stop: CancellationToken,
    _seat: OwnedSemaphorePermit,
}

/// What one reader is told.
pub(super) fn stream(
    mut documents: watch::Receiver<Arc<Document>>,
    banner_of: BannerOf,
    stop: CancellationToken,
    seat: OwnedSemaphorePermit,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    documents.mark_changed();
    let mut look = time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let until = Instant::now() + LONGEST;
    let reader = Reader { documents, banner_of, banner: None, look, until, stop, _seat: seat };
    let events = stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(event), reader))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"))
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                changed = self.documents.changed() => {
                    changed.ok()?;
                    let id = self.documents.borrow_and_update().id;
                    let data = serde_json::to_string(&CycleEvent { id, now: SystemClock.now() }).ok()?;
                    return Some(Event::default().event("cycle").id(id.to_string()).retry(RETRY).data(data));
                }
                _ = self.look.tick() => {
                    if Instant::now() >= self.until {
                        return None;
                    }
                    let banner = (self.banner_of)();
                    if Some(&banner) != self.banner.as_ref() {
                        let data = serde_json::to_string(&banner).ok()?;
                        self.banner = Some(banner);
                        return Some(Event::default().event("banner").data(data));
                    }
                }
            }
        }
    }
}
