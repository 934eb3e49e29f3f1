//! The searches.

use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::{
    actors::{Bounds, Step, happen, steps},
    daemon::Checks,
    faults::Faulty,
    product::Product,
    properties::{Broken, Settling, enough_ready},
    world::State,
};

/// A world for the checker.
pub(super) struct Interleavings {
    pub(super) bounds: Bounds,
    pub(super) product: Product,
    pub(super) settling: Settling,
}

const READY: &str = "no write of ours takes a Ready endpoint that is needed";
const ENOUGH: &str = "as many are Ready as before, less what faults took";
const SURGE: &str = "one surge at most";
const COUNT: &str = "no count of others is overwritten, no second victim";
const BUDGET: &str = "disruption budgets are kept";
const ANOTHER: &str = "exactly the victim goes";
const CHECK: &str = "every plan passes its check";
const SETTLES: &str = "once faults stop, everything settles and nothing is left";
const FINISHES: &str = "every move can be finished";

impl Model for Interleavings {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let Bounds { loads, faults, always_late, holds, .. } = self.bounds;
        vec![State::new(loads, faults, always_late, holds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        steps(state, &self.product, &self.bounds, actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let next = happen(state, &self.product, &self.bounds, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(READY, |_, state: &State| state.broken & Broken::READY == 0),
            Property::always(ENOUGH, |_, state: &State| enough_ready(state)),
            Property::always(SURGE, |_, state: &State| state.broken & Broken::SECOND_SURGE == 0),
            Property::always(COUNT, |_, state: &State| state.broken & Broken::COUNT_OF_OTHERS == 0),
            Property::always(BUDGET, |_, state: &State| state.broken & Broken::BUDGET == 0),
            Property::always(ANOTHER, |_, state: &State| state.broken & Broken::ANOTHER == 0),
            Property::always(CHECK, |_, state: &State| state.broken & Broken::CHECK == 0),
            Property::always(SETTLES, |model: &Self, state: &State| {
                model.settling.settles(state, &model.product, &model.bounds).is_ok()
            }),
            Property::sometimes(FINISHES, |_, state: &State| {
                state.loads.iter().enumerate().all(|(at, load)| {
                    let victim = u8::try_from(at).unwrap();
                    load.pod(victim).is_none()
                        && load.judge.toll == 0
                        && load.active() == load.judge.wish
                        && !load.wants_to_move
                })
            }),
        ]
    }
}

/// Visits everything within the bounds: how many states there are.
///
/// # Errors
/// The promises that do not hold, each with the shortest way to where it is broken.
fn search(name: &str, bounds: Bounds) -> Result<usize, String> {
    let began = Instant::now();
    let product = Product::new(bounds.holds, bounds.checks.counted_at_lower);
    let model = Interleavings { bounds, product, settling: Settling::default() };
    let checker =
        model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (unique, generated) = (checker.unique_state_count(), checker.state_count());
    println!(
        "{name}: {unique} states ({generated} generated), depth {}, {} cycles run, {} memories, {:.1?}",
        checker.max_depth(),
        checker.model().product.runs(),
        checker.model().product.memories(),
        began.elapsed(),
    );
    let mut wrong = Vec::new();
    for (property, path) in checker.discoveries() {
        if property == FINISHES {
            continue;
        }
        let mut text = format!("{name}: not so: {property}\n");
        let last = path.last_state().clone();
        for (_, step) in path.into_vec() {
            text += &step.map_or_else(String::new, |step| format!("  {step:?}\n"));
        }
        let left = checker.model().settling.settles(
            &last,
            &checker.model().product,
            &checker.model().bounds,
        );
        text += &format!("  at the end: {last:?}\n  left: {left:?}\n");
        text += &format!("  memory: {:?}\n", checker.model().product.memory(last.store));
        wrong.push(text);
    }
    if checker.discovery(FINISHES).is_none() {
        wrong.push(format!("{name}: no run ends with all moves finished"));
    }
    if wrong.is_empty() { Ok(unique) } else { Err(wrong.join("\n")) }
}

/// One move, everything told apart, everybody else in small steps.
pub(super) const ONE: Bounds = Bounds {
    loads: 1,
    faults: 0,
    lag: 0,
    always_late: false,
    all_ages: true,
    faulty: Faulty::All,
    small_steps: true,
    within_cycles: true,
    checks: Checks::ALL,
    controllers: true,
    holds: false,
    calm: false,
};

/// Two moves that share budget, store, cycles and the node that they go to.
const TWO: Bounds = Bounds {
    loads: 2,
    lag: 1,
    all_ages: false,
    faulty: Faulty::Shared,
    small_steps: false,
    within_cycles: false,
    controllers: false,
    ..ONE
};

/// Searches, and fails when states go missing: a search that visits little proves little.
fn visit(name: &str, bounds: Bounds, at_least: usize) {
    match search(name, bounds) {
        Ok(states) => assert!(states >= at_least, "{name}: only {states} states"),
        Err(wrong) => panic!("{wrong}"),
    }
}

#[test]
fn one_move_and_one_fault() {
    visit("one move, one fault, every small step", Bounds { faults: 1, ..ONE }, 200_000);
}

#[test]
fn one_move_and_two_faults() {
    let bounds = Bounds {
        faults: 2,
        all_ages: false,
        small_steps: false,
        within_cycles: false,
        lag: 1,
        ..ONE
    };
    visit("one move, two faults, stalls among them", bounds, 400_000);
}

#[test]
fn one_move_under_late_watches() {
    let bounds = Bounds { faults: 1, lag: 1, always_late: true, controllers: false, ..COARSE };
    visit("one move, one fault, watches always late", bounds, 1_000_000);
}

#[test]
fn two_moves_and_two_faults() {
    visit("two moves, two faults, stalls among them", Bounds { faults: 2, ..TWO }, 1_000_000);
}

#[test]
fn one_move_with_a_held_minimum() {
    let bounds = Bounds { faults: 1, holds: true, controllers: false, ..COARSE };
    visit("one move, its minimum held, one fault", bounds, 700_000);
}

/// Further out, where that is asked for.
fn visit_if_long(name: &str, bounds: Bounds, at_least: usize) {
    if std::env::var("STORNX_MODEL").as_deref() == Ok("long") {
        visit(name, bounds, at_least);
    }
}

/// One move, two ages, larger steps.
const COARSE: Bounds = Bounds { all_ages: false, small_steps: false, ..ONE };

#[test]
fn long_one_move_and_three_faults() {
    let bounds = Bounds { faults: 3, lag: 1, within_cycles: false, controllers: false, ..COARSE };
    visit_if_long("one move, three faults, stalls among them", bounds, 12_000_000);
}

#[test]
fn long_one_move_and_two_faults_within_cycles() {
    let bounds = Bounds { faults: 2, ..COARSE };
    visit_if_long("one move, two faults, within cycles", bounds, 2_000_000);
}

#[test]
fn long_one_move_under_later_watches() {
    let bounds = Bounds { faults: 1, lag: 2, always_late: true, controllers: false, ..COARSE };
    visit_if_long("one move, one fault, watches up to two versions late", bounds, 1_500_000);
}

#[test]
fn long_one_move_under_late_watches() {
    let bounds = Bounds { faults: 1, lag: 1, always_late: true, controllers: false, ..ONE };
    let name = "one move, one fault, watches always late, every small step";
    visit_if_long(name, bounds, 6_000_000);
}

#[test]
fn long_one_move_with_a_held_minimum() {
    let bounds = Bounds { faults: 1, holds: true, controllers: false, ..ONE };
    visit_if_long("one move, its minimum held, one fault, every small step", bounds, 2_600_000);
}

#[test]
fn long_one_move_with_a_held_minimum_and_two_faults() {
    let bounds = Bounds {
        faults: 2,
        lag: 1,
        within_cycles: false,
        holds: true,
        controllers: false,
        ..COARSE
    };
    let name = "one move, its minimum held, two faults, stalls among them";
    visit_if_long(name, bounds, 2_900_000);
}

#[test]
fn long_one_move_with_a_held_minimum_under_late_watches() {
    let bounds = Bounds {
        faults: 1,
        lag: 1,
        always_late: true,
        within_cycles: false,
        holds: true,
        controllers: false,
        ..COARSE
    };
    let name = "one move, its minimum held, one fault, watches always late";
    visit_if_long(name, bounds, 1_900_000);
}

#[test]
fn long_two_moves_within_cycles() {
    let bounds = Bounds { faults: 1, within_cycles: true, faulty: Faulty::Most, ..TWO };
    visit_if_long("two moves, one fault of most kinds, within cycles", bounds, 1_000_000);
}

#[test]
fn long_two_moves_and_two_faults() {
    let bounds = Bounds { faults: 2, faulty: Faulty::Most, ..TWO };
    visit_if_long("two moves, two faults of most kinds", bounds, 4_500_000);
}

/// What the actuator makes sure of is needed: without any one of it a promise breaks. Without
/// the version at counting, that takes three faults: it has a walk of its own among the traces.
#[test]
fn every_check_of_the_actuator_is_needed() {
    let lean = Bounds { all_ages: false, small_steps: false, ..ONE };
    let late = Bounds { faults: 1, lag: 1, always_late: true, ..lean };
    let two = Bounds { faults: 2, within_cycles: false, ..lean };
    let held = Bounds { holds: true, ..two };
    let lean_behind = Bounds { faults: 1, ..lean };
    let all = Checks::ALL;
    let cases = [
        ("the count at closing", late, Checks { count_at_close: false, ..all }),
        ("who set it at lowering", late, Checks { owner_at_lower: false, ..all }),
        ("the mark at the surge", lean_behind, Checks { mark_at_surge: false, ..all }),
        ("the count of who is Ready", lean_behind, Checks { counted_at_lower: false, ..all }),
        ("the version of the minimum", held, Checks { version_at_minimum: false, ..all }),
        ("whose the minimum is", held, Checks { theirs_at_give_back: false, ..all }),
    ];
    for (name, bounds, checks) in cases {
        let name = format!("without {name}");
        let broken = search(&name, Bounds { checks, ..bounds }).expect_err("something breaks");
        let another = broken.contains(ANOTHER);
        let behind = !checks.mark_at_surge || !checks.counted_at_lower;
        assert!(another || !behind, "{name}: {broken}");
    }
}
