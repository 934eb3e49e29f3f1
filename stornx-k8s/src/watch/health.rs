//! How each watch is doing: what `/metrics` shows, and whether what it last said may
//! still be decided on.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

/// How long an API server may refuse what has just been allowed: its own view of the roles lags
/// by seconds at most.
const NEW_RIGHT: Duration = Duration::from_secs(5);

/// How one watch is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchStats {
    /// What is watched, by the plural of the API.
    pub name: &'static str,
    /// The first list is complete.
    pub synced: bool,
    /// Records kept.
    pub objects: usize,
    /// Time since the last event, bookmark, list or opening; `None` before the first.
    pub age: Option<Duration>,
    /// Lists that were completed: 1 in a steady state.
    pub lists: u64,
    /// Times that the watch was opened.
    pub opened: u64,
    /// Failures to list, open or go on.
    pub errors: u64,
    /// How long it has been failing; `None` while it works.
    pub failing_for: Option<Duration>,
}

#[derive(Debug)]
struct Failing {
    since: Instant,
    class: u16,
    detail: String,
}

impl Failing {
    /// For how long nothing newer has been known.
    fn known_for(&self, health: &Health) -> Duration {
        health.listed.map_or(self.since, |listed| listed.max(self.since)).elapsed()
    }
}

#[derive(Debug, Default)]
struct Health {
    synced: bool,
    sign: Option<Instant>,
    /// When the last list was complete.
    listed: Option<Instant>,
    lists: u64,
    opened: u64,
    errors: u64,
    failing: Option<Failing>,
    /// It may not be read, and is not needed.
    excused: bool,
}

/// How all watches are doing.
#[derive(Debug, Default)]
pub(crate) struct Healths {
    by_name: BTreeMap<&'static str, Health>,
}

impl Healths {
    /// A watch is wanted from now on.
    pub(crate) fn expect(&mut self, name: &'static str) {
        self.by_name.entry(name).or_default();
    }

    /// A watch is not wanted any more.
    pub(crate) fn forget(&mut self, name: &'static str) {
        self.by_name.remove(name);
    }

    /// An event or bookmark came, or a list.
    pub(crate) fn sign(&mut self, name: &'static str) {
        self.by_name.entry(name).or_default().sign = Some(Instant::now());
    }

    /// A watch goes on, and not only for its first moment. Nothing less ends a failure:
    /// a list that works before a watch that does not is part of it.
    pub(crate) fn settled(&mut self, name: &'static str) {
        self.sign(name);
        let health = self.by_name.entry(name).or_default();
        if let Some(failing) = health.failing.take() {
            let seconds = failing.since.elapsed().as_secs();
            tracing::info!(watch = name, "works again, after {seconds} s");
        }
    }

    /// A list is complete.
    pub(crate) fn listed(&mut self, name: &'static str) {
        let health = self.by_name.entry(name).or_default();
        health.lists += 1;
        health.listed = Some(Instant::now());
        (health.synced, health.excused) = (true, false);
        self.sign(name);
    }

    /// The watch was opened.
    pub(crate) fn opened(&mut self, name: &'static str) {
        if let Some(health) = self.by_name.get_mut(name) {
            health.opened += 1;
        }
    }

    /// Something failed. It has been failing since the last sign of life when that was
    /// a while ago, unnoticed.
    pub(crate) fn failed(&mut self, name: &'static str, class: u16, detail: &str, unnoticed: bool) {
        let health = self.by_name.entry(name).or_default();
        health.errors += 1;
        let since = match (&health.failing, health.sign) {
            (Some(failing), _) => failing.since,
            (None, Some(sign)) if unnoticed => sign,
            (None, _) => Instant::now(),
        };
        if health.failing.as_ref().is_none_or(|failing| failing.class != class) {
            tracing::warn!(watch = name, "fails: {detail}");
        }
        health.failing = Some(Failing { since, class, detail: detail.to_owned() });
    }

    /// What may not be read for so long that it is no right which has just been given is not
    /// waited for, until it can be; says so. Where it was read before, what it said is missed
    /// like that of any other.
    pub(crate) fn excuse(&mut self, name: &'static str) -> bool {
        let health = self.by_name.entry(name).or_default();
        let lasts = |failing: &Failing| failing.since.elapsed() >= NEW_RIGHT;
        health.excused = !health.synced && health.failing.as_ref().is_some_and(lasts);
        health.excused
    }

    /// Whether every first list is complete.
    pub(crate) fn synced(&self) -> bool {
        !self.by_name.is_empty()
            && self.by_name.values().all(|health| health.synced || health.excused)
    }

    /// The watches that must not be decided on, and why. What is known is as old as the
    /// failure, or as the last list if one was complete since.
    pub(crate) fn unfit(&self, limit: Duration) -> impl Iterator<Item = (&'static str, String)> {
        let needed = self.by_name.iter().filter(|(_, health)| !health.excused);
        needed.filter_map(move |(name, health)| match &health.failing {
            Some(failing) if !health.synced || failing.known_for(health) >= limit => {
                let seconds = failing.since.elapsed().as_secs();
                Some((*name, format!("failing for {seconds} s: {}", failing.detail)))
            }
            None if !health.synced => Some((*name, "its first list is not complete".to_owned())),
            _ => None,
        })
    }

    /// What to show, with the number of records by name.
    pub(crate) fn stats(&self, objects: impl Fn(&str) -> usize) -> Vec<WatchStats> {
        let stats = |(name, health): (&&'static str, &Health)| WatchStats {
            name,
            synced: health.synced,
            objects: objects(name),
            age: health.sign.map(|sign| sign.elapsed()),
            lists: health.lists,
            opened: health.opened,
            errors: health.errors,
            failing_for: health.failing.as_ref().map(|failing| failing.since.elapsed()),
        };
        self.by_name.iter().map(stats).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn what_fails_for_long_must_not_be_decided_on() {
        let mut healths = Healths::default();
        healths.expect("pods");
        assert!(!healths.synced());
        assert!(healths.unfit(LIMIT).next().unwrap().1.contains("not complete"));
        healths.listed("pods");
        assert!(healths.synced() && healths.unfit(LIMIT).next().is_none());

        healths.failed("pods", 503, "503 no", false);
        tokio::time::advance(Duration::from_secs(59)).await;
        healths.failed("pods", 503, "503 no", false);
        assert_eq!(healths.unfit(LIMIT).next(), None, "a short break changes nothing");
        tokio::time::advance(Duration::from_secs(1)).await;
        let (name, detail) = healths.unfit(LIMIT).next().unwrap();
        assert_eq!((name, detail.as_str()), ("pods", "failing for 60 s: 503 no"));
        healths.sign("pods");
        assert_eq!(healths.unfit(LIMIT).count(), 1, "a word or two is no watch");
        healths.settled("pods");
        assert_eq!(healths.unfit(LIMIT).next(), None);
        assert_eq!(healths.stats(|_| 3)[0].errors, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_right_that_stays_away_is_gone_without() {
        let mut healths = Healths::default();
        healths.expect("machines");
        healths.failed("machines", 403, "no right", false);
        assert!(!healths.excuse("machines") && !healths.synced(), "it may come in a moment");
        tokio::time::advance(NEW_RIGHT).await;
        healths.failed("machines", 403, "no right", false);
        assert!(healths.excuse("machines") && healths.synced());
        healths.listed("machines");
        healths.settled("machines");
        healths.failed("machines", 403, "no right", false);
        tokio::time::advance(LIMIT).await;
        assert!(!healths.excuse("machines"), "what was read is missed");
        assert_eq!(healths.unfit(LIMIT).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_last_sign() {
        let mut healths = Healths::default();
        healths.listed("pods");
        tokio::time::advance(Duration::from_secs(90)).await;
        healths.failed("pods", 1, "silent", true);
        assert!(healths.unfit(LIMIT).next().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_makes_facts_new_and_ends_no_failure() {
        let mut healths = Healths::default();
        healths.listed("pods");
        healths.failed("pods", 410, "expired", false);
        tokio::time::advance(LIMIT).await;
        healths.listed("pods");
        assert_eq!(healths.unfit(LIMIT).next(), None, "what was just listed is known");
        assert_eq!(healths.stats(|_| 0)[0].failing_for, Some(LIMIT));
        tokio::time::advance(LIMIT).await;
        assert!(healths.unfit(LIMIT).next().unwrap().1.contains("failing for 120 s"));
        healths.settled("pods");
        assert_eq!(healths.stats(|_| 0)[0].failing_for, None);
    }
}
