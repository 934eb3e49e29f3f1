//! What a change of routes is compared with: hosts whose routes it does not touch, over
//! the same time.
//!
//! Not touched is a host that was not written itself since shortly before, that does not
//! call the changed workload through however many others (its answers contain ours), and
//! that is not called by it (its load may come from other zones now). Of those the busiest
//! [`MOST`] are remembered with what their callers saw: later the same ones are asked,
//! less those that have been written meanwhile.
//!
//! Where everything is being written at once nothing is left to compare with, and the
//! judgement says so.

use std::collections::BTreeMap;

use super::verify;
use crate::{
    decide::evidence::slowdown,
    ids::HostName,
    memory::{HostMemory, Untouched},
    units::{Millis, Rps, Share, Timestamp},
    view::{HostIndex, Seen, View, WorkloadIndex},
};

/// Hosts that are remembered: enough that one of them having a bad minute is not taken
/// for the cluster, few enough that the memory stays small.
const MOST: usize = 8;

/// What changed for those that were not touched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Common {
    /// By what factor they got slower; at least 1.
    pub(crate) slowdown: f64,
    /// By how much their share of failures rose; at least 0.
    pub(crate) failures: f64,
    /// How many there were.
    pub(crate) hosts: u32,
}

#[cfg(test)]
impl Common {
    /// Nothing to compare with: nothing is explained by it.
    pub(crate) const NONE: Self = Self { slowdown: 1.0, failures: 0.0, hosts: 0 };
}

/// The hosts that are called, the busiest first.
pub(crate) struct Busiest(Vec<(f64, usize)>);

impl Busiest {
    /// Ranks them.
    pub(crate) fn of(view: &View<'_>) -> Self {
        let hosts = (0..view.hosts.len()).map(|at| (requests(view, at), at));
        let mut hosts: Vec<(f64, usize)> = hosts.filter(|(requests, _)| *requests > 0.0).collect();
        hosts.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Self(hosts)
    }
}

/// Chooses and records what a run that begins now will be compared with. `written` says
/// when each host was written last, this cycle's writes included.
pub(crate) fn record(
    view: &View<'_>,
    host: HostIndex,
    workload: WorkloadIndex,
    written: &[Option<Timestamp>],
    Busiest(busiest): &Busiest,
) -> BTreeMap<HostName, Untouched> {
    let around = around(view, workload);
    let (from, _) = verify::seen_window(view);
    let candidates = busiest
        .iter()
        .copied()
        .filter(|(_, at)| *at != host.at() && written[*at].is_none_or(|at| at < from))
        .filter(|(_, at)| {
            view.hosts[*at].edges.iter().all(|edge| !touches(view, &around, edge.at()))
        });
    let record = |(requests, at): (f64, usize)| {
        let seen = of_host(view, at);
        let untouched = Untouched {
            p95: seen.p95.get().map(Millis::saturating),
            errors: Share::saturating(seen.errors.get().unwrap_or(0.0)),
            requests: Rps::saturating(requests),
        };
        (view.hosts[at].host.name.clone(), untouched)
    };
    candidates.take(MOST).map(record).collect()
}

/// Whether the calls of an edge may feel a change of the routes to a workload.
fn touches(view: &View<'_>, around: &[bool], edge: usize) -> bool {
    let edge = &view.edges[edge];
    around[edge.callee.at()]
}

/// The workload, those that it calls, and all that reach it by calls.
fn around(view: &View<'_>, workload: WorkloadIndex) -> Vec<bool> {
    let mut around = vec![false; view.workloads.len()];
    let mut open = vec![workload];
    around[workload.at()] = true;
    while let Some(next) = open.pop() {
        for edge in &view.workloads[next.at()].called_by {
            let caller = view.edges[edge.at()].caller;
            if !std::mem::replace(&mut around[caller.at()], true) {
                open.push(caller);
            }
        }
    }
    for edge in &view.workloads[workload.at()].calls {
        around[view.edges[edge.at()].callee.at()] = true;
    }
    around
}

fn requests(view: &View<'_>, host: usize) -> f64 {
    view.hosts[host].edges.iter().map(|edge| view.edges[edge.at()].requests).sum()
}

fn of_host(view: &View<'_>, host: usize) -> Seen {
    view.hosts[host].edges.iter().map(|edge| view.edges[edge.at()].seen).sum()
}

/// What has changed since for those that were recorded and are untouched still. Each
/// counts by the requests that it had then, so that a change of the mix changes nothing.
pub(crate) fn common(
    view: &View<'_>,
    hosts: &BTreeMap<HostName, HostMemory>,
    run: &HostMemory,
    since: Timestamp,
) -> Common {
    let (mut before, mut after) = (Seen::default(), Seen::default());
    let mut compared = 0;
    for (name, then) in &run.untouched {
        let written = hosts.get(name).and_then(|memory| memory.written_at);
        if written.is_some_and(|at| at >= since) {
            continue;
        }
        let Ok(at) = view.hosts.binary_search_by(|host| host.host.name.cmp(name)) else { continue };
        let now = of_host(view, at);
        let Some(errors) = now.errors.get() else { continue };
        let weight = then.requests.get();
        before.errors.add(then.errors.get(), weight);
        after.errors.add(errors, weight);
        if let (Some(then), Some(now)) = (then.p95, now.p95.get()) {
            before.p95.add(then.get(), weight);
            after.p95.add(now, weight);
        }
        compared += 1;
    }
    let rise = after.errors.get().unwrap_or(0.0) - before.errors.get().unwrap_or(0.0);
    Common {
        slowdown: slowdown(before.p95.get(), after.p95.get()),
        failures: rise.max(0.0),
        hosts: compared,
    }
}
