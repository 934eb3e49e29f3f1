//! Brings the pods of this world to what was seen of another.

use std::collections::{BTreeMap, BTreeSet};

use stornx_core::{
    ids::{NodeName, PodName},
    units::Resources,
};

use super::{EmulatorError, NodeSeen, PodSeen};
use crate::{
    scenario::INGRESS,
    world::{
        model::NodeModel,
        state::{NONE, NodeState, Outgoing, Phase, World},
    },
};

/// A pod that is to be here: its service, node and readiness.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    service: usize,
    node: usize,
    ready: bool,
}

impl World {
    /// Takes over what was seen; gives by zone the pod that users enter by.
    pub(super) fn follow(
        &mut self,
        nodes: &[NodeSeen],
        pods: &[PodSeen],
    ) -> Result<Vec<Option<PodName>>, EmulatorError> {
        let zones = self.zones_of(nodes)?;
        self.check_pods(&zones, pods)?;
        self.follow_nodes(nodes, &zones);
        let wanted = self.wanted(pods);
        let mut changed = BTreeSet::new();
        self.let_go(&wanted, &mut changed);
        self.take_in(&wanted, &mut changed);
        for service in changed {
            self.publish(service);
        }
        Ok(self.entrances(pods, &zones))
    }

    fn zones_of<'a>(
        &self,
        nodes: &'a [NodeSeen],
    ) -> Result<BTreeMap<&'a NodeName, usize>, EmulatorError> {
        let zone = |node: &'a NodeSeen| {
            let zone = self.model.zone(&node.zone).ok_or_else(|| EmulatorError::UnknownZone {
                node: node.name.clone(),
                zone: node.zone.clone(),
            })?;
            Ok((&node.name, zone))
        };
        nodes.iter().map(zone).collect()
    }

    fn check_pods(
        &self,
        zones: &BTreeMap<&NodeName, usize>,
        pods: &[PodSeen],
    ) -> Result<(), EmulatorError> {
        for PodSeen { service, pod, node, .. } in pods {
            if service != INGRESS && self.seen_service(service).is_none() {
                let (pod, service) = (pod.clone(), service.clone());
                return Err(EmulatorError::UnknownService { pod, service });
            }
            if let Some(node) = node.as_ref().filter(|node| !zones.contains_key(node)) {
                let (pod, node) = (pod.clone(), node.clone());
                return Err(EmulatorError::UnknownNode { pod, node });
            }
        }
        Ok(())
    }

    fn seen_service(&self, name: &str) -> Option<usize> {
        self.scenario.services.iter().position(|service| service.name == name)
    }

    /// Nodes keep their place for ever, as pods do.
    fn follow_nodes(&mut self, nodes: &[NodeSeen], zones: &BTreeMap<&NodeName, usize>) {
        let seen: BTreeMap<_, _> = nodes.iter().map(|node| (&node.name, node)).collect();
        for (name, node) in &seen {
            let zone = zones[name];
            let allocatable = Resources { cpu: node.cpu, ..Resources::default() };
            if let Some(at) = self.model.node(name) {
                let model = &mut self.model.nodes[at];
                (model.zone, model.allocatable) = (zone, allocatable);
                self.nodes[at].capacity = NodeState::new(node.cpu).capacity;
            } else {
                self.model.nodes.push(NodeModel {
                    name: (*name).clone(),
                    zone,
                    allocatable,
                    pod_capacity: u32::MAX,
                    gateway: false,
                });
                self.nodes.push(NodeState::new(node.cpu));
            }
        }
        for at in 0..self.nodes.len() {
            let model = &self.model.nodes[at];
            if !model.gateway {
                let up = seen.get(&model.name).is_some_and(|node| node.ready);
                (self.nodes[at].up, self.nodes[at].ready) = (up, up);
            }
        }
    }

    /// The pods that are to be here, by name. One without a node is not there yet.
    fn wanted(&self, pods: &[PodSeen]) -> BTreeMap<PodName, Wanted> {
        let wanted = pods.iter().filter_map(|seen| {
            let service = self.seen_service(&seen.service)?;
            let node = self.model.node(seen.node.as_ref()?)?;
            let ready = seen.ready && self.nodes[node].up;
            Some((seen.pod.clone(), Wanted { service, node, ready }))
        });
        wanted.collect()
    }

    /// Ends pods that are not wanted any more, those that are somewhere else now (a new one
    /// of the same name) and the processes on nodes without power.
    fn let_go(&mut self, wanted: &BTreeMap<PodName, Wanted>, changed: &mut BTreeSet<usize>) {
        for service in 0..self.model.ingress() {
            for pod in self.services[service].pods.clone() {
                let state = &self.pods[pod as usize];
                let node = state.node as usize;
                let stays = wanted.get(&state.name).is_some_and(|wanted| {
                    wanted.service == service
                        && wanted.node == node
                        && self.model.nodes[node].zone == state.zone as usize
                });
                let powerless = !self.nodes[node].up;
                if !stays {
                    changed.insert(service);
                    self.kill(pod, powerless);
                    self.gone(pod);
                    if let Some(tally) = &mut self.tally {
                        tally.forget(pod);
                    }
                } else if powerless && state.alive {
                    self.kill(pod, true);
                }
            }
        }
    }

    /// Begins pods that are new and makes all of them as ready as they were seen to be.
    fn take_in(&mut self, wanted: &BTreeMap<PodName, Wanted>, changed: &mut BTreeSet<usize>) {
        let here: BTreeMap<PodName, u32> = (0..self.model.ingress())
            .flat_map(|service| self.services[service].pods.iter().copied())
            .map(|pod| (self.pods[pod as usize].name.clone(), pod))
            .collect();
        for (name, wanted) in wanted {
            let pod = here.get(name).copied().unwrap_or_else(|| {
                let pod = self.admit(wanted.service, name.clone(), None);
                self.seat(pod, wanted.node);
                pod
            });
            if self.make_ready(pod, wanted.ready) {
                changed.insert(wanted.service);
            }
        }
    }

    /// Makes a pod an endpoint or none; says whether that is a change.
    fn make_ready(&mut self, pod: u32, ready: bool) -> bool {
        self.flush(pod);
        let (now, edges) = (
            Self::stamp(self.now),
            self.model.services[self.pods[pod as usize].service as usize].edges,
        );
        let state = &mut self.pods[pod as usize];
        let was = state.phase == Phase::Ready;
        if ready {
            if !std::mem::replace(&mut state.alive, true) {
                // A new process has nothing in flight.
                state.life += 1;
                state.outgoing = vec![Outgoing::default(); edges];
            }
            state.was_ready = true;
            state.phase = Phase::Ready;
            state.ready_since.get_or_insert(now);
        } else {
            state.ready_since = None;
            state.phase = if state.was_ready { Phase::Unready } else { Phase::Starting };
        }
        was != ready
    }

    /// By zone, the first pod of the ingress by name.
    fn entrances(
        &self,
        pods: &[PodSeen],
        zones: &BTreeMap<&NodeName, usize>,
    ) -> Vec<Option<PodName>> {
        let mut entrances: Vec<Option<PodName>> = vec![None; self.model.zones.len()];
        for seen in pods.iter().filter(|seen| seen.service == INGRESS && seen.ready) {
            let Some(zone) = seen.node.as_ref().and_then(|node| zones.get(node)) else { continue };
            let entrance = &mut entrances[*zone];
            if entrance.as_ref().is_none_or(|first| &seen.pod < first) {
                *entrance = Some(seen.pod.clone());
            }
        }
        entrances
    }

    /// The zone of a pod of the ingress, by which users enter.
    pub(super) fn entrance_zone(&self, pod: u32) -> Option<usize> {
        let state = &self.pods[pod as usize];
        let is_ingress = state.service as usize == self.model.ingress() && state.zone != NONE;
        is_ingress.then_some(state.zone as usize)
    }
}
