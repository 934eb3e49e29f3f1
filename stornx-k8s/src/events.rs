//! Events on workloads, where `kubectl describe` shows them.
//!
//! Which events are worth saying, and that none is repeated while nothing changes, is
//! the caller's to decide. One event is one object: series of events, which the API
//! can merge, would keep the text of the first.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use stornx_core::{ids::WorkloadRef, ports::PortError};

use crate::{
    connect::Connection,
    error::within,
    stats::{EVENTS, ErrorStats},
    watch::{Cluster, Shared},
};

/// The longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// How an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// Something was done, or left alone for a good reason.
    Normal,
    /// Something needs somebody's attention.
    Warning,
}

/// Publishes events.
#[derive(Clone)]
pub struct EventRecorder {
    client: Client,
    shared: Arc<Shared>,
    instance: String,
    timeout: Duration,
    errors: Arc<ErrorStats>,
}

impl EventRecorder {
    /// `instance` tells daemons apart, e.g. the name of the pod; `timeout` is for one
    /// request.
    #[must_use]
    pub fn new(
        connection: &Connection,
        cluster: &Cluster,
        instance: impl Into<String>,
        timeout: Duration,
    ) -> Self {
        Self {
            client: connection.client().clone(),
            shared: cluster.shared(),
            instance: instance.into(),
            timeout,
            errors: connection.error_stats(),
        }
    }

    /// Publishes an event on a workload. `reason` is one word in camel case, at most
    /// 128 characters; a longer note than the API takes is cut.
    ///
    /// # Errors
    /// [`PortError`] when it was not published.
    pub async fn publish(
        &self,
        workload: &WorkloadRef,
        reason: &str,
        note: &str,
        kind: EventKind,
    ) -> Result<(), PortError> {
        let what = format!("publish event {reason} on {workload}");
        let namespace = workload.namespace();
        let event = self.event(workload, reason, note, kind, Timestamp::now());
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace.as_str());
        let params = PostParams::default();
        let created = within(self.timeout, &what, api.create(&params, &event)).await;
        self.errors.counted(EVENTS, created).map(drop)
    }

    fn event(
        &self,
        workload: &WorkloadRef,
        reason: &str,
        note: &str,
        kind: EventKind,
        now: Timestamp,
    ) -> Event {
        let namespace = Some(workload.namespace().as_str().to_owned());
        Event {
            metadata: ObjectMeta {
                namespace: namespace.clone(),
                // Names of workloads may be as long as names of events.
                generate_name: Some(format!("{}-", cut(workload.name(), 200))),
                ..ObjectMeta::default()
            },
            action: Some(reason.to_owned()),
            reason: Some(reason.to_owned()),
            note: Some(cut(note, LONGEST_NOTE).to_owned()),
            type_: Some(match kind {
                EventKind::Normal => "Normal".to_owned(),
                EventKind::Warning => "Warning".to_owned(),
            }),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some("stornx.io/stornx".to_owned()),
            reporting_instance: Some(cut(&self.instance, 128).to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("apps/v1".to_owned()),
                kind: Some(workload.kind().as_str().to_owned()),
                namespace,
                name: Some(workload.name().to_owned()),
                uid: self.shared.uid(workload),
                ..ObjectReference::default()
            }),
            ..Event::default()
        }
    }
}

/// At most `bytes` of a text, whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("→→", 4), "→");
        assert_eq!(cut("short", 100), "short");
    }
}
