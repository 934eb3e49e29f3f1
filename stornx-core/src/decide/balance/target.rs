//! The target of a host by minimum-cost flow, and what any split of it costs.
//!
//! Decides the shares of all caller zones at once. A destination without a ready replica
//! keeps a weight of at most the reserve and takes no part: the mesh shares its weight over
//! the others. A caller zone that sends nothing keeps its row: there is nothing to gain, and when its
//! callers come it starts from what stands. Reserve: every ready destination keeps
//! `BALANCER_RESERVE` of each caller. Where its capacity does not allow it, a smaller
//! weight that stands is not raised. Where it answers slowly or fails, the reserve is 1: one
//! request in a hundred is enough to notice that it has recovered, and three would be
//! three users sent to a place known to be bad.

use super::{
    congestion::{self, Queue},
    effective::shares_of,
    flow::{Problem, Segment, Solver},
    round::Rounding,
    split::{Split, WHOLE},
};
use crate::policy::BalancerPolicy;

/// Work at a destination up to this many times that at the quickest one is the same: the
/// program is the same, and estimates differ by noise.
const ALIKE: f64 = 1.25;

/// A caller zone with a smaller share of the demand keeps its row too: all it could gain
/// is less than the gain that is worth a change.
const LEAST_SHARE: f64 = 0.005;

/// A destination zone of a host, as the target sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Destination {
    /// Replicas that serve.
    pub(crate) ready: u32,
    /// What it can serve.
    pub(crate) queue: Queue,
    /// Cost of its slow or failing answers, milliseconds.
    pub(crate) penalty: f64,
}

/// What the target of one host is decided on. Rows and columns are all zones of the
/// cluster.
#[derive(Debug, Clone)]
pub(crate) struct HostWorld {
    /// Requests per second by caller zone.
    pub(crate) demand: Vec<f64>,
    /// Distances of one request; row-major.
    travel: Vec<Distance>,
    /// By destination zone.
    pub(crate) destinations: Vec<Destination>,
    /// Congestion of each destination; empty where nothing is ready.
    curves: Vec<Vec<Segment>>,
    /// The cap of utilisation, 1 is full.
    cap: f64,
    /// Work on a request at the quickest destination, milliseconds.
    quickest: f64,

    /// The smallest difference that a choice of destination makes, milliseconds.
    distance: f64,
    /// Replicas of each destination by subzone; empty where a weight is a share.
    groups: Vec<Vec<u32>>,
}

/// How far a request travels between two zones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Distance {
    /// Round trip, milliseconds.
    pub(crate) round_trip: f64,
    /// Round trip with the price of the transfer, milliseconds.
    pub(crate) priced: f64,
    /// From one zone to another.
    pub(crate) crosses: bool,
}

/// What a split costs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Value {
    /// Travel, price, penalty and weighted waiting: requests/s x milliseconds.
    pub(crate) cost: f64,
    /// Requests per second at each destination.
    pub(crate) loads: Vec<f64>,
    /// Travel and waiting alone: requests/s x milliseconds.
    pub(crate) time: f64,
    /// Share of requests that cross zones, 0 to 1.
    pub(crate) cross_zone: f64,
}

impl HostWorld {
    /// Takes what is known and draws the congestion of each destination.
    pub(crate) fn new(
        demand: Vec<f64>,
        travel: Vec<Distance>,
        destinations: Vec<Destination>,
        policy: &BalancerPolicy,
    ) -> Self {
        let cap = policy.max_utilisation.get() / 100.0;
        let ready = || destinations.iter().filter(|destination| destination.ready > 0);
        let full: f64 = ready().map(|destination| destination.queue.full).sum();
        let total: f64 = demand.iter().sum();
        let even = if full > 0.0 { total / full } else { 1.0 };
        let distance = smallest_difference(&travel, destinations.len());
        let curves = destinations
            .iter()
            .map(|destination| match destination.ready {
                0 => Vec::new(),
                _ => destination.queue.curve(cap, even, distance),
            })
            .collect();
        let quickest = ready().map(|destination| destination.queue.service);
        let quickest = quickest.fold(f64::INFINITY, f64::min);
        let groups = Vec::new();
        Self { demand, travel, destinations, curves, cap, quickest, distance, groups }
    }

    /// The same world, zones being divided.
    pub(crate) fn divided(mut self, groups: &[Vec<u32>]) -> Self {
        self.groups = groups.to_vec();
        self
    }

    fn zones(&self) -> usize {
        self.destinations.len()
    }

    fn is_ready(&self, zone: usize) -> bool {
        self.destinations[zone].ready > 0
    }

    /// All requests per second.
    pub(crate) fn total_demand(&self) -> f64 {
        self.demand.iter().sum()
    }

    /// Whether a caller zone sends enough for its row to be decided.
    pub(crate) fn decides(&self, caller: usize) -> bool {
        let demand = self.demand[caller];
        demand > 0.0 && demand >= LEAST_SHARE * self.total_demand()
    }

    /// Requests per second that a destination serves at the cap.
    pub(crate) fn capacity(&self, zone: usize) -> f64 {
        self.destinations[zone].queue.full * self.cap
    }

    /// The smallest difference that a choice of destination makes, milliseconds.
    pub(crate) const fn distance(&self) -> f64 {
        self.distance
    }

    /// Cost of one request on a route, the wait excluded: the way, what the destination
    /// works longer on it than the quickest one, and its penalty.
    fn route_cost(&self, from: usize, to: usize) -> f64 {
        let destination = &self.destinations[to];
        let longer = (destination.queue.service - ALIKE * self.quickest).max(0.0);
        self.travel[from * self.zones() + to].priced + longer + destination.penalty
    }

    /// Least weight of a route, `standing` being what it has.
    fn least(&self, zone: usize, standing: u8, reserve: u8) -> u8 {
        if !self.is_ready(zone) {
            return standing.clamp(1, reserve);
        }
        if self.destinations[zone].penalty > 0.0 {
            return 1;
        }
        let reserved = f64::from(reserve) / f64::from(WHOLE) * self.total_demand();
        if reserved <= self.capacity(zone) { reserve } else { standing.clamp(1, reserve) }
    }

    /// The optimal split. `None` when nothing is ready or nothing is sent.
    pub(crate) fn target(
        &self,
        current: &Split,
        policy: &BalancerPolicy,
        workshop: &mut Workshop,
    ) -> Option<Split> {
        let callers: Vec<usize> = (0..self.zones()).filter(|z| self.demand[*z] > 0.0).collect();
        let ready: Vec<usize> = (0..self.zones()).filter(|zone| self.is_ready(*zone)).collect();
        if callers.is_empty() || ready.is_empty() {
            return None;
        }
        let reserve = whole_reserve(policy, self.zones());
        let least_of =
            |caller: usize, zone: usize| self.least(zone, current.weight(caller, zone), reserve);
        let (mut least, mut whole) = (Vec::new(), Vec::new());
        for caller in &callers {
            least.extend(ready.iter().map(|zone| least_of(*caller, *zone)));
            let held = (0..self.zones()).filter(|zone| !self.is_ready(*zone));
            whole.push(WHOLE - held.map(|zone| least_of(*caller, zone)).sum::<u8>());
        }

        let problem = &mut workshop.problem;
        problem.clear();
        for (row, caller) in callers.iter().enumerate() {
            let demand = self.demand[*caller];
            problem.demand.push(demand);
            let least = &least[row * ready.len()..(row + 1) * ready.len()];
            for (zone, least) in ready.iter().zip(least) {
                problem.cost.push(self.route_cost(*caller, *zone));
                problem.least.push(demand * f64::from(*least) / f64::from(whole[row]));
            }
        }
        for zone in &ready {
            problem.add_destination(self.curves[*zone].iter().copied());
        }
        let flow = workshop.solver.solve(problem);
        let capacity: Vec<f64> = ready.iter().map(|zone| self.capacity(*zone)).collect();
        let weights = Rounding {
            flow,
            demand: &problem.demand,
            cost: &problem.cost,
            least: &least,
            capacity: &capacity,
            whole: &whole,
        }
        .weights();

        let mut target = current.clone();
        for (caller, weights) in callers.iter().zip(weights.chunks(ready.len())) {
            if !self.decides(*caller) {
                continue;
            }
            let row = target.row_mut(*caller);
            for zone in (0..row.len()).filter(|zone| !self.is_ready(*zone)) {
                row[zone] = least_of(*caller, zone);
            }
            for (zone, weight) in ready.iter().zip(weights) {
                row[*zone] = *weight;
            }
        }
        Some(target)
    }

    /// Requests per second above each destination's capacity, summed; not counting what is
    /// less than `tolerance` of it, or than one point of the largest caller.
    pub(crate) fn excess(&self, loads: &[f64], tolerance: f64) -> f64 {
        let point = self.demand.iter().copied().fold(0.0, f64::max) / f64::from(WHOLE);
        let limit = |zone: usize| self.capacity(zone) * (1.0 + tolerance) + point;
        loads.iter().enumerate().map(|(zone, load)| (load - limit(zone)).max(0.0)).sum()
    }

    /// Whether no zone would be above its cap with one replica fewer in any of them.
    pub(crate) fn can_lose_one(&self, split: &Split) -> bool {
        let loads = self.loads(split);
        let mut others = self.clone();
        (0..self.zones()).all(|zone| match self.destinations[zone].ready {
            0 => true,
            // The mesh shares its weight over the others.
            1 => {
                others.destinations[zone].ready = 0;
                let fits = others.excess(&others.loads(split), 0.0) <= 0.0;
                others.destinations[zone].ready = 1;
                fits
            }
            ready => {
                let left = f64::from(ready - 1) / f64::from(ready);
                loads[zone] <= left * self.capacity(zone)
            }
        })
    }

    /// Whether a caller's weight of a zone without a replica is more than the reserve and
    /// what epsilon holds there.
    pub(crate) fn idle_weight(&self, split: &Split, policy: &BalancerPolicy) -> bool {
        let most = f64::from(whole_reserve(policy, self.zones())) + policy.epsilon.get();
        let callers = (0..self.zones()).filter(|zone| self.demand[*zone] > 0.0);
        callers.into_iter().any(|caller| {
            let row = split.row(caller).iter().enumerate();
            row.into_iter().any(|(zone, w)| !self.is_ready(zone) && f64::from(*w) > most)
        })
    }

    /// Utilisation of a destination under a load, 1 is full; `None` when nothing is ready.
    pub(crate) fn utilisation(&self, zone: usize, load: f64) -> Option<f64> {
        let full = self.destinations[zone].queue.full;
        (full > 0.0).then(|| load / full)
    }

    /// The share of a row that each destination really gets: the mesh shares weights of
    /// zones without an endpoint over the others.
    pub(crate) fn shares<'a>(&'a self, row: &'a [u8]) -> impl Iterator<Item = f64> + 'a {
        shares_of(row, &self.groups, |zone| self.is_ready(zone))
    }

    /// Requests per second that reach each destination.
    pub(crate) fn loads(&self, split: &Split) -> Vec<f64> {
        let mut loads = vec![0.0; self.zones()];
        for (from, demand) in self.demand.iter().enumerate() {
            for (load, share) in loads.iter_mut().zip(self.shares(split.row(from))) {
                *load += demand * share;
            }
        }
        loads
    }

    /// What a split costs. Congestion is that of loads less `tolerance` of them: where it
    /// sets in at a certain load, a load that is above by noise alone costs nothing.
    pub(crate) fn value(&self, split: &Split, tolerance: f64) -> Value {
        let mut loads = vec![0.0; self.zones()];
        let (mut cost, mut time, mut crossing) = (0.0, 0.0, 0.0);
        for (from, demand) in self.demand.iter().enumerate().filter(|(_, demand)| **demand > 0.0) {
            for (to, share) in self.shares(split.row(from)).enumerate() {
                let requests = demand * share;
                loads[to] += requests;
                cost += requests * self.route_cost(from, to);
                let way = self.travel[from * self.zones() + to];
                time += requests * way.round_trip;
                if way.crosses {
                    crossing += requests;
                }
            }
        }
        for (zone, load) in loads.iter().enumerate().filter(|(_, load)| **load > 0.0) {
            cost += congestion::cost(&self.curves[zone], *load * (1.0 - tolerance));
            time += self.destinations[zone].queue.waiting(*load);
        }
        let total = self.total_demand();
        let cross_zone = if total > 0.0 { crossing / total } else { 0.0 };
        Value { cost, loads, time, cross_zone }
    }
}

/// The reserve in whole points. Half of a row at most: every zone must fit into it.
pub(crate) fn whole_reserve(policy: &BalancerPolicy, zones: usize) -> u8 {
    let reserve = policy.reserve.get().round().min((50.0 / zones.max(1) as f64).floor());
    // In 1 to 50 by the clamp.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let reserve = reserve.clamp(1.0, 50.0) as u8;
    reserve
}

/// The smallest difference that a choice of destination makes to any caller; 0 when all
/// are equally far.
fn smallest_difference(travel: &[Distance], zones: usize) -> f64 {
    let mut smallest = f64::INFINITY;
    for row in travel.chunks(zones.max(1)) {
        let nearest = row.iter().map(|to| to.priced).fold(f64::INFINITY, f64::min);
        let next = row.iter().map(|to| to.priced - nearest).filter(|more| *more > 1e-9);
        smallest = next.fold(smallest, f64::min);
    }
    if smallest.is_finite() { smallest } else { 0.0 }
}

/// Memory of the solver, kept from host to host.
#[derive(Debug, Default)]
pub(crate) struct Workshop {
    problem: Problem,
    solver: Solver,
}
