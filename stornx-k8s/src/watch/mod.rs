//! The watches and what they have seen: [`Cluster`].
//!
//! Each event is mapped to a record at once and dropped. Facts are made of the records
//! on demand, under one short lock, so that a snapshot is of one instant of what was
//! received. Nothing is decided on watches that have not finished their first list or
//! have been failing for longer than [`ClusterOptions::stale_after`].
//!
//! Watches of optional APIs (DestinationRules, WorkloadEntries, ScaledObjects) begin when the API
//! appears and end, with everything that they saw, when it vanishes.

mod follow;
mod health;
pub(crate) mod kinds;
pub(crate) mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use kube::{
    Api, Client, Resource,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use stornx_core::{
    ids::{Namespace, RegionName, WorkloadRef, ZoneName},
    model::{ClusterFacts, Mesh, Node, Steering},
    ports::{ClusterSource, PortError},
};
use tokio::{sync::watch, task::JoinSet};

pub use self::health::WatchStats;
use self::{
    follow::follow,
    health::Healths,
    kinds::{
        Budgets, Deployments, DestinationRules, EndpointSlices, Hpas, Kind, Nodes, Pods,
        ReplicaSets, ScaledObjects, Services, StatefulSets, Tables, WorkloadEntries,
    },
};
use crate::{
    connect::{Capabilities, Connection, DESTINATION_RULES, KEDA, OptionalApi, WORKLOAD_ENTRIES},
    facts,
    map::{names::Names, namespace_of, rule::Share},
    webhook::health::{Health, Stands},
};

/// How the cluster is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterOptions {
    /// `NAMESPACES`: the namespaces whose workloads are managed. All are watched.
    pub namespaces: BTreeSet<Namespace>,
    /// A watch that has been failing for this long is not decided on. The default, a
    /// minute, is one cycle: a short break of the API server changes nothing.
    pub stale_after: Duration,
    /// Objects in one page of a list: bounds the memory that listing takes.
    pub page_size: u32,
    /// Routes are asked for between nodes: whatever pod is older than the name of its node is
    /// to be known.
    pub by_node: bool,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        let stale_after = Duration::from_secs(60);
        Self { namespaces: BTreeSet::new(), stale_after, page_size: 500, by_node: false }
    }
}

#[derive(Debug, Default)]
struct Store {
    names: Names,
    tables: Tables,
}

/// Where nodes are.
pub type Place = (RegionName, ZoneName);

/// What the watches write and facts are made of.
#[derive(Debug)]
pub(crate) struct Shared {
    managed: BTreeSet<Namespace>,
    store: Mutex<Store>,
    healths: Mutex<Healths>,
    changes: watch::Sender<u64>,
    places: watch::Sender<BTreeSet<Place>>,
    synced: watch::Sender<bool>,
    health: Health,
}

impl Shared {
    /// `managed` are the namespaces whose endpoints are worth an early cycle.
    pub(crate) fn new(managed: BTreeSet<Namespace>) -> Self {
        Self {
            managed,
            store: Mutex::default(),
            healths: Mutex::default(),
            changes: watch::Sender::new(0),
            places: watch::Sender::new(BTreeSet::new()),
            synced: watch::Sender::new(false),
            health: Health::default(),
        }
    }

    /// Keeps the labels of pods that are seen from now on.
    pub(crate) fn keep_labels(&self) {
        self.store().names.keeps_labels = true;
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // A panic while mapping one object leaves the others whole.
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn healths(&self) -> MutexGuard<'_, Healths> {
        self.healths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wakes<K: Kind>(
        &self,
        key: &K::Key,
        before: Option<&K::Record>,
        now: Option<&K::Record>,
    ) -> bool {
        K::wakes(&self.managed, key, before, now)
    }

    fn wake<K: Kind>(&self) {
        self.changes.send_modify(|count| *count += 1);
        if K::PLACES {
            let nodes = self.read(|tables, _| {
                let place = |node: &Node| (node.region.clone(), node.zone.clone());
                facts::places::nodes(tables)
                    .map(|(_, node)| place(node))
                    .collect::<BTreeSet<Place>>()
            });
            self.places.send_if_modified(|known| {
                let new = *known != nodes;
                *known = nodes;
                new
            });
        }
    }

    fn note_synced(&self) {
        let synced = self.healths().synced();
        self.synced.send_if_modified(|was| std::mem::replace(was, synced) != synced);
    }

    fn begin_list<K: Kind>(&self) {
        K::table(&mut self.store().tables).begin_list();
    }

    fn finish_list<K: Kind>(&self) {
        let vanished = K::table(&mut self.store().tables).finish_list();
        self.healths().listed(K::NAME);
        self.note_synced();
        if vanished.iter().any(|(key, gone)| self.wakes::<K>(key, Some(gone), None)) {
            self.wake::<K>();
        }
    }

    pub(crate) fn apply<K: Kind>(&self, object: &K::Object) {
        let Some(key) = K::key(object.meta()) else { return };
        let mut store = self.store();
        let Store { names, tables } = &mut *store;
        let Some(mut record) = K::record(object, names) else {
            drop(store);
            self.remove::<K>(&key);
            return;
        };
        let table = K::table(tables);
        let before = table.get(&key);
        if let Some(before) = before {
            K::remember(before, &mut record);
        }
        let wakes = self.wakes::<K>(&key, before, Some(&record));
        K::notice(&key, before, &record);
        let new = before.is_none() && !table.is_listing();
        let birth = new && K::is_birth(&self.managed, &key, &record);
        table.set(key, record);
        drop(store);
        if birth {
            self.health.born();
        }
        if wakes {
            self.wake::<K>();
        }
    }

    fn delete<K: Kind>(&self, object: &K::Object) {
        if let Some(key) = K::key(object.meta()) {
            self.remove::<K>(&key);
        }
    }

    fn remove<K: Kind>(&self, key: &K::Key) {
        let before = K::table(&mut self.store().tables).remove(key);
        if self.wakes::<K>(key, before.as_ref(), None) {
            self.wake::<K>();
        }
    }

    /// Goes on without a kind that may not be read; says whether it does.
    fn do_without<K: Kind>(&self) -> bool {
        let excused = self.healths().excuse(K::NAME);
        self.note_synced();
        excused
    }

    fn forget<K: Kind>(&self) {
        K::table(&mut self.store().tables).clear();
        self.healths().forget(K::NAME);
        self.note_synced();
    }

    /// What is known now.
    pub(crate) fn facts(&self, mesh: Mesh) -> ClusterFacts {
        let facts = facts::assemble(&self.store().tables, &self.managed, mesh);
        ClusterFacts { steering: self.health.steering(), ..facts }
    }

    /// What `look` makes of all records and the managed namespaces.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Tables, &BTreeSet<Namespace>) -> T) -> T {
        look(&self.store().tables, &self.managed)
    }

    /// Changes records as no event does.
    #[cfg(test)]
    pub(crate) fn write(&self, change: impl FnOnce(&mut Tables)) {
        change(&mut self.store().tables);
    }

    /// What is known of the webhook.
    pub(crate) const fn health(&self) -> &Health {
        &self.health
    }

    /// The identity of a workload, for events on it.
    pub(crate) fn uid(&self, workload: &WorkloadRef) -> Option<String> {
        let store = self.store();
        let tables = &store.tables;
        let record =
            tables.deployments.get(workload).or_else(|| tables.stateful_sets.get(workload))?;
        Some(record.uid.to_string())
    }
}

/// The cluster as the watches see it. Watching ends when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    shared: Arc<Shared>,
    options: ClusterOptions,
    capabilities: watch::Receiver<Capabilities>,
    _tasks: JoinSet<()>,
}

impl Cluster {
    /// Starts the watches, as tasks of the runtime that this is called in.
    #[must_use]
    pub fn start(connection: &Connection, options: ClusterOptions) -> Self {
        let shared = Arc::new(Shared::new(options.namespaces.clone()));
        if options.by_node {
            shared.keep_labels();
        }
        let mut watches = Watches {
            client: connection.client().clone(),
            page: options.page_size,
            shared: Arc::clone(&shared),
            tasks: JoinSet::new(),
        };
        watches.start::<Nodes>();
        watches.start::<Pods>();
        watches.start::<Deployments>();
        watches.start::<StatefulSets>();
        watches.start::<ReplicaSets>();
        watches.start::<Hpas>();
        watches.start::<Budgets>();
        watches.start::<Services>();
        watches.start::<EndpointSlices>();
        let capabilities = connection.capabilities();
        // What is there now is expected now, or the first snapshot would lack it.
        let mut optional = Optional::default();
        optional.start(&watches, &capabilities.borrow());
        let mut changes = capabilities.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while changes.changed().await.is_ok() {
                let now = changes.borrow_and_update().clone();
                optional.end(&watches, &now).await;
                optional.start(&watches, &now);
            }
            // The connection is gone; the watches go on until they are dropped.
            std::future::pending::<()>().await;
        });
        Self { shared, options, capabilities, _tasks: tasks }
    }

    /// Whether every watch has finished its first list.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.shared.healths().synced()
    }

    /// Waits until every watch has finished its first list.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] after `deadline`, naming a watch that has not and
    /// what came of it.
    pub async fn wait_synced(&self, deadline: Duration) -> Result<(), PortError> {
        let mut synced = self.shared.synced.subscribe();
        let wait = synced.wait_for(|synced| *synced);
        let done = tokio::time::timeout(deadline, wait).await.is_ok_and(|waited| waited.is_ok());
        if done { Ok(()) } else { self.fit() }
    }

    /// The watches that keep the cluster from being synced or decided on, each with its
    /// name and why, in words; none when it is ready.
    #[must_use]
    pub fn not_ready(&self) -> Vec<String> {
        let healths = self.shared.healths();
        let unfit = healths.unfit(self.options.stale_after);
        unfit.map(|(name, why)| format!("watch {name}: {why}")).collect()
    }

    /// A count that rises with each change of nodes and their zones, and in managed
    /// namespaces of which replicas are ready and where, of Services, of what owners ask for,
    /// and of what others than StornX say in routing rules.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// The regions and zones that nodes are in; changed when one appears or vanishes. Weights
    /// that stand do not name a zone that has just appeared: that is pressing.
    #[must_use]
    pub fn places(&self) -> watch::Receiver<BTreeSet<Place>> {
        self.shared.places.subscribe()
    }

    /// Decides as if new replicas were told where to run, for a dry run: there is no
    /// webhook to tell them.
    pub fn assume_steering(&self) {
        self.shared.health.set(Stands::Assumed);
    }

    /// Whether new replicas can be told where to run.
    #[must_use]
    pub fn steering(&self) -> Steering {
        self.shared.health.steering()
    }

    /// How many rules of namespaces that are not managed hold weights that StornX wrote, by
    /// namespace: nobody follows them.
    #[must_use]
    pub fn weights_elsewhere(&self) -> BTreeMap<String, usize> {
        self.shared.read(|tables, managed| {
            let mut found = BTreeMap::new();
            let ours = tables.rules.iter().filter(|(_, rule)| rule.share > Share::Handed);
            for (key, _) in ours {
                let namespace = namespace_of(key);
                if !managed.iter().any(|one| one.as_str() == namespace) {
                    *found.entry(namespace.to_owned()).or_default() += 1;
                }
            }
            found
        })
    }

    /// How each watch is doing, by name.
    #[must_use]
    pub fn stats(&self) -> Vec<WatchStats> {
        let store = self.shared.store();
        let tables = &store.tables;
        self.shared.healths().stats(|name| match name {
            Nodes::NAME => tables.nodes.len(),
            Pods::NAME => tables.pods.len(),
            Deployments::NAME => tables.deployments.len(),
            StatefulSets::NAME => tables.stateful_sets.len(),
            ReplicaSets::NAME => tables.replica_sets.len(),
            Hpas::NAME => tables.hpas.len(),
            ScaledObjects::NAME => tables.scaled_objects.len(),
            Budgets::NAME => tables.budgets.len(),
            Services::NAME => tables.services.len(),
            EndpointSlices::NAME => tables.endpoints.len(),
            DestinationRules::NAME => tables.rules.len(),
            WorkloadEntries::NAME => tables.machines.len(),
            _ => 0,
        })
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn fit(&self) -> Result<(), PortError> {
        match self.shared.healths().unfit(self.options.stale_after).next() {
            None => Ok(()),
            Some((name, detail)) => {
                Err(PortError::Unavailable { what: format!("watch {name}"), detail })
            }
        }
    }
}

#[async_trait]
impl ClusterSource for Cluster {
    async fn observe(&self) -> Result<ClusterFacts, PortError> {
        self.fit()?;
        let routable = self.capabilities.borrow().destination_rules;
        let mesh = if routable { Mesh::Routable } else { Mesh::Absent };
        Ok(self.shared.facts(mesh))
    }
}

/// Starts and ends watches.
struct Watches {
    client: Client,
    page: u32,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

impl Watches {
    fn start<K: Kind>(&mut self)
    where
        K::Object: Resource<DynamicType = ()>,
    {
        let mut tasks = std::mem::take(&mut self.tasks);
        self.spawn::<K>(&mut tasks, Api::all(self.client.clone()));
        self.tasks = tasks;
    }

    /// The task of a watch that may have to end.
    fn start_optional<K>(&self, api: OptionalApi) -> JoinSet<()>
    where
        K: Kind<Object = DynamicObject>,
    {
        let kind = GroupVersionKind::gvk(api.group, api.version, api.kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, api.plural);
        let mut task = JoinSet::new();
        self.spawn::<K>(&mut task, Api::all_with(self.client.clone(), &resource));
        task
    }

    fn spawn<K: Kind>(&self, tasks: &mut JoinSet<()>, api: Api<K::Object>) {
        self.shared.healths().expect(K::NAME);
        self.shared.note_synced();
        tasks.spawn(follow::<K>(api, self.page, Arc::clone(&self.shared)));
    }
}

/// The watches of optional APIs that are running.
#[derive(Default)]
struct Optional {
    rules: Option<JoinSet<()>>,
    machines: Option<JoinSet<()>>,
    scaled_objects: Option<JoinSet<()>>,
}

impl Optional {
    /// Starts what has appeared.
    fn start(&mut self, watches: &Watches, now: &Capabilities) {
        if now.destination_rules && self.rules.is_none() {
            let task = watches.start_optional::<DestinationRules>(DESTINATION_RULES);
            self.rules = Some(task);
        }
        if now.workload_entries && self.machines.is_none() {
            let task = watches.start_optional::<WorkloadEntries>(WORKLOAD_ENTRIES);
            self.machines = Some(task);
        }
        if now.keda && self.scaled_objects.is_none() {
            self.scaled_objects = Some(watches.start_optional::<ScaledObjects>(KEDA));
        }
    }

    /// Ends what has vanished, and forgets what it saw once nothing can write it again.
    async fn end(&mut self, watches: &Watches, now: &Capabilities) {
        if let Some(mut task) = self.rules.take_if(|_| !now.destination_rules) {
            task.shutdown().await;
            watches.shared.forget::<DestinationRules>();
        }
        if let Some(mut task) = self.machines.take_if(|_| !now.workload_entries) {
            task.shutdown().await;
            watches.shared.forget::<WorkloadEntries>();
        }
        if let Some(mut task) = self.scaled_objects.take_if(|_| !now.keda) {
            task.shutdown().await;
            watches.shared.forget::<ScaledObjects>();
        }
    }
}
