//! One step of a host's split towards its target.
//!
//! Promises, each held by a property test below:
//! 1. weights are whole, every row sums to exactly 100;
//! 2. every weight lies between its current and its target value, so that nothing
//!    overshoots, the reserve is kept wherever both splits keep it, and the L1
//!    distance to the target never grows;
//! 3. no weight moves by more than the step;
//! 4. a weight within epsilon of its target does not move;
//! 5. a constant target is reached in at most `ceil(largest difference / least step)`
//!    writes, and the plan after that is empty.
//!
//! Whole numbers by construction: a row moves point by point, each point taken from the
//! weight that is furthest above its target and given to the one furthest below. Nothing
//! is ever renormalised. Two consequences:
//!
//! *Where a row rests.* A row can move only as many points as both its movable sides
//! have. When one side is within epsilon everywhere (say 1 too much on each of four
//! destinations) and the other is not (4 too little on a fifth), moving would break
//! promise 4, so the row rests there: a weight may rest short of its target by at most
//! epsilon times the number of other destinations. The whole table rests where a write
//! would change less than `BALANCER_MIN_DELTA`: the dead zone. With a `BALANCER_MIN_DELTA`
//! of at most twice the least step, the dead zone is only what is less than
//! `BALANCER_MIN_DELTA` away; with a larger one, a single row that is far off may rest.
//!
//! *Why the bound holds.* Let `M` be the largest difference of a row and `s` the step. The
//! tight side moves `min(d, s)` on each weight; since `min(d, s) >= d * s / M`, it moves at
//! least `S * s / M` points of its sum `S`. Bringing every weight of the other side down to
//! `M - s` takes `max(0, d - M + s) <= d * s / M` on each, at most `S * s / M` together.
//! Taking the furthest first therefore lowers `M` by `s` in every write.
//!
//! Fractions: weights are whole, so a step of 12.5 moves at most 12 points, an epsilon of
//! 1.5 holds what differs by 1, and a least step of 5.5 counts as 5 in promise 5.

use super::split::Split;
use crate::policy::BalancerPolicy;

/// A step and what decided it. Distances are L1 in percentage points.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// The split after it.
    pub(crate) next: Split,
    /// Distance from current to target.
    pub(crate) delta: u32,
    /// 0 to 1: how near the delta is to the urgency threshold.
    pub(crate) urgency: f64,
    /// Most that one weight may move.
    pub(crate) step: f64,
    /// Distance from current to next.
    pub(crate) change: u32,
}

impl Step {
    /// Whether the change is worth a write.
    pub(crate) fn is_worth_a_write(&self, policy: &BalancerPolicy) -> bool {
        self.change > 0 && f64::from(self.change) >= policy.min_delta.get()
    }
}

/// The step from `current` towards `target`, two splits of the same shape.
pub(crate) fn advance(current: &Split, target: &Split, policy: &BalancerPolicy) -> Step {
    let delta = current.distance(target);
    let (urgency, step) = step_size(delta, policy);
    let most = whole(step).max(1);
    let epsilon = whole(policy.epsilon.get());
    let mut next = current.clone();
    for row in 0..current.rows() {
        advance_row(current.row(row), target.row(row), most, epsilon, next.row_mut(row));
    }
    let change = current.distance(&next);
    Step { next, delta, urgency, step, change }
}

/// Urgency and step for a distance to the target.
fn step_size(delta: u32, policy: &BalancerPolicy) -> (f64, f64) {
    let (min, max) = (policy.min_step.get(), policy.max_step.get());
    let threshold = policy.urgency_threshold.get();
    let urgency = if threshold > 0.0 { (f64::from(delta) / threshold).min(1.0) } else { 1.0 };
    (urgency, min + urgency * (max - min))
}

/// The whole points in a number of points, at most 100.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped to 0..=100.
fn whole(points: f64) -> u8 {
    points.floor().clamp(0.0, 100.0) as u8
}

/// The weight on one side that is furthest from its target and may still move.
#[derive(Clone, Copy)]
struct Furthest {
    column: usize,
    /// Points until it is not the furthest any more, or may move no farther.
    points: u8,
}

fn advance_row(current: &[u8], target: &[u8], most: u8, epsilon: u8, next: &mut [u8]) {
    let furthest = |next: &[u8], below: bool| {
        let mut best: Option<(u8, usize)> = None;
        let mut second: Option<(u8, usize)> = None;
        let columns = current.iter().zip(target).zip(next).enumerate();
        for (column, ((current, target), next)) in columns {
            let movable = current.abs_diff(*target) > epsilon;
            let on_side = (current < target) == below;
            let left = next.abs_diff(*target);
            let may_move = next.abs_diff(*current) < most;
            if !(movable && on_side && may_move && left > 0) {
                continue;
            }
            // Of equals the first.
            if best.is_none_or(|(most_left, _)| left > most_left) {
                second = best.replace((left, column));
            } else if second.is_none_or(|(most_left, _)| left > most_left) {
                second = Some((left, column));
            }
        }
        let (left, column) = best?;
        let until = second.map_or(left, |(other, at)| left - other + u8::from(column < at));
        let may = most - next[column].abs_diff(current[column]);
        Some(Furthest { column, points: until.min(may).max(1) })
    };
    // Point by point, those that come from and go to the same weights at once.
    while let (Some(up), Some(down)) = (furthest(next, true), furthest(next, false)) {
        let points = up.points.min(down.points);
        next[up.column] += points;
        next[down.column] -= points;
    }
}

#[cfg(test)]
mod tests;
