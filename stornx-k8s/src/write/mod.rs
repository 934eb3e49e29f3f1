//! The actuator: one action at a time, each with a precondition.
//!
//! - Counts are changed through the scale subresource by one JSON patch that tests the
//!   count first, so that nobody's change is overwritten.
//! - The whole of an action, every request of it, is given up after one time-out: the
//!   lease promises no more time than that. A process that was frozen in between sends no
//!   further request.
//! - Where a new replica goes is left to the scheduler.
//! - Moves and routes are planned and reported only: they are refused without a
//!   request. Giving a move up that has no surge replica is nothing but forgetting it,
//!   which whoever remembers it does: here that is done at once.
//!
//! It keeps nothing. A dry run never gets here: the engine does not act then.

mod scale;
mod victims;

use std::time::Duration;

use async_trait::async_trait;
use kube::Client;
use stornx_core::{
    ids::{WorkloadKind, WorkloadRef},
    plan::{Action, ActionKind},
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
        let planned_only = |kind: &str| PortError::NotTried {
            what: what.to_owned(),
            detail: format!("{kind} are planned and reported only for now"),
        };
        match action {
            Action::AddReplicas { workload, observed, nodes } => {
                let wanted =
                    observed.saturating_add(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
                self.scale(workload, what, *observed, wanted).await
            }
            Action::RemoveReplicas { workload, observed, victims } => match workload.kind() {
                WorkloadKind::Deployment => {
                    victims::remove(&self.client, workload, what, *observed, victims).await
                }
                WorkloadKind::StatefulSet => {
                    victims::remove_last(&self.client, workload, what, *observed, victims).await
                }
            },
            Action::AbortMove { surge: None, .. } => Ok(()),
            Action::StartMove { .. } | Action::FinishMove { .. } | Action::AbortMove { .. } => {
                Err(planned_only("moves"))
            }
            Action::SetRoutes { .. } => Err(planned_only("routes")),
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
    /// Counts are changed and records of moves cleared; moves and routes are planned and
    /// reported only.
    fn carries_out(&self, kind: ActionKind) -> bool {
        matches!(kind, ActionKind::AddReplicas | ActionKind::RemoveReplicas | ActionKind::AbortMove)
    }

    async fn apply(&self, action: &Action) -> Result<(), PortError> {
        let until = Instant::now() + self.timeout;
        let what = action.to_string();
        let done = before(until, self.try_apply(action, &what)).await;
        done.unwrap_or_else(|| Err(no_answer(&what, self.timeout)))
    }
}
