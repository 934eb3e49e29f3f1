//! The curves of runs as a picture: policies overlaid over time.

use std::collections::{BTreeMap, BTreeSet};

use stornx_core::{
    ids::{HostName, ZoneName},
    units::{Millis, Span},
};

use super::run::Run;
use crate::{
    plot::{Chart, Panel},
    scenario::{Event, Scenario},
    world::Sample,
};

/// The picture of some runs of one scenario (one for each policy).
#[must_use]
pub fn chart(scenario: &Scenario, runs: &[&Run]) -> Chart {
    let zones: Vec<&ZoneName> = scenario.topology.zones.iter().map(|zone| &zone.name).collect();
    let mut panels = vec![
        panel("p95 of users (ms)", runs, |s| millis(s.p95)),
        panel("calls that cross zones (%)", runs, |s| 100.0 * s.cross_zone_share.get()),
        panel("failed requests (%)", runs, |s| 100.0 * failed(s)),
    ];
    panels[2].at_least = 1.0;
    let cap = scenario.policy.balancer.max_utilisation.get();
    for zone in &zones {
        let mut used = panel(&format!("utilisation of {zone} (%)"), runs, |sample| {
            sample.zone_utilisation.get(*zone).map_or(f64::NAN, |used| 100.0 * used)
        });
        used.line = Some((cap, "cap".to_owned()));
        panels.push(used);
    }
    if let Some(host) = busiest_ruled_host(runs) {
        for zone in &zones {
            let title = format!("{}: weight of {zone} at home (%)", host.service());
            let mut weights = panel(&title, runs, |sample| at_home(sample, &host, zone));
            weights.at_least = 100.0;
            panels.push(weights);
        }
    }
    let seed = runs.first().map_or(0, |run| run.seed);
    Chart {
        title: format!("{}, seed {seed}", scenario.name),
        legend: runs.iter().map(|run| run.policy.to_string()).collect(),
        marks: scenario
            .events
            .iter()
            .map(|event| (minutes(event.at().span()), what(event)))
            .collect(),
        panels,
    }
}

fn panel(title: &str, runs: &[&Run], value: impl Fn(&Sample) -> f64) -> Panel {
    let curves = runs.iter().enumerate().map(|(index, run)| {
        let points = run.samples.iter().map(|sample| (minutes(sample.at), value(sample)));
        (index, points.collect())
    });
    Panel { title: title.to_owned(), curves: curves.collect(), ..Panel::default() }
}

fn minutes(at: Span) -> f64 {
    at.as_seconds_f64() / 60.0
}

fn millis(value: Option<Millis>) -> f64 {
    value.map_or(f64::NAN, Millis::get)
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn failed(sample: &Sample) -> f64 {
    if sample.requests == 0 { f64::NAN } else { sample.failed as f64 / sample.requests as f64 }
}

/// The weight that callers of a zone give their own zone. Without a rule: what the
/// mesh does on its own is not a weight, and no curve is drawn.
fn at_home(sample: &Sample, host: &HostName, zone: &ZoneName) -> f64 {
    let distribution = sample.weights.get(host).and_then(|table| table.get(zone));
    distribution.map_or(f64::NAN, |distribution| f64::from(distribution.weight(zone)))
}

/// The host whose weights change most during the runs.
fn busiest_ruled_host(runs: &[&Run]) -> Option<HostName> {
    let mut travelled: BTreeMap<&HostName, u32> = BTreeMap::new();
    for run in runs {
        let hosts: BTreeSet<&HostName> =
            run.samples.iter().flat_map(|sample| sample.weights.keys()).collect();
        for host in hosts {
            let tables: Vec<_> = run.samples.iter().filter_map(|s| s.weights.get(host)).collect();
            let distance: u32 = tables
                .windows(2)
                .flat_map(|pair| {
                    pair[0].iter().filter_map(|(zone, before)| Some((before, pair[1].get(zone)?)))
                })
                .map(|(before, after)| before.distance(after))
                .sum();
            *travelled.entry(host).or_default() += distance + 1;
        }
    }
    travelled.into_iter().max_by_key(|(_, distance)| *distance).map(|(host, _)| host.clone())
}

fn what(event: &Event) -> String {
    match event {
        Event::ZoneLoss(loss) => format!("{} lost", loss.zone),
        Event::SlowReplica(slow) => format!("{} slow", slow.service),
        Event::SlowNode(slow) => format!("{} slow", slow.node),
        Event::NodePressure(pressure) => format!("{} under pressure", pressure.node),
        Event::MetricsOutage(_) => "no metrics".to_owned(),
        Event::Rollout(rollout) => format!("rollout of {}", rollout.service),
        Event::TrafficShift(_) => "load shifts".to_owned(),
    }
}
