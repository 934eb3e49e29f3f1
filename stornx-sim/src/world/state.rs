//! The state of the world: nodes, pods, services, calls. Everything is held in vectors
//! and named by index; calls live in an arena whose places are used again, each with a
//! life number that tells entries of the agenda apart from those of earlier calls.

use std::collections::VecDeque;

use stornx_core::{
    ids::PodName,
    memory::Memory,
    units::{MilliCpu, Resources, Timestamp},
};

use super::{
    Notice, Routing,
    agenda::{Agenda, LIFE_MASK, MILLISECOND, Nanos},
    balance::Endpoints,
    hpa::HpaState,
    meter::Meter,
    model::Model,
    prometheus::{Counters, Prometheus},
    random::Stream,
    tally::Tally,
};
use crate::scenario::Scenario;

/// No call, no pod.
pub(crate) const NONE: u32 = u32::MAX;

/// The start of every run on the calendar: 1 January 2026. Any instant would do; it
/// lies well after the epoch so that the first replicas can be older than the run.
pub(crate) const START_MILLIS: u64 = 1_767_225_600_000;

/// How old the first replicas are: old enough to have warmed up.
pub(crate) const FIRST_REPLICAS_AGE_MILLIS: u64 = 3_600_000;

/// Where a pod is in its life, as the API server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Starting,
    Ready,
    Unready,
    Terminating,
    Gone,
}

/// The requests of one caller pod under one edge, as its proxy counts them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    /// In flight, by ordinal of the callee.
    in_flight: Vec<u32>,
    /// Where round robin stands, by zone of the callee, last for all zones together.
    pub(crate) cursor: Vec<u32>,
}

impl Outgoing {
    #[inline]
    pub(crate) fn in_flight(&self, ordinal: u32) -> u32 {
        self.in_flight.get(ordinal as usize).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn begin(&mut self, ordinal: u32) {
        let at = ordinal as usize;
        if at >= self.in_flight.len() {
            self.in_flight.resize(at + 1, 0);
        }
        self.in_flight[at] += 1;
    }

    #[inline]
    pub(crate) fn end(&mut self, ordinal: u32) {
        if let Some(count) = self.in_flight.get_mut(ordinal as usize) {
            *count = count.saturating_sub(1);
        }
    }
}

/// How much slower than usual work is: by burning more CPU, and by waiting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slowness {
    pub(crate) burn: f64,
    pub(crate) stall: f64,
}

impl Slowness {
    pub(crate) const NONE: Self = Self { burn: 1.0, stall: 1.0 };

    pub(crate) fn multiply(&mut self, factor: f64, burns_cpu: bool) {
        if burns_cpu { self.burn *= factor } else { self.stall *= factor }
    }
}

/// A pod. Pods are never taken out of their vector, so that an index names one pod for
/// ever.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) service: u32,
    /// Number among the pods that its service ever had.
    pub(crate) ordinal: u32,
    pub(crate) name: PodName,
    /// Node and zone; `NONE` while pending.
    pub(crate) node: u32,
    pub(crate) zone: u32,
    pub(crate) phase: Phase,
    /// Its process runs.
    pub(crate) alive: bool,
    /// Has been Ready before.
    pub(crate) was_ready: bool,
    /// Changes whenever its process starts or ends.
    pub(crate) life: u32,
    pub(crate) revision: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) ready_since: Option<Timestamp>,
    /// The node that was asked for.
    pub(crate) intent: Option<usize>,
    pub(crate) slowness: Slowness,
    /// While it is being deleted: serves until the first, and has its time until the
    /// second.
    pub(crate) drain_until: Nanos,
    pub(crate) grace_until: Nanos,

    /// Workers that hold a request, and those of them that use CPU.
    pub(crate) busy: u32,
    pub(crate) working: u32,
    pub(crate) queue: VecDeque<u32>,
    /// Requests inside: waiting, worked on, or waiting for others.
    pub(crate) inside: u32,
    /// Millionths of cores in use.
    pub(crate) cores: u64,
    pub(crate) flushed_at: Nanos,
    /// Core-seconds used.
    pub(crate) cpu: f64,
    /// Wants more CPU than its limit lets it have; for how long it has so far.
    pub(crate) throttled: bool,
    pub(crate) throttled_time: Nanos,
    /// Busy and available worker time since the last piece.
    pub(crate) busy_time: u64,
    pub(crate) worker_time: u64,
    pub(crate) served: Counters,
    pub(crate) outgoing: Vec<Outgoing>,
    /// Core-seconds when the autoscaler last looked, if it did since Ready.
    pub(crate) cpu_seen: Option<f64>,
}

impl Pod {
    /// Brings the integrals up to `now`; `workers` is the capacity of the pod.
    #[inline]
    #[allow(clippy::cast_precision_loss)] // Millionths of cores, nanoseconds: far below 2^53.
    pub(crate) fn flush(&mut self, now: Nanos, workers: u32) {
        let passed = now - self.flushed_at;
        if passed > 0 {
            self.cpu += self.cores as f64 * passed as f64 * 1e-15;
            self.busy_time += u64::from(self.busy) * passed;
            self.throttled_time += if self.throttled { passed } else { 0 };
            if self.alive && matches!(self.phase, Phase::Ready | Phase::Terminating) {
                self.worker_time += u64::from(workers) * passed;
            }
            self.flushed_at = now;
        }
    }

    /// Counts towards the replicas of its service.
    pub(crate) const fn active(&self) -> bool {
        !matches!(self.phase, Phase::Terminating | Phase::Gone)
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct NodeState {
    /// Has power.
    pub(crate) up: bool,
    /// What the API says.
    pub(crate) ready: bool,
    pub(crate) down_since: Option<Nanos>,
    pub(crate) not_ready_since: Option<Nanos>,
    pub(crate) requested: Resources,
    pub(crate) pods: u32,
    pub(crate) slowness: Slowness,
    /// Tainted for pressure, by so many events at once.
    pub(crate) pressure: u32,
    /// CPU that there is, and that is wanted (millionths of cores).
    pub(crate) capacity: u64,
    pub(crate) demand: u64,
}

impl NodeState {
    /// A node with power and nothing on it.
    pub(crate) fn new(cpu: MilliCpu) -> Self {
        Self {
            up: true,
            ready: true,
            down_since: None,
            not_ready_since: None,
            requested: Resources::default(),
            pods: 0,
            slowness: Slowness::NONE,
            pressure: 0,
            capacity: cpu.get().saturating_mul(1000),
            demand: 0,
        }
    }
}

/// A service as it stands.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) desired: u32,
    pub(crate) revision: u32,
    pub(crate) rolling: bool,
    /// Pods that are not gone, in the order of their creation.
    pub(crate) pods: Vec<u32>,
    /// Pods ever created.
    pub(crate) created: u32,
    pub(crate) endpoints: Endpoints,
    pub(crate) routing: Routing,
    pub(crate) hpa: HpaState,
    pub(crate) work: Stream,
    pub(crate) fan_out: Stream,
    pub(crate) choice: Stream,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stand {
    /// The place is not used.
    Free,
    /// On the way to its replica.
    Travelling,
    /// Waits in the queue of the replica.
    Queued,
    /// Is worked on.
    Working,
    /// Waits for the services that it calls.
    Waiting,
    /// The answer is on its way.
    Answering,
    /// Waits for a connection to a replica that does not answer.
    Connecting,
    /// Was in a replica that lost its power: nobody will ever answer.
    Lost,
    /// Waits before the next attempt.
    Backoff,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Succeeded,
    /// 503 of the replica.
    Refused,
    /// No connection.
    Unreachable,
    /// Nowhere to send it.
    NoEndpoint,
    /// 500: a call that it needed failed.
    Downstream,
    /// The caller did not wait for the answer.
    GivenUp,
}

/// One call from a pod to a service. Requests of users are calls of the ingress.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) life: u32,
    /// The call that this one is made for; `NONE` for a request of a user.
    pub(crate) parent: u32,
    pub(crate) caller: u32,
    pub(crate) callee: u32,
    pub(crate) spec: u32,
    pub(crate) operation: u32,
    pub(crate) sent: Nanos,
    pub(crate) attempted: Nanos,
    pub(crate) reached: Nanos,
    pub(crate) half: Nanos,
    /// Millionths of a core in use.
    pub(crate) cores: u32,
    pub(crate) stage: u16,
    pub(crate) cursor: u16,
    pub(crate) repeat: u16,
    pub(crate) pending: u16,
    pub(crate) stand: Stand,
    pub(crate) outcome: Outcome,
    pub(crate) attempts_left: u8,
    pub(crate) distance: u8,
    pub(crate) in_sequence: bool,
    pub(crate) failed: bool,
    /// Nobody waits for the answer any more.
    pub(crate) abandoned: bool,
}

/// Everything.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) model: Model,
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) now: Nanos,
    pub(crate) agenda: Agenda,
    pub(crate) calls: Vec<Call>,
    pub(crate) free: Vec<u32>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) nodes: Vec<NodeState>,
    pub(crate) services: Vec<ServiceState>,
    pub(crate) arrivals: Vec<super::arrivals::Arrivals>,
    pub(crate) backoff: Stream,
    pub(crate) failover: Stream,
    /// Users of a lost zone go on being sent there until then, by zone.
    pub(crate) entry_blocked_until: Vec<Nanos>,
    /// Calls in the order of their time-outs, by length of the time-out.
    pub(crate) timeouts: Vec<VecDeque<(Nanos, u32, u32)>>,
    /// Traffic by edge, caller zone and callee zone.
    pub(crate) routes: Vec<Counters>,
    pub(crate) meter: Meter,
    pub(crate) prometheus: Prometheus,
    pub(crate) notices: Vec<Notice>,
    pub(crate) happenings: Vec<super::happenings::Happening>,
    pub(crate) memory: Memory,
    pub(crate) leader: bool,
    /// Calls served by a replica, warm-up included.
    pub(crate) hops: u64,
    /// Counts by series, where somebody scrapes them.
    pub(crate) tally: Option<Tally>,
}

impl World {
    /// The instant `at` on the calendar.
    pub(crate) const fn stamp(at: Nanos) -> Timestamp {
        Timestamp::from_millis(START_MILLIS + at / MILLISECOND)
    }

    /// The instant of a run that the calendar shows as `at`.
    pub(crate) const fn nanos_of(at: Timestamp) -> Nanos {
        at.as_millis().saturating_sub(START_MILLIS).saturating_mul(MILLISECOND)
    }

    #[inline]
    pub(crate) fn workers(&self, pod: u32) -> u32 {
        self.model.services[self.pods[pod as usize].service as usize].workers
    }

    /// Brings the integrals of a pod up to now.
    #[inline]
    pub(crate) fn flush(&mut self, pod: u32) {
        let workers = self.workers(pod);
        self.pods[pod as usize].flush(self.now, workers);
    }

    /// Takes a place in the arena.
    #[inline]
    pub(crate) fn allocate(&mut self, mut call: Call) -> u32 {
        if let Some(handle) = self.free.pop() {
            let place = &mut self.calls[handle as usize];
            call.life = place.life;
            *place = call;
            handle
        } else {
            let handle = u32::try_from(self.calls.len()).unwrap_or(NONE);
            self.calls.push(call);
            handle
        }
    }

    /// Gives a place back. Entries of the agenda that still name it are void.
    #[inline]
    pub(crate) fn release(&mut self, handle: u32) {
        let call = &mut self.calls[handle as usize];
        call.stand = Stand::Free;
        call.life = (call.life + 1) & LIFE_MASK;
        self.free.push(handle);
    }
}
