//! The agenda: what happens next. Each entry is one 128-bit number, time first, so that
//! the heap compares integers and ties fall the same way on every machine.
//!
//! Most entries that are taken put one in their place (a call that was reached is worked
//! on, work that is done is answered). So an entry that was taken stays on top until the
//! next is added or asked for: to put another there costs one way down the heap, where
//! taking and adding cost two.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

/// Nanoseconds from the start of a run.
pub(crate) type Nanos = u64;

/// One second.
pub(crate) const SECOND: Nanos = 1_000_000_000;
/// One millisecond.
pub(crate) const MILLISECOND: Nanos = 1_000_000;

/// What kind of thing happens. At one instant, kinds happen in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Measuring begins.
    MeasureStart = 0,
    /// A timed event of the scenario begins or ends.
    Happening = 1,
    /// The control plane looks at nodes, replica sets, pending pods.
    Control = 2,
    /// A started pod becomes Ready.
    PodReady = 3,
    /// The grace of a pod being deleted is over.
    GraceOver = 4,
    /// Prometheus scrapes.
    Scrape = 5,
    /// The autoscalers look.
    Autoscale = 6,
    /// A piece of the utilisation window is over.
    Piece = 7,
    /// A point of the curves.
    Sample = 8,
    /// A user's request enters.
    Arrival = 9,
    /// A call reaches its replica.
    Reach = 10,
    /// The own work of a call is done.
    WorkDone = 11,
    /// An answer reaches the caller.
    Answer = 12,
    /// A call is tried again.
    Retry = 13,
    /// A connection could not be made.
    ConnectFailed = 14,
    /// The oldest call of a time-out group may have waited long enough.
    Timeout = 15,
}

const KINDS: [Kind; 16] = [
    Kind::MeasureStart,
    Kind::Happening,
    Kind::Control,
    Kind::PodReady,
    Kind::GraceOver,
    Kind::Scrape,
    Kind::Autoscale,
    Kind::Piece,
    Kind::Sample,
    Kind::Arrival,
    Kind::Reach,
    Kind::WorkDone,
    Kind::Answer,
    Kind::Retry,
    Kind::ConnectFailed,
    Kind::Timeout,
];

/// An entry of the agenda.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) at: Nanos,
    pub(crate) kind: Kind,
    /// The call, pod or other thing that it happens to.
    pub(crate) handle: u32,
    /// The life of the call or pod that is meant, 24 bits.
    pub(crate) life: u32,
}

/// What will happen.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    heap: BinaryHeap<Reverse<u128>>,
    /// The entry on top was taken already.
    taken: bool,
}

/// The bits of a life that an entry keeps.
pub(crate) const LIFE_MASK: u32 = (1 << 24) - 1;

impl Agenda {
    #[inline]
    pub(crate) fn add(&mut self, at: Nanos, kind: Kind, handle: u32, life: u32) {
        let low = (kind as u64) << 56 | u64::from(life & LIFE_MASK) << 32 | u64::from(handle);
        let entry = Reverse(u128::from(at) << 64 | u128::from(low));
        if std::mem::take(&mut self.taken)
            && let Some(mut top) = self.heap.peek_mut()
        {
            *top = entry;
        } else {
            self.heap.push(entry);
        }
    }

    /// Takes the next entry that is due at `until` or before.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // Taking the number apart again.
    pub(crate) fn next(&mut self, until: Nanos) -> Option<Entry> {
        if std::mem::take(&mut self.taken)
            && let Some(top) = self.heap.peek_mut()
        {
            PeekMut::pop(top);
        }
        let number = self.heap.peek()?.0;
        let at = (number >> 64) as Nanos;
        if at > until {
            return None;
        }
        self.taken = true;
        let low = number as u64;
        let kind = KINDS[(low >> 56) as usize & 15];
        Some(Entry { at, kind, handle: low as u32, life: (low >> 32) as u32 & LIFE_MASK })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_whole_and_in_order() {
        let mut agenda = Agenda::default();
        for (index, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
            agenda.add(7, kind, u32::MAX, 5);
        }
        agenda.add(3, Kind::Timeout, 9, LIFE_MASK + 2);
        agenda.add(8, Kind::Control, 0, 0);
        let first = agenda.next(7).unwrap();
        assert_eq!((first.at, first.kind, first.handle, first.life), (3, Kind::Timeout, 9, 1));
        for kind in KINDS {
            let entry = agenda.next(7).unwrap();
            assert_eq!((entry.kind, entry.handle, entry.life), (kind, u32::MAX, 5));
        }
        assert!(agenda.next(7).is_none());
    }

    #[test]
    fn what_is_added_between_is_taken_in_its_turn() {
        let mut agenda = Agenda::default();
        let mut naive = std::collections::BTreeSet::new();
        let (mut now, mut chance) = (0, 1_u64);
        for round in 0..10_000_u32 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(round.into());
            // Nothing, one or two for each that is taken, also at the same instant.
            for extra in 0..chance >> 40 & 3 {
                let at = now + (chance >> (44 + extra) & 15);
                agenda.add(at, Kind::Reach, round * 4 + u32::try_from(extra).unwrap(), 0);
                naive.insert((at, round * 4 + u32::try_from(extra).unwrap()));
            }
            if let Some(entry) = agenda.next(now + 8) {
                assert_eq!(naive.pop_first(), Some((entry.at, entry.handle)));
                now = entry.at;
            } else {
                assert!(naive.first().is_none_or(|(at, _)| *at > now + 8));
                now += 8;
            }
        }
        assert!(!naive.is_empty());
    }
}
