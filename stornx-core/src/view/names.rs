//! Finding things by their names, in a time that does not grow with the cluster.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
};

/// Positions by name. Only looked up and never walked, so that no order of a hash table
/// reaches a decision; the hash has no seed, so that the same plan takes the same work.
pub(super) struct Names<'a>(HashMap<Name<'a>, u32, BuildHasherDefault<Quick>>);

/// Most names are shared by those who mention them: then nothing need be compared.
#[derive(Eq)]
struct Name<'a>(&'a str);

impl PartialEq for Name<'_> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0) || self.0 == other.0
    }
}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.0.as_bytes());
    }
}

impl<'a> Names<'a> {
    /// The names of a list, which has each of them once.
    pub(super) fn of(names: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let mut positions = HashMap::with_capacity_and_hasher(names.len(), <_>::default());
        for (position, name) in (0..).zip(names) {
            positions.insert(Name(name), position);
        }
        Self(positions)
    }

    /// Where a name is in the list.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.0.get(&Name(name)).map(|position| *position as usize)
    }
}

/// A hash of eight bytes at a time. Names that were made to collide would slow a plan down
/// and change nothing of it; who may name ten thousand objects has simpler ways.
#[derive(Default)]
struct Quick(u64);

impl Quick {
    const fn mix(&mut self, word: u64) {
        // Odd, and with bits all over: the product depends on every bit below.
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

impl Hasher for Quick {
    fn write(&mut self, bytes: &[u8]) {
        self.0 ^= bytes.len() as u64;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        // What is left is read together with what was before it, if there was any.
        match bytes.last_chunk::<8>() {
            Some(last) if !rest.is_empty() => self.mix(u64::from_le_bytes(*last)),
            Some(_) => {}
            None => self.mix(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))),
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

/// Finds names in a list that are asked for in nearly the order of the list: the one after
/// the last is tried first. Only when that is another one is the list put in order.
pub(super) struct Finger<'a, T, K: ?Sized> {
    list: &'a [T],
    key: fn(&T) -> &K,
    next: usize,
    /// Positions in the order of their names.
    order: Option<Vec<u32>>,
}

impl<'a, T, K: Ord + ?Sized> Finger<'a, T, K> {
    pub(super) const fn new(list: &'a [T], key: fn(&T) -> &K) -> Self {
        Self { list, key, next: 0, order: None }
    }

    /// The item of a name. Of several with one name the same each time; snapshots have none.
    pub(super) fn find(&mut self, wanted: &K) -> Option<&'a T> {
        let guess = self.list.get(self.next).filter(|item| (self.key)(item) == wanted);
        let found = match guess {
            Some(_) => self.next,
            None => self.search(wanted)?,
        };
        self.next = found + 1;
        Some(&self.list[found])
    }

    fn search(&mut self, wanted: &K) -> Option<usize> {
        let (list, key) = (self.list, self.key);
        let order = self.order.get_or_insert_with(|| {
            let mut order: Vec<u32> = (0..).take(list.len()).collect();
            order.sort_by(|a, b| key(&list[*a as usize]).cmp(key(&list[*b as usize])));
            order
        });
        let at = order.partition_point(|at| key(&list[*at as usize]) < wanted);
        let found = *order.get(at)? as usize;
        (key(&list[found]) == wanted).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_length_are_told_apart() {
        let long = "abcdefghijklmnopqrstuvw";
        let mut names: Vec<String> = (0..=long.len()).map(|len| long[..len].to_owned()).collect();
        names.extend((1..=long.len()).map(|len| format!("x{}", &long[1..len])));
        names.extend((1..=long.len()).map(|len| format!("{}y", &long[..len])));
        let known = Names::of(names.iter().map(String::as_str));
        for (at, name) in names.iter().enumerate() {
            assert_eq!(known.find(&name.clone()), Some(at), "{name}");
        }
        assert_eq!(known.find("abcdefghz"), None);
    }

    #[test]
    fn names_are_found_in_any_order() {
        let list = [("b", 1), ("a", 2), ("c", 3), ("a", 4), ("d", 5)];
        let mut finger = Finger::new(&list, |(name, _)| *name);
        let mut found = |name| finger.find(name).map(|(_, value)| *value);
        assert_eq!(found("b"), Some(1));
        assert_eq!(found("a"), Some(2));
        assert_eq!(found("c"), Some(3));
        assert_eq!((found("x"), found("")), (None, None));
        assert_eq!((found("d"), found("d"), found("b")), (Some(5), Some(5), Some(1)));
        assert_eq!(found("a"), Some(2));
    }
}
