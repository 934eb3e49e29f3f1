//! Kubernetes objects beside a Deployment: namespaces, budgets, autoscalers, rights.

use std::fmt::Debug;

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::Namespace,
        policy::v1::PodDisruptionBudget,
        rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::Workload;
use crate::error::{BedError, Result, Tried};

/// An object from JSON.
pub(super) fn typed<K: DeserializeOwned>(what: &str, value: Value) -> Result<K> {
    serde_json::from_value(value)
        .map_err(|error| BedError::Invalid { what: what.to_owned(), detail: error.to_string() })
}

/// Creates an object in the namespace that it names.
///
/// # Errors
/// When the API server refuses, also because it exists.
pub async fn create<K>(client: &Client, object: &K) -> Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + Serialize
        + DeserializeOwned,
{
    let namespace = object.namespace().unwrap_or_else(|| "default".to_owned());
    let api: Api<K> = Api::namespaced(client.clone(), &namespace);
    let creating = || format!("create {} {}", K::kind(&()), object.name_any());
    api.create(&PostParams::default(), object).await.tried(creating)?;
    Ok(())
}

/// Creates a namespace, unless it exists, and waits for the account that its pods run as.
///
/// # Errors
/// When the API server refuses or the account is not made in time.
pub async fn namespace(client: &Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let object: Namespace =
        typed(&format!("namespace {name}"), json!({"metadata": {"name": name}}))?;
    match api.create(&PostParams::default(), &object).await {
        Err(kube::Error::Api(status)) if status.is_already_exists() => {}
        other => drop(other.tried(|| format!("create namespace {name}"))?),
    }
    let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::namespaced(client.clone(), name);
    let limit = std::time::Duration::from_secs(20);
    crate::wait::until("the default account", limit, || async {
        accounts.get("default").await.map(drop)
    })
    .await
}

/// A budget that keeps so many pods of a workload.
///
/// # Errors
/// When a field is not what Kubernetes expects.
pub fn disruption_budget(workload: &Workload, min_available: u32) -> Result<PodDisruptionBudget> {
    typed(
        &format!("budget of {}", workload.name),
        json!({
            "metadata": {"name": workload.name, "namespace": workload.namespace},
            "spec": {
                "minAvailable": min_available,
                "selector": {"matchLabels": {"app": workload.name}},
            },
        }),
    )
}

/// A HorizontalPodAutoscaler on CPU.
///
/// # Errors
/// When a field is not what Kubernetes expects.
pub fn horizontal_autoscaler(
    workload: &Workload,
    min: u32,
    max: u32,
    target_cpu_percent: u32,
) -> Result<HorizontalPodAutoscaler> {
    typed(
        &format!("autoscaler of {}", workload.name),
        json!({
            "metadata": {"name": workload.name, "namespace": workload.namespace},
            "spec": {
                "minReplicas": min,
                "maxReplicas": max,
                "scaleTargetRef": target(workload),
                "metrics": [{
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": target_cpu_percent},
                    },
                }],
            },
        }),
    )
}

fn target(workload: &Workload) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.name})
}

/// Creates a KEDA ScaledObject on a workload. There is no KEDA: only the object exists.
///
/// # Errors
/// When the API server refuses, e.g. because the definition is not there.
pub async fn scaled_object(client: &Client, workload: &Workload, min: u32, max: u32) -> Result<()> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("keda.sh", "v1alpha1", "ScaledObject"));
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &workload.namespace, &kind);
    let object: DynamicObject = typed(
        &format!("ScaledObject of {}", workload.name),
        json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": {"name": workload.name, "namespace": workload.namespace},
            "spec": {
                "scaleTargetRef": target(workload),
                "minReplicaCount": min,
                "maxReplicaCount": max,
                "triggers": [{"type": "cron", "metadata": {}}],
            },
        }),
    )?;
    let creating = || format!("create the ScaledObject of {}", workload.name);
    api.create(&PostParams::default(), &object).await.tried(creating)?;
    Ok(())
}

/// Sets the count of a workload through its scale subresource.
///
/// # Errors
/// When the API server refuses.
pub async fn scale(client: &Client, workload: &Workload, replicas: u32) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), &workload.namespace);
    let patch = json!({"spec": {"replicas": replicas}});
    api.patch_scale(&workload.name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .tried(|| format!("scale {} to {replicas}", workload.name))?;
    Ok(())
}

/// Gives a user a role of the whole cluster with exactly these rules.
///
/// # Errors
/// When the API server refuses.
pub async fn rights(client: &Client, user: &str, rules: Vec<PolicyRule>) -> Result<()> {
    let giving = || format!("give rights to {user}");
    let role = ClusterRole {
        metadata: kube::api::ObjectMeta { name: Some(user.to_owned()), ..Default::default() },
        rules: Some(rules),
        ..ClusterRole::default()
    };
    let roles: Api<ClusterRole> = Api::all(client.clone());
    roles.create(&PostParams::default(), &role).await.tried(giving)?;
    let binding: ClusterRoleBinding = typed(
        &format!("binding of {user}"),
        json!({
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }),
    )?;
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    bindings.create(&PostParams::default(), &binding).await.tried(giving)?;
    Ok(())
}
