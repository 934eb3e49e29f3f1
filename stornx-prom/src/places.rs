//! The cluster as rows of answers are joined with it: names to places in lists, pods to
//! workloads, nodes to zones. Borrows everything; made anew in each cycle.

use std::collections::{BTreeMap, HashMap};

use stornx_core::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    model::{ClusterFacts, DefaultSplit, Host, PodPhase, RouteTable, Rule},
    units::Timestamp,
};

/// A zone and its region.
#[derive(Debug)]
pub(crate) struct ZonePlace<'a> {
    pub(crate) name: &'a ZoneName,
    pub(crate) region: &'a str,
}

/// A pod, its workload and its zone.
#[derive(Debug)]
pub(crate) struct PodPlace<'a> {
    pub(crate) name: &'a PodName,
    pub(crate) workload: usize,
    /// Not known while it is bound to no node, or to one that is gone.
    pub(crate) zone: Option<usize>,
    pub(crate) created_at: Timestamp,
    pub(crate) ready_since: Option<Timestamp>,
}

/// A workload and where its pods are.
#[derive(Debug)]
pub(crate) struct WorkloadPlace<'a> {
    pub(crate) id: &'a WorkloadRef,
    /// Ready replicas by zone.
    pub(crate) ready: Vec<f64>,
    /// The same by zone and, within it, by subzone.
    pub(crate) groups: Vec<Vec<u32>>,
    /// Replicas that have a zone, by zone.
    pub(crate) placed: Vec<f64>,
    /// The first of the hosts that it stands behind.
    host: Option<usize>,
}

/// A host and how its callers choose.
#[derive(Debug)]
pub(crate) struct HostPlace<'a> {
    pub(crate) name: &'a HostName,
    /// Our weights, where they stand.
    pub(crate) weights: Option<&'a RouteTable>,
    pub(crate) default_split: DefaultSplit,
    /// Its backend, when it has exactly one.
    backend: Option<usize>,
}

/// All of them. Names are pairs of namespace and name.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    pub(crate) zones: Vec<ZonePlace<'a>>,
    pub(crate) nodes: Vec<(&'a NodeName, usize)>,
    pub(crate) workloads: Vec<WorkloadPlace<'a>>,
    pub(crate) pods: Vec<PodPlace<'a>>,
    pub(crate) hosts: Vec<HostPlace<'a>>,
    node_at: HashMap<&'a str, usize>,
    workload_at: HashMap<(&'a str, &'a str), usize>,
    pod_at: HashMap<(&'a str, &'a str), usize>,
    host_at: HashMap<&'a str, usize>,
}

impl<'a> Places<'a> {
    pub(crate) fn of(cluster: &'a ClusterFacts) -> Self {
        let by_zone: BTreeMap<_, _> =
            cluster.nodes.iter().map(|node| (&node.zone, node.region.as_str())).collect();
        let zones: Vec<_> =
            by_zone.into_iter().map(|(name, region)| ZonePlace { name, region }).collect();
        let zone_of = |name: &ZoneName| zones.partition_point(|zone| zone.name < name);
        let nodes: Vec<_> =
            cluster.nodes.iter().map(|node| (&node.name, zone_of(&node.zone))).collect();
        let node_at: HashMap<_, _> =
            nodes.iter().enumerate().map(|(at, (name, _))| (name.as_str(), at)).collect();
        let mut places = Self {
            zones,
            nodes,
            workloads: Vec::new(),
            pods: Vec::new(),
            hosts: Vec::new(),
            node_at,
            workload_at: HashMap::new(),
            pod_at: HashMap::new(),
            host_at: HashMap::new(),
        };
        places.take_workloads(cluster);
        places.take_hosts(&cluster.hosts);
        places
    }

    fn take_workloads(&mut self, cluster: &'a ClusterFacts) {
        for (at, workload) in cluster.workloads.iter().enumerate() {
            let mut place = WorkloadPlace {
                id: &workload.id,
                ready: vec![0.0; self.zones.len()],
                groups: Vec::new(),
                placed: vec![0.0; self.zones.len()],
                host: None,
            };
            let mut groups = vec![BTreeMap::<&str, u32>::new(); self.zones.len()];
            for pod in &workload.pods {
                let node = pod.node.as_ref().and_then(|node| self.node_at.get(node.as_str()));
                let zone = node.map(|node| self.nodes[*node].1);
                if let (Some(node), Some(zone), PodPhase::Ready) = (node, zone, pod.phase) {
                    let subzone = cluster.nodes[*node].subzone();
                    *groups[zone].entry(subzone).or_default() += 1;
                }
                if let Some(zone) = zone {
                    place.placed[zone] += 1.0;
                    place.ready[zone] += f64::from(u8::from(pod.phase == PodPhase::Ready));
                }
                self.pod_at.insert(halves(pod.name.as_str()), self.pods.len());
                let ready_since = pod.ready_since.filter(|_| pod.phase == PodPhase::Ready);
                let (name, created_at) = (&pod.name, pod.created_at);
                self.pods.push(PodPlace { name, workload: at, zone, created_at, ready_since });
            }
            place.groups = groups.into_iter().map(|zone| zone.into_values().collect()).collect();
            // A Deployment and a StatefulSet of one name: metrics do not tell them apart.
            // Their pods do; names alone mean the first.
            let namespace = halves(workload.id.as_str()).0;
            self.workload_at.entry((namespace, workload.id.name())).or_insert(at);
            self.workloads.push(place);
        }
    }

    fn take_hosts(&mut self, hosts: &'a [Host]) {
        let by_id: HashMap<_, _> =
            self.workloads.iter().enumerate().map(|(at, workload)| (workload.id, at)).collect();
        for (at, host) in hosts.iter().enumerate() {
            let backend = match host.backends.as_slice() {
                [only] => by_id.get(only).copied(),
                _ => None,
            };
            for workload in host.backends.iter().filter_map(|id| by_id.get(id)) {
                self.workloads[*workload].host.get_or_insert(at);
            }
            self.host_at.insert(host.name.as_str(), at);
            self.hosts.push(HostPlace {
                name: &host.name,
                weights: match &host.rule {
                    Rule::Ours(table) => Some(table),
                    Rule::None | Rule::Foreign(_) => None,
                },
                default_split: host.default_split,
                backend,
            });
        }
    }

    pub(crate) fn node(&self, name: &str) -> Option<usize> {
        self.node_at.get(name).copied()
    }

    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<usize> {
        self.pod_at.get(&(namespace, name)).copied()
    }

    pub(crate) fn workload(&self, namespace: &str, name: &str) -> Option<usize> {
        self.workload_at.get(&(namespace, name)).copied()
    }

    /// The host of that name; else the first one that the workload stands behind (called
    /// by an address, or by a name that the cluster does not list).
    pub(crate) fn host(&self, name: &str, callee: Option<usize>) -> Option<usize> {
        let named = self.host_at.get(name).copied();
        named.or_else(|| self.workloads[callee?].host)
    }

    /// The workload behind a host, when there is only one.
    pub(crate) fn backend(&self, host: &str) -> Option<usize> {
        self.hosts[self.host_at.get(host).copied()?].backend
    }

    /// How the replicas of a workload are spread over zones: those that are Ready, else
    /// all; nothing when there is none.
    pub(crate) fn spread(&self, workload: usize) -> Option<Vec<f64>> {
        let place = &self.workloads[workload];
        [&place.ready, &place.placed].into_iter().find_map(|counts| {
            let sum: f64 = counts.iter().sum();
            (sum > 0.0).then(|| counts.iter().map(|count| count / sum).collect())
        })
    }
}

/// Namespace, and what follows the first slash.
fn halves(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}
