//! What it costs to send more to a destination, as a convex function of its load, in
//! milliseconds a request.
//!
//! A destination is taken as a queue with `servers` servers of `service` milliseconds a
//! request. The mean wait follows Sakasegawa's approximation for M/M/c,
//! `W(u) = service x u^(sqrt(2 (c + 1)) - 1) / (c x (1 - u))`, which is exact for one
//! server and needs no sums over states.
//!
//! The cost has two parts, which meet at a *comfortable* utilisation:
//! - Below it, distance decides. A slight rise with the load ([`EVENNESS`]) makes
//!   destinations of equal distance fill evenly, and does no more.
//! - Above it, the flow pays the rise of `load x W`, what one more request makes everybody
//!   wait, times [`TAIL_WEIGHT`]: load goes elsewhere as soon as waiting costs more than
//!   travel.
//!
//! Comfortable is where the wait exceeds the one under a perfectly even load by
//! [`PATIENCE`] of the mean time to answer. Weighing every millisecond of waiting against
//! travel instead would level the zones at any load: of a service of 10 ms at 30 % of its
//! capacity, into which 70, 20 and 10 % of the load enter, 39 % of the calls would cross
//! zones to save 5 % of the p99 (see the `frontier` test). The price of locality is bounded
//! instead, and relative to what the service takes anyway.
//!
//! Assumes requests that arrive independently of each other.

use super::flow::Segment;

/// How much longer than under an even load the mean answer of a busy zone may take so
/// that its callers stay at home, as a share. Between one and twelve servers a zone and 20
/// to 60 % overall load, 20 % more on the mean of the busiest zone is 5 % more on the p99 over
/// all zones (the busy zone serves only part of the requests, and the slowest hundredth
/// is made by work more than by waiting). 15 % keeps the p99 within 4 to 6 %.
pub(crate) const PATIENCE: f64 = 0.15;

/// How much more a millisecond of waiting counts than a millisecond of travel. Travel is
/// the same for each request, waiting is spread exponentially: the slowest hundredth of
/// those that wait at all waits `ln 100 = 4.6` times the mean. 2 lies between the mean and
/// the tail.
const TAIL_WEIGHT: f64 = 2.0;

/// Rise of the cost up to the comfortable utilisation, as a share of the smallest
/// difference of distances: enough to fill equals evenly, too little to send anybody
/// farther.
const EVENNESS: f64 = 0.1;

/// Parts into which the load is cut below the comfortable utilisation and from there to
/// the cap. 7 parts make each at most 10 points of utilisation wide.
const PARTS: u32 = 7;

/// Utilisation from which the wait goes on in a straight line: the formula has no value
/// at 1, and a destination above its capacity still has to be compared with others.
const STRAIGHT_FROM: f64 = 0.95;

/// Utilisations above the cap between which excess is spread evenly over destinations.
/// Between two marks the nearer destination is filled first: close together where waits
/// rise steeply, so that no zone stands far above another one that could help.
const EXCESS_MARKS: [f64; 12] = [0.725, 0.75, 0.775, 0.8, 0.85, 0.9, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0];

/// To this the comfortable utilisation is found: a thousandth of a point.
const PRECISE: f64 = 1e-5;

/// Far more steps than that takes.
const MOST_STEPS: usize = 50;

/// How well the proxies of a zone's callers share its replicas: `n` replicas make waiting
/// like `1 + SHARED x (n - 1)` servers of one queue. 1 would be one queue for all of them;
/// proxies choose the less busy of two, each knowing its own requests only.
const SHARED: f64 = 0.7;

/// Servers of a zone of so many replicas, each working on `cores` requests at one time.
pub(crate) fn servers(cores: f64, replicas: u32) -> f64 {
    cores * (1.0 + SHARED * (f64::from(replicas.max(1)) - 1.0))
}

/// A destination as a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Queue {
    /// Requests per second at full utilisation.
    pub(crate) full: f64,
    /// Milliseconds of work on one request.
    pub(crate) service: f64,
    /// Requests worked on at one time.
    pub(crate) servers: f64,
}

impl Queue {
    /// How long requests wait by utilisation.
    fn waits(&self) -> Waits {
        let exponent = (2.0 * (self.servers + 1.0)).sqrt() - 1.0;
        let mut waits = Waits { queue: *self, exponent, straight: 0.0, rise: 0.0 };
        let u = STRAIGHT_FROM;
        waits.straight = waits.bent(u);
        waits.rise = waits.straight * (exponent / u + 1.0 / (1.0 - u));
        waits
    }

    /// Mean wait at a utilisation (1 is full), milliseconds.
    pub(crate) fn wait(&self, utilisation: f64) -> f64 {
        self.waits().at(utilisation)
    }

    /// The comfortable utilisation when an even load would give `even`.
    #[cfg(test)]
    pub(crate) fn comfortable(&self, even: f64) -> f64 {
        self.waits().comfortable(even)
    }

    /// What all requests wait at a load: requests/s x milliseconds.
    pub(crate) fn waiting(&self, load: f64) -> f64 {
        if self.full > 0.0 { load * self.waits().at(load / self.full) } else { 0.0 }
    }

    /// The cost as segments of the flow: normal ones up to `cap` (utilisation, 1 is full),
    /// excess above. `even` is the utilisation under an even load, `distance` the smallest
    /// difference between routes in milliseconds.
    pub(crate) fn curve(&self, cap: f64, even: f64, distance: f64) -> Vec<Segment> {
        let mut curve = Vec::with_capacity(2 * PARTS as usize + EXCESS_MARKS.len() + 1);
        let waits = self.waits();
        let comfortable = waits.comfortable(even).min(cap);
        let mut slope = 0.0_f64;
        if self.full > 0.0 {
            let part = |part: u32| f64::from(part) / f64::from(PARTS);
            let width = comfortable * self.full / f64::from(PARTS);
            for at in 1..=PARTS {
                slope = slope.max(EVENNESS * distance * part(at));
                curve.push(Segment { width, slope, excess: false });
            }
            let (mut from, mut before) = (comfortable, waits.of_all(comfortable));
            let mut add = |to: f64, excess: bool| {
                let width = (to - from) * self.full;
                let all = waits.of_all(to);
                slope = slope.max(TAIL_WEIGHT * (all - before) / width);
                curve.push(Segment { width, slope, excess });
                (from, before) = (to, all);
            };
            if cap > comfortable {
                for at in 1..=PARTS {
                    add(comfortable + (cap - comfortable) * part(at), false);
                }
            }
            for mark in EXCESS_MARKS.into_iter().filter(|mark| *mark > cap + 1e-9) {
                add(mark, true);
            }
        }
        // Beyond all marks, and where nothing can be served: worse than any of them.
        let slope = 10.0 * slope.max(self.service);
        curve.push(Segment { width: f64::INFINITY, slope, excess: true });
        curve
    }
}

/// How long requests of a queue wait by utilisation, with what each answer needs reckoned once.
struct Waits {
    queue: Queue,
    exponent: f64,
    /// The wait where it begins to go on in a straight line, and how it rises from there.
    straight: f64,
    rise: f64,
}

impl Waits {
    /// The formula.
    fn bent(&self, utilisation: f64) -> f64 {
        let Queue { service, servers, .. } = self.queue;
        service * utilisation.powf(self.exponent) / (servers * (1.0 - utilisation))
    }

    /// Mean wait at a utilisation (1 is full), milliseconds.
    fn at(&self, utilisation: f64) -> f64 {
        if utilisation <= 0.0 {
            0.0
        } else if utilisation < STRAIGHT_FROM {
            self.bent(utilisation)
        } else {
            self.straight + self.rise * (utilisation - STRAIGHT_FROM)
        }
    }

    /// What all requests wait at a utilisation: requests/s x milliseconds.
    fn of_all(&self, utilisation: f64) -> f64 {
        utilisation * self.queue.full * self.at(utilisation)
    }

    /// The comfortable utilisation when an even load would give `even`.
    fn comfortable(&self, even: f64) -> f64 {
        let wait = self.at(even);
        self.reach(wait + PATIENCE * (self.queue.service + wait), even.min(1.0))
    }

    /// The utilisation from `least` to 1 at which the mean wait is so long; what is not
    /// reached there is 1. By Newton's method on the logarithm of the wait.
    fn reach(&self, wait: f64, least: f64) -> f64 {
        if wait >= self.straight {
            let beyond = if self.rise > 0.0 { (wait - self.straight) / self.rise } else { 1.0 };
            return (STRAIGHT_FROM + beyond).clamp(least, 1.0);
        }
        let Queue { service, servers, .. } = self.queue;
        let exponent = self.exponent;
        let wanted = (wait * servers / service).ln();
        // The logarithm bends down below this and up above: from here on each step stays
        // where the answer is, and no step goes back and forth.
        let bend = exponent.sqrt() / (1.0 + exponent.sqrt());
        let mut at = bend;
        for _ in 0..MOST_STEPS {
            let missing = wanted - (exponent * at.ln() - (1.0 - at).ln());
            let next = at + missing / (exponent / at + 1.0 / (1.0 - at));
            // A step may not leave what has a logarithm.
            let next = next.clamp(0.1 * at, 1.0 - 0.1 * (1.0 - at));
            let done = (next - at).abs() < PRECISE;
            at = next;
            if done {
                break;
            }
        }
        at.clamp(least, 1.0)
    }
}

/// The cost of a load under a curve, requests/s x milliseconds, without what only breaks
/// ties: spreading a comfortable load more evenly saves nobody anything.
pub(crate) fn cost(curve: &[Segment], mut load: f64) -> f64 {
    let mut cost = 0.0;
    for (at, segment) in curve.iter().enumerate() {
        let here = load.min(segment.width);
        if at >= PARTS as usize || segment.excess {
            cost += here * segment.slope;
        }
        load -= here;
        if load <= 0.0 {
            break;
        }
    }
    cost
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Random, *};

    #[test]
    fn one_server_waits_as_the_exact_formula_says() {
        let queue = Queue { full: 100.0, service: 10.0, servers: 1.0 };
        for u in [0.1, 0.5, 0.9] {
            assert!((queue.wait(u) - 10.0 * u / (1.0 - u)).abs() < 1e-9);
        }
    }

    /// Erlang's C formula, by its recursion: independent of the approximation.
    fn erlang_wait(service: f64, servers: u32, utilisation: f64) -> f64 {
        let offered = utilisation * f64::from(servers);
        let blocked = (1..=servers).fold(1.0, |b, c| offered * b / (f64::from(c) + offered * b));
        let waits = blocked / (1.0 - utilisation * (1.0 - blocked));
        waits * service / (f64::from(servers) * (1.0 - utilisation))
    }

    #[test]
    fn several_servers_wait_nearly_as_the_exact_formula_says() {
        for servers in [2_u32, 3, 6, 12] {
            for u in [0.5, 0.7, 0.9] {
                let queue = Queue { full: 1.0, service: 10.0, servers: f64::from(servers) };
                let exact = erlang_wait(10.0, servers, u);
                // A twentieth of a service time: the approximation is known to be this good.
                assert!((queue.wait(u) - exact).abs() < 0.5, "{servers} {u} {exact}");
            }
        }
    }

    #[test]
    fn comfortable_is_where_patience_ends() {
        for servers in [1.0, 3.0, 8.0] {
            for even in [0.1, 0.3, 0.6, 0.9] {
                let queue = Queue { full: 1.0, service: 10.0, servers };
                let found = queue.comfortable(even);
                let longer = (queue.wait(found) - queue.wait(even)) / (10.0 + queue.wait(even));
                assert!(found >= even && (longer - PATIENCE).abs() < 1e-3, "{servers} {even}");
            }
        }
    }

    #[test]
    fn curves_are_convex_reach_the_cap_and_never_end() {
        let mut random = Random::new(30);
        for _ in 0..20_000 {
            let queue = Queue {
                full: if random.one_in(10) { 0.0 } else { 0.1 + random.unit() * 1000.0 },
                service: random.unit() * 100.0,
                servers: 1.0 + random.unit() * 20.0,
            };
            let cap = 0.05 + random.unit() * 0.95;
            let curve = queue.curve(cap, random.unit() * 1.5, random.unit());
            let normal: f64 = curve.iter().filter(|s| !s.excess).map(|s| s.width).sum();
            assert!((normal - cap * queue.full).abs() <= 1e-9 * (1.0 + queue.full));
            for pair in curve.windows(2) {
                assert!(pair[0].width > 0.0 && pair[0].width.is_finite());
                assert!(pair[0].slope <= pair[1].slope && pair[0].excess <= pair[1].excess);
            }
            assert!(curve.last().is_some_and(|last| last.width.is_infinite() && last.excess));
        }
    }
}
