//! Where nodes are, as a rule can name it: `region/zone`.
//!
//! A rule that is in force cuts off every endpoint in a place that it does not name, so
//! that a place without a name is a reason to write none: a node without a zone or a
//! region, or a zone whose name two regions have (in which case one weight would have to
//! be shared between two places, and 1 cannot be). A node without a name that takes no replicas
//! and holds none, as one that has just joined, is no place, whatever daemons run there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use stornx_core::{
    ids::{PodName, RegionName, ZoneName},
    model::{Node, PodPhase},
};

use crate::{
    map::{
        namespace_of,
        node::{is_nameless, is_settled},
        pod::Owner,
        selector::{Selector, TextLabels},
    },
    watch::kinds::Tables,
};

/// The nodes that count.
pub(crate) fn nodes(tables: &Tables) -> impl Iterator<Item = (&Arc<str>, &Node)> {
    let holds = |name: &str| {
        let mut pods = tables.pods.iter();
        pods.any(|(_, pod)| pod.node.as_deref() == Some(name) && pod.owner != Owner::Other)
    };
    tables.nodes.iter().filter(move |(name, node)| is_settled(node) || holds(name))
}

/// The regions of all zones.
pub(crate) struct Regions<'a> {
    by_zone: BTreeMap<&'a ZoneName, BTreeSet<&'a RegionName>>,
    /// The places of all nodes; `None` where one has no name that a rule can say.
    nodes: Option<BTreeSet<ZoneName>>,
}

impl<'a> Regions<'a> {
    pub(crate) fn of_nodes(tables: &'a Tables) -> Self {
        let mut by_zone: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (_, node) in nodes(tables) {
            by_zone.entry(&node.zone).or_default().insert(&node.region);
        }
        let place =
            |(_, node): (_, &Node)| node.named_since.map(|_| node.zone.with_node(&node.name));
        Self { by_zone, nodes: nodes(tables).map(place).collect() }
    }

    /// The places of all nodes, where each has a name.
    pub(crate) const fn nodes(&self) -> Option<&BTreeSet<ZoneName>> {
        self.nodes.as_ref()
    }

    /// All zones.
    pub(crate) fn zones(&self) -> impl Iterator<Item = &'a ZoneName> {
        self.by_zone.keys().copied()
    }

    /// The region of a zone, or of that of a node; `None` when there is no such zone, or two
    /// of the name.
    pub(crate) fn of(&self, zone: &ZoneName) -> Option<&'a RegionName> {
        let regions = match zone.node() {
            None => self.by_zone.get(zone)?,
            Some(_) => self.by_zone.get(&ZoneName::new(zone.domain()).ok()?)?,
        };
        let mut regions = regions.iter().copied();
        regions.next().filter(|_| regions.next().is_none())
    }
}

/// Pods that a label puts elsewhere than their node: the labels of each, by namespace.
pub(crate) struct Displaced<'a>(BTreeMap<&'a str, Vec<&'a TextLabels>>);

impl<'a> Displaced<'a> {
    /// Those that are on a node and not going. Not only replicas of a known workload: any
    /// pod can be an endpoint.
    pub(crate) fn of(tables: &'a Tables) -> Self {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, pod) in tables.pods.iter() {
            let (Some(said), Some(node)) = (&pod.said, &pod.node) else { continue };
            let at_home = tables.nodes.get(&**node).is_some_and(|node| said.is_at(node));
            if !at_home && pod.phase != PodPhase::Terminating {
                found.entry(namespace_of(name.as_str())).or_default().push(&said.labels);
            }
        }
        Self(found)
    }

    /// Whether one of them is behind a Service of this namespace.
    pub(crate) fn behind(&self, namespace: &str, selector: &Selector) -> bool {
        let pods = self.0.get(namespace);
        pods.into_iter().flatten().any(|labels| selector.matches(labels))
    }
}

/// Pods that are not younger than the name of their node, by namespace: the mesh may not know
/// on which node they are. Not only replicas of a known workload: any pod can be an endpoint.
pub(crate) struct Old<'a>(BTreeMap<&'a str, Vec<(&'a PodName, &'a TextLabels)>>);

impl<'a> Old<'a> {
    /// Those that are on a node and not going; none where nodes have no names.
    pub(crate) fn of(tables: &'a Tables) -> Self {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        if tables.nodes.iter().all(|(_, node)| node.named_since.is_none()) {
            return Self(found);
        }
        for (name, pod) in tables.pods.iter() {
            let (Some(labels), Some(node)) = (&pod.labels, &pod.node) else { continue };
            let named = tables.nodes.get(&**node).and_then(|node| node.named_since);
            let old = named.is_none_or(|since| pod.created_at <= since);
            if old && pod.phase != PodPhase::Terminating {
                found.entry(namespace_of(name.as_str())).or_default().push((name, &**labels));
            }
        }
        Self(found)
    }

    /// The first of them behind a Service of this namespace.
    pub(crate) fn behind(&self, namespace: &str, selector: &Selector) -> Option<PodName> {
        let mut pods = self.0.get(namespace).into_iter().flatten();
        pods.find(|(_, labels)| selector.matches(labels)).map(|(name, _)| (*name).clone())
    }
}

/// Whether some place cannot be named that can hold an endpoint.
pub(crate) fn unnamed(tables: &Tables, regions: &Regions<'_>) -> bool {
    regions.zones().any(|zone| regions.of(zone).is_none())
        || nodes(tables).any(|(_, node)| is_nameless(node))
}
