//! Every way that a move can go, crashes between any two writes included: a search
//! through all states of a small model around the real code. From each state that can
//! be reached, once the world calms down, the move ends, the count is what it was, and
//! nothing is left behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::{
    decide::{
        ledger::Ledger,
        moves::{advance, remember_workloads},
        safety::{
            Safety,
            testing::{NOW, World, id, pod, pod_name},
        },
    },
    memory::{Memory, MoveInFlight, WorkloadMemory},
    model::{PodPhase, Rollout},
    plan::{Action, MoveWay, Plan, Planned},
    ports::PortError,
    report::Report,
    units::{Span, Timestamp},
    view::View,
};

const BEFORE: u32 = 2;
/// Node by number; the move goes from 0 to 2, 3 is in a zone of its own.
const NODES: [&str; 4] = ["a0", "b0", "c0", "d0"];
/// How long the move has lasted in each of the ages.
const AGES: [u64; 3] = [30, 120, 400];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    desired: u32,
    /// By name: node and phase.
    pods: BTreeMap<u32, (Option<usize>, PodPhase)>,
    record: bool,
    age: usize,
    /// The surge was asked for, or the crash came before it.
    asked: bool,
    /// What the replica set removes first.
    marked: Option<u32>,
    rolling: bool,
    rollouts_left: u32,
    deaths_left: u32,
    next_name: u32,
}

fn start() -> State {
    let ready = |node| (Some(node), PodPhase::Ready);
    State {
        desired: BEFORE,
        pods: [(0, ready(0)), (1, ready(1))].into(),
        record: true,
        age: 0,
        asked: false,
        marked: None,
        rolling: false,
        rollouts_left: 1,
        deaths_left: 2,
        next_name: 2,
    }
}

impl State {
    fn name(pod: u32) -> String {
        format!("w-{pod}")
    }

    fn world(&self) -> (World, Timestamp) {
        let mut world = World::new(&[1, 1, 1, 1]);
        let workload = world.workload("w", &[]);
        workload.desired = self.desired;
        workload.rollout = if self.rolling { Rollout::InProgress } else { Rollout::Settled };
        workload.pods = self
            .pods
            .iter()
            .map(|(name, (node, phase))| pod(&Self::name(*name), node.map(|n| NODES[n]), *phase))
            .collect();
        let record = MoveInFlight {
            started_at: NOW,
            way: MoveWay::Surge,
            victim: pod_name("w-0"),
            from: "a0".parse().unwrap(),
            to: "c0".parse().unwrap(),
            replicas_before: BEFORE,
            known_pods: vec![pod_name("w-0"), pod_name("w-1")],
            predicted_saving: 1.0,
            ending: None,
        };
        if self.record {
            let remembered =
                WorkloadMemory { in_flight: Some(record), ..WorkloadMemory::default() };
            world.memory.workloads.insert(id("w"), remembered);
        }
        (world, NOW.after(Span::from_seconds(AGES[self.age])))
    }

    /// What the next cycle would do.
    fn planned(&self) -> Option<Action> {
        let (world, now) = self.world();
        let view = View::new(&world.snapshot, &world.policy, now);
        let safety = Safety::assess(&view, &world.memory);
        let mut ledger = Ledger::new(&view, &world.memory);
        let mut proposals = advance(&view, &safety, &world.memory, &mut ledger).proposals;
        assert!(proposals.len() <= 1);
        proposals.pop().map(|proposal| proposal.action)
    }

    /// Whether the record stands after a cycle with this outcome.
    fn remembers(&self, action: &Action, outcome: Result<(), PortError>) -> bool {
        let (world, now) = self.world();
        let planned = Planned {
            plan: Plan { at: now, actions: vec![action.clone()], ..Plan::default() },
            report: Report::default(),
        };
        let mut memory: Memory = world.memory.clone();
        let outcomes = vec![outcome];
        remember_workloads(&mut memory, &world.snapshot, &planned, &outcomes, &world.policy, now);
        memory.workloads.get(&id("w")).is_some_and(|w| w.in_flight.is_some())
    }

    fn number(name: &crate::ids::PodName) -> u32 {
        name.name().trim_start_matches("w-").parse().unwrap()
    }

    /// The world after an action, the memory untouched.
    fn acted(&self, action: &Action) -> Self {
        let mut next = self.clone();
        assert!(!self.rolling, "written during a rollout: {self:?}");
        match action {
            Action::FinishMove { observed, victim, replacement, .. } => {
                assert_eq!(*observed, self.desired);
                let phase = self.pods[&Self::number(replacement)].1;
                assert_eq!(phase, PodPhase::Ready, "{self:?}");
                assert!(Self::number(replacement) > 1, "{self:?}");
                next.desired -= 1;
                next.marked = Some(Self::number(victim));
            }
            Action::AbortMove { observed, surge: Some(surge), .. } => {
                assert_eq!(*observed, self.desired);
                assert!(Self::number(surge) > 1, "{self:?}");
                next.desired -= 1;
                next.marked = Some(Self::number(surge));
            }
            Action::AbortMove { surge: None, .. } => {}
            other => panic!("{other:?}"),
        }
        assert!(next.desired >= BEFORE, "{self:?} {action:?}");
        next
    }

    fn active(&self) -> u32 {
        let active = self.pods.values().filter(|(_, phase)| *phase != PodPhase::Terminating);
        u32::try_from(active.count()).unwrap()
    }

    /// What the replica set may do now.
    fn reconciled(&self) -> Vec<Self> {
        if self.active() < self.desired {
            // The first goes to the chosen node, if the placing works; later ones anywhere.
            let taken = self.pods.values().any(|(node, _)| *node == Some(2));
            let places: &[Option<usize>] =
                if taken { &[Some(3), None] } else { &[Some(2), Some(3), None] };
            let born = |node: &Option<usize>| {
                let mut next = self.clone();
                let phase = if node.is_some() { PodPhase::Starting } else { PodPhase::Pending };
                next.pods.insert(self.next_name, (*node, phase));
                next.next_name += 1;
                next
            };
            return places.iter().map(born).collect();
        }
        if self.active() > self.desired {
            let marked = self.marked.filter(|pod| self.pods.contains_key(pod));
            let victims = match marked {
                Some(pod) => vec![pod],
                None => self.pods.keys().copied().collect(),
            };
            let gone = |pod: u32| {
                let mut next = self.clone();
                next.pods.remove(&pod);
                next
            };
            return victims.into_iter().map(gone).collect();
        }
        Vec::new()
    }

    fn cycles(&self) -> Vec<Self> {
        let Some(action) = self.planned() else { return Vec::new() };
        let refused = PortError::Conflict { what: String::new(), detail: String::new() };
        assert!(self.remembers(&action, Err(refused)), "a failed action leaves the record");
        let done = self.acted(&action);
        let remembered = Self { record: self.remembers(&action, Ok(())), ..done.clone() };
        // Carried out and remembered, or a crash in between.
        vec![remembered, done]
    }

    /// Everything that can happen next.
    fn next(&self) -> Vec<Self> {
        let mut next = self.reconciled();
        next.extend(self.cycles());
        if !self.asked && self.age == 0 {
            next.push(Self { desired: self.desired + 1, asked: true, ..self.clone() });
        }
        if self.age + 1 < AGES.len() {
            next.push(Self { age: self.age + 1, asked: true, ..self.clone() });
        }
        for (name, (node, phase)) in &self.pods {
            match phase {
                PodPhase::Starting => {
                    let mut ready = self.clone();
                    ready.pods.insert(*name, (*node, PodPhase::Ready));
                    next.push(ready);
                }
                PodPhase::Ready if self.deaths_left > 0 => {
                    let mut dead = self.clone();
                    dead.pods.remove(name);
                    dead.deaths_left -= 1;
                    next.push(dead);
                }
                _ => {}
            }
        }
        if self.rolling {
            next.push(Self { rolling: false, ..self.clone() });
            next.push(self.rolled_out());
        } else if self.rollouts_left > 0 {
            let rollouts_left = self.rollouts_left - 1;
            next.push(Self { rolling: true, rollouts_left, ..self.clone() });
        }
        next
    }

    /// The rollout ends with all replicas new.
    fn rolled_out(&self) -> Self {
        let mut next = Self { rolling: false, ..self.clone() };
        let count = self.active();
        next.pods.clear();
        for _ in 0..count {
            next.pods.insert(next.next_name, (Some(3), PodPhase::Ready));
            next.next_name += 1;
        }
        next
    }

    /// The world calms down: nothing more happens to it, and cycles go on.
    fn calmed(&self) -> Self {
        let mut state = Self { rolling: false, age: 2, asked: true, ..self.clone() };
        for _ in 0..16 {
            while let Some(next) = state.reconciled().into_iter().next() {
                state = next;
            }
            for (node, phase) in state.pods.values_mut() {
                *node = node.or(Some(3));
                *phase = PodPhase::Ready;
            }
            match state.cycles().into_iter().next() {
                Some(next) => state = next,
                None if !state.record => break,
                None => {}
            }
        }
        state
    }
}

#[test]
fn every_way_ends_with_the_count_of_before() {
    let mut seen: BTreeSet<State> = [start()].into();
    let mut queue: VecDeque<State> = [start()].into();
    let mut finished = 0_u32;
    while let Some(state) = queue.pop_front() {
        let calm = state.calmed();
        assert!(!calm.record, "the record stays: {state:?} -> {calm:?}");
        assert_eq!(calm.desired, BEFORE, "{state:?} -> {calm:?}");
        assert_eq!(calm.active(), BEFORE, "{state:?} -> {calm:?}");
        finished += u32::from(calm.pods.get(&2).is_some_and(|(node, _)| *node == Some(2)));
        for next in state.next() {
            if next.next_name <= 6 && seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    assert!(seen.len() > 2_000, "only {} states", seen.len());
    assert!(finished > 100, "moves hardly ever come to their end: {finished}");
}
