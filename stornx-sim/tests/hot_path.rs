//! The speed of the simulator rests on calls that allocate nothing once the arena has
//! grown to its size. Counted, not timed: the result does not depend on the machine.

// The whole file is test code; the lint sees only functions marked as tests.
#![allow(clippy::unwrap_used)]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use stornx_core::units::Span;
use stornx_sim::{builtin, world::SimWorld};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What looks at the world now and then (scrapes, curves, windows of utilisation) does
/// allocate, for each simulated minute whatever the load.
const ALLOCATIONS_PER_HOP: f64 = 0.01;

// One test alone in its process: others would be counted with it.
#[test]
fn calls_allocate_nothing() {
    for name in ["online-boutique", "uneven-inbound"] {
        let world = SimWorld::new(&builtin::find(name).unwrap(), 1).unwrap();
        world.advance_to(SimWorld::start().after(Span::from_seconds(60)));
        let (before, region) = (world.hops(), Region::new(GLOBAL));
        world.advance_to(SimWorld::start().after(Span::from_seconds(180)));
        let (hops, change) = (world.hops() - before, region.change());
        assert!(hops > 100_000, "{name}: {hops}");
        let each = change.allocations as f64 / hops as f64;
        assert!(each < ALLOCATIONS_PER_HOP, "{name}: {each} allocations a hop");
        // Nor does what is held grow with the calls: scrapes are kept for a window.
        let grown = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
        assert!((grown as f64) < 2.0 * hops as f64, "{name}: {grown} bytes for {hops} hops");
    }
}
