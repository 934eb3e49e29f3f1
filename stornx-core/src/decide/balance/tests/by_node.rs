//! Routes between nodes: planned by the same rooms over finer places, checked, and said anew
//! between zones as soon as a node cannot be named.

use std::collections::BTreeMap;

use crate::{
    check, decide,
    ids::{HostName, NodeName, WorkloadRef, ZoneName},
    memory::Memory,
    model::{
        Edge, Facts, Grain, MOST_NODES, PodPhase, RouteTable, RouteTraffic, Rule, Snapshot,
        WholeZones,
    },
    plan::{Action, Planned, RoutePurpose},
    policy::{Granularity, Policy},
    remember::remember,
    testing::random_case,
    units::{Rps, Timestamp},
};

/// A random cluster whose nodes are all named, before any of its pods came, with the traffic
/// of each route shared by the pods at its ends.
struct Case {
    snapshot: Snapshot,
    policy: Policy,
    now: Timestamp,
}

fn case(seed: u64) -> Case {
    let random = random_case(seed);
    let (mut snapshot, mut policy) = (random.snapshot, random.policy);
    policy.balancer.granularity = Granularity::Node;
    snapshot.memory = Memory::default();
    for node in &mut snapshot.nodes {
        node.labels.retain(|key, _| key.as_str() != crate::model::SUBZONE);
        node.labels
            .insert(crate::model::SUBZONE.parse().unwrap(), node.name.as_str().parse().unwrap());
        node.named_since = Some(Timestamp::from_millis(0));
    }
    for pod in snapshot.workloads.iter_mut().flat_map(|workload| &mut workload.pods) {
        pod.created_at = pod.created_at.max(Timestamp::from_millis(1));
    }
    let by_node = by_node(&snapshot);
    if let Facts::Fresh { value, .. } | Facts::Stale { value, .. } = &mut snapshot.traffic {
        value.by_node = by_node;
    }
    Case { snapshot, policy, now: random.now }
}

/// Ready pods by place of their nodes, those of one zone.
fn places(snapshot: &Snapshot, workload: &str, zone: &ZoneName) -> Vec<ZoneName> {
    let found = snapshot.workloads.iter().find(|one| one.id.to_string() == workload);
    let pods = found.into_iter().flat_map(|workload| &workload.pods);
    let pods = pods.filter(|pod| pod.phase == PodPhase::Ready);
    let node = |name: &NodeName| snapshot.nodes.iter().find(|node| node.name == *name);
    pods.filter_map(|pod| node(pod.node.as_ref()?))
        .filter(|node| node.zone == *zone)
        .map(|node| node.zone.with_node(&node.name))
        .collect()
}

fn by_node(snapshot: &Snapshot) -> Vec<Edge> {
    let edges = snapshot.traffic.known().into_iter().flat_map(|traffic| &traffic.edges);
    let fine = |edge: &Edge| {
        let mut routes: BTreeMap<(ZoneName, ZoneName), RouteTraffic> = BTreeMap::new();
        for route in &edge.routes {
            let from = places(snapshot, &edge.caller.to_string(), &route.from);
            let to = places(snapshot, &edge.callee.to_string(), &route.to);
            let ways = (from.len() * to.len()) as f64;
            for (from, to) in from.iter().flat_map(|from| to.iter().map(move |to| (from, to))) {
                let one = routes.entry((from.clone(), to.clone())).or_insert_with(|| {
                    let (from, to) = (from.clone(), to.clone());
                    RouteTraffic { from, to, requests: Rps::ZERO, ..route.clone() }
                });
                one.requests += Rps::saturating(route.requests.get() / ways);
            }
        }
        Edge { routes: routes.into_values().collect(), ..edge.clone() }
    };
    edges.map(fine).collect()
}

fn written(planned: &Planned) -> impl Iterator<Item = (&HostName, &RouteTable, RoutePurpose)> {
    planned.plan.actions.iter().filter_map(|action| match action {
        Action::SetRoutes { host, to, purpose, .. } => Some((host, to, *purpose)),
        _ => None,
    })
}

/// Plans, checks, writes and remembers.
fn cycle(case: &mut Case) -> Planned {
    let Case { snapshot, policy, now } = case;
    let planned = decide::plan(snapshot, policy, &snapshot.memory, *now);
    assert_eq!(check::check(snapshot, policy, &snapshot.memory, &planned), []);
    for (host, to, _) in written(&planned) {
        let found = snapshot.hosts.iter_mut().find(|found| found.name == *host).unwrap();
        found.rule = Rule::Ours(to.clone());
    }
    let done = planned.plan.actions.iter().map(|_| Ok(())).collect();
    let memory = std::mem::take(&mut snapshot.memory);
    snapshot.memory = remember(memory, snapshot, &planned, &done, policy, *now);
    *now = now.after(crate::units::Span::from_seconds(60));
    if let Facts::Fresh { as_of, .. } = &mut snapshot.traffic {
        *as_of = *now;
    }
    planned
}

fn names_all_of(table: &RouteTable, places: &[ZoneName]) -> bool {
    table.len() == places.len()
        && places.iter().all(|place| table.contains_key(place))
        && table.values().all(|row| {
            row.iter().count() == places.len() && places.iter().all(|place| row.weight(place) > 0)
        })
}

/// What zones get of the callers of each zone on average.
fn by_zone(table: &RouteTable) -> BTreeMap<(String, String), f64> {
    let mut shares: BTreeMap<(String, String), f64> = BTreeMap::new();
    for (from, row) in table {
        let rows = table.keys().filter(|other| other.domain() == from.domain()).count() as f64;
        for (to, weight) in row.iter() {
            let pair = (from.domain().to_owned(), to.domain().to_owned());
            *shares.entry(pair).or_default() += f64::from(weight) / rows;
        }
    }
    shares
}

fn farthest(before: &RouteTable, after: &RouteTable) -> f64 {
    let (before, after) = (by_zone(before), by_zone(after));
    before.iter().map(|(pair, share)| (share - after[pair]).abs()).fold(0.0, f64::max)
}

#[test]
fn every_node_is_named_and_every_plan_passes() {
    let (mut fine, mut hosts) = (0, 0);
    for seed in 0..60 {
        let mut case = case(seed);
        let nodes = &case.snapshot.nodes;
        let places: Vec<ZoneName> = nodes.iter().map(|n| n.zone.with_node(&n.name)).collect();
        for _ in 0..3 {
            let planned = cycle(&mut case);
            for (host, to, _) in written(&planned) {
                if planned.report.hosts[host].whole_zones.is_none() {
                    assert!(names_all_of(to, &places), "seed {seed}: {host}");
                    fine += 1;
                }
            }
            hosts += planned.report.hosts.len();
        }
    }
    println!("{fine} writes between nodes for {hosts} decisions");
    assert!(fine > 60, "{fine} of {hosts}");
}

#[test]
fn a_node_without_a_name_brings_every_rule_back_to_zones_at_once() {
    let mut seen = 0;
    for seed in 0..60 {
        let mut case = case(seed);
        cycle(&mut case);
        let ours = |case: &Case| -> BTreeMap<HostName, RouteTable> {
            let table = |rule: &Rule| match rule {
                Rule::Ours(table) => Some(table.clone()),
                _ => None,
            };
            let hosts = case.snapshot.hosts.iter();
            hosts.filter_map(|host| Some((host.name.clone(), table(&host.rule)?))).collect()
        };
        let before = ours(&case);
        let mut joined = case.snapshot.nodes[0].clone();
        joined.name = "joined".parse().unwrap();
        joined.labels.retain(|key, _| key.as_str() != crate::model::SUBZONE);
        joined.named_since = None;
        case.snapshot.nodes.push(joined);
        case.snapshot.sort();
        let mut zones: Vec<ZoneName> = case.snapshot.nodes.iter().map(|n| n.zone.clone()).collect();
        zones.sort();
        zones.dedup();
        let planned = cycle(&mut case);
        for (host, to, purpose) in written(&planned) {
            assert!(names_all_of(to, &zones), "seed {seed}: {host}");
            let stood = before.get(host).filter(|table| table.keys().any(|p| p.node().is_some()));
            if let Some(stood) = stood {
                assert_eq!(purpose, RoutePurpose::Cover);
                // Each place that is named may take a point.
                let slack = case.snapshot.nodes.len() as f64;
                assert!(farthest(stood, to) <= slack, "seed {seed}: {host}");
                let why = planned.report.hosts[host].whole_zones.clone();
                let node = "joined".parse().unwrap();
                assert_eq!(why, Some(WholeZones::NoLabel { node }));
                seen += 1;
            }
        }
        let stands = |table: &RouteTable| table.keys().all(|place| place.node().is_none());
        let managed = planned.report.hosts.iter().filter(|(_, r)| r.reason.name() == "changed");
        for (host, _) in managed {
            assert!(stands(&ours(&case)[host]), "seed {seed}: {host}");
        }
        // And between nodes again, once it has its label and what is on it is younger.
        if let Some(node) = case.snapshot.nodes.iter_mut().find(|n| n.name.as_str() == "joined") {
            node.named_since = Some(Timestamp::from_millis(0));
        }
        cycle(&mut case);
    }
    println!("{seen} rules came back");
    assert!(seen > 10, "{seen}");
}

#[test]
fn what_is_older_than_the_name_of_its_node_keeps_its_host_at_zones() {
    let mut old = 0;
    for seed in 0..40 {
        let mut case = case(seed);
        let Some(host) = case.snapshot.hosts.iter().find(|host| host.backends.len() == 1) else {
            continue;
        };
        let (name, backend) = (host.name.clone(), host.backends[0].clone());
        let workloads = case.snapshot.workloads.iter_mut();
        let Some(pod) = workloads
            .filter(|workload| workload.id == backend)
            .flat_map(|workload| &mut workload.pods)
            .find(|pod| pod.node.is_some() && pod.phase != PodPhase::Terminating)
        else {
            continue;
        };
        pod.created_at = Timestamp::from_millis(0);
        let pod = pod.name.clone();
        let planned = cycle(&mut case);
        let why = planned.report.hosts[&name].whole_zones.clone();
        assert_eq!(why, Some(WholeZones::OldEndpoint { pod }), "seed {seed}");
        for (host, to, _) in written(&planned).filter(|(host, ..)| **host == name) {
            assert!(to.keys().all(|place| place.node().is_none()), "seed {seed}: {host}");
        }
        old += 1;
    }
    assert!(old > 20, "{old}");
}

/// A replica of a DaemonSet, or one of nobody: the snapshot has no such workload.
#[test]
fn an_old_pod_of_no_known_workload_keeps_its_host_at_zones() {
    let mut old = 0;
    for seed in 0..40 {
        let mut case = case(seed);
        let planned = cycle(&mut case);
        let fine =
            |planned: &Planned, name: &HostName| planned.report.hosts[name].whole_zones.is_none();
        let Some(host) = case.snapshot.hosts.iter_mut().find(|host| fine(&planned, &host.name))
        else {
            continue;
        };
        let (name, pod) = (host.name.clone(), "shop/daemon-1".parse().unwrap());
        host.old_pod = Some(pod);
        let planned = cycle(&mut case);
        let why = planned.report.hosts[&name].whole_zones.clone();
        assert!(matches!(why, Some(WholeZones::OldEndpoint { .. })), "seed {seed}: {why:?}");
        for (_, to, _) in written(&planned).filter(|(host, ..)| **host == name) {
            assert!(to.keys().all(|place| place.node().is_none()), "seed {seed}");
        }
        old += 1;
    }
    assert!(old > 10, "{old}");
}

/// Calls of one workload, seen or not.
fn calls(
    case: &mut Case,
    edges: Option<(Vec<Edge>, Vec<Edge>)>,
    caller: &WorkloadRef,
) -> (Vec<Edge>, Vec<Edge>) {
    let Facts::Fresh { value, .. } = &mut case.snapshot.traffic else { panic!("not fresh") };
    if let Some((edges, by_node)) = edges {
        value.edges.extend(edges);
        value.by_node.extend(by_node);
        case.snapshot.sort();
        return Default::default();
    }
    let take = |edges: &mut Vec<Edge>| {
        let all = std::mem::take(edges);
        let (taken, left) = all.into_iter().partition(|edge| edge.caller == *caller);
        *edges = left;
        taken
    };
    (take(&mut value.edges), take(&mut value.by_node))
}

#[test]
fn a_caller_that_is_older_than_a_name_counts_whether_it_calls_or_not() {
    let mut seen = 0;
    for seed in 0..120 {
        let mut case = case(seed);
        let Facts::Fresh { value, .. } = &case.snapshot.traffic else { continue };
        let Some(edge) = value.edges.iter().find(|edge| {
            let host = case.snapshot.hosts.iter().find(|host| host.name == edge.host);
            host.is_some_and(|host| !host.backends.contains(&edge.caller))
        }) else {
            continue;
        };
        let (name, caller) = (edge.host.clone(), edge.caller.clone());
        let age = |case: &mut Case, millis| {
            let workloads = case.snapshot.workloads.iter_mut();
            let pods = workloads.filter(|workload| workload.id == caller);
            let mut pods = pods.flat_map(|workload| &mut workload.pods);
            let on_node = |pod: &&mut crate::model::Pod| {
                pod.node.is_some() && pod.phase != PodPhase::Terminating
            };
            let found = pods.find(on_node);
            found.map(|pod| pod.created_at = Timestamp::from_millis(millis)).is_some()
        };
        let why = |case: &mut Case| cycle(case).report.hosts[&name].whole_zones.clone();
        let old = |why: &Option<WholeZones>| matches!(why, Some(WholeZones::OldCaller { .. }));
        if why(&mut case).is_some() {
            continue;
        }
        // Its calls are not seen, and it is not known as a caller.
        let edges = calls(&mut case, None, &caller);
        if case.snapshot.whole_zones().is_some() || !age(&mut case, 0) {
            continue;
        }
        assert_eq!(why(&mut case), None, "seed {seed}");
        // Once it was seen it counts, until no pod of it is old any more.
        calls(&mut case, Some(edges), &caller);
        assert!(old(&why(&mut case)), "seed {seed}");
        calls(&mut case, None, &caller);
        for _ in 0..3 {
            let stored = serde_json::to_string(&case.snapshot.memory).unwrap();
            case.snapshot.memory = serde_json::from_str(&stored).unwrap();
            assert!(old(&why(&mut case)), "seed {seed}");
        }
        age(&mut case, 1);
        assert_eq!(why(&mut case), None, "seed {seed}");
        assert!(
            case.snapshot.memory.hosts.get(&name).is_none_or(|kept| kept.old_callers.is_empty())
        );
        seen += 1;
    }
    assert!(seen > 10, "{seen}");
}

#[test]
fn a_cluster_that_cannot_be_named_says_why() {
    let why = |change: &dyn Fn(&mut Snapshot)| {
        let counted = |case: &Case| {
            case.snapshot.traffic.fresh().is_some_and(|traffic| !traffic.edges.is_empty())
        };
        let mut case = (0..).map(case).find(counted).unwrap();
        change(&mut case.snapshot);
        case.snapshot.whole_zones()
    };
    assert_eq!(why(&|_| ()), None);
    let many = why(&|snapshot| {
        for at in 0..MOST_NODES {
            let mut node = snapshot.nodes[0].clone();
            node.name = format!("more-{at}").parse().unwrap();
            snapshot.nodes.push(node);
        }
    });
    assert!(matches!(many, Some(WholeZones::TooManyNodes { .. })), "{many:?}");
    let foreign = why(&|snapshot| snapshot.nodes[0].named_since = None);
    assert!(matches!(foreign, Some(WholeZones::ForeignLabel { .. })), "{foreign:?}");
    let uncounted = why(&|snapshot| {
        if let Facts::Fresh { value, .. } = &mut snapshot.traffic {
            value.by_node.clear();
        }
    });
    assert_eq!(uncounted, Some(WholeZones::NotCounted));
}

#[test]
fn nobody_is_remembered_as_older_where_nodes_get_no_names() {
    let mut seen = 0;
    for seed in 0..40 {
        let Case { mut snapshot, .. } = case(seed);
        // Older than every name.
        for node in &mut snapshot.nodes {
            node.named_since = Some(Timestamp::from_millis(u64::MAX));
        }
        let remembered = |snapshot: &Snapshot| {
            let grain = Grain::of(snapshot, Granularity::Node, &Memory::default());
            snapshot.hosts.iter().filter(|host| grain.old_callers(&host.name).is_some()).count()
        };
        let before = remembered(&snapshot);
        snapshot.nodes[0].named_since = None;
        assert!(matches!(snapshot.whole_zones(), Some(WholeZones::ForeignLabel { .. })));
        assert_eq!(remembered(&snapshot), 0, "seed {seed}");
        seen += before;
    }
    assert!(seen > 10, "{seen}");
}
