//! Bundles of moves that pay together where none of them pays alone: groups of services
//! that go to another zone as a whole, replicas that change places, chains of replicas
//! that make room for each other.
//!
//! The search over placements ([`crate::search`]) climbs on the cost of the layout
//! itself ([`super::objective`]), so what a placement is worth is what routing will make
//! of it. Its list of moves is cut where it is better to have come so far than to stop
//! anywhere before: each piece is a bundle, and pays for itself.
//!
//! Effort grows with the replicas up to `MOVE_SEARCH_STEPS` and no further. On a large
//! cluster the search knows only so many workloads ([`MOST_CELLS`]): those whose calls
//! cost most, and as victims some that lose least by leaving.

use super::{
    gates,
    objective::{Depth, Objective, Shift, Trials},
    search::{Candidate, Search},
};
use crate::{
    decide::ledger::Ledger,
    search::{Facts, Layout, Machine, Problem, Rounds, Service, Step, Terrain, Weights},
    view::{NodeIndex, View, WorkloadIndex, ZoneIndex, admits},
};

/// Moves that are looked ahead: what a dozen cycles begin at the usual budgets. What
/// would pay only after more is too far away to be true when it comes.
const AHEAD: usize = 24;

/// Workloads times nodes that the search keeps counts of: 8 MB for each placement that
/// it holds.
const MOST_CELLS: usize = 4_000_000;

/// Of the workloads of a large cluster, one in so many is there to make room.
const VICTIMS: usize = 4;

/// Up to so many edges each trial follows its changes through the whole graph; beyond,
/// to the direct callees.
const EXACT_EDGES: usize = 1_000;

/// Placements near the end of a list that are looked at one by one.
const LOOKS: usize = 1_000;

/// What each replica adds to the effort, and what there is at least: half a round of the
/// search, every cycle. What one cycle misses the next may find, since the counts differ.
const STEPS_PER_REPLICA: u64 = 32;
const LEAST_STEPS: u64 = 1_024;

/// Any number: the same plan every time.
const SEED: u64 = 1;

/// The bundles of the best list that was found, in its order.
pub(super) fn find(
    search: &Search<'_>,
    objective: &Objective<'_>,
    ledger: &Ledger,
) -> Vec<Candidate> {
    let steps = u64::from(search.view.policy.moves.search_steps);
    let chosen = chosen(search, objective);
    if steps == 0 || chosen.len() < 2 {
        return Vec::new();
    }
    let facts = facts(search, objective, ledger, &chosen);
    let enough = LEAST_STEPS + STEPS_PER_REPLICA * facts.today.len() as u64;
    let live = Live {
        search,
        workloads: &chosen,
        objective: objective.clone(),
        trials: Trials::default(),
        possible: objective.total(),
    };
    let mut rounds = Rounds::new(facts, live, SEED, Some(AHEAD)).looking_at(LOOKS);
    rounds.round(steps.min(enough), &mut || false);
    let shift = |step: &Step| Shift {
        workload: chosen[step.service],
        from: NodeIndex::new(step.from),
        to: NodeIndex::new(step.to),
    };
    let list = rounds.best();
    let mut bundles = Vec::new();
    let (mut best, mut before) = (list.before, list.before);
    let mut open: Option<Candidate> = None;
    for step in &list.steps {
        let shift = shift(&step.shift);
        let (from, to) = (search.zone(shift.from), search.zone(shift.to));
        let bar = search.bars(objective, shift.workload).between(from, to);
        let bundle = open.get_or_insert_with(Candidate::default);
        bundle.shifts.push(shift);
        bundle.saving = step.worth - before;
        bundle.bar += bar.total();
        bundle.price += bar.price;
        let value = step.worth - step.paid;
        if value > best {
            best = value;
            before = step.worth;
            bundles.extend(open.take());
        }
    }
    bundles
}

/// The workloads that the search knows.
fn chosen(search: &Search<'_>, objective: &Objective<'_>) -> Vec<WorkloadIndex> {
    let view = search.view;
    let most = MOST_CELLS / view.nodes.len().max(1);
    let movable = view.each_workload().map(|(at, _)| at).filter(|at| {
        search.movable[at.at()] && objective.is_called(*at) && !objective.places(*at).is_empty()
    });
    let mut chosen: Vec<WorkloadIndex> = movable.collect();
    if chosen.len() > most {
        let cost = |at: &WorkloadIndex| objective.touched(*at).cost;
        let mut ranked: Vec<(f64, WorkloadIndex)> =
            chosen.iter().map(|at| (cost(at), *at)).collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let victims = most / VICTIMS;
        let cheap = ranked.len() - victims;
        ranked.drain(most - victims..cheap);
        chosen = ranked.into_iter().map(|(_, at)| at).collect();
        chosen.sort_unstable();
    }
    chosen
}

/// The tables of the search. Room is what the ledger has left, and what the replicas that
/// the search may move take up now.
fn facts(
    search: &Search<'_>,
    objective: &Objective<'_>,
    ledger: &Ledger,
    chosen: &[WorkloadIndex],
) -> Facts {
    let view = search.view;
    let mut machines: Vec<Machine> = view
        .each_node()
        .map(|(at, node)| {
            let free = ledger.free(at);
            Machine {
                cpu: free.cpu.get(),
                memory: free.memory.get(),
                pods: ledger.free_pods(at),
                zone: node.zone.at(),
            }
        })
        .collect();
    let mut positions = vec![None; view.workloads.len()];
    let mut services = Vec::with_capacity(chosen.len());
    for (position, at) in chosen.iter().enumerate() {
        positions[at.at()] = Some(position);
        let workload = view.workloads[at.at()].workload;
        let (cpu, memory) = (workload.requests.cpu.get(), workload.requests.memory.get());
        for (node, count) in objective.places(*at) {
            let machine = &mut machines[node.at()];
            machine.cpu += u64::from(*count) * cpu;
            machine.memory += u64::from(*count) * memory;
            machine.pods += count;
        }
        services.push(Service {
            cpu,
            memory,
            today: objective.places(*at).iter().map(|(node, count)| (node.at(), *count)).collect(),
            per_machine: workload.constraints.one_per_node.then_some(1),
            ..Service::default()
        });
    }
    let edges = view.edges.iter().enumerate().filter_map(|(at, edge)| {
        let (a, b) = (positions[edge.caller.at()]?, positions[edge.callee.at()]?);
        let traffic = objective.leg_rate(crate::view::EdgeIndex::new(at));
        (a != b && traffic > 0.0).then_some(crate::search::Edge { a, b, traffic })
    });
    let problem = Problem {
        edges: edges.collect(),
        services,
        machines,
        weights: Weights { machine: 0.0, zone: 0.0 },
    };
    let mut facts = Facts::new(&problem, 0.0);
    let zones = || (0..view.zones.len()).map(ZoneIndex::new);
    for (price, at) in facts.price.iter_mut().zip(chosen) {
        let bars = search.bars(objective, *at);
        let across = zones().flat_map(|from| zones().map(move |to| (from, to)));
        *price = across.map(|(from, to)| bars.between(from, to).total()).fold(0.0, f64::max);
    }
    facts
}

/// The cost of the layout as a terrain.
struct Live<'a, 'v> {
    search: &'a Search<'a>,
    /// By service of the search.
    workloads: &'a [WorkloadIndex],
    objective: Objective<'v>,
    trials: Trials,
    possible: f64,
}

impl Clone for Live<'_, '_> {
    fn clone(&self) -> Self {
        Self { objective: self.objective.clone(), trials: Trials::default(), ..*self }
    }
}

impl<'a> Live<'a, '_> {
    const fn view(&self) -> &'a View<'a> {
        self.search.view
    }

    fn shift(&self, step: Step) -> Shift {
        Shift {
            workload: self.workloads[step.service],
            from: NodeIndex::new(step.from),
            to: NodeIndex::new(step.to),
        }
    }
}

impl Terrain for Live<'_, '_> {
    fn admits(&self, service: usize, machine: usize) -> bool {
        let workload = self.view().workloads[self.workloads[service].at()].workload;
        let node = &self.view().nodes[machine];
        node.open() && admits(node.node, &workload.constraints).is_ok()
    }

    fn may_change(&self, facts: &Facts, layout: &Layout, step: Step) -> bool {
        let counts: Vec<u32> = layout.by_zone(facts, step.service).collect();
        let Shift { workload, from, to } = self.shift(step);
        let zones = (self.search.zone(from), self.search.zone(to));
        let (view, safety) = (self.search.view, self.search.safety);
        gates::change_allowed(view, safety, workload, (&counts, &counts), zones)
    }

    fn possible(&self) -> f64 {
        self.possible
    }

    fn worth(&self, _facts: &Facts, _layout: &Layout) -> f64 {
        -self.objective.total()
    }

    fn gain(&mut self, _facts: &Facts, _layout: &Layout, step: Step) -> f64 {
        let shift = self.shift(step);
        if self.search.view.edges.len() > EXACT_EDGES {
            self.trials.of(&self.objective, shift.workload);
            return -self.trials.shift(&self.objective, shift).total;
        }
        let change = self.objective.shift(shift, Depth::All);
        self.objective.take_back();
        -change
    }

    fn go(&mut self, step: Step, _gain: f64) -> f64 {
        -self.objective.shift(self.shift(step), Depth::All)
    }

    fn back(&mut self) {
        self.objective.take_back();
    }

    fn keep(&mut self) {
        self.objective.keep();
    }
}
