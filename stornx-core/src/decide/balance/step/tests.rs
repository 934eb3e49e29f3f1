//! The promises of the step, stated directly on inputs and outputs. Nothing here calls
//! a helper of the kernel: differences and sums are counted anew.

use super::{
    super::testing::{Random, cases},
    *,
};
use crate::units::Percent;

const CASES: usize = 100_000;

fn split(rows: &[Vec<u8>]) -> Split {
    let mut split = Split::empty(rows.len(), rows[0].len());
    for (index, row) in rows.iter().enumerate() {
        split.row_mut(index).copy_from_slice(row);
    }
    split
}

/// Mostly the defaults; else whole or fractional settings over their allowed ranges.
fn policy(random: &mut Random) -> BalancerPolicy {
    let mut policy = BalancerPolicy::default();
    if random.one_in(2) {
        let fraction = if random.one_in(2) { 0.5 } else { 0.0 };
        let min = random.range(1, 20) as f64;
        policy.min_step = Percent::saturating(min + fraction);
        policy.max_step =
            Percent::saturating((min + fraction + random.range(0, 60) as f64).min(100.0));
        policy.urgency_threshold = Percent::saturating(random.range(1, 300) as f64);
        policy.epsilon = Percent::saturating(random.range(1, 6) as f64 + fraction);
        policy.min_delta = Percent::saturating(random.range(0, 30) as f64);
    }
    policy
}

/// A current and a target split: up to 12 callers by 12 destinations, unrelated or a
/// few points apart (where epsilon and the dead zone decide).
fn pair(random: &mut Random) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (rows, columns) = (random.range(1, 12), random.range(1, 12));
    let least = random.range(1, 8) as u8;
    let near = random.one_in(3);
    let mut current = Vec::new();
    let mut target = Vec::new();
    for _ in 0..rows {
        let from = random.row(columns, least);
        let mut to = if near { from.clone() } else { random.row(columns, least) };
        if near {
            for _ in 0..random.range(0, 20) {
                let (giver, taker) = (random.range(0, columns - 1), random.range(0, columns - 1));
                if to[giver] > least {
                    to[giver] -= 1;
                    to[taker] += 1;
                }
            }
        }
        current.push(from);
        target.push(to);
    }
    (current, target)
}

fn each_case(seed: u64, mut check: impl FnMut(&[Vec<u8>], &[Vec<u8>], &BalancerPolicy, &Step)) {
    let mut random = Random::new(seed);
    for _ in 0..cases(CASES) {
        let policy = policy(&mut random);
        let (current, target) = pair(&mut random);
        let step = advance(&split(&current), &split(&target), &policy);
        check(&current, &target, &policy, &step);
    }
}

fn each_route(
    current: &[Vec<u8>],
    target: &[Vec<u8>],
    step: &Step,
    mut check: impl FnMut(i32, i32, i32),
) {
    for (row, (from, to)) in current.iter().zip(target).enumerate() {
        for (column, (from, to)) in from.iter().zip(to).enumerate() {
            let next = i32::from(step.next.weight(row, column));
            check(i32::from(*from), i32::from(*to), next);
        }
    }
}

fn l1(a: &[Vec<u8>], b: &[Vec<u8>]) -> i32 {
    let mut sum = 0;
    for (a, b) in a.iter().flatten().zip(b.iter().flatten()) {
        sum += (i32::from(*a) - i32::from(*b)).abs();
    }
    sum
}

fn rows(split: &Split) -> Vec<Vec<u8>> {
    (0..split.rows()).map(|row| split.row(row).to_vec()).collect()
}

#[test]
fn the_step_grows_with_the_delta_as_documented() {
    for (delta, step) in [(10, 8.0), (25, 12.5), (50, 20.0), (180, 20.0)] {
        let found = step_size(delta, &BalancerPolicy::default()).1;
        assert!((found - step).abs() < 1e-12, "{delta}: {found}");
    }
}

#[test]
fn rows_sum_to_exactly_100() {
    each_case(10, |_, _, _, step| {
        for row in 0..step.next.rows() {
            assert_eq!(step.next.row(row).iter().map(|w| u32::from(*w)).sum::<u32>(), 100);
        }
    });
}

#[test]
fn no_weight_passes_its_target_or_turns_away_from_it() {
    each_case(11, |current, target, _, step| {
        each_route(current, target, step, |from, to, next| {
            assert!(next >= from.min(to) && next <= from.max(to), "{from} {to} {next}");
        });
    });
}

#[test]
fn no_weight_moves_by_more_than_the_step() {
    each_case(12, |current, target, policy, step| {
        let delta = f64::from(l1(current, target));
        let urgency = (delta / policy.urgency_threshold.get()).min(1.0);
        let (min, max) = (policy.min_step.get(), policy.max_step.get());
        let most = min + urgency * (max - min);
        assert!((step.step - most).abs() < 1e-9 && (step.urgency - urgency).abs() < 1e-9);
        each_route(current, target, step, |from, _, next| {
            assert!(f64::from((next - from).abs()) <= most + 1e-9, "{from} {next} {most}");
        });
    });
}

#[test]
fn weights_within_epsilon_stay() {
    each_case(13, |current, target, policy, step| {
        each_route(current, target, step, |from, to, next| {
            if f64::from((from - to).abs()) <= policy.epsilon.get() {
                assert_eq!(from, next);
            }
        });
    });
}

#[test]
fn the_reserve_is_kept_where_both_splits_keep_it() {
    each_case(14, |current, target, _, step| {
        let least = current.iter().chain(target).flatten().min().copied().unwrap_or(1);
        for row in 0..step.next.rows() {
            assert!(step.next.row(row).iter().all(|weight| *weight >= least));
        }
    });
}

#[test]
fn the_distance_to_the_target_falls_by_exactly_the_change() {
    each_case(15, |current, target, _, step| {
        let next = rows(&step.next);
        let (before, after) = (l1(current, target), l1(&next, target));
        assert!(after <= before);
        assert_eq!(before - after, l1(current, &next));
        assert_eq!(i64::from(step.change), i64::from(before - after));
        assert_eq!(i64::from(step.delta), i64::from(before));
    });
}

#[test]
fn small_changes_are_not_written() {
    each_case(16, |current, _, policy, step| {
        let change = f64::from(l1(current, &rows(&step.next)));
        let worth = change > 0.0 && change >= policy.min_delta.get();
        assert_eq!(step.is_worth_a_write(policy), worth);
    });
}

/// Follows a constant target until nothing is written any more.
fn writes_until_silent(start: &Split, target: &Split, policy: &BalancerPolicy) -> (usize, Split) {
    let mut current = start.clone();
    let mut writes = 0;
    loop {
        let step = advance(&current, target, policy);
        if !step.is_worth_a_write(policy) {
            return (writes, current);
        }
        current = step.next;
        writes += 1;
        assert!(writes <= 200, "never silent");
    }
}

#[test]
fn a_constant_target_is_reached_within_the_bound_and_then_nothing_is_written() {
    let mut random = Random::new(17);
    for _ in 0..cases(CASES) {
        let policy = policy(&mut random);
        let (current, target) = pair(&mut random);
        let largest = current
            .iter()
            .flatten()
            .zip(target.iter().flatten())
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap_or(0);
        let bound = (f64::from(largest) / policy.min_step.get().floor()).ceil();
        let (writes, rest) = writes_until_silent(&split(&current), &split(&target), &policy);
        assert!(writes as f64 <= bound, "{writes} > {bound}: {current:?} {target:?}");

        // At rest: every row has a side within epsilon, or all that could still move is
        // in the dead zone. Settings by which no step of one row is worth a write have a
        // wider dead zone: their users asked for it.
        if policy.min_delta.get() > 2.0 * policy.min_step.get().floor() {
            continue;
        }
        let epsilon = policy.epsilon.get();
        let mut could_move = 0;
        for (row, to) in target.iter().enumerate() {
            let (mut above, mut below) = (0, 0);
            for (column, to) in to.iter().enumerate() {
                let off = i32::from(rest.weight(row, column)) - i32::from(*to);
                if f64::from(off.abs()) > epsilon {
                    above += off.max(0);
                    below += (-off).max(0);
                }
                // However it rests, it rests near its target.
                let slack = epsilon.floor() * (to_columns(&target) - 1.0)
                    + policy.min_delta.get().max(epsilon);
                assert!(f64::from(off.abs()) <= slack.max(1.0) + 1e-9, "{off} {slack}");
            }
            could_move += 2 * above.min(below);
        }
        assert!(
            could_move == 0 || f64::from(could_move) < policy.min_delta.get(),
            "{could_move} points left: {current:?} {target:?}"
        );
    }
}

fn to_columns(target: &[Vec<u8>]) -> f64 {
    target[0].len() as f64
}

#[test]
fn appearing_and_vanishing_zones_keep_every_promise() {
    let mut random = Random::new(18);
    for _ in 0..cases(CASES) {
        let policy = policy(&mut random);
        let columns = random.range(2, 12);
        let old = random.row(columns, 1);
        // Zones go (their weight is lost) and come (weight 0).
        let gone = random.range(0, columns - 1);
        let mut row = old[..columns - gone].to_vec();
        row.extend(std::iter::repeat_n(0, random.range(0, 12 - row.len())));
        super::super::split::complete(&mut row);
        let target = random.row(row.len(), 1);
        let step = advance(
            &split(std::slice::from_ref(&row)),
            &split(std::slice::from_ref(&target)),
            &policy,
        );
        let next = step.next.row(0);
        assert_eq!(next.iter().map(|w| u32::from(*w)).sum::<u32>(), 100);
        for ((from, to), next) in row.iter().zip(&target).zip(next) {
            assert!(*next >= 1 && next >= from.min(to) && next <= from.max(to));
        }
    }
}

#[test]
fn a_row_held_by_epsilon_on_one_side_rests() {
    let current = split(&[vec![20, 20, 20, 20, 20]]);
    let target = split(&[vec![24, 19, 19, 19, 19]]);
    let step = advance(&current, &target, &BalancerPolicy::default());
    assert_eq!(step.next, current);
}
