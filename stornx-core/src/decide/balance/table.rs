//! Between the routes of a host as names and its split as numbers: what stands now, and
//! whether every zone is named.

use super::split::{Split, complete, proportional_row};
use crate::{
    ids::ZoneName,
    model::{DefaultSplit, Distribution, Host, RouteTable, Rule},
    view::View,
};

/// The split that stands.
pub(crate) struct Standing {
    /// As it is, or as the mesh splits without a rule, with every zone named.
    pub(crate) split: Split,
    /// A rule of ours stands, and `split` is not what it says: some zone that can hold an
    /// endpoint is not named, or a named one is gone.
    pub(crate) broken: bool,
}

impl Standing {
    /// The same as names: the rule of ours itself where one stands.
    pub(crate) fn table(&self, view: &View<'_>, host: &Host) -> Option<RouteTable> {
        match &host.rule {
            Rule::Ours(table) => Some(table.clone()),
            _ => to_table(view, &self.split),
        }
    }
}

/// What stands for a host whose workload has `ready` replicas by zone.
pub(crate) fn standing(view: &View<'_>, host: &Host, ready: &[u32]) -> Standing {
    let zones = view.zones.len();
    let mut split = Split::empty(zones, zones);
    for row in 0..zones {
        default_row(view, host.default_split, ready, row, split.row_mut(row));
    }
    let Rule::Ours(table) = &host.rule else {
        return Standing { split, broken: false };
    };
    if view.zones.iter().any(|zone| table.keys().any(|named| is_other_grain(named, zone.name))) {
        reread(view, table, ready, &mut split);
        return Standing { split, broken: true };
    }
    let mut broken = false;
    for (row, zone) in view.zones.iter().enumerate() {
        let Some(distribution) = table.get(zone.name) else {
            broken = true;
            continue;
        };
        let weights = split.row_mut(row);
        for (weight, zone) in weights.iter_mut().zip(&view.zones) {
            *weight = distribution.weight(zone.name);
        }
        let named = weights.iter().filter(|weight| **weight > 0).count();
        if named < zones || distribution.iter().count() > named {
            broken = true;
            complete(weights);
        }
    }
    Standing { split, broken }
}

/// Whether one is a zone and the other a node.
fn is_other_grain(one: &ZoneName, other: &ZoneName) -> bool {
    one.node().is_some() != other.node().is_some()
}

/// Weights between zones read as weights between their nodes, or the other way round: what a
/// zone gets stays, and its nodes share it by replicas. Callers of a zone do what the rows of
/// it say on average.
fn reread(view: &View<'_>, table: &RouteTable, ready: &[u32], split: &mut Split) {
    let domain = |at: usize| view.zones[at].name.domain();
    let within: Vec<f64> = (0..ready.len())
        .map(|at| {
            let others = (0..ready.len()).filter(|other| domain(*other) == domain(at));
            let (replicas, places) =
                others.fold((0, 0), |(sum, count), other| (sum + ready[other], count + 1));
            match replicas {
                0 => 1.0 / f64::from(places),
                _ => f64::from(ready[at]) / f64::from(replicas),
            }
        })
        .collect();
    for row in 0..split.rows() {
        let mut parts = vec![0.0; ready.len()];
        let rows = table.iter().filter(|(from, _)| from.domain() == domain(row));
        for (to, weight) in rows.flat_map(|(_, distribution)| distribution.iter()) {
            for (at, part) in
                parts.iter_mut().enumerate().filter(|(at, _)| domain(*at) == to.domain())
            {
                *part += f64::from(weight) * within[at];
            }
        }
        if parts.iter().any(|part| *part > 0.0) {
            proportional_row(&parts, 1, split.row_mut(row));
        }
    }
}

/// What the mesh does without a rule, every zone named.
fn default_row(view: &View<'_>, default: DefaultSplit, ready: &[u32], own: usize, row: &mut [u8]) {
    let at_home = |zone: usize| view.zones[zone].name.domain() == view.zones[own].name.domain();
    let home = ready.iter().enumerate().map(|(zone, ready)| if at_home(zone) { *ready } else { 0 });
    let home: Vec<u32> = home.collect();
    if default == DefaultSplit::OwnZoneFirst && home.iter().any(|ready| *ready > 0) {
        let parts: Vec<f64> = home.into_iter().map(f64::from).collect();
        proportional_row(&parts, 0, row);
        complete(row);
    } else {
        by_replicas(ready, row);
    }
}

/// Every ready replica alike, every zone named.
pub(crate) fn by_replicas(ready: &[u32], row: &mut [u8]) {
    let parts: Vec<f64> = ready.iter().map(|ready| f64::from(*ready)).collect();
    proportional_row(&parts, 1, row);
}

/// A split as names.
pub(crate) fn to_table(view: &View<'_>, split: &Split) -> Option<RouteTable> {
    (0..split.rows())
        .map(|row| {
            let named = view.zones.iter().map(|zone| zone.name.clone());
            let weights = named.zip(split.row(row).iter().copied()).collect();
            Some((view.zones[row].name.clone(), Distribution::new(weights).ok()?))
        })
        .collect()
}

/// An earlier table as a split over the zones that there are now.
pub(crate) fn to_split(view: &View<'_>, table: &RouteTable, otherwise: &Split) -> Split {
    let mut split = otherwise.clone();
    for (row, zone) in view.zones.iter().enumerate() {
        let Some(distribution) = table.get(zone.name) else { continue };
        let weights = split.row_mut(row);
        for (weight, zone) in weights.iter_mut().zip(&view.zones) {
            *weight = distribution.weight(zone.name);
        }
        complete(weights);
    }
    split
}
