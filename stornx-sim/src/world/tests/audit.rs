//! Counts everything in a world anew and compares it with what the world has counted,
//! after runs through everything that can happen.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::world::state::{NONE, Phase, Stand};

/// Panics when the books of a world do not balance.
pub(super) fn audit(world: &SimWorld) {
    audit_world(&world.world());
}

/// The same of a world by itself.
pub(in crate::world) fn audit_world(world: &World) {
    let measured = world.measurements();
    let requests = measured.requests;
    let roots = |call: &&crate::world::state::Call| {
        call.stand != Stand::Free && call.parent == NONE && !call.abandoned
    };
    let in_flight = u64::try_from(world.calls.iter().filter(roots).count()).unwrap();
    assert_eq!(requests.in_flight, in_flight, "in flight");
    assert_eq!(
        requests.in_flight_before + requests.arrived,
        requests.succeeded + requests.failed + in_flight,
        "every request is somewhere"
    );
    assert_eq!(measured.latency.count(), requests.succeeded + requests.failed);

    let mut demand = vec![0; world.nodes.len()];
    let mut requested = vec![(0, 0); world.nodes.len()];
    for (index, pod) in world.pods.iter().enumerate() {
        let inside = |stand: &[Stand]| {
            let here = world
                .calls
                .iter()
                .filter(|call| call.callee as usize == index && stand.contains(&call.stand));
            u32::try_from(here.count()).unwrap()
        };
        let name = &pod.name;
        assert_eq!(pod.inside, inside(&[Stand::Queued, Stand::Working, Stand::Waiting]), "{name}");
        assert_eq!(pod.working, inside(&[Stand::Working]), "{name}");
        assert_eq!(pod.queue.len(), inside(&[Stand::Queued]) as usize, "{name}");
        let model = &world.model.services[pod.service as usize];
        let busy =
            if model.blocking { inside(&[Stand::Working, Stand::Waiting]) } else { pod.working };
        assert_eq!(pod.busy, busy, "{name}");
        assert!(pod.busy == model.workers || pod.queue.is_empty(), "{name} idles");
        assert!(pod.alive || pod.inside == 0, "{name} is dead");
        if pod.node != NONE && pod.phase != Phase::Gone {
            demand[pod.node as usize] += u64::from(pod.working) * model.share;
            let sum = &mut requested[pod.node as usize];
            sum.0 += model.requests.cpu.get();
            sum.1 += 1;
        }
        for (local, outgoing) in pod.outgoing.iter().enumerate() {
            for (other, callee) in world.pods.iter().enumerate() {
                let here = world.calls.iter().filter(|call| {
                    call.caller as usize == index
                        && call.callee as usize == other
                        && world.model.calls[call.spec as usize].local as usize == local
                        && !call.abandoned
                        && !matches!(call.stand, Stand::Free | Stand::Backoff)
                });
                if here.clone().next().is_some() {
                    let count = u32::try_from(here.count()).unwrap();
                    assert_eq!(outgoing.in_flight(callee.ordinal), count, "{name}");
                }
            }
        }
    }
    for (index, node) in world.nodes.iter().enumerate() {
        let outside: u64 = if node.pressure > 0 { 2_000_000 } else { 0 };
        assert_eq!(node.demand, demand[index] + outside, "demand of node {index}");
        assert_eq!((node.requested.cpu.get(), node.pods), requested[index], "node {index}");
    }
    for call in &world.calls {
        if call.stand == Stand::Waiting {
            assert!(call.pending > 0, "waits for nothing");
        }
    }
}

fn event(kind: u8, at: u64, length: u64) -> String {
    let until = at + length;
    match kind {
        0 => format!("zoneLoss: {{at: {at}s, zone: b, until: {until}s}}"),
        1 => format!("slowReplica: {{at: {at}s, service: mid, factor: 9, until: {until}s}}"),
        2 => format!("slowNode: {{at: {at}s, node: a-1, factor: 4, burnsCpu: false}}"),
        3 => format!("nodePressure: {{at: {at}s, node: c-1, cpu: 2}}"),
        4 => format!("metricsOutage: {{at: {at}s, until: {until}s}}"),
        5 => format!("rollout: {{at: {at}s, service: mid}}"),
        6 => format!("rollout: {{at: {at}s, service: front}}"),
        7 => format!("zoneLoss: {{at: {at}s, zone: c}}"),
        _ => format!("trafficShift: {{at: {at}s, over: {length}s, rates: {{a: 5, b: 90}}}}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(40)))]

    #[test]
    fn the_books_balance_whatever_happens(
        seed: u64,
        blocking: bool,
        queue in 0_u32..8,
        retries in 0_u32..4,
        timeout in 20_u64..2000,
        poisson: bool,
        sequential: bool,
        own_zone: bool,
        hpa: bool,
        happenings in proptest::collection::vec((0_u8..9, 0_u64..150, 1_u64..100), 0..5),
        looks in proptest::collection::vec(1_u64..250, 3),
    ) {
        let mut rest = format!(
            "\
network: {{connectTimeout: 300ms}}
defaultSplit: {}
cluster: {{nodeGrace: 5s, evictionAfter: 20s}}
services:
  - name: front
    replicas: 4
    requests: {{cpu: 500m, memory: 64Mi}}
    terminationGrace: 8s
    startup: 3s
    concurrency: {{workers: 2, queue: {queue}, blocking: {blocking}}}
    work: {{meanMs: 12}}
    stages:
      - sequential: {sequential}
        calls:
          - {{to: mid, mean: 1.6, fanOut: {}, timeout: {timeout}ms, retries: {retries}}}
          - {{to: back, optional: true, timeout: 100ms}}
      - calls: [{{to: back, mean: 0.5}}]
  - name: mid
    replicas: 3
    requests: {{cpu: 200m, memory: 64Mi}}
    startup: 2s
    concurrency: {{workers: 1, queue: {queue}}}
    work: {{meanMs: 15, distribution: lognormal}}
    stages: [{{calls: [{{to: back}}]}}]
{}
  - name: back
    replicas: 2
    requests: {{cpu: 200m, memory: 64Mi}}
    work: {{meanMs: 3}}
entries: [{{service: front, rates: {{a: 40, b: 30, c: 20}}, timeout: 3s}}]
warmUp: 20s
duration: 260s
events:
",
            if own_zone { "own-zone-first" } else { "by-replicas" },
            if poisson { "poisson" } else { "nearest" },
            if hpa { "    autoscaler: {min: 2, max: 9, targetCpuPercent: 50}" } else { "" },
        );
        let mut seen = [false; 9];
        for (kind, at, length) in happenings {
            // One of each kind: the audit knows of one pressure.
            if !std::mem::replace(&mut seen[usize::from(kind)], true) {
                writeln!(rest, "  - {}", event(kind, at, length)).unwrap();
            }
        }
        if !seen.contains(&true) {
            rest.truncate(rest.len() - "events:\n".len());
        }
        let world = world(&rest, seed);
        let mut looks = looks;
        looks.sort_unstable();
        for look in looks {
            world.advance_to(at(look));
            audit(&world);
        }
        world.advance_to(world.end());
        audit(&world);
    }
}

#[test]
fn one_seed_is_one_run_and_arrivals_do_not_hang_on_decisions() {
    let rest = "\
services:
  - name: front
    replicas: 3
    requests: {cpu: 500m, memory: 64Mi}
    work: {meanMs: 8}
    stages: [{calls: [{to: back, mean: 1.3}]}]
  - name: back
    replicas: 3
    requests: {cpu: 500m, memory: 64Mi}
    work: {meanMs: 5}
entries: [{service: front, rates: {a: 60, b: 30, c: 10}}]
events: [{zoneLoss: {at: 100s, zone: c, until: 150s}}, {rollout: {at: 200s, service: back}}]
duration: 300s
";
    let run = |seed, routing: Routing| {
        let world = world(rest, seed);
        world.set_routing_everywhere(&routing);
        world.advance_to(world.end());
        let measured = world.measurements();
        (measured.requests.arrived, serde_json::to_string(&measured).unwrap())
    };
    let one = run(1, Routing::ByReplicas);
    assert_eq!(one, run(1, Routing::ByReplicas));
    let other = run(1, Routing::OwnZoneFirst);
    assert_eq!(one.0, other.0);
    assert_ne!(one.1, other.1);
    assert_ne!(one.1, run(2, Routing::ByReplicas).1);
}

#[test]
fn stopping_on_the_way_changes_nothing() {
    let rest = "\
services:
  - {name: s, replicas: 3, requests: {cpu: 500m}, work: {meanMs: 8}}
entries: [{service: s, rates: {a: 60}}]
events: [{rollout: {at: 20s, service: s}}]
duration: 100s
";
    let (whole, parts) = (world(rest, 4), world(rest, 4));
    let notices = whole.advance_to(at(100));
    let mut pieces = Vec::new();
    for second in 1..=100 {
        loop {
            let some = parts.advance_until_notice(at(second));
            if some.is_empty() {
                break;
            }
            pieces.extend(some);
        }
    }
    assert_eq!(whole.measurements(), parts.measurements());
    assert_eq!(notices, pieces);
    assert!(!notices.is_empty());
}
