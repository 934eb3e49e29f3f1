//! How the API server knows of the webhook: the MutatingWebhookConfiguration of ours.
//!
//! The object comes with the installation, and only the leader writes into it: where the
//! webhook is (itself), whom to trust (its own authority), and the namespaces that it
//! manages. What would be dangerous to a cluster is mended and said: an answer that pods
//! wait for too long, a pod that is refused because nobody answered, pods of other kinds of
//! requests. What only narrows (`matchConditions`, `objectSelector`) stays as it is, as do
//! other webhooks in the same object.

use std::collections::BTreeSet;

use k8s_openapi::{ByteString, api::admissionregistration::v1::MutatingWebhookConfiguration};
use kube::{
    Api, Client,
    api::Patch,
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};
use stornx_core::{
    ids::Namespace,
    ports::{LeaderGate, PortError},
};

use super::{WebhookOptions, endpoint, server::PATH};
use crate::{error::within, write_params};

/// The name of our webhook in the object.
pub(crate) const WEBHOOK: &str = "pods.stornx.io";
/// The longest that a pod may wait for our answer, seconds.
const LONGEST: u64 = 2;

/// What the object has to say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    /// Where the webhook is.
    place: Value,
    /// Whom to trust; `None` when that is somebody else's to say.
    authority: Option<ByteString>,
    selector: Value,
}

impl Wanted {
    pub(crate) fn new(options: &WebhookOptions, authority: Option<&str>) -> Self {
        let place = match &options.url {
            Some(url) => json!({ "url": format!("{}{PATH}", url.trim_end_matches('/')) }),
            None => json!({ "service": {
                "namespace": options.namespace.as_str(), "name": endpoint::service(&options.name),
                "path": PATH, "port": 443
            } }),
        };
        Self {
            place,
            authority: authority.map(|pem| ByteString(pem.as_bytes().to_vec())),
            selector: selector(&options.namespaces),
        }
    }

    /// Our webhook as it has to be, and what was dangerous about it as it is.
    pub(crate) fn mended(&self, now: &Value) -> (Value, Vec<String>) {
        let mut wanted = now.clone();
        let mut dangers = Vec::new();
        let bundle = match &self.authority {
            Some(authority) => json!(authority),
            None => now["clientConfig"]["caBundle"].clone(),
        };
        let mut client = self.place.clone();
        if !bundle.is_null() {
            client["caBundle"] = bundle;
        }
        wanted["clientConfig"] = client;
        wanted["namespaceSelector"] = self.selector.clone();
        let timeout = now["timeoutSeconds"].as_u64();
        let timeout = timeout.filter(|seconds| (1..=LONGEST).contains(seconds)).unwrap_or(LONGEST);
        for (name, value, danger) in [
            ("failurePolicy", json!("Ignore"), "pods would be refused while nobody answers"),
            ("timeoutSeconds", json!(timeout), "pods would wait too long for an answer"),
            ("sideEffects", json!("NoneOnDryRun"), "dry runs would be refused or taken for real"),
            ("reinvocationPolicy", json!("Never"), "one pod would be asked about twice"),
            ("rules", rules(), "it would be asked about other things than new pods"),
            ("admissionReviewVersions", json!(["v1"]), "it would be asked in other words"),
        ] {
            if !now[name].is_null() && now[name] != value {
                dangers.push(format!("{name} was {}: {danger}", now[name]));
            }
            wanted[name] = value;
        }
        (wanted, dangers)
    }
}

fn rules() -> Value {
    json!([{
        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
        "resources": ["pods"], "scope": "Namespaced"
    }])
}

/// Exactly the managed namespaces, by the label that the API server itself keeps. A
/// selector of no names is none; a namespace without a name does not exist.
fn selector(namespaces: &BTreeSet<Namespace>) -> Value {
    let mut names: Vec<&str> = namespaces.iter().map(Namespace::as_str).collect();
    if names.is_empty() {
        names.push("");
    }
    json!({ "matchExpressions": [
        { "key": "kubernetes.io/metadata.name", "operator": "In", "values": names }
    ] })
}

/// Keeps the object as it has to be.
pub(crate) struct Registration {
    api: Api<DynamicObject>,
    client: Client,
}

/// Why the webhook is not registered.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// For this reason, in words.
    Missing(String),
    /// It is not known how it stands.
    Unknown(PortError),
}

impl From<PortError> for Obstacle {
    fn from(error: PortError) -> Self {
        match error {
            PortError::Rejected { .. } => Self::Missing(error.to_string()),
            other => Self::Unknown(other),
        }
    }
}

impl Registration {
    pub(crate) fn new(client: Client) -> Self {
        let resource = ApiResource::erase::<MutatingWebhookConfiguration>(&());
        Self { api: Api::all_with(client.clone(), &resource), client }
    }

    /// Our webhook among those of the object as the manifest has it: it asks about no
    /// namespace, and trusts nobody unless whom to trust was never ours to say
    /// (`keeps_trust`). `None` where there is nothing to take back.
    pub(crate) async fn as_it_came(
        &self,
        name: &str,
        keeps_trust: bool,
    ) -> kube::Result<Option<Value>> {
        let Some(object) = self.api.get_opt(name).await? else { return Ok(None) };
        let webhooks = object.data["webhooks"].as_array().cloned().unwrap_or_default();
        let (mut changed, none) = (webhooks.clone(), selector(&BTreeSet::new()));
        for one in changed.iter_mut().filter(|one| one["name"] == WEBHOOK) {
            one["namespaceSelector"] = none.clone();
            if let Some(client) = one["clientConfig"].as_object_mut().filter(|_| !keeps_trust) {
                client.remove("caBundle");
            }
        }
        let patch = json!({
            "metadata": { "resourceVersion": object.metadata.resource_version },
            "webhooks": changed
        });
        Ok((changed != webhooks).then_some(patch))
    }

    /// Writes what [`Self::as_it_came`] has found.
    pub(crate) async fn set(&self, name: &str, patch: &Value) -> kube::Result<()> {
        self.api.patch(name, &write_params(), &Patch::Merge(patch)).await.map(drop)
    }

    /// Looks, and writes what is not as it has to be. Says whether it wrote.
    pub(crate) async fn look(
        &self,
        options: &WebhookOptions,
        port: u16,
        authority: Option<&str>,
        gate: &dyn LeaderGate,
    ) -> Result<bool, Obstacle> {
        let mut wrote = false;
        if options.url.is_none() {
            wrote |= endpoint::keep(&self.client, options, port, gate).await?;
        }
        let (name, limit) = (options.name.as_str(), options.timeout);
        let what = format!("get mutating webhook configuration {name}");
        let Some(object) = within(limit, &what, self.api.get_opt(name)).await? else {
            return Err(Obstacle::Missing(format!(
                "there is no MutatingWebhookConfiguration {name} (deploy/webhook has it)"
            )));
        };
        let webhooks = object.data["webhooks"].as_array().cloned().unwrap_or_default();
        let Some(at) = webhooks.iter().position(|one| one["name"] == WEBHOOK) else {
            return Err(Obstacle::Missing(format!(
                "the MutatingWebhookConfiguration {name} has no webhook {WEBHOOK}"
            )));
        };
        let (mended, dangers) = Wanted::new(options, authority).mended(&webhooks[at]);
        if mended == webhooks[at] {
            return Ok(wrote);
        }
        for danger in dangers {
            tracing::warn!("the webhook configuration {name} is mended: {danger}");
        }
        let mut webhooks = webhooks;
        webhooks[at] = mended;
        let what = format!("patch mutating webhook configuration {name}");
        if !gate.may_write().await {
            return Err(Obstacle::Unknown(PortError::NotLeader { what }));
        }
        let patch = json!({
            "metadata": { "resourceVersion": object.metadata.resource_version },
            "webhooks": webhooks
        });
        let patch = Patch::Merge(patch);
        within(limit, &what, self.api.patch(name, &write_params(), &patch)).await?;
        tracing::info!("the webhook is registered");
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhook::tests::options;

    fn wanted(url: Option<&str>, authority: Option<&str>) -> Wanted {
        let options = WebhookOptions { url: url.map(ToOwned::to_owned), ..options() };
        Wanted::new(&options, authority)
    }

    /// As the API server stores the manifest.
    fn shipped() -> Value {
        let file = include_str!("../../../deploy/webhook/stornx.yaml");
        assert!(file.contains(WEBHOOK));
        json!({
            "name": WEBHOOK, "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
            "matchPolicy": "Equivalent", "objectSelector": {}, "timeoutSeconds": 2,
            "sideEffects": "NoneOnDryRun", "reinvocationPolicy": "Never", "rules": rules(),
            "namespaceSelector": {}, "clientConfig": { "service": {
                "namespace": "stornx", "name": "stornx-webhook", "path": PATH, "port": 443
            } },
            "matchConditions": [{ "name": "replicas", "expression": "true" }]
        })
    }

    #[test]
    fn what_has_to_be_is_written_and_then_stands() {
        let wanted = wanted(None, Some("PEM"));
        let (mended, dangers) = wanted.mended(&shipped());
        assert_eq!(dangers, [""; 0]);
        assert_eq!(mended["clientConfig"]["caBundle"], "UEVN");
        assert_eq!(mended["clientConfig"]["service"]["name"], "stornx-webhook");
        let expression = &mended["namespaceSelector"]["matchExpressions"][0];
        assert_eq!(expression["values"], json!(["bank", "shop"]));
        assert_eq!(mended["matchConditions"], shipped()["matchConditions"], "it may narrow");
        assert_eq!(wanted.mended(&mended), (mended.clone(), Vec::new()));
    }

    #[test]
    fn a_daemon_outside_is_reached_by_url() {
        let (mended, _) = wanted(Some("https://10.0.0.7:8443/"), Some("PEM")).mended(&shipped());
        let expected = json!({ "url": "https://10.0.0.7:8443/mutate-pods", "caBundle": "UEVN" });
        assert_eq!(mended["clientConfig"], expected);
    }

    #[test]
    fn whom_to_trust_may_be_somebody_elses_to_say() {
        let mut now = shipped();
        let (mended, _) = wanted(None, None).mended(&now);
        assert_eq!(mended["clientConfig"].get("caBundle"), None);
        now["clientConfig"]["caBundle"] = json!("T1RIRVI=");
        let (mended, _) = wanted(None, None).mended(&now);
        assert_eq!(mended["clientConfig"]["caBundle"], "T1RIRVI=");
    }

    #[test]
    fn what_is_dangerous_is_mended_and_named() {
        for (name, value, healthy) in [
            ("failurePolicy", json!("Fail"), json!("Ignore")),
            ("timeoutSeconds", json!(30), json!(2)),
            ("timeoutSeconds", json!(0), json!(2)),
            ("sideEffects", json!("Some"), json!("NoneOnDryRun")),
            ("reinvocationPolicy", json!("IfNeeded"), json!("Never")),
            ("rules", json!([{ "operations": ["*"] }]), rules()),
        ] {
            let mut now = shipped();
            now[name] = value;
            let (mended, dangers) = wanted(None, Some("PEM")).mended(&now);
            assert_eq!(mended[name], healthy, "{name}");
            assert!(matches!(dangers.as_slice(), [one] if one.contains(name)), "{dangers:?}");
        }
        let mut now = shipped();
        now["timeoutSeconds"] = json!(1);
        let (mended, dangers) = wanted(None, Some("PEM")).mended(&now);
        assert_eq!((&mended["timeoutSeconds"], dangers.len()), (&json!(1), 0), "less is better");
    }
}
