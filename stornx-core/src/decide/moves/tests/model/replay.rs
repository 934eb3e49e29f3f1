//! Ports that answer a cycle from a list and stop it where the list ends, and the
//! planner with the wish to move.

use std::sync::Mutex;

use async_trait::async_trait;

use super::{
    product::{leaves, load_name, victim},
    world::Answer,
};
use crate::{
    decide::{
        self,
        ledger::Ledger,
        moves::{Beginning, Moved, Room, advance, destinations::Destinations, gates},
        safety::{Safety, testing::id},
    },
    memory::Memory,
    model::{ClusterFacts, Facts, MetricsFacts, Snapshot},
    plan::{Action, Planned},
    policy::Policy,
    ports::{Actuator, Clock, ClusterSource, LeaderGate, MetricsSource, PortError, StateStore},
    report::{Expected, MoveReason, MoveWhy},
    units::Timestamp,
    view::{Remembered, View},
};

/// What a cycle asks for and has no answer to yet.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    Save(Memory),
    Apply(Action),
}

/// A world that answers from a list.
pub(super) struct Script {
    facts: ClusterFacts,
    memory: Memory,
    now: Timestamp,
    answers: Vec<Answer>,
    state: Mutex<(usize, Option<Asked>)>,
}

impl Script {
    pub(super) fn new(
        facts: ClusterFacts,
        memory: Memory,
        now: Timestamp,
        answers: Vec<Answer>,
    ) -> Self {
        Self { facts, memory, now, answers, state: Mutex::new((0, None)) }
    }

    pub(super) fn asked(&self) -> Option<Asked> {
        self.state.lock().unwrap().1.clone()
    }

    async fn answer(&self, asked: Asked) -> Result<(), PortError> {
        let answer = {
            let mut state = self.state.lock().unwrap();
            let answer = self.answers.get(state.0).copied();
            state.0 += 1;
            if answer.is_none() {
                state.1 = Some(asked);
            }
            answer
        };
        let (what, detail) = (String::new(), String::new());
        match answer {
            Some(Answer::Done) => Ok(()),
            Some(Answer::Refused) => Err(PortError::Conflict { what, detail }),
            Some(Answer::None) => Err(PortError::Unavailable { what, detail }),
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl ClusterSource for Script {
    async fn observe(&self) -> Result<ClusterFacts, PortError> {
        Ok(self.facts.clone())
    }
}

#[async_trait]
impl MetricsSource for Script {
    async fn observe(&self, _cluster: &ClusterFacts, _now: Timestamp) -> MetricsFacts {
        fn missing<T>() -> Facts<T> {
            Facts::Missing { reason: String::new() }
        }
        MetricsFacts {
            usage: missing(),
            traffic: missing(),
            latency: missing(),
            warnings: Vec::new(),
        }
    }
}

#[async_trait]
impl StateStore for Script {
    async fn load(&self) -> Result<Memory, PortError> {
        Ok(self.memory.clone())
    }

    async fn save(&self, memory: &Memory) -> Result<(), PortError> {
        self.answer(Asked::Save(memory.clone())).await
    }
}

#[async_trait]
impl Actuator for Script {
    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        self.answer(Asked::Apply(action.clone())).await
    }
}

#[async_trait]
impl LeaderGate for Script {
    async fn may_write(&self) -> bool {
        true
    }
}

impl Clock for Script {
    fn now(&self) -> Timestamp {
        self.now
    }
}

/// The planner of the product, and moves of the loads that wish to move.
pub(super) fn starting(
    wishes: &[bool],
    snapshot: &Snapshot,
    policy: &Policy,
    memory: &Memory,
    now: Timestamp,
) -> Planned {
    let mut planned = decide::plan(snapshot, policy, memory, now);
    begin(&mut planned, snapshot, policy, memory, wishes);
    planned
}

fn begin(
    planned: &mut Planned,
    snapshot: &Snapshot,
    policy: &Policy,
    memory: &Memory,
    wishes: &[bool],
) {
    if !wishes.contains(&true) {
        return;
    }
    let view = View::new(snapshot, policy, planned.plan.at);
    let memory = Remembered::of(&view, memory);
    let safety = Safety::assess(&view, &memory);
    let mut ledger = Ledger::new(&view, &memory);
    let under_way = advance(&view, &safety, &memory, &mut ledger);
    let destinations = Destinations::new(&view, &ledger);
    let mut room = Room {
        view: &view,
        safety: &safety,
        memory: &memory,
        ledger: &mut ledger,
        destinations: &destinations,
    };
    let reasons = room.gates(&under_way);
    let mut moved =
        Moved { proposals: Vec::new(), reasons, growth: std::collections::BTreeMap::new() };
    for (load, _) in wishes.iter().enumerate().filter(|(_, wishes)| **wishes) {
        let workload = id(&load_name(load));
        let Some(at) = view.workload(&workload) else { continue };
        let busy = planned.plan.actions.iter().any(|action| action.workload() == Some(&workload));
        // The last of the gates: there is no traffic in this world.
        let open = matches!(
            gates::may_move(&view, &safety, &memory, room.ledger, at),
            Ok(()) | Err(MoveReason::NoTraffic)
        );
        let (from, to) =
            (view.node(&leaves(load).parse().unwrap()), view.node(&"d0".parse().unwrap()));
        let (Some(from), Some(to)) = (from, to) else { continue };
        let pod = view.pod(at, &victim(load)).filter(|pod| pod.node == Some(from));
        let Some(pod) = pod else { continue };
        if busy || !open || under_way.reasons[at.at()].is_some() || !room.is_possible(at, from, to)
        {
            continue;
        }
        room.promise(at, from, to);
        let why = MoveWhy::Undo {
            workload,
            victim: pod.pod.name.clone(),
            from: view.nodes[from.at()].node.name.clone(),
            to: view.nodes[to.at()].node.name.clone(),
        };
        let expected = Expected::default();
        room.propose(Beginning { at, pod, from, to, expected, why }, &mut moved);
    }
    for proposal in moved.proposals {
        let workload = proposal.action.workload().unwrap().clone();
        if let Some(report) = planned.report.workloads.get_mut(&workload) {
            report.moves = MoveReason::Started;
        }
        planned.plan.actions.push(proposal.action);
        planned.report.actions.push(proposal.report);
    }
}
