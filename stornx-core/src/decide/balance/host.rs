//! Everything known of one host in one cycle: observation, beliefs and the world that its
//! target is decided in.

use super::{
    capacity::{Beliefs, Estimate, estimate},
    congestion::{self, Queue},
    observe::{Changing, Observation},
    target::{Destination, Distance, HostWorld},
};
use crate::{
    memory::HostMemory,
    units::Millis,
    view::{HostIndex, View, WorkloadIndex, ZoneIndex},
};

/// Other zones whose cost is within this ratio of the nearest of them are equally far:
/// measured round trips vary by some per cent from minute to minute, and traffic that
/// follows the variation writes rules for nothing.
const EQUALLY_FAR: f64 = 1.15;

/// One host in one cycle.
pub(crate) struct HostState {
    pub(crate) seen: Observation,
    pub(crate) beliefs: Beliefs,
    /// p95 above which answers are slow.
    pub(crate) threshold: Millis,
    /// The workload behind it.
    workload: WorkloadIndex,
}

impl HostState {
    /// Observes a host and blends what is remembered of it. `changing` is what
    /// is about to change of its replicas.
    pub(crate) fn new(
        view: &View<'_>,
        host: HostIndex,
        workload: WorkloadIndex,
        memory: Option<&HostMemory>,
        changing: Changing<'_>,
    ) -> Self {
        let own = view.workloads[workload.at()].workload.policy.response_time;
        let threshold = own.unwrap_or(view.policy.scaler.response_time);
        let seen = Observation::of(view, host, workload, changing);
        let beliefs = Beliefs::form(view, memory, &seen, threshold);
        Self { seen, beliefs, threshold, workload }
    }

    /// What each zone can serve.
    pub(crate) fn estimates(&self, view: &View<'_>) -> Vec<Estimate> {
        let cap = view.policy.balancer.max_utilisation.get() / 100.0;
        estimate(&self.beliefs, &self.seen, cap, view.now)
    }

    /// The world of its target.
    pub(crate) fn world(&self, view: &View<'_>, estimates: &[Estimate]) -> HostWorld {
        let destinations = estimates
            .iter()
            .zip(&self.seen.zones)
            .enumerate()
            .map(|(at, (estimate, zone))| Destination {
                ready: zone.staying,
                queue: Queue {
                    full: estimate.full,
                    service: estimate.service,
                    servers: congestion::servers(self.seen.cores, zone.staying),
                },
                penalty: self.beliefs.penalty(at),
            })
            .collect();
        let travel = travel(view, self.seen.bytes_per_request);
        HostWorld::new(self.beliefs.demand.clone(), travel, destinations, &view.policy.balancer)
            .divided(&view.workloads[self.workload.at()].groups)
    }
}

/// The distance of each pair of zones, row-major, other zones that are about equally far
/// taken as equally far.
fn travel(view: &View<'_>, bytes_per_request: f64) -> Vec<Distance> {
    let zones = view.zones.len();
    let mut travel = Vec::with_capacity(zones * zones);
    let mut order: Vec<usize> = Vec::with_capacity(zones);
    for from in 0..zones {
        let row = travel.len();
        for to in 0..zones {
            let (from, to) = (ZoneIndex::new(from), ZoneIndex::new(to));
            travel.push(Distance {
                round_trip: view.latency.between_zones(from, to),
                priced: view.route_cost(from, to, bytes_per_request),
                crosses: view.zones[from.at()].name.domain() != view.zones[to.at()].name.domain(),
            });
        }
        order.clear();
        order.extend((0..zones).filter(|to| *to != from));
        order.sort_by(|a, b| {
            travel[row + a].priced.total_cmp(&travel[row + b].priced).then(a.cmp(b))
        });
        let mut at = 0;
        while at < order.len() {
            let nearest = travel[row + order[at]].priced;
            let near = |to: &&usize| travel[row + **to].priced <= EQUALLY_FAR * nearest;
            let group = &order[at..at + order[at..].iter().take_while(near).count().max(1)];
            let sum: f64 = group.iter().map(|to| travel[row + to].priced).sum();
            for to in group {
                travel[row + to].priced = sum / group.len() as f64;
            }
            at += group.len();
        }
    }
    travel
}
