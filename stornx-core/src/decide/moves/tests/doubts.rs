//! How much more a move must save where its workload was looked at before.

use crate::{
    decide::{
        moves::{doubt, remember_workloads},
        safety::testing::{NOW, World, id, index},
    },
    memory::{Placed, WorkloadMemory},
    plan::Planned,
    report::MoveReason,
    units::{Span, Timestamp},
    view::{Remembered, View},
};

/// `w` is called by `gate` and calls `next`; `far` is nobody's neighbour.
fn world() -> World {
    let mut world = World::new(&[2, 2, 2]);
    world.workload("gate", &["a0"]).managed = false;
    for name in ["w", "next", "far"] {
        world.workload(name, &["a0", "b0"]);
    }
    world.edge("gate", "w", &[("a", "a", 50.0), ("a", "b", 50.0)]);
    world.edge("w", "next", &[("a", "a", 50.0), ("b", "b", 50.0)]);
    world.edge("gate", "far", &[("a", "a", 100.0)]);
    world
}

fn ago(seconds: u64) -> Timestamp {
    Timestamp::from_millis(NOW.as_millis() - 1000 * seconds)
}

fn after(seconds: u64) -> Timestamp {
    NOW.after(Span::from_seconds(seconds))
}

fn placed(seconds: u64, lapsed: u32) -> WorkloadMemory {
    let placed = Some(Placed { since: ago(seconds), lapsed });
    WorkloadMemory { placed, ..WorkloadMemory::default() }
}

/// What a move of `w` must save, as a multiple, and for how many seconds, when this is
/// remembered of it.
fn asked(world: &World, remembered: WorkloadMemory) -> (f64, f64) {
    let mut world = world.clone();
    world.memory.workloads.insert(id("w"), remembered);
    let view = world.view();
    let doubt = doubt::doubts(&view, &Remembered::of(&view, &world.memory))[index(&view, "w").at()];
    (doubt.multiple(), doubt.lasting(view.window).as_seconds_f64())
}

const UNDOUBTED: (f64, f64) = (1.0, 120.0);
const RESTING: (f64, f64) = (2.0, 240.0);

#[test]
fn the_bar_rises_with_rest_and_with_wishes_that_came_to_nothing() {
    let world = world();
    let asked = |remembered| asked(&world, remembered);
    assert_eq!(asked(WorkloadMemory::default()), UNDOUBTED);
    assert_eq!(asked(placed(599, 0)), UNDOUBTED);
    assert_eq!(asked(placed(600, 0)), RESTING);
    assert_eq!(asked(placed(0, 1)), RESTING);
    assert_eq!(asked(placed(600, 1)), RESTING);
    assert_eq!(asked(placed(0, 2)), (4.0, 480.0));
    assert_eq!(asked(placed(600, 5)), (8.0, 3840.0));
    assert_eq!(asked(placed(600, u32::MAX)), (8.0, 3840.0));
    // A wish from before the rest is judged as it was when it came up.
    let waiting = |since| WorkloadMemory { wanted_since: Some(ago(since)), ..placed(900, 0) };
    assert_eq!(asked(waiting(301)), UNDOUBTED);
    assert_eq!(asked(waiting(300)), RESTING);
}

#[test]
fn a_change_next_to_it_begins_anew() {
    for name in ["w", "gate", "next", "far"] {
        let expected = if name == "far" { RESTING } else { UNDOUBTED };
        let mut replica = world();
        replica.of(name).pods[0].created_at = ago(899);
        assert_eq!(asked(&replica, placed(900, 0)), expected, "a replica of {name}");
        replica.of(name).pods[0].created_at = ago(900);
        assert_eq!(asked(&replica, placed(900, 0)), RESTING, "an older replica of {name}");
        let mut scaled = world();
        let scale = WorkloadMemory { scaled_at: Some(ago(899)), ..placed(900, 0) };
        scaled.memory.workloads.insert(id(name), scale.clone());
        let remembered = if name == "w" { scale } else { placed(900, 0) };
        assert_eq!(asked(&scaled, remembered), expected, "the count of {name}");
    }
}

/// What is remembered of `w` after a cycle that says this of it.
fn say(world: &mut World, reason: MoveReason, now: Timestamp) -> WorkloadMemory {
    let planned = crate::decide::plan(&world.snapshot, &world.policy, &world.memory, NOW);
    let mut planned: Planned = planned;
    planned.plan.actions.clear();
    planned.report.workloads.get_mut(&id("w")).unwrap().moves = reason;
    let view = View::new(&world.snapshot, &world.policy, now);
    remember_workloads(&mut world.memory, &view, &planned, &Vec::new());
    world.memory.workloads.get(&id("w")).cloned().unwrap_or_default()
}

#[test]
fn what_was_judged_is_remembered_once() {
    let mut world = world();
    let good = || MoveReason::WellPlaced { best: Some(0.1) };
    let wish = || MoveReason::Confirming { since: Span::ZERO };
    let nowhere = say(&mut world, MoveReason::WellPlaced { best: None }, NOW);
    assert_eq!(nowhere.placed, None, "there is nothing to compare with");
    let first = say(&mut world, good(), after(60));
    assert_eq!(first.placed, Some(Placed { since: after(60), lapsed: 0 }));
    // A quiet hour writes nothing.
    for cycle in 2..60 {
        assert_eq!(say(&mut world, good(), after(60 * cycle)), first);
    }
    // Each wish that comes to nothing counts, as far as that decides anything.
    for lapsed in [1, 2, 3, 4, 5, 5] {
        say(&mut world, wish(), after(3600));
        let placed = say(&mut world, good(), after(3660)).placed;
        assert_eq!(placed, Some(Placed { since: after(60), lapsed }));
    }
    // What closed the gate says nothing about the wish.
    let mut closed = world.clone();
    say(&mut closed, wish(), after(3720));
    say(&mut closed, MoveReason::NotSettled, after(3780));
    assert_eq!(say(&mut closed, good(), after(3840)), say(&mut world, good(), after(3840)));
    // Another layout is judged anew.
    world.of("next").pods[1].created_at = after(3900);
    let anew = say(&mut world, good(), after(3960)).placed;
    assert_eq!(anew, Some(Placed { since: after(3960), lapsed: 0 }));
}
