//! The cluster with nodes for zones, for routes that are planned node by node.
//!
//! A rule can name a node where the mesh knows it as a subzone: by a label that StornX sets
//! on it. A *place* is then `zone/node` instead of `zone` (a zone's name has no `/`), and
//! everything that decides and checks routes works over places as it does over zones.
//!
//! The mesh reads the label when it learns of an endpoint and when a proxy connects, and not
//! again. An endpoint or a caller from before the label is in the zone and in no node of it: a
//! rule that names nodes cuts the one off, and is nothing to the other. Nor can a zone be
//! named beside its nodes, for the mesh refuses places that overlap. So a host is planned by
//! node only while every node is named, and everything that is behind it or seen to call it
//! is younger than the name of its node. Otherwise it is planned by zone, with the reason.
//!
//! A caller from before the label that calls once an hour would have the routes said anew twice
//! an hour. So a workload that was once seen to call a host counts as its caller for as long as
//! it has such a pod, whether it calls or not: that is remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::{
    Facts, Host, Latency, Node, Pod, PodPhase, SUBZONE, Snapshot, Traffic, Workload, ZoneRoundTrip,
};
use crate::{
    ids::{HostName, NodeName, PodName, WorkloadRef, ZoneName},
    memory::Memory,
    policy::Granularity,
    units::Millis,
};

/// Most nodes that are named. A weight is a whole number of a hundred, and the room for
/// reserves is half of it: with more nodes not even a point would be left for each.
pub const MOST_NODES: usize = 50;

/// Why the routes of a host are planned by zone though nodes were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WholeZones {
    /// More nodes than weights can name.
    TooManyNodes {
        /// How many there are.
        nodes: u32,
    },
    /// A node carries a subzone label of somebody else.
    ForeignLabel {
        /// The first one.
        node: NodeName,
    },
    /// A node has no subzone label of ours yet.
    NoLabel {
        /// The first one.
        node: NodeName,
    },
    /// The metrics do not tell requests by node.
    NotCounted,
    /// A pod behind it is not younger than the label of its node: the mesh may not know
    /// where it is.
    OldEndpoint {
        /// The first one.
        pod: PodName,
    },
    /// The same for a pod that calls it.
    OldCaller {
        /// The first one.
        pod: PodName,
    },
}

impl fmt::Display for WholeZones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyNodes { nodes } => {
                write!(f, "{nodes} nodes are more than {MOST_NODES}, which weights can name")
            }
            Self::ForeignLabel { node } => {
                write!(f, "node {node} has a subzone label of somebody else")
            }
            Self::NoLabel { node } => write!(f, "node {node} has no subzone label yet"),
            Self::NotCounted => f.write_str("the metrics do not tell requests by node"),
            Self::OldEndpoint { pod } => {
                write!(f, "{pod} is older than the subzone label of its node")
            }
            Self::OldCaller { pod } => {
                write!(f, "{pod}, which calls it, is older than the subzone label of its node")
            }
        }
    }
}

impl WholeZones {
    /// Whether nodes are not named at all while this holds.
    const fn gives_no_names(&self) -> bool {
        matches!(self, Self::TooManyNodes { .. } | Self::ForeignLabel { .. })
    }
}

/// Which hosts are planned by node, and why the others are not.
#[derive(Debug, Clone, Default)]
pub struct Grain {
    /// The cluster with nodes for zones; `None` where every host is planned by zone.
    pub fine: Option<Snapshot>,
    everywhere: Option<WholeZones>,
    whole: BTreeMap<HostName, WholeZones>,
    /// Who calls a host, or did, and has a pod that is not younger than the name of its node.
    old_callers: BTreeMap<HostName, BTreeSet<WorkloadRef>>,
}

impl Grain {
    /// What a snapshot allows of what is asked for.
    #[must_use]
    pub fn of(snapshot: &Snapshot, asked: Granularity, memory: &Memory) -> Self {
        if asked == Granularity::Zone {
            return Self::default();
        }
        let everywhere = snapshot.whole_zones();
        // Where nodes get no names, nobody need be remembered as older than them.
        let unnamed = WholeZones::gives_no_names;
        if everywhere.as_ref().is_some_and(unnamed) {
            return Self { everywhere, ..Self::default() };
        }
        let old = old_pods(snapshot);
        let old_callers = old_callers(snapshot, &old, memory);
        if everywhere.is_some() {
            return Self { everywhere, old_callers, ..Self::default() };
        }
        let reason = |host: &Host| {
            let pod = |id: &WorkloadRef| old.get(id).map(|pod| (*pod).clone());
            let behind = host.backends.iter().find_map(pod).or_else(|| host.old_pod.clone());
            let calling = || old_callers.get(&host.name)?.iter().find_map(pod);
            behind
                .map(|pod| WholeZones::OldEndpoint { pod })
                .or_else(|| calling().map(|pod| WholeZones::OldCaller { pod }))
        };
        let whole =
            snapshot.hosts.iter().filter_map(|host| Some((host.name.clone(), reason(host)?)));
        let (fine, whole) = (Some(snapshot.by_node()), whole.collect());
        Self { fine, everywhere, whole, old_callers }
    }

    /// Who is remembered as a caller of a host from before the names of nodes.
    pub(crate) fn old_callers(&self, host: &HostName) -> Option<&BTreeSet<WorkloadRef>> {
        self.old_callers.get(host)
    }

    /// Whether a host is planned by node.
    #[must_use]
    pub fn is_fine(&self, host: &HostName) -> bool {
        self.fine.is_some() && !self.whole.contains_key(host)
    }

    /// Why a host is not planned by node though that was asked for.
    #[must_use]
    pub fn why_whole(&self, host: &HostName) -> Option<&WholeZones> {
        self.everywhere.as_ref().or_else(|| self.whole.get(host))
    }
}

/// By host, the workloads that call it or were seen to and have a pod among the `old` ones.
fn old_callers(
    snapshot: &Snapshot,
    old: &BTreeMap<&WorkloadRef, &PodName>,
    memory: &Memory,
) -> BTreeMap<HostName, BTreeSet<WorkloadRef>> {
    let edges = snapshot.traffic.known().into_iter().flat_map(|traffic| &traffic.edges);
    let seen = edges.map(|edge| (&edge.host, &edge.caller));
    let remembered = memory
        .hosts
        .iter()
        .flat_map(|(host, kept)| kept.old_callers.iter().map(move |caller| (host, caller)));
    let mut callers: BTreeMap<HostName, BTreeSet<WorkloadRef>> = BTreeMap::new();
    for (host, caller) in seen.chain(remembered).filter(|(_, caller)| old.contains_key(caller)) {
        callers.entry(host.clone()).or_default().insert(caller.clone());
    }
    callers
}

/// By workload, the first pod on a node that is not younger than the name of the node.
fn old_pods(snapshot: &Snapshot) -> BTreeMap<&WorkloadRef, &PodName> {
    let named: BTreeMap<&NodeName, _> =
        snapshot.nodes.iter().map(|node| (&node.name, node.named_since)).collect();
    let is_old = |pod: &&Pod| {
        let node = pod.node.as_ref().filter(|_| pod.phase != PodPhase::Terminating);
        let since = node.and_then(|node| named.get(node).copied().flatten());
        node.is_some() && since.is_none_or(|since| pod.created_at <= since)
    };
    let first = |workload: &'_ Workload| workload.pods.iter().position(|pod| is_old(&pod));
    let workloads = snapshot.workloads.iter();
    workloads.filter_map(|w| Some((&w.id, &w.pods[first(w)?].name))).collect()
}

impl Snapshot {
    /// Why no host can be planned by node; `None` when some may be.
    #[must_use]
    pub fn whole_zones(&self) -> Option<WholeZones> {
        if let Some(reason) = unnameable(&self.nodes) {
            return Some(reason);
        }
        let uncounted = |traffic: &Traffic| traffic.by_node.is_empty() && !traffic.edges.is_empty();
        self.traffic.fresh().is_some_and(uncounted).then_some(WholeZones::NotCounted)
    }

    /// The same cluster with nodes for zones: as it is where [`Self::whole_zones`] says
    /// nothing.
    #[must_use]
    pub fn by_node(&self) -> Self {
        let mut fine = self.clone();
        fine.nodes = nodes_as_places(&self.nodes);
        if let Facts::Fresh { value, .. } | Facts::Stale { value, .. } = &mut fine.traffic {
            value.edges = std::mem::take(&mut value.by_node);
        }
        if let Facts::Fresh { value, .. } | Facts::Stale { value, .. } = &mut fine.latency {
            *value = between_places(value, &self.nodes);
        }
        fine
    }
}

/// Why the nodes of a cluster cannot all be named.
#[must_use]
pub fn unnameable(nodes: &[Node]) -> Option<WholeZones> {
    if nodes.len() > MOST_NODES {
        let nodes = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
        return Some(WholeZones::TooManyNodes { nodes });
    }
    let nameless = nodes.iter().find(|node| node.named_since.is_none())?;
    let node = nameless.name.clone();
    Some(match nameless.subzone() {
        "" => WholeZones::NoLabel { node },
        _ => WholeZones::ForeignLabel { node },
    })
}

/// Each node in a place of its own, undivided.
#[must_use]
pub fn nodes_as_places(nodes: &[Node]) -> Vec<Node> {
    let place = |node: &Node| {
        let mut fine = node.clone();
        fine.zone = node.zone.with_node(&node.name);
        fine.labels.retain(|key, _| key.as_str() != SUBZONE);
        fine
    };
    nodes.iter().map(place).collect()
}

/// Round trips between places: of their nodes where measured, else of their zones.
fn between_places(latency: &Latency, nodes: &[Node]) -> Latency {
    let pairs: BTreeMap<(&NodeName, &NodeName), Millis> =
        latency.nodes.iter().map(|pair| ((&pair.from, &pair.to), pair.rtt)).collect();
    let zones: BTreeMap<(&ZoneName, &ZoneName), Millis> =
        latency.zones.iter().map(|pair| ((&pair.from, &pair.to), pair.rtt)).collect();
    let mut fine = Latency::default();
    for from in nodes {
        for to in nodes {
            let measured = pairs.get(&(&from.name, &to.name)).copied();
            // The figure of a zone with itself is that of two of its nodes.
            let of_zones = zones.get(&(&from.zone, &to.zone)).copied();
            let of_zones = of_zones.filter(|_| from.name != to.name);
            if let Some(rtt) = measured.or(of_zones) {
                let (from, to) = (from.zone.with_node(&from.name), to.zone.with_node(&to.name));
                fine.zones.push(ZoneRoundTrip { from, to, rtt });
            }
        }
    }
    fine.zones.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    fine
}
