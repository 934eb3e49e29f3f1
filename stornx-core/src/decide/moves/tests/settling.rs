//! A plan repeated on an unchanged world comes to rest: moves end, each lowers the cost
//! of the layout, and noise in the inputs moves nothing any more.

use super::toy::{Toy, random};
use crate::decide::safety::testing::{Dice, cases};

/// Turns a world until nothing has happened for five hours (an hour without noise: then
/// every cycle is like the last); the moves it took.
fn settle(toy: &mut Toy, mut dice: Option<&mut Dice>, seed: u64) -> usize {
    let (mut quiet, mut moves, mut cost) = (0, 0, toy.cost());
    let enough = if dice.is_some() { 300 } else { 60 };
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
        if quiet == enough {
            return moves;
        }
    }
    panic!("seed {seed}: not at rest after 5,000 cycles and {moves} moves");
}

/// Thousands of cycles with a search for bundles in each take minutes: one world in four
/// has it.
fn search_in_some(toy: &mut Toy, seed: u64) {
    if !seed.is_multiple_of(4) {
        toy.world.policy.moves.search_steps = 0;
    }
}

#[test]
fn an_unchanged_world_comes_to_rest() {
    let mut moved = 0;
    for seed in 0..cases(60) {
        let mut toy = random(&mut Dice::new(seed));
        search_in_some(&mut toy, seed);
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
        search_in_some(&mut toy, seed);
        let mut dice = Dice::new(seed);
        settle(&mut toy, Some(&mut dice), seed);
        let mut late = Vec::new();
        for cycle in 0..1_000 {
            toy.measure(Some(&mut dice));
            let planned = toy.plan();
            let begins = |action: &crate::plan::Action| {
                matches!(action, crate::plan::Action::StartMove { .. })
            };
            let actions = planned.plan.actions.iter().zip(&planned.report.actions);
            late.extend(
                actions
                    .filter(|(action, _)| begins(action))
                    .map(|(action, report)| format!("{cycle}: {action}, {:?}", report)),
            );
            toy.cycle();
        }
        assert!(late.is_empty(), "seed {seed}: {late:#?}");
    }
}

/// Demand enters through other zones: every edge's first zone is its last now.
fn turn_round(toy: &mut Toy) {
    let zones: Vec<_> = toy.world.snapshot.nodes.iter().map(|node| node.zone.clone()).collect();
    let first = zones.first().unwrap().clone();
    let last = zones.last().unwrap().clone();
    for route in toy.truth().edges.iter_mut().flat_map(|edge| &mut edge.routes) {
        let turned = [(&first, &last), (&last, &first)];
        for zone in [&mut route.from, &mut route.to] {
            let other =
                turned.iter().find(|(from, _)| *zone == **from).map(|(_, to)| (*to).clone());
            *zone = other.unwrap_or_else(|| zone.clone());
        }
    }
}

#[test]
fn what_was_judged_before_does_not_hide_a_real_change() {
    let (mut remembered, mut unprejudiced, mut before) = (0.0, 0.0, 0.0);
    for seed in 0..cases(40) {
        let mut toy = random(&mut Dice::new(2000 + seed));
        search_in_some(&mut toy, seed);
        let mut dice = Dice::new(seed);
        settle(&mut toy, Some(&mut dice), seed);
        turn_round(&mut toy);
        let mut fresh = toy.clone();
        fresh.world.memory = crate::memory::Memory::default();
        before += toy.cost();
        settle(&mut toy, Some(&mut dice), seed);
        settle(&mut fresh, Some(&mut dice), seed);
        remembered += toy.cost();
        unprejudiced += fresh.cost();
    }
    let (got, possible) = (before - remembered, before - unprejudiced);
    assert!(possible > 0.02 * before, "the change is too small: {before} to {unprejudiced}");
    // What saves less than the higher bar is forgone.
    assert!(got > 0.7 * possible, "{before} became {remembered}, {unprejudiced} was possible");
}
