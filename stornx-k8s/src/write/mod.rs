//! The actuator: one action at a time, each with a precondition.
//!
//! - Counts are changed through the scale subresource at the version that was read just
//!   before, so that nobody's change is overwritten.
//! - The whole of an action, every request of it, is given up after one time-out: the
//!   lease promises no more time than that. A process that was frozen in between sends no
//!   further request.
//! - Where a new replica goes is told to it when it is created, by what is remembered
//!   before it is asked for; here only the count is raised.
//! - Routes are written by a [`RoutingBackend`], where there is one; else they are planned
//!   and reported only, and refused without a request.
//!
//! It keeps nothing. A dry run never gets here: the engine does not act then.

pub(crate) mod hold;
pub(crate) mod labels;
mod moves;
pub(crate) mod routes;
mod scale;
mod victims;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use kube::Client;
use stornx_core::{
    ids::{WorkloadKind, WorkloadRef},
    plan::{Action, ActionKind, MoveEnding, MoveWay},
    ports::{Actuator, PortError, RoutingBackend},
};
use tokio::time::Instant;

pub use self::labels::{NodeLabels, label_nodes};
use self::{routes::IstioRoutes, victims::Removal};
use crate::{
    connect::Connection,
    error::{before, no_answer},
    watch::Cluster,
};

/// Writes to the cluster.
#[derive(Clone)]
pub struct KubeActuator {
    client: Client,
    timeout: Duration,
    routing: Option<Arc<dyn RoutingBackend>>,
}

impl KubeActuator {
    /// `timeout` is for one action, all its requests together; the lease has to leave
    /// at least as much.
    #[must_use]
    pub fn new(connection: &Connection, timeout: Duration) -> Self {
        Self { client: connection.client().clone(), timeout, routing: None }
    }

    /// The same, writing routes as DestinationRules of Istio, over what is seen of the
    /// cluster.
    #[must_use]
    pub fn with_istio(mut self, cluster: &Cluster) -> Self {
        self.routing = Some(Arc::new(IstioRoutes::new(self.client.clone(), cluster.shared())));
        self
    }

    async fn try_apply(&self, action: &Action, what: &str) -> Result<(), PortError> {
        let client = &self.client;
        match action {
            Action::AddReplicas { workload, observed, nodes } => {
                let new = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
                self.scale(workload, what, *observed, observed.saturating_add(new)).await
            }
            Action::RemoveReplicas { workload, observed, victims } => match workload.kind() {
                WorkloadKind::Deployment => {
                    let (observed, stands_in) = (*observed, None);
                    let removal = Removal { what, observed, victims, stands_in };
                    victims::remove(client, workload, removal).await
                }
                WorkloadKind::StatefulSet => {
                    victims::remove_last(client, workload, what, *observed, victims).await
                }
            },
            Action::StartMove { workload, observed, way: MoveWay::Surge, victim, .. } => {
                moves::surge(client, workload, what, *observed, victim).await
            }
            Action::StartMove { workload, observed, way: MoveWay::Evict, victim, .. } => {
                moves::make_way(client, workload, what, *observed, victim).await
            }
            Action::StartMove { workload, observed, way: MoveWay::Hold, victim, .. } => {
                hold::raise(client, workload, what, *observed, victim).await
            }
            Action::GiveBackMinimum { workload, goes, ending, .. } => {
                let stands_in = match ending {
                    Some(MoveEnding::Finish { replacement }) => Some(replacement),
                    Some(MoveEnding::Undo { .. }) | None => None,
                };
                hold::give_back(client, workload, what, goes.as_ref(), stands_in).await
            }
            Action::FinishMove { workload, observed, victim, replacement } => {
                let (observed, victims) = (*observed, std::slice::from_ref(victim));
                let removal = Removal { what, observed, victims, stands_in: Some(replacement) };
                victims::end_move(client, workload, removal).await
            }
            Action::AbortMove { workload, observed, surge: Some(surge), .. } => {
                let (observed, victims) = (*observed, std::slice::from_ref(surge));
                let removal = Removal { what, observed, victims, stands_in: None };
                victims::end_move(client, workload, removal).await
            }
            Action::AbortMove { workload, observed, surge: None, .. } => {
                moves::give_up_missing(client, workload, what, *observed).await
            }
            Action::CloseMove { workload, observed, end } => {
                moves::close(client, workload, what, *observed, *end).await
            }
            Action::Unmark { workload, observed, pods } => {
                moves::unmark(client, workload, what, *observed, pods).await
            }
            Action::Release { workload, pods } => {
                moves::release(client, workload, what, pods).await
            }
            Action::SetRoutes { host, from, to, first, .. } => {
                let from = (!first).then_some(from);
                self.routing(what)?.write(host, from, to).await
            }
            Action::GiveBackRoutes { host, .. } => self.routing(what)?.give_back(host).await,
        }
    }

    fn routing(&self, what: &str) -> Result<&dyn RoutingBackend, PortError> {
        let not_tried = || PortError::NotTried {
            what: what.to_owned(),
            detail: "routes are planned and reported only here".to_owned(),
        };
        self.routing.as_deref().ok_or_else(not_tried)
    }

    async fn scale(
        &self,
        workload: &WorkloadRef,
        what: &str,
        observed: u32,
        wanted: u32,
    ) -> Result<(), PortError> {
        let change = scale::Change { what, observed, wanted };
        match workload.kind() {
            WorkloadKind::Deployment => {
                scale::change(&scale::deployments(&self.client, workload), workload, change).await
            }
            WorkloadKind::StatefulSet => {
                scale::change(&scale::stateful_sets(&self.client, workload), workload, change).await
            }
        }
    }
}

#[async_trait]
impl Actuator for KubeActuator {
    fn carries_out(&self, kind: ActionKind) -> bool {
        let routes = matches!(kind, ActionKind::SetRoutes | ActionKind::GiveBackRoutes);
        !routes || self.routing.is_some()
    }

    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        let until = Instant::now() + self.timeout;
        let what = action.to_string();
        let done = before(until, self.try_apply(action, &what)).await;
        done.unwrap_or_else(|| Err(no_answer(&what, self.timeout)))
    }
}
