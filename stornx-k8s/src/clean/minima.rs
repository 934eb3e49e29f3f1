//! Minima of autoscalers that a move raised.

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use stornx_core::{ids::Namespace, ports::PortError};

use super::Room;
use crate::{map::autoscaler::HELD, write::hold};

pub(super) async fn clean(room: &mut Room<'_>, namespace: &Namespace) -> Result<(), PortError> {
    let all: Vec<HorizontalPodAutoscaler> = room.list(namespace, "autoscalers").await?;
    for one in &all {
        let annotations = one.metadata.annotations.as_ref();
        if annotations.is_none_or(|all| !all.contains_key(HELD)) {
            continue;
        }
        let name = one.metadata.name.as_deref().unwrap_or_default();
        let object = format!("HorizontalPodAutoscaler {namespace}/{name}");
        let what = format!("give back the minimum of {object}");
        let before = hold::before(one);
        if room.acts(&what).await? {
            room.ask(&what, hold::clear(room.client, one)).await?;
        }
        match before {
            Some(min) => room.note(object, format!("its minimum is {min} again")),
            None => room.note(object, "annotation removed, its minimum is its owner's"),
        }
    }
    Ok(())
}
