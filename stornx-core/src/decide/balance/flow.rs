//! The exact minimum-cost flow of one host: which caller zone sends how much to which
//! destination zone, for all callers at once.
//!
//! Every unit of flow pays its route's cost and the destination's congestion. Congestion
//! is a convex piecewise-linear function of a destination's load: a list of segments with
//! rising slopes. Load beyond a destination's capacity is *excess*; less excess always
//! wins over any cost (lexicographic), so no destination goes above its capacity while
//! there is another answer.
//!
//! Method: successive shortest paths. What must flow (the reserve) is laid down first;
//! then each augmentation sends as much as it can along the cheapest path from a caller
//! with demand left, over routes forwards and over laid flow backwards, into the cheapest
//! open segment. A path's cost never falls, so the result is optimal for this cost
//! function, not just good. At the sizes at hand (at most a dozen zones on a side) paths
//! are found by rounds of relaxation over the dense matrix: fewest hops first among equals,
//! without potentials that would drift in floating point.
//!
//! Assumes finite costs, demands of at least 0, and slopes that do not fall within a
//! destination's normal segments nor within its excess segments. Ties go to the smaller
//! index. Flows below [`TOLERANCE`] of the total demand are taken as nothing; the cost is
//! within the same order of the optimum.

/// Flow below this share of the total demand is nothing. Far above what a few hundred
/// additions of f64 lose (1e-14), far below one request in any window.
pub(crate) const TOLERANCE: f64 = 1e-11;

/// A stretch of a destination's load over which one more unit costs the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Segment {
    /// How much load it takes; infinite for the last one.
    pub(crate) width: f64,
    /// Cost of one unit of load, milliseconds.
    pub(crate) slope: f64,
    /// Beyond the destination's capacity.
    pub(crate) excess: bool,
}

/// One host's flow problem. Matrices are row-major: a row for each caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Problem {
    /// Demand of each caller.
    pub(crate) demand: Vec<f64>,
    /// Cost of one unit on each route, milliseconds.
    pub(crate) cost: Vec<f64>,
    /// What each route carries at least. A row's sum is at most its caller's demand.
    pub(crate) least: Vec<f64>,
    /// Segments of all destinations, one destination after the other.
    pub(crate) segments: Vec<Segment>,
    /// Where each destination's segments end in `segments`.
    pub(crate) ends: Vec<usize>,
}

impl Problem {
    /// Empties it for the next host, keeping its memory.
    pub(crate) fn clear(&mut self) {
        self.demand.clear();
        self.cost.clear();
        self.least.clear();
        self.segments.clear();
        self.ends.clear();
    }

    /// Adds a destination's segments.
    pub(crate) fn add_destination(&mut self, segments: impl IntoIterator<Item = Segment>) {
        self.segments.extend(segments);
        self.ends.push(self.segments.len());
    }

    fn segments_of(&self, destination: usize) -> std::ops::Range<usize> {
        let start = if destination == 0 { 0 } else { self.ends[destination - 1] };
        start..self.ends[destination]
    }
}

/// The open segment of a destination.
#[derive(Debug, Clone, Copy)]
struct Opening {
    segment: usize,
    room: f64,
}

/// Working memory of the solver, kept from host to host.
#[derive(Debug, Default)]
pub(crate) struct Solver {
    flow: Vec<f64>,
    left: Vec<f64>,
    openings: Vec<Opening>,
    caller_distance: Vec<f64>,
    destination_distance: Vec<f64>,
    /// Destination from which a caller was reached (backwards over laid flow).
    caller_parent: Vec<Option<usize>>,
    /// Caller from which a destination was reached.
    destination_parent: Vec<usize>,
}

impl Solver {
    /// The optimal flows, row-major.
    pub(crate) fn solve(&mut self, problem: &Problem) -> &[f64] {
        let (callers, destinations) = (problem.demand.len(), problem.ends.len());
        let total: f64 = problem.demand.iter().sum();
        self.start(problem);
        if destinations == 0 || total <= 0.0 {
            return &self.flow;
        }
        let nothing = total * TOLERANCE;
        while self.left.iter().any(|left| *left > nothing) {
            self.find_paths(problem, callers, destinations, nothing);
            let Some(destination) = self.cheapest_opening(problem) else { break };
            self.augment(problem, destination, destinations, nothing);
        }
        &self.flow
    }

    /// Lays down what must flow and opens each destination's segment above it.
    fn start(&mut self, problem: &Problem) {
        let (callers, destinations) = (problem.demand.len(), problem.ends.len());
        self.flow.clear();
        self.flow.extend_from_slice(&problem.least);
        self.left.clear();
        self.left.extend((0..callers).map(|caller| {
            let row = &problem.least[caller * destinations..(caller + 1) * destinations];
            problem.demand[caller] - row.iter().sum::<f64>()
        }));
        self.openings.clear();
        for destination in 0..destinations {
            let laid: f64 = problem.least.iter().skip(destination).step_by(destinations).sum();
            let segment = problem.segments_of(destination).start;
            let mut opening = Opening { segment, room: problem.segments[segment].width };
            fill(problem, destination, &mut opening, laid);
            self.openings.push(opening);
        }
    }

    /// Cheapest path cost to every caller and destination, from any caller with demand
    /// left.
    fn find_paths(&mut self, problem: &Problem, callers: usize, destinations: usize, nothing: f64) {
        self.caller_distance.clear();
        self.caller_distance
            .extend(self.left.iter().map(|left| if *left > nothing { 0.0 } else { f64::INFINITY }));
        self.caller_parent.clear();
        self.caller_parent.resize(callers, None);
        self.destination_distance.clear();
        self.destination_distance.resize(destinations, f64::INFINITY);
        self.destination_parent.clear();
        self.destination_parent.resize(destinations, 0);
        // A shorter path must be shorter by more than rounding, or cycles of cost zero
        // would be walked for ever.
        let shorter = |new: f64, old: f64| {
            new < old && (old.is_infinite() || new < old - 1e-12 * (1.0 + old.abs()))
        };
        // Without negative cycles a shortest path visits each caller at most once.
        for _ in 0..=callers {
            let mut changed = false;
            for caller in 0..callers {
                let so_far = self.caller_distance[caller];
                if so_far.is_infinite() {
                    continue;
                }
                for destination in 0..destinations {
                    let distance = so_far + problem.cost[caller * destinations + destination];
                    if shorter(distance, self.destination_distance[destination]) {
                        self.destination_distance[destination] = distance;
                        self.destination_parent[destination] = caller;
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
            changed = false;
            for caller in 0..callers {
                for destination in 0..destinations {
                    let route = caller * destinations + destination;
                    if self.flow[route] - problem.least[route] <= nothing {
                        continue;
                    }
                    let distance = self.destination_distance[destination] - problem.cost[route];
                    if shorter(distance, self.caller_distance[caller]) {
                        self.caller_distance[caller] = distance;
                        self.caller_parent[caller] = Some(destination);
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
    }

    /// The destination whose open segment is cheapest to reach: without excess first.
    fn cheapest_opening(&self, problem: &Problem) -> Option<usize> {
        let price = |destination: usize| {
            let segment = problem.segments[self.openings[destination].segment];
            (segment.excess, self.destination_distance[destination] + segment.slope)
        };
        (0..self.openings.len()).min_by(|a, b| {
            let (a, b) = (price(*a), price(*b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
        })
    }

    /// Sends as much as fits along the path that ends in `destination`.
    fn augment(
        &mut self,
        problem: &Problem,
        destination: usize,
        destinations: usize,
        nothing: f64,
    ) {
        let mut amount = self.openings[destination].room;
        let mut at = destination;
        let first = loop {
            let caller = self.destination_parent[at];
            match self.caller_parent[caller] {
                Some(previous) => {
                    let route = caller * destinations + previous;
                    amount = amount.min(self.flow[route] - problem.least[route]);
                    at = previous;
                }
                None => break caller,
            }
        };
        amount = amount.min(self.left[first]);
        let mut at = destination;
        loop {
            let caller = self.destination_parent[at];
            self.flow[caller * destinations + at] += amount;
            let Some(previous) = self.caller_parent[caller] else { break };
            let route = caller * destinations + previous;
            self.flow[route] -= amount;
            if self.flow[route] - problem.least[route] <= nothing {
                self.flow[route] = self.flow[route].max(problem.least[route]);
            }
            at = previous;
        }
        self.left[first] -= amount;
        fill(problem, destination, &mut self.openings[destination], amount);
        if self.openings[destination].room <= nothing {
            let rest = self.openings[destination].room;
            fill(problem, destination, &mut self.openings[destination], rest);
        }
    }
}

/// Puts `load` into a destination's segments from where it is open. The last segment
/// takes whatever comes.
fn fill(problem: &Problem, destination: usize, opening: &mut Opening, mut load: f64) {
    let last = problem.segments_of(destination).end - 1;
    while load >= opening.room && opening.segment < last {
        load -= opening.room;
        opening.segment += 1;
        opening.room = problem.segments[opening.segment].width;
    }
    opening.room = if opening.segment == last { f64::INFINITY } else { opening.room - load };
}

#[cfg(test)]
mod tests;
