//! The webhook of the daemon in tests: the file that users apply, under the name of the
//! test.

use kube::Client;
use serde_json::{Value, json};

use super::rights::apply;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const FILE: &str = include_str!("../../../../deploy/webhook/stornx.yaml");

/// Applies the configuration under a name.
pub(crate) async fn install(client: &Client, name: &str) -> Result<(), Failure> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(FILE)?;
    for mut object in objects {
        let kind = object["kind"].as_str().unwrap_or_default().to_owned();
        if kind == "MutatingWebhookConfiguration" {
            object["metadata"]["name"] = json!(name);
            apply(client, &kind, object).await?;
        }
    }
    Ok(())
}
