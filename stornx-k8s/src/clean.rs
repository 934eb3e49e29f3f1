//! Taking back what StornX wrote into routing rules, host by host or all of it: what
//! `stornx cleanup` does. Asks the server and no watch; a second run finds nothing.

use std::{collections::BTreeSet, fmt, time::Duration};

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use stornx_core::{ids::Namespace, ports::PortError};

use crate::{
    connect::Connection,
    error::{is_not_found, no_answer, port_error},
    write::routes::{GivenBack, give_back, rules},
};

/// Something that was taken back, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleaned {
    /// `namespace/name` of the rule.
    pub rule: String,
    /// It was created by StornX and goes; else the weights alone go.
    pub deleted: bool,
}

impl fmt::Display for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.deleted { "created by StornX: deleted" } else { "weights removed" };
        write!(f, "DestinationRule {}: {what}", self.rule)
    }
}

/// Takes StornX's fields out of all routing rules of these namespaces, and deletes rules
/// that it created; with `dry_run` only says what it would do. `timeout` is for one rule.
///
/// # Errors
/// [`PortError`] for the first rule that could not be read or written; those before it are
/// done.
pub async fn clean_routes(
    connection: &Connection,
    namespaces: &BTreeSet<Namespace>,
    dry_run: bool,
    timeout: Duration,
) -> Result<Vec<Cleaned>, PortError> {
    let client = connection.client();
    let mut cleaned = Vec::new();
    for namespace in namespaces {
        let what = format!("list the routing rules of {namespace}");
        let api: Api<DynamicObject> = rules(client, namespace.as_str());
        let all = ListParams::default();
        let list = tokio::time::timeout(timeout, api.list_metadata(&all));
        let found = match list.await.map_err(|_| no_answer(&what, timeout))? {
            Ok(list) => list.items,
            // Without a mesh there are no rules.
            Err(error) if is_not_found(&error) => return Ok(cleaned),
            Err(error) => return Err(port_error(&what, &error)),
        };
        for name in found.into_iter().filter_map(|object| object.metadata.name) {
            let rule = format!("{namespace}/{name}");
            let one = give_back(client, namespace.as_str(), &name, dry_run);
            let one = tokio::time::timeout(timeout, one).await;
            let deleted = match one.map_err(|_| no_answer(&rule, timeout))?? {
                GivenBack::Nothing => continue,
                GivenBack::Field => false,
                GivenBack::Rule => true,
            };
            cleaned.push(Cleaned { rule, deleted });
        }
    }
    Ok(cleaned)
}
