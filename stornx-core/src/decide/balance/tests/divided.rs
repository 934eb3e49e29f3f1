//! Zones with subzones: what comes out in the mesh is what was meant.

use super::{
    random_world, uneven,
    world::{World, zone},
};
use crate::{
    decide::balance::testing::{Random, cases},
    model::Rule,
    report::Following,
};

/// The largest difference of a route of callers that count, in percentage points.
fn furthest(a: &World, b: &World) -> f64 {
    let total: f64 = a.demand.iter().sum();
    let rows = a.shares().into_iter().zip(b.shares()).zip(&a.demand);
    let of_row = |((a, b), _): ((Vec<f64>, Vec<f64>), _)| {
        let off = a.into_iter().zip(b).map(|(a, b)| 100.0 * (a - b).abs());
        off.fold(0.0, f64::max)
    };
    rows.filter(|(_, demand)| **demand > 0.01 * total).map(of_row).fold(0.0, f64::max)
}

#[test]
fn the_same_shares_come_out_with_and_without_subzones() {
    for (replicas, overall) in [(4, 0.2), (6, 0.3), (5, 0.5), (10, 0.3)] {
        let mut plain = uneven(replicas, overall, 50);
        plain.settle();
        for parts in [2, 3, 4] {
            let mut divided = uneven(replicas, overall, 50);
            divided.divided = parts;
            divided.settle();
            let off = furthest(&plain, &divided);
            // Written as they are, the weights of the plain world come to something else.
            let mut naive = uneven(replicas, overall, 50);
            naive.divided = parts;
            naive.rule = plain.rule.clone();
            println!(
                "{replicas} at {overall} in {parts}: {off:.1}, naive {:.1}",
                furthest(&plain, &naive)
            );
            // A rounded part in a row of some hundred, and where a step stops paying.
            assert!(off <= 5.0, "{replicas} replicas at {overall} in {parts} subzones: {off:.1}");
        }
    }
}

#[test]
fn the_reserve_of_ten_subzones_is_not_ten_times_as_large() {
    let mut world = uneven(10, 0.2, 51);
    world.divided = 10;
    world.settle();
    // Each zone holds ten subzones: a weight of 3 comes to ten.
    let shares = world.shares();
    assert!(shares[0][1] < 0.12 && shares[0][2] < 0.12, "{shares:?}");
    let Rule::Ours(table) = &world.rule else { panic!("no rule stands") };
    assert!(table.values().all(|row| row.iter().count() == 3));
    let Following::AsWritten { off } = world.cycle().report.verification.unwrap().following else {
        panic!("the mesh does what is written")
    };
    assert!(off.get() < 0.5, "{off:?}");
}

#[test]
fn random_divided_worlds_settle_and_overload_nothing() {
    let mut random = Random::new(52);
    for case in 0..cases(150) {
        let mut world = random_world(&mut random, case as u64);
        world.divided = u32::try_from(random.range(2, 5)).unwrap();
        if world.demand.iter().all(|demand| *demand <= 0.0) {
            continue;
        }
        let before = world.utilisation().into_iter().fold(0.0, f64::max);
        world.settle();
        let after = world.utilisation().into_iter().fold(0.0, f64::max);
        let cap = world.policy.balancer.max_utilisation.get() / 100.0;
        assert!(after <= cap.max(before) + 0.05, "case {case}: {before:.2} to {after:.2}");
        if let Rule::Ours(table) = &world.rule {
            for at in 0..world.zones {
                assert_eq!(table[&zone(at)].iter().count(), world.zones, "case {case}");
            }
        }
    }
}

#[test]
fn a_decay_comes_to_every_replica_alike() {
    let mut world = World::new(&[6, 2, 1], &[40.0, 20.0, 30.0], 10.0, 53);
    world.divided = 3;
    world.settle();
    world.metrics = false;
    let silent = |world: &mut World| (0..12).all(|_| world.cycle().write.is_none());
    while !silent(&mut world) {}
    for row in world.shares() {
        for (share, replicas) in row.iter().zip([6.0, 2.0, 1.0]) {
            assert!((share - replicas / 9.0).abs() < 0.03, "{row:?}");
        }
    }
}
