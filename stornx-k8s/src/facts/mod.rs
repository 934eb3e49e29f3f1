//! From records to the facts that are decided on. Pure: no clock, no client.
//!
//! | room | joins |
//! | --- | --- |
//! | [`join`] | pods with their workloads, through ReplicaSets; what is left reserves nodes |
//! | [`budgets`] | budgets with the workloads that they cover |
//! | [`hosts`] | Services with the workloads behind them and the rules over them |
//! | [`places`] | nodes with the places that a rule can name |
//! | [`sight`] | one workload at one moment, for steering |
//! | [`workloads`] | all of it to workloads |

mod budgets;
pub(crate) mod hosts;
mod join;
pub(crate) mod places;
pub(crate) mod sight;
#[cfg(test)]
mod tests;
mod workloads;

use std::collections::BTreeSet;

use stornx_core::{
    ids::Namespace,
    model::{ClusterFacts, Mesh, Node, Steering},
};

use self::join::{Joined, join};
use crate::watch::kinds::Tables;

/// The facts of the cluster, workloads in `managed` namespaces marked as managed.
pub(crate) fn assemble(tables: &Tables, managed: &BTreeSet<Namespace>, mesh: Mesh) -> ClusterFacts {
    let mut joined = join(tables);
    let floors = budgets::floors(tables, &joined);
    let regions = places::Regions::of_nodes(tables);
    let hosts = hosts::hosts(tables, &joined, &regions);
    let routable = mesh == Mesh::Routable;
    let mesh = if routable && places::unnamed(tables, &regions) { Mesh::Unnamed } else { mesh };
    ClusterFacts {
        nodes: nodes(tables, &joined),
        workloads: workloads::workloads(tables, &mut joined, &floors, managed),
        hosts,
        mesh,
        // The watches do not know; whoever asks them adds it.
        steering: Steering::default(),
    }
}

fn nodes(tables: &Tables, joined: &Joined<'_>) -> Vec<Node> {
    let with_reserved = |(name, node): (&std::sync::Arc<str>, &Node)| {
        let mut node = node.clone();
        if let Some((resources, pods)) = joined.reserved.get(&**name) {
            (node.reserved, node.reserved_pods) = (*resources, *pods);
        }
        node
    };
    places::nodes(tables).map(with_reserved).collect()
}
