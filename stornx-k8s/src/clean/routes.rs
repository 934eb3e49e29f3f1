//! Weights in routing rules, and rules of our own.
//!
//! Only those of the managed namespaces are taken back. Rules elsewhere that still hold
//! something of ours are named: they are of a namespace that was managed once, or of another
//! StornX in this cluster, and they may name nodes by the labels that are taken off next.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use stornx_core::{ids::Namespace, ports::PortError};

use super::Room;
use crate::{
    error::{is_not_found, no_answer, port_error},
    map::rule::{self, Share},
    write::routes::{GivenBack, give_back, resource, rules},
};

pub(super) async fn clean(room: &mut Room<'_>, namespace: &Namespace) -> Result<(), PortError> {
    let (client, limit) = (room.client, room.options.timeout);
    let what = format!("list the routing rules of {namespace}");
    let api: Api<DynamicObject> = rules(client, namespace.as_str());
    let all = ListParams::default();
    let list = tokio::time::timeout(limit, api.list_metadata(&all));
    let found = match list.await.map_err(|_| no_answer(&what, limit))? {
        Ok(list) => list.items,
        // Without a mesh there are no rules.
        Err(error) if is_not_found(&error) => return Ok(()),
        Err(error) => return Err(port_error(&what, &error)),
    };
    for name in found.into_iter().filter_map(|object| object.metadata.name) {
        let done = one(room, namespace, &name).await;
        room.settle(done)?;
    }
    Ok(())
}

/// The most rules that are named.
const MOST_NAMED: usize = 20;
/// Rules in one page of a list of all: metadata alone, some kilobytes each.
const PAGE: u32 = 500;

/// Fails when rules of other namespaces hold something of ours.
pub(super) async fn elsewhere(room: &Room<'_>) -> Result<(), PortError> {
    let limit = room.options.timeout;
    let what = "look for weights in the routing rules of all namespaces";
    let api: Api<DynamicObject> = Api::all_with(room.client.clone(), &resource());
    let mut params = ListParams::default().limit(PAGE);
    let mut left = Vec::new();
    loop {
        let list = tokio::time::timeout(limit, api.list_metadata(&params));
        let list = match list.await.map_err(|_| no_answer(what, limit))? {
            Ok(list) => list,
            Err(error) if is_not_found(&error) => return Ok(()),
            Err(error) => return Err(port_error(what, &error)),
        };
        left.extend(list.items.iter().filter_map(|found| {
            let meta = &found.metadata;
            let (namespace, name) = (meta.namespace.as_deref()?, meta.name.as_deref()?);
            let cleaned = room.options.namespaces.iter().any(|one| one.as_str() == namespace);
            let ours = rule::share(meta) > Share::Handed;
            (ours && !cleaned).then(|| format!("{namespace}/{name}"))
        }));
        params.continue_token = list.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() {
            break;
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let more = left.len().saturating_sub(MOST_NAMED);
    let named = left.iter().take(MOST_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let why = "their namespaces are not in NAMESPACES, and the names of nodes stay";
    Err(PortError::Conflict {
        what: "take back all weights".to_owned(),
        detail: format!("DestinationRules {named}{more} still hold weights of StornX: {why}"),
    })
}

async fn one(room: &mut Room<'_>, namespace: &Namespace, name: &str) -> Result<(), PortError> {
    let (client, limit) = (room.client, room.options.timeout);
    let rule = format!("DestinationRule {namespace}/{name}");
    let acts = room.acts(&rule).await?;
    let one = give_back(client, namespace.as_str(), name, !acts);
    let one = tokio::time::timeout(limit, one).await;
    match one.map_err(|_| no_answer(&rule, limit))?? {
        GivenBack::Nothing => {}
        GivenBack::Field => room.note(rule, "weights removed"),
        GivenBack::Rule => room.note(rule, "created by StornX: deleted"),
    }
    Ok(())
}
