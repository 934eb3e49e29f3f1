//! CPU and memory of pods, from the API `metrics.k8s.io` (metrics-server or whatever
//! serves it).
//!
//! The facts are as old as the oldest figure among them, by the clock of whoever
//! measured; a clock that runs ahead of ours makes them no younger than now.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::try_join_all;
use kube::{Client, Error, api::ListParams, core::Request};
use stornx_core::{
    ids::Namespace,
    model::{Facts, PodUsage, Source},
    ports::PortError,
    units::Timestamp,
};
use tokio::sync::watch;

use crate::{
    connect::{Capabilities, Connection},
    error::within,
    map::usage::{List, usage},
    stats::{ErrorStats, POD_METRICS},
};

/// Reads pod metrics.
#[derive(Clone)]
pub struct PodMetrics {
    client: Client,
    capabilities: watch::Receiver<Capabilities>,
    namespaces: BTreeSet<Namespace>,
    timeout: Duration,
    errors: Arc<ErrorStats>,
}

impl PodMetrics {
    /// Metrics of the pods of these namespaces, one request each; of all namespaces in
    /// one request when none is named. `timeout` is for one request.
    #[must_use]
    pub fn new(
        connection: &Connection,
        namespaces: BTreeSet<Namespace>,
        timeout: Duration,
    ) -> Self {
        let capabilities = connection.capabilities();
        let (client, errors) = (connection.client().clone(), connection.error_stats());
        Self { client, capabilities, namespaces, timeout, errors }
    }

    /// What pods use. Never fails: what could not be had is missing, with the reason.
    pub async fn observe(&self, now: Timestamp) -> Facts<Vec<PodUsage>> {
        if !self.capabilities.borrow().pod_metrics {
            let reason = "metrics.k8s.io/v1beta1 is not served".to_owned();
            return Facts::Missing { reason };
        }
        let calls: Vec<_> = if self.namespaces.is_empty() {
            vec![self.list(None)]
        } else {
            self.namespaces.iter().map(|namespace| self.list(Some(namespace))).collect()
        };
        let lists = match self.errors.counted(POD_METRICS, try_join_all(calls).await) {
            Ok(lists) => lists,
            Err(error) => return Facts::Missing { reason: error.to_string() },
        };
        let (mut value, mut oldest) = (Vec::new(), None);
        for (pods, as_of) in lists.iter().map(usage) {
            value.extend(pods);
            oldest = match (oldest, as_of) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        match oldest {
            Some(as_of) => {
                Facts::Fresh { as_of: as_of.min(now), source: Source::MetricsServer, value }
            }
            None => Facts::Missing { reason: "metrics.k8s.io knows of no pod".to_owned() },
        }
    }

    async fn list(&self, namespace: Option<&Namespace>) -> Result<List, PortError> {
        let path = match namespace {
            None => "/apis/metrics.k8s.io/v1beta1/pods".to_owned(),
            Some(one) => format!("/apis/metrics.k8s.io/v1beta1/namespaces/{one}/pods"),
        };
        let what = format!("get {path}");
        let call = async {
            let request =
                Request::new(path).list(&ListParams::default()).map_err(Error::BuildRequest)?;
            self.client.request::<List>(request).await
        };
        within(self.timeout, &what, call).await
    }
}
