//! Planner and checker agree: whatever the cluster, the settings and the memory, a plan
//! passes its check. The two share no code, so each is the other's oracle.

use std::collections::BTreeMap;

use stornx_core::{
    check::{Violation, check},
    decide::plan,
    plan::ActionKind,
    testing::{Case, cases, random_case},
};

/// Random worlds in which the planner has to agree with the checker.
const CASES: u64 = 20_000;

fn number_of_cases() -> u64 {
    cases(CASES, std::env::var("STORNX_CASES").ok().as_deref())
}

/// The rule of a violation: the name of its variant.
fn rule(violation: &Violation) -> String {
    let text = format!("{violation:?}");
    text.split([' ', '{']).next().unwrap_or_default().to_owned()
}

#[test]
fn every_plan_passes_its_check() {
    let mut kinds: BTreeMap<ActionKind, u64> = BTreeMap::new();
    // By rule: how often, and the first seed with its words.
    let mut broken: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for seed in 0..number_of_cases() {
        let Case { snapshot, policy, memory, now } = random_case(seed);
        let planned = plan(&snapshot, &policy, &memory, now);
        for action in &planned.plan.actions {
            *kinds.entry(action.kind()).or_insert(0) += 1;
        }
        for violation in check(&snapshot, &policy, &memory, &planned) {
            let first = || (0, format!("seed {seed}: {violation}"));
            broken.entry(rule(&violation)).or_insert_with(first).0 += 1;
        }
    }
    assert!(broken.is_empty(), "{broken:#?} in plans with {kinds:?}");
    assert_eq!(kinds.len(), 11, "every kind of action was planned: {kinds:?}");
}

#[test]
fn the_same_input_gives_the_same_plan() {
    for seed in 0..number_of_cases() / 10 {
        let Case { snapshot, policy, memory, now } = random_case(seed);
        let once = plan(&snapshot, &policy, &memory, now);
        assert_eq!(once, plan(&snapshot, &policy, &memory, now), "seed {seed}");
    }
}
