//! Whether a move pays: what it saves over the horizon against what it costs, and
//! against what the inputs vary by anyway.
//!
//! Everything is in requests/s x ms: what is paid once is spread over
//! `MOVE_HORIZON_SECONDS`.

use super::objective::Touched;
use crate::{
    memory::WorkloadMemory,
    model::Mesh,
    policy::{self, Policy},
    units::{Rps, Span, Timestamp},
    view::{View, WorkloadView},
};

/// Start-up time of a replica where none has been seen yet.
const ASSUMED_STARTUP: Span = Span::from_seconds(30);

/// A new replica answers slower at first (cold caches, new connections, just-in-time
/// compilation): ten seconds of its requests take ten milliseconds longer.
const COLD_SECONDS: f64 = 10.0;
const COLD_MS: f64 = 10.0;

/// What any move costs besides, in request-milliseconds: reconnecting callers, a
/// little churn in the control plane, attention. At the default horizon a move must
/// save 2.8 requests/s x ms: four requests a second that no longer cross zones. What
/// changes zones pays for its routes as well.
const DISRUPTION_MS: f64 = 10_000.0;

/// What it costs that the routes of one host follow a replica to another zone, in
/// request-milliseconds: a run of some five rules, each an update of every proxy of the
/// mesh. As much as the move itself.
const REROUTING_MS: f64 = 10_000.0;

/// What a move of one replica must save to be worth it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bar {
    /// What it costs.
    pub(super) price: f64,
    /// What it must save on top, so that noise in the inputs moves nothing.
    pub(super) margin: f64,
}

impl Bar {
    /// For one replica of a workload whose edges cost `touched`.
    pub(super) fn of(view: &View<'_>, workload: &WorkloadView<'_>, touched: Touched) -> Self {
        let policy = view.policy;
        let replicas = f64::from(workload.ready_total().max(1));
        // One replica carries its share of the edges, and the count of its share is
        // what varies.
        let rate = Rps::saturating(touched.rate / replicas);
        let noise = policy::noise(rate, view.window).get();
        let share = noise.max(policy.moves.min_gain.get() / 100.0);
        Self {
            price: price(policy, workload.workload.startup, rate),
            margin: share * touched.cost / replicas,
        }
    }

    /// The same for a move after which the routes of so many hosts follow.
    pub(super) fn rerouting(self, view: &View<'_>, hosts: f64) -> Self {
        let routed = view.policy.balancer.enabled && view.snapshot.mesh == Mesh::Routable;
        let paid = if routed { spread(view.policy, hosts * REROUTING_MS) } else { 0.0 };
        Self { price: self.price + paid, ..self }
    }

    /// The same, so many times as high.
    pub(super) fn times(self, multiple: f64) -> Self {
        Self { margin: multiple * self.total() - self.price, ..self }
    }

    /// Both together.
    pub(super) fn total(self) -> f64 {
        self.price + self.margin
    }
}

/// What a move costs, spread over the horizon.
fn price(policy: &Policy, startup: Option<Span>, rate: Rps) -> f64 {
    let startup = startup.unwrap_or(ASSUMED_STARTUP).as_seconds_f64();
    let usd = policy.price.replica_hour * startup / 3600.0;
    // PRICE_WEIGHT_MS is what a dollar per million requests weighs, by request.
    let surge = usd * policy.price.weight.get() * 1e6;
    let cold = rate.get() * COLD_SECONDS * COLD_MS;
    spread(policy, surge + cold + DISRUPTION_MS)
}

/// What a replica costs while it runs, requests/s x ms: US dollars a second, weighed as a
/// dollar per million requests is.
pub(super) fn running(policy: &Policy) -> f64 {
    policy.price.replica_hour / 3600.0 * policy.price.weight.get() * 1e6
}

/// What is paid once, by second of the horizon.
fn spread(policy: &Policy, paid: f64) -> f64 {
    paid / policy.moves.horizon.as_seconds_f64().max(1.0)
}

/// How long a workload is still left alone; `None` when it may move.
pub(super) fn backoff_left(
    remembered: Option<&WorkloadMemory>,
    policy: &Policy,
    now: Timestamp,
) -> Option<Span> {
    let remembered = remembered?;
    let after_move = remembered.moved_at.map(|at| at.after(policy.moves.backoff));
    let ends = [remembered.move_backoff.map(|backoff| backoff.until), after_move];
    let until = ends.into_iter().flatten().max()?;
    (until > now).then(|| until.since(now))
}

/// The back-off after so many disappointments in a row.
pub(super) fn backoff_span(policy: &Policy, failures: u32) -> Span {
    // Doubled 10 times, the default of ten minutes is a week: more is never.
    policy.moves.backoff.times(1 << failures.min(10))
}
