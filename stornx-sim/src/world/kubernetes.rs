//! A small Kubernetes: replica sets bring the pods to their count, pods start, serve and
//! drain, rollouts replace them, nodes that lose power are noticed after a while and
//! their pods replaced after a longer one.

use std::collections::BTreeMap;

use stornx_core::{
    ids::{PodName, ZoneName},
    units::{Percent, Timestamp},
};

use super::{
    Notice,
    agenda::{Kind, Nanos, SECOND},
    model::nanos,
    prometheus::Counters,
    state::{NONE, Outcome, Outgoing, Phase, Pod, Slowness, Stand, World},
};

/// Between two looks of the control plane at nodes and pending pods.
const CONTROL_INTERVAL: Nanos = SECOND;

/// How long a pod being deleted goes on accepting requests, so that proxies learn of it:
/// Istio's `terminationDrainDuration`.
const DRAIN: Nanos = 5 * SECOND;

impl World {
    /// The control plane looks at nodes and pending pods.
    pub(crate) fn control(&mut self) {
        self.agenda.add(self.now + CONTROL_INTERVAL, Kind::Control, 0, 0);
        for node in 0..self.nodes.len() {
            self.judge_node(node);
        }
        for service in 0..self.model.ingress() {
            self.reconcile(service);
        }
    }

    /// Notices a node that has been silent for too long, and takes its pods away when it
    /// stays so.
    fn judge_node(&mut self, node: usize) {
        let grace = nanos(self.scenario.cluster.node_grace);
        let eviction = nanos(self.scenario.cluster.eviction_after);
        let state = &mut self.nodes[node];
        if state.ready && state.down_since.is_some_and(|since| self.now >= since + grace) {
            state.ready = false;
            state.not_ready_since = Some(self.now);
            self.node_notice(node, false);
            for pod in self.pods_on(node) {
                let state = &mut self.pods[pod as usize];
                if state.phase == Phase::Ready {
                    state.phase = Phase::Unready;
                    state.ready_since = None;
                    self.endpoints_changed(self.pods[pod as usize].service as usize);
                }
            }
        }
        let state = &self.nodes[node];
        if state.not_ready_since.is_some_and(|since| self.now >= since + eviction) {
            for pod in self.pods_on(node) {
                if self.pods[pod as usize].active() && !self.model.nodes[node].gateway {
                    self.delete(pod);
                }
            }
        }
    }

    fn pods_on(&self, node: usize) -> Vec<u32> {
        let services = self.services.iter();
        let pods = services.flat_map(|service| &service.pods).copied();
        pods.filter(|pod| self.pods[*pod as usize].node as usize == node).collect()
    }

    fn node_notice(&mut self, node: usize, ready: bool) {
        let name = self.model.nodes[node].name.clone();
        self.notices.push(Notice::Node { at: Self::stamp(self.now), node: name, ready });
    }

    /// Proxies learn of the endpoints of a service, and the world outside does.
    pub(crate) fn endpoints_changed(&mut self, service: usize) {
        self.publish(service);
        if service != self.model.ingress() {
            let workload = self.model.services[service].workload.clone();
            self.notices.push(Notice::Endpoints { at: Self::stamp(self.now), workload });
        }
    }

    /// A node loses power, or has it again.
    pub(crate) fn power(&mut self, node: usize, up: bool) {
        if self.nodes[node].up == up {
            return;
        }
        self.nodes[node].up = up;
        let pods = self.pods_on(node);
        if !up {
            self.nodes[node].down_since = Some(self.now);
            for pod in pods {
                self.kill(pod, true);
            }
            return;
        }
        let state = &mut self.nodes[node];
        state.down_since = None;
        state.not_ready_since = None;
        if !std::mem::replace(&mut state.ready, true) {
            self.node_notice(node, true);
        }
        for pod in pods {
            let state = &mut self.pods[pod as usize];
            match state.phase {
                Phase::Terminating => self.gone(pod),
                Phase::Pending | Phase::Gone => {}
                Phase::Starting | Phase::Ready | Phase::Unready => {
                    let was_endpoint = state.phase == Phase::Ready;
                    state.phase = if state.was_ready { Phase::Unready } else { Phase::Starting };
                    state.ready_since = None;
                    if was_endpoint {
                        self.endpoints_changed(self.pods[pod as usize].service as usize);
                    }
                    self.start(pod);
                }
            }
        }
    }

    /// Starts the process of a pod.
    pub(crate) fn start(&mut self, pod: u32) {
        let startup = self.model.services[self.pods[pod as usize].service as usize].startup;
        let state = &mut self.pods[pod as usize];
        state.life += 1;
        state.flushed_at = self.now;
        state.cpu_seen = None;
        // A new process has nothing in flight.
        state.outgoing.fill(Outgoing::default());
        if self.nodes[state.node as usize].up {
            self.agenda.add(self.now + startup, Kind::PodReady, pod, state.life);
        }
    }

    /// A pod is Ready.
    pub(crate) fn pod_ready(&mut self, pod: u32) {
        self.flush(pod);
        let at = Self::stamp(self.now);
        let state = &mut self.pods[pod as usize];
        state.phase = Phase::Ready;
        state.alive = true;
        state.was_ready = true;
        state.ready_since = Some(at);
        let service = state.service as usize;
        self.endpoints_changed(service);
        self.reconcile(service);
    }

    /// Brings the pods of a service to its count, replaces those of an old template,
    /// and looks for nodes for those that have none.
    pub(crate) fn reconcile(&mut self, service: usize) {
        if service == self.model.ingress() {
            return;
        }
        let (old, new) = self.by_template(service);
        let desired = self.services[service].desired as usize;
        if old.is_empty() {
            if self.services[service].rolling && self.ready(&new) >= desired {
                self.services[service].rolling = false;
            }
            if new.len() > desired {
                for pod in self.first_to_go(&new, new.len() - desired) {
                    self.delete(pod);
                }
            }
            for _ in new.len()..desired {
                self.create(service, None);
            }
        } else {
            self.roll(service, &old, &new, desired);
        }
        self.schedule_pending(service);
    }

    fn by_template(&self, service: usize) -> (Vec<u32>, Vec<u32>) {
        let state = &self.services[service];
        let active = state.pods.iter().copied().filter(|p| self.pods[*p as usize].active());
        active.partition(|pod| self.pods[*pod as usize].revision != state.revision)
    }

    fn ready(&self, pods: &[u32]) -> usize {
        pods.iter().filter(|pod| self.pods[**pod as usize].phase == Phase::Ready).count()
    }

    /// One round of a rolling update.
    fn roll(&mut self, service: usize, old: &[u32], new: &[u32], desired: usize) {
        let cluster = &self.scenario.cluster;
        let surge = part(cluster.max_surge, desired, f64::ceil);
        let unavailable = part(cluster.max_unavailable, desired, f64::floor);
        // Kubernetes never lets both be nothing.
        let unavailable = if surge + unavailable == 0 { 1 } else { unavailable };
        let room = (desired + surge).saturating_sub(old.len() + new.len());
        for _ in 0..room.min(desired.saturating_sub(new.len())) {
            self.create(service, None);
        }
        let (unhealthy, healthy): (Vec<u32>, Vec<u32>) =
            old.iter().copied().partition(|pod| self.pods[*pod as usize].phase != Phase::Ready);
        for pod in unhealthy {
            self.delete(pod);
        }
        let least = desired.saturating_sub(unavailable);
        let ready = self.ready(&healthy) + self.ready(new);
        let may_go = ready.saturating_sub(least).min(healthy.len());
        for pod in self.first_to_go(&healthy, may_go) {
            self.delete(pod);
        }
    }

    fn schedule_pending(&mut self, service: usize) {
        for place in 0..self.services[service].pods.len() {
            let pod = self.services[service].pods[place];
            let state = &self.pods[pod as usize];
            if state.phase == Phase::Pending
                && let Some(node) = self.schedule(service, state.intent)
            {
                self.bind(pod, node);
            }
        }
    }

    /// The pods that a replica set deletes first: not bound, not ready, on a node with
    /// more of their kind, ready for a shorter time, and by name.
    fn first_to_go(&self, pods: &[u32], count: usize) -> Vec<u32> {
        let mut order = pods.to_vec();
        let crowd =
            |node: u32| order.iter().filter(|pod| self.pods[**pod as usize].node == node).count();
        let mut keyed: Vec<_> = order
            .iter()
            .map(|pod| {
                let state = &self.pods[*pod as usize];
                let since = state.ready_since.unwrap_or(Timestamp::from_millis(0));
                let key = (
                    state.node != NONE,
                    state.phase == Phase::Ready,
                    std::cmp::Reverse(crowd(state.node)),
                    std::cmp::Reverse(since),
                );
                (key, state.name.clone(), *pod)
            })
            .collect();
        keyed.sort();
        order = keyed.into_iter().map(|(_, _, pod)| pod).take(count).collect();
        order
    }

    /// Creates a pod, not bound yet. `node` asks for a place.
    pub(crate) fn create(&mut self, service: usize, node: Option<usize>) -> u32 {
        let (model, state) = (&self.model.services[service], &self.services[service]);
        let (revision, ordinal) = (state.revision, state.created);
        let name = pod_name(model.workload.as_str(), model.workload.name(), revision, ordinal);
        self.admit(service, name, node)
    }

    /// Takes a pod of that name in, not bound yet.
    pub(crate) fn admit(&mut self, service: usize, name: PodName, node: Option<usize>) -> u32 {
        let pod = u32::try_from(self.pods.len()).unwrap_or(NONE);
        let model = &self.model.services[service];
        let state = &mut self.services[service];
        let ordinal = state.created;
        state.created += 1;
        self.pods.push(Pod {
            service: u32::try_from(service).unwrap_or(NONE),
            ordinal,
            name,
            node: NONE,
            zone: NONE,
            phase: Phase::Pending,
            alive: false,
            was_ready: false,
            life: 0,
            revision: state.revision,
            created_at: Self::stamp(self.now),
            ready_since: None,
            intent: node,
            slowness: Slowness::NONE,
            drain_until: 0,
            grace_until: 0,
            busy: 0,
            working: 0,
            queue: std::collections::VecDeque::new(),
            inside: 0,
            cores: 0,
            flushed_at: self.now,
            cpu: 0.0,
            throttled: false,
            throttled_time: 0,
            busy_time: 0,
            worker_time: 0,
            served: Counters::default(),
            outgoing: vec![Outgoing::default(); model.edges],
            cpu_seen: None,
        });
        state.pods.push(pod);
        pod
    }

    /// Deletes a pod: it drains, unless it has nothing to drain.
    pub(crate) fn delete(&mut self, pod: u32) {
        self.flush(pod);
        let now = self.now;
        let state = &mut self.pods[pod as usize];
        let was_endpoint = state.phase == Phase::Ready;
        let bound = state.node != NONE;
        state.phase = Phase::Terminating;
        state.ready_since = None;
        let service = state.service as usize;
        let grace = self.model.services[service].grace;
        state.drain_until = now + grace.min(DRAIN);
        state.grace_until = now + grace;
        let (drain, over) = (state.drain_until, state.grace_until);
        let dead_node = bound && !self.nodes[state.node as usize].up;
        if was_endpoint {
            self.endpoints_changed(service);
        }
        let state = &self.pods[pod as usize];
        if state.alive {
            self.agenda.add(drain, Kind::GraceOver, pod, state.life);
            self.agenda.add(over, Kind::GraceOver, pod, state.life);
        } else if !dead_node {
            // A dead node cannot say that its pod is gone.
            self.gone(pod);
        }
    }

    /// The time of a pod being deleted to drain, or to be there at all, is over.
    pub(crate) fn grace_over(&mut self, pod: u32) {
        if self.now >= self.pods[pod as usize].grace_until {
            self.kill(pod, false);
            self.gone(pod);
        } else {
            self.gone_if_drained(pod);
        }
    }

    /// Lets a pod being deleted go once it has nothing left to do.
    #[inline]
    pub(crate) fn gone_if_drained(&mut self, pod: u32) {
        let state = &self.pods[pod as usize];
        if state.phase == Phase::Terminating && state.inside == 0 && self.now >= state.drain_until {
            self.kill(pod, false);
            self.gone(pod);
        }
    }

    /// Takes a pod out of the API.
    pub(crate) fn gone(&mut self, pod: u32) {
        let state = &mut self.pods[pod as usize];
        state.phase = Phase::Gone;
        state.life += 1;
        let service = state.service as usize;
        let node = state.node;
        self.services[service].pods.retain(|other| *other != pod);
        if node != NONE {
            let state = &mut self.nodes[node as usize];
            state.requested = state.requested.saturating_sub(self.model.services[service].requests);
            state.pods -= 1;
        }
    }

    /// Ends the process of a pod. With `silently`, its callers never learn of it; else
    /// their connections are reset. The calls that it has made go on for nobody.
    pub(crate) fn kill(&mut self, pod: u32, silently: bool) {
        self.flush(pod);
        let state = &mut self.pods[pod as usize];
        state.life += 1;
        if !std::mem::replace(&mut state.alive, false) {
            return;
        }
        let service = state.service as usize;
        let working = u64::from(state.working);
        (state.busy, state.working, state.inside, state.cores) = (0, 0, 0, 0);
        state.throttled = false;
        state.queue.clear();
        let node = state.node as usize;
        self.nodes[node].demand -= working * self.model.services[service].share;
        for handle in 0..self.calls.len() {
            self.end_with(u32::try_from(handle).unwrap_or(NONE), pod, silently);
        }
    }

    /// What the end of a pod does to one call.
    fn end_with(&mut self, handle: u32, pod: u32, silently: bool) {
        let call = &mut self.calls[handle as usize];
        if call.stand == Stand::Free {
            return;
        }
        if call.caller == pod {
            if call.parent == NONE && !call.abandoned {
                let (sent, zone) = (call.sent, self.pods[pod as usize].zone as usize);
                self.meter.failures.lost += 1;
                self.meter.user_request(self.now - sent, false, zone);
            }
            self.leave(handle);
            return;
        }
        if call.callee == pod
            && matches!(call.stand, Stand::Queued | Stand::Working | Stand::Waiting)
        {
            if call.abandoned {
                self.release(handle);
            } else if silently {
                call.stand = Stand::Lost;
                // What is still in the agenda for it is void.
                self.renew(handle);
            } else {
                call.outcome = Outcome::Refused;
                call.stand = Stand::Answering;
                self.renew(handle);
                let call = &self.calls[handle as usize];
                self.agenda.add(self.now + call.half, Kind::Answer, handle, call.life);
            }
        }
    }

    /// Gives a call a new life, and its time-out with it.
    fn renew(&mut self, handle: u32) {
        let call = &mut self.calls[handle as usize];
        let old = call.life;
        call.life = (call.life + 1) & super::agenda::LIFE_MASK;
        let new = call.life;
        let group = self.model.calls[call.spec as usize].timeout_group as usize;
        for entry in &mut self.timeouts[group] {
            if entry.1 == handle && entry.2 == old {
                entry.2 = new;
            }
        }
    }

    /// The template of a service changes.
    pub(crate) fn begin_rollout(&mut self, service: usize) {
        self.services[service].revision += 1;
        self.services[service].rolling = true;
        self.reconcile(service);
    }

    /// Ready replicas by zone.
    pub(crate) fn ready_by_zone(&self, service: usize) -> BTreeMap<ZoneName, u32> {
        let mut counts = BTreeMap::new();
        for (zone, pods) in self.services[service].endpoints.by_zone.iter().enumerate() {
            if !pods.is_empty() {
                let count = u32::try_from(pods.len()).unwrap_or(u32::MAX);
                counts.insert(self.model.zones[zone].name.clone(), count);
            }
        }
        counts
    }
}

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn part(share: Percent, whole: usize, round: fn(f64) -> f64) -> usize {
    round(share.get() / 100.0 * whole as f64) as usize
}

/// `service-revision-ordinal` in its namespace: readable, unique, in the order of
/// creation up to a million pods.
#[allow(clippy::expect_used)] // Made of a valid workload name, digits and hyphens.
fn pod_name(workload: &str, name: &str, revision: u32, ordinal: u32) -> PodName {
    let namespace = workload.split('/').next().unwrap_or_default();
    let text = format!("{namespace}/{name}-{revision}-{ordinal:04}");
    text.parse().expect("a valid pod name")
}
