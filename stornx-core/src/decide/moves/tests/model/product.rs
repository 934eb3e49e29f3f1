//! The product, as it is: [`Engine`] runs whole cycles with the real planner, checker and
//! remember step. Nothing of it is copied here.
//!
//! A cycle is a function of what it saw and of the answers to its requests. So the place
//! where a cycle stands is the list of answers so far, and the next request is found by
//! running the cycle anew with these answers until it asks for something that is not
//! answered yet. What was found once is kept.
//!
//! The one thing added to the planner is the wish to move a replica, since there is no
//! traffic that would make one worth it: wishes pass the gates of the product and are
//! written down by it.
//!
//! Of the memory only what a move under way leaves is kept: records, intents. Back-off
//! is forgotten at once, which lets moves begin earlier than they do.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future as _,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use super::{
    replay::{Script, starting},
    world::{Answer, BEFORE, BUDGET, Hpa, MAXIMUM, Phase, Request, Seen, TARGET, seconds},
};
use crate::{
    decide::safety::testing::{NOW, World, id, pod, pod_name},
    engine::{Engine, EngineOptions, Planner, Ports},
    ids::PodName,
    memory::{Memory, MoveInFlight, WorkloadMemory},
    model::{
        Autoscaler, AutoscalerKind, ClusterFacts, CountBy, DisruptionBudget, HeldMinimum, PodPhase,
        Rollout, Steered, Steering,
    },
    plan::{AbortCause, Action, MoveEnd, MoveEnding, MoveWay, Planned},
    policy::{AutoscaledMoves, Policy},
    units::{Span, Timestamp},
};

pub(super) const NODES: [&str; 4] = ["a0", "b0", "c0", "d0"];

pub(super) fn instant(tick: u8) -> Timestamp {
    NOW.after(Span::from_seconds(seconds(tick)))
}

fn tick_of(at: Timestamp) -> u8 {
    (0..=u8::MAX).find(|tick| instant(*tick) == at).unwrap()
}

pub(super) fn load_name(load: usize) -> String {
    format!("w{load}")
}

fn full_name(load: usize, name: u8) -> String {
    format!("w{load}-{name}")
}

fn number(name: &PodName) -> u8 {
    name.name().rsplit_once('-').unwrap().1.parse().unwrap()
}

fn load_of(action: &Action) -> usize {
    action.workload().unwrap().name().trim_start_matches('w').parse().unwrap()
}

/// What a stored memory says, as far as the world asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Remembered {
    pub(super) record: bool,
    /// The intents that stand: since which tick, until when.
    pub(super) intents: Vec<(u8, Timestamp)>,
    /// Names of pods that it mentions, a bit each.
    pub(super) names: u32,
}

/// Where a cycle stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Thread {
    seen: Seen,
    loaded: u32,
    answers: Vec<Answer>,
}

/// What a cycle does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Asks {
        thread: u32,
        request: Request,
    },
    Ends,
    /// The plan failed its check.
    Refused(String),
}

/// The thread of every cycle that only has to save its memory: whatever comes of that,
/// it is over then.
const TAIL: u32 = u32::MAX;

/// Plans kept: the runs of one cycle follow each other closely.
const PLANS: usize = 2_000;

#[derive(Default)]
struct Tables {
    memories: Vec<(Memory, Vec<Remembered>)>,
    by_text: HashMap<String, u32>,
    threads: Vec<Thread>,
    by_thread: HashMap<Thread, u32>,
    next: HashMap<u32, Next>,
    plans: Arc<Mutex<HashMap<(Seen, u32), Planned>>>,
    runs: usize,
}

/// The product and what is known of it so far.
pub(super) struct Product {
    policy: Policy,
    /// It is told how many replicas their controllers count as Ready.
    counts: bool,
    tables: Mutex<Tables>,
}

impl Product {
    /// `holds`: replicas of workloads of an autoscaler may move, with its minimum held.
    pub(super) fn new(holds: bool, counts: bool) -> Self {
        let mut policy = World::new(&[1; NODES.len()]).policy;
        policy.scaler.enabled = false;
        policy.moves.max_in_flight = 2;
        if holds {
            policy.moves.autoscaled = AutoscaledMoves::Hold;
        }
        let product = Self { policy, counts, tables: Mutex::default() };
        assert_eq!(product.intern(Memory::default()), 0);
        product
    }

    /// Cycles run.
    pub(super) fn runs(&self) -> usize {
        self.tables.lock().unwrap().runs
    }

    /// Different memories met.
    pub(super) fn memories(&self) -> usize {
        self.tables.lock().unwrap().memories.len()
    }

    /// What is remembered of a load.
    pub(super) fn remembered(&self, memory: u32, load: usize) -> Remembered {
        let tables = self.tables.lock().unwrap();
        tables.memories[memory as usize].1.get(load).cloned().unwrap_or_default()
    }

    pub(super) fn memory(&self, memory: u32) -> Memory {
        self.tables.lock().unwrap().memories[memory as usize].0.clone()
    }

    /// Names of pods of a load that a cycle may still speak of, a bit each.
    pub(super) fn names(&self, thread: u32, load: usize) -> u32 {
        if thread == TAIL {
            return 0;
        }
        let tables = self.tables.lock().unwrap();
        let thread = &tables.threads[thread as usize];
        let seen = thread.seen.pods[load].iter().fold(0, |names, pod| names | 1 << pod.name);
        let loaded = tables.memories[thread.loaded as usize].1.get(load);
        seen | loaded.map_or(0, |remembered| remembered.names)
    }

    /// What a cycle asks for first.
    pub(super) fn begin(&self, seen: Seen, loaded: u32) -> Next {
        self.ask(Thread { seen, loaded, answers: Vec::new() })
    }

    /// What a cycle asks for after an answer.
    pub(super) fn go_on(&self, thread: u32, answer: Answer) -> Next {
        if thread == TAIL {
            return Next::Ends;
        }
        let mut thread = self.tables.lock().unwrap().threads[thread as usize].clone();
        thread.answers.push(answer);
        self.ask(thread)
    }

    fn ask(&self, thread: Thread) -> Next {
        let at = {
            let mut tables = self.tables.lock().unwrap();
            match tables.by_thread.get(&thread).copied() {
                Some(at) => {
                    if let Some(next) = tables.next.get(&at) {
                        return next.clone();
                    }
                    at
                }
                None => {
                    let at = u32::try_from(tables.threads.len()).unwrap();
                    tables.threads.push(thread.clone());
                    tables.by_thread.insert(thread.clone(), at);
                    at
                }
            }
        };
        let mut next = self.run(at, &thread);
        // The last save of a cycle ends it, whatever comes of it.
        if let Next::Asks { thread: of, request: Request::Save(_) } = &mut next
            && (thread.answers.len() > 1
                || [Answer::Done, Answer::Refused, Answer::None]
                    .into_iter()
                    .all(|answer| self.ends_after(&thread, answer)))
        {
            *of = TAIL;
        }
        self.tables.lock().unwrap().next.insert(at, next.clone());
        next
    }

    fn ends_after(&self, thread: &Thread, answer: Answer) -> bool {
        let mut after = thread.clone();
        after.answers.push(answer);
        self.ask(after) == Next::Ends
    }

    fn run(&self, at: u32, thread: &Thread) -> Next {
        self.tables.lock().unwrap().runs += 1;
        let facts = self.facts(&thread.seen);
        let memory = self.memory(thread.loaded);
        let now = instant(thread.seen.tick);
        let script = Arc::new(Script::new(facts, memory, now, thread.answers.clone()));
        let ports = Ports {
            cluster: script.clone(),
            metrics: script.clone(),
            actuator: script.clone(),
            store: script.clone(),
            leader: script.clone(),
            clock: script.clone(),
        };
        let engine = Engine::new(ports, self.policy.clone(), EngineOptions::default())
            .with_planner(self.planner(thread));
        let mut cycle = pin!(engine.cycle());
        let poll = cycle.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        match (poll, script.asked()) {
            (Poll::Pending, Some(asked)) => {
                let request = match asked {
                    super::replay::Asked::Save(memory) => Request::Save(self.intern(memory)),
                    super::replay::Asked::Apply(action) => request(&action),
                };
                Next::Asks { thread: at, request }
            }
            (Poll::Ready(outcome), None) if outcome.violations.is_empty() => Next::Ends,
            (Poll::Ready(outcome), None) => {
                let broken: Vec<String> =
                    outcome.violations.iter().map(ToString::to_string).collect();
                Next::Refused(broken.join("; "))
            }
            (poll, asked) => panic!("neither asked nor ended: {poll:?} {asked:?}"),
        }
    }

    /// The planner of the product; what it planned for the same is not planned again.
    fn planner(&self, thread: &Thread) -> Planner {
        let plans = self.tables.lock().unwrap().plans.clone();
        let key = (thread.seen.clone(), thread.loaded);
        Arc::new(move |snapshot, policy, memory, now| {
            if let Some(planned) = plans.lock().unwrap().get(&key) {
                return planned.clone();
            }
            let planned = starting(&key.0.wants_to_move, snapshot, policy, memory, now);
            let mut plans = plans.lock().unwrap();
            if plans.len() >= PLANS {
                plans.clear();
            }
            plans.insert(key.clone(), planned.clone());
            planned
        })
    }

    fn intern(&self, memory: Memory) -> u32 {
        let memory = kept(memory);
        let text = serde_json::to_string(&memory).unwrap();
        let mut tables = self.tables.lock().unwrap();
        if let Some(at) = tables.by_text.get(&text) {
            return *at;
        }
        let at = u32::try_from(tables.memories.len()).unwrap();
        let remembered = (0..2).map(|load| {
            let remembered = memory.workloads.get(&id(&load_name(load)));
            remembered.map(read).unwrap_or_default()
        });
        let remembered = remembered.collect();
        tables.memories.push((memory, remembered));
        tables.by_text.insert(text, at);
        at
    }

    /// The cluster as a cycle sees it.
    fn facts(&self, seen: &Seen) -> ClusterFacts {
        let mut world = World::new(&[1; NODES.len()]);
        for (node, name) in NODES.iter().enumerate() {
            world.node(name).ready = seen.lost_nodes & (1 << node) == 0;
        }
        for (load, (deployment, pods)) in seen.deployments.iter().zip(&seen.pods).enumerate() {
            let workload = world.workload(&load_name(load), &[]);
            workload.desired = deployment.count.into();
            workload.counted_by =
                if deployment.by_others { CountBy::Others } else { CountBy::StornX };
            workload.ready_counted =
                self.counts.then_some(if deployment.counted { workload.desired } else { 0 });
            workload.budget = Some(DisruptionBudget { min_ready: BUDGET.into() });
            workload.policy.opted_out = deployment.opted_out;
            if deployment.rollout {
                workload.rollout = Rollout::InProgress;
            }
            workload.autoscaler = seen.autoscalers[load].map(autoscaler);
            for known in pods {
                let node = known.node.map(|node| NODES[usize::from(node)]);
                let phase = match known.phase {
                    Phase::Pending => PodPhase::Pending,
                    Phase::Starting => PodPhase::Starting,
                    Phase::Unready => PodPhase::Unready,
                    Phase::Ready => PodPhase::Ready,
                };
                let mut pod = pod(&full_name(load, known.name), node, phase);
                if known.name >= BEFORE {
                    pod.created_at = instant(known.created);
                }
                pod.ready_since = None;
                pod.traces.victim = known.marked;
                pod.traces.steered = known.steered.map(|since| Steered {
                    node: NODES[usize::from(TARGET)].parse().unwrap(),
                    since: instant(since),
                });
                workload.pods.push(pod);
            }
        }
        ClusterFacts {
            nodes: world.snapshot.nodes,
            workloads: world.snapshot.workloads,
            hosts: Vec::new(),
            mesh: world.snapshot.mesh,
            steering: Steering::Given,
        }
    }
}

fn autoscaler(hpa: Hpa) -> Autoscaler {
    let held = hpa
        .held
        .map(|(before, raised)| HeldMinimum { before: before.into(), raised: raised.into() });
    Autoscaler { kind: AutoscalerKind::Hpa, min: hpa.min.into(), max: MAXIMUM.into(), held }
}

/// What a move leaves; the rest decides nothing here.
fn kept(memory: Memory) -> Memory {
    let kept = |(id, remembered): (_, WorkloadMemory)| {
        let kept = WorkloadMemory {
            moved_at: remembered.moved_at.filter(|_| remembered.in_flight.is_some()),
            in_flight: remembered.in_flight,
            intents: remembered.intents,
            ..WorkloadMemory::default()
        };
        (kept != WorkloadMemory::default()).then_some((id, kept))
    };
    let workloads: BTreeMap<_, _> = memory.workloads.into_iter().filter_map(kept).collect();
    Memory { workloads, ..Memory::default() }
}

fn read(remembered: &WorkloadMemory) -> Remembered {
    let bit = |name: &PodName| 1_u32 << number(name);
    let names = |record: &MoveInFlight| {
        let known =
            record.known_pods.iter().fold(bit(&record.victim), |names, pod| names | bit(pod));
        match &record.ending {
            Some(MoveEnding::Finish { replacement }) => known | bit(replacement),
            _ => known,
        }
    };
    Remembered {
        record: remembered.in_flight.is_some(),
        intents: remembered.intents.iter().map(|one| (tick_of(one.since), one.until)).collect(),
        names: remembered.in_flight.as_ref().map_or(0, names),
    }
}

fn request(action: &Action) -> Request {
    let load = load_of(action);
    let count = |observed: &u32| u8::try_from(*observed).unwrap();
    match action {
        Action::StartMove { observed, way: MoveWay::Hold, victim, .. } => {
            Request::Raise { load, observed: count(observed), victim: number(victim) }
        }
        Action::StartMove { observed, victim, .. } => {
            Request::Surge { load, observed: count(observed), victim: number(victim) }
        }
        Action::GiveBackMinimum { goes, ending, .. } => Request::GiveBack {
            load,
            goes: goes.as_ref().map(number),
            stands_in: match ending {
                Some(MoveEnding::Finish { replacement }) => Some(number(replacement)),
                Some(MoveEnding::Undo { .. }) | None => None,
            },
        },
        Action::FinishMove { observed, victim, .. } => Request::Lower {
            load,
            observed: count(observed),
            victim: Some(number(victim)),
            stands_in: true,
        },
        Action::AbortMove { observed, surge, .. } => {
            let victim = surge.as_ref().map(number);
            Request::Lower { load, observed: count(observed), victim, stands_in: false }
        }
        Action::CloseMove { observed, end, .. } => {
            let changed = *end == MoveEnd::GivenUp(AbortCause::CountChanged);
            Request::Close { load, observed: count(observed), changed }
        }
        Action::Unmark { observed, pods, .. } => Request::Unmark {
            load,
            observed: count(observed),
            pods: pods.iter().map(number).collect(),
        },
        Action::Release { pods, .. } => {
            Request::Release { load, pods: pods.iter().map(number).collect() }
        }
        other => panic!("not of a move: {other:?}"),
    }
}

/// The node that the replica of a load is to leave.
pub(super) fn leaves(load: usize) -> &'static str {
    NODES[load]
}

/// Names the victim of a load's move in the world.
pub(super) fn victim(load: usize) -> PodName {
    pod_name(&full_name(load, u8::try_from(load).unwrap()))
}
