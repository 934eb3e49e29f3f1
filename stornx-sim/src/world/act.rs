//! Carrying out actions, as an actuator on Kubernetes would: what the action expects is
//! looked at first, and nothing is done when it is not there.

use stornx_core::{
    ids::{HostName, NodeName, PodName, WorkloadRef},
    model::{Host, RouteTable, Rule},
    plan::{Action, MoveWay},
    ports::PortError,
};

use super::{
    Routing,
    state::{Phase, World},
};

impl World {
    /// Applies one action.
    pub(crate) fn apply(&mut self, action: &Action) -> Result<(), PortError> {
        if !self.leader {
            return Err(PortError::NotLeader { what: action.to_string() });
        }
        let attempt = Attempt { what: action.to_string() };
        match action {
            Action::AddReplicas { workload, observed, nodes } => {
                let service = attempt.counted(self, workload, *observed)?;
                self.add(service, &attempt.nodes(self, nodes)?);
                self.meter.scale_actions += 1;
            }
            Action::RemoveReplicas { workload, observed, victims } => {
                let service = attempt.counted(self, workload, *observed)?;
                let pods = victims
                    .iter()
                    .map(|victim| attempt.pod(self, service, victim))
                    .collect::<Result<Vec<_>, _>>()?;
                self.remove(service, &pods);
                self.meter.scale_actions += 1;
            }
            Action::StartMove { workload, observed, way, victim, to, .. } => {
                let service = attempt.counted(self, workload, *observed)?;
                let victim = attempt.pod(self, service, victim)?;
                let nodes = attempt.nodes(self, std::slice::from_ref(to))?;
                match way {
                    MoveWay::Surge => self.add(service, &nodes),
                    MoveWay::Hold => {
                        let raised = self.services[service].desired.saturating_add(1);
                        self.services[service].hpa.held = Some(raised);
                        self.add(service, &nodes);
                    }
                    MoveWay::Evict => {
                        self.delete(victim);
                        self.create(service, nodes.first().copied());
                        self.reconcile(service);
                    }
                }
                self.meter.moves += 1;
            }
            Action::FinishMove { workload, observed, victim, replacement } => {
                let service = attempt.counted(self, workload, *observed)?;
                let victim = attempt.pod(self, service, victim)?;
                let stands_in = attempt.pod(self, service, replacement)?;
                if self.pods[stands_in as usize].phase != Phase::Ready {
                    return Err(attempt.conflict(format!("{replacement} is not Ready")));
                }
                self.remove(service, &[victim]);
            }
            // As if the autoscaler looked right then, and lowered the count at once.
            Action::GiveBackMinimum { workload, observed, goes, .. } => {
                let service = attempt.counted(self, workload, *observed)?;
                let goes = goes.as_ref().map(|goes| attempt.pod(self, service, goes));
                let gone: Vec<u32> = goes.transpose()?.into_iter().collect();
                if self.services[service].hpa.held.take().is_none() {
                    return Err(attempt.conflict("its minimum is not raised".to_owned()));
                }
                self.remove(service, &gone);
            }
            Action::AbortMove { workload, observed, surge, .. } => {
                let service = attempt.counted(self, workload, *observed)?;
                let surge = surge.as_ref().map(|surge| attempt.pod(self, service, surge));
                let gone: Vec<u32> = surge.transpose()?.into_iter().collect();
                self.lower(service, 1, &gone);
            }
            Action::CloseMove { workload, observed, .. }
            | Action::Unmark { workload, observed, .. } => {
                attempt.counted(self, workload, *observed)?;
            }
            Action::Release { workload, pods } => {
                let service = attempt.service(self, workload)?;
                for pod in pods {
                    let pod = attempt.pod(self, service, pod)?;
                    if self.pods[pod as usize].phase == Phase::Pending {
                        self.delete(pod);
                    }
                }
                self.reconcile(service);
            }
            Action::SetRoutes { host, from, to, first, .. } => {
                let service = attempt.host(self, host)?;
                match &self.services[service].routing {
                    Routing::Weights(stands) if *first || stands != from => {
                        return Err(attempt.conflict("other weights stand".to_owned()));
                    }
                    Routing::Weights(_) => {}
                    _ if !first => {
                        return Err(attempt.conflict("the weights that stood are gone".to_owned()));
                    }
                    _ => {}
                }
                self.write_rule(service, to.clone());
            }
            Action::GiveBackRoutes { host, .. } => {
                let service = attempt.host(self, host)?;
                self.give_rule_back(service);
            }
        }
        Ok(())
    }

    /// The mesh splits as the scenario says again.
    fn give_rule_back(&mut self, service: usize) {
        self.meter.rule_writes += 1;
        self.route(service, Routing::of(self.scenario.default_split));
    }

    /// Writes the weights of a host and counts the write.
    pub(crate) fn write_rule(&mut self, service: usize, table: RouteTable) {
        self.meter.rule_writes += 1;
        self.route(service, Routing::Weights(table));
    }

    fn add(&mut self, service: usize, nodes: &[usize]) {
        self.services[service].desired += u32::try_from(nodes.len()).unwrap_or(0);
        for node in nodes {
            self.create(service, Some(*node));
        }
        self.reconcile(service);
    }

    fn remove(&mut self, service: usize, pods: &[u32]) {
        self.lower(service, u32::try_from(pods.len()).unwrap_or(0), pods);
    }

    fn lower(&mut self, service: usize, by: u32, pods: &[u32]) {
        let desired = &mut self.services[service].desired;
        *desired = desired.saturating_sub(by);
        for pod in pods {
            self.delete(*pod);
        }
        self.reconcile(service);
    }

    /// The host as the API shows it.
    pub(crate) fn rule_of(&self, host: &HostName) -> Option<Rule> {
        let hosts = self.cluster_facts().hosts;
        hosts.into_iter().find(|h: &Host| &h.name == host).map(|host| host.rule)
    }
}

/// What is being tried, for errors.
struct Attempt {
    what: String,
}

impl Attempt {
    fn conflict(&self, detail: String) -> PortError {
        PortError::Conflict { what: self.what.clone(), detail }
    }

    fn service(&self, world: &World, workload: &WorkloadRef) -> Result<usize, PortError> {
        world
            .model
            .service(workload)
            .filter(|service| *service != world.model.ingress())
            .ok_or_else(|| self.conflict(format!("{workload} does not exist")))
    }

    fn counted(
        &self,
        world: &World,
        workload: &WorkloadRef,
        observed: u32,
    ) -> Result<usize, PortError> {
        let service = self.service(world, workload)?;
        let desired = world.services[service].desired;
        if desired == observed {
            Ok(service)
        } else {
            Err(self.conflict(format!("{workload} has {desired} replicas, not {observed}")))
        }
    }

    fn pod(&self, world: &World, service: usize, name: &PodName) -> Result<u32, PortError> {
        let pods = world.services[service].pods.iter().copied();
        pods.filter(|pod| world.pods[*pod as usize].active())
            .find(|pod| &world.pods[*pod as usize].name == name)
            .ok_or_else(|| self.conflict(format!("{name} is not among its replicas")))
    }

    fn nodes(&self, world: &World, names: &[NodeName]) -> Result<Vec<usize>, PortError> {
        names
            .iter()
            .map(|name| {
                world
                    .model
                    .node(name)
                    .ok_or_else(|| self.conflict(format!("node {name} does not exist")))
            })
            .collect()
    }

    fn host(&self, world: &World, host: &HostName) -> Result<usize, PortError> {
        world.model.host(host).ok_or_else(|| self.conflict(format!("host {host} does not exist")))
    }
}
