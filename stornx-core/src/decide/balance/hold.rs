//! Holds a step back where it would overload a destination on the way.
//!
//! The target keeps every capacity, but a table between the live one and the target need
//! not: rows move by points, and a point of a large caller is more load than a point of a
//! small one. Points that would take a destination above its capacity (or above what it
//! has now, where that is more) are given back, each within its row, until none does.
//! Where all destinations together cannot serve the demand, each may be filled a
//! little above its capacity, as far as an even load would fill all of them: else one would drown while another
//! still stands at its cap. The
//! next table stays between the live one and the target, so every promise of the step
//! holds; only the bound on the number of writes can be exceeded by it.

use super::{split::Split, target::HostWorld};

/// Load above the capacity that one destination takes over from others, as a multiple of the
/// capacity: at the default cap, up to 80 % utilisation. Where it would take more than
/// that, who drowns is only exchanged.
const MOST_OVERLOAD: f64 = 1.15;

/// Load that is lost to rounding in floating point, as a share.
const SLACK: f64 = 1e-9;

/// Takes points of `next` back towards `current` until no destination is above its limit.
pub(crate) fn hold_back(world: &HostWorld, current: &Split, next: &mut Split) {
    let before = world.loads(current);
    let together: f64 = (0..before.len()).map(|zone| world.capacity(zone)).sum();
    let even = if together > 0.0 { (world.total_demand() / together).max(1.0) } else { 1.0 };
    let even = even.min(MOST_OVERLOAD);
    let limit = |zone: usize| (even * world.capacity(zone)).max(before[zone]) * (1.0 + SLACK);
    loop {
        let loads = world.loads(next);
        let room = |zone: usize| limit(zone) - loads[zone];
        let Some(full) = (0..loads.len())
            .filter(|zone| room(*zone) < 0.0)
            .min_by(|a, b| room(*a).total_cmp(&room(*b)).then(a.cmp(b)))
        else {
            return;
        };
        // The row whose point is largest gives the fewest back.
        let grown = |row: usize, zone: usize| next.weight(row, zone) > current.weight(row, zone);
        let Some(row) = (0..next.rows())
            .filter(|row| world.demand[*row] > 0.0 && grown(*row, full))
            .max_by(|a, b| world.demand[*a].total_cmp(&world.demand[*b]).then(b.cmp(a)))
        else {
            return;
        };
        let Some(to) = (0..loads.len())
            .filter(|zone| next.weight(row, *zone) < current.weight(row, *zone))
            .max_by(|a, b| room(*a).total_cmp(&room(*b)).then(b.cmp(a)))
        else {
            return;
        };
        next.row_mut(row)[full] -= 1;
        next.row_mut(row)[to] += 1;
    }
}
