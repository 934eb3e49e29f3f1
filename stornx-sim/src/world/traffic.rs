//! The life of a call: sent, queued at a replica, worked on, calling others stage after
//! stage, answered, tried again, timed out. The hot path of the simulator: nothing here
//! allocates once the arena has grown to its size.
//!
//! Assumes: a replica works with `workers` workers on one queue in the order of
//! arrival; work is stretched by slowness and by contention for the CPU of its node and
//! under its limit, both taken when the work begins. A worker is free again once the
//! own work is done, unless the service blocks. A caller that has waited long enough
//! leaves; work already begun for it goes on, work still queued for it is dropped.

use super::{
    agenda::{Kind, MILLISECOND, Nanos},
    model::CallModel,
    state::{Call, NONE, Outcome, Phase, Stand, World},
};

/// The base of Envoy's back-off between attempts; each one is a random part of twice
/// the range of the one before.
const RETRY_BASE: Nanos = 25 * MILLISECOND;

/// Work that takes ten years is never done; longer spans would overflow the clock.
const LONGEST_WORK: f64 = 3.2e17;

/// Distances of [`ByDistance`](super::ByDistance), by index.
pub(crate) const SAME_NODE: u8 = 0;
pub(crate) const SAME_ZONE: u8 = 1;
pub(crate) const CROSS_ZONE: u8 = 2;
pub(crate) const CROSS_REGION: u8 = 3;

impl World {
    /// Opens a call and makes its first attempt.
    pub(crate) fn open(&mut self, spec: u32, operation: u32, caller: u32, parent: u32) {
        let model = self.model.calls[spec as usize];
        let handle = self.allocate(Call {
            life: 0,
            parent,
            caller,
            callee: NONE,
            spec,
            operation,
            sent: self.now,
            attempted: self.now,
            reached: 0,
            half: 0,
            cores: 0,
            stage: 0,
            cursor: 0,
            repeat: 0,
            pending: 0,
            stand: Stand::Travelling,
            outcome: Outcome::Succeeded,
            attempts_left: model.retries,
            distance: SAME_NODE,
            in_sequence: false,
            failed: false,
            abandoned: false,
        });
        self.await_timeout(&model, handle);
        self.attempt(handle, NONE);
    }

    fn await_timeout(&mut self, model: &CallModel, handle: u32) {
        let life = self.calls[handle as usize].life;
        let group = &mut self.timeouts[model.timeout_group as usize];
        // The agenda knows the front of a list only. Calls mostly end long before their
        // time-out: clear away behind the front as many as come in, so that the list
        // stays about as long as the calls in flight.
        let first = group.is_empty();
        for _ in 0..2 {
            match group.get(1) {
                Some(&(_, next, life)) if self.calls[next as usize].life != life => {
                    group.remove(1);
                }
                _ => break,
            }
        }
        group.push_back((self.now + model.timeout, handle, life));
        if first {
            self.agenda.add(self.now + model.timeout, Kind::Timeout, model.timeout_group, 0);
        }
    }

    /// Sends a call to a replica.
    pub(crate) fn attempt(&mut self, handle: u32, avoid: u32) {
        let (caller, spec) = {
            let call = &self.calls[handle as usize];
            (call.caller, self.model.calls[call.spec as usize])
        };
        let callee = self.choose(spec.to, caller, spec.local, avoid);
        let call = &mut self.calls[handle as usize];
        call.attempted = self.now;
        call.callee = callee;
        if callee == NONE {
            // The caller's own proxy answers.
            call.outcome = Outcome::NoEndpoint;
            call.stand = Stand::Answering;
            let life = call.life;
            self.agenda.add(self.now + self.model.half_same_node, Kind::Answer, handle, life);
            return;
        }
        let ordinal = self.pods[callee as usize].ordinal;
        self.pods[caller as usize].outgoing[spec.local as usize].begin(ordinal);
        let (half, distance) = self.way(caller, callee);
        let call = &mut self.calls[handle as usize];
        call.half = half;
        call.distance = distance;
        call.stand = Stand::Travelling;
        self.meter.bytes[distance as usize] += spec.request_bytes;
        self.agenda.add(self.now + half, Kind::Reach, handle, call.life);
    }

    /// Half a round trip between two pods, and how far it is.
    #[inline]
    fn way(&self, from: u32, to: u32) -> (Nanos, u8) {
        let (from, to) = (&self.pods[from as usize], &self.pods[to as usize]);
        if from.node == to.node {
            return (self.model.half_same_node, SAME_NODE);
        }
        let (a, b) = (from.zone as usize, to.zone as usize);
        let zones = &self.model.zones;
        let distance = if a == b {
            SAME_ZONE
        } else if zones[a].region == zones[b].region {
            CROSS_ZONE
        } else {
            CROSS_REGION
        };
        (self.model.half_trip[a * zones.len() + b], distance)
    }

    /// A call reaches its replica.
    pub(crate) fn reach(&mut self, handle: u32) {
        let call = &mut self.calls[handle as usize];
        let callee = call.callee;
        let pod = &mut self.pods[callee as usize];
        if !pod.alive {
            let life = call.life;
            if pod.phase != Phase::Gone && !self.nodes[pod.node as usize].up {
                call.stand = Stand::Connecting;
                let until = (call.attempted + self.model.connect_timeout).max(self.now);
                self.agenda.add(until, Kind::ConnectFailed, handle, life);
            } else {
                // The node is there and says that nobody listens.
                call.outcome = Outcome::Unreachable;
                call.stand = Stand::Answering;
                self.agenda.add(self.now + call.half, Kind::Answer, handle, life);
            }
            return;
        }
        call.reached = self.now;
        let model = &self.model.services[pod.service as usize];
        if pod.busy < model.workers {
            pod.inside += 1;
            self.begin(handle);
        } else if pod.queue.len() < model.queue {
            pod.inside += 1;
            call.stand = Stand::Queued;
            pod.queue.push_back(handle);
        } else {
            call.outcome = Outcome::Refused;
            call.stand = Stand::Answering;
            pod.served.record(self.now - call.reached, false, 0, 0);
            self.agenda.add(self.now + call.half, Kind::Answer, handle, call.life);
            self.tally_served(handle, Outcome::Refused, 0, 0);
        }
    }

    /// A free worker takes a call.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Millionths of cores and nanoseconds, far below 2^53.
    fn begin(&mut self, handle: u32) {
        let call = &mut self.calls[handle as usize];
        let pod = &mut self.pods[call.callee as usize];
        let service = pod.service as usize;
        let model = &self.model.services[service];
        pod.flush(self.now, model.workers);
        pod.busy += 1;
        pod.working += 1;
        pod.throttled = model.throttles(pod.working);
        let node = &mut self.nodes[pod.node as usize];
        node.demand += model.share;

        let mut contention = 1.0_f64;
        if node.demand > node.capacity {
            contention = node.demand as f64 / node.capacity.max(1) as f64;
        }
        if let Some(limit) = model.limit {
            let wanted = u64::from(pod.working) * model.share;
            contention = contention.max(wanted as f64 / limit as f64);
        }
        let stall = pod.slowness.stall * node.slowness.stall;
        let burn = pod.slowness.burn * node.slowness.burn;
        let factor = self.model.operations[call.operation as usize].factor;
        let work = model.work * factor * model.shape.draw(&mut self.services[service].work);
        let duration = (work * burn * stall * contention).min(LONGEST_WORK) as Nanos;
        call.cores = (model.share as f64 / (contention * stall)) as u32;
        call.stand = Stand::Working;
        pod.cores += u64::from(call.cores);
        self.agenda.add(self.now + duration, Kind::WorkDone, handle, call.life);
    }

    /// The own work of a call is done.
    pub(crate) fn work_done(&mut self, handle: u32) {
        let call = &mut self.calls[handle as usize];
        let callee = call.callee;
        let pod = &mut self.pods[callee as usize];
        let model = &self.model.services[pod.service as usize];
        pod.flush(self.now, model.workers);
        pod.working -= 1;
        pod.throttled = model.throttles(pod.working);
        pod.cores -= u64::from(call.cores);
        self.nodes[pod.node as usize].demand -= model.share;
        call.cores = 0;
        call.stand = Stand::Waiting;
        let abandoned = call.abandoned;
        if !model.blocking {
            self.free_worker(callee);
        }
        if abandoned { self.respond(handle, Outcome::Downstream) } else { self.advance(handle) }
    }

    /// A worker has let its call go and takes the next.
    fn free_worker(&mut self, pod: u32) {
        let state = &mut self.pods[pod as usize];
        state.flush(self.now, self.model.services[state.service as usize].workers);
        state.busy -= 1;
        while let Some(next) = self.pods[pod as usize].queue.pop_front() {
            if self.calls[next as usize].abandoned {
                self.pods[pod as usize].inside -= 1;
                self.release(next);
            } else {
                self.begin(next);
                break;
            }
        }
        self.gone_if_drained(pod);
    }

    /// Goes on with the stages of a call, or answers it.
    fn advance(&mut self, handle: u32) {
        loop {
            let call = &mut self.calls[handle as usize];
            let operation = self.model.operations[call.operation as usize];
            if u32::from(call.stage) >= operation.stages {
                self.respond(handle, Outcome::Succeeded);
                return;
            }
            let stage = self.model.stages[operation.first_stage as usize + call.stage as usize];
            let begun = if stage.sequential {
                self.next_in_sequence(handle, stage.first_call, stage.calls)
            } else {
                call.stage += 1;
                self.all_at_once(handle, stage.first_call, stage.calls)
            };
            if begun {
                return;
            }
        }
    }

    /// Makes every call of a stage; false when the draw made none.
    fn all_at_once(&mut self, handle: u32, first: u32, calls: u32) -> bool {
        let callee = self.calls[handle as usize].callee;
        // One more than is made, so that the stage cannot end before all are under way.
        self.calls[handle as usize].pending = 1;
        for spec in first..first + calls {
            let count = self.fan_out(callee, spec);
            self.calls[handle as usize].pending += count;
            let operation = self.model.calls[spec as usize].operation;
            for _ in 0..count {
                self.open(spec, operation, callee, handle);
            }
        }
        let call = &mut self.calls[handle as usize];
        call.pending -= 1;
        call.pending > 0
    }

    /// Makes the next call of a stage that goes one by one; false at its end.
    fn next_in_sequence(&mut self, handle: u32, first: u32, calls: u32) -> bool {
        let callee = self.calls[handle as usize].callee;
        if !self.calls[handle as usize].in_sequence {
            let repeat = if calls > 0 { self.fan_out(callee, first) } else { 0 };
            let call = &mut self.calls[handle as usize];
            call.in_sequence = true;
            call.cursor = 0;
            call.repeat = repeat;
        }
        loop {
            let call = &mut self.calls[handle as usize];
            if call.repeat > 0 {
                call.repeat -= 1;
                call.pending = 1;
                let spec = first + u32::from(call.cursor);
                let operation = self.model.calls[spec as usize].operation;
                self.open(spec, operation, callee, handle);
                return true;
            }
            call.cursor += 1;
            let cursor = u32::from(call.cursor);
            if cursor >= calls {
                call.in_sequence = false;
                call.stage += 1;
                return false;
            }
            let repeat = self.fan_out(callee, first + cursor);
            self.calls[handle as usize].repeat = repeat;
        }
    }

    /// How many calls of a kind one request makes.
    fn fan_out(&mut self, pod: u32, spec: u32) -> u16 {
        let spec = &self.model.calls[spec as usize];
        let stream = &mut self.services[self.pods[pod as usize].service as usize].fan_out;
        let count = if spec.poisson {
            stream.poisson(spec.fraction)
        } else if spec.fraction > 0.0 {
            spec.whole + u32::from(stream.unit() < spec.fraction)
        } else {
            spec.whole
        };
        u16::try_from(count).unwrap_or(u16::MAX)
    }

    /// A call that `parent` waited for has ended.
    fn child_ended(&mut self, parent: u32, succeeded: bool) {
        let call = &mut self.calls[parent as usize];
        call.pending -= 1;
        call.failed |= !succeeded;
        if call.pending > 0 {
            return;
        }
        if call.failed || call.abandoned {
            self.respond(parent, Outcome::Downstream);
        } else {
            self.advance(parent);
        }
    }

    /// A replica is done with a call.
    fn respond(&mut self, handle: u32, outcome: Outcome) {
        let call = &mut self.calls[handle as usize];
        let (callee, abandoned) = (call.callee, call.abandoned);
        call.outcome = outcome;
        call.stand = Stand::Answering;
        let (distance, half, life) = (call.distance as usize, call.half, call.life);
        let spec = &self.model.calls[call.spec as usize];
        let pod = &mut self.pods[callee as usize];
        pod.inside -= 1;
        let bytes = if outcome == Outcome::Succeeded { spec.response_bytes } else { 0 };
        pod.served.record(
            self.now - call.reached,
            outcome == Outcome::Succeeded,
            spec.request_bytes,
            bytes,
        );
        let request_bytes = spec.request_bytes;
        self.hops += 1;
        self.meter.hops[distance] += 1;
        self.meter.bytes[distance] += bytes;
        let seen = if abandoned { Outcome::GivenUp } else { outcome };
        self.tally_served(handle, seen, request_bytes, bytes);
        if abandoned {
            self.release(handle);
        } else {
            self.agenda.add(self.now + half, Kind::Answer, handle, life);
        }
        if self.model.services[self.pods[callee as usize].service as usize].blocking {
            self.free_worker(callee);
        } else {
            self.gone_if_drained(callee);
        }
    }

    /// An answer reaches the caller.
    pub(crate) fn answer(&mut self, handle: u32) {
        let call = &self.calls[handle as usize];
        let (callee, outcome) = (call.callee, call.outcome);
        self.no_longer_in_flight(handle);
        self.meter.failed_attempt(outcome);
        let again = matches!(outcome, Outcome::Refused | Outcome::Unreachable);
        let call = &mut self.calls[handle as usize];
        if again && call.attempts_left > 0 {
            call.attempts_left -= 1;
            call.stand = Stand::Backoff;
            let spec = self.model.calls[call.spec as usize];
            let range = RETRY_BASE << (spec.retries - call.attempts_left - 1).min(5);
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss
            )]
            let wait = (self.backoff.unit() * range as f64) as Nanos;
            self.meter.retries += 1;
            self.agenda.add(self.now + wait, Kind::Retry, handle, call.life);
        } else {
            self.end(handle, outcome, callee);
            self.release(handle);
        }
    }

    pub(crate) fn connect_failed(&mut self, handle: u32) {
        self.calls[handle as usize].outcome = Outcome::Unreachable;
        self.answer(handle);
    }

    pub(crate) fn retry(&mut self, handle: u32) {
        let avoid = self.calls[handle as usize].callee;
        self.attempt(handle, avoid);
    }

    fn no_longer_in_flight(&mut self, handle: u32) {
        let call = &self.calls[handle as usize];
        if call.callee != NONE {
            let ordinal = self.pods[call.callee as usize].ordinal;
            let local = self.model.calls[call.spec as usize].local as usize;
            self.pods[call.caller as usize].outgoing[local].end(ordinal);
        }
    }

    /// What the caller sees of a call has come to its end.
    fn end(&mut self, handle: u32, outcome: Outcome, callee: u32) {
        let succeeded = outcome == Outcome::Succeeded;
        self.tally_sent(handle, outcome);
        let call = &self.calls[handle as usize];
        let (caller, parent, sent) = (call.caller, call.parent, call.sent);
        let spec = &self.model.calls[call.spec as usize];
        let from = self.pods[caller as usize].zone as usize;
        if callee != NONE {
            let to = self.pods[callee as usize].zone as usize;
            let zones = self.model.zones.len();
            let route = (spec.edge as usize * zones + from) * zones + to;
            let bytes = if succeeded { spec.response_bytes } else { 0 };
            self.routes[route].record(self.now - sent, succeeded, spec.request_bytes, bytes);
        }
        let optional = spec.optional;
        if parent == NONE {
            self.meter.user_request(self.now - sent, succeeded, from);
        } else {
            self.child_ended(parent, succeeded || optional);
        }
    }

    /// The oldest call of a group may have waited long enough.
    pub(crate) fn timeout(&mut self, group: u32) {
        while let Some(&(at, handle, life)) = self.timeouts[group as usize].front() {
            let current = self.calls[handle as usize].life == life;
            if current && at > self.now {
                self.agenda.add(at, Kind::Timeout, group, 0);
                return;
            }
            self.timeouts[group as usize].pop_front();
            if current {
                self.give_up(handle);
            }
        }
    }

    /// A caller has waited long enough.
    fn give_up(&mut self, handle: u32) {
        let call = &self.calls[handle as usize];
        if call.abandoned {
            return;
        }
        let (callee, stand) = (call.callee, call.stand);
        if stand != Stand::Backoff {
            self.no_longer_in_flight(handle);
        }
        self.meter.failed_attempt(Outcome::GivenUp);
        self.end(handle, Outcome::GivenUp, callee);
        self.leave(handle);
    }

    /// The caller of a call is not there any more: what has not reached a replica is
    /// dropped, the rest goes on for nobody.
    pub(crate) fn leave(&mut self, handle: u32) {
        let call = &mut self.calls[handle as usize];
        match call.stand {
            Stand::Queued | Stand::Working | Stand::Waiting => {
                call.abandoned = true;
                call.parent = NONE;
            }
            Stand::Free => {}
            _ => self.release(handle),
        }
    }
}
