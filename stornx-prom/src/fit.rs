//! Iterative proportional fitting (Deming and Stephan 1940): scales the rows and columns
//! of a table in turn until its sums are the given ones. Among all tables with those sums
//! this is the one nearest to the start in relative entropy; what is zero stays zero.

/// A square table by zone of the caller (row) and zone of the callee (column).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Table {
    zones: usize,
    cells: Vec<f64>,
}

/// Rounds at most. Convergence is geometric where the sums can be met; where they cannot
/// (a zero stands against them), no number of rounds is enough.
const ROUNDS: usize = 200;

/// Met when every sum is within this part of the total: far below the noise of a rate.
const TOLERANCE: f64 = 1e-9;

impl Table {
    pub(crate) fn new(zones: usize) -> Self {
        Self { zones, cells: vec![0.0; zones * zones] }
    }

    pub(crate) const fn zones(&self) -> usize {
        self.zones
    }

    pub(crate) fn get(&self, from: usize, to: usize) -> f64 {
        self.cells[from * self.zones + to]
    }

    pub(crate) fn row(&self, from: usize) -> &[f64] {
        &self.cells[from * self.zones..(from + 1) * self.zones]
    }

    pub(crate) fn row_mut(&mut self, from: usize) -> &mut [f64] {
        &mut self.cells[from * self.zones..(from + 1) * self.zones]
    }

    pub(crate) fn row_sum(&self, from: usize) -> f64 {
        self.row(from).iter().sum()
    }

    pub(crate) fn column_sum(&self, to: usize) -> f64 {
        self.cells.iter().skip(to).step_by(self.zones.max(1)).sum()
    }

    /// Makes the sums of rows `rows`; a row of zeros stays one.
    pub(crate) fn scale_rows(&mut self, rows: &[f64]) {
        for (from, wanted) in rows.iter().enumerate() {
            let sum = self.row_sum(from);
            if sum > 0.0 {
                self.row_mut(from).iter_mut().for_each(|cell| *cell *= wanted / sum);
            }
        }
    }

    fn scale_columns(&mut self, columns: &[f64]) {
        for (to, wanted) in columns.iter().enumerate() {
            let sum = self.column_sum(to);
            if sum > 0.0 {
                let zones = self.zones;
                self.cells.iter_mut().skip(to).step_by(zones).for_each(|c| *c *= wanted / sum);
            }
        }
    }

    /// Fits the table to sums of rows and of columns; both have the same total. Where
    /// they cannot all be met, those of the rows are. Returns how much of the total lies
    /// in other columns than it should.
    pub(crate) fn fit(&mut self, rows: &[f64], columns: &[f64]) -> f64 {
        let tolerance = TOLERANCE * rows.iter().sum::<f64>();
        self.scale_rows(rows);
        for _ in 0..ROUNDS {
            if self.off(columns).all(|off| off <= tolerance) {
                break;
            }
            self.scale_columns(columns);
            self.scale_rows(rows);
        }
        // What one column has too much another has too little.
        self.off(columns).sum::<f64>() / 2.0
    }

    fn off(&self, columns: &[f64]) -> impl Iterator<Item = f64> {
        columns.iter().enumerate().map(|(to, wanted)| (self.column_sum(to) - wanted).abs())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(zones: usize, cells: &[f64]) -> Table {
        Table { zones, cells: cells[..zones * zones].to_vec() }
    }

    fn sums(table: &Table) -> (Vec<f64>, Vec<f64>) {
        let zones = 0..table.zones;
        (
            zones.clone().map(|from| table.row_sum(from)).collect(),
            zones.map(|to| table.column_sum(to)).collect(),
        )
    }

    fn near(a: f64, b: f64, total: f64) -> bool {
        (a - b).abs() <= 1e-6 * total
    }

    /// Tables with zeros in them; each with cells that show which sums can be met.
    fn cases() -> impl Strategy<Value = (usize, Vec<f64>, Vec<f64>)> {
        let cell = prop_oneof![1 => Just(0.0), 4 => 0.05..20.0_f64];
        (1_usize..6, prop::collection::vec((cell, 0.2..5.0_f64), 36)).prop_map(|(zones, cells)| {
            let start = cells.iter().map(|(cell, _)| *cell).collect();
            let truth = cells.iter().map(|(cell, factor)| cell * factor).collect();
            (zones, start, truth)
        })
    }

    proptest! {
        #[test]
        fn sums_are_met_zeros_stay_and_an_exact_start_is_kept((zones, start, truth) in cases()) {
            let truth = table(zones, &truth);
            let (rows, columns) = sums(&truth);
            let total: f64 = rows.iter().sum();
            let start = table(zones, &start);
            let mut fitted = start.clone();
            fitted.fit(&rows, &columns);
            let (found_rows, found_columns) = sums(&fitted);
            // A bridge of one narrow cell between two blocks fits slowly: a thousandth of
            // the traffic is the noise of a rate over a million requests.
            let bridges = start.cells.iter().any(|cell| *cell <= 0.0);
            let slack = if bridges { 1000.0 } else { 1.0 };
            for zone in 0..zones {
                prop_assert!(near(found_rows[zone], rows[zone], total));
                prop_assert!(near(found_columns[zone], columns[zone], total * slack));
            }
            for (before, after) in start.cells.iter().zip(&fitted.cells) {
                prop_assert_eq!(*before <= 0.0, *after <= 0.0);
            }
            let mut kept = truth.clone();
            kept.fit(&rows, &columns);
            for (a, b) in truth.cells.iter().zip(&kept.cells) {
                prop_assert!(near(*a, *b, total));
            }
            let mut again = start;
            again.fit(&rows, &columns);
            prop_assert_eq!(again, fitted);
        }
    }

    #[test]
    fn products_of_rows_and_columns_are_kept() {
        // What a fit may not change: the odds ratio of every four cells.
        let mut fitted = table(2, &[8.0, 2.0, 1.0, 9.0]);
        fitted.fit(&[30.0, 50.0], &[20.0, 60.0]);
        let odds = fitted.get(0, 0) * fitted.get(1, 1) / (fitted.get(0, 1) * fitted.get(1, 0));
        assert!((odds - 36.0).abs() < 1e-6, "{odds}");
    }

    #[test]
    fn sums_that_cannot_be_met_leave_the_rows_right() {
        let mut fitted = table(2, &[1.0, 0.0, 1.0, 0.0]);
        let off = fitted.fit(&[3.0, 5.0], &[4.0, 4.0]);
        assert_eq!(fitted.cells, [3.0, 0.0, 5.0, 0.0]);
        assert!((off - 4.0).abs() < 1e-9, "{off}");
    }
}
