//! Shared by the tests of the search and its example: a checker that knows a placement
//! only from the problem and the list of moves, and a reader of the RASA data format.
//! No code of the search is used.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub(crate) mod rasa;

use stornx_core::search::{Move, Problem};

/// Containers by service and machine.
pub(crate) type Counts = Vec<Vec<u32>>;

/// Where everything runs today.
pub(crate) fn today(problem: &Problem) -> Counts {
    let mut counts = vec![vec![0; problem.machines.len()]; problem.services.len()];
    for (service, row) in problem.services.iter().zip(&mut counts) {
        for (machine, count) in &service.today {
            row[*machine] += count;
        }
    }
    counts
}

/// Containers by zone.
pub(crate) fn by_zone(problem: &Problem, row: &[u32]) -> Vec<u32> {
    let zones = problem.machines.iter().map(|machine| machine.zone).max().unwrap_or(0) + 1;
    let mut counts = vec![0; zones];
    for (machine, count) in problem.machines.iter().zip(row) {
        counts[machine.zone] += count;
    }
    counts
}

/// Share of the traffic that stays inside machines, and inside zones.
pub(crate) fn kept(problem: &Problem, counts: &Counts) -> (f64, f64) {
    let (mut machines, mut zones, mut all) = (0.0, 0.0, 0.0);
    for edge in &problem.edges {
        let (a, b) = (&counts[edge.a], &counts[edge.b]);
        machines += edge.traffic * overlap(a, b);
        zones += edge.traffic * overlap(&by_zone(problem, a), &by_zone(problem, b));
        all += edge.traffic;
    }
    if all > 0.0 { (machines / all, zones / all) } else { (0.0, 0.0) }
}

pub(crate) fn overlap(a: &[u32], b: &[u32]) -> f64 {
    let (all_a, all_b) = (a.iter().sum::<u32>(), b.iter().sum::<u32>());
    if all_a == 0 || all_b == 0 {
        return 0.0;
    }
    a.iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) / f64::from(all_a)).min(f64::from(*b) / f64::from(all_b)))
        .sum()
}

/// Worth of a placement by the weights of the problem.
pub(crate) fn worth(problem: &Problem, counts: &Counts) -> f64 {
    let (machines, zones) = kept(problem, counts);
    problem.weights.machine * machines + problem.weights.zone * zones
}

/// What is wrong with one move from a placement, judged by what comes out of it.
pub(crate) fn refusal(
    problem: &Problem,
    before: &Counts,
    (service, from, to): (usize, usize, usize),
) -> Option<String> {
    let asked = &problem.services[service];
    if asked.pinned {
        return Some(format!("service {service} is pinned"));
    }
    if from == to || before[service][from] == 0 {
        return Some(format!("service {service}: nothing to move from {from} to {to}"));
    }
    if asked.compatible.as_ref().is_some_and(|machines| !machines.contains(&to)) {
        return Some(format!("service {service}: machine {to} is not compatible"));
    }
    let mut after = before.clone();
    after[service][from] -= 1;
    after[service][to] += 1;
    if asked.per_machine.is_some_and(|most| after[service][to] > most) {
        return Some(format!("service {service}: too many on machine {to}"));
    }
    let machine = &problem.machines[to];
    let sum = |resource: &dyn Fn(usize) -> u128| -> u128 {
        (0..problem.services.len()).map(|s| u128::from(after[s][to]) * resource(s)).sum()
    };
    let cpu = sum(&|s| u128::from(problem.services[s].cpu));
    let memory = sum(&|s| u128::from(problem.services[s].memory));
    let pods = sum(&|_| 1);
    if asked.cpu > 0 && cpu > u128::from(machine.cpu) {
        return Some(format!("machine {to}: CPU {cpu} of {}", machine.cpu));
    }
    if asked.memory > 0 && memory > u128::from(machine.memory) {
        return Some(format!("machine {to}: memory {memory} of {}", machine.memory));
    }
    if pods > u128::from(machine.pods) {
        return Some(format!("machine {to}: {pods} pods of {}", machine.pods));
    }
    let mut first = vec![0; problem.machines.len()];
    for (machine, count) in &asked.today {
        first[*machine] += count;
    }
    let (first, now) = (by_zone(problem, &first), by_zone(problem, &after[service]));
    if asked.spread.keep_zones && first.iter().zip(&now).any(|(first, now)| *first > 0 && *now == 0)
    {
        return Some(format!("service {service}: a zone is lost"));
    }
    let skew = |zones: &[u32]| zones.iter().max().unwrap() - zones.iter().min().unwrap();
    if asked.spread.max_skew.is_some_and(|most| skew(&now) > most.max(skew(&first))) {
        return Some(format!("service {service}: skew {}", skew(&now)));
    }
    None
}

/// Replays a list of moves: every prefix must be feasible and worth what it says.
/// Returns the placement at the end.
pub(crate) fn replay(problem: &Problem, moves: &[Move]) -> Counts {
    let mut counts = today(problem);
    for (at, step) in moves.iter().enumerate() {
        if let Some(refusal) = refusal(problem, &counts, (step.service, step.from, step.to)) {
            panic!("move {at}: {refusal}");
        }
        counts[step.service][step.from] -= 1;
        counts[step.service][step.to] += 1;
        // Recounting everything after each of hundreds of moves is slow in tests.
        if at % 16 == 0 || at + 1 == moves.len() {
            let worth = worth(problem, &counts);
            assert!((worth - step.worth).abs() < 1e-9, "move {at}: {} is {worth}", step.worth);
        }
    }
    counts
}
