//! How the requests of one callee would be split over zones for a given layout: what
//! OptiBalancer steers towards (own zone first, elsewhere before it waits, no zone above
//! the cap, the reserve for every zone), or what the mesh does by itself where no rule of
//! ours stands.
//!
//! This is an estimate for comparing layouts, not the target itself: a greedy transport
//! in order of cost, over two tiers of each zone (calm, and busy up to the cap, where
//! each request costs the waiting that it adds). It differs from the optimum when two
//! overflowing zones compete for the nearest room, and the one that gets it had another
//! choice: with equally far zones a test finds it a hundredth dearer on the mean.

use crate::{
    model::{DefaultSplit, ForeignRule, Mesh, Rule},
    units::Percent,
    view::{View, WorkloadIndex, ZoneIndex},
};

/// Share of the cap that today's demand is taken to fill where nothing is known of
/// capacity: replicas serve alike, and a zone takes up to half as much again as its
/// even share before requests go elsewhere. More would pile up what nobody measures,
/// less would find every layout but the even one full.
const ASSUMED_HEADROOM: f64 = 1.5;

/// Who splits the requests of a callee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Router {
    /// OptiBalancer.
    Ours,
    /// The mesh: the caller's own zone while it has a replica.
    OwnZoneFirst,
    /// The mesh: every replica alike.
    ByReplicas,
}

impl Router {
    /// Who splits the requests of a workload, by the first host that stands for it.
    pub(super) fn of(view: &View<'_>, workload: WorkloadIndex) -> Self {
        let callee = &view.workloads[workload.at()];
        let edges = callee.called_by.iter().map(|edge| &view.edges[edge.at()]);
        let Some(at) = edges.filter_map(|edge| edge.host).next() else { return Self::ByReplicas };
        let host = &view.hosts[at.at()];
        let settings = &callee.workload.policy;
        let may_write = view.policy.balancer.enabled
            && view.snapshot.mesh == Mesh::Routable
            && callee.workload.managed
            && !settings.opted_out
            && !settings.no_routing
            && host.workload == Some(workload)
            && !host.host.displaced
            && !host.host.foreign_endpoints
            && !view.unread(at);
        match (&host.host.rule, host.host.default_split) {
            (Rule::None | Rule::Ours(_), _) if may_write => Self::Ours,
            (Rule::Foreign(ForeignRule::Failover | ForeignRule::ZoneAware), _)
            | (Rule::None, DefaultSplit::OwnZoneFirst) => Self::OwnZoneFirst,
            _ => Self::ByReplicas,
        }
    }
}

/// A pair of zones with what a request pays for its route, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pair {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) cost: f64,
}

/// The pairs of zones from the nearest to the farthest; ties by index. Made once for a
/// plan, so that a split needs no sorting.
pub(super) fn pairs_by_cost(view: &View<'_>) -> Vec<Pair> {
    // The price of a typical request: only the order of zones depends on it, and only
    // where round trips are alike.
    const BYTES: f64 = 2048.0;
    let zones = view.zones.len();
    let pair = |from: usize, to: usize| {
        let cost = view.route_cost(ZoneIndex::new(from), ZoneIndex::new(to), BYTES);
        Pair { from, to, cost }
    };
    let mut pairs: Vec<_> =
        (0..zones).flat_map(|from| (0..zones).map(move |to| pair(from, to))).collect();
    pairs.sort_by(|a, b| {
        let own = |pair: &Pair| pair.from != pair.to;
        a.cost
            .total_cmp(&b.cost)
            .then(own(a).cmp(&own(b)))
            .then((a.from, a.to).cmp(&(b.from, b.to)))
    });
    pairs
}

/// What a replica serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ability {
    /// Requests/s without anyone waiting.
    pub(super) calm: f64,
    /// Requests/s at the cap.
    pub(super) cap: f64,
    /// What each request between the two costs all others in waiting, milliseconds.
    pub(super) waiting: f64,
}

/// What splitting needs to know besides the layout.
pub(super) struct Splitting<'a> {
    pub(super) router: Router,
    pub(super) pairs: &'a [Pair],
    /// `None` when not known.
    pub(super) replica: Option<Ability>,
    /// Least share of each zone that holds a replica.
    pub(super) reserve: Percent,
}

/// Writes the share of the demand of zone `i` that zone `j` serves to
/// `split[i * zones + j]`. Rows sum to 1; all are 0 when nothing serves. `scratch`
/// has three times the length of `counts`.
pub(super) fn split(
    with: &Splitting<'_>,
    demand: &[f64],
    counts: &[f64],
    scratch: &mut [f64],
    split: &mut [f64],
) {
    split.fill(0.0);
    let replicas: f64 = counts.iter().sum();
    if replicas <= 0.0 {
        return;
    }
    match with.router {
        Router::Ours => local_first(with, demand, counts, scratch, split),
        Router::OwnZoneFirst => by_replicas(counts, replicas, split, true),
        Router::ByReplicas => by_replicas(counts, replicas, split, false),
    }
}

fn by_replicas(counts: &[f64], replicas: f64, split: &mut [f64], own_zone_first: bool) {
    let zones = counts.len();
    for (i, row) in split.chunks_exact_mut(zones).enumerate() {
        if own_zone_first && counts[i] > 0.0 {
            row[i] = 1.0;
        } else {
            row.iter_mut().zip(counts).for_each(|(share, count)| *share = count / replicas);
        }
    }
}

fn local_first(
    with: &Splitting<'_>,
    demand: &[f64],
    counts: &[f64],
    scratch: &mut [f64],
    split: &mut [f64],
) {
    let zones = counts.len();
    let (calm, rest) = scratch.split_at_mut(zones);
    let (busy, left) = rest.split_at_mut(zones);
    let total: f64 = demand.iter().sum();
    let replicas: f64 = counts.iter().sum();
    let holding = counts.iter().filter(|count| **count > 0.0).count() as f64;
    let reserve = (with.reserve.get() / 100.0).min(1.0 / holding);
    let assumed = ASSUMED_HEADROOM * total / replicas;
    let replica = with.replica.unwrap_or(Ability { calm: assumed, cap: assumed, waiting: 0.0 });
    for to in 0..zones {
        if counts[to] > 0.0 {
            split.iter_mut().skip(to).step_by(zones).for_each(|share| *share = reserve);
        }
        let taken = reserve * total;
        calm[to] = (counts[to] * replica.calm - taken).max(0.0);
        busy[to] = (counts[to] * replica.cap - taken).max(0.0) - calm[to];
    }
    // What is left to place of each caller zone is 1 minus its row so far.
    let free = (1.0 - reserve * holding).max(0.0);
    left.iter_mut().zip(demand).for_each(|(left, demand)| *left = demand * free);
    // Both tiers in order of cost: the calm one of a pair comes before its busy one.
    let (mut next_calm, mut next_busy) = (0, 0);
    let mut open = left.iter().filter(|left| **left > 0.0).count();
    while open > 0 && next_busy < with.pairs.len() {
        let busy_cost = with.pairs[next_busy].cost + replica.waiting;
        let take_calm = with.pairs.get(next_calm).is_some_and(|pair| pair.cost <= busy_cost);
        let (pair, room) = if take_calm {
            next_calm += 1;
            (with.pairs[next_calm - 1], &mut *calm)
        } else {
            next_busy += 1;
            (with.pairs[next_busy - 1], &mut *busy)
        };
        let Pair { from, to, .. } = pair;
        let flow = left[from].min(room[to]);
        if flow > 0.0 {
            left[from] -= flow;
            room[to] -= flow;
            split[from * zones + to] += flow / demand[from];
            open -= usize::from(left[from] <= 0.0);
        }
    }
    // More than all zones may take: the excess is shared by every replica alike.
    for (from, left) in left.iter().enumerate().filter(|(_, left)| **left > 1e-12) {
        for to in 0..zones {
            split[from * zones + to] += left / demand[from] * counts[to] / replicas;
        }
    }
    for (from, row) in split.chunks_exact_mut(zones).enumerate() {
        if demand[from] <= 0.0 {
            // Nobody calls from here: what one request would do.
            row.fill(0.0);
            let holds = |pair: &&Pair| pair.from == from && counts[pair.to] > 0.0;
            if let Some(nearest) = with.pairs.iter().find(holds) {
                row[nearest.to] = 1.0;
            }
        }
    }
}
