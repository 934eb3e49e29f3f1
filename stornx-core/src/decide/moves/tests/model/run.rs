//! The searches.

use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model, Property};

use super::{
    actors::{Bounds, Step, happen, steps},
    daemon::Checks,
    product::Product,
    properties::{Broken, Settling, enough_ready},
    world::State,
};

/// A world for the checker.
struct Interleavings {
    bounds: Bounds,
    product: Product,
    settling: Settling,
}

const READY: &str = "no write of ours takes a Ready endpoint that is needed";
const ENOUGH: &str = "as many are Ready as before, less what faults took";
const SURGE: &str = "one surge at most";
const COUNT: &str = "no count of others is overwritten, no second victim";
const BUDGET: &str = "disruption budgets are kept";
const CHECK: &str = "every plan passes its check";
const SETTLES: &str = "once faults stop, everything settles and nothing is left";
const FINISHES: &str = "every move can be finished";

impl Model for Interleavings {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds.loads, self.bounds.faults, self.bounds.always_late)]
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

/// What a search visited.
struct Visited {
    unique: usize,
}

/// Visits everything within the bounds; every promise must hold.
fn search(name: &str, bounds: Bounds) -> Result<Visited, String> {
    let began = Instant::now();
    let model =
        Interleavings { bounds, product: Product::new(), settling: Settling::default() };
    let mut checker = model.checker().threads(1).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let (unique, generated) = (checker.unique_state_count(), checker.state_count());
    println!(
        "{name}: {unique} states ({generated} generated), depth {}, {} cycles run, {} memories, {:.1?}",
        checker.max_depth(),
        checker.model().product.runs(),
        checker.model().product.memories(),
        began.elapsed(),
    );
    let _ = &mut checker;
    let mut wrong = Vec::new();
    for (property, path) in checker.discoveries() {
        if property == FINISHES {
            continue;
        }
        let mut text = format!("{name}: not so: {property}\n");
        let last = path.last_state().clone();
        for (state, step) in path.into_vec() {
            text += &format!("  {step:?}\n");
            if std::env::var_os("STORNX_MODEL_STATES").is_some() {
                text += &format!("      {state:?}\n");
            }
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
    if wrong.is_empty() { Ok(Visited { unique }) } else { Err(wrong.join("\n")) }
}

const ONE: Bounds =
    Bounds {
        loads: 1,
        faults: 0,
        lag: 0,
        always_late: false,
        all_ages: true,
        all_faults: true,
        small_steps: true,
        within_cycles: true,
        checks: Checks::ALL,
        calm: false,
    };

#[test]
fn explore() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let bounds = Bounds {
        loads: number("LOADS", 1) as usize,
        faults: number("FAULTS", 0) as u8,
        lag: number("LAG", 0) as usize,
        always_late: number("LATE", 0) > 0,
        all_ages: number("AGES", 1) > 0,
        all_faults: number("KINDS", 1) > 0,
        small_steps: number("SMALL", 1) > 0,
        within_cycles: number("WITHIN", 1) > 0,
        ..ONE
    };
    match search("explore", bounds) {
        Ok(visited) => println!("{}", visited.unique),
        Err(wrong) => panic!("{wrong}"),
    }
}
