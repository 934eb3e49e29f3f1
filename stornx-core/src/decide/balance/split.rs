//! The split of one host in whole percentages: rows are zones of the caller, columns
//! are destination zones, each row sums to exactly 100.
//!
//! Dense, so that the kernels of this room index instead of searching. Completing a
//! row to the zones that must be named is done here, because every other step
//! assumes a complete row.

/// The sum of every row.
pub(crate) const WHOLE: u8 = 100;

/// Weights by row (caller zone) and column (destination zone).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Split {
    columns: usize,
    weights: Vec<u8>,
}

impl Split {
    /// A split of `rows` rows, all weights 0: to be filled row by row.
    pub(crate) fn empty(rows: usize, columns: usize) -> Self {
        Self { columns, weights: vec![0; rows * columns] }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.weights.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Number of columns.
    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    /// The weights of one caller zone.
    pub(crate) fn row(&self, row: usize) -> &[u8] {
        &self.weights[row * self.columns..(row + 1) * self.columns]
    }

    /// The weights of one caller zone, for changing.
    pub(crate) fn row_mut(&mut self, row: usize) -> &mut [u8] {
        &mut self.weights[row * self.columns..(row + 1) * self.columns]
    }

    /// One weight.
    pub(crate) fn weight(&self, row: usize, column: usize) -> u8 {
        self.weights[row * self.columns + column]
    }

    /// L1 distance to another split of the same shape, in percentage points.
    pub(crate) fn distance(&self, other: &Self) -> u32 {
        self.weights.iter().zip(&other.weights).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
    }
}

/// Position of the largest weight; the first of equals.
fn largest(row: &[u8]) -> usize {
    let mut best = 0;
    for (column, weight) in row.iter().enumerate() {
        if *weight > row[best] {
            best = column;
        }
    }
    best
}

/// Whole percentages in proportion to `parts` by largest remainder, each column with at
/// least `least`. Ties go to the first column. All parts zero: an even split.
pub(crate) fn proportional_row(parts: &[f64], least: u8, row: &mut [u8]) {
    let total: f64 = parts.iter().sum();
    let even = parts.iter().all(|part| *part <= 0.0) || !total.is_finite();
    let columns = parts.len();
    let share = |column: usize| {
        if even {
            f64::from(WHOLE) / columns as f64
        } else {
            parts[column].max(0.0) / total * f64::from(WHOLE)
        }
    };
    let mut given: u32 = 0;
    for (column, weight) in row.iter_mut().enumerate() {
        // In 0 to 100 by construction.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let floor = (share(column) + 1e-9).floor().clamp(0.0, f64::from(WHOLE)) as u8;
        *weight = floor.max(least);
        given += u32::from(*weight);
    }
    while given < u32::from(WHOLE) {
        let lack = |column: usize, row: &[u8]| share(column) - f64::from(row[column]);
        let mut best = 0;
        for column in 1..columns {
            if lack(column, row) > lack(best, row) {
                best = column;
            }
        }
        row[best] += 1;
        given += 1;
    }
    while given > u32::from(WHOLE) {
        row[largest(row)] -= 1;
        given -= 1;
    }
}

/// Completes a row so that every column has at least 1 and the sum is 100.
///
/// A weight that went with its zone is shared over the others in proportion: this is
/// what the mesh does with a named zone that has no endpoint, so the repair changes no
/// traffic. A column that was not named gets 1, taken from the largest. A row with
/// nothing left is even.
///
/// More than 100 columns cannot be named; the caller refuses such a host before.
pub(crate) fn complete(row: &mut [u8]) {
    let sum: u32 = row.iter().map(|weight| u32::from(*weight)).sum();
    if sum != u32::from(WHOLE) {
        let parts: Vec<f64> = row.iter().map(|weight| f64::from(*weight)).collect();
        proportional_row(&parts, 0, row);
    }
    for column in 0..row.len() {
        if row[column] == 0 {
            let giver = largest(row);
            row[giver] -= 1;
            row[column] = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::Random, *};

    fn completed(weights: &[u8]) -> Vec<u8> {
        let mut row = weights.to_vec();
        complete(&mut row);
        row
    }

    #[test]
    fn an_unnamed_zone_takes_one_from_the_largest() {
        assert_eq!(completed(&[60, 40, 0]), [59, 40, 1]);
        assert_eq!(completed(&[100, 0, 0]), [98, 1, 1]);
        assert_eq!(completed(&[50, 50]), [50, 50]);
    }

    #[test]
    fn the_weight_of_a_vanished_zone_is_shared_in_proportion() {
        // Of (60, 20, 20) the last zone is gone.
        assert_eq!(completed(&[60, 20]), [75, 25]);
        assert_eq!(completed(&[0, 0]), [50, 50]);
    }

    #[test]
    fn completed_rows_name_every_zone_and_sum_to_100() {
        let mut random = Random::new(1);
        for _ in 0..100_000 {
            let columns = random.range(1, 12);
            let whole = random.row(columns, 0);
            // Some zones are new (weight 0), some are gone (their weight is lacking).
            let gone = random.range(0, columns - 1);
            let kept = &whole[..columns - gone];
            let row = completed(kept);
            assert_eq!(row.iter().map(|w| u32::from(*w)).sum::<u32>(), 100, "{kept:?}");
            assert!(row.iter().all(|weight| *weight >= 1), "{kept:?} {row:?}");
            if gone == 0 {
                // No more is changed than naming takes.
                let unnamed = kept.iter().filter(|weight| **weight == 0).count();
                let moved: usize =
                    kept.iter().zip(&row).map(|(a, b)| usize::from(a.abs_diff(*b))).sum();
                assert_eq!(moved, 2 * unnamed, "{kept:?} {row:?}");
            }
        }
    }

    #[test]
    fn proportions_are_met_within_a_point() {
        let mut random = Random::new(2);
        for _ in 0..100_000 {
            let columns = random.range(1, 12);
            let parts: Vec<f64> = (0..columns).map(|_| random.unit() + 0.3).collect();
            let total: f64 = parts.iter().sum();
            let mut row = vec![0; columns];
            proportional_row(&parts, 1, &mut row);
            assert_eq!(row.iter().map(|w| u32::from(*w)).sum::<u32>(), 100);
            for (part, weight) in parts.iter().zip(&row) {
                assert!((part / total * 100.0 - f64::from(*weight)).abs() < 1.0 + 1e-6);
            }
        }
    }
}
