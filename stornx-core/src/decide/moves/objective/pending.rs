//! What is still to be done, each thing once, the first of an order first.

/// Positions in an order. Taken out in the order, in a time that hardly depends on how many
/// there are.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// A bit for each position.
    words: Vec<u64>,
    /// No word before this one has any.
    first: usize,
}

impl Pending {
    /// None of so many.
    pub(super) fn new(positions: usize) -> Self {
        let words = vec![0; positions.div_ceil(64)];
        Self { first: words.len(), words }
    }

    /// Adds a position, if it is not there.
    pub(super) fn insert(&mut self, position: usize) {
        let word = position / 64;
        self.words[word] |= 1 << (position % 64);
        self.first = self.first.min(word);
    }

    /// Takes the first out.
    pub(super) fn pop(&mut self) -> Option<usize> {
        while let Some(word) = self.words.get_mut(self.first) {
            if *word != 0 {
                let bit = word.trailing_zeros() as usize;
                *word &= *word - 1;
                return Some(self.first * 64 + bit);
            }
            self.first += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_comes_out_in_order_and_once() {
        let mut pending = Pending::new(200);
        assert_eq!(pending.pop(), None);
        for position in [130, 5, 199, 63, 64, 5] {
            pending.insert(position);
        }
        assert_eq!((pending.pop(), pending.pop()), (Some(5), Some(63)));
        // Also one that comes before those that are left.
        pending.insert(7);
        let rest: Vec<usize> = std::iter::from_fn(|| pending.pop()).collect();
        assert_eq!(rest, [7, 64, 130, 199]);
        pending.insert(0);
        assert_eq!((pending.pop(), pending.pop()), (Some(0), None));
    }
}
