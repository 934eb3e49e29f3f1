//! The timed events of a scenario, as they begin and end.

use super::{
    agenda::{Kind, Nanos},
    model::nanos,
    state::{Phase, World},
};
use crate::scenario::{
    Event,
    event::{OutageKind, SlowReplica},
};

/// An event with what it took hold of.
#[derive(Debug)]
pub(crate) struct Happening {
    event: Event,
    pod: Option<u32>,
}

impl World {
    /// Puts every event that happens here into the agenda.
    pub(crate) fn expect_happenings(&mut self, here: impl Fn(&Event) -> bool) {
        for event in self.scenario.events.clone().into_iter().filter(here) {
            // Entries of the agenda: twice the number for the beginning, one more for
            // the end.
            let number = u32::try_from(self.happenings.len() * 2).unwrap_or(u32::MAX);
            self.agenda.add(nanos(event.at()), Kind::Happening, number, 0);
            if let Some(until) = event.until() {
                self.agenda.add(nanos(until), Kind::Happening, number + 1, 0);
            }
            self.happenings.push(Happening { event, pod: None });
        }
    }

    /// An event begins or ends.
    pub(crate) fn happen(&mut self, number: u32) {
        let (place, begins) = (number as usize / 2, number.is_multiple_of(2));
        let event = self.happenings[place].event.clone();
        match event {
            Event::ZoneLoss(loss) => {
                if let Some(zone) = self.model.zone(&loss.zone) {
                    self.zone_power(zone, !begins, self.now + nanos(loss.entry_failover));
                }
            }
            Event::SlowReplica(slow) if begins => {
                let pod = self.replica_to_slow(&slow);
                self.happenings[place].pod = pod;
                self.slow_pod(pod, slow.factor, slow.burns_cpu);
            }
            Event::SlowReplica(slow) => {
                self.slow_pod(self.happenings[place].pod, 1.0 / slow.factor, slow.burns_cpu);
            }
            Event::SlowNode(slow) => {
                if let Some(node) = self.model.node(&slow.node) {
                    let factor = if begins { slow.factor } else { 1.0 / slow.factor };
                    self.nodes[node].slowness.multiply(factor, slow.burns_cpu);
                }
            }
            Event::NodePressure(pressure) => {
                if let Some(node) = self.model.node(&pressure.node) {
                    // A million cores are as good as any more.
                    let taken = pressure.cpu.get().min(1_000_000_000) * 1000;
                    self.press(node, taken, pressure.taint, begins);
                }
            }
            Event::MetricsOutage(outage) => {
                let count = match outage.kind {
                    OutageKind::Unreachable => &mut self.prometheus.unreachable,
                    OutageKind::NotScraped => &mut self.prometheus.not_scraped,
                };
                *count = if begins { *count + 1 } else { count.saturating_sub(1) };
            }
            Event::Rollout(rollout) => {
                let services = &self.scenario.services;
                if let Some(service) = services.iter().position(|s| s.name == rollout.service) {
                    self.begin_rollout(service);
                }
            }
            // Already in the rates of the inflows.
            Event::TrafficShift(_) => {}
        }
    }

    fn zone_power(&mut self, zone: usize, up: bool, blocked_until: Nanos) {
        if !up {
            self.entry_blocked_until[zone] = blocked_until;
        }
        for node in 0..self.nodes.len() {
            if self.model.nodes[node].zone == zone {
                self.power(node, up);
            }
        }
    }

    fn replica_to_slow(&self, slow: &SlowReplica) -> Option<u32> {
        let service = self.scenario.services.iter().position(|s| s.name == slow.service)?;
        let zone = slow.zone.as_ref().and_then(|zone| self.model.zone(zone));
        let pods = self.services[service].pods.iter().copied();
        let ready = pods.filter(|pod| self.pods[*pod as usize].phase == Phase::Ready);
        ready.min_by_key(|pod| {
            let state = &self.pods[*pod as usize];
            let elsewhere = zone.is_some_and(|zone| state.zone as usize != zone);
            (elsewhere, state.name.clone())
        })
    }

    fn slow_pod(&mut self, pod: Option<u32>, factor: f64, burns_cpu: bool) {
        if let Some(pod) = pod {
            self.pods[pod as usize].slowness.multiply(factor, burns_cpu);
        }
    }

    fn press(&mut self, node: usize, taken: u64, taint: bool, begins: bool) {
        let state = &mut self.nodes[node];
        if begins {
            state.demand += taken;
            state.pressure += u32::from(taint);
        } else {
            state.demand -= taken;
            state.pressure -= u32::from(taint);
        }
    }
}
