//! Zones, and what the loss of each would mean. The report knows the worst zone of each
//! workload; from what it says of that, the others follow by the same rule: demand is
//! measured in replicas at full utilisation.

use std::collections::BTreeMap;

use stornx_core::{
    ids::{WorkloadRef, ZoneName},
    model::Snapshot,
    report::{Report, WorkloadReport},
};

use super::{Loss, Lost, Zone, graph, round, share};

/// Most workloads that are named for one zone.
const MOST_NAMED: usize = 10;

pub(super) fn zones(snapshot: &Snapshot, managed: &[(&WorkloadRef, &WorkloadReport)]) -> Vec<Zone> {
    let (answered, stays) = (graph::answered(snapshot), graph::stays(snapshot));
    let mut zones: BTreeMap<&ZoneName, Zone> = BTreeMap::new();
    for node in &snapshot.nodes {
        let zone = zones.entry(&node.zone).or_insert_with(|| Zone {
            name: node.zone.clone(),
            region: node.region.to_string(),
            nodes: 0,
            ready_nodes: 0,
            replicas: managed.iter().map(|(_, report)| ready_in(report, &node.zone)).sum(),
            requests: answered
                .as_ref()
                .map(|answered| round(answered.get(&node.zone).copied().unwrap_or_default())),
            stays: stays.get(&node.zone).copied(),
            loss: loss(&node.zone, managed),
        });
        zone.nodes += 1;
        zone.ready_nodes += u32::from(node.ready);
    }
    zones.into_values().collect()
}

/// The workloads of a report that are managed.
pub(super) fn managed<'a>(
    snapshot: &'a Snapshot,
    report: &'a Report,
) -> Vec<(&'a WorkloadRef, &'a WorkloadReport)> {
    let managed = snapshot.workloads.iter().filter(|workload| workload.managed);
    managed
        .filter_map(|workload| Some((&workload.id, report.workloads.get(&workload.id)?)))
        .collect()
}

fn ready_in(report: &WorkloadReport, zone: &ZoneName) -> u32 {
    report.ready.get(zone).copied().unwrap_or_default()
}

fn loss(zone: &ZoneName, managed: &[(&WorkloadRef, &WorkloadReport)]) -> Loss {
    let mut lost = Vec::new();
    let (mut known, mut served_in_all) = (0.0, 0.0);
    for (id, report) in managed {
        let served = served_without(zone, report);
        if let Some(served) = served {
            known += report.requests.get();
            served_in_all += served * report.requests.get();
        }
        let ready: u32 = report.ready.values().sum();
        let survivors = ready - ready_in(report, zone);
        if ready > 0 && (survivors == 0 || served.is_some_and(|served| served < 1.0)) {
            lost.push(Lost { service: id.to_string(), survivors, served: served.map(share) });
        }
    }
    let gone = super::count(lost.iter().filter(|lost| lost.survivors == 0).count());
    let short = super::count(lost.len()) - gone;
    let served = |lost: &Lost| lost.served.unwrap_or(0.0);
    lost.sort_by(|a, b| {
        (a.survivors > 0)
            .cmp(&(b.survivors > 0))
            .then(served(a).total_cmp(&served(b)))
            .then_with(|| a.service.cmp(&b.service))
    });
    lost.truncate(MOST_NAMED);
    Loss { served: (known > 0.0).then(|| share(served_in_all / known)), gone, short, worst: lost }
}

/// Share of the demand of a workload that is served without a zone.
fn served_without(zone: &ZoneName, report: &WorkloadReport) -> Option<f64> {
    let share = report.zone_loss.demand_served?.get();
    let here = ready_in(report, zone);
    if here == 0 || share >= 1.0 {
        // Nothing is lost, or not even the worst loss is felt.
        return Some(1.0);
    }
    let survivors = report.ready.values().sum::<u32>() - here;
    if survivors == 0 {
        return Some(0.0);
    }
    // What the worst loss leaves serves that share: so much is asked.
    let demand = f64::from(report.zone_loss.survivors) / share;
    Some((f64::from(survivors) / demand).min(1.0))
}

#[cfg(test)]
mod tests {
    use stornx_core::{
        report::{MoveReason, ScaleReason, ZoneLoss},
        units::{Rps, Share},
    };

    use super::*;

    fn report(ready: &[(&str, u32)], survivors: u32, served: Option<f64>) -> WorkloadReport {
        WorkloadReport {
            ready: ready.iter().map(|(zone, n)| (zone.parse().unwrap(), *n)).collect(),
            utilisation: None,
            p95: None,
            requests: Rps::saturating(10.0),
            zone_loss: ZoneLoss {
                worst: ready.first().map(|(zone, _)| zone.parse().unwrap()),
                survivors,
                demand_served: served.map(Share::saturating),
            },
            scale: ScaleReason::WithinBand,
            moves: MoveReason::WellPlaced { best: None },
            growth: None,
            next: Vec::new(),
        }
    }

    #[test]
    fn what_each_zone_leaves_follows_from_what_the_worst_leaves() {
        let (a, b, c) = ("a".parse().unwrap(), "b".parse().unwrap(), "c".parse().unwrap());
        // Four replicas, a demand of three: without `a` two serve two thirds.
        let even = report(&[("a", 2), ("b", 1), ("c", 1)], 2, Some(2.0 / 3.0));
        assert!((served_without(&a, &even).unwrap() - 2.0 / 3.0).abs() < 1e-9);
        assert!((served_without(&b, &even).unwrap() - 1.0).abs() < 1e-9);
        let alone = report(&[("a", 3)], 0, Some(0.0));
        assert_eq!(served_without(&a, &alone), Some(0.0));
        assert_eq!(served_without(&c, &alone), Some(1.0));
        assert_eq!(served_without(&a, &report(&[("a", 1)], 0, None)), None);
    }

    #[test]
    fn those_that_would_be_gone_are_named_first() {
        let id = |name: &str| format!("shop/Deployment/{name}").parse::<WorkloadRef>().unwrap();
        let (cart, ad, web) = (id("cart"), id("ad"), id("web"));
        let (short, gone) =
            (report(&[("a", 2), ("b", 1)], 1, Some(0.5)), report(&[("a", 1)], 0, None));
        let fine = report(&[("a", 1), ("b", 1)], 1, Some(1.0));
        let loss = loss(&"a".parse().unwrap(), &[(&ad, &short), (&cart, &gone), (&web, &fine)]);
        assert_eq!((loss.gone, loss.short), (1, 1));
        let named: Vec<_> = loss.worst.iter().map(|lost| lost.service.as_str()).collect();
        assert_eq!(named, ["shop/Deployment/cart", "shop/Deployment/ad"]);
        // Half of one, all of another; nothing is known of the third.
        assert_eq!(loss.served, Some(0.75));
    }
}
