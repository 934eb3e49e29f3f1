//! Properties over random clusters: no action breaks a floor, nothing flaps.

use super::{change, scaled};
use crate::{
    decide::{
        ledger::Ledger,
        safety::{
            Safety,
            testing::{Dice, World, cases, id, pod, resources},
        },
        scale::decide,
    },
    model::{DisruptionBudget, PodPhase, Workload},
    plan::{Action, Plan, Planned},
    policy::MetricsType,
    report::{Report, Trigger, Why},
    units::Percent,
    view::{Remembered, View},
};

/// A random cluster with three workloads under random load.
fn random(dice: &mut Dice) -> World {
    let small = |dice: &mut Dice, end| u32::try_from(dice.below(end)).unwrap();
    let zones: Vec<usize> = (0..=dice.below(4)).map(|_| 1 + dice.below(3)).collect();
    let mut world = World::new(&zones);
    world.policy.scaler.metrics =
        [MetricsType::Cpu, MetricsType::Memory, MetricsType::Combined][dice.below(3)];
    let lower = 5 + small(dice, 60);
    world.policy.scaler.lower = Percent::saturating(f64::from(lower));
    world.policy.scaler.upper = Percent::saturating(f64::from(lower + 5 + small(dice, 35)));
    world.policy.scaler.max_step = 1 + small(dice, 6);
    world.policy.scaler.max_actions = 1 + small(dice, 4);
    world.policy.scaler.max_replicas = 3 + small(dice, 20);
    world.policy.scaler.min_replicas = 1 + small(dice, 3);
    world.policy.fault_tolerance.max_zones = 1 + small(dice, 4);
    world.policy.fault_tolerance.max_skew = 1 + small(dice, 3);
    world.policy.fault_tolerance.survive = Percent::saturating(f64::from(small(dice, 3)) * 50.0);
    let names: Vec<String> = world.snapshot.nodes.iter().map(|n| n.name.to_string()).collect();
    for name in ["v", "w", "x"] {
        let nodes: Vec<&str> =
            (0..1 + dice.below(12)).map(|_| names[dice.below(names.len())].as_str()).collect();
        let workload = world.workload(name, &nodes);
        // Large, so that sharing a load over replicas rounds to nothing.
        workload.requests = resources(100_000_000, 100_000_000);
        if dice.one_in(4) {
            workload.budget = Some(DisruptionBudget { min_ready: small(dice, 12) });
        }
        if dice.one_in(6) {
            workload.policy.opted_out = true;
        }
        if dice.one_in(6) {
            workload.constraints.max_zone_skew = Some(1 + small(dice, 3));
        }
        let load = [dice.below(4) * 10, dice.below(12) * 10];
        let load = load.map(|load| u64::try_from(load + dice.below(10)).unwrap() * 1_000_000);
        let at = dice.below(2);
        world.usage_of_all(name, load[at], load[1 - at]);
        if dice.one_in(3) {
            world.pod_traffic(&format!("{name}-0"), 5.0, Some(500.0));
        }
    }
    for node in &mut world.snapshot.nodes {
        node.allocatable = resources(100_000_000 * 12, 100_000_000 * 12);
        node.schedulable = !dice.one_in(10);
    }
    world
}

fn ready_by_zone(world: &World, workload: &Workload) -> Vec<u32> {
    let view = world.view();
    let zones = view.zones.iter().map(|zone| zone.name);
    let zone = |pod: &crate::model::Pod| {
        let node = world.snapshot.nodes.iter().find(|node| Some(&node.name) == pod.node.as_ref());
        node.map(|node| node.zone.clone())
    };
    let count = |wanted| workload.ready().filter(|pod| zone(pod).as_ref() == Some(wanted)).count();
    zones.map(|zone| u32::try_from(count(zone)).unwrap()).collect()
}

/// The world after an action, all new replicas Ready, each load shared evenly by its
/// replicas and changed by a factor.
fn after(world: &World, action: &Action, noise: f64) -> World {
    let mut next = world.clone();
    let name = action.workload().unwrap().name().to_owned();
    let workload = next.of(&name);
    match action {
        Action::AddReplicas { nodes, .. } => {
            for (at, node) in nodes.iter().enumerate() {
                let name = format!("{name}-new{at}");
                workload.pods.push(pod(&name, Some(node.as_str()), PodPhase::Ready));
            }
        }
        Action::RemoveReplicas { victims, .. } => {
            workload.pods.retain(|pod| !victims.contains(&pod.name));
        }
        other => panic!("not a scale action: {other}"),
    }
    workload.desired = u32::try_from(workload.pods.len()).unwrap();
    let replicas = workload.pods.len();
    let before = world.snapshot.usage.fresh().unwrap();
    let prefix = format!("{name}-");
    let (mut cpu, mut memory) = (0, 0);
    for usage in before.iter().filter(|usage| usage.pod.name().starts_with(&prefix)) {
        cpu += usage.cpu.get();
        memory += usage.memory.get();
    }
    let replicas = u64::try_from(replicas).unwrap();
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let share = |load: u64| (load as f64 * noise / replicas as f64) as u64;
    next.usage_of_all(&name, share(cpu), share(memory));
    next
}

#[test]
fn no_action_breaks_a_floor() {
    let mut dice = Dice::new(11);
    let (mut ups, mut downs) = (0, 0);
    for case in 0..cases(10_000) {
        let world = random(&mut dice);
        let scaled = scaled(&world);
        let policy = &world.policy;
        assert!(scaled.proposals.len() <= policy.scaler.max_actions as usize, "case {case}");
        for proposal in &scaled.proposals {
            let name = proposal.action.workload().unwrap().name();
            let workload = world.snapshot.workloads.iter().find(|w| w.id == id(name)).unwrap();
            assert!(!workload.policy.opted_out, "case {case}");
            let next = after(&world, &proposal.action, 1.0);
            let then = next.snapshot.workloads.iter().find(|w| w.id == id(name)).unwrap();
            assert!(then.desired.abs_diff(workload.desired) <= policy.scaler.max_step);
            let (before, later) = (ready_by_zone(&world, workload), ready_by_zone(&next, then));
            let held = |counts: &[u32]| counts.iter().map(|c| u32::from(*c > 0)).sum::<u32>();
            let most = held(&before).max(policy.fault_tolerance.max_zones);
            assert!(held(&later) <= most, "case {case}");
            if then.desired > workload.desired {
                ups += 1;
                assert!(then.desired <= policy.scaler.max_replicas, "case {case}");
                continue;
            }
            downs += 1;
            assert!(then.desired >= policy.scaler.min_replicas, "case {case}");
            let budget = workload.budget.map_or(0, |budget| budget.min_ready);
            assert!(then.desired >= budget, "case {case}");
            let least = held(&before).min(policy.fault_tolerance.max_zones);
            assert!(held(&later) >= least, "case {case}");
            let left = |counts: &[u32]| counts.iter().sum::<u32>() - counts.iter().max().unwrap();
            let usage = world.snapshot.usage.fresh().unwrap();
            #[allow(clippy::cast_precision_loss)]
            let demand: f64 = usage
                .iter()
                .filter(|u| workload.pods.iter().any(|pod| pod.name == u.pod))
                .map(|u| u.cpu.get() as f64 / 1e8)
                .sum();
            let enough = demand * policy.fault_tolerance.survive.get() / 100.0;
            assert!(
                left(&later) >= left(&before) || f64::from(left(&later)) >= enough - 1e-6,
                "case {case}"
            );
        }
    }
    assert!(ups > 1000 && downs > 500, "{ups} up, {downs} down");
}

/// After an action, the plan for the same load (give or take 4 %, less than half the
/// margin) does not go the other way.
#[test]
fn nothing_flaps() {
    let mut dice = Dice::new(12);
    let (mut ups, mut downs) = (0, 0);
    for case in 0..cases(10_000) {
        let world = random(&mut dice);
        #[allow(clippy::cast_precision_loss)]
        let noise = 0.96 + 0.08 * dice.below(101) as f64 / 100.0;
        for proposal in scaled(&world).proposals {
            let up = matches!(proposal.action, Action::AddReplicas { .. });
            if up {
                ups += 1
            } else {
                downs += 1
            }
            let next = after(&world, &proposal.action, noise);
            let name = proposal.action.workload().unwrap().name();
            let below_minimum = matches!(
                &proposal.report.why,
                Why::Scale(why) if why.trigger == Trigger::BelowMinimum
            );
            if let Some((by, _)) = change(&next, name).filter(|_| !below_minimum) {
                assert_eq!(by > 0, up, "case {case}, noise {noise}: {}", proposal.action);
            }
        }
    }
    assert!(ups > 1000 && downs > 500, "{ups} up, {downs} down");
}

/// Whole plans over random snapshots of every kind: what is decided here passes the
/// independent checker.
#[test]
fn the_checker_agrees() {
    let mut actions = 0;
    for seed in 0..cases(2_000) {
        let case = crate::testing::random_case(seed);
        let view = View::new(&case.snapshot, &case.policy, case.now);
        let memory = Remembered::of(&view, &case.memory);
        let safety = Safety::assess(&view, &memory);
        let mut ledger = Ledger::new(&view, &memory);
        let scaled = decide(&view, &safety, &memory, &mut ledger);
        let mut planned = Planned {
            plan: Plan { at: case.now, ..Plan::default() },
            report: Report { at: case.now, ..Report::default() },
        };
        for proposal in scaled.proposals {
            planned.plan.actions.push(proposal.action);
            planned.report.actions.push(proposal.report);
        }
        actions += planned.plan.actions.len();
        let violations = crate::check::check(&case.snapshot, &case.policy, &case.memory, &planned);
        assert!(violations.is_empty(), "seed {seed}: {violations:#?}");
    }
    assert!(actions > 500, "{actions} actions");
}
