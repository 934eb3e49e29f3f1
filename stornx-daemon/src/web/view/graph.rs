//! The service graph: rates, latencies and weights by edge and by pair of zones, and their
//! sums over the cluster.

use std::{borrow::Cow, collections::BTreeMap};

use stornx_core::{
    engine::CycleOutcome,
    ids::{HostName, ZoneName},
    model::{Distribution, Edge as Seen, RouteTable, RouteTraffic, Rule, Snapshot},
    plan::Action,
    policy::PricePolicy,
};

use super::{Edge, Flow, MOST_EDGES, MOST_FLOWS, Route, round, share};

/// Weights by zone.
pub(super) struct Weights<'a> {
    pub(super) table: Cow<'a, RouteTable>,
    /// They are means: what stands was written by node.
    pub(super) by_node: bool,
}

/// Weights of all hosts that have any.
pub(super) type AllWeights<'a> = BTreeMap<&'a HostName, Weights<'a>>;

/// Weights that stand after a cycle, by host.
pub(super) fn weights(outcome: &CycleOutcome) -> AllWeights<'_> {
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
    let one = |table| match by_zone(table) {
        Some(means) => Weights { table: Cow::Owned(means), by_node: true },
        None => Weights { table: Cow::Borrowed(table), by_node: false },
    };
    weights.into_iter().map(|(host, table)| (host, one(table))).collect()
}

/// The means over the nodes of each zone, where a table is one of nodes.
fn by_zone(table: &RouteTable) -> Option<RouteTable> {
    let mut places = table
        .iter()
        .flat_map(|(from, split)| std::iter::once(from).chain(split.iter().map(|(to, _)| to)));
    if !places.any(|place| place.node().is_some()) {
        return None;
    }
    // Sums of weights, and of how many callers.
    let mut sums = BTreeMap::<&str, (BTreeMap<&str, u32>, u32)>::new();
    for (from, split) in table {
        let (row, callers) = sums.entry(from.domain()).or_default();
        *callers += 1;
        for (to, weight) in split.iter() {
            *row.entry(to.domain()).or_default() += u32::from(weight);
        }
    }
    let means = sums
        .into_iter()
        .filter_map(|(from, (row, callers))| Some((from.parse().ok()?, mean(&row, callers)?)));
    Some(means.collect())
}

/// Whole percentages that sum to 100: what is missing goes to the largest remainders.
fn mean(row: &BTreeMap<&str, u32>, callers: u32) -> Option<Distribution> {
    let mut order: Vec<_> =
        row.iter().map(|(to, sum)| (*to, sum / callers, sum % callers)).collect();
    order.sort_by_key(|(_, _, rest)| std::cmp::Reverse(*rest));
    let mut missing = 100_u32.checked_sub(order.iter().map(|(_, whole, _)| whole).sum())?;
    let mut weights = BTreeMap::new();
    for (to, whole, _) in order {
        let more = missing.min(1);
        missing -= more;
        if whole + more > 0 {
            weights.insert(to.parse().ok()?, u8::try_from(whole + more).ok()?);
        }
    }
    Distribution::new(weights).ok()
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

/// Calls by pair of zones over all edges, and how many pairs are left out.
pub(super) fn flows(snapshot: &Snapshot) -> (Vec<Flow>, usize) {
    let edges = snapshot.traffic.known().into_iter().flat_map(|traffic| &traffic.edges);
    let mut pairs = BTreeMap::<_, Sums>::new();
    for route in edges.flat_map(|edge| &edge.routes) {
        pairs.entry((&route.from, &route.to)).or_default().add(route);
    }
    let mut all: Vec<_> = pairs.into_iter().collect();
    all.sort_by(|(_, a), (_, b)| b.requests.total_cmp(&a.requests));
    let left_out = all.len().saturating_sub(MOST_FLOWS);
    all.truncate(MOST_FLOWS);
    let flow = |((from, to), sums): ((&ZoneName, &ZoneName), Sums)| Flow {
        from: from.clone(),
        to: to.clone(),
        requests: round(sums.requests),
        p95_ms: sums.p95(),
    };
    (all.into_iter().map(flow).collect(), left_out)
}

/// The share of the calls from each zone that stays there, over all edges.
pub(super) fn stays(snapshot: &Snapshot) -> BTreeMap<&ZoneName, f64> {
    let edges = snapshot.traffic.known().into_iter().flat_map(|traffic| &traffic.edges);
    let mut from = BTreeMap::<_, Sums>::new();
    for route in edges.flat_map(|edge| &edge.routes) {
        from.entry(&route.from).or_default().add(route);
    }
    let stays = |(zone, sums): (_, Sums)| Some((zone, share(1.0 - sums.cross_zone()?)));
    from.into_iter().filter_map(stays).collect()
}

/// The edges with most requests of those wanted, and how many are left out.
pub(super) fn edges(
    snapshot: &Snapshot,
    weights: &AllWeights<'_>,
    wanted: impl Fn(&Seen) -> bool,
) -> (Vec<Edge>, usize) {
    let Some(traffic) = snapshot.traffic.known() else { return (Vec::new(), 0) };
    let all = traffic.edges.iter().filter(|edge| wanted(edge));
    let mut seen: Vec<_> = all.map(|edge| (edge.requests().get(), edge)).collect();
    // Edges lie in the order of their names: equals stay so.
    seen.sort_by(|a, b| b.0.total_cmp(&a.0));
    let left_out = seen.len().saturating_sub(MOST_EDGES);
    seen.truncate(MOST_EDGES);
    let table = |edge: &Seen| weights.get(&edge.host).map(|weights| weights.table.as_ref());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_by_node_are_shown_as_means_by_zone() {
        let split = |parts: &[(&str, u8)]| {
            let weights = parts.iter().map(|(to, weight)| (to.parse().unwrap(), *weight));
            Distribution::new(weights.collect()).unwrap()
        };
        let plain = RouteTable::from([("a".parse().unwrap(), split(&[("a", 100)]))]);
        assert_eq!(by_zone(&plain), None);
        let fine = RouteTable::from([
            ("a/n1".parse().unwrap(), split(&[("a/n1", 90), ("a/n2", 5), ("b/n4", 5)])),
            ("a/n2".parse().unwrap(), split(&[("a/n1", 10), ("b/n4", 40), ("c/n5", 50)])),
            ("a/n3".parse().unwrap(), split(&[("a/n2", 100)])),
            ("b/n4".parse().unwrap(), split(&[("b/n4", 100)])),
        ]);
        // Of 205, 45 and 50 in three: 68.3, 15 and 16.7.
        let means = RouteTable::from([
            ("a".parse().unwrap(), split(&[("a", 68), ("b", 15), ("c", 17)])),
            ("b".parse().unwrap(), split(&[("b", 100)])),
        ]);
        assert_eq!(by_zone(&fine), Some(means));
    }
}
