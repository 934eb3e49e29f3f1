//! The search against the proven optimum: on tiny instances for every budget of moves
//! (breadth-first search over all placements that single feasible moves can reach), on
//! small ones for the best of all placements (branch and bound).
//!
//! Long form: STORNX_CASES=1000 cargo test --release -p stornx-core --test search_small --
//! --nocapture

mod search_support;

use std::collections::BTreeMap;

use search_support::{Counts, by_zone, overlap, refusal, replay, today, worth};
use stornx_core::search::{Edge, Machine, Options, Problem, Service, Spread, Weights, search};

/// Numbers for instances, independent of those of the search (a Lehmer generator).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

fn instance(numbers: &mut Numbers) -> Problem {
    let machines = 2 + numbers.below(3);
    let zones = 1 + numbers.below(2);
    let kinds = 2 + numbers.below(if machines == 4 { 2 } else { 3 });
    let mut services: Vec<Service> = (0..kinds)
        .map(|_| {
            let mut today = vec![0; machines];
            for _ in 0..1 + numbers.below(3) {
                today[numbers.below(machines)] += 1;
            }
            Service {
                cpu: 1 + numbers.below(4) as u64,
                memory: numbers.below(3) as u64,
                today: today.into_iter().enumerate().filter(|(_, count)| *count > 0).collect(),
                spread: Spread {
                    keep_zones: numbers.below(4) == 0,
                    max_skew: (numbers.below(6) == 0).then_some(1),
                },
                per_machine: (numbers.below(6) == 0).then(|| 1 + numbers.below(2) as u32),
                pinned: numbers.below(12) == 0,
                compatible: None,
            }
        })
        .collect();
    for service in &mut services {
        if numbers.below(6) == 0 {
            service.compatible = Some((0..machines).filter(|_| numbers.below(3) > 0).collect());
        }
    }
    let edges = (0..kinds)
        .flat_map(|a| (a + 1..kinds).map(move |b| (a, b)))
        .map(|(a, b)| Edge { a, b, traffic: numbers.below(5) as f64 })
        .collect();
    let machines = (0..machines)
        .map(|m| {
            let on = |resource: &dyn Fn(&Service) -> u64| -> u64 {
                let count = |service: &Service| {
                    service
                        .today
                        .iter()
                        .filter(|(at, _)| *at == m)
                        .map(|(_, n)| u64::from(*n))
                        .sum::<u64>()
                };
                services.iter().map(|service| count(service) * resource(service)).sum()
            };
            Machine {
                cpu: on(&|service| service.cpu) + numbers.below(4) as u64,
                memory: on(&|service| service.memory) + numbers.below(3) as u64,
                pods: on(&|_| 1) as u32 + numbers.below(4) as u32,
                zone: m % zones,
            }
        })
        .collect();
    let weights = Weights { machine: 1.0, zone: [0.0, 0.5][numbers.below(2)] };
    Problem { services, machines, edges, weights }
}

/// The best worth that at most k moves can reach, for k = 0, 1, ...; the last entry is
/// the best of all.
fn frontier(problem: &Problem) -> Vec<f64> {
    let start = today(problem);
    let mut best = vec![worth(problem, &start)];
    let mut seen: BTreeMap<Counts, ()> = BTreeMap::from([(start.clone(), ())]);
    let mut level = vec![start];
    while !level.is_empty() {
        let mut next = Vec::new();
        let mut top = best[best.len() - 1];
        for counts in &level {
            for (service, row) in counts.iter().enumerate() {
                for (from, _) in row.iter().enumerate().filter(|(_, count)| **count > 0) {
                    for to in 0..problem.machines.len() {
                        if refusal(problem, counts, (service, from, to)).is_some() {
                            continue;
                        }
                        let mut after = counts.clone();
                        after[service][from] -= 1;
                        after[service][to] += 1;
                        if seen.insert(after.clone(), ()).is_none() {
                            top = top.max(worth(problem, &after));
                            next.push(after);
                        }
                    }
                }
            }
        }
        best.push(top);
        level = next;
    }
    best
}

/// Gaps to the optimum over many instances.
#[derive(Default)]
struct Gaps {
    cases: u32,
    improvable: u32,
    sum: f64,
    worst: f64,
}

impl Gaps {
    fn add(&mut self, before: f64, best: f64, reached: f64) {
        assert!(reached <= best + 1e-9, "{reached} is above the optimum {best}");
        self.cases += 1;
        self.improvable += u32::from(best > before + 1e-9);
        if best > 1e-9 {
            let gap = (best - reached) / best;
            self.sum += gap;
            self.worst = self.worst.max(gap);
        }
    }

    /// The bars: 1 % on the mean, 5 % at most.
    fn judge(&self, what: &str) {
        let mean = self.sum / f64::from(self.cases);
        println!(
            "{what}: {} of {} improvable, mean gap {:.3} %, worst {:.3} %",
            self.improvable,
            self.cases,
            mean * 100.0,
            self.worst * 100.0
        );
        assert!(self.improvable * 4 > self.cases);
        assert!(mean <= 0.01 && self.worst <= 0.05, "mean {mean}, worst {}", self.worst);
    }
}

fn cases(usual: u64) -> u64 {
    std::env::var("STORNX_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Tiny instances, for no limit and for two budgets.
#[test]
fn close_to_the_optimum_for_every_budget_on_tiny_instances() {
    let mut numbers = Numbers(9);
    for max_moves in [None, Some(2), Some(4)] {
        let mut gaps = Gaps::default();
        for case in 0..cases(300) {
            let problem = instance(&mut numbers);
            let frontier = frontier(&problem);
            let best = frontier[max_moves.unwrap_or(usize::MAX).min(frontier.len() - 1)];
            let options = Options { seed: case, max_moves, price: 0.0 };
            let found = search(&problem, options, 60_000, &mut || false).unwrap();
            assert!(found.moves.len() <= max_moves.unwrap_or(usize::MAX));
            let reached = worth(&problem, &replay(&problem, &found.moves));
            gaps.add(frontier[0], best, reached);
        }
        gaps.judge(&format!("tiny, {max_moves:?} moves"));
    }
}

/// Instances with far more placements than the search could look at one by one, against
/// the best of all placements, whether single moves can reach it or not.
#[test]
fn close_to_the_optimum_on_small_instances() {
    let mut numbers = Numbers(5);
    let mut gaps = Gaps::default();
    for case in 0..cases(40) {
        let problem = larger(&mut numbers);
        let best = optimum::of(&problem);
        let options = Options { seed: case, max_moves: None, price: 0.0 };
        let found = search(&problem, options, 100_000, &mut || false).unwrap();
        let reached = worth(&problem, &replay(&problem, &found.moves));
        gaps.add(worth(&problem, &today(&problem)), best, reached);
    }
    gaps.judge("small");
}

/// Five services of two or three containers on four machines with a little room: millions
/// of placements.
fn larger(numbers: &mut Numbers) -> Problem {
    let (machines, kinds) = (4, 5);
    let services: Vec<Service> = (0..kinds)
        .map(|_| {
            let mut today = vec![0; machines];
            for _ in 0..2 + numbers.below(2) {
                today[numbers.below(machines)] += 1;
            }
            Service {
                cpu: 1 + numbers.below(3) as u64,
                memory: 1,
                today: today.into_iter().enumerate().filter(|(_, count)| *count > 0).collect(),
                spread: Spread { keep_zones: numbers.below(4) == 0, max_skew: None },
                per_machine: (numbers.below(6) == 0).then_some(2),
                ..Service::default()
            }
        })
        .collect();
    let edges = (0..kinds)
        .flat_map(|a| (a + 1..kinds).map(move |b| (a, b)))
        .map(|(a, b)| Edge { a, b, traffic: numbers.below(5) as f64 })
        .collect();
    let machines = (0..machines)
        .map(|m| {
            let here = |service: &Service| -> u64 {
                let places = service.today.iter().filter(|(at, _)| *at == m);
                places.map(|(_, count)| u64::from(*count)).sum()
            };
            let cpu: u64 = services.iter().map(|service| here(service) * service.cpu).sum();
            Machine { cpu: cpu + 2 + numbers.below(3) as u64, memory: 99, pods: 99, zone: m % 2 }
        })
        .collect();
    let weights = Weights { machine: 1.0, zone: [0.0, 0.5][numbers.below(2)] };
    Problem { services, machines, edges, weights }
}

/// Branch and bound over all placements: service by service, best possible worth of the
/// edges that are still open as the bound.
mod optimum {
    use super::{Counts, Problem, by_zone, overlap, today, worth};

    struct Branches<'a> {
        problem: &'a Problem,
        first: Counts,
        /// Services, those with most traffic first.
        order: Vec<usize>,
        counts: Counts,
        free: Vec<u64>,
        best: f64,
    }

    /// The worth of the best placement.
    pub(super) fn of(problem: &Problem) -> f64 {
        let traffic = |service: usize| -> f64 {
            let edges = problem.edges.iter().filter(|e| e.a == service || e.b == service);
            edges.map(|edge| edge.traffic).sum()
        };
        let mut order: Vec<usize> = (0..problem.services.len()).collect();
        order.sort_by(|a, b| traffic(*b).total_cmp(&traffic(*a)));
        let first = today(problem);
        let all: f64 = problem.edges.iter().map(|edge| edge.traffic).sum();
        if all <= 0.0 {
            return 0.0;
        }
        let mut branches = Branches {
            problem,
            best: worth(problem, &first) * all - 1e-9,
            counts: vec![vec![0; problem.machines.len()]; problem.services.len()],
            free: problem.machines.iter().map(|machine| machine.cpu).collect(),
            first,
            order,
        };
        branches.service(0, 0.0, all);
        branches.best / all
    }

    impl Branches<'_> {
        /// `certain` is worth with the services decided so far, `open` the traffic whose
        /// worth is not decided.
        fn service(&mut self, at: usize, certain: f64, open: f64) {
            let weights = self.problem.weights.machine + self.problem.weights.zone;
            if certain + weights * open <= self.best + 1e-9 {
                return;
            }
            let Some(service) = self.order.get(at).copied() else {
                self.best = certain;
                return;
            };
            let left = self.first[service].iter().sum();
            self.machine((at, service), 0, left, (certain, open));
        }

        fn machine(
            &mut self,
            (at, service): (usize, usize),
            machine: usize,
            left: u32,
            (certain, open): (f64, f64),
        ) {
            if machine == self.free.len() {
                if left == 0 && self.keeps_zones(service) {
                    let (worth, traffic) = self.decided(at);
                    self.service(at + 1, certain + worth, open - traffic);
                }
                return;
            }
            let asked = self.problem.services[service].cpu;
            let most = self.problem.services[service].per_machine.unwrap_or(u32::MAX);
            // A machine that holds more than it may today may keep them.
            let most = most.max(self.first[service][machine]).min(left);
            for count in (0..=most).rev() {
                let needed = u64::from(count) * asked;
                if needed > self.free[machine] {
                    continue;
                }
                self.free[machine] -= needed;
                self.counts[service][machine] = count;
                self.machine((at, service), machine + 1, left - count, (certain, open));
                self.counts[service][machine] = 0;
                self.free[machine] += needed;
            }
        }

        fn keeps_zones(&self, service: usize) -> bool {
            let zones = |counts: &Counts| by_zone(self.problem, &counts[service]);
            let (before, after) = (zones(&self.first), zones(&self.counts));
            !self.problem.services[service].spread.keep_zones
                || before.iter().zip(after).all(|(before, after)| *before == 0 || after > 0)
        }

        /// Worth and traffic of the edges between a service and those decided before it.
        fn decided(&self, at: usize) -> (f64, f64) {
            let (problem, service) = (self.problem, self.order[at]);
            let before = |other: usize| self.order[..at].contains(&other);
            let (mut sum, mut traffic) = (0.0, 0.0);
            for edge in &problem.edges {
                if !(edge.a == service && before(edge.b) || edge.b == service && before(edge.a)) {
                    continue;
                }
                let (a, b) = (&self.counts[edge.a], &self.counts[edge.b]);
                let zones = || overlap(&by_zone(problem, a), &by_zone(problem, b));
                let kept = problem.weights.machine * overlap(a, b)
                    + if problem.weights.zone > 0.0 { problem.weights.zone * zones() } else { 0.0 };
                sum += edge.traffic * kept;
                traffic += edge.traffic;
            }
            (sum, traffic)
        }
    }
}
