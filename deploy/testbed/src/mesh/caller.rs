//! A caller: an Envoy of one zone, joined to istiod as a sidecar, and requests through it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Istiod, statistics::Statistics};
use crate::{
    cluster::TestBed,
    dirs,
    error::{BedError, Result},
    ports,
    process::{Process, Start},
    wait::until,
};

/// The header of an answer with the flags of Envoy: why there was none of a pod.
pub(super) const FLAGS: &str = "x-flags";

/// How long it may take to join.
const JOINED: Duration = Duration::from_secs(60);

/// Connections that requests come over.
const CONNECTIONS: u64 = 8;

/// Where a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Part of the zone; empty where zones are not divided.
    pub subzone: String,
}

/// Which pod a caller is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Name of the process and its files.
    pub name: &'static str,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Its address.
    pub address: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is.
    pub place: Place,
}

impl Identity {
    /// A pod that there is.
    #[must_use]
    pub fn of(name: &'static str, pod: &Pod, place: Place) -> Self {
        Self {
            name,
            namespace: pod.namespace().unwrap_or_default(),
            pod: pod.name_any(),
            address: pod.status.as_ref().and_then(|s| s.pod_ip.clone()).unwrap_or_default(),
            labels: pod.labels().clone(),
            place,
        }
    }
}

/// Weight of each locality, `region/zone/subzone`, as the proxy was told.
pub type Groups = BTreeMap<String, u64>;

/// An Envoy that runs; ended with the handle.
#[derive(Debug)]
pub struct Caller {
    _process: Process,
    pub(super) listener: u16,
    admin: u16,
    /// `namespace/name` of its pod.
    pub(super) from: String,
}

impl Caller {
    /// Starts an Envoy in a place and waits until it knows the clusters of istiod.
    ///
    /// # Errors
    /// When it does not join in time.
    pub async fn start(
        bed: &TestBed,
        istiod: &Istiod,
        name: &'static str,
        namespace: &str,
        place: &Place,
    ) -> Result<Self> {
        let (listener, admin) = (ports::free()?, ports::free()?);
        let identity = Identity {
            name,
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
            // An address of its own that no pod has.
            address: format!("10.255.0.{}", listener % 250 + 1),
            labels: [("app".to_owned(), name.to_owned())].into(),
            place: place.clone(),
        };
        Self::join(bed, istiod, &identity, listener, admin).await
    }

    /// Starts an Envoy as the sidecar of a pod that there is.
    ///
    /// # Errors
    /// When it does not join in time.
    pub async fn of_pod(bed: &TestBed, istiod: &Istiod, identity: &Identity) -> Result<Self> {
        Self::join(bed, istiod, identity, ports::free()?, ports::free()?).await
    }

    async fn join(
        bed: &TestBed,
        istiod: &Istiod,
        identity: &Identity,
        listener: u16,
        admin: u16,
    ) -> Result<Self> {
        let name = identity.name;
        let file = bed.folder().join(format!("{name}.json"));
        let text = configuration(istiod.port, listener, admin, identity);
        dirs::write(&file, text.to_string())?;
        let process = Process::start(Start {
            name,
            program: super::envoy()?,
            arguments: vec![
                "-c".to_owned(),
                file.to_string_lossy().into_owned(),
                "--concurrency".to_owned(),
                "1".to_owned(),
                "--log-level".to_owned(),
                "warning".to_owned(),
                "--disable-hot-restart".to_owned(),
            ],
            folder: bed.folder().to_path_buf(),
        })?;
        let from = format!("{}/{}", identity.namespace, identity.pod);
        let caller = Self { _process: process, listener, admin, from };
        let ready = || async {
            let text = caller.ask("ready").await?;
            if text.trim() == "LIVE" { Ok(()) } else { Err(text) }
        };
        until("Envoy to be live", JOINED, ready).await?;
        Ok(caller)
    }

    /// Where what it counts can be read, also after it was ended.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        Statistics { admin: self.admin, from: self.from.clone() }
    }

    async fn ask(&self, path: &str) -> Result<String, String> {
        let url = format!("http://127.0.0.1:{}/{path}", self.admin);
        let text = async { reqwest::get(&url).await?.text().await };
        text.await.map_err(|error| error.to_string())
    }

    /// The weights of localities that it was told for a host's port 80, of those that hold
    /// an endpoint.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn groups(&self, host: &str) -> Result<Groups, String> {
        let text = self.ask("config_dump?include_eds").await?;
        let dump: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let wanted = format!("outbound|80||{host}");
        let mut groups = Groups::new();
        let configs = dump["configs"].as_array().into_iter().flatten();
        let endpoints = configs
            .flat_map(|config| config["dynamic_endpoint_configs"].as_array().into_iter().flatten());
        for assignment in endpoints.map(|one| &one["endpoint_config"]) {
            if assignment["cluster_name"] != wanted.as_str() {
                continue;
            }
            for group in assignment["endpoints"].as_array().into_iter().flatten() {
                if group["lb_endpoints"].as_array().is_none_or(Vec::is_empty) {
                    continue;
                }
                let part = |name: &str| group["locality"][name].as_str().unwrap_or_default();
                let key = format!("{}/{}/{}", part("region"), part("zone"), part("sub_zone"));
                let weight = group["load_balancing_weight"].as_u64().unwrap_or(0);
                groups.insert(key, weight);
            }
        }
        Ok(groups)
    }

    /// Sends requests to a host, and counts which pod answered how many.
    ///
    /// # Errors
    /// When one of them is not answered with 200.
    pub async fn count(&self, host: &str, requests: u64) -> Result<BTreeMap<IpAddr, u64>> {
        let host: Arc<str> = host.into();
        let tasks: Vec<_> = (0..CONNECTIONS)
            .map(|at| {
                let share = requests / CONNECTIONS + u64::from(at < requests % CONNECTIONS);
                tokio::spawn(send(self.listener, Arc::clone(&host), share))
            })
            .collect();
        let mut counts = BTreeMap::new();
        for task in tasks {
            let failed =
                |detail: String| BedError::Invalid { what: format!("requests to {host}"), detail };
            let answered = task.await.map_err(|error| failed(error.to_string()))?;
            for (pod, count) in answered.map_err(failed)? {
                *counts.entry(pod).or_insert(0) += count;
            }
        }
        Ok(counts)
    }
}

/// Sends requests one after the other over one connection.
async fn send(port: u16, host: Arc<str>, requests: u64) -> Result<BTreeMap<IpAddr, u64>, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(said)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-to: outbound|80||{host}\r\n\r\n");
    let mut counts = BTreeMap::new();
    let mut part = [0_u8; 4096];
    for _ in 0..requests {
        stream.write_all(request.as_bytes()).await.map_err(said)?;
        let mut held = String::new();
        let body = loop {
            let read = stream.read(&mut part).await.map_err(said)?;
            held.push_str(&String::from_utf8_lossy(&part[..read]));
            if let Some((head, body)) = held.split_once("\r\n\r\n")
                && let Some(length) = length(head)
                && body.len() >= length
            {
                if !head.starts_with("HTTP/1.1 200") {
                    return Err(held);
                }
                break body.to_owned();
            }
            if read == 0 {
                return Err(format!("cut off after {held:?}"));
            }
        };
        let pod: IpAddr = body.trim().parse().map_err(|_| format!("{body:?} is no address"))?;
        *counts.entry(pod).or_insert(0) += 1;
    }
    Ok(counts)
}

pub(super) fn length(head: &str) -> Option<usize> {
    let line = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    line.trim().parse().ok()
}

/// Clusters and endpoints come from istiod, the listener is our own: which cluster a
/// request is for is said in a header, and why one failed in a header of the answer. Of its
/// own workload it knows the pods, as with `ISTIO_META_ENABLE_SELF_DISCOVERY`.
fn configuration(istiod: u16, listener: u16, admin: u16, identity: &Identity) -> Value {
    let Identity { name, namespace, pod, address, labels, place } = identity;
    let workload = labels.get("app").cloned().unwrap_or_default();
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    let http = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let http2 = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "node": {
            "id": format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local"),
            "cluster": name,
            "locality": {"region": place.region, "zone": place.zone, "sub_zone": place.subzone},
            "metadata": {
                "NAMESPACE": namespace, "INSTANCE_IPS": address, "WORKLOAD_NAME": workload,
                "LABELS": labels, "CLUSTER_ID": "Kubernetes", "ENABLE_SELF_DISCOVERY": "true"
            }
        },
        "admin": {"address": at(admin)},
        // How soon times show in its statistics.
        "stats_flush_interval": "1s",
        "cluster_manager": {"local_cluster_name": "local_cluster"},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "GRPC", "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "istiod"}}]
            },
            "cds_config": ads
        },
        "static_resources": {
            "clusters": [
                {
                    "name": "istiod", "type": "STATIC", "connect_timeout": "5s",
                    "typed_extension_protocol_options": {
                        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                            "@type": http2, "explicit_http_config": {"http2_protocol_options": {}}
                        }
                    },
                    "load_assignment": {"cluster_name": "istiod", "endpoints": [
                        {"lb_endpoints": [{"endpoint": {"address": at(istiod)}}]}
                    ]}
                },
                {
                    "name": "local_cluster", "type": "EDS", "connect_timeout": "1s",
                    "lb_policy": "LEAST_REQUEST",
                    "common_lb_config": {"zone_aware_lb_config": {"min_cluster_size": "1"}},
                    "eds_cluster_config": {"eds_config": ads, "service_name": "local_cluster"}
                }
            ],
            "listeners": [{
                "name": "calls", "address": at(listener),
                "filter_chains": [{"filters": [{
                    "name": "http",
                    "typed_config": {
                        "@type": http, "stat_prefix": "calls",
                        "route_config": {
                            "response_headers_to_add": [
                                {"header": {"key": FLAGS, "value": "%RESPONSE_FLAGS%"}}
                            ],
                            "virtual_hosts": [{
                                "name": "all", "domains": ["*"],
                                "routes": [{"match": {"prefix": "/"}, "route": {"cluster_header": "x-to"}}]
                            }]
                        },
                        "http_filters": [{"name": "router", "typed_config": {"@type": router}}]
                    }
                }]}]
            }]
        }
    })
}
