//! Names of nodes as subzones. After the routes, which may name them.

use k8s_openapi::api::core::v1::Node;
use kube::{Api, api::ListParams};
use stornx_core::ports::PortError;

use super::Room;
use crate::{error::is_not_found, map::node::is_labelled, write::labels::say};

pub(super) async fn clean(room: &mut Room<'_>) -> Result<(), PortError> {
    let api: Api<Node> = Api::all(room.client.clone());
    let list = room.ask("list nodes", api.list_metadata(&ListParams::default())).await?;
    for found in list.items {
        if !is_labelled(&found.metadata) {
            continue;
        }
        let object = format!("Node {}", found.metadata.name.as_deref().unwrap_or_default());
        let what = format!("take the subzone off {object}");
        let done = async {
            if room.acts(&what).await? {
                let client = room.client;
                let write = async {
                    match say(client, &found.metadata, false).await {
                        Err(error) if is_not_found(&error) => Ok(()),
                        done => done,
                    }
                };
                room.ask(&what, write).await?;
            }
            Ok(())
        };
        let done = done.await;
        let worked = done.is_ok();
        room.settle(done)?;
        if worked {
            room.note(object, "its subzone label removed");
        }
    }
    Ok(())
}
