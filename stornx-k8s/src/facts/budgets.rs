//! Disruption budgets over workloads.
//!
//! Expected are the wanted replicas of all workloads that a budget covers, as the
//! disruption controller counts them. A budget over one workload is its floor. Over
//! several, each has to keep the larger of
//!
//! - its share of what must be healthy, by wanted replicas and rounded up: together
//!   the shares suffice, even if all workloads shrink to them at once;
//! - what the others cannot give now, being short of replicas themselves.
//!
//! That is stricter than the budget; the alternative, one slack that several decisions
//! draw on, would have to be kept through planning. Pods of no known workload are
//! counted as giving nothing.

use crate::{facts::join::Joined, map::namespace_of, watch::kinds::Tables};

/// The floors of workloads, by their position; `None` where no budget covers one.
pub(crate) fn floors(tables: &Tables, joined: &Joined<'_>) -> Vec<Option<u32>> {
    let mut floors: Vec<Option<u32>> = vec![None; joined.entries.len()];
    for (key, budget) in tables.budgets.iter() {
        let Some(candidates) = joined.by_namespace.get(namespace_of(key)) else { continue };
        let covered: Vec<Covered> = candidates
            .iter()
            .map(|at| (*at, &joined.entries[*at]))
            .filter(|(_, entry)| budget.selector.matches(&entry.record.template.labels))
            .map(|(at, entry)| Covered { at, desired: entry.record.desired, ready: entry.ready })
            .collect();
        let expected = covered.iter().map(|one| one.desired).sum();
        let healthy = budget.demand.healthy(expected);
        for one in &covered {
            let floor = share(healthy, one, &covered);
            floors[one.at] = floors[one.at].max(Some(floor));
        }
    }
    floors
}

/// A workload under a budget.
#[derive(Debug, Clone, Copy)]
struct Covered {
    at: usize,
    desired: u32,
    ready: u32,
}

fn share(healthy: u32, one: &Covered, covered: &[Covered]) -> u32 {
    let expected: u64 = covered.iter().map(|one| u64::from(one.desired)).sum();
    let wanted = u64::from(healthy) * u64::from(one.desired);
    let part = if covered.len() == 1 {
        healthy
    } else {
        u32::try_from(wanted.checked_div(expected).map_or(0, |_| wanted.div_ceil(expected)))
            .unwrap_or(u32::MAX)
    };
    let given: u32 = covered
        .iter()
        .filter(|other| other.at != one.at)
        .map(|other| other.ready.min(other.desired))
        .fold(0, u32::saturating_add);
    part.max(healthy.saturating_sub(given))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the workloads do within their floors, the budget is kept, as far as
        /// the ready replicas can keep it at all.
        #[test]
        fn floors_keep_the_budget_together(
            counts in prop::collection::vec((0_u32..20, 0_u32..20), 1..5),
            healthy in 0_u32..60,
        ) {
            let covered: Vec<Covered> = counts
                .iter()
                .enumerate()
                .map(|(at, (desired, ready))| Covered { at, desired: *desired, ready: *ready.min(desired) })
                .collect();
            let floors: Vec<u32> = covered.iter().map(|one| share(healthy, one, &covered)).collect();
            let kept: u32 =
                covered.iter().zip(&floors).map(|(one, floor)| one.ready.min(*floor)).sum();
            let ready: u32 = covered.iter().map(|one| one.ready).sum();
            let wanted: u32 = covered.iter().map(|one| one.desired).sum();
            if ready == wanted {
                prop_assert!(kept >= healthy.min(ready), "{kept} of {healthy}, {covered:?}");
            }
            // One alone may go to its floor while the others stay as they are.
            for (one, floor) in covered.iter().zip(&floors) {
                let others: u32 =
                    covered.iter().filter(|o| o.at != one.at).map(|o| o.ready).sum();
                prop_assert!(others + floor >= healthy);
            }
        }
    }

    #[test]
    fn two_workloads_share_what_must_stay() {
        let covered =
            [Covered { at: 0, desired: 3, ready: 3 }, Covered { at: 1, desired: 6, ready: 6 }];
        assert_eq!(share(6, &covered[0], &covered), 2);
        assert_eq!(share(6, &covered[1], &covered), 4);
        let short =
            [Covered { at: 0, desired: 3, ready: 3 }, Covered { at: 1, desired: 6, ready: 3 }];
        assert_eq!(share(6, &short[0], &short), 3, "the other gives only three");
    }
}
