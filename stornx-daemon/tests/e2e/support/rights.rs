//! The rights of the daemon in tests: the file that users apply, with the names of the
//! test put in.

use std::collections::BTreeSet;

use kube::{
    Api, Client,
    api::{DynamicObject, Patch, PatchParams},
    discovery::ApiResource,
};
use serde_json::{Value, json};
use stornx_testbed::apps;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const FILE: &str = include_str!("../../../../deploy/rbac/stornx.yaml");

const WEBHOOK: &str = include_str!("../../../../deploy/webhook/stornx.yaml");

/// The namespace of the daemon itself.
pub(crate) const OWN: &str = "stornx";

/// The objects of the file.
fn objects() -> Result<Vec<Value>, Failure> {
    Ok(serde_saphyr::from_multiple(FILE)?)
}

/// Gives `user` the rights to manage `namespaces`.
pub(crate) async fn grant(client: &Client, user: &str, namespaces: &[&str]) -> Result<(), Failure> {
    grant_to(client, &[user], namespaces).await
}

/// Gives several users these rights.
pub(crate) async fn grant_to(
    client: &Client,
    users: &[&str],
    namespaces: &[&str],
) -> Result<(), Failure> {
    apps::namespace(client, OWN).await?;
    let subject = |user: &&str| json!({"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"});
    let subjects: Vec<Value> = users.iter().map(subject).collect();
    for namespace in namespaces {
        for mut object in objects()? {
            let kind = object["kind"].as_str().unwrap_or_default().to_owned();
            if object["metadata"]["namespace"] == "default" {
                object["metadata"]["namespace"] = json!(namespace);
            }
            if object["subjects"].is_array() {
                object["subjects"] = json!(subjects);
            }
            apply(client, &kind, object).await?;
        }
    }
    Ok(())
}

/// Installs the configuration of the webhook, as users do; without its Service, to whose
/// address nothing leads here.
pub(crate) async fn install_webhook(client: &Client) -> Result<(), Failure> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(WEBHOOK)?;
    for object in objects.into_iter().filter(|one| one["kind"] != "Service") {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        apply(client, &kind, object).await?;
    }
    Ok(())
}

async fn apply(client: &Client, kind: &str, object: Value) -> Result<(), Failure> {
    let (group, version) = match object["apiVersion"].as_str().unwrap_or_default().split_once('/') {
        Some((group, version)) => (group.to_owned(), version.to_owned()),
        None => (String::new(), "v1".to_owned()),
    };
    let resource = ApiResource {
        api_version: object["apiVersion"].as_str().unwrap_or_default().to_owned(),
        kind: kind.to_owned(),
        plural: format!("{}s", kind.to_lowercase()),
        group,
        version,
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let api: Api<DynamicObject> = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(&name, &PatchParams::apply("e2e").force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// One right: verb and resource (`group/resource` or `group/resource/subresource`).
pub(crate) type Right = (String, String);

/// Everything that the file allows.
pub(crate) fn granted() -> Result<BTreeSet<Right>, Failure> {
    let mut rights = BTreeSet::new();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    for object in objects()? {
        for rule in object["rules"].as_array().into_iter().flatten() {
            for group in texts(&rule["apiGroups"]) {
                for resource in texts(&rule["resources"]) {
                    for verb in texts(&rule["verbs"]) {
                        rights.insert((verb, format!("{group}/{resource}")));
                    }
                }
            }
        }
    }
    Ok(rights)
}
