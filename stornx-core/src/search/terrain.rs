//! What a search climbs on: which placements are allowed beyond room, and what they are
//! worth. The search keeps counts and room itself; everything else it asks here.
//!
//! A terrain stands at a placement. It is told every move ([`Terrain::go`]), can take
//! the last ones back in reverse ([`Terrain::back`]) until they are kept
//! ([`Terrain::keep`]), and is cloned where a search begins anew.

use super::{facts::Facts, gain, layout::Layout};

/// One container of a service from one machine to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shift {
    pub(crate) service: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Shift {
    /// The way back.
    pub(crate) const fn reversed(self) -> Self {
        Self { service: self.service, from: self.to, to: self.from }
    }
}

/// See the module.
pub(crate) trait Terrain: Clone {
    /// Whether a machine may hold containers of a service at all, beyond what the
    /// [`Facts`] say.
    fn admits(&self, service: usize, machine: usize) -> bool;

    /// Whether a container may change from one zone to another (or within one), beyond
    /// what the [`Facts`] say. `layout` is the placement before.
    fn may_change(&self, facts: &Facts, layout: &Layout, shift: Shift) -> bool;

    /// What the best placement could be worth more than the worst, roughly: the scale of
    /// temperatures.
    fn possible(&self) -> f64;

    /// Worth of the placement it stands at.
    fn worth(&self, facts: &Facts, layout: &Layout) -> f64;

    /// What a move would add to the worth of `layout`, at which the terrain stands.
    fn gain(&mut self, facts: &Facts, layout: &Layout, shift: Shift) -> f64;

    /// A move is made, for which [`Self::gain`] said `gain`. Returns what it adds, which
    /// may be more exact.
    fn go(&mut self, shift: Shift, gain: f64) -> f64;

    /// The last move that is not kept is taken back.
    fn back(&mut self);

    /// All moves so far stand.
    fn keep(&mut self);
}

/// Worth as traffic that stays inside machines and zones ([`gain`]): a function of the
/// counts, so that nothing has to be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Affinity {
    /// Worth of all traffic inside machines and inside zones.
    pub(crate) possible: f64,
}

impl Terrain for Affinity {
    fn admits(&self, _service: usize, _machine: usize) -> bool {
        true
    }

    fn may_change(&self, _facts: &Facts, _layout: &Layout, _shift: Shift) -> bool {
        true
    }

    fn possible(&self) -> f64 {
        self.possible
    }

    fn worth(&self, facts: &Facts, layout: &Layout) -> f64 {
        gain::total(facts, layout)
    }

    #[inline]
    fn gain(&mut self, facts: &Facts, layout: &Layout, shift: Shift) -> f64 {
        gain::of_shift(facts, layout, shift.service, shift.from, shift.to)
    }

    #[inline]
    fn go(&mut self, _shift: Shift, gain: f64) -> f64 {
        gain
    }

    fn back(&mut self) {}

    fn keep(&mut self) {}
}
