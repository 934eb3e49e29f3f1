//! The flow against an exact LP solver, against its own optimality conditions, and on
//! degenerate instances.

use good_lp::{
    Expression, ProblemVariables, Solution, SolverModel, Variable, constraint, microlp, variable,
};

use super::{
    super::testing::{Random, cases},
    *,
};

impl Problem {
    /// Excess (load) and cost (load x milliseconds) of given flows.
    fn value(&self, flow: &[f64]) -> (f64, f64) {
        let destinations = self.ends.len();
        let travel: f64 = flow.iter().zip(&self.cost).map(|(flow, cost)| flow * cost).sum();
        let (mut excess, mut congestion) = (0.0, 0.0);
        for destination in 0..destinations {
            let mut load: f64 = flow.iter().skip(destination).step_by(destinations).sum();
            for segment in &self.segments[self.segments_of(destination)] {
                let here = load.min(segment.width);
                congestion += here * segment.slope;
                if segment.excess {
                    excess += here;
                }
                load -= here;
                if load <= 0.0 {
                    break;
                }
            }
        }
        (excess, travel + congestion)
    }
}

/// A random instance: up to 12 callers by 12 destinations, up to 5 normal and 2 excess
/// segments a destination, costs that often tie, demands and capacities that are often
/// zero, total demand from far below to far above total capacity.
fn instance(random: &mut Random) -> Problem {
    let (callers, destinations) = (random.range(1, 12), random.range(1, 12));
    let tied = random.one_in(4);
    let mut problem = Problem::default();
    for _ in 0..callers {
        problem.demand.push(if random.one_in(6) { 0.0 } else { random.unit() * 100.0 });
    }
    let total: f64 = problem.demand.iter().sum();
    let mean = total / destinations as f64 * (0.5 + random.unit() * 2.0);
    for _ in 0..destinations {
        let capacity = if random.one_in(8) { 0.0 } else { mean * random.unit() * 2.0 };
        let mut slopes: Vec<f64> = (0..random.range(1, 5)).map(|_| cost(random, tied)).collect();
        slopes.sort_by(f64::total_cmp);
        let share = capacity / slopes.len() as f64;
        let normal =
            slopes.iter().map(|slope| Segment { width: share, slope: *slope, excess: false });
        let steep = 20.0 + random.unit() * 20.0;
        let excess = [
            Segment { width: mean * 0.2, slope: steep, excess: true },
            Segment { width: f64::INFINITY, slope: steep * 2.0, excess: true },
        ];
        problem.add_destination(normal.chain(excess).collect::<Vec<_>>());
    }
    let reserve = if random.one_in(2) { random.unit() / destinations as f64 } else { 0.0 };
    for caller in 0..callers {
        for _ in 0..destinations {
            problem.cost.push(cost(random, tied));
            problem.least.push(problem.demand[caller] * reserve);
        }
    }
    problem
}

fn cost(random: &mut Random, tied: bool) -> f64 {
    if tied { random.range(0, 3) as f64 } else { random.unit() * 30.0 }
}

struct Lp {
    variables: ProblemVariables,
    flow: Vec<Variable>,
    fills: Vec<Variable>,
}

fn lp(problem: &Problem) -> Lp {
    let mut variables = ProblemVariables::new();
    let flow = problem.least.iter().map(|least| variables.add(variable().min(*least))).collect();
    let fills = problem
        .segments
        .iter()
        .map(|segment| {
            let fill = variable().min(0.0);
            variables.add(if segment.width.is_finite() { fill.max(segment.width) } else { fill })
        })
        .collect();
    Lp { variables, flow, fills }
}

fn excess_of(problem: &Problem, fills: &[Variable]) -> Expression {
    problem.segments.iter().zip(fills).filter(|(s, _)| s.excess).map(|(_, fill)| *fill).sum()
}

fn cost_of(problem: &Problem, lp: &Lp) -> Expression {
    let travel = problem.cost.iter().zip(&lp.flow).map(|(cost, flow)| *cost * *flow);
    let filled = problem.segments.iter().zip(&lp.fills).map(|(s, fill)| s.slope * *fill);
    travel.chain(filled).sum()
}

fn minimum(problem: &Problem, lp: Lp, objective: Expression, excess: Option<f64>) -> f64 {
    let destinations = problem.ends.len();
    let Lp { variables, flow, fills } = lp;
    let mut model = variables.minimise(objective.clone()).using(microlp);
    for (caller, demand) in problem.demand.iter().enumerate() {
        let row = &flow[caller * destinations..(caller + 1) * destinations];
        model = model.with(constraint!(row.iter().sum::<Expression>() == *demand));
    }
    for destination in 0..destinations {
        let load: Expression = flow.iter().skip(destination).step_by(destinations).sum();
        let filled: Expression = fills[problem.segments_of(destination)].iter().sum();
        model = model.with(constraint!(load == filled));
    }
    if let Some(excess) = excess {
        model = model.with(constraint!(excess_of(problem, &fills) <= excess));
    }
    model.solve().unwrap().eval(objective)
}

/// Least excess, then least cost at that excess.
fn optimum(problem: &Problem) -> (f64, f64) {
    let total: f64 = problem.demand.iter().sum();
    let model = lp(problem);
    let objective = excess_of(problem, &model.fills);
    let excess = minimum(problem, model, objective, None).max(0.0);
    let model = lp(problem);
    let objective = cost_of(problem, &model);
    (excess, minimum(problem, model, objective, Some(excess + total * 1e-9)))
}

fn assert_serves_every_demand(problem: &Problem, flow: &[f64]) {
    let destinations = problem.ends.len();
    let total: f64 = problem.demand.iter().sum();
    for (caller, demand) in problem.demand.iter().enumerate() {
        let sent: f64 = flow[caller * destinations..(caller + 1) * destinations].iter().sum();
        assert!((sent - demand).abs() <= total * 1e-9, "{sent} of {demand}");
    }
    for (flow, least) in flow.iter().zip(&problem.least) {
        assert!(*flow >= least - total * 1e-9, "{flow} < {least}");
    }
}

#[test]
fn equals_an_exact_lp_solver() {
    let mut random = Random::new(20);
    let mut solver = Solver::default();
    let mut overloaded = 0;
    for _ in 0..cases(10_000) {
        let problem = instance(&mut random);
        let flow = solver.solve(&problem).to_vec();
        assert_serves_every_demand(&problem, &flow);
        let (excess, cost) = problem.value(&flow);
        let (least_excess, least_cost) = optimum(&problem);
        let total: f64 = problem.demand.iter().sum();
        overloaded += usize::from(least_excess > total * 1e-6);
        assert!((excess - least_excess).abs() <= 1e-6 * total.max(1.0), "{excess} {least_excess}");
        assert!(
            (cost - least_cost).abs() <= 1e-6 * least_cost.max(1.0),
            "{cost} is not {least_cost}: {problem:?}"
        );
    }
    // The instances cover both: enough capacity and too little.
    assert!((1_000..9_000).contains(&overloaded), "{overloaded}");
}

/// Optimality without any solver: no cycle of shifting flow between destinations, each
/// shift done by a caller that can, saves anything.
#[test]
fn no_exchange_between_callers_saves_anything() {
    let mut random = Random::new(21);
    let mut solver = Solver::default();
    for _ in 0..cases(20_000) {
        let problem = instance(&mut random);
        let flow = solver.solve(&problem).to_vec();
        let (callers, destinations) = (problem.demand.len(), problem.ends.len());
        let total: f64 = problem.demand.iter().sum();
        if total <= 0.0 {
            continue;
        }
        // Cheapest way to shift one unit from destination j to k, callers compensating.
        let mut shift = vec![vec![f64::INFINITY; destinations]; destinations];
        for caller in 0..callers {
            for j in 0..destinations {
                let route = caller * destinations + j;
                if flow[route] - problem.least[route] <= total * 1e-8 {
                    continue;
                }
                for (k, shift) in shift[j].iter_mut().enumerate() {
                    let extra = problem.cost[caller * destinations + k] - problem.cost[route];
                    *shift = shift.min(extra);
                }
            }
        }
        for via in 0..destinations {
            for j in 0..destinations {
                for k in 0..destinations {
                    shift[j][k] = shift[j][k].min(shift[j][via] + shift[via][k]);
                }
            }
        }
        // What the last unit of load at a destination costs, and what the next one would.
        let margins: Vec<_> = (0..destinations)
            .map(|destination| {
                let load: f64 = flow.iter().skip(destination).step_by(destinations).sum();
                let segments = &problem.segments[problem.segments_of(destination)];
                let at = |load: f64| {
                    let mut filled = 0.0;
                    for segment in segments {
                        filled += segment.width;
                        if load < filled {
                            return (segment.excess, segment.slope);
                        }
                    }
                    unreachable!("the last segment is infinite")
                };
                (at((load - total * 1e-8).max(0.0)), at(load + total * 1e-8))
            })
            .collect();
        for j in 0..destinations {
            assert!(shift[j][j] >= -1e-6, "a cycle saves {}", shift[j][j]);
            for k in 0..destinations {
                let (last, next) = (margins[j].0, margins[k].1);
                if shift[j][k].is_infinite() {
                    continue;
                }
                assert!(next.0 >= last.0, "excess could be avoided");
                let saving = last.1 - next.1 - shift[j][k];
                let better = next.0 == last.0 && saving > 1e-6;
                assert!(!better, "{j} to {k} saves {saving}");
            }
        }
    }
}

#[test]
fn no_destination_goes_above_its_capacity_when_there_is_another_answer() {
    let mut random = Random::new(22);
    let mut solver = Solver::default();
    let mut feasible = 0;
    for _ in 0..cases(100_000) {
        let mut problem = instance(&mut random);
        // Every caller reaches every destination, so without a reserve there is an
        // answer exactly when capacities suffice in total.
        problem.least.iter_mut().for_each(|least| *least = 0.0);
        let normal: f64 =
            problem.segments.iter().filter(|s| !s.excess).map(|segment| segment.width).sum();
        let total: f64 = problem.demand.iter().sum();
        let flow = solver.solve(&problem).to_vec();
        let (excess, _) = problem.value(&flow);
        feasible += usize::from(total <= normal);
        assert!((excess - (total - normal).max(0.0)).abs() <= 1e-9 * total.max(1.0));
    }
    assert!(feasible > 10_000);
}

#[test]
fn the_order_of_callers_and_destinations_does_not_change_the_cost() {
    let mut random = Random::new(23);
    let mut solver = Solver::default();
    for _ in 0..cases(20_000) {
        let problem = instance(&mut random);
        let (callers, destinations) = (problem.demand.len(), problem.ends.len());
        let mut mirrored = Problem::default();
        for destination in (0..destinations).rev() {
            mirrored.add_destination(problem.segments[problem.segments_of(destination)].to_vec());
        }
        for caller in (0..callers).rev() {
            mirrored.demand.push(problem.demand[caller]);
            for destination in (0..destinations).rev() {
                mirrored.cost.push(problem.cost[caller * destinations + destination]);
                mirrored.least.push(problem.least[caller * destinations + destination]);
            }
        }
        let one = problem.value(solver.solve(&problem));
        let other = mirrored.value(solver.solve(&mirrored));
        let total: f64 = problem.demand.iter().sum();
        assert!((one.0 - other.0).abs() <= 1e-9 * total.max(1.0));
        assert!((one.1 - other.1).abs() <= 1e-9 * one.1.max(1.0), "{one:?} {other:?}");
    }
}

#[test]
fn the_same_problem_gives_the_same_flows() {
    let mut random = Random::new(24);
    for _ in 0..1_000 {
        let problem = instance(&mut random);
        // A fresh and a used solver.
        let mut used = Solver::default();
        used.solve(&instance(&mut random));
        assert_eq!(Solver::default().solve(&problem), used.solve(&problem));
    }
}

#[test]
fn nothing_to_send_sends_nothing() {
    let mut problem = Problem::default();
    assert!(Solver::default().solve(&problem).is_empty());
    problem.demand = vec![0.0, 0.0];
    problem.cost = vec![1.0, 2.0];
    problem.least = vec![0.0, 0.0];
    problem.add_destination([Segment { width: f64::INFINITY, slope: 1.0, excess: true }]);
    assert_eq!(Solver::default().solve(&problem), [0.0, 0.0]);
}

#[test]
fn a_caller_makes_room_for_one_that_has_no_other_choice() {
    // Destination 0 has room for 10. The first caller likes it a little better, the
    // second one much: the second gets it although the first is served first.
    let mut problem =
        Problem { demand: vec![10.0, 10.0], cost: vec![1.0, 2.0, 1.0, 50.0], ..Problem::default() };
    problem.least = vec![0.0; 4];
    for width in [10.0, 100.0] {
        problem.add_destination([
            Segment { width, slope: 0.0, excess: false },
            Segment { width: f64::INFINITY, slope: 0.0, excess: true },
        ]);
    }
    assert_eq!(Solver::default().solve(&problem), [0.0, 10.0, 10.0, 0.0]);
}
