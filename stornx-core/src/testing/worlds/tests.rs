use super::*;

#[test]
fn random_worlds_can_be_decided_on() {
    for seed in 0..2000 {
        let case = random_case(seed);
        assert_eq!(case.snapshot.problems(), [], "seed {seed}");
        assert_eq!(case.policy.problems(), [], "seed {seed}");
    }
}

#[test]
fn random_worlds_are_reproducible_and_differ() {
    assert_eq!(random_case(7), random_case(7));
    assert_ne!(random_case(7), random_case(8));
}

#[test]
fn random_worlds_have_every_flag() {
    let cases: Vec<_> = (0..500).map(random_case).collect();
    let workloads = || cases.iter().flat_map(|case| &case.snapshot.workloads);
    assert!(workloads().any(|w| w.autoscaler.is_some() && w.budget.is_some()));
    assert!(workloads().any(|w| w.rollout == Rollout::Paused));
    assert!(workloads().any(|w| w.policy.opted_out) && workloads().any(|w| !w.managed));
    assert!(workloads().any(|w| w.constraints.pinned && w.desired > 0));
    assert!(cases.iter().any(|c| c.memory.workloads.values().any(|w| w.in_flight.is_some())));
    assert!(cases.iter().any(|c| c.snapshot.traffic.fresh().is_none()));
    assert!(cases.iter().any(|c| c.snapshot.mesh == Mesh::Absent));
}
