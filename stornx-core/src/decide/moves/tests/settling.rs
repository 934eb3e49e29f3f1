//! A plan repeated on an unchanged world comes to rest: moves end, each lowers the cost
//! of the layout, and noise in the inputs moves nothing any more.

use super::toy::{Toy, random};
use crate::decide::safety::testing::{Dice, cases};

/// Turns a world until nothing has happened for an hour; the moves it took.
fn settle(toy: &mut Toy, mut dice: Option<&mut Dice>, seed: u64) -> usize {
    let (mut quiet, mut moves, mut cost) = (0, 0, toy.cost());
    for cycle in 0..5_000 {
        toy.measure(dice.as_deref_mut());
        let begun = toy.cycle();
        moves += begun;
        let still = begun == 0 && toy.in_flight() == 0;
        quiet = if still { quiet + 1 } else { 0 };
        if quiet == 1 {
            let now = toy.cost();
            // Moves that were chosen by noisy rates may be a little wrong.
            let allowed = if dice.is_some() { 0.01 * cost } else { 1e-6 };
            assert!(now <= cost + allowed, "seed {seed}, cycle {cycle}: {cost} rose to {now}");
            cost = now;
        }
        if quiet == 60 {
            return moves;
        }
    }
    panic!("seed {seed}: not at rest after 5,000 cycles and {moves} moves");
}

#[test]
fn an_unchanged_world_comes_to_rest() {
    let mut moved = 0;
    for seed in 0..cases(60) {
        let mut toy = random(&mut Dice::new(seed));
        let replicas: usize = toy.world.snapshot.workloads.iter().map(|w| w.pods.len()).sum();
        let moves = settle(&mut toy, None, seed);
        assert!(moves <= 2 * replicas, "seed {seed}: {moves} moves of {replicas} replicas");
        moved += moves;
    }
    assert!(moved > 60, "the worlds give too little to do: {moved} moves");
}

#[test]
fn noise_moves_nothing_in_a_settled_world() {
    for seed in 0..cases(40) {
        let mut toy = random(&mut Dice::new(1000 + seed));
        let mut dice = Dice::new(seed);
        settle(&mut toy, Some(&mut dice), seed);
        let mut late = Vec::new();
        for cycle in 0..1_000 {
            toy.measure(Some(&mut dice));
            if toy.cycle() > 0 {
                late.push(cycle);
            }
        }
        assert!(late.is_empty(), "seed {seed}: moves in cycles {late:?}");
    }
}
