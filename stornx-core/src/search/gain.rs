//! What a placement is worth: traffic that stays inside a machine or a zone.
//!
//! For an edge between services a and b the share that stays is the sum over machines
//! (zones) of min(share of a there, share of b there): what even splitting by a
//! locality-aware router can keep. The worth of a move follows from the partners of its
//! service alone, on the two machines and zones concerned.
//!
//! A further term (load, price) is one more summand of [`of_shift`] with its own part
//! in [`total`]; nothing else in the search looks inside the worth.

use super::{facts::Facts, layout::Layout};

/// Worth of a placement.
pub(crate) fn total(facts: &Facts, layout: &Layout) -> f64 {
    facts.machine_weight * by_machine(facts, layout) + facts.zone_weight * by_zone(facts, layout)
}

/// Share of all traffic that stays inside machines.
pub(crate) fn by_machine(facts: &Facts, layout: &Layout) -> f64 {
    let rows = (0..facts.machines).map(|machine| layout.row(facts, machine));
    kept(facts, rows, |count| f64::from(*count))
}

/// Share of all traffic that stays inside zones.
pub(crate) fn by_zone(facts: &Facts, layout: &Layout) -> f64 {
    let rows = (0..facts.zones).map(|zone| layout.zone_row(facts, zone));
    kept(facts, rows, |count| f64::from(*count))
}

fn kept<'a, Count: 'a>(
    facts: &Facts,
    rows: impl Iterator<Item = &'a [Count]>,
    number: impl Fn(&Count) -> f64,
) -> f64 {
    let share = |row: &[Count], service: usize| number(&row[service]) * facts.share[service];
    rows.map(|row| {
        (0..facts.services)
            .map(|a| {
                let own = share(row, a);
                let later = facts.partners(a).iter().filter(|b| b.service as usize > a);
                later.map(|b| b.traffic * own.min(share(row, b.service as usize))).sum::<f64>()
            })
            .sum::<f64>()
    })
    .sum()
}

/// What moving one container of a service adds to the worth.
pub(crate) fn of_shift(
    facts: &Facts,
    layout: &Layout,
    service: usize,
    from: usize,
    to: usize,
) -> f64 {
    let partners = facts.partners(service);
    if partners.is_empty() {
        return 0.0;
    }
    let share = facts.share[service];
    let (left, entered) = (layout.row(facts, from), layout.row(facts, to));
    let (from_before, to_before) =
        (f64::from(left[service]) * share, f64::from(entered[service]) * share);
    let (from_after, to_after) = (from_before - share, to_before + share);
    let mut gained = 0.0;
    for partner in partners {
        let other = partner.service as usize;
        let other_share = facts.share[other];
        let (at_from, at_to) =
            (f64::from(left[other]) * other_share, f64::from(entered[other]) * other_share);
        gained += partner.traffic
            * (from_after.min(at_from) - from_before.min(at_from) + to_after.min(at_to)
                - to_before.min(at_to));
    }
    gained *= facts.machine_weight;
    let (zone_from, zone_to) = (facts.zone[from] as usize, facts.zone[to] as usize);
    if facts.zone_weight > 0.0 && zone_from != zone_to {
        gained += facts.zone_weight * of_zone_shift(facts, layout, service, zone_from, zone_to);
    }
    gained
}

fn of_zone_shift(facts: &Facts, layout: &Layout, service: usize, from: usize, to: usize) -> f64 {
    let share = facts.share[service];
    let (left, entered) = (layout.zone_row(facts, from), layout.zone_row(facts, to));
    let (from_before, to_before) =
        (f64::from(left[service]) * share, f64::from(entered[service]) * share);
    let (from_after, to_after) = (from_before - share, to_before + share);
    facts
        .partners(service)
        .iter()
        .map(|partner| {
            let other = partner.service as usize;
            let (at_from, at_to) = (
                f64::from(left[other]) * facts.share[other],
                f64::from(entered[other]) * facts.share[other],
            );
            partner.traffic
                * (from_after.min(at_from) - from_before.min(at_from) + to_after.min(at_to)
                    - to_before.min(at_to))
        })
        .sum()
}
