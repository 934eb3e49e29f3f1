//! A small seeded generator for the property tests of this room: cheap enough for
//! hundreds of thousands of cases in a normal test run.

/// SplitMix64: every seed is a good start, one multiplication chain a number.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A whole number from `low` to `high`, both included.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn range(&mut self, low: usize, high: usize) -> usize {
        low + (self.next() % (high - low + 1) as u64) as usize
    }

    /// True once in `n`.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.range(1, n) == 1
    }

    /// A row that sums to 100 with every weight at least `least`: sometimes even,
    /// sometimes nearly all on one column.
    #[allow(clippy::cast_possible_truncation)]
    pub(crate) fn row(&mut self, columns: usize, least: u8) -> Vec<u8> {
        let mut row = vec![least; columns];
        let mut left = 100 - usize::from(least) * columns;
        let chunk = self.range(1, 40);
        while left > 0 {
            let part = self.range(1, chunk.min(left));
            let column = self.range(0, columns - 1);
            row[column] += part as u8;
            left -= part;
        }
        row
    }

    /// About normal with mean 0 and deviation 1.
    pub(crate) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

/// Cases of a property test: `usual`, or `STORNX_CASES` where that is more.
pub(crate) fn cases(usual: usize) -> usize {
    std::env::var("STORNX_CASES")
        .ok()
        .and_then(|text| text.parse::<usize>().ok())
        .map_or(usual, |wanted| usual.max(wanted))
}
