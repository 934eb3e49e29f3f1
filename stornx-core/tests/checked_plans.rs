//! Planner and checker agree: whatever the cluster, the settings and the memory, a plan
//! passes its check. The two share no code, so each is the other's oracle.

use std::collections::BTreeMap;

use stornx_core::{
    check::check,
    decide::plan,
    plan::ActionKind,
    testing::{Case, cases, random_case},
};

/// Random worlds in which the planner has to agree with the checker.
const CASES: u64 = 20_000;

fn number_of_cases() -> u64 {
    cases(CASES, std::env::var("STORNX_CASES").ok().as_deref())
}

#[test]
fn every_plan_passes_its_check() {
    let mut kinds: BTreeMap<ActionKind, u64> = BTreeMap::new();
    for seed in 0..number_of_cases() {
        let Case { snapshot, policy, memory, now } = random_case(seed);
        let planned = plan(&snapshot, &policy, &memory, now);
        for action in &planned.plan.actions {
            *kinds.entry(action.kind()).or_insert(0) += 1;
        }
        let violations = check(&snapshot, &policy, &memory, &planned);
        let text: Vec<_> = violations.iter().map(ToString::to_string).collect();
        assert!(violations.is_empty(), "seed {seed}: {text:#?}\n{:#?}", planned.plan);
    }
    println!("{kinds:?}");
}

#[test]
fn the_same_input_gives_the_same_plan() {
    for seed in 0..number_of_cases() / 10 {
        let Case { snapshot, policy, memory, now } = random_case(seed);
        let once = plan(&snapshot, &policy, &memory, now);
        assert_eq!(once, plan(&snapshot, &policy, &memory, now), "seed {seed}");
    }
}
