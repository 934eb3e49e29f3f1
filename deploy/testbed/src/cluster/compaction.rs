//! Compaction of the store, through the JSON gateway that etcd serves beside its own
//! protocol: what was so before now is forgotten, and nobody can watch from there.

use serde_json::{Value, json};

use crate::error::{BedError, Result};

/// Forgets everything before the present revision of the etcd at `url`.
pub(super) async fn compact(url: &str) -> Result<()> {
    // Any key will do: the answer's head says at which revision the store is.
    let head = ask(url, "range", &json!({ "key": "AA==" })).await?;
    let revision = head["header"]["revision"].as_str().map(str::to_owned);
    let revision = revision.ok_or_else(|| failed("range", format!("no revision: {head}")))?;
    ask(url, "compaction", &json!({ "revision": revision, "physical": true })).await.map(drop)
}

async fn ask(url: &str, what: &'static str, body: &Value) -> Result<Value> {
    let said = |error: &dyn std::fmt::Display| failed(what, error.to_string());
    let request = reqwest::Client::new().post(format!("{url}/v3/kv/{what}"));
    let answer = request.body(body.to_string()).send().await.map_err(|error| said(&error))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| said(&error))?;
    if !status.is_success() {
        return Err(failed(what, format!("{status}: {text}")));
    }
    serde_json::from_str(&text).map_err(|error| said(&error))
}

fn failed(what: &str, detail: String) -> BedError {
    BedError::Invalid { what: format!("{what} of etcd"), detail }
}
