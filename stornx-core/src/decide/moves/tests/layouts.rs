//! Small worlds whose best layout is plain to see.

use crate::{
    decide::{
        plan,
        safety::testing::{NOW, World},
    },
    memory::WorkloadMemory,
    plan::{Action, Planned},
    units::{Span, Timestamp},
};

/// Callers 70/20/10 % in three zones, one callee with two replicas in each.
fn uneven() -> World {
    let mut world = World::new(&[3, 3, 3]);
    world.policy.scaler.enabled = false;
    world.policy.balancer.enabled = true;
    world.workload("gate", &["a0", "b0", "c0"]).managed = false;
    world.workload("shop", &["a1", "a2", "b1", "b2", "c1", "c2"]);
    let even = |from, rate: f64| {
        [(from, "a", rate / 3.0), (from, "b", rate / 3.0), (from, "c", rate / 3.0)]
    };
    let routes: Vec<_> =
        [even("a", 700.0), even("b", 200.0), even("c", 100.0)].into_iter().flatten().collect();
    world.edge("gate", "shop", &routes);
    for at in 0..6 {
        world.pod_traffic(&format!("shop-{at}"), 1000.0 / 6.0, Some(20.0));
    }
    world.usage_of_all("shop", 40, 10);
    world
}

fn wanted(world: &mut World, name: &str) {
    let id = crate::decide::safety::testing::id(name);
    let remembered = WorkloadMemory {
        wanted_since: Some(Timestamp::from_millis(NOW.as_millis() - 120_000)),
        ..WorkloadMemory::default()
    };
    world.memory.workloads.insert(id, remembered);
}

fn decide(world: &World) -> Planned {
    plan(&world.snapshot, &world.policy, &world.memory, NOW)
}

#[test]
fn replicas_go_to_where_the_load_enters() {
    let mut world = uneven();
    wanted(&mut world, "shop");
    let planned = decide(&world);
    let moves: Vec<_> = planned
        .plan
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::StartMove { from, to, .. } => Some((from.as_str(), to.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(moves.len(), 1);
    assert!(!moves[0].0.starts_with('a') && moves[0].1.starts_with('a'), "{moves:?}");
}

#[test]
fn a_wish_must_last() {
    let world = uneven();
    let planned = decide(&world);
    assert!(!planned.plan.actions.iter().any(|a| matches!(a, Action::StartMove { .. })));
    let id = crate::decide::safety::testing::id("shop");
    assert_eq!(
        planned.report.workloads[&id].moves,
        crate::report::MoveReason::Confirming { since: Span::ZERO }
    );
}
