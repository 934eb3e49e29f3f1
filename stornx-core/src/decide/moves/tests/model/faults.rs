//! What goes wrong, and what others want that StornX has no say in.

use super::{
    actors::{Bounds, Kind, Step, create, intent, may_create, order},
    daemon::{self, Reply},
    product::Product,
    world::{BEFORE, Daemon, ELSEWHERE, Hpa, Load, Phase, Pod, State, TARGET},
};

/// One thing that goes wrong, or that somebody else wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    /// The daemon ends; whether its request still arrives.
    Crash(bool),
    /// A request gets no answer; whether it was carried out.
    NoAnswer(bool),
    LoseNode(u8),
    BecomeUnready(usize, u8),
    Delete(usize, u8),
    /// A person sets the count.
    Person(usize, u8),
    /// An autoscaler appears.
    Autoscaler(usize),
    /// It is deleted.
    AutoscalerGoes(usize),
    /// Its owner sets its minimum.
    Minimum(usize, u8),
    /// Its figures ask for one replica more.
    Demand(usize),
    OptOut(usize),
    Rollout(usize),
    Quota(usize),
    /// A pod is created and the webhook is not asked.
    Unsteered(usize),
    /// The ReplicaSet goes by an old view of its pods.
    RemoveAny(usize, u8),
    /// The events of a watch come late from now on.
    Stall(Kind),
}

impl Fault {
    /// The load that it befalls alone.
    const fn befalls(self) -> Option<usize> {
        match self {
            Self::BecomeUnready(at, _)
            | Self::Delete(at, _)
            | Self::Person(at, _)
            | Self::Autoscaler(at)
            | Self::AutoscalerGoes(at)
            | Self::Minimum(at, _)
            | Self::Demand(at)
            | Self::OptOut(at)
            | Self::Rollout(at)
            | Self::Quota(at)
            | Self::Unsteered(at)
            | Self::RemoveAny(at, _) => Some(at),
            Self::Crash(_) | Self::NoAnswer(_) | Self::LoseNode(_) | Self::Stall(_) => None,
        }
    }
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Faulty {
    /// What all moves share: the daemon, its requests, watches, the node that they go to.
    /// Besides, a person who sets a count to one more.
    Shared,
    /// Also what befalls the victim and the newcomers, the count, the template, the quota.
    Most,
    /// Everything, on every replica.
    All,
}

/// Everything that may go wrong next.
pub(super) fn faults(
    state: &State,
    product: &Product,
    bounds: &Bounds,
    concerns: &[bool],
    steps: &mut Vec<Step>,
) {
    if !concerns.contains(&true) {
        return;
    }
    let all = bounds.faulty == Faulty::All;
    let mut push = |fault| steps.push(Step::Fault(fault));
    if state.daemon != Daemon::Down {
        // What may arrive late need not.
        let late = state.late.is_none() && daemon::under_way(state, bounds.checks).is_some();
        push(Fault::Crash(late));
        if late {
            push(Fault::NoAnswer(true));
            push(Fault::NoAnswer(false));
        }
    }
    // The node of the victim, that of the replacement, another one with a replica.
    for node in [0, ELSEWHERE, TARGET] {
        if state.lost_nodes == 0 && (all || node == TARGET) {
            push(Fault::LoseNode(node));
        }
    }
    if !bounds.always_late && bounds.lag > 0 {
        if !state.pods.lags {
            push(Fault::Stall(Kind::Pods));
        }
        if !state.deployments.lags {
            push(Fault::Stall(Kind::Deployments));
        }
        if bounds.holds && !state.autoscalers.lags {
            push(Fault::Stall(Kind::Autoscalers));
        }
    }
    if bounds.controllers && !state.controllers.lags {
        push(Fault::Stall(Kind::Controllers));
    }
    for (at, load) in state.loads.iter().enumerate().filter(|(at, _)| concerns[*at]) {
        // The loads are alike but for their names: the first to suffer may be the first.
        if at > 0 && !state.loads[0].suffered {
            continue;
        }
        for count in BEFORE - 1..=BEFORE + 2 {
            let told = match bounds.faulty {
                Faulty::Shared => count == BEFORE + 1,
                Faulty::Most => count.abs_diff(BEFORE) == 1,
                Faulty::All => true,
            };
            if told && count != load.deployment.count {
                push(Fault::Person(at, count));
            }
        }
        if bounds.faulty == Faulty::Shared {
            continue;
        }
        let deployment = &load.deployment;
        if load.hpa.is_none() && all {
            push(Fault::Autoscaler(at));
        }
        if bounds.holds {
            of_autoscaler(load, at, &mut push);
        }
        if !deployment.opted_out && all {
            push(Fault::OptOut(at));
        }
        if !deployment.rollout {
            push(Fault::Rollout(at));
        }
        if !load.quota {
            push(Fault::Quota(at));
        }
        if all && may_create(state, at) && intent(state, product, at).is_some() {
            push(Fault::Unsteered(at));
        }
        let first = load.pods.iter().map(order).min();
        for pod in &load.pods {
            if !may_suffer(load, at, pod, bounds) {
                continue;
            }
            if pod.phase == Phase::Ready {
                push(Fault::BecomeUnready(at, pod.name));
            }
            push(Fault::Delete(at, pod.name));
            if all && load.active() > load.known_count && Some(order(pod)) != first {
                push(Fault::RemoveAny(at, pod.name));
            }
        }
    }
}

/// What may become of an autoscaler whose minimum moves hold.
fn of_autoscaler(load: &Load, at: usize, push: &mut impl FnMut(Fault)) {
    let Some(hpa) = load.hpa else { return };
    push(Fault::AutoscalerGoes(at));
    for min in [1, BEFORE, BEFORE + 1] {
        if hpa.min != min {
            push(Fault::Minimum(at, min));
        }
    }
    if load.demand == BEFORE {
        push(Fault::Demand(at));
    }
}

/// Whether faults befall this pod. Of the replicas of before that are not the victim, one
/// stands for the other as long as they are alike.
fn may_suffer(load: &Load, at: usize, pod: &Pod, bounds: &Bounds) -> bool {
    if pod.name >= BEFORE || usize::from(pod.name) == at {
        return true;
    }
    let alike = |other: &&Pod| {
        other.name < pod.name
            && usize::from(other.name) != at
            && order(other) == order(pod)
            && other.node.is_some() == pod.node.is_some()
    };
    bounds.faulty == Faulty::All && !load.pods.iter().any(|other| alike(&other))
}

/// Lets it go wrong.
pub(super) fn go_wrong(state: &mut State, product: &Product, bounds: &Bounds, fault: Fault) {
    if let Some(at) = fault.befalls() {
        // Nobody asks for it where there is one load.
        state.loads[at].suffered = bounds.loads > 1;
    }
    match fault {
        Fault::Crash(late) => {
            if late {
                state.late = daemon::under_way(state, bounds.checks);
            }
            state.daemon = Daemon::Down;
        }
        Fault::NoAnswer(done) => {
            let reply = if done { Reply::LostAfter } else { Reply::LostBefore };
            daemon::step(state, product, bounds.checks, reply);
        }
        Fault::LoseNode(node) => {
            state.lost_nodes |= 1 << node;
            for load in &mut state.loads {
                for pod in load.pods.iter_mut().filter(|pod| pod.node == Some(node)) {
                    load.judge.toll += u8::from(pod.phase == Phase::Ready);
                    pod.phase = Phase::Unready;
                }
            }
        }
        Fault::BecomeUnready(at, name) => {
            let load = &mut state.loads[at];
            load.judge.toll += 1;
            load.pod_mut(name).unwrap().phase = Phase::Unready;
        }
        Fault::Delete(at, name) | Fault::RemoveAny(at, name) => state.loads[at].lose(name),
        Fault::Person(at, count) => state.loads[at].set_by_others(count),
        Fault::Autoscaler(at) => {
            let load = &mut state.loads[at];
            load.judge.minimum = 1;
            load.hpa = Some(Hpa { min: 1, by_others: true, held: None });
        }
        Fault::AutoscalerGoes(at) => state.loads[at].hpa = None,
        Fault::Minimum(at, min) => {
            let load = &mut state.loads[at];
            load.judge.minimum = min;
            if let Some(hpa) = &mut load.hpa {
                (hpa.min, hpa.by_others) = (min, true);
            }
        }
        Fault::Demand(at) => state.loads[at].demand += 1,
        Fault::OptOut(at) => state.loads[at].deployment.opted_out = true,
        Fault::Rollout(at) => state.loads[at].deployment.rollout = true,
        Fault::Quota(at) => state.loads[at].quota = true,
        Fault::Unsteered(at) => create(state, product, at, None),
        Fault::Stall(Kind::Pods) => state.pods.lags = true,
        Fault::Stall(Kind::Deployments) => state.deployments.lags = true,
        Fault::Stall(Kind::Autoscalers) => state.autoscalers.lags = true,
        Fault::Stall(Kind::Controllers) => state.controllers.lags = true,
    }
}
