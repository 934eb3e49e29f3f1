//! Names that many records share, kept once.

use std::{collections::HashSet, sync::Arc};

/// A pool of shared names. Names that nobody uses any more are swept out whenever the
/// pool has doubled, so it never holds more than twice what is in use (and a floor).
#[derive(Debug, Default)]
pub(crate) struct Names {
    pool: HashSet<Arc<str>>,
    sweep_at: usize,
}

/// Below this many names sweeping is not worth it.
const FLOOR: usize = 1024;

impl Names {
    /// The shared copy of a name.
    pub(crate) fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.pool.get(name) {
            return Arc::clone(shared);
        }
        if self.pool.len() >= self.sweep_at.max(FLOOR) {
            self.pool.retain(|name| Arc::strong_count(name) > 1);
            self.sweep_at = self.pool.len() * 2;
        }
        let shared: Arc<str> = name.into();
        self.pool.insert(Arc::clone(&shared));
        shared
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
        assert!(names.pool.len() <= FLOOR + 1, "{}", names.pool.len());
        assert!(Arc::ptr_eq(&first, &names.share("node-1")), "what is in use stays");
    }
}
