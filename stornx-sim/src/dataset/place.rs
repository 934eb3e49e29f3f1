//! A plain local search on gained affinity: the best single move or swap of two
//! containers, again and again, until nothing improves or a budget is used up.
//!
//! Every step keeps machine capacity and compatibility, so that every prefix of its
//! moves is feasible. Deterministic: ties go to the lower positions.
//!
//! Known weakness: it stops at the first local optimum, and a service whose partners
//! fill whole machines needs several worsening steps that it never takes.

use std::time::{Duration, Instant};

use super::rasa::{Dataset, Placement};

/// Gains below this share of all traffic are rounding errors.
const LEAST_GAIN: f64 = 1e-9;

/// Sums of normalised numbers carry rounding errors; well inside the tolerance of the
/// feasibility check.
const TOLERANCE: f64 = 1e-10;

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most containers moved (a swap moves two; a container moved twice counts twice).
    pub moves: usize,
    /// Most time spent.
    pub time: Duration,
}

/// What came of a search.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The placement reached.
    pub placement: Placement,
    /// Single-container moves that lead to it.
    pub moves: usize,
    /// It stopped because nothing improves any more, not because of a limit.
    pub local_optimum: bool,
}

/// One container of a service from one machine to another.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shift {
    service: usize,
    from: usize,
    to: usize,
}

/// One step: a shift, or two in opposite directions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    there: Shift,
    back: Option<Shift>,
    gain: f64,
}

/// Searches from the deployed placement.
#[must_use]
pub fn search(dataset: &Dataset, limits: Limits) -> Placed {
    let begun = Instant::now();
    let mut state = State::new(dataset);
    let mut moves = 0;
    loop {
        if begun.elapsed() >= limits.time || moves >= limits.moves {
            return state.placed(moves, false);
        }
        let Some(step) = state.best(limits.moves - moves) else {
            return state.placed(moves, true);
        };
        state.apply(step.there);
        moves += 1;
        if let Some(back) = step.back {
            state.apply(back);
            moves += 1;
        }
    }
}

struct State<'a> {
    dataset: &'a Dataset,
    placement: Placement,
    /// Containers by service and machine.
    counts: Vec<Vec<u32>>,
    /// Partners by service, with the share of all traffic.
    partners: Vec<Vec<(usize, f64)>>,
    free: Vec<(f64, f64)>,
    /// Gained affinity if one more container of a service ran on a machine.
    added: Vec<Vec<f64>>,
    /// The same if one less did; only where there is one.
    removed: Vec<Vec<f64>>,
}

impl<'a> State<'a> {
    fn new(dataset: &'a Dataset) -> Self {
        let (services, machines) = (dataset.services.len(), dataset.machines.len());
        let mut counts = vec![vec![0; machines]; services];
        let mut free: Vec<_> = dataset.machines.iter().map(|m| (m.cpu, m.memory)).collect();
        for (service, places) in dataset.deployed.iter().enumerate() {
            for machine in places {
                counts[service][*machine] += 1;
                free[*machine].0 -= dataset.services[service].cpu;
                free[*machine].1 -= dataset.services[service].memory;
            }
        }
        let total: f64 = dataset.edges.iter().map(|edge| edge.traffic).sum();
        let mut partners = vec![Vec::new(); services];
        for edge in dataset.edges.iter().filter(|edge| edge.traffic > 0.0) {
            partners[edge.a].push((edge.b, edge.traffic / total));
            partners[edge.b].push((edge.a, edge.traffic / total));
        }
        let mut state = Self {
            dataset,
            placement: dataset.deployed.clone(),
            counts,
            partners,
            free,
            added: vec![vec![0.0; machines]; services],
            removed: vec![vec![0.0; machines]; services],
        };
        for service in 0..services {
            for machine in 0..machines {
                state.refresh(service, machine);
            }
        }
        state
    }

    fn placed(self, moves: usize, local_optimum: bool) -> Placed {
        Placed { placement: self.placement, moves, local_optimum }
    }

    fn share(&self, service: usize, machine: usize, change: f64) -> f64 {
        let all = self.dataset.services[service].containers.len().max(1) as f64;
        (f64::from(self.counts[service][machine]) + change) / all
    }

    /// Affinity gained on `machine` when the count of `service` there changes.
    fn change(&self, service: usize, machine: usize, by: f64) -> f64 {
        let (before, after) = (self.share(service, machine, 0.0), self.share(service, machine, by));
        self.partners[service]
            .iter()
            .map(|(partner, traffic)| {
                let other = self.share(*partner, machine, 0.0);
                traffic * (after.min(other) - before.min(other))
            })
            .sum()
    }

    fn refresh(&mut self, service: usize, machine: usize) {
        self.added[service][machine] = self.change(service, machine, 1.0);
        if self.counts[service][machine] > 0 {
            self.removed[service][machine] = self.change(service, machine, -1.0);
        }
    }

    fn allowed(&self, service: usize, machine: usize) -> bool {
        let compatible = &self.dataset.services[service].compatible;
        compatible.as_ref().is_none_or(|machines| machines.contains(&machine))
    }

    /// Whether `machine` can hold one more of `service` once one of `leaving` left.
    fn fits(&self, service: usize, machine: usize, leaving: Option<usize>) -> bool {
        let (asked, of) = (&self.dataset.services[service], &self.dataset.machines[machine]);
        let (mut cpu, mut memory) = self.free[machine];
        if let Some(leaving) = leaving {
            cpu += self.dataset.services[leaving].cpu;
            memory += self.dataset.services[leaving].memory;
        }
        asked.cpu <= cpu + TOLERANCE * of.cpu && asked.memory <= memory + TOLERANCE * of.memory
    }

    /// Gain of a shift on its own.
    fn gain(&self, shift: Shift) -> f64 {
        self.removed[shift.service][shift.from] + self.added[shift.service][shift.to]
    }

    /// What a swap of two partners gains differently from its two shifts.
    fn interplay(&self, there: Shift, back: Shift) -> f64 {
        let mut correction = 0.0;
        for (partner, traffic) in &self.partners[there.service] {
            if *partner != back.service {
                continue;
            }
            for (machine, by) in [(there.from, -1.0), (there.to, 1.0)] {
                let own = [0.0, by].map(|by| self.share(there.service, machine, by));
                let other = [0.0, -by].map(|by| self.share(*partner, machine, by));
                let apart = own[1].min(other[0]) + own[0].min(other[1]) - own[0].min(other[0]);
                correction += traffic * (own[1].min(other[1]) - apart);
            }
        }
        correction
    }

    /// The best step, if any improves.
    fn best(&self, moves_left: usize) -> Option<Step> {
        let machines = self.dataset.machines.len();
        let mut best: Option<Step> = None;
        let mut consider = |step: Step| {
            if step.gain > best.map_or(LEAST_GAIN, |best| best.gain) {
                best = Some(step);
            }
        };
        let here: Vec<Vec<usize>> = (0..machines)
            .map(|m| (0..self.counts.len()).filter(|s| self.counts[*s][m] > 0).collect())
            .collect();
        let mut threshold = LEAST_GAIN;
        for from in 0..machines {
            for to in (0..machines).filter(|to| *to != from) {
                // The most that anything coming back could gain: bounds every swap.
                let best_back = here[to]
                    .iter()
                    .map(|service| self.gain(Shift { service: *service, from: to, to: from }))
                    .fold(0.0, f64::max);
                for service in &here[from] {
                    let there = Shift { service: *service, from, to };
                    let alone = self.gain(there);
                    if self.partners[*service].is_empty() || !self.allowed(*service, to) {
                        continue;
                    }
                    if alone > threshold && self.fits(*service, to, None) {
                        threshold = alone;
                        consider(Step { there, back: None, gain: alone });
                    }
                    // Partners that swap lose what they had together, they gain nothing
                    // from it: the bound holds for them too.
                    if moves_left < 2 || alone + best_back <= threshold {
                        continue;
                    }
                    for other in here[to].iter().filter(|other| *other != service) {
                        let back = Shift { service: *other, from: to, to: from };
                        let gain = alone + self.gain(back) + self.interplay(there, back);
                        if gain > threshold
                            && self.allowed(*other, from)
                            && self.fits(*service, to, Some(*other))
                            && self.fits(*other, from, Some(*service))
                        {
                            threshold = gain;
                            consider(Step { there, back: Some(back), gain });
                        }
                    }
                }
            }
        }
        best
    }

    fn apply(&mut self, shift: Shift) {
        let Shift { service, from, to } = shift;
        self.counts[service][from] -= 1;
        self.counts[service][to] += 1;
        let asked = &self.dataset.services[service];
        self.free[from].0 += asked.cpu;
        self.free[from].1 += asked.memory;
        self.free[to].0 -= asked.cpu;
        self.free[to].1 -= asked.memory;
        if let Some(place) = self.placement[service].iter_mut().find(|place| **place == from) {
            *place = to;
        }
        let partners: Vec<usize> = self.partners[service].iter().map(|(p, _)| *p).collect();
        for machine in [from, to] {
            self.refresh(service, machine);
            for partner in &partners {
                self.refresh(*partner, machine);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{affinity, feasibility, rasa};
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const FREE: Limits = Limits { moves: usize::MAX, time: Duration::from_secs(60) };

    #[test]
    fn brings_partners_together_where_they_fit() {
        let dataset = rasa::parse("small.json", rasa::tests::SMALL).unwrap();
        let placed = search(&dataset, FREE);
        assert_eq!(feasibility::violations(&dataset, &placed.placement), Vec::<String>::new());
        // One pair on each machine, or both on one: nothing is apart any more.
        assert!((affinity::by_machine(&dataset, &placed.placement) - 1.0).abs() < 1e-9);
        assert!(placed.local_optimum);
    }

    /// On random data sets: every prefix is feasible and better than the one before,
    /// and no single move or swap improves what the search ends with, checked by
    /// trying all of them from the definition.
    #[test]
    fn prefixes_are_feasible_and_the_end_is_a_local_optimum() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..60 {
            let dataset = random(&mut rng);
            let whole = search(&dataset, FREE);
            assert!(whole.local_optimum);
            let mut last = affinity::by_machine(&dataset, &dataset.deployed);
            for moves in 0..=whole.moves {
                let prefix = search(&dataset, Limits { moves, ..FREE });
                assert!(prefix.moves <= moves);
                assert_eq!(feasibility::violations(&dataset, &prefix.placement), [""; 0]);
                let now = affinity::by_machine(&dataset, &prefix.placement);
                assert!(now >= last - 1e-12);
                last = now;
            }
            assert!(!improvable(&dataset, &whole.placement, last));
        }
    }

    fn improvable(dataset: &Dataset, placement: &Placement, value: f64) -> bool {
        let better = |candidate: &Placement| {
            feasibility::violations(dataset, candidate).is_empty()
                && affinity::by_machine(dataset, candidate) > value + 1e-8
        };
        let all: Vec<(usize, usize)> = placement
            .iter()
            .enumerate()
            .flat_map(|(s, places)| (0..places.len()).map(move |c| (s, c)))
            .collect();
        let single = all.iter().any(|(s, c)| {
            (0..dataset.machines.len()).any(|machine| {
                let mut candidate = placement.clone();
                candidate[*s][*c] = machine;
                better(&candidate)
            })
        });
        single
            || all.iter().any(|(s, c)| {
                all.iter().any(|(t, d)| {
                    let mut candidate = placement.clone();
                    candidate[*s][*c] = placement[*t][*d];
                    candidate[*t][*d] = placement[*s][*c];
                    better(&candidate)
                })
            })
    }

    fn random(rng: &mut ChaCha8Rng) -> Dataset {
        let machines = rng.random_range(2..5usize);
        let services: Vec<rasa::Service> = (0..rng.random_range(2..5usize))
            .map(|s| rasa::Service {
                name: format!("s{s}"),
                cpu: rng.random_range(1..4) as f64,
                memory: rng.random_range(1..3) as f64,
                containers: (0..rng.random_range(1..4)).map(|c| format!("s{s}c{c}")).collect(),
                compatible: None,
            })
            .collect();
        let deployed: Placement = services
            .iter()
            .map(|service| {
                service.containers.iter().map(|_| rng.random_range(0..machines)).collect()
            })
            .collect();
        let mut used = vec![(0.0, 0.0); machines];
        for (service, places) in services.iter().zip(&deployed) {
            for place in places {
                used[*place].0 += service.cpu;
                used[*place].1 += service.memory;
            }
        }
        let edges = (0..services.len())
            .flat_map(|a| (a + 1..services.len()).map(move |b| (a, b)))
            .map(|(a, b)| rasa::TrafficEdge { a, b, traffic: rng.random_range(0..5) as f64 })
            .collect();
        let slack = rng.random_range(0..4) as f64;
        let machines = used
            .into_iter()
            .enumerate()
            .map(|(m, (cpu, memory))| rasa::Machine {
                name: format!("m{m}"),
                cpu: cpu + slack,
                memory: memory + slack,
            })
            .collect();
        Dataset { services, machines, edges, deployed }
    }
}
