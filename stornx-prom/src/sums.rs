//! Adds up the rows of answers by edge, zone and pod, as they come in.
//!
//! Refuses rows of pods that were not heard of for too long, rows of callees that are gone,
//! and rows whose caller or callee is not a workload of the cluster. A row whose reporter is
//! none of the caller's pods counts for the caller without a zone: a proxy that several
//! share (ztunnel), or a pod that is gone. That of a waypoint counts for the caller in the
//! zone of the waypoint, which is the one that weights are for. After a rollout of the caller most of
//! the window was reported by pods that are gone; without their rows the edge would seem to
//! carry what the new pods sent in their short life.

use std::collections::BTreeMap;

use crate::{options::Labels, places::Places, queries::PART, response::Row, youth::Youth};

/// An edge, by places in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EdgeKey {
    pub(crate) caller: usize,
    pub(crate) callee: usize,
    pub(crate) host: usize,
}

/// Two sums by zone of the caller: the two parts of a query.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Flows {
    pub(crate) zones: Vec<[f64; 2]>,
    pub(crate) unplaced: [f64; 2],
}

/// What one zone of callees says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Column {
    /// The two parts of the query.
    pub(crate) sums: [f64; 2],
    p95_sum: f64,
    p95_weight: f64,
}

impl Column {
    /// The mean of its replicas by requests.
    pub(crate) fn p95(&self) -> Option<f64> {
        (self.p95_weight > 0.0).then(|| self.p95_sum / self.p95_weight)
    }
}

/// What all rows have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Joins<'a> {
    pub(crate) places: &'a Places<'a>,
    /// The same with nodes for zones, where those are asked for.
    pub(crate) by_node: Option<&'a Places<'a>>,
    pub(crate) labels: &'a Labels,
    /// By pod: was heard of lately.
    pub(crate) fresh: &'a [bool],
    /// By pod: how much of the window it was there for.
    pub(crate) youth: &'a [Youth],
}

/// Who reports a row.
enum Reporter {
    Pod(usize),
    /// Not a pod of the cluster (any more), or none is named.
    Other,
    /// Known, but not heard of for too long.
    TooOld,
}

impl Joins<'_> {
    fn reporter(&self, row: &Row<'_>) -> Reporter {
        let Labels { mesh_pod, mesh_namespace, .. } = self.labels;
        match self.places.pod(row.label(mesh_namespace), row.label(mesh_pod)) {
            Some(pod) if self.fresh[pod] => Reporter::Pod(pod),
            Some(_) => Reporter::TooOld,
            None => Reporter::Other,
        }
    }

    fn source(&self, row: &Row<'_>) -> Option<usize> {
        self.places.workload(row.label("source_workload_namespace"), row.label("source_workload"))
    }

    /// The calling workload, and the pod that chose the endpoint, where the reporter is one of
    /// its pods or a waypoint.
    fn caller(&self, row: &Row<'_>, reporter: &Reporter) -> Option<(usize, Option<usize>)> {
        let source = self.source(row);
        match *reporter {
            Reporter::Pod(pod) if row.label("reporter") != "waypoint" => {
                let place = &self.places.pods[pod];
                let own = source.is_none_or(|source| source == place.workload);
                Some((if own { place.workload } else { source? }, own.then_some(pod)))
            }
            // It is the waypoint that chooses among endpoints: weights are for where it is.
            Reporter::Pod(pod) => Some((source?, Some(pod))),
            Reporter::Other => Some((source?, None)),
            Reporter::TooOld => None,
        }
    }
}

/// What callers say: two parts by edge and zone of the caller.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    /// By the callers' own proxies.
    own: BTreeMap<EdgeKey, Flows>,
    /// By waypoints.
    waypoint: BTreeMap<EdgeKey, Flows>,
    /// Both by node of the caller, where that is asked for.
    own_by_node: BTreeMap<EdgeKey, Flows>,
    waypoint_by_node: BTreeMap<EdgeKey, Flows>,
    /// Rows at all.
    pub(crate) any: bool,
    /// Rows whose reporter is a pod of the cluster.
    pub(crate) joined: bool,
}

impl Sent {
    pub(crate) fn take(&mut self, joins: &Joins<'_>, parts: [&str; 2], row: &Row<'_>) {
        self.any = true;
        let reporter = joins.reporter(row);
        self.joined |= !matches!(reporter, Reporter::Other);
        let Some((caller, pod)) = joins.caller(row, &reporter) else { return };
        let host = row.label("destination_service");
        let (namespace, name) =
            (row.label("destination_workload_namespace"), row.label("destination_workload"));
        let callee = joins.places.workload(namespace, name);
        let Some(callee) = callee.or_else(|| joins.places.backend(host)) else { return };
        let Some(host) = joins.places.host(host, Some(callee)) else { return };
        let Some(part) = part_of(row, parts) else { return };
        let key = EdgeKey { caller, callee, host };
        let add = |edges: &mut BTreeMap<EdgeKey, Flows>, places: &Places<'_>| {
            let flows = edges.entry(key).or_insert_with(|| Flows {
                zones: vec![[0.0; 2]; places.zones.len()],
                unplaced: [0.0; 2],
            });
            let zone = pod.and_then(|pod| places.pods[pod].zone);
            zone.map_or(&mut flows.unplaced, |zone| &mut flows.zones[zone])[part] += row.value;
        };
        let waypoint = row.label("reporter") == "waypoint";
        let (edges, by_node) = if waypoint {
            (&mut self.waypoint, &mut self.waypoint_by_node)
        } else {
            (&mut self.own, &mut self.own_by_node)
        };
        add(edges, joins.places);
        if let Some(places) = joins.by_node {
            add(by_node, places);
        }
    }

    /// An edge as its callers see it, else as waypoints do.
    pub(crate) fn edge(&self, key: EdgeKey) -> Option<&Flows> {
        self.own.get(&key).or_else(|| self.waypoint.get(&key))
    }

    /// The same by node of the caller.
    pub(crate) fn edge_by_node(&self, key: EdgeKey) -> Option<&Flows> {
        self.own_by_node.get(&key).or_else(|| self.waypoint_by_node.get(&key))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = EdgeKey> {
        self.own.keys().chain(self.waypoint.keys()).copied()
    }
}

/// What callees say: two parts by pod, and by edge and pod. Rates of young pods are scaled
/// to what they serve now: the planner reads them replica by replica, and the zones of
/// callees must not depend on how old their replicas are. What callers send is not, since
/// what a young caller did not send its predecessor did.
#[derive(Debug, Default)]
pub(crate) struct Served {
    edges: BTreeMap<EdgeKey, BTreeMap<usize, [f64; 2]>>,
    /// From whomever.
    pub(crate) pods: BTreeMap<usize, [f64; 2]>,
    pub(crate) any: bool,
    pub(crate) joined: bool,
}

/// By edge and callee pod.
pub(crate) type EdgeP95 = BTreeMap<(EdgeKey, usize), f64>;

/// The edge and the callee pod of a row of a callee.
fn served_by(joins: &Joins<'_>, row: &Row<'_>, pod: usize) -> Option<EdgeKey> {
    let callee = joins.places.pods[pod].workload;
    let caller = joins.source(row)?;
    let host = joins.places.host(row.label("destination_service"), Some(callee))?;
    Some(EdgeKey { caller, callee, host })
}

impl Served {
    pub(crate) fn take(&mut self, joins: &Joins<'_>, parts: [&str; 2], row: &Row<'_>) {
        self.any = true;
        let pod = match joins.reporter(row) {
            Reporter::Pod(pod) => pod,
            Reporter::TooOld => {
                self.joined = true;
                return;
            }
            Reporter::Other => return,
        };
        self.joined = true;
        let Some(part) = part_of(row, parts) else { return };
        let rate = row.value * joins.youth[pod].factor_of_served();
        self.pods.entry(pod).or_default()[part] += rate;
        if let Some(key) = served_by(joins, row, pod) {
            self.edges.entry(key).or_default().entry(pod).or_default()[part] += rate;
        }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = EdgeKey> {
        self.edges.keys().copied()
    }

    /// An edge by zone of the callee.
    pub(crate) fn columns(
        &self,
        key: EdgeKey,
        places: &Places<'_>,
        p95: Option<&EdgeP95>,
    ) -> Option<Vec<Column>> {
        let mut columns = vec![Column::default(); places.zones.len()];
        for (pod, [first, second]) in self.edges.get(&key)? {
            let Some(zone) = places.pods[*pod].zone else { continue };
            let column = &mut columns[zone];
            column.sums[0] += first;
            column.sums[1] += second;
            if let Some(p95) = p95.and_then(|p95| p95.get(&(key, *pod))) {
                column.p95_sum += p95 * first;
                column.p95_weight += first;
            }
        }
        Some(columns)
    }
}

/// Takes a row of the p95 of callees by edge.
pub(crate) fn take_edge_p95(p95: &mut EdgeP95, joins: &Joins<'_>, row: &Row<'_>) {
    if let Reporter::Pod(pod) = joins.reporter(row)
        && let Some(key) = served_by(joins, row, pod)
    {
        // Two hosts that the cluster does not list may fall together: the slower counts.
        let known = p95.entry((key, pod)).or_insert(row.value);
        *known = known.max(row.value);
    }
}

/// Takes a row of the p95 of callees.
pub(crate) fn take_pod_p95(p95: &mut BTreeMap<usize, f64>, joins: &Joins<'_>, row: &Row<'_>) {
    if let Reporter::Pod(pod) = joins.reporter(row) {
        p95.insert(pod, row.value);
    }
}

/// Which part a row is of.
pub(crate) fn part_of<const N: usize>(row: &Row<'_>, parts: [&str; N]) -> Option<usize> {
    let part = row.label(PART);
    parts.iter().position(|name| *name == part)
}
