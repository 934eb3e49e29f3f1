//! Looks for moves that lower the cost of the layout ([`super::objective`]) by more
//! than they cost ([`super::payback`]), best first, within the budgets of the cycle.
//!
//! Neighbourhoods, from the cheap to the dear:
//! - one replica to another zone, or to another node of its zone;
//! - two replicas of a caller and its callee together into one zone, where neither
//!   pays alone: a front that goes first lengthens its own calls, a back that goes
//!   first lengthens those to it. Both begin in the same plan;
//! - bundles of any number that pay together only ([`super::bundles`]); where the budgets
//!   of a cycle do not let all of them begin, the first ones do if going back would not
//!   pay;
//! - a replica that makes room in a full zone for another ([`super::eviction`]).
//!
//! Candidates are ranked by what changes at the workload and its direct callees, and
//! checked through the whole graph, and in a few worlds that look the same within the
//! noise of the counts, before one is chosen. Every plan lowers the cost of
//! the layout by at least what its moves cost, so no series of plans on an unchanged
//! world returns to where it was.
//!
//! Work: each workload tries one destination for each pair of zones, in time
//! proportional to its edges; at most [`CHECKED`] candidates and [`PAIRED`] pairs are
//! checked through the graph.

use super::{
    bundles,
    destinations::{self, Destinations},
    doubt::Doubt,
    eviction::{self, Eviction},
    gates, growth,
    near::Near,
    objective::{Depth, Inkling, Objective, Shift, Touched, Trials},
    payback::Bar,
};
use crate::{
    decide::{ledger::Ledger, safety::Safety},
    report::Growth,
    view::{EdgeIndex, Remembered, View, WorkloadIndex, ZoneIndex},
};

/// Candidates checked through the whole graph in one plan. Budgets are a handful of
/// moves: what is not among the best few dozen is not begun in this cycle anyway.
const CHECKED: usize = 48;

/// Candidates for which a partner is looked for.
const PAIRED: usize = 24;

/// Worlds with other noise in which a candidate must pay too. A saving that is only an
/// accident of the counts (a zone that seems full by one per cent) disappears in one of
/// them: each is off by three standard deviations in every rate. Two pairs of mirror
/// images.
const LOOKALIKES: u64 = 4;

/// A move with what it saves and must save, requests/s x ms.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Candidate {
    pub(super) shifts: Vec<Shift>,
    pub(super) saving: f64,
    pub(super) bar: f64,
    /// Of it, what the moves themselves cost.
    pub(super) price: f64,
}

impl Candidate {
    pub(super) fn net(&self) -> f64 {
        self.saving - self.bar
    }

    /// Whether it moves a replica of a workload.
    pub(super) fn touches(&self, at: WorkloadIndex) -> bool {
        self.shifts.iter().any(|shift| shift.workload == at)
    }

    /// The workload that it was found for.
    pub(super) fn lead(&self) -> Option<WorkloadIndex> {
        self.shifts.first().map(|shift| shift.workload)
    }
}

/// What a move of one replica of a workload must save within its zone, and to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bars {
    within: Bar,
    across: Bar,
}

impl Bars {
    pub(super) fn between(self, from: ZoneIndex, to: ZoneIndex) -> Bar {
        if from == to { self.within } else { self.across }
    }
}

/// Lists that are used again for one workload after the other.
pub(super) struct Scratch {
    near: Near,
    trials: Trials,
}

impl Scratch {
    pub(super) fn new(view: &View<'_>) -> Self {
        Self { near: Near::empty(view), trials: Trials::default() }
    }
}

/// What was found for one workload.
#[derive(Debug, Clone, Default)]
pub(super) struct Found {
    /// What the calls of its edges cost, requests/s x ms; `None` where nothing was looked for.
    pub(super) travel: Option<f64>,
    /// Best by net saving.
    pub(super) best: Option<Candidate>,
    /// Best of those whose destination has no room.
    pub(super) blocked: Option<Candidate>,
    /// Best for one side of its edges alone, with what that side would save.
    pub(super) one_sided: Option<(Candidate, f64)>,
}

/// What a search decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Chosen {
    /// What is begun, with what each move that begins now changes. Of a bundle these may
    /// be the first only.
    pub(super) begun: Vec<(Candidate, Vec<Effect>)>,
    /// Bundles that would pay, of which the budgets of a cycle do not let enough begin at
    /// once.
    pub(super) too_large: Vec<Candidate>,
    /// Several moves that pay together, for which this cycle has no budget left.
    pub(super) waiting: Vec<Candidate>,
    /// Workloads whose candidate did not stand the check through the whole graph.
    pub(super) refuted: Vec<WorkloadIndex>,
    /// A replica that makes room for another.
    pub(super) eviction: Option<Eviction>,
    /// Where a replica more would save more than moves do.
    pub(super) growth: Vec<(WorkloadIndex, Growth)>,
}

/// Everything that a search reads.
pub(super) struct Search<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) safety: &'a Safety,
    pub(super) destinations: &'a Destinations,
    /// Whether a workload may move.
    pub(super) movable: &'a [bool],
    /// How far moves of a workload are doubted.
    pub(super) doubts: &'a [Doubt],
}

impl Chosen {
    /// Whether a workload has a part in moves that pay together and have no budget now, or
    /// only for the first of them.
    pub(super) fn waits(&self, at: WorkloadIndex) -> bool {
        let begun = self.begun.iter().map(|(candidate, _)| candidate);
        self.waiting.iter().chain(begun).any(|candidate| candidate.touches(at))
    }
}

impl Search<'_> {
    /// The best moves of one workload.
    pub(super) fn of(
        &self,
        objective: &Objective<'_>,
        scratch: &mut Scratch,
        ledger: &Ledger,
        at: WorkloadIndex,
    ) -> Found {
        let mut found = Found::default();
        if !objective.is_called(at) {
            return found;
        }
        let touched = objective.touched(at);
        found.travel = Some(touched.cost);
        let bars = self.bars_of(objective, at, touched);
        let zones = || (0..self.view.zones.len()).map(ZoneIndex::new);
        let Scratch { near, trials } = scratch;
        near.fill(self.view, objective, at);
        trials.of(objective, at);
        for to in zones() {
            let free = self.destination(objective, ledger, at, to, near);
            let wish = || self.wish(objective, at, to, near.neighbours());
            let Some(destination) = free.or_else(wish) else { continue };
            for from in zones() {
                if objective.count(at, from) <= 0.0
                    || !gates::layout_allowed(self.view, self.safety, at, from, to)
                {
                    continue;
                }
                let Some(source) = near.source(objective, from, destination) else {
                    continue;
                };
                let shift = Shift { workload: at, from: source, to: destination };
                let trial = trials.shift(objective, shift);
                let (saving, own) = (-trial.total, -trial.own);
                let bar = bars.between(from, to);
                if free.is_some() {
                    found.add(shift, saving, own, bar);
                } else {
                    found.add_blocked(shift, saving, bar);
                }
            }
        }
        found
    }

    /// What moves of one replica of a workload must save.
    pub(super) fn bars(&self, objective: &Objective<'_>, at: WorkloadIndex) -> Bars {
        self.bars_of(objective, at, objective.touched(at))
    }

    fn bars_of(&self, objective: &Objective<'_>, at: WorkloadIndex, touched: Touched) -> Bars {
        let workload = &self.view.workloads[at.at()];
        let bar = Bar::of(self.view, workload, touched);
        // Its own routes follow, and those of what it calls by how much of it is its doing.
        let calls: f64 = workload.calls.iter().map(|edge| objective.leg_share(*edge)).sum();
        let hosts = 1.0 + calls / f64::from(workload.ready_total().max(1));
        let multiple = self.doubts[at.at()].multiple();
        let across = bar.rerouting(self.view, hosts).times(multiple);
        Bars { within: bar.times(multiple), across }
    }

    fn bar(&self, objective: &Objective<'_>, shift: Shift) -> Bar {
        let (from, to) = self.zones_of(shift);
        self.bars(objective, shift.workload).between(from, to)
    }

    /// The moves of this cycle, best first. `willing` says whether a candidate may be
    /// begun now; those that it holds back are passed over.
    pub(super) fn choose(
        &self,
        objective: &mut Objective<'_>,
        ledger: &mut Ledger,
        found: &[Found],
        memory: &Remembered<'_>,
        mut willing: impl FnMut(&Candidate) -> bool,
    ) -> Chosen {
        let mut queue: Vec<Candidate> = found
            .iter()
            .filter_map(|found| found.best.clone())
            .filter(|candidate| candidate.net() > 0.0)
            .collect();
        best_first(&mut queue);
        queue.truncate(CHECKED);
        queue.extend(self.pairs(objective, ledger, found));
        // Also where no budget is left: what pays then waits for one, and is not forgotten.
        queue.extend(bundles::find(self, objective, ledger));
        best_first(&mut queue);
        let growth = growth::find(self, objective, ledger, found, &queue);
        let mut lookalikes: Option<Vec<Objective<'_>>> = None;
        let mut chosen = Chosen { growth, ..Chosen::default() };
        for candidate in queue {
            if !willing(&candidate) {
                continue;
            }
            let affordable = self.affordable(ledger, &candidate);
            if affordable == 0 {
                // One move alone is known to wait from what was found for its workload.
                if candidate.shifts.len() > 1 {
                    let (candidate, effects) = self.carried_out(objective, candidate);
                    effects.iter().for_each(|_| objective.take_back());
                    if candidate.net() > 0.0 {
                        chosen.waiting.push(candidate);
                    }
                }
                continue;
            }
            // Made before anything is tried, for the first candidate that they judge.
            let lookalikes = lookalikes.get_or_insert_with(|| self.lookalikes(objective));
            let (candidate, effects) = self.carried_out(objective, candidate);
            let made = candidate.shifts.len();
            let begins = begins(&effects, affordable);
            let pays = candidate.net() > 0.0;
            if pays && begins == 0 {
                chosen.too_large.push(candidate.clone());
            }
            if pays && begins > 0 && pays_everywhere(lookalikes, &candidate) {
                for _ in begins..made {
                    objective.take_back();
                    lookalikes.iter_mut().for_each(Objective::take_back);
                }
                for effect in &effects[..begins] {
                    self.spend(ledger, effect.shift);
                }
                let begun = effects.into_iter().take(begins).collect();
                chosen.begun.push((candidate, begun));
            } else {
                (0..made).for_each(|_| objective.take_back());
                chosen.refuted.extend(candidate.lead());
            }
        }
        chosen.eviction = self.evict(objective, ledger, memory, found, willing);
        chosen
    }

    /// Carries a candidate out on the objective: what it really saves and must save, and
    /// what each of its moves changes.
    fn carried_out(
        &self,
        objective: &mut Objective<'_>,
        candidate: Candidate,
    ) -> (Candidate, Vec<Effect>) {
        let bars: Vec<Bar> =
            candidate.shifts.iter().map(|shift| self.bar(objective, *shift)).collect();
        let mut effects = Vec::with_capacity(bars.len());
        for (shift, bar) in candidate.shifts.iter().zip(&bars) {
            let effect = Effect::before(self.view, objective, *shift);
            let saved = -objective.shift(*shift, Depth::All);
            effects.push(Effect { price: bar.price, ..effect.after(objective, saved) });
        }
        let candidate = Candidate {
            saving: effects.iter().map(|effect| effect.saving).sum(),
            bar: bars.iter().map(|bar| bar.total()).sum(),
            price: bars.iter().map(|bar| bar.price).sum(),
            ..candidate
        };
        (candidate, effects)
    }

    /// Makes room for a move that would pay, when budgets are left.
    fn evict(
        &self,
        objective: &mut Objective<'_>,
        ledger: &mut Ledger,
        memory: &Remembered<'_>,
        found: &[Found],
        mut willing: impl FnMut(&Candidate) -> bool,
    ) -> Option<Eviction> {
        let mut blocked: Vec<Candidate> = found
            .iter()
            .filter(|found| found.best.as_ref().is_none_or(|best| best.net() <= 0.0))
            .filter_map(|found| found.blocked.clone())
            .filter(|candidate| candidate.lead().is_none_or(|lead| !ledger.is_counted(lead)))
            .filter(|candidate| willing(candidate))
            .collect();
        best_first(&mut blocked);
        if blocked.is_empty() || ledger.moves_left() == 0 {
            return None;
        }
        let eviction = eviction::find(self, objective, ledger, memory, &blocked)?;
        for shift in &eviction.leaves.shifts {
            self.spend(ledger, *shift);
        }
        Some(eviction)
    }

    fn spend(&self, ledger: &mut Ledger, shift: Shift) {
        ledger.promise(shift.to, self.view.workloads[shift.workload.at()].workload.requests);
        let way = gates::way(self.view, self.safety, shift.workload);
        ledger.spend_move(shift.workload, way, shift.from, shift.to);
    }

    /// Worlds that look the same within the noise of the counts.
    fn lookalikes<'v>(&self, objective: &Objective<'v>) -> Vec<Objective<'v>> {
        let world = |inkling| objective.lookalike(self.safety, Inkling(inkling));
        (0..LOOKALIKES).map(world).collect()
    }

    fn zones_of(&self, shift: Shift) -> (ZoneIndex, ZoneIndex) {
        (self.view.nodes[shift.from.at()].zone, self.view.nodes[shift.to.at()].zone)
    }

    /// For how many moves of a candidate, from its first on, budgets, room and earlier
    /// promises of this cycle leave place.
    fn affordable(&self, ledger: &Ledger, candidate: &Candidate) -> usize {
        let mut trial = ledger.clone();
        let fits = |shift: &&Shift| {
            let (from, to) = self.zones_of(**shift);
            let free = !trial.is_counted(shift.workload)
                && trial.move_allowed(from, to)
                && trial.node_allows(shift.from)
                && trial.way_allowed(gates::way(self.view, self.safety, shift.workload))
                && destinations::takes(self.view, &trial, shift.workload, shift.to)
                && gates::layout_allowed(self.view, self.safety, shift.workload, from, to);
            if free {
                self.spend(&mut trial, **shift);
            }
            free
        };
        candidate.shifts.iter().take_while(fits).count()
    }

    /// Two replicas together, for the workloads where one side of the edges would save
    /// most if the other side followed.
    fn pairs(
        &self,
        objective: &mut Objective<'_>,
        ledger: &Ledger,
        found: &[Found],
    ) -> Vec<Candidate> {
        let mut leads: Vec<(f64, &Candidate)> = found
            .iter()
            .filter_map(|found| found.one_sided.as_ref())
            .filter(|(candidate, side)| *side > candidate.bar)
            .map(|(candidate, side)| (side - candidate.bar, candidate))
            .collect();
        leads.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.shifts.cmp(&b.1.shifts)));
        leads.truncate(PAIRED);
        let mut around = (Near::empty(self.view), Near::empty(self.view));
        let pair = |(_, lead): &(f64, &Candidate)| self.pair(objective, ledger, lead, &mut around);
        leads.iter().filter_map(pair).collect()
    }

    fn pair(
        &self,
        objective: &mut Objective<'_>,
        ledger: &Ledger,
        lead: &Candidate,
        (around, near): &mut (Near, Near),
    ) -> Option<Candidate> {
        let shift = *lead.shifts.first()?;
        let (_, zone) = self.zones_of(shift);
        let first = -objective.shift(shift, Depth::Neighbours);
        let mut best: Option<Candidate> = None;
        around.fill(self.view, objective, shift.workload);
        for (partner, _) in around.neighbours() {
            let partner = *partner;
            if !self.movable[partner.at()] || !objective.is_called(partner) {
                continue;
            }
            near.fill(self.view, objective, partner);
            let Some(to) = self.destination(objective, ledger, partner, zone, near) else {
                continue;
            };
            let bar = self.bars(objective, partner).across;
            for from in (0..self.view.zones.len()).map(ZoneIndex::new) {
                if from == zone
                    || objective.count(partner, from) <= 0.0
                    || !gates::layout_allowed(self.view, self.safety, partner, from, zone)
                {
                    continue;
                }
                let Some(source) = near.source(objective, from, to) else {
                    continue;
                };
                let second = Shift { workload: partner, from: source, to };
                let saving = first - objective.shift(second, Depth::Neighbours);
                objective.take_back();
                let candidate = Candidate {
                    shifts: vec![shift, second],
                    saving,
                    bar: lead.bar + bar.total(),
                    price: lead.price + bar.price,
                };
                if candidate.net() > best.as_ref().map_or(0.0, Candidate::net) {
                    best = Some(candidate);
                }
            }
        }
        objective.take_back();
        best
    }
}

/// How many moves of a candidate begin now, of so many that could. All of them, or as
/// many as lose less, together with those before them, than they cost: from there it
/// would not pay to go back, so the rest of the way is what comes next.
fn begins(effects: &[Effect], affordable: usize) -> usize {
    if affordable >= effects.len() {
        return effects.len();
    }
    let (mut saved, mut paid, mut safe) = (0.0, 0.0, 0);
    for (at, effect) in effects.iter().enumerate().take(affordable) {
        saved += effect.saving;
        paid += effect.price;
        if -saved < paid {
            safe = at + 1;
        }
    }
    safe
}

/// Whether a candidate earns what it costs in every world that looks the same, and
/// carries it out in all of them if so.
fn pays_everywhere(lookalikes: &mut [Objective<'_>], candidate: &Candidate) -> bool {
    let mut pays = true;
    for (at, world) in lookalikes.iter_mut().enumerate() {
        let shifts = candidate.shifts.iter();
        let saving: f64 = shifts.map(|shift| -world.shift(*shift, Depth::All)).sum();
        if saving <= candidate.price {
            pays = false;
            for world in &mut lookalikes[..=at] {
                candidate.shifts.iter().for_each(|_| world.take_back());
            }
            break;
        }
    }
    pays
}

impl Found {
    /// Keeps a candidate if it is better than those so far. `own` is the part of the
    /// saving that is made on the calls to the workload, the rest on its own calls.
    fn add(&mut self, shift: Shift, saving: f64, own: f64, bar: Bar) {
        let candidate =
            Candidate { shifts: vec![shift], saving, bar: bar.total(), price: bar.price };
        let side = own.max(saving - own);
        if self.one_sided.as_ref().is_none_or(|(_, best)| side > *best) {
            self.one_sided = Some((candidate.clone(), side));
        }
        if self.best.as_ref().is_none_or(|best| candidate.net() > best.net()) {
            self.best = Some(candidate);
        }
    }
}

impl Found {
    fn add_blocked(&mut self, shift: Shift, saving: f64, bar: Bar) {
        let blocked = Candidate { shifts: vec![shift], saving, bar: bar.total(), price: bar.price };
        if blocked.net() > self.blocked.as_ref().map_or(0.0, Candidate::net) {
            self.blocked = Some(blocked);
        }
    }
}

fn best_first(queue: &mut [Candidate]) {
    queue.sort_by(|a, b| b.net().total_cmp(&a.net()).then_with(|| a.shifts.cmp(&b.shifts)));
}

/// What one move of a candidate changes, for the report.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Effect {
    pub(super) shift: Shift,
    pub(super) saving: f64,
    /// What the move costs.
    pub(super) price: f64,
    pub(super) before: Touched,
    pub(super) after: Touched,
    /// Used share of the node that is left, before.
    pub(super) crowd_before: f64,
    /// Used share of the node that is gone to, afterwards.
    pub(super) crowd_after: f64,
    /// What waiting on nodes it saves.
    pub(super) crowd_saving: f64,
    /// The edge that gains most.
    pub(super) heaviest: Option<EdgeIndex>,
    legs: Vec<(EdgeIndex, f64)>,
}

impl Effect {
    fn before(view: &View<'_>, objective: &Objective<'_>, shift: Shift) -> Self {
        let workload = &view.workloads[shift.workload.at()];
        let edges = workload.called_by.iter().chain(&workload.calls);
        Self {
            shift,
            saving: 0.0,
            price: 0.0,
            before: objective.touched(shift.workload),
            after: Touched::default(),
            crowd_before: objective.node_use(shift.from),
            crowd_after: 0.0,
            crowd_saving: objective.crowding(shift.from) + objective.crowding(shift.to),
            heaviest: None,
            legs: edges.map(|edge| (*edge, objective.leg_cost(*edge))).collect(),
        }
    }

    fn after(mut self, objective: &Objective<'_>, saving: f64) -> Self {
        self.saving = saving;
        self.after = objective.touched(self.shift.workload);
        self.crowd_after = objective.node_use(self.shift.to);
        self.crowd_saving -=
            objective.crowding(self.shift.from) + objective.crowding(self.shift.to);
        let gain = |(edge, before): &(EdgeIndex, f64)| before - objective.leg_cost(*edge);
        self.heaviest = self
            .legs
            .iter()
            .filter(|leg| gain(leg) > 0.0)
            .max_by(|a, b| gain(a).total_cmp(&gain(b)).then(b.0.cmp(&a.0)))
            .map(|(edge, _)| *edge);
        self
    }
}
