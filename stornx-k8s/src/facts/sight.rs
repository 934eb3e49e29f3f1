//! What steering has to know of one workload at the moment: its replicas with their
//! templates, its newest template, and whether its pods are steered at all.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use stornx_core::{
    ids::{Namespace, NodeName, PodName, WorkloadKind, WorkloadRef},
    model::PodPhase,
    steer::{Replica, Revision},
};

use crate::{
    map::{
        pod::{Owner, PodRecord},
        workload::Revision as Number,
    },
    watch::kinds::Tables,
};

/// The API server cuts the part of a pod's name before the random letters to this length.
const LONGEST_BASE: usize = 58;

/// One workload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sight {
    /// The newest template.
    pub(crate) current: Option<Revision>,
    /// All replicas.
    pub(crate) replicas: Vec<Replica>,
}

/// Whether the pods of a workload are steered: those of Deployments of managed namespaces
/// that did not opt out and are not bound to their place.
pub(crate) fn is_steered(
    tables: &Tables,
    managed: &BTreeSet<Namespace>,
    workload: &WorkloadRef,
) -> bool {
    let Some(record) = tables.deployments.get(workload) else { return false };
    let ours = managed.contains(&workload.namespace());
    ours && !record.policy.opted_out && !record.template.constraints.pinned
}

/// The nodes that take pods.
pub(crate) fn open_nodes(tables: &Tables) -> HashSet<NodeName> {
    let open = tables.nodes.iter().filter(|(_, node)| node.ready && node.schedulable);
    open.map(|(_, node)| node.name.clone()).collect()
}

/// What is seen of a Deployment; nothing of anything else.
pub(crate) fn sight(tables: &Tables, workload: &WorkloadRef) -> Sight {
    if workload.kind() != WorkloadKind::Deployment {
        return Sight::default();
    }
    let namespace = workload.namespace();
    let of_sets = format!("{namespace}/{}-", workload.name());
    let revision = |set: &str| set.strip_prefix(&of_sets).map(Revision::new);
    Sight {
        current: current(tables, workload, &of_sets).and_then(&revision),
        replicas: replicas(tables, &namespace, workload, revision),
    }
}

/// The ReplicaSet that carries the revision number of its Deployment.
fn current<'a>(tables: &'a Tables, workload: &WorkloadRef, prefix: &str) -> Option<&'a str> {
    let Number::Deployment(Some(wanted)) = tables.deployments.get(workload)?.revision else {
        return None;
    };
    let first: Arc<str> = prefix.into();
    let sets = tables.replica_sets.from(&first).take_while(|(key, _)| key.starts_with(prefix));
    let mut ours = sets.filter(|(_, set)| set.deployment.as_ref() == Some(workload));
    ours.find(|(_, set)| set.revision == Some(wanted)).map(|(key, _)| &**key)
}

fn replicas(
    tables: &Tables,
    namespace: &Namespace,
    workload: &WorkloadRef,
    revision: impl Fn(&str) -> Option<Revision>,
) -> Vec<Replica> {
    let name = workload.name();
    let base = name.get(..LONGEST_BASE).unwrap_or(name);
    // Names end with a letter or digit; a shorter prefix finds more, which is sorted out.
    let base = base.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let Ok(first) = PodName::new(namespace, base) else { return Vec::new() };
    let pods = tables.pods.from(&first);
    let near = pods.take_while(|(pod, _)| pod.as_str().starts_with(first.as_str()));
    let replica = |(pod, record): (&PodName, &PodRecord)| {
        let Owner::ReplicaSet(set) = &record.owner else { return None };
        let owner = tables.replica_sets.get(set)?.deployment.as_ref()?;
        (owner == workload).then(|| Replica {
            pod: pod.clone(),
            node: record.node.as_deref().and_then(|node| NodeName::new(node).ok()),
            revision: revision(set),
            going: record.phase == PodPhase::Terminating,
            steered: record.traces.as_ref().and_then(|traces| traces.steered.clone()),
        })
    };
    near.filter_map(replica).collect()
}
