//! The records of one watch.

use std::collections::{BTreeMap, BTreeSet};

/// Records by key. A list replaces what is there without a moment of emptiness: what
/// it did not name is dropped when it is complete.
#[derive(Debug)]
pub(crate) struct Table<K, R> {
    records: BTreeMap<K, R>,
    listing: Option<BTreeSet<K>>,
}

impl<K, R> Default for Table<K, R> {
    fn default() -> Self {
        Self { records: BTreeMap::new(), listing: None }
    }
}

impl<K: Ord + Clone, R> Table<K, R> {
    /// A list begins.
    pub(crate) fn begin_list(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// The list is complete; what it did not name is gone, and is given.
    pub(crate) fn finish_list(&mut self) -> Vec<(K, R)> {
        let Some(named) = self.listing.take() else { return Vec::new() };
        self.records.extract_if(.., |key, _| !named.contains(key)).collect()
    }

    /// Sets a record; gives the one before it.
    pub(crate) fn set(&mut self, key: K, record: R) -> Option<R> {
        if let Some(named) = &mut self.listing {
            named.insert(key.clone());
        }
        self.records.insert(key, record)
    }

    /// Removes a record and gives it.
    pub(crate) fn remove(&mut self, key: &K) -> Option<R> {
        if let Some(named) = &mut self.listing {
            named.remove(key);
        }
        self.records.remove(key)
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The record of a key.
    pub(crate) fn get<Q>(&self, key: &Q) -> Option<&R>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.records.get(key)
    }

    /// All records, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &R)> {
        self.records.iter()
    }

    /// The records from a key on, by key.
    pub(crate) fn from(&self, key: &K) -> impl Iterator<Item = (&K, &R)> {
        self.records.range(key..)
    }

    /// Whether a list is under way: what it shows may have been there for long.
    pub(crate) const fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_drops_what_it_does_not_name_only_at_its_end() {
        let mut table = Table::default();
        table.set("a", 1);
        table.set("b", 2);
        table.begin_list();
        table.set("b", 3);
        table.set("c", 4);
        table.set("d", 5);
        table.remove(&"d");
        assert_eq!(table.get("a"), Some(&1), "known until the list is complete");
        assert_eq!(table.finish_list(), [("a", 1)]);
        assert_eq!(table.iter().collect::<Vec<_>>(), [(&"b", &3), (&"c", &4)]);
        assert_eq!(table.finish_list(), [], "without a beginning there is no end");
        assert_eq!(table.len(), 2);
    }
}
