//! The kinds that are watched: how each becomes a record, what is carried over from
//! the record before it, and which changes are worth an early cycle.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Node as NodeObject, Pod, Service},
        discovery::v1::EndpointSlice,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::core::{DynamicObject, PartialObjectMeta};
use stornx_core::{
    ids::{Namespace, PodName, WorkloadKind, WorkloadRef},
    model::{Node, PodPhase, WorkloadPolicy},
    units::Span,
};

use super::table::Table;
use crate::map::{
    self,
    autoscaler::AutoscalerRecord,
    budget::BudgetRecord,
    names::Names,
    pod::{Owner, PodRecord},
    requests,
    rule::RuleRecord,
    selector::TextLabels,
    service::{ServiceRecord, SliceRecord},
    workload::{ReplicaSetRecord, WorkloadRecord},
};

/// How long ago a pod was created that has just been created.
const YOUNG: Span = Span::from_seconds(8);

/// All records.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) nodes: Table<Arc<str>, Node>,
    pub(crate) pods: Table<PodName, PodRecord>,
    pub(crate) deployments: Table<WorkloadRef, WorkloadRecord>,
    pub(crate) stateful_sets: Table<WorkloadRef, WorkloadRecord>,
    pub(crate) replica_sets: Table<Arc<str>, ReplicaSetRecord>,
    pub(crate) hpas: Table<Arc<str>, AutoscalerRecord>,
    pub(crate) scaled_objects: Table<Arc<str>, AutoscalerRecord>,
    pub(crate) budgets: Table<Arc<str>, BudgetRecord>,
    pub(crate) services: Table<Arc<str>, ServiceRecord>,
    pub(crate) endpoints: Table<Arc<str>, SliceRecord>,
    pub(crate) rules: Table<Arc<str>, RuleRecord>,
    /// Their labels.
    pub(crate) machines: Table<Arc<str>, TextLabels>,
}

/// A kind that is watched.
pub(crate) trait Kind: Send + Sync + 'static {
    /// What the API server sends.
    type Object: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send;
    /// What records are kept by.
    type Key: Ord + Clone + Send;
    /// What is kept.
    type Record: PartialEq + Send;
    /// Its name, for people.
    const NAME: &'static str;
    /// Its records say where there are places.
    const PLACES: bool = false;
    /// Who may not read it decides without it: an installation from before it was read has no
    /// right to.
    const DISPENSABLE: bool = false;

    /// The key of an object; `None` when it cannot be one of ours.
    fn key(meta: &ObjectMeta) -> Option<Self::Key>;
    /// The record of an object; `None` when it counts nothing.
    fn record(object: &Self::Object, names: &mut Names) -> Option<Self::Record>;
    /// Where records are kept.
    fn table(tables: &mut Tables) -> &mut Table<Self::Key, Self::Record>;
    /// Carries over from the record before.
    fn remember(_before: &Self::Record, _now: &mut Self::Record) {}
    /// Whether a record that is new is of a pod that has just been created and that the
    /// webhook should have been asked about.
    fn is_birth(_managed: &BTreeSet<Namespace>, _key: &Self::Key, _new: &Self::Record) -> bool {
        false
    }
    /// Says what is worth saying once about a record that is new or has changed.
    fn notice(_key: &Self::Key, _before: Option<&Self::Record>, _now: &Self::Record) {}
    /// Whether the change is worth an early cycle: nodes, and in the managed namespaces what
    /// is ready and where, Services, what owners ask for, and what others say in routing rules.
    /// What comes and goes elsewhere waits for the schedule, and what we write ourselves
    /// wakes nobody.
    fn wakes(
        _managed: &BTreeSet<Namespace>,
        _key: &Self::Key,
        _before: Option<&Self::Record>,
        _now: Option<&Self::Record>,
    ) -> bool {
        false
    }
}

macro_rules! kind {
    (
        $(#[$doc:meta])* $name:ident, $label:literal, $object:ty,
        $table:ident: $key:ty => $record:ty,
        by $by:expr, map $map:expr $(, { $($more:item)* })?
    ) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Kind for $name {
            type Object = $object;
            type Key = $key;
            type Record = $record;
            const NAME: &'static str = $label;

            fn key(meta: &ObjectMeta) -> Option<$key> {
                let by: fn(&ObjectMeta) -> Option<$key> = $by;
                by(meta)
            }
            fn record(object: &$object, names: &mut Names) -> Option<$record> {
                let map: fn(&$object, &mut Names) -> Option<$record> = $map;
                map(object, names)
            }
            fn table(tables: &mut Tables) -> &mut Table<$key, $record> {
                &mut tables.$table
            }
            $($($more)*)?
        }
    };
}

kind!(
    /// Nodes.
    Nodes, "nodes", NodeObject,
    nodes: Arc<str> => Node,
    by |meta| meta.name.as_deref().map(Into::into),
    map |node, _| map::node::record(node),
    {
        const PLACES: bool = true;
        fn wakes(
            _managed: &BTreeSet<Namespace>,
            _key: &Arc<str>,
            before: Option<&Node>,
            now: Option<&Node>,
        ) -> bool {
            // A node that says where it is, or takes replicas; and whether routes can name it.
            let place = |node: &Node| {
                let subzone = (node.subzone().to_owned(), node.named_since.is_some());
                let open = (node.ready, node.schedulable);
                map::node::is_settled(node).then(|| {
                    (open, node.zone.clone(), node.region.clone(), subzone)
                })
            };
            before.and_then(place) != now.and_then(place)
        }
    }
);
kind!(
    /// Pods.
    Pods, "pods", Pod,
    pods: PodName => PodRecord,
    by |meta| map::key(meta)?.parse().ok(),
    map |pod, names| map::pod::record(pod, names),
    {
        fn remember(before: &PodRecord, now: &mut PodRecord) {
            map::pod::remember(before, now);
        }
        fn is_birth(managed: &BTreeSet<Namespace>, key: &PodName, new: &PodRecord) -> bool {
            // What a watch shows late says nothing about now. Clocks that differ by more
            // make the webhook's silence unnoticed, not imagined.
            let age = crate::now().since(new.created_at);
            let replica = matches!(new.owner, Owner::ReplicaSet(_));
            replica && age < YOUNG && is_managed(managed, key.as_str())
        }
        fn notice(key: &PodName, before: Option<&PodRecord>, now: &PodRecord) {
            let closes = |pod: &PodRecord| pod.node.is_some() && !requests::plausible(&pod.requests);
            if closes(now) && !before.is_some_and(closes) {
                let text = "cannot be read: its node counts as full";
                tracing::warn!(pod = key.as_str(), "what it asks for {text}");
            }
        }
        fn wakes(
            managed: &BTreeSet<Namespace>,
            key: &PodName,
            before: Option<&PodRecord>,
            now: Option<&PodRecord>,
        ) -> bool {
            // Jobs, daemon sets and bare pods are no replicas.
            let replica = |pod: &&PodRecord| pod.owner != Owner::Other;
            let ready = |pod: &&PodRecord| pod.phase == PodPhase::Ready;
            let place = |pod: Option<&PodRecord>| {
                pod.filter(replica).filter(ready).map(|pod| pod.node.clone())
            };
            // Where a label says that it is matters before it is Ready, and whoever owns it.
            let said = |pod: Option<&PodRecord>| pod.and_then(|pod| {
                Some((pod.said.clone()?, pod.node.clone()?))
            });
            is_managed(managed, key.as_str())
                && (place(before) != place(now) || said(before) != said(now))
        }
    }
);
kind!(
    /// Deployments.
    Deployments, "deployments", Deployment,
    deployments: WorkloadRef => WorkloadRecord,
    by |meta| map::workload::reference(meta, WorkloadKind::Deployment),
    map |deployment, _| map::workload::deployment(deployment),
    {
        fn remember(before: &WorkloadRecord, now: &mut WorkloadRecord) {
            map::workload::remember(before, now);
        }
        fn notice(key: &WorkloadRef, before: Option<&WorkloadRecord>, now: &WorkloadRecord) {
            notice_mistake(key, before, now);
        }
        fn wakes(
            managed: &BTreeSet<Namespace>,
            key: &WorkloadRef,
            before: Option<&WorkloadRecord>,
            now: Option<&WorkloadRecord>,
        ) -> bool {
            asks_otherwise(managed, key, before, now)
        }
    }
);
kind!(
    /// StatefulSets.
    StatefulSets, "statefulsets", StatefulSet,
    stateful_sets: WorkloadRef => WorkloadRecord,
    by |meta| map::workload::reference(meta, WorkloadKind::StatefulSet),
    map |set, _| map::workload::stateful_set(set),
    {
        fn remember(before: &WorkloadRecord, now: &mut WorkloadRecord) {
            map::workload::remember(before, now);
        }
        fn notice(key: &WorkloadRef, before: Option<&WorkloadRecord>, now: &WorkloadRecord) {
            notice_mistake(key, before, now);
        }
        fn wakes(
            managed: &BTreeSet<Namespace>,
            key: &WorkloadRef,
            before: Option<&WorkloadRecord>,
            now: Option<&WorkloadRecord>,
        ) -> bool {
            asks_otherwise(managed, key, before, now)
        }
    }
);
kind!(
    /// ReplicaSets, metadata only.
    ReplicaSets, "replicasets", PartialObjectMeta<ReplicaSet>,
    replica_sets: Arc<str> => ReplicaSetRecord,
    by map::key,
    map |set, _| map::workload::replica_set(set)
);
kind!(
    /// HorizontalPodAutoscalers.
    Hpas, "horizontalpodautoscalers", HorizontalPodAutoscaler,
    hpas: Arc<str> => AutoscalerRecord,
    by map::key,
    map |hpa, _| map::autoscaler::hpa(hpa)
);
kind!(
    /// ScaledObjects of KEDA.
    ScaledObjects, "scaledobjects", DynamicObject,
    scaled_objects: Arc<str> => AutoscalerRecord,
    by map::key,
    map |object, _| map::autoscaler::scaled_object(object)
);
kind!(
    /// PodDisruptionBudgets.
    Budgets, "poddisruptionbudgets", PodDisruptionBudget,
    budgets: Arc<str> => BudgetRecord,
    by map::key,
    map |budget, _| map::budget::record(budget)
);
kind!(
    /// Services.
    Services, "services", Service,
    services: Arc<str> => ServiceRecord,
    by map::key,
    map |service, _| map::service::record(service),
    {
        fn wakes(
            managed: &BTreeSet<Namespace>,
            key: &Arc<str>,
            before: Option<&ServiceRecord>,
            now: Option<&ServiceRecord>,
        ) -> bool {
            is_managed(managed, key) && before != now
        }
    }
);
kind!(
    /// EndpointSlices.
    EndpointSlices, "endpointslices", EndpointSlice,
    endpoints: Arc<str> => SliceRecord,
    by map::key,
    map |slice, _| Some(map::service::slice(slice)),
    {
        fn wakes(
            managed: &BTreeSet<Namespace>,
            key: &Arc<str>,
            before: Option<&SliceRecord>,
            now: Option<&SliceRecord>,
        ) -> bool {
            is_managed(managed, key) && before != now
        }
    }
);
kind!(
    /// DestinationRules of Istio.
    DestinationRules, "destinationrules", DynamicObject,
    rules: Arc<str> => RuleRecord,
    by map::key,
    map |rule, _| map::rule::record(rule),
    {
        fn wakes(
            managed: &BTreeSet<Namespace>,
            _key: &Arc<str>,
            before: Option<&RuleRecord>,
            now: Option<&RuleRecord>,
        ) -> bool {
            let concerns = |rule: &RuleRecord| rule.concerns(managed);
            (before.is_some_and(concerns) || now.is_some_and(concerns))
                && before.and_then(RuleRecord::said_by_others)
                    != now.and_then(RuleRecord::said_by_others)
        }
    }
);

kind!(
    /// WorkloadEntries of Istio.
    WorkloadEntries, "workloadentries", DynamicObject,
    machines: Arc<str> => TextLabels,
    by map::key,
    map |entry, _| map::machine::record(entry),
    {
        const DISPENSABLE: bool = true;
        fn wakes(
            managed: &BTreeSet<Namespace>,
            key: &Arc<str>,
            before: Option<&TextLabels>,
            now: Option<&TextLabels>,
        ) -> bool {
            is_managed(managed, key) && before != now
        }
    }
);

/// Whether what the owner of a workload asks for has changed, or what selects its pods.
fn asks_otherwise(
    managed: &BTreeSet<Namespace>,
    key: &WorkloadRef,
    before: Option<&WorkloadRecord>,
    now: Option<&WorkloadRecord>,
) -> bool {
    fn asked(record: &WorkloadRecord) -> (&WorkloadPolicy, &TextLabels) {
        (&record.policy, &record.template.labels)
    }
    is_managed(managed, key.as_str()) && before.map(asked) != now.map(asked)
}

/// Whether something of this key, `namespace/name`, is in a managed namespace.
fn is_managed(managed: &BTreeSet<Namespace>, key: &str) -> bool {
    // A set of a handful: comparing texts beats making a name of each.
    let namespace = map::namespace_of(key);
    managed.iter().any(|one| one.as_str() == namespace)
}

/// Names a mistake once, not with every event of the workload.
fn notice_mistake(key: &WorkloadRef, before: Option<&WorkloadRecord>, now: &WorkloadRecord) {
    let mistake = |record: &WorkloadRecord| record.mistake.clone();
    if let Some(text) = &now.mistake
        && before.and_then(mistake).as_ref() != Some(text)
    {
        tracing::warn!(workload = %key, "left alone, what it asks for is not clear: {text}");
    }
}
