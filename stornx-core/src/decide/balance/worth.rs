//! Is the target worth a change?
//!
//! The gain of a target is what it saves against the live split, both under this cycle's
//! beliefs. Beliefs carry noise, and so does the target. A change is worth it when the gain
//! is more than a share of the host's cost (`BALANCER_MIN_GAIN_PERCENT`) and more than what
//! noise alone can seem to bring: sending the noisy part of all requests somewhere else.
//!
//! A run of steps that has begun goes on down to a quarter of that margin, so that it ends
//! at the target and not where the last bit stops paying; a host at rest needs the whole
//! margin to start again, and twice that after ten minutes in which neither its routes nor the
//! replicas around it changed. Load above the cap is worth any change once it is more than noise.
//!
//! Weight of a zone without a replica is led away whatever it gains: it moves nothing now, but
//! the first replica that comes back would get all of it at once.

use super::{
    split::Split,
    target::{HostWorld, Value},
};
use crate::{
    policy::{self, BalancerPolicy},
    units::{Rps, Span},
};

/// Part of the margin that keeps a run going.
const GOING_ON: f64 = 0.25;
/// So many margins are beyond doubt, for a host that has been at rest for long: among
/// thousands of looks at the same split some are lucky.
const CLEARLY: f64 = 2.0;
/// Least noise of demand and capacity, as a share: what no count explains (replicas that
/// differ a little, clocks, the edges of a scrape).
const LEAST_NOISE: f64 = 0.03;
/// Waiting sets in steeply at the comfortable load, and loads of single zones are known
/// less well than those of the host: so much of a load is not counted as congestion.
const LEAST_CONGESTION_NOISE: f64 = 0.05;
/// More than this is not believed: a host with that few requests is left alone by the
/// margin it gives.
const MOST_NOISE: f64 = 0.5;
/// What one request per second above the cap is worth avoiding, milliseconds: more than
/// any round trip.
const COST_OF_EXCESS: f64 = 1_000.0;

/// A target against what stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Worth {
    /// The live split.
    pub(crate) now: Value,
    /// Gain as a share of the host's cost, per cent.
    pub(crate) gain_percent: f64,
    /// Whether it is worth a change.
    pub(crate) enough: bool,
    /// Whether it is so beyond all doubt.
    pub(crate) clear: bool,
    /// Whether it relieves a destination that is above its capacity by more than noise.
    pub(crate) relieves: bool,
}

/// Weighs a target. `requests` is the observed demand, `window` what it was counted over.
pub(crate) fn weigh(
    world: &HostWorld,
    current: &Split,
    target: &Split,
    policy: &BalancerPolicy,
    requests: Rps,
    window: Span,
    run_open: bool,
) -> Worth {
    let noise = policy::noise(requests, window).get().clamp(LEAST_NOISE, MOST_NOISE);
    let forgiven = noise.max(LEAST_CONGESTION_NOISE);
    let (now, then) = (world.value(current, forgiven), world.value(target, forgiven));
    let excess = world.excess(&now.loads, noise) - world.excess(&then.loads, noise);
    let gain = now.cost - then.cost + excess * COST_OF_EXCESS;
    let margin =
        policy.min_gain.get() / 100.0 * now.cost + noise * world.total_demand() * world.distance();
    let margin = if run_open { GOING_ON * margin } else { margin };
    let gain_percent = if now.cost > 0.0 { 100.0 * gain / now.cost } else { 0.0 };
    let idle = world.idle_weight(current, policy);
    let enough = (gain > margin && gain > 0.0) || idle;
    let relieves = excess > 0.0;
    let clear = gain > CLEARLY * margin || relieves || idle;
    Worth { now, gain_percent, enough, clear, relieves }
}
