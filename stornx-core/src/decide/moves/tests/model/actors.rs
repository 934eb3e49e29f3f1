//! Everybody else: controllers, scheduler, kubelets, watches; and all steps together.

use super::{
    daemon::{self, Checks, Reply},
    faults::{Fault, Faulty, faults, go_wrong},
    product::{Product, instant},
    properties::Broken,
    world::{
        BEFORE, BUDGET, Daemon, ELSEWHERE, LAST_TICK, Late, Load, Phase, Pod, Request, State,
        TARGET, Watch,
    },
};

/// The kinds of watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Pods,
    Deployments,
    Autoscalers,
    /// Pods, as the controllers of the loads watch them.
    Controllers,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// The daemon begins a cycle.
    Cycle,
    /// The request of its cycle goes one step further.
    Write,
    Restart,
    /// A request that nobody waits for any more arrives.
    Arrive,
    Time,
    /// The next event of a watch comes.
    Deliver(Kind),
    /// A watch lists anew.
    Relist(Kind),
    /// The autoscaler sets the count.
    Autoscale(usize),
    /// The ReplicaSet learns of the count.
    Scale(usize),
    Create(usize),
    Remove(usize, u8),
    Bind(usize, u8, u8),
    BecomeReady(usize, u8),
    /// The pods of a lost node are collected.
    Collect(usize, u8),
    /// A rollout ends with all replicas new, or is taken back.
    EndRollout(usize, bool),
    Fault(Fault),
}

/// Versions that the controllers of the loads may be behind: the one that they see stands
/// for as long as they do not catch up.
const CONTROLLERS_LAG: usize = 1;

/// How far the search goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) loads: usize,
    pub(super) faults: u8,
    /// Versions of each kind that a watch may be behind.
    pub(super) lag: usize,
    /// Watches are late from the beginning, and that is no fault.
    pub(super) always_late: bool,
    /// Ages between the first and the last are told apart.
    pub(super) all_ages: bool,
    pub(super) faulty: Faulty,
    /// Controllers, scheduler and kubelets take many small steps; else a count is known to
    /// the ReplicaSet at once, and a replica that is bound is soon Ready.
    pub(super) small_steps: bool,
    /// Controllers act between the writes of a cycle, not only faults and people.
    pub(super) within_cycles: bool,
    pub(super) checks: Checks,
    /// The controllers of the loads may see their pods late: until they catch up, they act
    /// by what stood at one moment.
    pub(super) controllers: bool,
    /// An autoscaler is over each load, and moves hold its minimum.
    pub(super) holds: bool,
    /// The world is calmed.
    pub(super) calm: bool,
}

/// Whether anything of a move of a load is under way or left. Before and after that,
/// whatever goes wrong there is no matter of a move.
fn concerns(state: &State, product: &Product, at: usize) -> bool {
    let remembered = product.remembered(state.store, at);
    let traces = |pod: &Pod| pod.marked || (pod.steered.is_some() && pod.node.is_none());
    remembered.record
        || state.loads[at].hpa.is_some_and(|hpa| hpa.held.is_some())
        || !remembered.intents.is_empty()
        || state.loads[at].pods.iter().any(traces)
        || match &state.daemon {
            Daemon::Busy(cycle) => cycle.request.concerns(at),
            Daemon::Down | Daemon::Idle => false,
        }
        || state.late.as_ref().is_some_and(|late| late.concerns(at))
}

/// Everything that can happen next. Once all moves are over, nothing of interest does.
pub(super) fn steps(state: &State, product: &Product, bounds: &Bounds, steps: &mut Vec<Step>) {
    let begins = |load: &Load| load.wants_to_move && state.tick == 0;
    let concerns = (0..state.loads.len()).map(|at| concerns(state, product, at));
    let concerns: Vec<bool> = concerns.collect();
    if !concerns.contains(&true) && !state.loads.iter().any(begins) && !bounds.calm {
        return;
    }
    match &state.daemon {
        Daemon::Down => steps.push(Step::Restart),
        Daemon::Idle => {
            if daemon::begin(&mut state.clone(), product) {
                steps.push(Step::Cycle);
            }
        }
        Daemon::Busy(_) => steps.push(Step::Write),
    }
    if !bounds.small_steps && urgent(state, steps) {
        return;
    }
    if !bounds.within_cycles && matches!(state.daemon, Daemon::Busy(_)) {
        if state.faults_left > 0 {
            faults(state, product, bounds, &concerns, steps);
        }
        return;
    }
    if state.late.is_some() {
        steps.push(Step::Arrive);
    }
    // A cycle is over, or has given up, before an age is.
    if state.tick < LAST_TICK && !matches!(state.daemon, Daemon::Busy(_)) {
        steps.push(Step::Time);
    }
    watches(state, bounds, steps);
    for (at, load) in state.loads.iter().enumerate() {
        controllers(state, at, load, steps);
        if bounds.holds && load.wanted_by_autoscaler().is_some() {
            steps.push(Step::Autoscale(at));
        }
    }
    if state.faults_left > 0 {
        faults(state, product, bounds, &concerns, steps);
    }
}

/// Leaves only what everybody would do before anything else, if there is any.
fn urgent(state: &State, steps: &mut Vec<Step>) -> bool {
    for (at, load) in state.loads.iter().enumerate() {
        let starting = |pod: &&Pod| pod.phase == Phase::Starting;
        let lost = |pod: &&Pod| pod.node.is_some_and(|node| state.is_lost(node));
        let step = if load.known_count != load.deployment.count {
            Some(Step::Scale(at))
        } else if let Some(pod) = load.pods.iter().find(lost) {
            Some(Step::Collect(at, pod.name))
        } else {
            load.pods.iter().find(starting).map(|pod| Step::BecomeReady(at, pod.name))
        };
        if let Some(step) = step {
            steps.clear();
            steps.push(step);
            return true;
        }
    }
    false
}

fn watches(state: &State, bounds: &Bounds, steps: &mut Vec<Step>) {
    fn of<T>(watch: &Watch<T>, kind: Kind, bounds: &Bounds, steps: &mut Vec<Step>) {
        if !watch.old.is_empty() {
            steps.push(Step::Deliver(kind));
        }
        if watch.lags && (watch.old.len() > 1 || !bounds.always_late) {
            steps.push(Step::Relist(kind));
        }
    }
    of(&state.pods, Kind::Pods, bounds, steps);
    of(&state.deployments, Kind::Deployments, bounds, steps);
    of(&state.autoscalers, Kind::Autoscalers, bounds, steps);
    if !state.controllers.old.is_empty() {
        steps.push(Step::Deliver(Kind::Controllers));
    }
    if state.controllers.lags {
        steps.push(Step::Relist(Kind::Controllers));
    }
}

fn controllers(state: &State, at: usize, load: &Load, steps: &mut Vec<Step>) {
    if load.known_count != load.deployment.count {
        steps.push(Step::Scale(at));
    }
    if may_create(state, at) {
        steps.push(Step::Create(at));
    }
    let known = state.known_pods(at);
    if known.len() > usize::from(load.known_count) && !load.expects {
        let first = known.iter().map(order).min();
        let goes = |pod: &&Pod| Some(order(pod)) == first && load.pod(pod.name).is_some();
        steps.extend(known.iter().filter(goes).map(|pod| Step::Remove(at, pod.name)));
    }
    for pod in &load.pods {
        match (pod.node, pod.phase) {
            (None, _) if pod.steered.is_some() => {
                if !state.is_lost(TARGET) {
                    steps.push(Step::Bind(at, pod.name, TARGET));
                }
            }
            (None, _) => {
                let nodes = [TARGET, ELSEWHERE].into_iter().filter(|node| !state.is_lost(*node));
                steps.extend(nodes.map(|node| Step::Bind(at, pod.name, node)));
            }
            (Some(node), _) if state.is_lost(node) => steps.push(Step::Collect(at, pod.name)),
            (Some(_), Phase::Ready) => {}
            (Some(_), _) => steps.push(Step::BecomeReady(at, pod.name)),
        }
    }
    if load.deployment.rollout {
        steps.extend([Step::EndRollout(at, true), Step::EndRollout(at, false)]);
    }
}

/// Which goes first: not bound, not Ready, then by mark. Among those that are alike the
/// real controller has further rules; here any may go.
pub(super) fn order(pod: &Pod) -> (Phase, bool) {
    (pod.phase, !pod.marked)
}

pub(super) fn may_create(state: &State, at: usize) -> bool {
    let load = &state.loads[at];
    state.known_pods(at).len() < usize::from(load.known_count)
        && !load.expects
        && !(load.quota && load.active() >= BEFORE)
}

/// The intent that the webhook tells a pod that is created now.
pub(super) fn intent(state: &State, product: &Product, at: usize) -> Option<u8> {
    if state.daemon == Daemon::Down {
        return None;
    }
    let used = |since| state.loads[at].pods.iter().any(|pod| pod.steered == Some(since));
    let remembered = product.remembered(state.store, at);
    let stands = |(since, until): &(u8, _)| instant(state.tick) < *until && !used(*since);
    remembered.intents.into_iter().find(stands).map(|(since, _)| since)
}

/// Does one thing.
pub(super) fn happen(state: &State, product: &Product, bounds: &Bounds, step: Step) -> State {
    let mut next = state.clone();
    match step {
        Step::Fault(fault) => {
            next.faults_left -= 1;
            go_wrong(&mut next, product, bounds, fault);
        }
        Step::Cycle => {
            daemon::begin(&mut next, product);
        }
        Step::Write => daemon::step(&mut next, product, bounds.checks, Reply::Given),
        Step::Restart => {
            next.daemon = Daemon::Idle;
            next.pods.old.clear();
            next.deployments.old.clear();
            next.autoscalers.old.clear();
        }
        Step::Arrive => daemon::arrive(&mut next, bounds.checks),
        Step::Time => {
            next.tick = if bounds.all_ages { next.tick + 1 } else { LAST_TICK };
            next.late = None; // The API server ends every request within a minute.
        }
        Step::Deliver(Kind::Pods) => drop(next.pods.old.remove(0)),
        Step::Deliver(Kind::Deployments) => drop(next.deployments.old.remove(0)),
        Step::Deliver(Kind::Autoscalers) => drop(next.autoscalers.old.remove(0)),
        Step::Deliver(Kind::Controllers) => drop(next.controllers.old.remove(0)),
        Step::Relist(Kind::Controllers) => next.controllers = Watch::new(false),
        Step::Relist(Kind::Pods) => next.pods = Watch::new(bounds.always_late),
        Step::Relist(Kind::Deployments) => next.deployments = Watch::new(bounds.always_late),
        Step::Relist(Kind::Autoscalers) => next.autoscalers = Watch::new(bounds.always_late),
        Step::Autoscale(at) => {
            let load = &mut next.loads[at];
            if let Some(wanted) = load.wanted_by_autoscaler() {
                load.set_by_others(wanted);
            }
        }
        Step::Scale(at) => {
            let load = &mut next.loads[at];
            load.known_count = load.deployment.count;
            load.judge.known_by_us = load.judge.lowered_by_us;
        }
        Step::Create(at) => {
            let steered = intent(state, product, at);
            create(&mut next, product, at, steered);
        }
        Step::Remove(at, name) => remove(&mut next, at, name),
        Step::Bind(at, name, node) => {
            let pod = next.loads[at].pod_mut(name).unwrap();
            (pod.node, pod.phase) = (Some(node), Phase::Starting);
        }
        Step::BecomeReady(at, name) => {
            next.loads[at].pod_mut(name).unwrap().phase = Phase::Ready;
        }
        Step::Collect(at, name) => next.loads[at].pods.retain(|pod| pod.name != name),
        Step::EndRollout(at, done) => end_rollout(&mut next, product, at, done),
    }
    if state.controllers.lags && next.controllers.lags {
        let before = state.pods_now();
        if before != next.pods_now() {
            next.controllers.moved_on(before, CONTROLLERS_LAG);
        }
    }
    let behind = !next.controllers.old.is_empty();
    for (at, load) in next.loads.iter_mut().enumerate() {
        let acted = matches!(step, Step::Create(of) | Step::Remove(of, _) if of == at);
        load.expects = behind && (load.expects || acted);
    }
    next.count_ready();
    if let Some(Late::Count { load, .. }) = next.late
        && bounds.checks.version_at_count
        && state.loads[load].deployment.wanted() != next.loads[load].deployment.wanted()
    {
        next.late = None; // It was for another version, and will be refused.
    }
    if let Some(Late::Minimum { load, .. }) = next.late
        && bounds.checks.version_at_minimum
        && state.loads[load].hpa != next.loads[load].hpa
    {
        next.late = None;
    }
    if state.pods.lags && next.pods.lags {
        let before = state.pods_now();
        if before != next.pods_now() {
            next.pods.moved_on(before, bounds.lag);
        }
    }
    if state.deployments.lags && next.deployments.lags {
        let before = state.deployments_now();
        if before != next.deployments_now() {
            next.deployments.moved_on(before, bounds.lag);
        }
    }
    if state.autoscalers.lags && next.autoscalers.lags {
        let before = state.autoscalers_now();
        if before != next.autoscalers_now() {
            next.autoscalers.moved_on(before, bounds.lag);
        }
    }
    next
}

/// The lowest name that nobody speaks of: of a pod that is gone for everybody, nothing
/// tells whether it was the same.
fn free_name(state: &State, product: &Product, at: usize) -> u8 {
    let bits = |pods: &[Pod]| pods.iter().fold(0_u32, |bits, pod| bits | 1 << pod.name);
    let of_memory = |memory: u32| product.remembered(memory, at).names;
    let mut used = bits(&state.loads[at].pods) | of_memory(state.store) | 0b111;
    used |= state.controllers.old.iter().fold(0, |used, version| used | bits(&version[at]));
    used |= state.pods.old.iter().fold(0, |used, version| used | bits(&version[at]));
    if let Daemon::Busy(cycle) = &state.daemon {
        used |= product.names(cycle.thread, at);
        if let Request::Save(memory) = &cycle.request {
            used |= of_memory(*memory);
        }
    }
    if let Some(Late::Save(memory)) = &state.late {
        used |= of_memory(*memory);
    }
    u8::try_from(used.trailing_ones()).unwrap()
}

pub(super) fn create(state: &mut State, product: &Product, at: usize, steered: Option<u8>) {
    let name = free_name(state, product, at);
    let created = state.tick;
    let pods = &mut state.loads[at].pods;
    pods.push(Pod { name, node: None, phase: Phase::Pending, marked: false, steered, created });
    pods.sort_unstable();
}

fn remove(state: &mut State, at: usize, name: u8) {
    let behind = !state.controllers.old.is_empty();
    let load = &mut state.loads[at];
    // Whoever looks at the pods as they are would take this one. What faults have made of
    // them in between is no matter of the mark.
    let first = load.pods.iter().min_by_key(|pod| order(pod));
    let planned = first.filter(|pod| pod.marked && pod.name < BEFORE).map(|pod| pod.name);
    let proven = load.judge.known_by_us && load.judge.toll == 0 && !load.judge.marked_late;
    if proven && planned.is_some_and(|one| one != name) {
        state.broken |= Broken::ANOTHER;
    }
    let serves = load.pod(name).is_some_and(|pod| pod.phase == Phase::Ready);
    load.pods.retain(|pod| pod.name != name);
    // What a controller has not seen yet of what faults took, it cannot reckon with.
    let unaware = behind && load.judge.toll > 0;
    if serves && load.judge.known_by_us && !unaware {
        let needed = load.judge.wish.min(load.known_count);
        if load.ready() < needed {
            state.broken |= Broken::READY;
        }
        if load.ready() < BUDGET.min(needed) {
            state.broken |= Broken::BUDGET;
        }
    }
}

fn end_rollout(state: &mut State, product: &Product, at: usize, done: bool) {
    state.loads[at].deployment.rollout = false;
    if !done {
        return;
    }
    let names: Vec<u8> = state.loads[at].pods.iter().map(|pod| pod.name).collect();
    let node = [ELSEWHERE, TARGET].into_iter().find(|node| !state.is_lost(*node));
    for _ in &names {
        create(state, product, at, None);
    }
    let pods = &mut state.loads[at].pods;
    pods.retain(|pod| !names.contains(&pod.name));
    for pod in pods.iter_mut() {
        (pod.node, pod.phase) = (node, Phase::Ready);
    }
}
