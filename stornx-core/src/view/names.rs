//! Finding things by their names, in a time that does not grow with the cluster.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Positions by name. Only looked up and never walked, so that no order of a hash table
/// reaches a decision; the hash has no seed, so that the same plan takes the same work.
pub(super) struct Names<'a>(HashMap<&'a str, u32, BuildHasherDefault<Quick>>);

impl<'a> Names<'a> {
    /// The names of a list, which has each of them once.
    pub(super) fn of(names: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let mut positions = HashMap::with_capacity_and_hasher(names.len(), <_>::default());
        for (position, name) in (0..).zip(names) {
            positions.insert(name, position);
        }
        Self(positions)
    }

    /// Where a name is in the list.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.0.get(name).map(|position| *position as usize)
    }
}

/// A hash of eight bytes at a time. Names that were made to collide would slow a plan down
/// and change nothing of it; who may name ten thousand objects has simpler ways.
#[derive(Default)]
struct Quick(u64);

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            // Odd, and with bits all over: the product depends on every bit below.
            let mixed = (self.0.rotate_left(23) ^ u64::from_le_bytes(word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.0 = mixed ^ (mixed >> 32);
        }
    }

    fn finish(&self) -> u64 {
        let mixed = self.0.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ (mixed >> 29)
    }
}

/// Items in the order of their ids, each id once. Snapshots come sorted: one look at each
/// neighbour finds that out.
pub(super) fn sorted<'a, T, K: Ord + ?Sized + 'a>(
    items: &'a [T],
    key: impl Fn(&'a T) -> &'a K,
) -> Vec<&'a T> {
    let mut list: Vec<_> = items.iter().collect();
    if !list.is_sorted_by(|a, b| key(a) < key(b)) {
        list.sort_by(|a, b| key(a).cmp(key(b)));
        list.dedup_by(|a, b| key(a) == key(b));
    }
    list
}

/// Finds names in a sorted list that are asked for in nearly the same order: the one
/// after the last is tried first.
pub(super) struct Finger<'l, T> {
    list: &'l [T],
    next: usize,
}

impl<'l, T> Finger<'l, T> {
    pub(super) const fn new(list: &'l [T]) -> Self {
        Self { list, next: 0 }
    }

    pub(super) fn find<K: Ord + ?Sized>(
        &mut self,
        key: impl Fn(&T) -> &K,
        wanted: &K,
    ) -> Option<usize> {
        let guess = self.next;
        let hit = self.list.get(guess).is_some_and(|item| key(item) == wanted);
        let found = if hit {
            Some(guess)
        } else {
            self.list.binary_search_by(|item| key(item).cmp(wanted)).ok()
        };
        self.next = found.map_or(guess, |found| found + 1);
        found
    }
}
