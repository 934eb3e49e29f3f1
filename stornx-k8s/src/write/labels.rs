//! Names of nodes as subzones of the mesh: the label `topology.istio.io/subzone` with the
//! name of the node, by server-side apply under our name and without force.
//!
//! All nodes get one or none does: where one cannot be named, or somebody else divides zones,
//! labels of ours would only make weights of zones coarser. They are taken back then, once no
//! rule names a node any more. A label of somebody else is never touched.
//!
//! A node that was changed, deleted or made anew since it was read keeps no other node from its
//! label: it is tried again in the next round.

use std::time::Duration;

use k8s_openapi::api::core::v1::Node as Object;
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
    core::ObjectMeta,
};
use serde_json::{Value, json};
use stornx_core::{
    ids::LabelValue,
    model::{MOST_NODES, Node, Rule, SUBZONE, WholeZones},
    ports::{LeaderGate, PortError},
};

use crate::{
    connect::Connection,
    error::within,
    map::{node, rule::MANAGER},
    watch::Cluster,
};

/// What came of a round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeLabels {
    /// Nodes that were labelled in it.
    pub set: usize,
    /// Nodes whose label was taken back in it.
    pub taken: usize,
    /// Why not all nodes are named.
    pub why_not: Option<WholeZones>,
    /// What was refused in it, for a node each; the next round tries again. After an answer that
    /// did not come, the last one, nothing more was asked.
    pub failed: Vec<PortError>,
}

/// Labels every node with its name, or takes all such labels back where that cannot be.
///
/// # Errors
/// When the nodes cannot be listed, or another process may write by now.
pub async fn label_nodes(
    connection: &Connection,
    cluster: &Cluster,
    gate: &dyn LeaderGate,
    timeout: Duration,
) -> Result<NodeLabels, PortError> {
    let client = connection.client();
    let many = cluster.shared().read(|tables, _| tables.nodes.iter().count());
    // Labels that a rule names stay, and where there are none, none are taken back.
    let keeps = cluster.shared().read(|tables, _| {
        let by_node = |rule: &Rule| match rule {
            Rule::Ours(table) => table.keys().any(|place| place.node().is_some()),
            Rule::None | Rule::Foreign(_) => false,
        };
        tables.rules.iter().any(|(_, rule)| by_node(&rule.rule))
            || tables.nodes.iter().all(|(_, node)| node.named_since.is_none())
    });
    let mut done = NodeLabels::default();
    if many > MOST_NODES && keeps {
        // Nothing to do, and a large list not to ask for.
        let nodes = u32::try_from(many).unwrap_or(u32::MAX);
        done.why_not = Some(WholeZones::TooManyNodes { nodes });
        return Ok(done);
    }
    let api: Api<Object> = Api::all(client.clone());
    let listed = within(timeout, "list nodes", api.list(&ListParams::default())).await?.items;
    let records: Vec<_> = listed.iter().filter_map(node::record).collect();
    done.why_not = why_not(&records);
    let wanted = done.why_not.is_none();
    for object in &listed {
        let ours = node::is_labelled(&object.metadata);
        let bare = object.labels().get(SUBZONE).is_none();
        let going = object.metadata.deletion_timestamp.is_some();
        if (wanted && bare && !going) || (!wanted && ours && !keeps) {
            let name = object.name_any();
            let what =
                format!("{} the subzone of node {name}", if wanted { "set" } else { "take back" });
            if !gate.may_write().await {
                return Err(PortError::NotLeader { what });
            }
            match within(timeout, &what, say(client, &object.metadata, wanted)).await {
                Ok(()) if wanted => done.set += 1,
                Ok(()) => done.taken += 1,
                Err(error) => {
                    let silent = matches!(error, PortError::Unavailable { .. });
                    done.failed.push(error);
                    if silent {
                        break;
                    }
                }
            }
        }
    }
    Ok(done)
}

/// Why not all nodes can have a label with their name.
fn why_not(nodes: &[Node]) -> Option<WholeZones> {
    if nodes.len() > MOST_NODES {
        let nodes = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        return Some(WholeZones::TooManyNodes { nodes });
    }
    let foreign = |node: &&Node| !node.subzone().is_empty() && node.named_since.is_none();
    if let Some(node) = nodes.iter().find(foreign) {
        return Some(WholeZones::ForeignLabel { node: node.name.clone() });
    }
    // Names of nodes may be longer than labels.
    let nameless = |node: &&Node| node.name.as_str().parse::<LabelValue>().is_err();
    let nameless = nodes.iter().find(nameless)?;
    Some(WholeZones::NoLabel { node: nameless.name.clone() })
}

/// Says the name of a node as its subzone, or nothing any more. Only of the node as it was
/// read: one that is gone is not created, and one of the same name is another.
pub(crate) async fn say(client: &Client, read: &ObjectMeta, named: bool) -> kube::Result<()> {
    let name = read.name.as_deref().unwrap_or_default();
    let body = body(read, named);
    let api: Api<Object> = Api::all(client.clone());
    let params = PatchParams { force: false, ..PatchParams::apply(MANAGER) };
    api.patch_metadata(name, &params, &Patch::Apply(body)).await.map(drop)
}

fn body(read: &ObjectMeta, named: bool) -> Value {
    let name = read.name.as_deref().unwrap_or_default();
    let mut body = json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "uid": read.uid, "resourceVersion": read.resource_version }
    });
    if named {
        body["metadata"]["labels"] = json!({ SUBZONE: name });
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_for_the_node_that_was_read() {
        let text = |text: &str| Some(text.to_owned());
        let (name, uid, resource_version) = (text("n1"), text("u1"), text("7"));
        let read = ObjectMeta { name, uid, resource_version, ..ObjectMeta::default() };
        let pinned = |named| {
            let body = body(&read, named);
            let meta = &body["metadata"];
            assert_eq!((&meta["uid"], &meta["resourceVersion"]), (&json!("u1"), &json!("7")));
            meta["labels"].clone()
        };
        assert_eq!(pinned(true), json!({ SUBZONE: "n1" }));
        assert_eq!(pinned(false), Value::Null);
    }
}
