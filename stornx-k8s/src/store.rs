//! The memory in one ConfigMap: JSON, compressed, under one key of `binaryData`.
//!
//! It is replaced only at the version that was read, so that two writers cannot both
//! win. After a refusal the version is not known any more: the next load reads it
//! again. Labels and other keys of the ConfigMap stay as they are.
//!
//! A memory that cannot be read stops the cycle, with how to reset it: starting over
//! in silence would forget moves in flight.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{
    ByteString, api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PostParams},
};
use serde_json::json;
use stornx_core::{
    ids::Namespace,
    memory::Memory,
    ports::{PortError, StateStore},
};
use tokio::time::Instant;

use crate::{
    connect::Connection,
    error::{before, no_answer, port_error, within},
    map::rule::{MANAGED_BY, MANAGER},
    stats::{ErrorStats, STORE},
    webhook::Webhook,
    write_params,
};

/// The key that the memory is kept under.
pub(crate) const KEY: &str = "memory.json.gz";
/// A ConfigMap holds at most 1 MiB; the rest is for its metadata and for other keys.
const LARGEST: usize = 900_000;
/// What a memory may take uncompressed: far above any that fits, and far below what
/// would hurt.
const LARGEST_PLAIN: u64 = 64 << 20;

/// Where the memory is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Namespace of the ConfigMap.
    pub namespace: Namespace,
    /// Its name.
    pub name: String,
    /// For one request.
    pub timeout: Duration,
}

/// What is known of the ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    /// Nothing: it has to be read.
    Unknown,
    /// It is not there.
    Absent,
    /// It was read or written at this version.
    At(String),
}

/// Keeps the memory in a ConfigMap.
#[derive(Debug)]
pub struct ConfigMapStore {
    api: Api<ConfigMap>,
    options: StoreOptions,
    version: Mutex<Version>,
    errors: Arc<ErrorStats>,
    /// Learns what is stored.
    webhook: Option<Webhook>,
}

impl ConfigMapStore {
    /// A store that has read nothing yet.
    #[must_use]
    pub fn new(connection: &Connection, options: StoreOptions) -> Self {
        let api = Api::namespaced(connection.client().clone(), options.namespace.as_str());
        let errors = connection.error_stats();
        Self { api, options, version: Mutex::new(Version::Unknown), errors, webhook: None }
    }

    /// The same store; the webhook learns of each memory that was read or stored, and of
    /// no other: what it answers by is in the cluster.
    #[must_use]
    pub fn telling(mut self, webhook: Webhook) -> Self {
        self.webhook = Some(webhook);
        self
    }

    fn tell(&self, memory: &Memory) {
        if let Some(webhook) = &self.webhook {
            webhook.stand(memory);
        }
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} config map {}/{}", self.options.namespace, self.options.name)
    }

    fn note(&self, version: Version) -> Version {
        let mut known = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *known, version)
    }

    fn note_written(&self, object: &ConfigMap) {
        self.note(version_of(object));
    }

    async fn write(&self, version: Version, bytes: Vec<u8>) -> Result<ConfigMap, PortError> {
        let what = self.what("write");
        let failed = |error| port_error(&what, &error);
        let data = BTreeMap::from([(KEY.to_owned(), ByteString(bytes))]);
        match version {
            Version::Unknown => Err(PortError::Conflict {
                what,
                detail: "its version is not known; it is read again first".to_owned(),
            }),
            Version::Absent => {
                let label = (MANAGED_BY.to_owned(), MANAGER.to_owned());
                let object = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(self.options.name.clone()),
                        labels: Some([label].into()),
                        ..ObjectMeta::default()
                    },
                    binary_data: Some(data),
                    ..ConfigMap::default()
                };
                let params =
                    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                self.api.create(&params, &object).await.map_err(failed)
            }
            Version::At(version) => {
                let patch = json!({
                    "metadata": { "resourceVersion": version }, "binaryData": data
                });
                let (params, patch) = (write_params(), Patch::Merge(patch));
                self.api.patch(&self.options.name, &params, &patch).await.map_err(failed)
            }
        }
    }

    async fn read(&self) -> Result<Memory, PortError> {
        let what = self.what("read");
        self.note(Version::Unknown);
        let call = self.api.get_opt(&self.options.name);
        let Some(object) = within(self.options.timeout, &what, call).await? else {
            self.note(Version::Absent);
            return Ok(Memory::default());
        };
        let memory = match object.binary_data.as_ref().and_then(|data| data.get(KEY)) {
            Some(bytes) => unpack(&bytes.0).map_err(|why| PortError::Rejected {
                detail: format!(
                    "{KEY} is no memory: {why}; to start over, delete the config map: cooldowns \
                     and moves in flight are forgotten then"
                ),
                what,
            })?,
            None => Memory::default(),
        };
        self.note_written(&object);
        Ok(memory)
    }

    /// The time-out begins before the memory is packed: that is when the right to write
    /// was asked for.
    async fn replace(&self, memory: &Memory) -> Result<(), PortError> {
        let limit = self.options.timeout;
        let until = Instant::now() + limit;
        let rejected = |detail| PortError::Rejected { what: self.what("write"), detail };
        let bytes = pack(memory).map_err(rejected)?;
        if bytes.len() > LARGEST {
            let detail =
                format!("the memory takes {} bytes compressed, {LARGEST} fit", bytes.len());
            return Err(rejected(detail));
        }
        // Until the answer is there, the version is not known.
        let version = self.note(Version::Unknown);
        let written = before(until, self.write(version, bytes)).await;
        let object = written.unwrap_or_else(|| Err(no_answer(&self.what("write"), limit)))?;
        self.note_written(&object);
        Ok(())
    }
}

#[async_trait]
impl StateStore for ConfigMapStore {
    async fn load(&self) -> Result<Memory, PortError> {
        let memory = self.errors.counted(STORE, self.read().await)?;
        self.tell(&memory);
        Ok(memory)
    }

    async fn save(&self, memory: &Memory) -> Result<(), PortError> {
        self.errors.counted(STORE, self.replace(memory).await)?;
        self.tell(memory);
        Ok(())
    }
}

fn version_of(object: &ConfigMap) -> Version {
    object.metadata.resource_version.clone().map_or(Version::Unknown, Version::At)
}

fn pack(memory: &Memory) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(memory).map_err(|error| error.to_string())?;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&json).and_then(|()| encoder.finish()).map_err(|error| error.to_string())
}

fn unpack(bytes: &[u8]) -> Result<Memory, String> {
    let mut json = Vec::new();
    let mut decoder = GzDecoder::new(bytes).take(LARGEST_PLAIN);
    decoder.read_to_end(&mut json).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use stornx_core::testing::random_case;

    use super::*;

    #[test]
    fn memories_come_back_whole() {
        for seed in 0..50 {
            let memory = random_case(seed).memory;
            assert_eq!(unpack(&pack(&memory).unwrap()).unwrap(), memory, "seed {seed}");
        }
    }

    #[test]
    fn what_is_no_memory_says_so() {
        assert!(unpack(b"not compressed").is_err());
        let other = {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            // An intent of a later version.
            encoder
                .write_all(
                    br#"{"workloads":{"shop/Deployment/cart":{"intents":[
                        {"node":"n1","since":1,"until":2,"surprise":3}]}}}"#,
                )
                .unwrap();
            encoder.finish().unwrap()
        };
        assert!(unpack(&other).unwrap_err().contains("surprise"));
    }
}
