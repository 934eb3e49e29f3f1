//! The controller manager is behind with its view of pods, as it is in a large cluster
//! after a wave of changes: the replica that is marked goes all the same.
//!
//! This is known not to hold ([0015](../../../../docs/decisions/0015-a-crash-at-every-write.md)),
//! so it is run when it is asked for: `STORNX_E2E_BEHIND=3000`, the changes of other pods
//! that it has not seen.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_core::{plan::Action, units::Span};
use stornx_testbed::{Server, TestBed, wait::until};

use super::{scenario::Scenario, stage::Stage};
use crate::support::{SOON, TestResult, faults::Faults, long_form};

/// How many changes the controller manager has not seen.
const CHANGES: &str = "STORNX_E2E_BEHIND";

pub(super) fn is_asked_for() -> bool {
    std::env::var_os(CHANGES).is_some()
}

/// A change carries this many bytes: what is under way is more than a stream holds.
const BYTES: usize = 4096;

pub(super) async fn behind(bed: Arc<TestBed>) -> TestResult {
    let changes = long_form(CHANGES, 300)?;
    let stage = Stage::set(&bed, 0, "behind", Scenario::Shrink).await?;
    stage.open.store(false, Ordering::SeqCst);
    let faults = Faults::new(stage.user.clone(), None);
    let driver = stage.start(faults.client(), Span::ZERO, Duration::from_secs(10)).await?;
    bed.pause(Server::ControllerManager)?;
    let api: Api<Pod> = Api::namespaced(stage.admin.clone(), "behind");
    let others = api.list(&ListParams::default().labels("app=b")).await?.items;
    let other = others.first().ok_or("a bystander")?.name_any();
    let flood = stream::iter(0..changes).map(|number| {
        let (api, other) = (&api, &other);
        async move {
            let text = format!("{number} {}", "x".repeat(BYTES));
            let patch = Patch::Merge(json!({"metadata": {"annotations": {"wave": text}}}));
            api.patch_metadata(other, &PatchParams::default(), &patch).await.map(drop)
        }
    });
    flood.buffer_unordered(16).try_collect::<()>().await?;
    stage.open.store(true, Ordering::SeqCst);
    let asked = driver
        .turn(SOON, |outcome| {
            Ok(outcome.done().any(|action| matches!(action, Action::RemoveReplicas { .. })))
        })
        .await;
    bed.resume(Server::ControllerManager)?;
    asked?;
    let gone = until("a replica to go", SOON, || async {
        let lives = stage.lives.all();
        let going = lives.into_iter().filter(|(_, life)| life.going).map(|(name, _)| name);
        let going: Vec<String> = going.collect();
        if going.is_empty() { Err("all are there") } else { Ok(going) }
    })
    .await?;
    let said = format!("planned {:?}, gone {gone:?}; {}", stage.victims, stage.lives.story());
    println!("behind: by {changes} changes: {said}");
    if gone == stage.victims { Ok(()) } else { Err(said.into()) }
}
