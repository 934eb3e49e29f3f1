//! How the requests of one callee would be split over zones for a given layout: what
//! OptiBalancer steers towards (own zone first, no zone above the cap, the reserve for
//! every zone), or what the mesh does by itself where no rule of ours stands.
//!
//! This is an estimate for comparing layouts, not the target itself: a greedy
//! transport in order of cost. Where all other zones are equally far it is exact, and
//! with real round trips it differs from the optimum only when two overflowing zones
//! compete for the nearest room.

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
        let mut hosts = edges.filter_map(|edge| edge.host).map(|host| &view.hosts[host.at()]);
        let Some(host) = hosts.next() else { return Self::ByReplicas };
        let settings = &callee.workload.policy;
        let may_write = view.policy.balancer.enabled
            && view.snapshot.mesh == Mesh::Routable
            && callee.workload.managed
            && !settings.opted_out
            && !settings.no_routing
            && host.workload == Some(workload);
        match (&host.host.rule, host.host.default_split) {
            (Rule::None | Rule::Ours(_), _) if may_write => Self::Ours,
            (Rule::Foreign(ForeignRule::Failover | ForeignRule::ZoneAware), _)
            | (Rule::None, DefaultSplit::OwnZoneFirst) => Self::OwnZoneFirst,
            _ => Self::ByReplicas,
        }
    }
}

/// The pairs of zones from the nearest to the farthest, own zones before all others;
/// ties by index. Made once for a plan, so that a split needs no sorting.
pub(super) fn pairs_by_cost(view: &View<'_>) -> Vec<(u32, u32)> {
    // The price of a typical request: only the order of zones depends on it, and only
    // where round trips are alike.
    const BYTES: f64 = 2048.0;
    let zones = view.zones.len();
    let cost = |(from, to): (usize, usize)| {
        view.route_cost(ZoneIndex::new(from), ZoneIndex::new(to), BYTES)
    };
    let mut pairs: Vec<_> = (0..zones).flat_map(|i| (0..zones).map(move |j| (i, j))).collect();
    pairs.sort_by(|a, b| (a.0 != a.1).cmp(&(b.0 != b.1)).then(cost(*a).total_cmp(&cost(*b))));
    let narrow = |zone| u32::try_from(zone).unwrap_or(u32::MAX);
    pairs.into_iter().map(|(i, j)| (narrow(i), narrow(j))).collect()
}

/// What splitting needs to know besides the layout.
pub(super) struct Splitting<'a> {
    pub(super) router: Router,
    pub(super) pairs: &'a [(u32, u32)],
    /// Requests/s that one replica serves at the cap; `None` when not known.
    pub(super) per_replica: Option<f64>,
    /// Least share of each zone that holds a replica.
    pub(super) reserve: Percent,
}

/// Writes the share of the demand of zone `i` that zone `j` serves to
/// `split[i * zones + j]`. Rows sum to 1; all are 0 when nothing serves. `scratch`
/// has twice the length of `counts`.
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
    let (room, left) = scratch.split_at_mut(zones);
    let total: f64 = demand.iter().sum();
    let replicas: f64 = counts.iter().sum();
    let holding = counts.iter().filter(|count| **count > 0.0).count() as f64;
    let reserve = (with.reserve.get() / 100.0).min(1.0 / holding);
    let per_replica = with.per_replica.unwrap_or(ASSUMED_HEADROOM * total / replicas);
    for (j, room) in room.iter_mut().enumerate() {
        *room = (counts[j] * per_replica - reserve * total).max(0.0);
        if counts[j] > 0.0 {
            split.iter_mut().skip(j).step_by(zones).for_each(|share| *share = reserve);
        }
    }
    // What is left to place of each caller zone is 1 minus its row so far.
    let free = (1.0 - reserve * holding).max(0.0);
    let mut placed = 0.0;
    let to_place = free * total;
    if to_place > 0.0 {
        left.iter_mut().zip(demand).for_each(|(left, demand)| *left = demand * free);
        for (i, j) in with.pairs {
            let (i, j) = (*i as usize, *j as usize);
            if left[i] <= 0.0 || room[j] <= 0.0 || counts[j] <= 0.0 {
                continue;
            }
            let flow = left[i].min(room[j]);
            left[i] -= flow;
            room[j] -= flow;
            placed += flow;
            split[i * zones + j] += flow / demand[i];
            if placed >= to_place {
                break;
            }
        }
        // More than all zones may take: the excess is shared by every replica alike.
        for (i, left) in left.iter().enumerate().filter(|(_, left)| **left > 1e-12) {
            for j in 0..zones {
                split[i * zones + j] += left / demand[i] * counts[j] / replicas;
            }
        }
    }
    for (i, row) in split.chunks_exact_mut(zones).enumerate().filter(|(i, _)| demand[*i] <= 0.0) {
        row.fill(0.0);
        let nearest =
            with.pairs.iter().find(|(from, to)| *from as usize == i && counts[*to as usize] > 0.0);
        if let Some((_, to)) = nearest {
            row[*to as usize] = 1.0;
        }
    }
}
