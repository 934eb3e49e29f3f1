//! The naive model: the rules of placement and removal as they are published, over the
//! snapshot alone, pair by pair, with no thought for speed. Calls no code of the
//! planner.

use crate::{
    decide::safety::testing::{World, id},
    model::{DefaultSplit, Edge, Node, NodeOperator, Pod, PodPhase, Rule, TaintEffect, Workload},
};

const TIE: f64 = 1e-9;

fn workload<'a>(world: &'a World, name: &str) -> &'a Workload {
    world.snapshot.workloads.iter().find(|workload| workload.id == id(name)).unwrap()
}

fn node<'a>(world: &'a World, name: &str) -> Option<&'a Node> {
    world.snapshot.nodes.iter().find(|node| node.name.as_str() == name)
}

fn node_of<'a>(world: &'a World, pod: &Pod) -> Option<&'a Node> {
    pod.node.as_ref().and_then(|name| node(world, name.as_str()))
}

/// Nodes of the ready replicas of a workload, in one zone or all.
fn ready<'a>(world: &'a World, of: &Workload, zone: Option<&str>) -> Vec<&'a Node> {
    of.pods
        .iter()
        .filter(|pod| pod.phase == PodPhase::Ready)
        .filter_map(|pod| node_of(world, pod))
        .filter(|node| node.ready)
        .filter(|node| zone.is_none_or(|zone| node.zone.as_str() == zone))
        .collect()
}

fn zones(world: &World) -> Vec<String> {
    let mut zones: Vec<_> = world.snapshot.nodes.iter().map(|node| node.zone.to_string()).collect();
    zones.sort();
    zones.dedup();
    zones
}

fn zone_latency(world: &World, from: &str, to: &str) -> f64 {
    let measured = world.snapshot.latency.fresh();
    if let Some(pair) = measured
        .and_then(|l| l.zones.iter().find(|p| p.from.as_str() == from && p.to.as_str() == to))
    {
        return pair.rtt.get();
    }
    let zone = |name: &crate::ids::NodeName| node(world, name.as_str()).unwrap().zone.clone();
    let pairs: Vec<f64> = measured
        .iter()
        .flat_map(|l| &l.nodes)
        .filter(|p| p.from != p.to && zone(&p.from).as_str() == from && zone(&p.to).as_str() == to)
        .map(|p| p.rtt.get())
        .collect();
    if !pairs.is_empty() {
        return pairs.iter().sum::<f64>() / f64::from(u32::try_from(pairs.len()).unwrap());
    }
    if from == to { 0.3 } else { 1.0 }
}

fn latency(world: &World, from: &Node, to: &Node) -> f64 {
    let measured = world.snapshot.latency.fresh();
    if let Some(pair) =
        measured.and_then(|l| l.nodes.iter().find(|p| p.from == from.name && p.to == to.name))
    {
        return pair.rtt.get();
    }
    if from.name == to.name {
        return 0.05;
    }
    zone_latency(world, from.zone.as_str(), to.zone.as_str())
}

/// Shares of the requests that `from` sends to each zone.
fn split(world: &World, edge: &Edge, from: &str) -> Vec<(String, f64)> {
    let rates = |own: bool| -> Vec<(String, f64)> {
        edge.routes
            .iter()
            .filter(|route| !own || route.from.as_str() == from)
            .map(|route| (route.to.to_string(), route.requests.get()))
            .collect()
    };
    let share = |rates: Vec<(String, f64)>| -> Vec<(String, f64)> {
        let sum: f64 = rates.iter().map(|(_, rate)| rate).sum();
        rates.into_iter().map(|(zone, rate)| (zone, rate / sum)).collect()
    };
    let sum = |rates: &[(String, f64)]| rates.iter().map(|(_, rate)| rate).sum::<f64>();
    if sum(&rates(true)) > 0.0 {
        return share(rates(true));
    }
    let callee = world.snapshot.workloads.iter().find(|w| w.id == edge.callee).unwrap();
    let count =
        |zone: &str| f64::from(u32::try_from(ready(world, callee, Some(zone)).len()).unwrap());
    let held: Vec<(String, f64)> = zones(world)
        .into_iter()
        .map(|zone| (zone.clone(), count(&zone)))
        .filter(|(_, count)| *count > 0.0)
        .collect();
    if held.is_empty() {
        return share(rates(false));
    }
    if let Some(host) = world.snapshot.hosts.iter().find(|host| host.name == edge.host) {
        let rule = match &host.rule {
            Rule::Ours(table) => table.get(&from.parse().unwrap()),
            _ => None,
        };
        if let Some(weights) = rule {
            let weighted: Vec<(String, f64)> = held
                .iter()
                .map(|(zone, _)| (zone.clone(), weights.weight(&zone.parse().unwrap()).into()))
                .collect();
            if sum(&weighted) > 0.0 {
                return share(weighted);
            }
        } else if host.default_split == DefaultSplit::OwnZoneFirst && count(from) > 0.0 {
            return vec![(from.to_owned(), 1.0)];
        }
    }
    share(held)
}

/// Travel cost of a node; `None` without traffic.
pub(super) fn cost(world: &World, name: &str, at: &str) -> Option<f64> {
    let traffic = world.snapshot.traffic.fresh()?;
    let at = node(world, at).unwrap();
    let find = |wanted| world.snapshot.workloads.iter().find(|w| w.id == wanted).unwrap();
    let each = |nodes: &[&Node]| f64::from(u32::try_from(nodes.len()).unwrap());
    let (mut sum, mut requests) = (0.0, 0.0);
    for edge in &traffic.edges {
        if edge.callee == id(name) {
            for route in &edge.routes {
                requests += route.requests.get();
                let callers = ready(world, find(edge.caller.clone()), Some(route.from.as_str()));
                for caller in &callers {
                    sum += route.requests.get() / each(&callers) * latency(world, caller, at);
                }
                if callers.is_empty() {
                    let far = zone_latency(world, route.from.as_str(), at.zone.as_str());
                    sum += route.requests.get() * far;
                }
            }
        }
        if edge.caller == id(name) && edge.requests().get() > 0.0 {
            let rate = edge.requests().get();
            requests += rate;
            for (to, share) in split(world, edge, at.zone.as_str()) {
                let callees = ready(world, find(edge.callee.clone()), Some(&to));
                for callee in &callees {
                    sum += rate * share / each(&callees) * latency(world, at, callee);
                }
                if callees.is_empty() {
                    sum += rate * share * zone_latency(world, at.zone.as_str(), &to);
                }
            }
        }
    }
    (requests > 0.0).then_some(sum)
}

/// CPU, memory and pods still free on a node after what was promised.
fn free(world: &World, at: &Node, of: &Workload, promised: &[String]) -> (i64, i64, i64) {
    let signed = |value: u64| i64::try_from(value).unwrap();
    let mut free = (
        signed(at.allocatable.cpu.get()) - signed(at.reserved.cpu.get()),
        signed(at.allocatable.memory.get()) - signed(at.reserved.memory.get()),
        i64::from(at.pod_capacity) - i64::from(at.reserved_pods),
    );
    let mut take = |of: &Workload| {
        free.0 -= signed(of.requests.cpu.get());
        free.1 -= signed(of.requests.memory.get());
        free.2 -= 1;
    };
    for workload in &world.snapshot.workloads {
        for _ in workload.pods.iter().filter(|pod| pod.node.as_ref() == Some(&at.name)) {
            take(workload);
        }
    }
    for _ in promised.iter().filter(|name| name.as_str() == at.name.as_str()) {
        take(of);
    }
    free
}

#[allow(clippy::cast_precision_loss)]
fn used(world: &World, at: &Node, of: &Workload, promised: &[String]) -> f64 {
    let (cpu, memory, _) = free(world, at, of, promised);
    let share = |free: i64, offered: u64| {
        if offered == 0 { 1.0 } else { 1.0 - free.max(0) as f64 / offered as f64 }
    };
    let policy = &world.policy.scaler;
    let (by_cpu, by_memory) = (policy.cpu_weight.get(), policy.memory_weight.get());
    (by_cpu * share(cpu, at.allocatable.cpu.get())
        + by_memory * share(memory, at.allocatable.memory.get()))
        / (by_cpu + by_memory)
}

fn selected(at: &Node, of: &Workload) -> bool {
    let constraints = &of.constraints;
    let selector = constraints.node_selector.iter().all(|(k, v)| at.labels.get(k) == Some(v));
    let term = |term: &crate::model::NodeTerm| {
        let holds = |e: &crate::model::NodeExpression| {
            let has = at.labels.get(&e.key).is_some_and(|value| e.values.contains(value));
            match e.operator {
                NodeOperator::In => has,
                NodeOperator::NotIn => !has,
                _ => panic!("the random clusters do not use {:?}", e.operator),
            }
        };
        !term.expressions.is_empty() && term.expressions.iter().all(holds)
    };
    selector && (constraints.node_affinity.is_empty() || constraints.node_affinity.iter().any(term))
}

fn feasible<'a>(world: &'a World, of: &Workload, promised: &[String]) -> Vec<&'a Node> {
    let tolerant = !of.constraints.tolerations.is_empty();
    let holds = |at: &Node| {
        of.pods.iter().any(|pod| pod.node.as_ref() == Some(&at.name))
            || promised.iter().any(|name| name.as_str() == at.name.as_str())
    };
    world
        .snapshot
        .nodes
        .iter()
        .filter(|at| {
            let (cpu, memory, pods) = free(world, at, of, promised);
            let fits = i64::try_from(of.requests.cpu.get()).unwrap() <= cpu.max(0)
                && i64::try_from(of.requests.memory.get()).unwrap() <= memory.max(0)
                && pods > 0;
            let repelled = at.taints.iter().any(|t| t.effect != TaintEffect::PreferNoSchedule);
            at.ready
                && at.schedulable
                && (tolerant || !repelled)
                && selected(at, of)
                && fits
                && !(of.constraints.one_per_node && holds(at))
                && !of.constraints.pinned
        })
        .collect()
}

/// Replicas of a workload in a zone, promised ones included, of the given phases.
fn held(
    world: &World,
    of: &Workload,
    zone: &str,
    promised: &[String],
    counts: impl Fn(PodPhase) -> bool,
) -> usize {
    let pods = of.pods.iter().filter(|pod| counts(pod.phase));
    let pods = pods.filter_map(|pod| node_of(world, pod)).filter(|at| at.zone.as_str() == zone);
    let new = promised.iter().filter(|name| node(world, name).unwrap().zone.as_str() == zone);
    pods.count() + new.count()
}

fn allowed<'a>(world: &'a World, of: &Workload, promised: &[String]) -> Vec<&'a Node> {
    let limit = |value: u32| usize::try_from(value).unwrap();
    let running = |zone: &str| {
        held(world, of, zone, promised, |p| matches!(p, PodPhase::Ready | PodPhase::Starting))
    };
    let bound = |zone: &str| held(world, of, zone, promised, |p| p != PodPhase::Terminating);
    let mut nodes = feasible(world, of, promised);
    if let Some(max) = of.constraints.max_zone_skew {
        let domains: Vec<&Node> =
            world.snapshot.nodes.iter().filter(|at| selected(at, of)).collect();
        nodes.retain(|at| {
            domains
                .iter()
                .all(|other| bound(at.zone.as_str()) < bound(other.zone.as_str()) + limit(max))
        });
    }
    let tolerance = &world.policy.fault_tolerance;
    let zones = zones(world);
    let holding: Vec<&String> = zones.iter().filter(|zone| running(zone) > 0).collect();
    if holding.len() < limit(tolerance.max_zones) {
        let fresh: Vec<&Node> =
            nodes.iter().copied().filter(|at| running(at.zone.as_str()) == 0).collect();
        if !fresh.is_empty() {
            return fresh;
        }
    }
    nodes.retain(|at| {
        let here = running(at.zone.as_str());
        here > 0 && holding.iter().all(|zone| here < running(zone) + limit(tolerance.max_skew))
    });
    nodes
}

fn least(nodes: Vec<(&Node, f64)>, scale: f64) -> Vec<&Node> {
    let best = nodes.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let close = nodes.into_iter().filter(|(_, value)| *value <= best + TIE * scale);
    close.map(|(at, _)| at).collect()
}

/// The nodes of up to `count` new replicas.
pub(super) fn place(world: &World, name: &str, count: u32) -> Vec<String> {
    let of = workload(world, name);
    let mut promised: Vec<String> = Vec::new();
    for _ in 0..count {
        let nodes = allowed(world, of, &promised);
        let used = |at: &Node| used(world, at, of, &promised);
        let costs: Vec<_> = nodes
            .iter()
            .map(|at| (*at, cost(world, name, at.name.as_str()).unwrap_or_else(|| used(at))))
            .collect();
        let scale = costs.iter().map(|(_, cost)| *cost).fold(0.0, f64::max);
        let near = least(costs, scale);
        let near = least(near.iter().map(|at| (*at, used(at))).collect(), 1.0);
        match near.iter().map(|at| at.name.to_string()).min() {
            Some(best) => promised.push(best),
            None => break,
        }
    }
    promised
}

fn floors_hold(world: &World, of: &Workload, before: &[u32], after: &[u32]) -> bool {
    let tolerance = &world.policy.fault_tolerance;
    let total = |counts: &[u32]| counts.iter().sum::<u32>();
    let worst = |counts: &[u32]| total(counts) - counts.iter().max().copied().unwrap_or(0);
    let zones = |counts: &[u32]| counts.iter().map(|c| u32::from(*c > 0)).sum::<u32>();
    let budget = of.budget.is_none_or(|budget| total(after) >= budget.min_ready);
    #[allow(clippy::cast_precision_loss)]
    let demand = {
        let usage = world.snapshot.usage.fresh().unwrap();
        let serving = of
            .pods
            .iter()
            .filter(|pod| pod.phase == PodPhase::Ready && node_of(world, pod).is_some());
        let base = of.requests.cpu.get() as f64;
        let shares: Option<Vec<f64>> = serving
            .map(|pod| usage.iter().find(|u| u.pod == pod.name).map(|u| u.cpu.get() as f64 / base))
            .collect();
        shares.filter(|_| base > 0.0).map(|shares| shares.iter().sum::<f64>())
    };
    let loss = worst(after) >= worst(before)
        || demand.is_some_and(|demand| f64::from(worst(after)) >= demand - TIE);
    let spread = zones(after) >= zones(before).min(tolerance.max_zones);
    let skew = |counts: &[u32]| {
        let used = before.iter().zip(counts).filter(|(b, _)| **b > 0).map(|(_, c)| *c);
        let used: Vec<u32> = used.collect();
        used.iter().max().copied().unwrap_or(0) - used.iter().min().copied().unwrap_or(0)
    };
    let own = of.constraints.max_zone_skew.unwrap_or(u32::MAX);
    let limit = tolerance.max_skew.min(own);
    budget && loss && spread && skew(after) <= limit.max(skew(before))
}

/// The replicas that leave, up to `count`, and whether a floor stopped it.
pub(super) fn remove(world: &World, name: &str, count: u32) -> (Vec<String>, bool) {
    let of = workload(world, name);
    let mut left: Vec<&Pod> =
        of.pods.iter().filter(|pod| pod.phase != PodPhase::Terminating).collect();
    let mut gone = Vec::new();
    for _ in 0..count {
        match next_to_leave(world, of, name, &left) {
            Ok(Some(victim)) => {
                left.retain(|pod| pod.name != victim.name);
                gone.push(victim.name.name().to_owned());
            }
            Ok(None) => break,
            Err(()) => return (gone, true),
        }
    }
    (gone, false)
}

fn next_to_leave<'a>(
    world: &World,
    of: &Workload,
    name: &str,
    left: &[&'a Pod],
) -> Result<Option<&'a Pod>, ()> {
    let serves = |pod: &Pod| {
        pod.phase == PodPhase::Ready && node_of(world, pod).is_some_and(|node| node.ready)
    };
    for phase in [PodPhase::Pending, PodPhase::Starting, PodPhase::Unready, PodPhase::Ready] {
        let idle = left.iter().filter(|pod| pod.phase == phase && !serves(pod));
        if let Some(first) = idle.min_by(|a, b| a.name.cmp(&b.name)) {
            return Ok(Some(*first));
        }
    }
    let zones = zones(world);
    let zone = |pod: &Pod| node_of(world, pod).unwrap().zone.to_string();
    let counts = |pods: &[&Pod]| -> Vec<u32> {
        let count = |z: &String| pods.iter().filter(|pod| zone(pod) == *z).count();
        zones.iter().map(|z| u32::try_from(count(z)).unwrap()).collect()
    };
    let before = counts(left);
    let without = |victim: &Pod| -> Vec<&Pod> {
        left.iter().copied().filter(|pod| pod.name != victim.name).collect()
    };
    let may_go = |pod: &&&Pod| floors_hold(world, of, &before, &counts(&without(pod)));
    let allowed: Vec<&Pod> = left.iter().filter(may_go).copied().collect();
    if allowed.is_empty() {
        return if left.is_empty() { Ok(None) } else { Err(()) };
    }
    let here = |pod: &Pod| before[zones.iter().position(|z| *z == zone(pod)).unwrap()];
    let most = allowed.iter().map(|pod| here(pod)).max().unwrap();
    let cost =
        |pod: &Pod| cost(world, name, node_of(world, pod).unwrap().name.as_str()).unwrap_or(0.0);
    let mean = |pods: Vec<&Pod>| {
        let count = f64::from(u32::try_from(pods.len()).unwrap());
        pods.iter().map(|pod| cost(pod)).sum::<f64>() / count
    };
    // What the traffic of the zone travels on average, afterwards and before.
    let rise = |victim: &Pod| {
        let in_zone = |pod: &&Pod| zone(pod) == zone(victim);
        let now: Vec<&Pod> = left.iter().copied().filter(in_zone).collect();
        let then: Vec<&Pod> = without(victim).into_iter().filter(in_zone).collect();
        let then = if then.is_empty() { without(victim) } else { then };
        if then.is_empty() {
            return 0.0;
        }
        served_share(world, of, &zone(victim)) * (mean(then) - mean(now))
    };
    let victims: Vec<(&Pod, f64)> =
        allowed.iter().filter(|pod| here(pod) == most).map(|pod| (*pod, rise(pod))).collect();
    let scale = left.iter().map(|pod| cost(pod)).fold(0.0, f64::max);
    let close = |victims: Vec<(&'a Pod, f64)>, scale: f64| -> Vec<&'a Pod> {
        let best = victims.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
        let close = victims.into_iter().filter(|(_, value)| *value <= best + TIE * scale);
        close.map(|(pod, _)| pod).collect()
    };
    let cheap = close(victims, scale);
    let load = |pod: &Pod| used(world, node_of(world, pod).unwrap(), of, &[]);
    let loaded = close(cheap.iter().map(|pod| (*pod, -load(pod))).collect(), 1.0);
    Ok(loaded.into_iter().min_by(|a, b| a.name.cmp(&b.name)))
}

/// The share of a workload's requests that a zone serves.
fn served_share(world: &World, of: &Workload, zone: &str) -> f64 {
    let routes = world.snapshot.traffic.fresh().into_iter().flat_map(|traffic| {
        traffic.edges.iter().filter(|edge| edge.callee == of.id).flat_map(|edge| &edge.routes)
    });
    let (mut here, mut all) = (0.0, 0.0);
    for route in routes {
        all += route.requests.get();
        if route.to.as_str() == zone {
            here += route.requests.get();
        }
    }
    let count = |nodes: Vec<&Node>| f64::from(u32::try_from(nodes.len()).unwrap());
    if all > 0.0 {
        here / all
    } else {
        count(ready(world, of, Some(zone))) / count(ready(world, of, None))
    }
}
