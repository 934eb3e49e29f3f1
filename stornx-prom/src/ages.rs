//! When each pod was last heard of, by Prometheus's own clock: the time of the newest
//! sample against the time at which the query was evaluated. Our clock has no part in it.

use stornx_core::units::{Span, Timestamp};

use crate::{
    options::Labels,
    places::Places,
    response::{Answer, Row},
    sums::part_of,
};

/// The newest sample of a kind of series.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Heard {
    /// By pod of the cluster, seconds since the epoch.
    pods: Vec<Option<f64>>,
    /// Of all series.
    newest: Option<f64>,
}

impl Heard {
    fn new(pods: usize) -> Self {
        Self { pods: vec![None; pods], newest: None }
    }

    fn take(&mut self, pod: Option<usize>, at: f64) {
        let later = |known: Option<f64>| Some(known.map_or(at, |known| known.max(at)));
        self.newest = later(self.newest);
        if let Some(pod) = pod {
            self.pods[pod] = later(self.pods[pod]);
        }
    }
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Ages {
    usage: Heard,
    mesh: Heard,
    latency: Option<f64>,
    /// When the query was evaluated.
    pub(crate) evaluated: Option<f64>,
}

/// A kind of series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Usage,
    Mesh,
}

impl Ages {
    pub(crate) fn new(places: &Places<'_>) -> Self {
        let pods = places.pods.len();
        Self { usage: Heard::new(pods), mesh: Heard::new(pods), latency: None, evaluated: None }
    }

    pub(crate) fn take(&mut self, places: &Places<'_>, labels: &Labels, row: &Row<'_>) {
        let pod = |namespace: &str, pod: &str| places.pod(row.label(namespace), row.label(pod));
        match part_of(row, ["usage", "mesh", "latency"]) {
            Some(0) => self.usage.take(pod(&labels.usage_namespace, &labels.usage_pod), row.value),
            Some(1) => self.mesh.take(pod(&labels.mesh_namespace, &labels.mesh_pod), row.value),
            Some(_) => self.latency = Some(row.value),
            None => {}
        }
    }

    pub(crate) fn finish(&mut self, answer: &Answer) {
        self.evaluated = answer.evaluated;
    }

    const fn heard(&self, kind: Kind) -> &Heard {
        match kind {
            Kind::Usage => &self.usage,
            Kind::Mesh => &self.mesh,
        }
    }

    /// By pod: whether it was heard of within `limit`.
    pub(crate) fn fresh(&self, kind: Kind, limit: Span) -> Vec<bool> {
        let recent = |at: &Option<f64>| {
            at.zip(self.evaluated).is_some_and(|(at, now)| now - at <= limit.as_seconds_f64())
        };
        self.heard(kind).pods.iter().map(recent).collect()
    }

    /// Pods of which nothing was heard within `limit` although it should have been: they
    /// were heard of before, or they are Ready for longer than that while others of their
    /// workload are heard of.
    pub(crate) fn silent(
        &self,
        kind: Kind,
        limit: Span,
        places: &Places<'_>,
        now: Timestamp,
    ) -> Vec<usize> {
        let fresh = self.fresh(kind, limit);
        let mut heard = vec![false; places.workloads.len()];
        for (place, fresh) in places.pods.iter().zip(&fresh) {
            heard[place.workload] |= fresh;
        }
        let before = &self.heard(kind).pods;
        let long_ready = |since: Option<Timestamp>| since.is_some_and(|at| now.since(at) > limit);
        let silent = |pod: &usize| {
            let place = &places.pods[*pod];
            let expected = heard[place.workload] && long_ready(place.ready_since);
            !fresh[*pod] && (before[*pod].is_some() || expected)
        };
        (0..places.pods.len()).filter(silent).collect()
    }

    /// The instant that the newest series of a kind describe, by our clock.
    pub(crate) fn as_of(&self, kind: Kind, now: Timestamp) -> Option<Timestamp> {
        self.instant(self.heard(kind).newest, now)
    }

    pub(crate) fn latency_as_of(&self, now: Timestamp) -> Option<Timestamp> {
        self.instant(self.latency, now)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped.
    fn instant(&self, sampled: Option<f64>, now: Timestamp) -> Option<Timestamp> {
        let age = (self.evaluated? - sampled?).clamp(0.0, 1e9);
        let age = (age * 1000.0).round() as u64;
        Some(Timestamp::from_millis(now.as_millis().saturating_sub(age)))
    }

    /// How far Prometheus's clock is from ours: positive when it is ahead, seconds.
    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 ms, 285,000 years.
    pub(crate) fn clock_difference(&self, now: Timestamp) -> Option<f64> {
        self.evaluated.map(|evaluated| evaluated - now.as_millis() as f64 / 1000.0)
    }
}
