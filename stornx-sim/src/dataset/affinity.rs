//! Gained affinity, the figure of merit of the RASA paper: the share of all traffic
//! whose two ends are together. For an edge and a group (a machine, or a zone) that is
//! `min(share of the one service's containers there, share of the other's)`.

use super::rasa::{Dataset, Placement};

/// Gained affinity of a placement with the machines grouped by `group_of` (machine
/// to group). 0 to 1; 0 when there is no traffic.
#[must_use]
pub fn gained(dataset: &Dataset, placement: &Placement, group_of: &[usize]) -> f64 {
    let groups = group_of.iter().max().map_or(0, |group| group + 1);
    let counts: Vec<Vec<u32>> = placement
        .iter()
        .map(|machines| {
            let mut counts = vec![0; groups];
            for machine in machines {
                counts[group_of[*machine]] += 1;
            }
            counts
        })
        .collect();
    let share = |service: usize, group: usize| {
        f64::from(counts[service][group]) / placement[service].len().max(1) as f64
    };
    let total: f64 = dataset.edges.iter().map(|edge| edge.traffic).sum();
    if total <= 0.0 {
        return 0.0;
    }
    let together: f64 = dataset
        .edges
        .iter()
        .map(|edge| {
            let shares = (0..groups).map(|group| share(edge.a, group).min(share(edge.b, group)));
            edge.traffic * shares.sum::<f64>()
        })
        .sum();
    together / total
}

/// Gained affinity by machine.
#[must_use]
pub fn by_machine(dataset: &Dataset, placement: &Placement) -> f64 {
    gained(dataset, placement, &(0..dataset.machines.len()).collect::<Vec<_>>())
}

/// Gained affinity by zone, with the zones of [`Dataset::zones`].
#[must_use]
pub fn by_zone(dataset: &Dataset, placement: &Placement, zones: usize) -> f64 {
    gained(dataset, placement, &dataset.zones(zones))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::rasa;

    #[test]
    fn follows_the_definition() {
        let dataset = rasa::parse("small.json", rasa::tests::SMALL).unwrap();
        assert!(by_machine(&dataset, &dataset.deployed).abs() < 1e-12);
        // Machines 0 and 2 are zone 0 of two.
        assert!(by_zone(&dataset, &dataset.deployed, 2).abs() < 1e-12);
        assert!((by_zone(&dataset, &dataset.deployed, 1) - 1.0).abs() < 1e-12);
        let half = vec![vec![0, 1], vec![1, 1], vec![2]];
        assert!((by_machine(&dataset, &half) - 0.5).abs() < 1e-12);
    }
}
