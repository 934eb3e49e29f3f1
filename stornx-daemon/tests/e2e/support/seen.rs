//! What people see in the cluster: counts and events.

use k8s_openapi::api::{apps::v1::Deployment, events::v1::Event};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// `spec.replicas` of a Deployment.
pub(crate) async fn replicas(client: &Client, namespace: &str, name: &str) -> Result<i32, Failure> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let found = api.get(name).await?;
    Ok(found.spec.and_then(|spec| spec.replicas).unwrap_or(1))
}

/// Pauses a Deployment.
pub(crate) async fn pause(client: &Client, namespace: &str, name: &str) -> Result<(), Failure> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(serde_json::json!({"spec": {"paused": true}}));
    api.patch(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// Sets an annotation of a Deployment, or takes it away.
pub(crate) async fn annotate(
    client: &Client,
    namespace: &str,
    name: &str,
    key: &str,
    value: Option<&str>,
) -> Result<(), Failure> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let patch = serde_json::json!({"metadata": {"annotations": {key: value}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Notes of the events of StornX on a Deployment with this reason.
pub(crate) async fn events(
    client: &Client,
    namespace: &str,
    name: &str,
    reason: &str,
) -> Result<Vec<String>, Failure> {
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await?;
    let about = |event: &Event| {
        let regarding = event.regarding.clone().unwrap_or_default();
        regarding.name.as_deref() == Some(name)
            && regarding.kind.as_deref() == Some("Deployment")
            && event.reason.as_deref() == Some(reason)
            && event.reporting_controller.as_deref() == Some("stornx.io/stornx")
    };
    Ok(all.items.into_iter().filter(about).filter_map(|event| event.note).collect())
}
