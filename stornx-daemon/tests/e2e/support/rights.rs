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

/// Gives `user` the rights to manage one namespace, with a memory and a webhook of this
/// name instead of `stornx`: what the file allows, and nothing else.
pub(crate) async fn grant_as(
    client: &Client,
    user: &str,
    name: &str,
    namespace: &str,
) -> Result<(), Failure> {
    let renamed = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        json!(text.strip_prefix(OWN).map_or(text.to_owned(), |rest| format!("{name}{rest}")))
    };
    for mut object in objects()? {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        object["metadata"]["name"] = renamed(&object["metadata"]["name"]);
        if object["metadata"]["namespace"] == "default" {
            object["metadata"]["namespace"] = json!(namespace);
        }
        if object["subjects"].is_array() {
            let group = "rbac.authorization.k8s.io";
            object["subjects"] = json!([{"kind": "User", "name": user, "apiGroup": group}]);
            object["roleRef"]["name"] = renamed(&object["roleRef"]["name"]);
        }
        let rules = object.get_mut("rules").and_then(Value::as_array_mut);
        let names = rules.into_iter().flatten().filter_map(|rule| rule.get_mut("resourceNames"));
        for name in names.filter_map(Value::as_array_mut).flatten() {
            *name = renamed(name);
        }
        apply(client, &kind, object).await?;
    }
    Ok(())
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

pub(crate) async fn apply(client: &Client, kind: &str, object: Value) -> Result<(), Failure> {
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
