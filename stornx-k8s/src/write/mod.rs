//! The actuator: one action at a time, each with a precondition.
//!
//! - Counts are changed through the scale subresource at the version that was read just
//!   before, so that nobody's change is overwritten.
//! - The whole of an action, every request of it, is given up after one time-out: the
//!   lease promises no more time than that. A process that was frozen in between sends no
//!   further request.
//! - Where a new replica goes is told to it when it is created, by what is remembered
//!   before it is asked for; here only the count is raised.
//! - Routes are planned and reported only: they are refused without a request.
//!
//! It keeps nothing. A dry run never gets here: the engine does not act then.

mod hold;
mod moves;
mod scale;
mod victims;

use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use stornx_core::{
    ids::{WorkloadKind, WorkloadRef},
    plan::{Action, ActionKind, MoveEnding, MoveWay},
    ports::{Actuator, PortError},
};
use tokio::time::Instant;

use crate::{
    connect::Connection,
    error::{before, no_answer},
};

/// Writes to the cluster.
#[derive(Clone)]
pub struct KubeActuator {
    client: Client,
    timeout: Duration,
}

impl KubeActuator {
    /// `timeout` is for one action, all its requests together; the lease has to leave
    /// at least as much.
    #[must_use]
    pub fn new(connection: &Connection, timeout: Duration) -> Self {
        Self { client: connection.client().clone(), timeout }
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
                    victims::remove(client, workload, what, *observed, victims).await
                }
                WorkloadKind::StatefulSet => {
                    victims::remove_last(client, workload, what, *observed, victims).await
                }
            },
            Action::StartMove { workload, observed, way: MoveWay::Surge, .. } => {
                self.scale(workload, what, *observed, observed.saturating_add(1)).await
            }
            Action::StartMove { workload, observed, way: MoveWay::Evict, victim, .. } => {
                moves::make_way(client, workload, what, *observed, victim).await
            }
            Action::StartMove { workload, observed, way: MoveWay::Hold, victim, .. } => {
                hold::raise(client, workload, what, *observed, victim).await
            }
            Action::GiveBack { workload, goes, ending, .. } => {
                let stands_in = match ending {
                    Some(MoveEnding::Finish { replacement }) => Some(replacement),
                    Some(MoveEnding::Undo { .. }) | None => None,
                };
                hold::give_back(client, workload, what, goes.as_ref(), stands_in).await
            }
            Action::FinishMove { workload, observed, victim, replacement } => {
                let stands_in = Some(replacement);
                victims::end_move(client, workload, what, *observed, victim, stands_in).await
            }
            Action::AbortMove { workload, observed, surge: Some(surge), .. } => {
                victims::end_move(client, workload, what, *observed, surge, None).await
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
            Action::SetRoutes { .. } => Err(PortError::NotTried {
                what: what.to_owned(),
                detail: "routes are planned and reported only for now".to_owned(),
            }),
        }
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
    /// Routes are planned and reported only.
    fn carries_out(&self, kind: ActionKind) -> bool {
        kind != ActionKind::SetRoutes
    }

    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        let until = Instant::now() + self.timeout;
        let what = action.to_string();
        let done = before(until, self.try_apply(action, &what)).await;
        done.unwrap_or_else(|| Err(no_answer(&what, self.timeout)))
    }
}
