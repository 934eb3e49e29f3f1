//! What is promised, and the calmed world.
//!
//! Safety is judged by what is kept beside the world ([`Judge`](super::world::Judge)).
//!
//! Liveness is not left to `eventually` of the checker, which may miss cycles of states
//! that are reached twice. Instead the world is calmed from every state that was reached:
//! nothing goes wrong any more, everybody does what he has to, time goes on, and after a
//! bounded number of rounds everything must be settled and nothing of us left.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    sync::Mutex,
};

use super::{
    actors::{Bounds, Kind, Step, happen, steps},
    product::Product,
    world::{BEFORE, Daemon, Load, Phase, State, Watch},
};

/// Promises that were broken, a bit each.
pub(super) struct Broken;

impl Broken {
    /// A Ready endpoint went by our doing while no more were Ready than before the move.
    pub(super) const READY: u8 = 1;
    /// A surge on top of a surge, or on a count that is not the one of before.
    pub(super) const SECOND_SURGE: u8 = 2;
    /// A count was lowered that somebody else had set: also a second victim.
    pub(super) const COUNT_OF_OTHERS: u8 = 4;
    /// The disruption budget.
    pub(super) const BUDGET: u8 = 8;
    /// The plan failed its check, and nothing would ever be done again.
    pub(super) const CHECK: u8 = 16;
    /// Another replica than the victim went, at the end of a move.
    pub(super) const ANOTHER: u8 = 32;
}

/// Of every workload as many are Ready as before, less what faults took.
pub(super) fn enough_ready(state: &State) -> bool {
    let enough = |load: &Load| load.ready() + load.judge.toll >= load.judge.least_wish;
    state.loads.iter().all(enough)
}

/// Rounds of the calmed world within which everything ends.
const ROUNDS: usize = 14;

/// States from which the calmed world settles.
#[derive(Default)]
pub(super) struct Settling {
    known: Mutex<HashSet<u64, BuildHasherDefault<DefaultHasher>>>,
}

impl Settling {
    /// Why the calmed world does not settle from a state.
    ///
    /// # Errors
    /// What is left after all rounds.
    pub(super) fn settles(
        &self,
        state: &State,
        product: &Product,
        bounds: &Bounds,
    ) -> Result<(), String> {
        let bounds = &Bounds { calm: true, ..*bounds };
        let mut calm = calmed(state);
        let mut met = Vec::new();
        let mut left = String::new();
        for _ in 0..ROUNDS {
            let mark = BuildHasherDefault::<DefaultHasher>::default().hash_one(&calm);
            if self.known.lock().unwrap().contains(&mark) {
                left.clear();
                break;
            }
            met.push(mark);
            left = remains(&calm, product, bounds);
            if left.is_empty() {
                break;
            }
            calm = round(calm, product, bounds);
        }
        if left.is_empty() {
            self.known.lock().unwrap().extend(met);
            return Ok(());
        }
        Err(left)
    }
}

/// Nothing goes wrong any more.
fn calmed(state: &State) -> State {
    let mut calm = state.clone();
    calm.faults_left = 0;
    calm.late = None;
    calm.pods = Watch::new(false);
    calm.deployments = Watch::new(false);
    calm.autoscalers = Watch::new(false);
    calm.controllers = Watch::new(false);
    // Only for judging; two states that differ in it go on alike.
    calm.broken = 0;
    for load in &mut calm.loads {
        load.wants_to_move = false;
        load.suffered = false;
        load.expects = false;
        load.judge.toll = 0;
        load.judge.least_wish = 0;
        load.judge.lowered_by_us = false;
        load.judge.known_by_us = false;
        load.judge.marked_late = false;
    }
    calm.count_ready();
    calm
}

/// Everybody does all that he has to, then time goes on.
fn round(mut state: State, product: &Product, bounds: &Bounds) -> State {
    loop {
        let mut possible = Vec::new();
        steps(&state, product, bounds, &mut possible);
        let next = possible.into_iter().find(|step| match step {
            Step::Time | Step::Fault(_) | Step::EndRollout(_, false) => false,
            Step::Deliver(
                Kind::Pods | Kind::Deployments | Kind::Autoscalers | Kind::Controllers,
            )
            | Step::Relist(_) => false,
            // A cycle waits until everybody else is done.
            Step::Cycle => false,
            _ => true,
        });
        match next {
            Some(step) => state = happen(&state, product, bounds, step),
            None => break,
        }
    }
    let mut possible = Vec::new();
    steps(&state, product, bounds, &mut possible);
    if possible.contains(&Step::Cycle) {
        state = happen(&state, product, bounds, Step::Cycle);
    }
    state.tick += 1;
    state
}

/// What is left to do, or left behind; nothing once all is settled.
fn remains(state: &State, product: &Product, bounds: &Bounds) -> String {
    let mut left = Vec::new();
    if state.daemon != Daemon::Idle {
        left.push("the daemon is not idle".to_owned());
    }
    for (at, load) in state.loads.iter().enumerate() {
        let remembered = product.remembered(state.store, at);
        let deployment = &load.deployment;
        let least = if load.quota { deployment.count.min(BEFORE) } else { deployment.count };
        let there = load.active();
        let mut note = |wrong: bool, what: &str| {
            if wrong {
                left.push(format!("load {at}: {what}"));
            }
        };
        note(remembered.record, "a record");
        note(!remembered.intents.is_empty(), "an intent");
        note(load.pods.iter().any(|pod| pod.marked), "a mark");
        note(load.pods.iter().any(|pod| pod.phase != Phase::Ready), "a replica is not Ready");
        note(there < least || there > deployment.count, "replicas are not as many as asked for");
        note(
            deployment.count != load.judge.wish && load.hpa.is_none(),
            "the count is not the one that its owner set",
        );
        note(load.hpa.is_some_and(|hpa| hpa.held.is_some()), "a minimum is held");
        if bounds.holds {
            note(
                load.hpa.is_some_and(|hpa| hpa.min != load.judge.minimum),
                "the minimum is not the one that its owner set",
            );
            note(load.wanted_by_autoscaler().is_some(), "the autoscaler wants another count");
        }
        note(load.known_count != deployment.count || deployment.rollout, "not settled");
    }
    left.join("; ")
}
