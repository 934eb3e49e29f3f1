//! Weights in routing rules, and rules of our own.

use kube::{
    Api,
    api::{DynamicObject, ListParams},
};
use stornx_core::{ids::Namespace, ports::PortError};

use super::Room;
use crate::{
    error::{is_not_found, no_answer, port_error},
    write::routes::{GivenBack, give_back, rules},
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
        let done = rule(room, namespace, &name).await;
        room.settle(done)?;
    }
    Ok(())
}

async fn rule(room: &mut Room<'_>, namespace: &Namespace, name: &str) -> Result<(), PortError> {
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
