//! What survives the loss of each zone: a fact of every report, and the guard that no
//! action may leave less of it, or else enough (invariant 5 of the design).
//!
//! Counts replicas that serve. Demand is measured in replicas at full utilisation: a
//! workload whose four replicas are each used to half has a demand of two.

use crate::{
    report::ZoneLoss,
    units::Share,
    view::{View, ZoneIndex},
};

/// Rounding of sums of shares; far below what any replica serves.
const ROUNDING: f64 = 1e-9;

/// The zone whose loss leaves least (the one with most replicas, the first of equals)
/// and what it leaves. `None` when nothing serves.
pub(crate) fn worst(ready: &[u32]) -> Option<(ZoneIndex, u32)> {
    let total: u32 = ready.iter().sum();
    let (at, most) = ready.iter().enumerate().rev().max_by_key(|(_, count)| **count)?;
    (total > 0).then(|| (ZoneIndex::new(at), total - most))
}

/// Replicas left after the loss of the worst zone; none when nothing serves.
pub(crate) fn survivors(ready: &[u32]) -> u32 {
    worst(ready).map_or(0, |(_, left)| left)
}

/// Whether so many replicas carry so much demand at full utilisation.
pub(crate) fn enough(replicas: u32, demand: f64) -> bool {
    f64::from(replicas) + ROUNDING >= demand
}

/// The least number of replicas, spread evenly over `zones`, of which the loss of any
/// zone leaves `needed`.
pub(crate) fn least_count(needed: f64, zones: u32) -> u32 {
    if zones < 2 || needed <= ROUNDING {
        return 0;
    }
    // Losing one of z even zones leaves at most (z - 1) / z of n.
    let ideal = needed * f64::from(zones) / f64::from(zones - 1);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Saturates.
    let start = (ideal.floor() as u32).saturating_sub(1);
    (start..=start.saturating_add(3))
        .find(|count| enough(count - count.div_ceil(zones), needed))
        .unwrap_or(start.saturating_add(3))
}

/// The fact for a workload with `ready` replicas by zone and a demand in replicas.
pub(crate) fn fact(view: &View<'_>, ready: &[u32], demand: Option<f64>) -> ZoneLoss {
    let Some((zone, survivors)) = worst(ready) else {
        return ZoneLoss { worst: None, survivors: 0, demand_served: None };
    };
    let served = |demand: f64| {
        if enough(survivors, demand) { 1.0 } else { f64::from(survivors) / demand }
    };
    ZoneLoss {
        worst: Some(view.zones[zone.at()].name.clone()),
        survivors,
        demand_served: demand.map(|demand| Share::saturating(served(demand))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_zone_is_the_fullest_and_of_equals_the_first() {
        assert_eq!(worst(&[]), None);
        assert_eq!(worst(&[0, 0]), None);
        assert_eq!(worst(&[1, 3, 2]), Some((ZoneIndex::new(1), 3)));
        assert_eq!(worst(&[0, 2, 2]), Some((ZoneIndex::new(1), 2)));
        assert_eq!((survivors(&[4]), survivors(&[2, 2, 2]), survivors(&[])), (0, 4, 0));
    }

    #[test]
    fn enough_is_at_least_the_demand() {
        assert!(enough(2, 2.0) && enough(0, 0.0) && enough(3, 0.1 + 0.2 + 2.7));
        assert!(!enough(2, 2.001) && !enough(0, 0.5));
    }

    #[test]
    fn the_least_count_is_the_least() {
        for zones in 2..6_u32 {
            for tenths in 1..200_u32 {
                let needed = f64::from(tenths) / 10.0;
                let naive = (1..).find(|n: &u32| f64::from(n - n.div_ceil(zones)) >= needed);
                assert_eq!(Some(least_count(needed, zones)), naive, "{needed} over {zones}");
            }
        }
        assert_eq!((least_count(0.0, 3), least_count(4.0, 1)), (0, 0));
    }
}
