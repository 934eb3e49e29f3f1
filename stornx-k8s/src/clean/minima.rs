//! Minima of autoscalers that a move raised.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::Api;
use stornx_core::{ids::Namespace, ports::PortError};

use super::Room;
use crate::{map::autoscaler::HELD, write::hold};

pub(super) async fn clean(room: &mut Room<'_>, namespace: &Namespace) -> Result<(), PortError> {
    let all: Vec<HorizontalPodAutoscaler> = room.list(namespace, "autoscalers").await?;
    for name in all.iter().filter(|one| is_held(one)).filter_map(|one| one.metadata.name.as_ref()) {
        let done = minimum(room, namespace, name).await;
        room.settle(done)?;
    }
    Ok(())
}

fn is_held(one: &HorizontalPodAutoscaler) -> bool {
    one.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(HELD))
}

/// Read anew: the controller writes its status all the time, and the request is tied to the
/// version.
async fn minimum(room: &mut Room<'_>, namespace: &Namespace, name: &str) -> Result<(), PortError> {
    let api: Api<HorizontalPodAutoscaler> =
        Api::namespaced(room.client.clone(), namespace.as_str());
    let object = format!("HorizontalPodAutoscaler {namespace}/{name}");
    let found = room.ask(&format!("get {object}"), api.get_opt(name)).await?;
    let Some(one) = found.filter(is_held) else { return Ok(()) };
    let before = hold::before(&one);
    let what = format!("give back the minimum of {object}");
    if room.acts(&what).await? {
        room.ask(&what, hold::clear(room.client, &one)).await?;
    }
    match before {
        Some(min) => room.note(object, format!("its minimum is {min} again")),
        None => room.note(object, "annotation removed, its minimum is its owner's"),
    }
    Ok(())
}
