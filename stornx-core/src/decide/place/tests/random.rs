//! Random small clusters.

use crate::{
    decide::safety::testing::{Dice, NOW, World, pod, resources, zone_name},
    model::{
        DefaultSplit, DisruptionBudget, Distribution, Facts, Latency, NodeExpression, NodeOperator,
        NodeRoundTrip, NodeTerm, PodPhase, Rule, Source, Taint, TaintEffect, Toleration,
        ZoneRoundTrip,
    },
    units::{Millis, Percent},
};

const NAMES: [&str; 4] = ["w", "x", "y", "z"];

/// A cluster of up to four zones with three nodes each, and four workloads that call
/// each other; and a number of replicas.
pub(super) fn world(seed: u64) -> (World, u32) {
    let mut dice = Dice::new(seed);
    let zones: Vec<usize> = (0..=dice.below(4)).map(|_| 1 + dice.below(3)).collect();
    let mut world = World::new(&zones);
    nodes(&mut world, &mut dice);
    for name in NAMES {
        workload(&mut world, &mut dice, name);
    }
    constraints(&mut world, &mut dice);
    traffic(&mut world, &mut dice, zones.len());
    latency(&mut world, &mut dice, zones.len());
    let tolerance = &mut world.policy.fault_tolerance;
    tolerance.max_zones = 1 + small(&mut dice, 4);
    tolerance.max_skew = 1 + small(&mut dice, 3);
    world.policy.scaler.cpu_weight = Percent::saturating(f64::from(small(&mut dice, 3)) * 50.0);
    let count = 1 + small(&mut dice, 4);
    (world, count)
}

fn small(dice: &mut Dice, end: usize) -> u32 {
    u32::try_from(dice.below(end)).unwrap()
}

fn number(dice: &mut Dice, end: usize) -> u64 {
    u64::from(small(dice, end))
}

fn nodes(world: &mut World, dice: &mut Dice) {
    for node in &mut world.snapshot.nodes {
        node.ready = !dice.one_in(8);
        node.schedulable = !dice.one_in(8);
        node.allocatable = resources(number(dice, 12) * 50, number(dice, 12) * 50);
        node.pod_capacity = 1 + small(dice, 8);
        node.reserved = resources(number(dice, 4) * 25, number(dice, 4) * 25);
        node.reserved_pods = small(dice, 3);
        if dice.one_in(2) {
            node.labels = [("disk".parse().unwrap(), "ssd".parse().unwrap())].into();
        }
        if dice.one_in(6) {
            node.taints.push(Taint {
                key: "team".parse().unwrap(),
                value: "x".parse().unwrap(),
                effect: [TaintEffect::NoSchedule, TaintEffect::PreferNoSchedule][dice.below(2)],
            });
        }
    }
}

fn workload(world: &mut World, dice: &mut Dice, name: &str) {
    let names: Vec<String> =
        world.snapshot.nodes.iter().map(|node| node.name.to_string()).collect();
    let pods = dice.below(7);
    let workload = world.workload(name, &[]);
    workload.requests = resources(number(dice, 4) * 25, number(dice, 4) * 25);
    for at in 0..pods {
        let node = names[dice.below(names.len())].clone();
        let phase = match dice.below(10) {
            0 => PodPhase::Pending,
            1 => PodPhase::Starting,
            2 => PodPhase::Unready,
            3 => PodPhase::Terminating,
            _ => PodPhase::Ready,
        };
        let node = match (phase, dice.below(20)) {
            (PodPhase::Pending, _) => None,
            (_, 0) => Some("gone".to_owned()),
            _ => Some(node),
        };
        workload.pods.push(pod(&format!("{name}-{at}"), node.as_deref(), phase));
    }
    workload.desired = u32::try_from(pods).unwrap();
    for at in 0..pods {
        if !dice.one_in(12) {
            world.usage(&format!("{name}-{at}"), number(dice, 30), number(dice, 100));
        }
    }
}

fn constraints(world: &mut World, dice: &mut Dice) {
    let workload = world.of("w");
    if dice.one_in(5) {
        workload.budget = Some(DisruptionBudget { min_ready: small(dice, 6) });
    }
    let constraints = &mut workload.constraints;
    constraints.one_per_node = dice.one_in(5);
    constraints.pinned = dice.one_in(40);
    if dice.one_in(4) {
        constraints.max_zone_skew = Some(1 + small(dice, 3));
    }
    let ssd = |operator| NodeTerm {
        expressions: vec![NodeExpression {
            key: "disk".parse().unwrap(),
            operator,
            values: vec!["ssd".parse().unwrap()],
        }],
    };
    match dice.below(12) {
        0 => {
            constraints.node_selector = [("disk".parse().unwrap(), "ssd".parse().unwrap())].into();
        }
        1 => constraints.node_affinity = vec![ssd(NodeOperator::In)],
        2 => constraints.node_affinity = vec![ssd(NodeOperator::NotIn), NodeTerm::default()],
        _ => {}
    }
    if dice.one_in(2) {
        constraints.tolerations.push(Toleration::default());
    }
}

fn traffic(world: &mut World, dice: &mut Dice, zones: usize) {
    if dice.one_in(6) {
        world.snapshot.traffic = Facts::Missing { reason: "down".to_owned() };
        return;
    }
    for _ in 0..dice.below(6) {
        let (caller, callee) = (NAMES[dice.below(4)], NAMES[dice.below(4)]);
        let names: Vec<String> = (0..zones).map(zone_name).collect();
        let routes: Vec<(&str, &str, f64)> = (0..dice.below(6))
            .map(|_| {
                let (from, to) = (&names[dice.below(zones)], &names[dice.below(zones)]);
                (from.as_str(), to.as_str(), f64::from(small(dice, 50)))
            })
            .collect();
        world.edge(caller, callee, &routes);
    }
    let ready_zones: Vec<String> = (0..zones).map(zone_name).collect();
    for host in &mut world.snapshot.hosts {
        if dice.one_in(3) {
            host.default_split = DefaultSplit::OwnZoneFirst;
        }
        if dice.one_in(3) {
            let mut weights = std::collections::BTreeMap::new();
            let mut left = 100;
            for zone in ready_zones.iter().skip(1) {
                let weight = u8::try_from(1 + dice.below(20)).unwrap();
                left -= weight;
                weights.insert(zone.parse().unwrap(), weight);
            }
            weights.insert(ready_zones[0].parse().unwrap(), left);
            let caller = ready_zones[dice.below(zones)].parse().unwrap();
            host.rule = Rule::Ours([(caller, Distribution::new(weights).unwrap())].into());
        }
    }
    if dice.one_in(4) {
        world.snapshot.hosts.clear();
    }
}

fn latency(world: &mut World, dice: &mut Dice, zones: usize) {
    let rtt = |dice: &mut Dice| Millis::saturating(f64::from(1 + small(dice, 40)) / 8.0);
    let mut latency = Latency::default();
    if dice.one_in(2) {
        for from in 0..zones {
            for to in 0..zones {
                if dice.one_in(2) {
                    latency.zones.push(ZoneRoundTrip {
                        from: zone_name(from).parse().unwrap(),
                        to: zone_name(to).parse().unwrap(),
                        rtt: rtt(dice),
                    });
                }
            }
        }
    }
    if dice.one_in(3) {
        for from in &world.snapshot.nodes {
            for to in &world.snapshot.nodes {
                if dice.one_in(2) {
                    latency.nodes.push(NodeRoundTrip {
                        from: from.name.clone(),
                        to: to.name.clone(),
                        rtt: rtt(dice),
                    });
                }
            }
        }
    }
    if !(latency.nodes.is_empty() && latency.zones.is_empty()) {
        world.snapshot.latency =
            Facts::Fresh { as_of: NOW, source: Source::LatencyExporter, value: latency };
    }
}
