//! The cost of a layout: what changes by one replica equals what is computed anew, and
//! splits keep their promises.

use super::toy::{Toy, random};
use crate::{
    decide::{
        moves::{
            objective::{Depth, Objective, Shift, waiting},
            split::{Router, Splitting, pairs_by_cost, split},
        },
        safety::{
            Safety,
            testing::{Dice, World, cases, index},
        },
    },
    units::Percent,
    view::{NodeIndex, View},
};

/// A random shift of a serving replica.
fn random_shift(view: &View<'_>, dice: &mut Dice) -> Option<(Shift, usize)> {
    let at = dice.below(view.workloads.len());
    let pods = &view.workloads[at].pods;
    let pod = dice.below(pods.len());
    let shift = Shift {
        workload: crate::view::WorkloadIndex::new(at),
        from: pods[pod].node?,
        to: NodeIndex::new(dice.below(view.nodes.len())),
    };
    (shift.from != shift.to).then_some((shift, pod))
}

fn total(toy: &Toy) -> f64 {
    let view = toy.world.view();
    let safety = Safety::assess(&view, &toy.world.memory);
    Objective::new(&view, &safety, &toy.world.memory, None).total()
}

#[test]
fn a_change_costs_what_the_new_layout_costs() {
    for seed in 0..cases(400) {
        let mut dice = Dice::new(seed);
        let mut toy = random(&mut dice);
        if dice.one_in(3) {
            // A cycle, and a call to itself.
            toy.world.edge("s1", "s0", &[("a", "a", 30.0)]);
            toy.world.edge("s1", "s1", &[("a", "a", 10.0)]);
        }
        if dice.one_in(4) {
            toy.world.snapshot.mesh = crate::model::Mesh::Absent;
        }
        let (before, expected) = {
            let view = toy.world.view();
            let safety = Safety::assess(&view, &toy.world.memory);
            let mut objective = Objective::new(&view, &safety, &toy.world.memory, None);
            let before = objective.total();
            let Some((shift, pod)) = random_shift(&view, &mut dice) else { continue };
            let change = objective.shift(shift, Depth::All);
            let expected = objective.total();
            assert!((before + change - expected).abs() < 1e-6 * before.max(1.0));
            assert!((objective.recomputed() - expected).abs() < 1e-6 * before.max(1.0));
            objective.take_back();
            assert!(objective.total().to_bits() == before.to_bits(), "seed {seed}");
            assert!((objective.recomputed() - before).abs() < 1e-6 * before.max(1.0));
            // Once more from the restored state: the same.
            objective.shift(shift, Depth::All);
            assert!((objective.total() - expected).abs() < 1e-9 * before.max(1.0));
            let name = view.workloads[shift.workload.at()].pods[pod].pod.name.clone();
            let node = view.nodes[shift.to.at()].node.name.clone();
            (before, (expected, name, node))
        };
        let (expected, name, node) = expected;
        let pods = toy.world.snapshot.workloads.iter_mut().flat_map(|w| &mut w.pods);
        pods.filter(|pod| pod.name == name).for_each(|pod| pod.node = Some(node.clone()));
        let anew = total(&toy);
        assert!((anew - expected).abs() < 1e-6 * before.max(1.0), "seed {seed}: {anew} {expected}");
    }
}

#[test]
fn travel_is_requests_times_round_trips() {
    let mut world = World::new(&[2, 2]);
    world.workload("gate", &["a0"]).managed = false;
    world.workload("w", &["a0", "b0"]);
    world.edge("gate", "w", &[("a", "a", 100.0)]);
    world.snapshot.mesh = crate::model::Mesh::Absent;
    let view = world.view();
    let safety = Safety::assess(&view, &world.memory);
    let mut objective = Objective::new(&view, &safety, &world.memory, None);
    // Half of it stays on the node (0.05 ms), half goes to the other zone (1 ms).
    assert!((objective.total() - (50.0 * 0.05 + 50.0 * 1.0)).abs() < 1e-9);
    let node = |name: &str| view.node(&name.parse().unwrap()).unwrap();
    let shift = Shift { workload: index(&view, "w"), from: node("b0"), to: node("a1") };
    // The other half now goes to another node of the zone (0.3 ms).
    let change = objective.shift(shift, Depth::All);
    assert!((change - 50.0 * (0.3 - 1.0)).abs() < 1e-9);
}

#[test]
fn demand_follows_the_replicas_that_serve_it() {
    let mut world = World::new(&[2, 2]);
    world.workload("gate", &["a0"]).managed = false;
    world.workload("front", &["b0"]);
    world.workload("back", &["a1"]);
    world.edge("gate", "front", &[("a", "b", 100.0)]);
    world.edge("front", "back", &[("b", "a", 100.0)]);
    let view = world.view();
    let safety = Safety::assess(&view, &world.memory);
    let mut objective = Objective::new(&view, &safety, &world.memory, None);
    assert!((objective.total() - 200.0).abs() < 1e-9);
    let node = |name: &str| view.node(&name.parse().unwrap()).unwrap();
    let shift = Shift { workload: index(&view, "front"), from: node("b0"), to: node("a0") };
    objective.shift(shift, Depth::Neighbours);
    // On the node of the gate, one zone with the back.
    assert!((objective.total() - (100.0 * 0.05 + 100.0 * 0.3)).abs() < 1e-9);
}

#[test]
fn waiting_grows_convexly() {
    let curve: Vec<f64> = (0..300).map(|at| waiting(f64::from(at) / 200.0)).collect();
    assert!(curve[..120].iter().all(|wait| *wait == 0.0));
    assert!(curve[122..].iter().all(|wait| *wait > 0.0));
    for three in curve.windows(3) {
        assert!(three[2] - three[1] >= three[1] - three[0] - 1e-9);
    }
}

#[test]
fn splits_keep_their_promises() {
    for seed in 0..cases(5_000) {
        let mut dice = Dice::new(seed);
        let zones = 1 + dice.below(5);
        let world = World::new(&vec![1; zones]);
        let view = world.view();
        let pairs = pairs_by_cost(&view);
        let demand: Vec<f64> = (0..zones).map(|_| dice.below(100) as f64).collect();
        let counts: Vec<f64> = (0..zones).map(|_| dice.below(4) as f64).collect();
        let per_replica = (!dice.one_in(3)).then(|| 1.0 + dice.below(60) as f64);
        let routers = [Router::Ours, Router::OwnZoneFirst, Router::ByReplicas];
        let router = routers[dice.below(3)];
        let with =
            Splitting { router, pairs: &pairs, per_replica, reserve: Percent::saturating(3.0) };
        let (mut scratch, mut shares) = (vec![0.0; 2 * zones], vec![0.0; zones * zones]);
        split(&with, &demand, &counts, &mut scratch, &mut shares);
        let replicas: f64 = counts.iter().sum();
        for row in shares.chunks_exact(zones) {
            let sum: f64 = row.iter().sum();
            let expected = if replicas > 0.0 { 1.0 } else { 0.0 };
            assert!((sum - expected).abs() < 1e-9, "seed {seed}");
            let empty = row.iter().zip(&counts).filter(|(_, count)| **count == 0.0);
            assert!(empty.map(|(share, _)| share).all(|share| *share == 0.0), "seed {seed}");
        }
        let (Router::Ours, Some(per_replica)) = (router, per_replica) else { continue };
        let total: f64 = demand.iter().sum();
        if replicas == 0.0 || total > per_replica * replicas {
            continue;
        }
        let mut own = 0.0;
        for to in 0..zones {
            let served: f64 = (0..zones).map(|from| demand[from] * shares[from * zones + to]).sum();
            // The reserve is kept even where it alone fills a zone.
            let most = (counts[to] * per_replica).max(0.03 * total);
            assert!(served <= most + 1e-6, "seed {seed}: {served} above {most}");
            own += demand[to] * shares[to * zones + to];
        }
        // No more could stay at home: each zone keeps all that fits beside the reserve of
        // the others.
        let holding = counts.iter().filter(|count| **count > 0.0).count() as f64;
        let fits = |at: usize| {
            let reserve = if counts[at] > 0.0 { 0.03 } else { 0.0 };
            let room = (counts[at] * per_replica - 0.03 * total).max(0.0);
            demand[at] * reserve
                + (demand[at] * (1.0 - 0.03 * holding)).min(room * f64::from(counts[at] > 0.0))
        };
        let most: f64 = (0..zones).map(fits).sum();
        assert!((own - most).abs() < 1e-6, "seed {seed}: {own} at home of {most}");
    }
}
