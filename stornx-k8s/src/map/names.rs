//! Names and labels that many records share, kept once.

use std::{borrow::Borrow, collections::HashSet, hash::Hash, sync::Arc};

use super::selector::TextLabels;

/// What is shared.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Pool<str>,
    labels: Pool<TextLabels>,
    /// Labels of pods are asked for.
    pub(crate) keeps_labels: bool,
}

/// A pool of shared values. Those that nobody uses any more are swept out whenever the
/// pool has doubled, so it never holds more than twice what is in use (and a floor).
#[derive(Debug)]
struct Pool<T: ?Sized> {
    pool: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self { pool: HashSet::new(), sweep_at: 0 }
    }
}

/// Below this many names sweeping is not worth it.
const FLOOR: usize = 1024;

impl Names {
    /// The shared copy of a name.
    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        self.names.share(name)
    }

    /// The shared copy of the labels of a pod; `None` where nobody asks for them.
    pub(crate) fn share_labels(&mut self, labels: Option<&TextLabels>) -> Option<Arc<TextLabels>> {
        let labels = labels.filter(|_| self.keeps_labels)?;
        Some(self.labels.share(labels))
    }
}

impl<T: ?Sized + Eq + Hash> Pool<T> {
    fn share(&mut self, value: &T) -> Arc<T>
    where
        Arc<T>: Borrow<T>,
        T: ToShared,
    {
        if let Some(shared) = self.pool.get(value) {
            return Arc::clone(shared);
        }
        if self.pool.len() >= self.sweep_at.max(FLOOR) {
            self.pool.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = self.pool.len() * 2;
        }
        let shared = value.to_shared();
        self.pool.insert(Arc::clone(&shared));
        shared
    }
}

/// A copy of its own on the heap.
trait ToShared {
    fn to_shared(&self) -> Arc<Self>;
}

impl ToShared for str {
    fn to_shared(&self) -> Arc<Self> {
        self.into()
    }
}

impl ToShared for TextLabels {
    fn to_shared(&self) -> Arc<Self> {
        Arc::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_one_and_unused_ones_go() {
        let mut names = Names::default();
        let first = names.share("node-1");
        assert!(Arc::ptr_eq(&first, &names.share("node-1")));
        for number in 0..100_000 {
            names.share(&format!("gone-{number}"));
        }
        let kept = names.names.pool.len();
        assert!(kept <= FLOOR + 1, "{kept}");
        assert!(Arc::ptr_eq(&first, &names.share("node-1")), "what is in use stays");
    }

    #[test]
    fn labels_are_kept_once_and_only_where_they_are_asked_for() {
        let labels = TextLabels::from([("app".to_owned(), "cart".to_owned())]);
        let mut names = Names::default();
        assert_eq!(names.share_labels(Some(&labels)), None);
        names.keeps_labels = true;
        let first = names.share_labels(Some(&labels)).unwrap();
        assert!(Arc::ptr_eq(&first, &names.share_labels(Some(&labels.clone())).unwrap()));
        assert_eq!(names.share_labels(None), None);
    }
}
