//! No text makes the parser panic, and no text that it takes makes the world panic.

use proptest::prelude::*;

use super::*;
use crate::files::FileError;

const WHOLE: &str = "\
apiVersion: stornx.io/v1alpha1
name: whole
intent: Everything once.
namespace: shop
topology:
  zones:
    - {name: a, region: r1, nodes: [{count: 2, cpu: 4, memory: 8Gi, pods: 20}]}
    - {name: b, nodes: [{name: big, cpu: 8, memory: 16Gi}]}
network:
  sameNodeMs: 0.1
  otherRegionMs: 20
  pairs: [{between: [a, b], rttMs: 1.5}]
  connectTimeout: 1s
  loadBalancer: roundRobin
services:
  - name: front
    replicas: 3
    placement: {zones: {a: 1, b: 1}}
    requests: {cpu: 500m, memory: 128Mi}
    limits: {cpu: 1, memory: 256Mi}
    concurrency: {workers: 2, queue: 50, blocking: true}
    work: {meanMs: 2, distribution: lognormal, variation: 0.7, cpuShare: 0.8}
    startup: 5s
    minReady: 1
    autoscaler: {min: 2, max: 6, targetCpuPercent: 60}
    operations:
      view: {workFactor: 2, stages: [{sequential: true, calls: [{to: back, mean: 1.5, fanOut: poisson}]}]}
    stages: [{calls: [{to: back, retries: 1, timeout: 50ms, optional: true, protocol: tcp}]}]
  - {name: back, replicas: 2, requests: {cpu: 500m, memory: 128Mi}, work: {meanMs: 1}}
entries:
  - service: front
    operations: {view: 2.5}
    rates: {a: 50, b: [{at: 0s, perSecond: 1}, {at: 1m, perSecond: 90}]}
routes: {back: {a: {a: 60, b: 40}}}
defaultSplit: own-zone-first
events:
  - zoneLoss: {at: 2s, zone: b, until: 4s, entryFailover: 1s}
  - slowReplica: {at: 1s, service: back, zone: a, factor: 3, until: 3s}
  - slowNode: {at: 1s, node: a-1, factor: 2}
  - nodePressure: {at: 1s, node: big, cpu: 2}
  - metricsOutage: {at: 3s, kind: notScraped}
  - rollout: {at: 3s, service: front}
  - trafficShift: {at: 2s, over: 1s, rates: {a: 10}}
duration: 10m
warmUp: 1s
metrics: {scrapeInterval: 1s, rateWindow: 5s}
cluster: {nodeGrace: 1s, evictionAfter: 1s, maxSurge: 50}
policy: {balancer: {maxStep: 30}}
";

const NASTY: [&str; 24] = [
    "",
    "-1",
    "0",
    "1e308",
    "1e-320",
    "999999999999",
    "4294967296",
    ".nan",
    ".inf",
    "~",
    "[]",
    "{}",
    "{",
    "]",
    ":",
    "- ",
    "\u{0}",
    "é",
    "87600h",
    "0ms",
    "9000000000G",
    "100000",
    "a",
    "back",
];

/// Pieces of the text between separators.
fn words(text: &str) -> Vec<(usize, usize)> {
    let mut words = Vec::new();
    let mut start = None;
    for (place, letter) in text.char_indices() {
        let inside = letter.is_alphanumeric() || matches!(letter, '.' | '-' | '/');
        match (inside, start) {
            (true, None) => start = Some(place),
            (false, Some(from)) => {
                words.push((from, place));
                start = None;
            }
            _ => {}
        }
    }
    words
}

#[test]
fn the_whole_scenario_runs() {
    let scenario = Scenario::parse("whole.yaml", WHOLE).unwrap();
    let world = SimWorld::new(&scenario, 1).unwrap();
    world.advance_to(at(10));
    let measured = world.measurements();
    assert!(measured.requests.succeeded > 100, "{:?}", measured.requests);
}

/// Rates of a million and more are allowed and take their time.
fn calm(world: &SimWorld) -> bool {
    let world = world.world();
    let mut points = world.model.inflows.iter().flat_map(|inflow| &inflow.points);
    points.all(|point| point.per_second.get() < 1e4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(400)))]

    #[test]
    fn a_changed_word_is_refused_with_its_place_or_runs(
        changes in proptest::collection::vec((0.0..1.0_f64, 0..NASTY.len()), 1..4),
    ) {
        let mut text = WHOLE.to_owned();
        for (where_, what) in changes {
            let words = words(&text);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            #[allow(clippy::cast_precision_loss)]
            let (from, to) = words[(where_ * words.len() as f64) as usize];
            text.replace_range(from..to, NASTY[what]);
        }
        match Scenario::parse("changed.yaml", &text) {
            Ok(scenario) => {
                if let Ok(world) = SimWorld::new(&scenario, 1)
                    && calm(&world)
                    && scenario.services.iter().all(|s| s.replicas < 1000)
                {
                    world.advance_to(at(5));
                    let _ = metrics(&world);
                }
            }
            Err(FileError::Format { place, message, .. }) => {
                prop_assert_eq!(&place.file, "changed.yaml");
                prop_assert!(!message.is_empty());
            }
            Err(FileError::Content { problems, .. }) => {
                prop_assert!(!problems.is_empty());
                for (place, message) in problems {
                    prop_assert_eq!(&place.file, "changed.yaml");
                    prop_assert!(!message.is_empty() && !place.path.is_empty());
                }
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    }
}
