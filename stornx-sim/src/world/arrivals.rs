//! Users: a Poisson process with a rate that changes over time, for each entry and
//! zone. Its stream is drawn from by nothing else, so that the arrivals of a seed are
//! the same under every policy.

use super::{
    agenda::{Kind, Nanos},
    model::{Inflow, nanos},
    random::{Purpose, Stream},
    state::{NONE, World},
};

/// The arrivals of one inflow.
#[derive(Debug)]
pub(crate) struct Arrivals {
    stream: Stream,
    /// Rates per nanosecond at instants, joined by straight lines.
    points: Vec<(Nanos, f64)>,
}

impl Arrivals {
    pub(crate) fn new(inflow: &Inflow, seed: u64, index: usize) -> Self {
        Self {
            stream: Stream::new(seed, Purpose::Arrivals, index),
            points: inflow
                .points
                .iter()
                .map(|point| (nanos(point.at), point.per_second.get() * 1e-9))
                .collect(),
        }
    }

    /// The arrival after `now`: the instant at which the expected number of arrivals
    /// since `now` reaches an exponential number. `None` when it never does.
    fn next(&mut self, now: Nanos) -> Option<Nanos> {
        let mut left = self.stream.exponential();
        let mut at = now;
        loop {
            let after = self.points.partition_point(|(instant, _)| *instant <= at);
            let before = after.checked_sub(1).map(|i| self.points[i]);
            match (before, self.points.get(after).copied()) {
                (Some((start, low)), Some((end, high))) => {
                    let slope = (high - low) / span(end - start);
                    let rate = low + slope * span(at - start);
                    let whole = span(end - at);
                    if (rate + slope * whole / 2.0) * whole > left {
                        return Some(at.saturating_add(until(rate, slope, left)));
                    }
                    left -= (rate + slope * whole / 2.0) * whole;
                    at = end;
                }
                (None, Some((end, rate))) => {
                    if rate * span(end - at) > left {
                        return Some(at.saturating_add(until(rate, 0.0, left)));
                    }
                    left -= rate * span(end - at);
                    at = end;
                }
                (Some((_, rate)), None) => {
                    return (rate > 0.0).then(|| at.saturating_add(until(rate, 0.0, left)));
                }
                (None, None) => return None,
            }
        }
    }
}

#[allow(clippy::cast_precision_loss)]
fn span(nanos: Nanos) -> f64 {
    nanos as f64
}

/// When the integral of a rate that changes with `slope` reaches `amount`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn until(rate: f64, slope: f64, amount: f64) -> Nanos {
    // The stable form of the quadratic formula; it holds for a slope of zero too.
    let root = (rate * rate + 2.0 * slope * amount).max(0.0).sqrt();
    (2.0 * amount / (rate + root)).round() as Nanos
}

impl World {
    /// Puts the next arrival of an inflow into the agenda.
    pub(crate) fn expect_arrival(&mut self, inflow: u32) {
        if let Some(at) = self.arrivals[inflow as usize].next(self.now) {
            self.agenda.add(at, Kind::Arrival, inflow, 0);
        }
    }

    /// A user's request enters.
    pub(crate) fn arrival(&mut self, number: u32) {
        let inflow = &self.model.inflows[number as usize];
        let (zone, spec) = (inflow.zone, inflow.call);
        let operation = if let [(_, only)] = inflow.operations[..] {
            only
        } else {
            let sum = inflow.operations.last().map_or(0.0, |(sum, _)| *sum);
            let drawn = self.arrivals[number as usize].stream.unit() * sum;
            let found = inflow.operations.iter().find(|(up_to, _)| drawn < *up_to);
            found.or(inflow.operations.last()).map_or(0, |(_, operation)| *operation)
        };
        self.expect_arrival(number);
        self.meter.requests.arrived += 1;
        match self.ingress_pod(zone) {
            Some(pod) => self.open(spec, operation, pod, NONE),
            None => {
                self.meter.failures.lost += 1;
                self.meter.user_request(0, false, zone);
            }
        }
    }

    /// The ingress pod that takes the users of a zone: its own, else one of another
    /// zone once the balancer in front of the cluster has noticed.
    fn ingress_pod(&mut self, zone: usize) -> Option<u32> {
        let pods = &self.services[self.model.ingress()].pods;
        if self.pods[pods[zone] as usize].alive {
            return Some(pods[zone]);
        }
        if self.now < self.entry_blocked_until[zone] {
            return None;
        }
        let alive: Vec<u32> =
            pods.iter().copied().filter(|pod| self.pods[*pod as usize].alive).collect();
        let count = u32::try_from(alive.len()).unwrap_or(0);
        (count > 0).then(|| alive[self.failover.below(count) as usize])
    }
}

#[cfg(test)]
mod tests {
    use stornx_core::units::Rps;

    use super::*;
    use crate::{
        scenario::{Point, Timespan},
        world::agenda::SECOND,
    };

    #[test]
    fn arrivals_follow_the_rate() {
        let point =
            |s, rate| Point { at: Timespan::from_seconds(s), per_second: Rps::saturating(rate) };
        // 0 until 100 s, a ramp to 1000/s at 200 s, a step to 200/s, none after 400 s.
        let points = vec![
            point(100, 0.0),
            point(200, 1000.0),
            point(200, 200.0),
            point(400, 200.0),
            point(400, 0.0),
        ];
        let inflow = Inflow { zone: 0, call: 0, operations: Vec::new(), points };
        let mut arrivals = Arrivals::new(&inflow, 3, 0);
        let (mut now, mut counts) = (0, [0_i64; 5]);
        while let Some(next) = arrivals.next(now) {
            assert!(next >= now);
            now = next;
            counts[usize::try_from(now / (100 * SECOND)).unwrap()] += 1;
        }
        let expected = [0, 50_000, 20_000, 20_000, 0];
        for (count, expected) in counts.into_iter().zip(expected) {
            // Four standard deviations.
            assert!((count - expected).pow(2) <= 16 * expected, "{counts:?}");
        }
    }
}
