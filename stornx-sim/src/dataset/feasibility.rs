//! Whether a placement is feasible, computed from the placement alone: no table of a
//! search is trusted.

use super::rasa::{Dataset, Placement};

/// Sums of normalised numbers carry rounding errors: a machine counts as overfull
/// only above this share of its capacity.
const TOLERANCE: f64 = 1e-9;

/// Everything that is infeasible about a placement, in plain words; empty when it
/// respects machine capacity and compatibility and places every container.
#[must_use]
pub fn violations(dataset: &Dataset, placement: &Placement) -> Vec<String> {
    let mut found = Vec::new();
    let mut used = vec![(0.0, 0.0); dataset.machines.len()];
    if placement.len() != dataset.services.len() {
        found.push(format!("{} services of {}", placement.len(), dataset.services.len()));
    }
    for (service, machines) in dataset.services.iter().zip(placement) {
        if machines.len() != service.containers.len() {
            found.push(format!(
                "{}: {} containers placed of {}",
                service.name,
                machines.len(),
                service.containers.len()
            ));
        }
        for machine in machines {
            match used.get_mut(*machine) {
                Some((cpu, memory)) => {
                    *cpu += service.cpu;
                    *memory += service.memory;
                }
                None => found.push(format!("{}: machine {machine} does not exist", service.name)),
            }
            if service.compatible.as_ref().is_some_and(|allowed| !allowed.contains(machine)) {
                found.push(format!("{}: machine {machine} is not compatible", service.name));
            }
        }
    }
    for (machine, (cpu, memory)) in dataset.machines.iter().zip(used) {
        for (what, used, capacity) in
            [("CPU", cpu, machine.cpu), ("memory", memory, machine.memory)]
        {
            if used > capacity * (1.0 + TOLERANCE) {
                found.push(format!("{}: {what} {used} of {capacity}", machine.name));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::rasa;

    #[test]
    fn names_what_is_overfull_or_incompatible() {
        let dataset = rasa::parse("small.json", rasa::tests::SMALL).unwrap();
        assert_eq!(violations(&dataset, &dataset.deployed), Vec::<String>::new());
        let bad = vec![vec![0, 0], vec![0, 2], vec![2]];
        let found = violations(&dataset, &bad);
        assert_eq!(found, ["api: machine 2 is not compatible", "m2: CPU 3 of 2"]);
        assert_eq!(violations(&dataset, &vec![vec![0], vec![1, 1], vec![9]]).len(), 2);
    }
}
