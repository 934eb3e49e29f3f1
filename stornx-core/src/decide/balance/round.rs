//! Real-valued flows into whole weights.
//!
//! Each caller's row gets the whole part of its shares, and the points that are left go to
//! the largest remainders, except that no destination is filled above its capacity by
//! rounding while another one has room. Callers with large demand choose first, because
//! their points are the coarse ones; small callers fill what is left. At the end single
//! points are moved out of destinations that are still above their capacity, the
//! cheapest first.
//!
//! A flow that keeps every capacity can still have no whole answer (one point of a large
//! caller may be more than all the room there is). Then the point goes where most room is
//! left, so that no destination exceeds its capacity by more than one point.

/// What is rounded. Matrices are row-major, a row for each caller with demand.
pub(crate) struct Rounding<'a> {
    /// Flow of each route.
    pub(crate) flow: &'a [f64],
    /// Demand of each caller, above 0.
    pub(crate) demand: &'a [f64],
    /// Cost of one unit on each route.
    pub(crate) cost: &'a [f64],
    /// Least weight of each route.
    pub(crate) least: &'a [u8],
    /// What each destination can take.
    pub(crate) capacity: &'a [f64],
    /// The sum of each row: 100 less what other destinations hold.
    pub(crate) whole: &'a [u8],
}

/// Load that is lost to rounding in floating point, as a share.
const SLACK: f64 = 1e-9;

impl Rounding<'_> {
    /// The weights, row-major.
    pub(crate) fn weights(&self) -> Vec<u8> {
        let columns = self.capacity.len();
        let mut weights = vec![0; self.flow.len()];
        let mut loads = vec![0.0; columns];
        let mut order: Vec<usize> = (0..self.demand.len()).collect();
        order.sort_by(|a, b| self.demand[*b].total_cmp(&self.demand[*a]).then(a.cmp(b)));
        for row in &order {
            let at = row * columns..(row + 1) * columns;
            self.take_whole_parts(*row, &mut weights[at], &mut loads);
        }
        for row in &order {
            let at = row * columns..(row + 1) * columns;
            self.hand_out_the_rest(*row, &mut weights[at], &mut loads);
        }
        self.relieve(&mut weights, &mut loads);
        weights
    }

    fn point(&self, row: usize) -> f64 {
        self.demand[row] / f64::from(self.whole[row])
    }

    fn least(&self, row: usize, column: usize) -> u8 {
        self.least[row * self.capacity.len() + column]
    }

    fn share(&self, row: usize, column: usize) -> f64 {
        self.flow[row * self.capacity.len() + column] / self.point(row)
    }

    fn has_room(&self, column: usize, load: f64) -> bool {
        load <= self.capacity[column] * (1.0 + SLACK)
    }

    fn take_whole_parts(&self, row: usize, weights: &mut [u8], loads: &mut [f64]) {
        for (column, weight) in weights.iter_mut().enumerate() {
            // In 0 to 100 by construction.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let whole = (self.share(row, column) + SLACK).floor().clamp(0.0, 100.0) as u8;
            *weight = whole.max(self.least(row, column));
        }
        let sum = |weights: &[u8]| weights.iter().map(|w| u32::from(*w)).sum::<u32>();
        // Least weights can overdraw the row: the one furthest above its share gives.
        while sum(weights) > u32::from(self.whole[row]) {
            let giver = (0..weights.len()).filter(|column| weights[*column] > 1).max_by(|a, b| {
                let spare = |c: usize| {
                    (weights[c] > self.least(row, c), f64::from(weights[c]) - self.share(row, c))
                };
                let (a_spare, b_spare) = (spare(*a), spare(*b));
                a_spare.0.cmp(&b_spare.0).then(a_spare.1.total_cmp(&b_spare.1)).then(b.cmp(a))
            });
            let Some(giver) = giver else { break };
            weights[giver] -= 1;
        }
        for (load, weight) in loads.iter_mut().zip(weights) {
            *load += f64::from(*weight) * self.point(row);
        }
    }

    fn hand_out_the_rest(&self, row: usize, weights: &mut [u8], loads: &mut [f64]) {
        let point = self.point(row);
        let mut given: u32 = weights.iter().map(|w| u32::from(*w)).sum();
        while given < u32::from(self.whole[row]) && !weights.is_empty() {
            let mut best = 0;
            for column in 1..weights.len() {
                let claim = |column: usize| {
                    let load = loads[column] + point;
                    let lack = self.share(row, column) - f64::from(weights[column]);
                    if self.has_room(column, load) {
                        (true, lack)
                    } else {
                        (false, self.capacity[column] - load)
                    }
                };
                let (one, other) = (claim(column), claim(best));
                if one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).is_gt() {
                    best = column;
                }
            }
            weights[best] += 1;
            loads[best] += point;
            given += 1;
        }
    }

    /// Moves single points out of destinations above their capacity.
    fn relieve(&self, weights: &mut [u8], loads: &mut [f64]) {
        let columns = self.capacity.len();
        for full in 0..columns {
            while !self.has_room(full, loads[full]) {
                let mut best: Option<(f64, usize, usize)> = None;
                for row in 0..self.demand.len() {
                    if weights[row * columns + full] <= self.least(row, full) {
                        continue;
                    }
                    for to in (0..columns).filter(|to| *to != full) {
                        if !self.has_room(to, loads[to] + self.point(row)) {
                            continue;
                        }
                        let extra = self.cost[row * columns + to] - self.cost[row * columns + full];
                        if best.is_none_or(|(least, ..)| extra < least) {
                            best = Some((extra, row, to));
                        }
                    }
                }
                let Some((_, row, to)) = best else { break };
                weights[row * columns + full] -= 1;
                weights[row * columns + to] += 1;
                loads[full] -= self.point(row);
                loads[to] += self.point(row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{Random, cases},
        *,
    };

    #[test]
    fn weights_are_near_the_flow_keep_the_least_and_respect_capacity() {
        let mut random = Random::new(40);
        for _ in 0..cases(50_000) {
            let (rows, columns) = (random.range(1, 8), random.range(1, 8));
            let whole = 100 - random.range(0, 4) as u8;
            let least: Vec<u8> = (0..columns).map(|_| random.range(1, 4) as u8).collect();
            let demand: Vec<f64> = (0..rows).map(|_| 0.1 + random.unit() * 100.0).collect();
            let mut flow = Vec::new();
            for demand in &demand {
                let parts: Vec<f64> = (0..columns).map(|_| random.unit().powi(3) + 1e-3).collect();
                let total: f64 = parts.iter().sum();
                let reserved: f64 = least.iter().map(|l| f64::from(*l)).sum();
                let free = f64::from(whole) - reserved;
                flow.extend(parts.iter().zip(&least).map(|(part, least)| {
                    demand * (f64::from(*least) + free * part / total) / f64::from(whole)
                }));
            }
            let load = |column: usize| -> f64 { flow.iter().skip(column).step_by(columns).sum() };
            // Capacities from just enough to plenty.
            let margin = if random.one_in(2) { 0.0 } else { random.unit() };
            let capacity: Vec<f64> = (0..columns).map(|c| load(c) * (1.0 + margin)).collect();
            let cost = vec![1.0; rows * columns];
            let weights = Rounding {
                flow: &flow,
                demand: &demand,
                cost: &cost,
                least: &least.repeat(rows),
                capacity: &capacity,
                whole: &vec![whole; rows],
            }
            .weights();
            // One point of the largest caller.
            let coarse = demand.iter().copied().fold(0.0, f64::max) / f64::from(whole);
            for row in 0..rows {
                let row_weights = &weights[row * columns..(row + 1) * columns];
                assert_eq!(
                    row_weights.iter().map(|w| u32::from(*w)).sum::<u32>(),
                    u32::from(whole)
                );
                for (weight, least) in row_weights.iter().zip(&least) {
                    assert!(weight >= least);
                }
            }
            for (column, capacity) in capacity.iter().enumerate() {
                let load: f64 = (0..rows)
                    .map(|row| f64::from(weights[row * columns + column]) * demand[row])
                    .sum::<f64>()
                    / f64::from(whole);
                assert!(load <= capacity + coarse + 1e-6, "{load} {capacity} {coarse}");
            }
        }
    }

    #[test]
    fn rounding_does_not_fill_a_destination_above_its_capacity() {
        // Both callers would round up onto destination 0.
        let rounding = Rounding {
            flow: &[50.6, 49.4, 50.6, 49.4],
            demand: &[100.0, 100.0],
            cost: &[0.0, 1.0, 0.0, 1.0],
            least: &[1, 1, 1, 1],
            capacity: &[101.3, 200.0],
            whole: &[100, 100],
        };
        assert_eq!(rounding.weights(), [51, 49, 50, 50]);
    }
}
