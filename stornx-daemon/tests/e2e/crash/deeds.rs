//! What somebody else does, on the real API server.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Namespace, Node, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, EvictParams, ListParams, Patch, PatchParams},
};
use serde_json::json;
use stornx_testbed::apps::{self, Roll, Workload};

use super::stage::{NAME, Stage};
use crate::{
    Failure,
    support::{TestResult, faults::Deed, seen},
};

/// What somebody else does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Other {
    /// `kubectl scale`, to one more than he finds.
    ScalesUp,
    /// `kubectl scale`, to one less than he finds.
    ScalesDown,
    /// A change of the template.
    RollsOut,
    /// The node of the victim is cordoned, the replicas on it are evicted.
    Drains,
    /// A HorizontalPodAutoscaler that wants the count from before the move.
    Autoscales,
    /// `spec.paused`; later it is taken back.
    Pauses,
    /// The Deployment is deleted.
    Deletes,
    /// The namespace is deleted.
    DeletesAll,
}

impl Other {
    pub(super) const ALL: [Self; 8] = [
        Self::ScalesUp,
        Self::ScalesDown,
        Self::RollsOut,
        Self::Drains,
        Self::Autoscales,
        Self::Pauses,
        Self::Deletes,
        Self::DeletesAll,
    ];
}

/// What the other one found and did.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// The count that he wants.
    pub(super) wants: i32,
    /// Ready replicas that he took himself.
    pub(super) took: usize,
    /// Replicas that are not to be there any more.
    pub(super) evicted: BTreeSet<String>,
}

/// What the other one does, when it is called; nothing is begun any more after that.
pub(super) fn deed(stage: &Arc<Stage>, other: Other, done: Arc<Mutex<Done>>) -> Deed {
    let (admin, namespace) = (stage.admin.clone(), stage.namespace.clone());
    let (workload, from, open) = (stage.workload.clone(), stage.from.clone(), stage.open.clone());
    let before = i32::try_from(stage.scenario.replicas().0).unwrap_or(0);
    Arc::new(move || {
        let (admin, namespace, workload) = (admin.clone(), namespace.clone(), workload.clone());
        let (from, open, done) = (from.clone(), open.clone(), done.clone());
        Box::pin(async move {
            open.store(false, Ordering::SeqCst);
            let mut told = Done { wants: before, ..Done::default() };
            let found = seen::replicas(&admin, &namespace, NAME).await?;
            match other {
                Other::ScalesUp => told.wants = found + 1,
                Other::ScalesDown => told.wants = found - 1,
                _ => {}
            }
            act(&admin, &namespace, &workload, &from, other, &mut told).await?;
            *done.lock().unwrap_or_else(PoisonError::into_inner) = told;
            Ok(())
        })
    })
}

async fn act(
    admin: &Client,
    namespace: &str,
    workload: &Workload,
    from: &str,
    other: Other,
    done: &mut Done,
) -> TestResult {
    match other {
        Other::ScalesUp | Other::ScalesDown => {
            apps::scale(admin, workload, u32::try_from(done.wants)?).await?;
        }
        Other::RollsOut => workload.roll(admin, Roll::Through).await?,
        Other::Drains => {
            cordon(admin, from, true).await?;
            let pods: Api<Pod> = Api::namespaced(admin.clone(), namespace);
            let there = ListParams::default()
                .fields(&format!("spec.nodeName={from}"))
                .labels(&workload.selector());
            for pod in pods.list(&there).await?.items {
                if pod.metadata.deletion_timestamp.is_some() {
                    continue;
                }
                done.took += usize::from(apps::is_ready(&pod));
                pods.evict(&pod.name_any(), &EvictParams::default()).await?;
                done.evicted.insert(pod.name_any());
            }
        }
        Other::Autoscales => {
            let count = u32::try_from(done.wants)?;
            let hpa = apps::horizontal_autoscaler(workload, count, count, 80)?;
            apps::create(admin, &hpa).await?;
        }
        Other::Pauses => seen::pause(admin, namespace, NAME).await?,
        Other::Deletes => {
            let api: Api<Deployment> = Api::namespaced(admin.clone(), namespace);
            api.delete(NAME, &DeleteParams::background()).await?;
        }
        Other::DeletesAll => {
            let api: Api<Namespace> = Api::all(admin.clone());
            api.delete(namespace, &DeleteParams::default()).await?;
        }
    }
    Ok(())
}

/// Lets no new pod onto a node, or lets them again.
pub(super) async fn cordon(admin: &Client, node: &str, closed: bool) -> Result<(), Failure> {
    let patch = json!({"spec": {"unschedulable": closed}});
    let api: Api<Node> = Api::all(admin.clone());
    api.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}
