//! The service graph: rates, latencies and weights by edge and by pair of zones, and their
//! sums over the cluster.

use std::collections::BTreeMap;

use stornx_core::{
    engine::CycleOutcome,
    ids::{HostName, WorkloadRef, ZoneName},
    model::{Edge as Seen, RouteTable, RouteTraffic, Rule, Snapshot},
    plan::Action,
    policy::PricePolicy,
};

use super::{Edge, Edges, MOST_EDGES, Route, round, share};

/// Weights that stand after a cycle, by host.
pub(super) fn weights(outcome: &CycleOutcome) -> BTreeMap<&HostName, &RouteTable> {
    let hosts = outcome.snapshot.iter().flat_map(|snapshot| &snapshot.hosts);
    let mut weights: BTreeMap<_, _> = hosts
        .filter_map(|host| match &host.rule {
            Rule::Ours(table) => Some((&host.name, table)),
            Rule::None | Rule::Foreign(_) => None,
        })
        .collect();
    for action in outcome.done() {
        match action {
            Action::SetRoutes { host, to, .. } => drop(weights.insert(host, to)),
            Action::GiveBackRoutes { host, .. } => drop(weights.remove(host)),
            _ => {}
        }
    }
    weights
}

/// Sums that are weighted by requests.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) requests: f64,
    crossing: f64,
    failing: f64,
    /// Requests with a p95, and the sum of both.
    timed: (f64, f64),
    /// US dollars an hour.
    pub(super) usd_per_hour: f64,
}

impl Sums {
    fn add(&mut self, route: &RouteTraffic) {
        let requests = route.requests.get();
        self.requests += requests;
        self.failing += requests * route.errors.get();
        if route.from != route.to {
            self.crossing += requests;
        }
        if let Some(p95) = route.p95 {
            self.timed.0 += requests;
            self.timed.1 += requests * p95.get();
        }
    }

    pub(super) fn p95(&self) -> Option<f64> {
        (self.timed.0 > 0.0).then(|| round(self.timed.1 / self.timed.0))
    }

    /// `None` where there are no requests.
    pub(super) fn cross_zone(&self) -> Option<f64> {
        self.share(self.crossing)
    }

    /// `None` where there are no requests.
    pub(super) fn errors(&self) -> Option<f64> {
        self.share(self.failing)
    }

    fn share(&self, part: f64) -> Option<f64> {
        (self.requests > 0.0).then(|| share(part / self.requests))
    }
}

/// The sums over all edges; `None` when traffic is not known.
pub(super) fn total(snapshot: &Snapshot, price: &PricePolicy) -> Option<Sums> {
    let regions: BTreeMap<_, _> =
        snapshot.nodes.iter().map(|node| (&node.zone, &node.region)).collect();
    let per_gigabyte = |from: &ZoneName, to: &ZoneName| {
        if from == to {
            0.0
        } else if regions.get(from) == regions.get(to) {
            price.cross_zone.get()
        } else {
            price.cross_region.get()
        }
    };
    let traffic = snapshot.traffic.known()?;
    let mut sums = Sums::default();
    for route in traffic.edges.iter().flat_map(|edge| &edge.routes) {
        sums.add(route);
        let bytes = (route.request_bytes + route.response_bytes).get();
        sums.usd_per_hour += bytes * 3600.0 / 1e9 * per_gigabyte(&route.from, &route.to);
    }
    Some(sums)
}

/// Requests that are answered in each zone.
pub(super) fn answered(snapshot: &Snapshot) -> Option<BTreeMap<&ZoneName, f64>> {
    let mut answered = BTreeMap::new();
    for route in snapshot.traffic.known()?.edges.iter().flat_map(|edge| &edge.routes) {
        *answered.entry(&route.to).or_default() += route.requests.get();
    }
    Some(answered)
}

/// The edges of services whose names contain a text.
pub(crate) fn found(outcome: &CycleOutcome, text: &str) -> Edges {
    let Some(snapshot) = &outcome.snapshot else { return Edges::default() };
    let text = text.to_lowercase();
    let names = |id: &WorkloadRef| id.as_str().to_lowercase().contains(&text);
    let hit = |edge: &Seen| names(&edge.caller) || names(&edge.callee);
    let (edges, left_out) = edges(snapshot, &weights(outcome), hit);
    Edges { edges, left_out }
}

/// The edges with most requests of those wanted, and how many are left out.
pub(super) fn edges(
    snapshot: &Snapshot,
    weights: &BTreeMap<&HostName, &RouteTable>,
    wanted: impl Fn(&Seen) -> bool,
) -> (Vec<Edge>, usize) {
    let Some(traffic) = snapshot.traffic.known() else { return (Vec::new(), 0) };
    let all = traffic.edges.iter().filter(|edge| wanted(edge));
    let mut seen: Vec<_> = all.map(|edge| (edge.requests().get(), edge)).collect();
    // Edges lie in the order of their names: equals stay so.
    seen.sort_by(|a, b| b.0.total_cmp(&a.0));
    let left_out = seen.len().saturating_sub(MOST_EDGES);
    seen.truncate(MOST_EDGES);
    let table = |edge: &Seen| weights.get(&edge.host).copied();
    (seen.into_iter().map(|(_, edge)| one(edge, table(edge))).collect(), left_out)
}

fn one(edge: &Seen, weights: Option<&RouteTable>) -> Edge {
    let mut sums = Sums::default();
    edge.routes.iter().for_each(|route| sums.add(route));
    let route = |route: &RouteTraffic| Route {
        from: route.from.clone(),
        to: route.to.clone(),
        requests: round(route.requests.get()),
        p95_ms: route.p95.map(|p95| round(p95.get())),
        weight: weights
            .and_then(|table| table.get(&route.from))
            .map(|distribution| distribution.weight(&route.to)),
    };
    Edge {
        caller: edge.caller.to_string(),
        callee: edge.callee.to_string(),
        host: edge.host.to_string(),
        requests: round(sums.requests),
        p95_ms: sums.p95(),
        errors: sums.errors().unwrap_or_default(),
        cross_zone: sums.cross_zone().unwrap_or_default(),
        bytes: edge.bytes().get().round(),
        routes: edge.routes.iter().map(route).collect(),
    }
}
