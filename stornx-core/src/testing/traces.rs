//! What StornX may have left in a random world: intents, marks, pods that were told where
//! to run; how it is told to move; records that are about to end.
//!
//! From a generator of its own, so that the worlds themselves stay those that their seeds
//! have always meant.

use super::{SplitMix64, worlds::Case, worlds::earlier};
use crate::{
    memory::Intent,
    model::{AutoscalerKind, HeldMinimum, PodPhase, Snapshot, Steered},
    plan::{AbortCause, MoveEnding, MoveWay},
    policy::AutoscaledMoves,
    units::Span,
};

/// Leaves things in a world.
pub(super) fn leave(seed: u64, case: &mut Case) {
    let mut random = SplitMix64::new(!seed);
    let random = &mut random;
    case.policy.moves.max_per_node = random.between_u32(1, 3);
    if random.chance(40) {
        case.policy.moves.autoscaled = AutoscaledMoves::Evict;
    }
    case.snapshot.quiet = random.chance(5);
    for at in 0..case.snapshot.workloads.len() {
        let id = case.snapshot.workloads[at].id.clone();
        for pod in 0..case.snapshot.workloads[at].pods.len() {
            let waits = case.snapshot.workloads[at].pods[pod].phase == PodPhase::Pending;
            let steered =
                random.chance(if waits { 50 } else { 5 }).then(|| told(random, &case.snapshot));
            let pod = &mut case.snapshot.workloads[at].pods[pod];
            pod.traces.steered = steered;
            pod.traces.victim = random.chance(3);
        }
        let remembered = case.memory.workloads.get_mut(&id);
        let Some(remembered) = remembered else { continue };
        if random.chance(20) {
            let told = told(random, &case.snapshot);
            let until = told.since.after(Span::from_seconds(60));
            remembered.intents.push(Intent { node: told.node, since: told.since, until });
        }
        if let Some(record) = &mut remembered.in_flight
            && random.chance(30)
        {
            let replacement = record.victim.clone();
            record.ending = Some(match random.between_u32(0, 1) {
                0 => MoveEnding::Undo { cause: AbortCause::TimedOut },
                _ => MoveEnding::Finish { replacement },
            });
        }
    }
    hold(random, case);
}

/// Minima that are raised: for a move under way, or one that nobody knows of.
fn hold(random: &mut SplitMix64, case: &mut Case) {
    if case.policy.moves.autoscaled == AutoscaledMoves::Evict && random.chance(50) {
        case.policy.moves.autoscaled = AutoscaledMoves::Hold;
    }
    for workload in &mut case.snapshot.workloads {
        let hpa =
            |autoscaler: &&mut crate::model::Autoscaler| autoscaler.kind == AutoscalerKind::Hpa;
        let Some(autoscaler) = workload.autoscaler.as_mut().filter(hpa) else { continue };
        let remembered = case.memory.workloads.get_mut(&workload.id);
        let record = remembered.and_then(|remembered| remembered.in_flight.as_mut());
        let way = if random.chance(70) { MoveWay::Hold } else { MoveWay::Evict };
        let held = random.chance(if record.is_some() { 70 } else { 10 });
        if let Some(record) = record {
            record.way = way;
        }
        if held {
            let raised = autoscaler.min + random.between_u32(0, 1);
            autoscaler.held = Some(HeldMinimum { before: autoscaler.min / 2, raised });
        }
    }
}

fn told(random: &mut SplitMix64, snapshot: &Snapshot) -> Steered {
    let node = random.pick(&snapshot.nodes).name.clone();
    Steered { node, since: earlier(random, 120) }
}
