//! The boutique as Kubernetes objects.
//!
//! From the scenario: namespace, services, replicas, requests, limits, budgets, HPAs,
//! and which services speak plain TCP. A service that is pinned gets a volume in the
//! zone of its placement; other placements are left to the scheduler. Users enter by an
//! ingress with one pod in each zone, in a namespace of its own that nobody manages. How long pods take
//! to start is left to the options of the cluster: tests do not wait for a JVM.

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use stornx_core::model::Protocol;
use stornx_sim::{
    builtin,
    scenario::{INGRESS, Scenario, Service, service::Placement},
};

use super::{
    Workload, create, disruption_budget, horizontal_autoscaler, namespace, objects::typed,
    workload::wait_ready,
};
use crate::error::{Result, Tried};

/// The scenario that the boutique is taken from.
///
/// # Panics
/// Never: a test of `stornx-sim` holds that its built-in scenarios are valid.
#[must_use]
#[allow(clippy::expect_used)] // A test holds that built-in scenarios are valid.
pub fn boutique_scenario() -> &'static Scenario {
    static SCENARIO: LazyLock<Scenario> =
        LazyLock::new(|| builtin::find("online-boutique").expect("a built-in scenario is valid"));
    &SCENARIO
}

/// A volume that is bound to a zone.
#[derive(Debug, Clone, PartialEq)]
struct Volume {
    workload: String,
    zones: Vec<String>,
}

/// A scenario's services as workloads.
#[derive(Debug, Clone, PartialEq)]
pub struct Boutique {
    /// Their namespace.
    pub namespace: String,
    /// Them, in the order of the scenario.
    pub workloads: Vec<Workload>,
    /// Where users come in.
    pub ingress: Workload,
    /// Pods that must stay, by workload.
    pub budgets: BTreeMap<String, u32>,
    /// Lower bound, upper bound and target CPU utilisation in per cent, by workload.
    pub autoscalers: BTreeMap<String, (u32, u32, u32)>,
    volumes: Vec<Volume>,
}

impl Boutique {
    /// The built-in one.
    #[must_use]
    pub fn new() -> Self {
        Self::of_scenario(boutique_scenario())
    }

    /// The services of any scenario.
    #[must_use]
    pub fn of_scenario(scenario: &Scenario) -> Self {
        let namespace = scenario.namespace.to_string();
        let services = &scenario.services;
        Self {
            workloads: services.iter().map(|one| workload(&namespace, services, one)).collect(),
            budgets: services
                .iter()
                .filter_map(|one| Some((one.name.clone(), one.min_ready?)))
                .collect(),
            autoscalers: services.iter().filter_map(autoscaler).collect(),
            ingress: Workload::new(INGRESS, INGRESS, count(scenario.topology.zones.len())).spread(),
            volumes: services.iter().filter(|one| one.constraints.pinned).map(volume).collect(),
            namespace,
        }
    }

    /// One of its workloads.
    #[must_use]
    pub fn workload(&self, name: &str) -> Option<&Workload> {
        self.workloads.iter().find(|one| one.name == name)
    }

    /// Pods of all workloads and the ingress together.
    #[must_use]
    pub fn pods(&self) -> u32 {
        self.all().map(|one| one.replicas).sum()
    }

    fn all(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.iter().chain([&self.ingress])
    }

    /// Creates everything.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn deploy(&self, client: &Client) -> Result<()> {
        namespace(client, &self.namespace).await?;
        namespace(client, &self.ingress.namespace).await?;
        for volume in &self.volumes {
            self.create_volume(client, volume).await?;
        }
        for workload in self.all() {
            workload.create(client).await?;
            if let Some(min) = self.budgets.get(&workload.name) {
                create(client, &disruption_budget(workload, *min)?).await?;
            }
            if let Some((min, max, target)) = self.autoscalers.get(&workload.name) {
                create(client, &horizontal_autoscaler(workload, *min, *max, *target)?).await?;
            }
        }
        Ok(())
    }

    /// Waits until every replica is Ready.
    ///
    /// # Errors
    /// [`BedError::Deadline`](crate::BedError::Deadline) for the first workload that is
    /// not.
    pub async fn wait_ready(&self, client: &Client, limit: Duration) -> Result<()> {
        for workload in self.all() {
            let replicas = usize::try_from(workload.replicas).unwrap_or(usize::MAX);
            wait_ready(client, workload, replicas, limit).await?;
        }
        Ok(())
    }

    async fn create_volume(&self, client: &Client, volume: &Volume) -> Result<()> {
        let name = format!("{}-data", volume.workload);
        let what = format!("volume {name}");
        let spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "",
            "capacity": {"storage": "1Gi"},
            "local": {"path": "/data"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [{
                "key": "topology.kubernetes.io/zone", "operator": "In", "values": volume.zones,
            }]}]}},
        });
        let there: PersistentVolume =
            typed(&what, json!({"metadata": {"name": name}, "spec": spec}))?;
        let api: Api<PersistentVolume> = Api::all(client.clone());
        api.create(&PostParams::default(), &there).await.tried(|| format!("create {what}"))?;
        let claim: PersistentVolumeClaim = typed(
            &what,
            json!({
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {
                    "accessModes": ["ReadWriteOnce"],
                    "storageClassName": "",
                    "volumeName": name,
                    "resources": {"requests": {"storage": "1Gi"}},
                },
            }),
        )?;
        create(client, &claim).await
    }
}

impl Default for Boutique {
    fn default() -> Self {
        Self::new()
    }
}

/// Of zones, which are few.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn workload(namespace: &str, services: &[Service], service: &Service) -> Workload {
    Workload {
        requests: service.requests,
        limits: service.limits,
        tcp: called_by_tcp(services, &service.name),
        claim: service.constraints.pinned,
        ..Workload::new(namespace, &service.name, service.replicas)
    }
}

fn called_by_tcp(services: &[Service], name: &str) -> bool {
    let stages = services.iter().flat_map(|service| {
        service.stages.iter().chain(service.operations.values().flat_map(|one| &one.stages))
    });
    let mut calls = stages.flat_map(|stage| &stage.calls);
    calls.any(|call| call.to == name && call.protocol == Protocol::Tcp)
}

fn autoscaler(service: &Service) -> Option<(String, (u32, u32, u32))> {
    let hpa = service.autoscaler.as_ref()?;
    // A percentage between 1 and some hundreds.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let target = hpa.target_cpu_percent.get().round() as u32;
    Some((service.name.clone(), (hpa.min, hpa.max, target)))
}

fn volume(service: &Service) -> Volume {
    let zones = match &service.placement {
        Some(Placement::Zones(zones)) => zones.keys().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    Volume { workload: service.name.clone(), zones }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boutique_is_that_of_the_scenario() {
        let boutique = Boutique::new();
        assert_eq!(boutique.namespace, "boutique");
        assert_eq!(boutique.workloads.len(), boutique_scenario().services.len());
        let redis = boutique.workload("redis").unwrap();
        assert!(redis.tcp && redis.claim);
        assert!(!boutique.workload("frontend").unwrap().tcp);
        assert_eq!(
            boutique.volumes,
            [Volume { workload: "redis".to_owned(), zones: vec!["zone-b".to_owned()] }]
        );
    }

    #[test]
    fn objects_carry_requests_and_the_claim() {
        let boutique = Boutique::new();
        let redis = boutique.workload("redis").unwrap().deployment().unwrap();
        let text = serde_json::to_value(&redis).unwrap();
        let pod = &text["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["resources"]["requests"]["cpu"], "70m");
        assert_eq!(pod["volumes"][0]["persistentVolumeClaim"]["claimName"], "redis-data");
    }
}
