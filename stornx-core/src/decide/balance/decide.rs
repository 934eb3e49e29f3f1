//! The decision about each host, as a list of gates and then one change at most.

mod answer;

use std::collections::{BTreeMap, BTreeSet};

use self::answer::{Change, Decision, Numbers, count, leave};
use super::{
    capacity::Estimate,
    effective::approach,
    figures::{self, is_called},
    follow,
    hold::hold_back,
    host::HostState,
    observe::Changing,
    proportional::{self, Score},
    rollout,
    split::Split,
    step::advance,
    table::{Standing, by_replicas, standing, to_split, to_table},
    target::{HostWorld, Workshop, whole_reserve},
    untouched, verify,
    worth::weigh,
};
use crate::{
    decide::Proposal,
    ids::{HostName, PodName},
    memory::HostMemory,
    model::{Mesh, Rule},
    plan::{Action, GiveBackCause, RoutePurpose},
    policy::TargetRule,
    report::{ActionReport, Effect, Expected, HostReport, RouteReason, TidyWhy, Verification, Why},
    units::{Rps, Span},
    view::{HostIndex, Remembered, View, WorkloadIndex, WorkloadView, ZoneIndex},
};

/// Weights are whole and at least 1: more zones cannot be named.
const MOST_ZONES: usize = 100;

/// Share of its capacity by which a zone must be above it to end a back-off.
const OVERLOADED: f64 = 0.1;

/// What was decided.
pub(crate) struct Routed {
    pub(crate) proposals: Vec<Proposal>,
    pub(crate) reports: BTreeMap<HostName, HostReport>,
}

/// Decides the routes of the hosts that are `wanted`. `leaving` are replicas that this plan
/// removes.
pub(crate) fn decide(
    view: &View<'_>,
    memory: &Remembered<'_>,
    leaving: &BTreeSet<PodName>,
    wanted: impl Fn(&HostName) -> bool,
) -> Routed {
    let (mut proposals, mut reports) = (Vec::new(), Vec::with_capacity(view.hosts.len()));
    let mut workshop = Workshop::default();
    for at in 0..view.hosts.len() {
        let host = HostIndex::new(at);
        let name = view.hosts[at].host.name.clone();
        if !wanted(&name) {
            continue;
        }
        let mut room = Room {
            view,
            host,
            memory: memory.host(host),
            remembered: memory,
            leaving,
            verification: None,
        };
        let mut decision = room.decide(&mut workshop);
        decision.report.verification = room.verification;
        proposals.extend(decision.proposal);
        reports.push((name, decision.report));
    }
    // In the order of their names: the map is made without looking for places.
    Routed { proposals, reports: reports.into_iter().collect() }
}

/// One host with all that is needed to decide about it.
struct Room<'a> {
    view: &'a View<'a>,
    host: HostIndex,
    memory: Option<&'a HostMemory>,
    remembered: &'a Remembered<'a>,
    leaving: &'a BTreeSet<PodName>,
    /// What came of the weights that stand, once that is known.
    verification: Option<Verification>,
}

/// What is known of the host when a decision about it can be made.
#[derive(Clone, Copy)]
struct Situation<'a> {
    workload: WorkloadIndex,
    standing: &'a Standing,
    state: &'a HostState,
    world: &'a HostWorld,
    estimates: &'a [Estimate],
}

impl Room<'_> {
    fn decide(&mut self, workshop: &mut Workshop) -> Decision {
        let workload = match self.gate() {
            Ok(workload) => workload,
            Err(reason) => return self.give_back(reason),
        };
        let view = self.view;
        let ready = &view.workloads[workload.at()].ready;
        let host = view.hosts[self.host.at()].host;
        let standing = standing(view, host, ready);
        if standing.broken {
            return self.repair(workload, &standing);
        }
        if matches!(host.rule, Rule::Ours(_)) {
            let (split, memory) = (&standing.split, self.memory);
            let following = follow::following(view, self.host, workload, memory, split);
            self.verification = Some(Verification { following, effect: None });
        }
        // A rule of ours that stands may not cut a zone off even when nothing is improved.
        if !view.policy.balancer.enabled {
            return leave(RouteReason::Disabled);
        }
        if let Some(reason) = nowhere_to_go(ready)
            && !(reason == RouteReason::OneZone && self.waits_for_nobody(&standing, ready))
        {
            return leave(reason);
        }
        // Weights of ours that stand decay all the same while it is not known who calls.
        let ours = matches!(host.rule, Rule::Ours(_));
        let unseen = !view.has_traffic || !is_called(view, self.host);
        if !(unseen && ours && self.unseen_for_long())
            && (view.has_traffic || !ours)
            && view.unread(self.host)
        {
            return leave(RouteReason::NoWaypoint);
        }
        if unseen {
            return self.without_figures(workload, &standing);
        }
        let state = HostState::new(view, self.host, workload, self.memory, self.changing(workload));
        let estimates = state.estimates(view);
        let world = state.world(view, &estimates);
        if let Some(reason) = self.holds_still(&standing, &world, &estimates) {
            return leave(reason);
        }
        let situation = Situation {
            workload,
            standing: &standing,
            state: &state,
            world: &world,
            estimates: &estimates,
        };
        let effect = self.effect(situation);
        if let Some(verification) = &mut self.verification {
            verification.effect = effect.clone();
        }
        if rollout::is_under_way(view, workload, self.memory) {
            return self.sit_out(situation);
        }
        if let Some(decision) = self.undo(situation, effect) {
            return decision;
        }
        self.improve(situation, workshop)
    }

    /// Whether the routes of this host are ours to write at all.
    fn gate(&self) -> Result<WorkloadIndex, RouteReason> {
        let view = self.view;
        let host = &view.hosts[self.host.at()];
        match view.snapshot.mesh {
            Mesh::Routable => {}
            Mesh::Unnamed => return Err(RouteReason::Unnamed),
            Mesh::Absent | Mesh::NotRoutable => return Err(RouteReason::NotRoutable),
        }
        let Some(workload) = host.workload else {
            return Err(RouteReason::NotOneWorkload { backends: count(host.host.backends.len()) });
        };
        let facts = view.workloads[workload.at()].workload;
        let monitored = &view.policy.namespaces;
        let ours = |namespace| monitored.is_empty() || monitored.contains(&namespace);
        if !facts.managed || !ours(facts.id.namespace()) || !ours(host.host.name.namespace()) {
            return Err(RouteReason::NotManaged);
        }
        if facts.policy.opted_out || facts.policy.no_routing {
            return Err(RouteReason::OptedOut);
        }
        if let Rule::Foreign(foreign) = host.host.rule {
            return Err(RouteReason::Foreign(foreign));
        }
        if host.host.displaced {
            return Err(RouteReason::Displaced);
        }
        if host.host.foreign_endpoints {
            return Err(RouteReason::ForeignEndpoints);
        }
        let bare = host.host.rule == Rule::None && !host.host.adoptable;
        if bare && !view.policy.balancer.create_rules {
            return Err(RouteReason::NoRule);
        }
        match view.zones.len() {
            0 | 1 => Err(RouteReason::OneZone),
            2..=MOST_ZONES => Ok(workload),
            zones => Err(RouteReason::TooManyZones { zones: count(zones) }),
        }
    }

    /// Leaves the routes alone; what stands of ours and would cut a zone off sooner or
    /// later, since nobody follows it any more, is taken back.
    fn give_back(&self, reason: RouteReason) -> Decision {
        let view = self.view;
        let host = view.hosts[self.host.at()].host;
        let cause = match reason {
            RouteReason::Foreign(rule) if host.leftover => GiveBackCause::Foreign(rule),
            RouteReason::OptedOut => GiveBackCause::OptedOut,
            RouteReason::Unnamed => GiveBackCause::Unnamed,
            RouteReason::OneZone | RouteReason::TooManyZones { .. } => GiveBackCause::Zones,
            RouteReason::NotOneWorkload { backends: 0 } => GiveBackCause::NoWorkload,
            RouteReason::NotOneWorkload { backends: 2.. } => GiveBackCause::SeveralWorkloads,
            RouteReason::Displaced => GiveBackCause::Displaced,
            RouteReason::ForeignEndpoints => GiveBackCause::ForeignEndpoints,
            _ => return leave(reason),
        };
        let stands = host.leftover || matches!(host.rule, Rule::Ours(_));
        let monitored = &view.policy.namespaces;
        let listed = monitored.contains(&host.name.namespace());
        let mut backends = host.backends.iter().filter_map(|id| view.workload(id));
        let workload = backends.next().map(|at| view.workloads[at.at()].workload);
        let ours = match workload {
            Some(workload) => workload.managed && (monitored.is_empty() || listed),
            // No workload says that its namespace is managed: the list has to.
            None => host.backends.is_empty() && listed,
        };
        if !(stands && ours) {
            return leave(reason);
        }
        let workload = workload.map(|workload| workload.id.clone());
        let action = Action::GiveBackRoutes { host: host.name.clone(), workload, cause };
        let why = Why::TidyUp(TidyWhy::Routes);
        let report = ActionReport { expected: Expected::default(), why };
        let mut decision = leave(reason);
        decision.report.pressing = true;
        decision.proposal = Some(Proposal { action, report });
        decision
    }

    /// What is about to change of its workload's replicas.
    fn changing(&self, workload: WorkloadIndex) -> Changing<'_> {
        let remembered = self.remembered.workload(workload);
        let moving = remembered.and_then(|remembered| remembered.in_flight.as_ref());
        Changing { leaving: Some(self.leaving), moving }
    }

    /// Whether weights of ours wait for zones that hold no replica now: the first one that
    /// comes back would get all of them at once.
    fn waits_for_nobody(&self, standing: &Standing, ready: &[u32]) -> bool {
        let policy = &self.view.policy.balancer;
        let ours = matches!(self.view.hosts[self.host.at()].host.rule, Rule::Ours(_));
        let most = f64::from(whole_reserve(policy, ready.len())) + policy.epsilon.get();
        let waits = |row: &[u8]| {
            let mut weights = row.iter().zip(ready);
            weights.any(|(weight, ready)| *ready == 0 && f64::from(*weight) > most)
        };
        ours && (0..standing.split.rows()).any(|row| waits(standing.split.row(row)))
    }

    /// Names every zone, at once and whatever the metrics say.
    fn repair(&self, workload: WorkloadIndex, standing: &Standing) -> Decision {
        let next = standing.split.clone();
        let change = Change { purpose: RoutePurpose::Cover, next, delta: 0, step: 0.0 };
        self.change(workload, standing, &change, None)
    }

    /// How long nothing has been known of its requests.
    fn unseen_for(&self) -> Span {
        let view = self.view;
        let stale = self.memory.and_then(|memory| memory.stale_since);
        let unseen = self.memory.and_then(|memory| memory.unseen_since);
        let since = stale.filter(|_| !view.has_traffic).into_iter().chain(unseen).min();
        since.map_or(Span::ZERO, |since| view.now.since(since))
    }

    fn unseen_for_long(&self) -> bool {
        self.unseen_for() >= self.view.policy.balancer.stale_after
    }

    /// Waits while nothing is known of its requests, of all traffic or of this host alone;
    /// after the configured time, back to an even split. Whether nobody calls or nobody
    /// counts cannot be told apart, and where nobody calls an even split does no harm.
    fn without_figures(&self, workload: WorkloadIndex, standing: &Standing) -> Decision {
        let view = self.view;
        let ours = matches!(view.hosts[self.host.at()].host.rule, Rule::Ours(_));
        if !ours || !self.unseen_for_long() {
            return leave(if view.has_traffic {
                RouteReason::NoDemand
            } else {
                RouteReason::NoTraffic { since: self.unseen_for() }
            });
        }
        let mut even = standing.split.clone();
        for row in 0..even.rows() {
            self.even(workload, even.row_mut(row));
        }
        let step = advance(&standing.split, &even, &view.policy.balancer);
        self.take(workload, standing, step, RoutePurpose::Decay, None)
    }

    /// A row that comes to every ready replica alike.
    fn even(&self, workload: WorkloadIndex, row: &mut [u8]) {
        let WorkloadView { ready, groups, .. } = &self.view.workloads[workload.at()];
        by_replicas(ready, row);
        if !groups.is_empty() {
            let parts: Vec<f64> = ready.iter().map(|ready| f64::from(*ready)).collect();
            approach(&parts, groups, row);
        }
    }

    /// The weights that come nearest to a target where zones are divided; the target
    /// itself where they are not. Rows that keep what stands do so.
    fn weights(&self, workload: WorkloadIndex, world: &HostWorld, target: Split) -> Split {
        let groups = &self.view.workloads[workload.at()].groups;
        if groups.is_empty() {
            return target;
        }
        let mut weights = target;
        for row in (0..weights.rows()).filter(|row| world.decides(*row)) {
            let row = weights.row_mut(row);
            let wished: Vec<f64> = row.iter().map(|weight| f64::from(*weight)).collect();
            approach(&wished, groups, row);
        }
        weights
    }

    /// Why nothing is decided about it for a while: a run was undone, or its figures were
    /// away for long and have come back. A zone that is seen to be driven above its
    /// capacity ends both: nothing is worse than that.
    fn holds_still(
        &self,
        standing: &Standing,
        world: &HostWorld,
        estimates: &[Estimate],
    ) -> Option<RouteReason> {
        let now = self.view.now;
        let until = self.memory?.backoff.map(|backoff| backoff.until).filter(|until| *until > now);
        let backoff = until.map(|until| RouteReason::Backoff { left: until.since(now) });
        let reason = backoff.or_else(|| {
            let left = figures::back_too_short(self.memory?, self.view)?;
            Some(RouteReason::SeenAgain { left })
        })?;
        let seen = estimates.iter().any(|estimate| estimate.age.is_some());
        let overloaded = seen && world.excess(&world.loads(&standing.split), OVERLOADED) > 0.0;
        (!overloaded).then_some(reason)
    }

    /// While a rollout replaces its replicas, zones lose and win some faster than steps can
    /// follow. Where one fewer in some zone would overload a zone, calls go to every
    /// replica alike until it is over; else the routes stay.
    fn sit_out(&self, situation: Situation<'_>) -> Decision {
        let Situation { workload, standing, state, world, estimates } = situation;
        let now = world.value(&standing.split, 0.0);
        let numbers = Numbers { state, world, estimates, now: &now, urgent: true };
        if world.can_lose_one(&standing.split) {
            return self.stay(&numbers, 0, RouteReason::RollingOut);
        }
        let mut even = standing.split.clone();
        for row in (0..even.rows()).filter(|row| world.demand[*row] > 0.0) {
            self.even(workload, even.row_mut(row));
        }
        let step = advance(&standing.split, &even, &self.view.policy.balancer);
        self.take(workload, standing, step, RoutePurpose::Rollout, Some(&numbers))
    }

    /// What the run of writes under way has done; `None` when none is.
    fn effect(&self, situation: Situation<'_>) -> Option<Effect> {
        let Situation { workload, standing, state, world, .. } = situation;
        let (view, memory) = (self.view, self.memory?);
        let (expectation, before) = (memory.expectation.as_ref()?, memory.before.as_ref()?);
        let left = verify::too_early(memory, view);
        if left > Span::ZERO {
            return Some(Effect::TooEarly { left });
        }
        let common = untouched::common(view, &self.remembered.all.hosts, memory, expectation.since);
        let before = to_split(view, before, &standing.split);
        let ours = || {
            let (then, now) = (world.loads(&before), world.loads(&standing.split));
            let split = &standing.split;
            verify::ours_to_blame(&then, &now, &state.seen.zones)
                && !follow::as_before(view, self.host, workload, &before, split)
        };
        let window = verify::window(view);
        let threshold = state.threshold;
        Some(verify::effect(expectation, &state.seen, common, threshold, window, ours))
    }

    /// Takes a run of writes back that made things worse.
    fn undo(&self, situation: Situation<'_>, effect: Option<Effect>) -> Option<Decision> {
        let Situation { workload, standing, state, world, estimates } = situation;
        let before = self.memory?.before.as_ref()?;
        let effect = effect.filter(|effect| matches!(effect, Effect::Worse { ours: true, .. }))?;
        // What stood before, if it still names the zones that there are.
        let next = to_split(self.view, before, &standing.split);
        if to_table(self.view, &next).as_ref() != Some(before) || next == standing.split {
            return None;
        }
        let (now, then) = (world.value(&standing.split, 0.0), world.value(&next, 0.0));
        // The load may have moved since: what was good then must not overload a zone now.
        if world.excess(&then.loads, 0.0) > world.excess(&now.loads, 0.0) {
            return None;
        }
        let delta = standing.split.distance(&next);
        let change = Change { purpose: RoutePurpose::Undo, next, delta, step: f64::from(delta) };
        let numbers = Numbers { state, world, estimates, now: &now, urgent: true };
        let mut decision = self.change(workload, standing, &change, Some(&numbers));
        if let Some(Why::Route(why)) = decision.proposal.as_mut().map(|p| &mut p.report.why) {
            why.effect = Some(effect);
        }
        Some(decision)
    }

    /// One step towards the target, if the target is worth it.
    fn improve(&self, situation: Situation<'_>, workshop: &mut Workshop) -> Decision {
        let Situation { workload, standing, state, world, estimates } = situation;
        let (view, policy) = (self.view, &self.view.policy.balancer);
        let target = match policy.rule {
            TargetRule::Flow => world.target(&standing.split, policy, workshop),
            TargetRule::Proportional => Some(self.proportional(standing, state)),
        };
        let Some(target) = target else { return leave(RouteReason::NoDemand) };
        let target = self.weights(workload, world, target);
        let worth = weigh(
            world,
            &standing.split,
            &target,
            policy,
            Rps::saturating(state.seen.total()),
            view.window,
            verify::run_open(self.memory, view),
        );
        let urgent = worth.relieves;
        let numbers = Numbers { state, world, estimates, now: &worth.now, urgent };
        let mut step = advance(&standing.split, &target, policy);
        let worth_it =
            worth.enough && (worth.clear || !verify::at_rest(self.memory, view, self.host));
        if policy.rule == TargetRule::Flow && step.change > 0 && !worth_it {
            let reason = RouteReason::GainTooSmall { gain: worth.gain_percent };
            return self.stay(&numbers, step.delta, reason);
        }
        hold_back(world, &standing.split, &mut step.next);
        step.change = standing.split.distance(&step.next);
        self.take(workload, standing, step, RoutePurpose::Improve, Some(&numbers))
    }

    fn proportional(&self, standing: &Standing, state: &HostState) -> Split {
        let view = self.view;
        let threshold = state.threshold.get();
        let scores: Vec<Score> = state
            .seen
            .zones
            .iter()
            .map(|zone| Score {
                ready: zone.ready,
                slowness: zone.p95.filter(|_| threshold > 0.0).map_or(0.0, |p95| p95 / threshold),
                utilisation: zone.utilisation.unwrap_or(0.0),
            })
            .collect();
        let zones = 0..view.zones.len();
        let round_trips: Vec<f64> = zones
            .clone()
            .flat_map(|from| zones.clone().map(move |to| (from, to)))
            .map(|(from, to)| view.latency.between_zones(ZoneIndex::new(from), ZoneIndex::new(to)))
            .collect();
        let reserve = whole_reserve(&view.policy.balancer, view.zones.len());
        proportional::target(&standing.split, &state.seen.demand, &round_trips, &scores, reserve)
    }
}

/// Why weights would make no difference.
fn nowhere_to_go(ready: &[u32]) -> Option<RouteReason> {
    match ready.iter().filter(|ready| **ready > 0).count() {
        0 => Some(RouteReason::NothingReady),
        1 => Some(RouteReason::OneZone),
        _ => None,
    }
}
