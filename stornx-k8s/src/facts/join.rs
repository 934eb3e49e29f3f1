//! Pods with their workloads.
//!
//! A pod belongs to a workload when its controller is the StatefulSet, or a ReplicaSet
//! that the Deployment controls. Whatever else runs on a node (daemon sets, jobs, bare
//! pods, pods of other controllers) reserves a part of it.
//!
//! A pod is of the current revision when its ReplicaSet carries the revision number of
//! its Deployment, or its own revision is the one that its StatefulSet updates to.

use std::collections::{BTreeMap, HashMap};

use stornx_core::{
    ids::{NodeName, WorkloadRef},
    model::{Pod, PodPhase},
    units::{Resources, Span, Timestamp},
};

use crate::{
    map::{
        namespace_of,
        pod::{Owner, PodRecord},
        requests,
        workload::{Revision, WorkloadRecord},
    },
    watch::kinds::Tables,
};

/// A workload and what its pods say.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    pub(crate) id: &'a WorkloadRef,
    pub(crate) record: &'a WorkloadRecord,
    pub(crate) pods: Vec<Pod>,
    /// Replicas that are Ready.
    pub(crate) ready: u32,
    /// Of them, those whose traffic goes through ztunnel.
    pub(crate) ambient: u32,
    /// A replica that is not going has a proxy of its own.
    pub(crate) proxied: bool,
    /// The ReplicaSet of the current revision is known; true for StatefulSets.
    pub(crate) has_current: bool,
    /// Replicas of the current revision that are not going.
    pub(crate) current: u32,
    /// Replicas of an older revision that are not going.
    pub(crate) old: u32,
    /// Replicas of an older revision that are going.
    pub(crate) old_going: u32,
    /// From creation to Ready, replica by replica.
    pub(crate) startups: Vec<Span>,
    /// The youngest replica of the current revision: what the next one will ask for.
    pub(crate) youngest: Option<(Timestamp, Resources, Option<Resources>)>,
}

/// All workloads with their pods, and what is reserved on nodes.
#[derive(Debug)]
pub(crate) struct Joined<'a> {
    /// By reference.
    pub(crate) entries: Vec<Entry<'a>>,
    /// Positions in `entries`, by namespace.
    pub(crate) by_namespace: BTreeMap<&'a str, Vec<usize>>,
    /// What pods of no known workload ask for, and how many they are, by node.
    pub(crate) reserved: HashMap<&'a str, (Resources, u32)>,
}

/// Joins everything.
pub(crate) fn join(tables: &Tables) -> Joined<'_> {
    let mut entries: Vec<Entry<'_>> = tables
        .deployments
        .iter()
        .chain(tables.stateful_sets.iter())
        .map(|(id, record)| entry(id, record))
        .collect();
    entries.sort_by_key(|entry| entry.id);
    let positions: HashMap<&str, usize> =
        entries.iter().enumerate().map(|(at, entry)| (entry.id.as_str(), at)).collect();
    let replica_sets = replica_sets(tables, &positions, &mut entries);
    let mut reserved: HashMap<&str, (Resources, u32)> = HashMap::new();
    let mut text = String::new();
    for (name, pod) in tables.pods.iter() {
        let place = match &pod.owner {
            Owner::ReplicaSet(key) => replica_sets.get(&**key).copied(),
            Owner::StatefulSet { key, revision } => {
                reference_of_stateful_set(key, &mut text);
                positions.get(text.as_str()).map(|at| {
                    let update = match &entries[*at].record.revision {
                        Revision::StatefulSet { update, .. } => update,
                        Revision::Deployment(_) => &None,
                    };
                    (*at, update.is_none() || update == revision)
                })
            }
            Owner::Other => None,
        };
        match (place, &pod.node) {
            (Some((at, current)), _) => {
                let node = pod.node.as_deref().and_then(|node| node_name(tables, node));
                let seen = Pod {
                    name: name.clone(),
                    node,
                    phase: pod.phase,
                    created_at: pod.created_at,
                    ready_since: pod.ready_since,
                    traces: pod.traces.as_deref().cloned().unwrap_or_default(),
                };
                entries[at].add(pod, seen, current);
            }
            (None, Some(node)) => {
                let (resources, pods) = reserved.entry(node).or_default();
                *resources = *resources + pod.requests;
                *pods += 1;
            }
            (None, None) => {}
        }
    }
    let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        by_namespace.entry(namespace_of(entry.id.as_str())).or_default().push(at);
    }
    Joined { entries, by_namespace, reserved }
}

fn entry<'a>(id: &'a WorkloadRef, record: &'a WorkloadRecord) -> Entry<'a> {
    Entry {
        id,
        record,
        pods: Vec::new(),
        ready: 0,
        ambient: 0,
        proxied: false,
        has_current: matches!(record.revision, Revision::StatefulSet { .. }),
        current: 0,
        old: 0,
        old_going: 0,
        startups: Vec::new(),
        youngest: None,
    }
}

/// For each ReplicaSet of a known Deployment: whose it is, and whether it is current.
fn replica_sets<'a>(
    tables: &'a Tables,
    positions: &HashMap<&str, usize>,
    entries: &mut [Entry<'_>],
) -> HashMap<&'a str, (usize, bool)> {
    let mut places = HashMap::new();
    for (key, set) in tables.replica_sets.iter() {
        let Some(deployment) = &set.deployment else { continue };
        let Some(at) = positions.get(deployment.as_str()).copied() else { continue };
        let wanted = match &entries[at].record.revision {
            Revision::Deployment(number) => *number,
            Revision::StatefulSet { .. } => None,
        };
        let current = wanted.is_some() && set.revision == wanted;
        entries[at].has_current |= current;
        places.insert(&**key, (at, current));
    }
    places
}

fn reference_of_stateful_set(key: &str, text: &mut String) {
    text.clear();
    if let Some((namespace, name)) = key.split_once('/') {
        text.extend([namespace, "/StatefulSet/", name]);
    }
}

/// The name of a node, shared where the node is known.
fn node_name(tables: &Tables, name: &str) -> Option<NodeName> {
    match tables.nodes.get(name) {
        Some(node) => Some(node.name.clone()),
        None => NodeName::new(name).ok(),
    }
}

impl Entry<'_> {
    fn add(&mut self, record: &PodRecord, pod: Pod, current: bool) {
        let going = record.phase == PodPhase::Terminating;
        match (current, going) {
            (true, false) => self.current += 1,
            (false, false) => self.old += 1,
            (false, true) => self.old_going += 1,
            (true, true) => {}
        }
        let ready = record.phase == PodPhase::Ready;
        self.ready += u32::from(ready);
        self.ambient += u32::from(ready && record.ambient);
        self.proxied |= record.proxied && !going;
        if let Some(first) = record.first_ready {
            self.startups.push(first.since(record.created_at));
        }
        let younger = self.youngest.is_none_or(|(created, ..)| created < record.created_at);
        if current && !going && younger && requests::plausible(&record.requests) {
            self.youngest = Some((record.created_at, record.requests, record.limits));
        }
        self.pods.push(pod);
    }
}
