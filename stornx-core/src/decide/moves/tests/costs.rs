//! The cost of a layout: what changes by one replica equals what is computed anew, and
//! splits keep their promises.

use super::toy::{Toy, random};
use crate::{
    decide::{
        moves::{
            objective::{Depth, Inkling, Objective, Shift, Trials, waiting},
            split::{Ability, Pair, Router, Splitting, pairs_by_cost, split},
        },
        safety::{
            Safety,
            testing::{Dice, World, cases, index},
        },
    },
    units::Percent,
    view::{NodeIndex, Remembered, View},
};

/// A random shift of a serving replica.
fn random_shift(view: &View<'_>, dice: &mut Dice) -> Option<(Shift, usize)> {
    let at = dice.below(view.workloads.len());
    let pods = &view.workloads[at].pods;
    let pod = dice.below(pods.len());
    let shift = Shift {
        workload: crate::view::WorkloadIndex::new(at),
        from: pods[pod].node?,
        to: NodeIndex::new(dice.below(view.nodes.len())),
    };
    (shift.from != shift.to).then_some((shift, pod))
}

/// What the layout of a world costs, with the facts that it is reckoned from.
fn objective<'v>(view: &'v View<'v>, world: &World) -> (Safety, Objective<'v>) {
    let memory = Remembered::of(view, &world.memory);
    let safety = Safety::assess(view, &memory);
    let objective = Objective::new(view, &safety, &memory);
    (safety, objective)
}

fn total(toy: &Toy) -> f64 {
    objective(&toy.world.view(), &toy.world).1.total()
}

/// A random world, in some cases with edges or a mesh of an unusual kind.
fn odd(dice: &mut Dice) -> Toy {
    let mut toy = random(dice);
    if dice.one_in(3) {
        // A cycle, a call to itself, and a pair that calls each other.
        toy.world.edge("s1", "s0", &[("a", "a", 30.0)]);
        toy.world.edge("s1", "s1", &[("a", "a", 10.0)]);
    }
    if dice.one_in(4) {
        toy.world.snapshot.mesh = crate::model::Mesh::Absent;
    }
    toy
}

#[test]
fn a_change_costs_what_the_new_layout_costs() {
    for seed in 0..cases(400) {
        let mut dice = Dice::new(seed);
        let mut toy = odd(&mut dice);
        let (before, expected) = {
            let view = toy.world.view();
            let (_, mut objective) = objective(&view, &toy.world);
            let before = objective.total();
            let Some((shift, pod)) = random_shift(&view, &mut dice) else { continue };
            let change = objective.shift(shift, Depth::All);
            let expected = objective.total();
            assert!((before + change - expected).abs() < 1e-6 * before.max(1.0));
            assert!((objective.recomputed() - expected).abs() < 1e-6 * before.max(1.0));
            objective.take_back();
            assert!(objective.total().to_bits() == before.to_bits(), "seed {seed}");
            assert!((objective.recomputed() - before).abs() < 1e-6 * before.max(1.0));
            // Once more from the restored state: the same.
            objective.shift(shift, Depth::All);
            assert!((objective.total() - expected).abs() < 1e-9 * before.max(1.0));
            let name = view.workloads[shift.workload.at()].pods[pod].pod.name.clone();
            let node = view.nodes[shift.to.at()].node.name.clone();
            (before, (expected, name, node))
        };
        let (expected, name, node) = expected;
        let pods = toy.world.snapshot.workloads.iter_mut().flat_map(|w| &mut w.pods);
        pods.filter(|pod| pod.name == name).for_each(|pod| pod.node = Some(node.clone()));
        let anew = total(&toy);
        assert!((anew - expected).abs() < 1e-6 * before.max(1.0), "seed {seed}: {anew} {expected}");
    }
}

#[test]
fn a_world_that_looks_the_same_is_one_of_its_own() {
    for seed in 0..cases(400) {
        let mut dice = Dice::new(seed);
        let toy = odd(&mut dice);
        let view = toy.world.view();
        let (safety, mut objective) = objective(&view, &toy.world);
        if let Some((shift, _)) = random_shift(&view, &mut dice) {
            objective.shift(shift, Depth::All);
            objective.take_back();
        }
        let before = objective.contents();
        let inkling = Inkling(seed % 4);
        let mut world = objective.lookalike(&safety, inkling);
        let mut copy = objective.lookalike_of_copy(&safety, inkling);
        assert_eq!(world.contents(), copy.contents(), "seed {seed}");
        let looks = world.contents();
        if let Some((shift, _)) = random_shift(&view, &mut dice) {
            world.shift(shift, Depth::All);
            copy.shift(shift, Depth::All);
            assert_eq!(world.contents(), copy.contents(), "seed {seed}, {shift:?}");
            assert_ne!(world.contents(), looks, "seed {seed}, {shift:?}");
            assert_eq!(objective.contents(), before, "seed {seed}, {shift:?}");
            world.take_back();
            assert_eq!(world.contents(), looks, "seed {seed}, {shift:?}");
        }
    }
}

#[test]
fn a_trial_says_to_the_last_bit_what_the_change_does() {
    let mut trials = Trials::default();
    for seed in 0..cases(400) {
        let mut dice = Dice::new(seed);
        let toy = odd(&mut dice);
        let view = toy.world.view();
        let (_, mut objective) = objective(&view, &toy.world);
        for _ in 0..4 {
            // All nodes of its replicas to all nodes, so that the ends are used again.
            let Some((Shift { workload, .. }, _)) = random_shift(&view, &mut dice) else {
                continue;
            };
            trials.of(&objective, workload);
            let places: Vec<NodeIndex> =
                objective.places(workload).iter().map(|(node, _)| *node).collect();
            for from in places {
                for to in (0..view.nodes.len()).map(NodeIndex::new).filter(|to| *to != from) {
                    let shift = Shift { workload, from, to };
                    let trial = trials.shift(&objective, shift);
                    let own = objective.service_cost(workload);
                    let total = objective.shift(shift, Depth::Neighbours);
                    let own = objective.service_cost(workload) - own;
                    objective.take_back();
                    assert_eq!(trial.total.to_bits(), total.to_bits(), "seed {seed}, {shift:?}");
                    assert_eq!(trial.own.to_bits(), own.to_bits(), "seed {seed}, {shift:?}");
                }
            }
            // The next one starts from another layout, whose sums have a history.
            if let Some((shift, _)) = random_shift(&view, &mut dice)
                && objective.places(shift.workload).iter().any(|(node, _)| *node == shift.from)
            {
                objective.shift(shift, Depth::All);
            }
        }
    }
}

#[test]
fn travel_is_requests_times_round_trips() {
    let mut world = World::new(&[2, 2]);
    world.workload("gate", &["a0"]).managed = false;
    world.workload("w", &["a0", "b0"]);
    world.edge("gate", "w", &[("a", "a", 100.0)]);
    world.snapshot.mesh = crate::model::Mesh::Absent;
    let view = world.view();
    let (_, mut objective) = objective(&view, &world);
    // Half of it stays on the node (0.05 ms), half goes to the other zone (1 ms).
    assert!((objective.total() - (50.0 * 0.05 + 50.0 * 1.0)).abs() < 1e-9);
    let node = |name: &str| view.node(&name.parse().unwrap()).unwrap();
    let shift = Shift { workload: index(&view, "w"), from: node("b0"), to: node("a1") };
    // The other half now goes to another node of the zone (0.3 ms).
    let change = objective.shift(shift, Depth::All);
    assert!((change - 50.0 * (0.3 - 1.0)).abs() < 1e-9);
}

#[test]
fn demand_follows_the_replicas_that_serve_it() {
    let mut world = World::new(&[2, 2]);
    world.workload("gate", &["a0"]).managed = false;
    world.workload("front", &["b0"]);
    world.workload("back", &["a1"]);
    world.edge("gate", "front", &[("a", "b", 100.0)]);
    world.edge("front", "back", &[("b", "a", 100.0)]);
    let view = world.view();
    let (_, mut objective) = objective(&view, &world);
    assert!((objective.total() - 200.0).abs() < 1e-9);
    let node = |name: &str| view.node(&name.parse().unwrap()).unwrap();
    let shift = Shift { workload: index(&view, "front"), from: node("b0"), to: node("a0") };
    objective.shift(shift, Depth::Neighbours);
    // On the node of the gate, one zone with the back.
    assert!((objective.total() - (100.0 * 0.05 + 100.0 * 0.3)).abs() < 1e-9);
}

#[test]
fn waiting_grows_convexly() {
    let curve: Vec<f64> = (0..300).map(|at| waiting(f64::from(at) / 200.0)).collect();
    assert!(curve[..120].iter().all(|wait| *wait == 0.0));
    assert!(curve[122..].iter().all(|wait| *wait > 0.0));
    for three in curve.windows(3) {
        assert!(three[2] - three[1] >= three[1] - three[0] - 1e-9);
    }
}

/// A random splitting problem.
struct Problem {
    demand: Vec<f64>,
    counts: Vec<f64>,
    replica: Option<Ability>,
    shares: Vec<f64>,
}

impl Problem {
    fn random(dice: &mut Dice, pairs: &[Pair], zones: usize, router: Router) -> Self {
        let demand: Vec<f64> = (0..zones).map(|_| dice.below(100) as f64).collect();
        let counts: Vec<f64> = (0..zones).map(|_| dice.below(4) as f64).collect();
        let cap = 1.0 + dice.below(60) as f64;
        let calm = cap * (1.0 + dice.below(10) as f64) / 10.0;
        let waiting = dice.below(30) as f64 / 10.0;
        let replica = (!dice.one_in(3)).then_some(Ability { calm, cap, waiting });
        let with = Splitting { router, pairs, replica, reserve: Percent::saturating(3.0) };
        let (mut scratch, mut shares) = (vec![0.0; 3 * zones], vec![0.0; zones * zones]);
        split(&with, &demand, &counts, &mut scratch, &mut shares);
        Self { demand, counts, replica, shares }
    }
}

#[test]
fn splits_go_to_replicas_and_nowhere_else() {
    for seed in 0..cases(5_000) {
        let mut dice = Dice::new(seed);
        let zones = 1 + dice.below(5);
        let world = World::new(&vec![1; zones]);
        let pairs = pairs_by_cost(&world.view());
        let router = [Router::Ours, Router::OwnZoneFirst, Router::ByReplicas][dice.below(3)];
        let problem = Problem::random(&mut dice, &pairs, zones, router);
        let expected = if problem.counts.iter().sum::<f64>() > 0.0 { 1.0 } else { 0.0 };
        for row in problem.shares.chunks_exact(zones) {
            assert!((row.iter().sum::<f64>() - expected).abs() < 1e-9, "seed {seed}");
            let empty = row.iter().zip(&problem.counts).filter(|(_, count)| **count == 0.0);
            assert!(empty.map(|(share, _)| share).all(|share| *share == 0.0), "seed {seed}");
        }
    }
}

/// What a split costs in travel and waiting, by the tiers that it fills.
fn cost(problem: &Problem, pairs: &[Pair], replica: Ability) -> f64 {
    let zones = problem.counts.len();
    let mut cost = 0.0;
    for pair in pairs {
        let share = problem.shares[pair.from * zones + pair.to];
        cost += problem.demand[pair.from] * share * pair.cost;
    }
    for to in 0..zones {
        let served: f64 =
            (0..zones).map(|from| problem.demand[from] * problem.shares[from * zones + to]).sum();
        assert!(served <= problem.counts[to] * replica.cap + 1e-6, "above the cap");
        cost += (served - problem.counts[to] * replica.calm).max(0.0) * replica.waiting;
    }
    cost
}

#[test]
fn splits_are_nearly_the_cheapest() {
    let (mut compared, mut gaps) = (0.0, 0.0);
    for seed in 0..cases(1_500) {
        let mut dice = Dice::new(seed);
        let zones = 2 + dice.below(3);
        let world = World::new(&vec![1; zones]);
        let pairs = pairs_by_cost(&world.view());
        let problem = Problem::random(&mut dice, &pairs, zones, Router::Ours);
        let Some(replica) = problem.replica else { continue };
        let Some(optimum) = optimum(&problem, &pairs, replica) else { continue };
        if optimum <= 0.0 {
            continue; // Nobody calls.
        }
        let gap = cost(&problem, &pairs, replica) / optimum - 1.0;
        assert!((-1e-6..0.4).contains(&gap), "seed {seed}: {gap}");
        if replica.waiting == 0.0 {
            assert!(gap < 1e-6, "seed {seed}: without waiting it is exact, not {gap}");
        }
        compared += 1.0;
        gaps += gap;
    }
    assert!(compared > 200.0, "{compared}");
    assert!(gaps / compared < 0.01, "{}", gaps / compared);
}

/// The least cost by linear programming; `None` when nothing is feasible.
fn optimum(problem: &Problem, pairs: &[Pair], replica: Ability) -> Option<f64> {
    use good_lp::{Expression, Solution, SolverModel, constraint, microlp, variable, variables};
    let zones = problem.counts.len();
    let total: f64 = problem.demand.iter().sum();
    variables! { vars: }
    // By caller zone, destination and tier.
    let flows: Vec<[good_lp::Variable; 2]> = pairs
        .iter()
        .map(|_| [vars.add(variable().min(0.0)), vars.add(variable().min(0.0))])
        .collect();
    let mut objective = Expression::from(0.0);
    for (pair, flow) in pairs.iter().zip(&flows) {
        objective += pair.cost * flow[0] + (pair.cost + replica.waiting) * flow[1];
    }
    let mut model = vars.minimise(objective.clone()).using(microlp);
    for from in 0..zones {
        let sum: Expression = pairs
            .iter()
            .zip(&flows)
            .filter(|(pair, _)| pair.from == from)
            .map(|(_, flow)| flow[0] + flow[1])
            .sum();
        model = model.with(constraint!(sum == problem.demand[from]));
    }
    for to in 0..zones {
        let tiers = [replica.calm, replica.cap - replica.calm];
        if problem.counts[to] > 0.0 && problem.counts[to] * replica.calm < 0.03 * total {
            return None; // The reserve fills more than what is calm: not what is compared.
        }
        for (tier, room) in tiers.into_iter().enumerate() {
            let into = pairs.iter().zip(&flows).filter(|(pair, _)| pair.to == to);
            let sum: Expression = into.map(|(_, flow)| Expression::from(flow[tier])).sum();
            model = model.with(constraint!(sum <= problem.counts[to] * room));
        }
    }
    for (pair, flow) in pairs.iter().zip(&flows).filter(|(p, _)| problem.counts[p.to] > 0.0) {
        model = model.with(constraint!(flow[0] + flow[1] >= 0.03 * problem.demand[pair.from]));
    }
    let solution = model.solve().ok()?;
    Some(solution.eval(objective))
}
