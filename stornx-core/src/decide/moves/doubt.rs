//! How far a move is doubted because its workload has been looked at before, on the same
//! layout, and was left where it is.
//!
//! Noise lifts a move at the very edge of being worth it over the edge again and again,
//! and among thousands of looks some are lucky. So what is judged well placed is judged
//! so until something changes: from [`REST`] on, and after each wish that came to
//! nothing, a move must save more and be worth it for longer. What counts as a change is
//! a new replica of the workload or of a direct neighbour, or a scale action of ours:
//! then follow-up moves are judged as if never looked at. A change of demand that matters
//! clears the higher bar by itself.
//!
//! Assumes that a replica which goes without another coming (a removal that is not ours)
//! makes no place so much better that a move there is worth it by less than the higher bar.

use crate::{
    memory::{Placed, WorkloadMemory},
    units::{Span, Timestamp},
    view::{Remembered, View, WorkloadIndex},
};

/// After so long without a wish a place is taken for good. Wishes need two windows to be
/// believed; ten minutes see a move that is worth it whatever the counts say meanwhile.
const REST: Span = Span::from_seconds(600);

/// What a move must save doubles at most so often: eight times as much is no accident of
/// a count, unless something is so full that a little more load makes much more waiting.
const DEARER: u32 = 3;

/// How long it must be worth it doubles at most so often: an hour with the usual window.
/// Where the saving swings, it falls below the bar within that time.
const LONGER: u32 = 5;

/// A move must have been worth it for so many windows of the metrics: counts of two
/// windows share no request, so a wish that lasts is no accident of one count.
const CONFIRMING_WINDOWS: u64 = 2;

/// How far moves of a workload are doubted: so many doublings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Doubt(u32);

impl Doubt {
    /// What a move must save, as a multiple of the usual.
    pub(super) fn multiple(self) -> f64 {
        f64::from(1_u32 << self.0.min(DEARER))
    }

    /// How long it must be worth it.
    pub(super) fn lasting(self, window: Span) -> Span {
        window.times(CONFIRMING_WINDOWS << self.0.min(LONGER))
    }
}

/// When the layout of each workload and of its direct neighbours last changed.
pub(super) fn changes(view: &View<'_>, memory: &Remembered<'_>) -> Vec<Timestamp> {
    let own: Vec<Timestamp> = view
        .each_workload()
        .map(|(at, workload)| {
            let scaled = memory.workload(at).and_then(|w| w.scaled_at);
            let created = workload.pods.iter().map(|pod| pod.pod.created_at);
            // A clock that goes ahead of ours changes nothing later than now.
            created.chain(scaled).max().unwrap_or_default().min(view.now)
        })
        .collect();
    let mut around = own.clone();
    for edge in &view.edges {
        let (caller, callee) = (edge.caller.at(), edge.callee.at());
        around[caller] = around[caller].max(own[callee]);
        around[callee] = around[callee].max(own[caller]);
    }
    around
}

/// What is remembered of the place of a workload, if its layout has not changed since.
pub(super) fn standing(remembered: &WorkloadMemory, changed: Timestamp) -> Option<Placed> {
    remembered.placed.filter(|placed| changed <= placed.since)
}

/// How far moves of each workload are doubted.
pub(super) fn doubts(view: &View<'_>, memory: &Remembered<'_>) -> Vec<Doubt> {
    let changes = changes(view, memory);
    let doubt = |(at, _): (WorkloadIndex, _)| {
        let remembered = memory.workload(at);
        remembered.map_or(Doubt(0), |remembered| doubt(remembered, changes[at.at()], view.now))
    };
    view.each_workload().map(doubt).collect()
}

fn doubt(remembered: &WorkloadMemory, changed: Timestamp, now: Timestamp) -> Doubt {
    let Some(placed) = standing(remembered, changed) else { return Doubt(0) };
    // A wish from before the rest, that waits for its turn, is judged as it was.
    let asked = remembered.wanted_since.unwrap_or(now);
    let rests = asked.since(placed.since) >= REST;
    Doubt(placed.lapsed.max(u32::from(rests)))
}

/// One wish more that came to nothing.
pub(super) fn lapse(placed: Placed) -> Placed {
    // Counted as far as it decides.
    Placed { lapsed: placed.lapsed.saturating_add(1).min(LONGER), ..placed }
}
