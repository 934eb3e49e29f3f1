//! How full a node is by what its pods ask for. The fallback where no traffic is known
//! to be near to, and what decides between nodes that are equally near.
//!
//! Known weakness: counts requests, not usage; a node full of idle pods looks busy.

use crate::{
    decide::ledger::Ledger,
    view::{NodeIndex, View},
};

/// Requested share of a node after all promises, 0 to 1: CPU and memory by
/// `CPU_WEIGHT` and `MEMORY_WEIGHT`.
pub(crate) fn used_share(view: &View<'_>, ledger: &Ledger, node: NodeIndex) -> f64 {
    let policy = &view.policy.scaler;
    let (cpu, memory) = (policy.cpu_weight.get(), policy.memory_weight.get());
    let offered = view.nodes[node.at()].node.allocatable;
    let free = ledger.free(node);
    let weighted = cpu * used(free.cpu.as_f64(), offered.cpu.as_f64())
        + memory * used(free.memory.as_f64(), offered.memory.as_f64());
    weighted / (cpu + memory).max(f64::MIN_POSITIVE)
}

/// A node that offers nothing is full.
fn used(free: f64, offered: f64) -> f64 {
    if offered > 0.0 { 1.0 - free / offered } else { 1.0 }
}
