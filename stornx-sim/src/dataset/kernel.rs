//! The search of the product on a data set: whole units in, a time limit around it.
//!
//! The search itself counts steps. Here rounds double until the next would not end in
//! time, and the last one gets as many steps as the speed so far promises. How many
//! fit depends on the machine, so results under a time limit differ between runs; each
//! is feasible.

use std::time::{Duration, Instant};

use stornx_core::search::{
    Edge, Found, Machine, Options, Problem, ProblemError, Search, Service, Weights,
};

use super::rasa::{Dataset, Placement};

/// One unit of a resource, in parts of all that the machines have. Requests and capacities
/// are rounded down, so that what fits exactly still does; a machine may be overbooked by
/// less than a unit for each container, far below what floating-point sums are off by.
const UNITS: f64 = 1e12;

/// Part of the remaining time that the last round is planned for: a round that is cut
/// short is lost.
const LAST_ROUND: f64 = 0.85;

/// What came of a search.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The placement reached.
    pub placement: Placement,
    /// Single-container moves that lead to it, each of them feasible.
    pub moves: usize,
}

/// The data set as a problem of the search: traffic inside machines is worth all.
#[must_use]
pub fn problem(dataset: &Dataset) -> Problem {
    let all = |resource: fn(&super::rasa::Machine) -> f64| {
        UNITS / dataset.machines.iter().map(resource).sum::<f64>().max(f64::MIN_POSITIVE)
    };
    let (cpu, memory) = (all(|machine| machine.cpu), all(|machine| machine.memory));
    let services =
        dataset.services.iter().zip(&dataset.deployed).map(|(service, places)| Service {
            cpu: (service.cpu * cpu).floor() as u64,
            memory: (service.memory * memory).floor() as u64,
            today: places.iter().map(|machine| (*machine, 1)).collect(),
            compatible: service.compatible.as_ref().map(|known| known.iter().copied().collect()),
            ..Service::default()
        });
    let machines = dataset.machines.iter().map(|machine| Machine {
        cpu: (machine.cpu * cpu).floor() as u64,
        memory: (machine.memory * memory).floor() as u64,
        pods: u32::MAX,
        zone: 0,
    });
    let edges = dataset.edges.iter();
    Problem {
        services: services.collect(),
        machines: machines.collect(),
        edges: edges.map(|edge| Edge { a: edge.a, b: edge.b, traffic: edge.traffic }).collect(),
        weights: Weights { machine: 1.0, zone: 0.0 },
    }
}

/// Searches from the deployed placement.
///
/// # Errors
/// [`ProblemError`] when the data set cannot be a problem, such as traffic of a service
/// with itself.
pub fn search(
    dataset: &Dataset,
    max_moves: Option<usize>,
    time: Duration,
) -> Result<Placed, ProblemError> {
    let begun = Instant::now();
    let options = Options { seed: 1, max_moves, price: 0.0 };
    let mut search = Search::new(&problem(dataset), options)?;
    let mut steps = search.first_round();
    let mut spent = 0;
    loop {
        if !search.round(steps, &mut || begun.elapsed() >= time) {
            break;
        }
        spent += steps;
        let left = time.saturating_sub(begun.elapsed()).as_secs_f64();
        let speed = spent as f64 / begun.elapsed().as_secs_f64().max(1e-6);
        let possible = (left * LAST_ROUND * speed) as u64;
        if possible < spent / 8 {
            break;
        }
        // After a round twice as long there must be time for one longer still.
        steps = if possible < 6 * steps { possible } else { 2 * steps };
    }
    Ok(placed(dataset, &search.found()))
}

/// Containers where the moves lead them.
fn placed(dataset: &Dataset, found: &Found) -> Placed {
    let mut placement = dataset.deployed.clone();
    for step in &found.moves {
        let places = &mut placement[step.service];
        if let Some(place) = places.iter_mut().find(|place| **place == step.from) {
            *place = step.to;
        }
    }
    Placed { placement, moves: found.moves.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::{affinity, feasibility, rasa};

    #[test]
    fn brings_partners_together_and_stays_feasible() {
        let dataset = rasa::parse("small.json", rasa::tests::SMALL).unwrap();
        let placed = search(&dataset, None, Duration::from_millis(200)).unwrap();
        assert_eq!(feasibility::violations(&dataset, &placed.placement), Vec::<String>::new());
        assert!((affinity::by_machine(&dataset, &placed.placement) - 1.0).abs() < 1e-9);
        let none = search(&dataset, Some(0), Duration::from_millis(50)).unwrap();
        assert_eq!((none.moves, none.placement), (0, dataset.deployed));
    }
}
