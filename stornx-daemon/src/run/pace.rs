//! When the next cycle comes: with the schedule, early after a change of endpoints or
//! nodes, or as a glance between. A change waits for others to join it, and a stream of
//! changes puts the cycle off by [`Pace::longest_wait`] and no longer. A zone that appears or
//! vanishes does not wait: rules that stand do not name it, and cut off what comes up in it.
//! Times of the schedule are in UTC.

use std::{collections::BTreeSet, time::Duration};

use jiff::{Timestamp as Instant, tz::TimeZone};
use stornx_core::{
    engine::Pace,
    units::{Span, Timestamp},
};
use stornx_k8s::{Cluster, Place};
use tokio::{sync::watch, time};

use crate::config::Schedule;

/// What makes a cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Cause {
    /// The first one of this reign.
    Start,
    /// The schedule.
    Due,
    /// Endpoints, nodes, Services, or what others say of routes have changed.
    Changed,
    /// Time for a glance, which becomes a cycle only if something is pressing.
    Glance,
}

impl Cause {
    pub(crate) const ALL: [Self; 4] = [Self::Start, Self::Due, Self::Changed, Self::Glance];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Due => "schedule",
            Self::Changed => "change",
            Self::Glance => "glance",
        }
    }
}

/// The longest wait without a look at the wall clock, which may have been set.
const LONGEST: Duration = Duration::from_secs(3600);

/// How long until the schedule comes due next, at least a millisecond.
pub(crate) fn until_due(schedule: &Schedule, now: Instant) -> Duration {
    let wait = schedule
        .next_after(now.to_zoned(TimeZone::UTC))
        .and_then(|due| Duration::try_from(due.timestamp().duration_since(now)).ok());
    wait.unwrap_or(LONGEST).max(Duration::from_millis(1))
}

/// When the schedule comes due first after an instant.
pub(super) fn due_after(schedule: &Schedule, after: Timestamp) -> Option<Timestamp> {
    let after = Instant::from_millisecond(i64::try_from(after.as_millis()).ok()?).ok()?;
    let due = schedule.next_after(after.to_zoned(TimeZone::UTC))?.timestamp();
    u64::try_from(due.as_millisecond()).ok().map(Timestamp::from_millis)
}

/// A cycle may take so long, and the next one begin so late, that nobody has to know.
const LATE: Span = Span::from_seconds(60);

/// When the cycle after the last one was due, where that is long ago.
pub(super) fn overdue(schedule: &Schedule, last: Timestamp, now: Timestamp) -> Option<Timestamp> {
    due_after(schedule, last).filter(|due| due.after(LATE) < now)
}

/// Waits for the next cause. `changes` counts changes of the cluster.
pub(crate) struct Wakeups {
    schedule: Schedule,
    pace: Pace,
    changes: watch::Receiver<u64>,
    places: watch::Receiver<BTreeSet<Place>>,
}

impl Wakeups {
    pub(crate) fn new(schedule: Schedule, pace: Pace, cluster: &Cluster) -> Self {
        Self { schedule, pace, changes: cluster.changes(), places: cluster.places() }
    }

    /// What came before now needs no cycle of its own: one is about to begin.
    pub(crate) fn caught_up(&mut self) {
        self.changes.mark_unchanged();
        self.places.mark_unchanged();
    }

    /// The next cause. Safe to drop at any time.
    pub(crate) async fn next(&mut self) -> Cause {
        let glance = time::Instant::now() + Duration::from_millis(self.pace.glance.as_millis());
        loop {
            let wait = until_due(&self.schedule, Instant::now());
            let (due, look) = (time::Instant::now() + wait, time::Instant::now() + LONGEST);
            tokio::select! {
                biased;
                () = time::sleep_until(due) => return Cause::Due,
                () = change(&mut self.places) => return Cause::Changed,
                () = change(&mut self.changes) => return self.quiet(due).await,
                () = time::sleep_until(glance) => return Cause::Glance,
                () = time::sleep_until(look) => {}
            }
        }
    }

    /// Waits until changes have paused, have gone on for long enough, or the schedule
    /// comes due.
    async fn quiet(&mut self, due: time::Instant) -> Cause {
        let debounce = Duration::from_millis(self.pace.debounce.as_millis());
        let longest = Duration::from_millis(self.pace.longest_wait().as_millis());
        let last = time::Instant::now() + longest;
        loop {
            let quiet = (time::Instant::now() + debounce).min(last);
            if quiet >= due {
                time::sleep_until(due).await;
                return Cause::Due;
            }
            tokio::select! {
                biased;
                () = change(&mut self.places) => return Cause::Changed,
                () = change(&mut self.changes) => {}
                () = time::sleep_until(quiet) => return Cause::Changed,
            }
        }
    }
}

/// The next change; never when there can be none any more.
async fn change<T>(changes: &mut watch::Receiver<T>) {
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingValue as _;

    fn wakeups(seconds: u64) -> (watch::Sender<u64>, Wakeups) {
        let (sender, receiver) = watch::channel(0);
        let pace = Pace { debounce: Span::from_seconds(5), glance: Span::from_seconds(seconds) };
        // Once in four years: the schedule does not come due within hours of a test,
        // except on the eve of that day.
        let schedule = Schedule::read("0 0 29 2 *").unwrap();
        let (_, places) = watch::channel(BTreeSet::new());
        (sender, Wakeups { schedule, pace, changes: receiver, places })
    }

    #[test]
    fn the_schedule_is_reckoned_in_utc() {
        let at = |text: &str| text.parse::<Instant>().unwrap();
        let schedule = |text: &str| Schedule::read(text).unwrap();
        let minute = schedule("* * * * *");
        assert_eq!(until_due(&minute, at("2026-03-29T00:59:30Z")), Duration::from_secs(30));
        // A day on which many places set their clocks: UTC has no such hour.
        let nightly = schedule("30 2 * * *");
        assert_eq!(until_due(&nightly, at("2026-03-29T02:29:00Z")), Duration::from_secs(60));
        assert_eq!(until_due(&nightly, at("2026-10-25T01:29:00Z")), Duration::from_secs(3660));
        let seconds = schedule("*/10 * * * * *");
        assert_eq!(until_due(&seconds, at("2026-01-01T00:00:01.5Z")), Duration::from_millis(8500));
    }

    #[test]
    fn what_is_overdue_follows_the_schedule() {
        let at = |text: &str| {
            let at = text.parse::<Instant>().unwrap().as_millisecond();
            Timestamp::from_millis(u64::try_from(at).unwrap())
        };
        let hourly = Schedule::read("0 * * * *").unwrap();
        let last = at("2026-01-01T10:00:01Z");
        for now in ["2026-01-01T10:30:00Z", "2026-01-01T11:00:59Z"] {
            assert_eq!(overdue(&hourly, last, at(now)), None, "{now}");
        }
        let due = Some(at("2026-01-01T11:00:00Z"));
        assert_eq!(overdue(&hourly, last, at("2026-01-01T11:01:01Z")), due);
        let minute = Schedule::read("* * * * *").unwrap();
        let due = Some(at("2026-01-01T10:01:00Z"));
        assert_eq!(overdue(&minute, last, at("2026-01-01T10:03:00Z")), due);
    }

    #[tokio::test(start_paused = true)]
    async fn a_glance_comes_when_nothing_changes() {
        let (_sender, mut wakeups) = wakeups(15);
        let began = time::Instant::now();
        assert_eq!(wakeups.next().await, Cause::Glance);
        assert_eq!(began.elapsed().as_secs(), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_wait_is_no_cause() {
        let (_sender, mut wakeups) = wakeups(5 * 3600);
        let began = time::Instant::now();
        assert_eq!(wakeups.next().await, Cause::Glance);
        assert_eq!(began.elapsed().as_secs(), 5 * 3600);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_gathered_until_they_pause() {
        let (sender, mut wakeups) = wakeups(3600);
        let began = time::Instant::now();
        let changes = async {
            for _ in 0..2 {
                time::sleep(Duration::from_secs(3)).await;
                sender.send_modify(|count| *count += 1);
            }
        };
        let (cause, ()) = tokio::join!(wakeups.next(), changes);
        assert_eq!((cause, began.elapsed().as_secs()), (Cause::Changed, 6 + 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_changes_waits_twice_as_long_at_most() {
        let (sender, mut wakeups) = wakeups(3600);
        let began = time::Instant::now();
        let changes = async {
            loop {
                time::sleep(Duration::from_secs(1)).await;
                sender.send_modify(|count| *count += 1);
            }
        };
        let cause = tokio::select! {
            cause = wakeups.next() => cause,
            () = changes => Cause::Due,
        };
        assert_eq!((cause, began.elapsed().as_secs()), (Cause::Changed, 1 + 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_zone_that_appears_does_not_wait_for_a_pause() {
        let (sender, mut wakeups) = wakeups(3600);
        let (places, receiver) = watch::channel(BTreeSet::new());
        wakeups.places = receiver;
        let began = time::Instant::now();
        let changes = async {
            sender.send_modify(|count| *count += 1);
            time::sleep(Duration::from_secs(2)).await;
            let place = ("eu".parse().unwrap(), "c".parse().unwrap());
            places.send_replace([place].into());
        };
        let (cause, ()) = tokio::join!(wakeups.next(), changes);
        assert_eq!((cause, began.elapsed().as_secs()), (Cause::Changed, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_cycle_that_is_about_to_begin_covers_what_came_before() {
        let (sender, mut wakeups) = wakeups(15);
        sender.send_modify(|count| *count += 1);
        wakeups.caught_up();
        assert_eq!(wakeups.next().await, Cause::Glance);
    }
}
