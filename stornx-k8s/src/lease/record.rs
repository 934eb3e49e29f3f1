//! The record of a lease, and where it is kept.
//!
//! A record holds whole seconds. Parts of a second are rounded *up*: others wait for what
//! the record says, and its holder counts what was asked for, which is never more.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use stornx_core::ports::PortError;

use super::LeaseOptions;
use crate::{error::port_error, map::rule::MANAGER};

/// Who holds the lease, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Nobody when it was released.
    pub(super) holder: Option<String>,
    pub(super) duration: Duration,
    /// How often it has changed hands.
    pub(super) transitions: i32,
    /// For people.
    pub(super) acquired: Option<Timestamp>,
}

impl Record {
    pub(super) fn first(identity: &str, duration: Duration) -> Self {
        let holder = Some(identity.to_owned());
        Self { holder, duration, transitions: 0, acquired: Some(Timestamp::now()) }
    }

    pub(super) fn taken(&self, identity: &str, duration: Duration) -> Self {
        let same = self.holder.as_deref() == Some(identity);
        let transitions = self.transitions.saturating_add(i32::from(!same));
        Self { transitions, ..Self::first(identity, duration) }
    }

    pub(super) fn released(&self) -> Self {
        Self { holder: None, acquired: None, ..self.clone() }
    }
}

/// A version of one object. The version alone would not do: a Lease that is replaced and
/// is not there is created by the API server, whatever version is named. With the identity
/// of one that was deleted it answers 409.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) object: String,
    pub(super) version: String,
}

/// A record as it stood at a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) record: Record,
    pub(super) version: Version,
}

/// Where the record is kept. Writes give the new version.
#[async_trait]
pub(super) trait Records: Send + Sync {
    async fn read(&self) -> Result<Option<Seen>, PortError>;
    async fn create(&self, record: &Record) -> Result<Version, PortError>;
    async fn replace(&self, record: &Record, version: &Version) -> Result<Version, PortError>;
}

/// What the API keeps of a record.
pub(super) fn spec(record: &Record) -> LeaseSpec {
    let duration = record.duration;
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
    LeaseSpec {
        holder_identity: Some(record.holder.clone().unwrap_or_default()),
        lease_duration_seconds: Some(seconds.max(1)),
        lease_transitions: Some(record.transitions),
        acquire_time: record.acquired.map(MicroTime),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    }
}

/// The record that the API has kept.
pub(super) fn record(spec: LeaseSpec) -> Record {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
        duration: Duration::from_secs(seconds.unwrap_or(15)),
        transitions: spec.lease_transitions.unwrap_or(0),
        acquired: spec.acquire_time.map(|time| time.0),
    }
}

/// A Lease of the API.
pub(super) struct KubeRecords {
    api: Api<Object>,
    name: String,
    what: String,
}

impl KubeRecords {
    pub(super) fn new(client: Client, options: &LeaseOptions) -> Self {
        Self {
            api: Api::namespaced(client, options.namespace.as_str()),
            name: options.name.clone(),
            what: format!("lease {}/{}", options.namespace, options.name),
        }
    }

    fn object(&self, record: &Record, version: Option<&Version>) -> Object {
        Object {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                uid: version.map(|version| version.object.clone()),
                resource_version: version.map(|version| version.version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(spec(record)),
        }
    }

    fn version(&self, object: Object) -> Result<Version, PortError> {
        let ObjectMeta { uid, resource_version, .. } = object.metadata;
        match (uid, resource_version) {
            (Some(object), Some(version)) => Ok(Version { object, version }),
            _ => Err(PortError::Unavailable {
                what: self.what.clone(),
                detail: "an answer without identity or version".to_owned(),
            }),
        }
    }

    fn failed(&self, error: &kube::Error) -> PortError {
        port_error(&self.what, error)
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

#[async_trait]
impl Records for KubeRecords {
    async fn read(&self) -> Result<Option<Seen>, PortError> {
        let object = self.api.get_opt(&self.name).await.map_err(|error| self.failed(&error))?;
        let Some(object) = object else { return Ok(None) };
        let record = record(object.spec.clone().unwrap_or_default());
        Ok(Some(Seen { record, version: self.version(object)? }))
    }

    async fn create(&self, record: &Record) -> Result<Version, PortError> {
        let object = self.object(record, None);
        let answer = self.api.create(&params(), &object).await;
        self.version(answer.map_err(|error| self.failed(&error))?)
    }

    async fn replace(&self, record: &Record, version: &Version) -> Result<Version, PortError> {
        let object = self.object(record, Some(version));
        let answer = self.api.replace(&self.name, &params(), &object).await;
        self.version(answer.map_err(|error| self.failed(&error))?)
    }
}
