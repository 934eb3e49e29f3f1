//! A small healthy shop over three zones, and a valid plan of each kind for it.
//!
//! `web` (4 replicas: 2, 1, 1) calls `cart` (5 replicas: 2, 2, 1); `pay` is a stateful set of
//! 3, one in each zone. Zones `z1` to `z3` have two nodes each.

use std::collections::BTreeMap;

use crate::{
    ids::{PodName, WorkloadRef, ZoneName},
    memory::{Expectation, Memory, MoveInFlight},
    model::{
        ApiVersion, Autoscaler, AutoscalerKind, DefaultSplit, Distribution, Edge, Facts,
        HeldMinimum, Host, Latency, Mesh, Node, Pod, PodPhase, PodTraffic, PodUsage, Protocol,
        RouteTable, RouteTraffic, Rule, Snapshot, Source, Steered, Steering, Traces, Traffic,
        Workload, WorkloadPolicy,
    },
    plan::{AbortCause, Action, MoveEnd, MoveEnding, MoveWay, Plan, Planned, RoutePurpose},
    policy::{AutoscaledMoves, Policy},
    report::{ActionReport, Expected, MoveWhy, Report, RouteWhy, ScaleWhy, TidyWhy, Trigger, Why},
    units::{Bytes, MilliCpu, Percent, Resources, Rps, Share, Span, Timestamp},
};

pub(super) const NOW: Timestamp = Timestamp::from_millis(10_000_000);

#[derive(Debug, Clone)]
pub(super) struct Fixture {
    pub(super) snapshot: Snapshot,
    pub(super) policy: Policy,
    pub(super) memory: Memory,
    pub(super) planned: Planned,
}

impl Fixture {
    pub(super) fn workload(&mut self, name: &str) -> &mut Workload {
        self.snapshot.workloads.iter_mut().find(|w| w.id.name() == name).unwrap()
    }
    pub(super) fn node(&mut self, name: &str) -> &mut Node {
        self.snapshot.nodes.iter_mut().find(|node| node.name.as_str() == name).unwrap()
    }
    pub(super) fn pod(&mut self, name: &str) -> &mut Pod {
        let pods = self.snapshot.workloads.iter_mut().flat_map(|w| &mut w.pods);
        pods.into_iter().find(|pod| pod.name.name() == name).unwrap()
    }
    pub(super) fn action(&mut self) -> &mut Action {
        &mut self.planned.plan.actions[0]
    }
    pub(super) fn host(&mut self) -> &mut Host {
        &mut self.snapshot.hosts[0]
    }
    pub(super) fn routes(&mut self) -> &mut RouteTable {
        match self.action() {
            Action::SetRoutes { to, .. } => to,
            other => panic!("not a change of routes: {other}"),
        }
    }
    pub(super) fn route_why(&mut self) -> &mut RouteWhy {
        match &mut self.planned.report.actions[0].why {
            Why::Route(why) => why,
            other => panic!("not a reason of routes: {other}"),
        }
    }
    pub(super) fn scale_why(&mut self) -> &mut ScaleWhy {
        match &mut self.planned.report.actions[0].why {
            Why::Scale(why) => why,
            other => panic!("not a reason of scaling: {other}"),
        }
    }
    pub(super) fn record(&mut self) -> &mut MoveInFlight {
        let cart = self.memory.workloads.get_mut(&id("cart")).unwrap();
        cart.in_flight.as_mut().unwrap()
    }
    /// The same world with one more action.
    pub(super) fn and(mut self, action: Action, why: Why) -> Self {
        self.planned.plan.actions.push(action);
        self.planned.report.actions.push(ActionReport { expected: Expected::default(), why });
        self
    }
}

pub(super) fn id(name: &str) -> WorkloadRef {
    let kind = if name == "pay" { "StatefulSet" } else { "Deployment" };
    format!("shop/{kind}/{name}").parse().unwrap()
}

pub(super) fn pod(name: &str) -> PodName {
    format!("shop/{name}").parse().unwrap()
}

pub(super) fn zone(name: &str) -> ZoneName {
    name.parse().unwrap()
}

/// One row of weights over `z1`, `z2`, `z3`; zeros are left out.
pub(super) fn row(weights: [u8; 3]) -> Distribution {
    let named = ["z1", "z2", "z3"].into_iter().zip(weights);
    let weights: BTreeMap<_, _> =
        named.filter(|(_, w)| *w > 0).map(|(name, w)| (zone(name), w)).collect();
    Distribution::new(weights).unwrap()
}

pub(super) fn table(rows: [[u8; 3]; 3]) -> RouteTable {
    ["z1", "z2", "z3"].into_iter().zip(rows).map(|(z, weights)| (zone(z), row(weights))).collect()
}

fn node(name: &str, zone: &str) -> Node {
    Node {
        name: name.parse().unwrap(),
        zone: zone.parse().unwrap(),
        region: "r1".parse().unwrap(),
        ready: true,
        schedulable: true,
        allocatable: Resources { cpu: MilliCpu::new(4000), memory: Bytes::new(8 << 30) },
        pod_capacity: 20,
        reserved: Resources::default(),
        reserved_pods: 1,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        named_since: None,
    }
}

fn workload(name: &str, nodes: &[&str]) -> Workload {
    let pods = nodes.iter().enumerate().map(|(ordinal, node)| Pod {
        name: pod(&format!("{name}-{ordinal}")),
        node: Some(node.parse().unwrap()),
        phase: PodPhase::Ready,
        created_at: Timestamp::from_millis(0),
        ready_since: Some(Timestamp::from_millis(5000)),
        traces: Traces::default(),
    });
    Workload {
        id: id(name),
        managed: true,
        desired: u32::try_from(nodes.len()).unwrap(),
        requests: Resources { cpu: MilliCpu::new(1000), memory: Bytes::new(1 << 30) },
        limits: None,
        constraints: crate::model::Constraints::default(),
        autoscaler: None,
        budget: None,
        rollout: crate::model::Rollout::Settled,
        policy: WorkloadPolicy::default(),
        startup: None,
        min_ready: Span::ZERO,
        counted_by: crate::model::CountBy::Unknown,
        ready_counted: None,
        proxied: false,
        pods: pods.collect(),
    }
}

/// What stands for the host of `cart`.
pub(super) fn live() -> RouteTable {
    table([[60, 20, 20], [30, 40, 30], [30, 30, 40]])
}

/// The world without a plan. Each replica of `cart` serves 40 requests/s and is used to
/// 40 % (CPU and memory).
pub(super) fn fixture() -> Fixture {
    let nodes =
        (1..=6).map(|number| node(&format!("n{number}"), &format!("z{}", (number + 1) / 2)));
    let workloads = vec![
        workload("cart", &["n1", "n2", "n3", "n4", "n5"]),
        workload("pay", &["n1", "n3", "n5"]),
        workload("web", &["n1", "n2", "n3", "n5"]),
    ];
    let host_name = "cart.shop.svc.cluster.local".parse().unwrap();
    let hosts = vec![Host {
        name: host_name,
        backends: vec![id("cart")],
        rule: Rule::Ours(live()),
        default_split: DefaultSplit::ByReplicas,
        adoptable: false,
        leftover: false,
        displaced: false,
        old_pod: None,
        foreign_endpoints: false,
        ztunnel_only: false,
    }];
    let pods = workloads.iter().flat_map(|w| &w.pods);
    let usage = pods.map(|pod| PodUsage {
        pod: pod.name.clone(),
        cpu: MilliCpu::new(400),
        memory: Bytes::new((1 << 30) * 2 / 5),
        throttled: None,
    });
    let routes = live().into_iter().zip([100.0, 50.0, 50.0]).flat_map(|((from, row), demand)| {
        let route = move |(to, weight): (&ZoneName, u8)| RouteTraffic {
            from: from.clone(),
            to: to.clone(),
            requests: Rps::saturating(demand * f64::from(weight) / 100.0),
            request_bytes: crate::units::BytesPerSecond::ZERO,
            response_bytes: crate::units::BytesPerSecond::ZERO,
            p95: None,
            errors: Share::default(),
        };
        row.iter().map(route).collect::<Vec<_>>()
    });
    let edge = Edge {
        caller: id("web"),
        callee: id("cart"),
        host: hosts[0].name.clone(),
        protocol: Protocol::Http,
        routes: routes.collect(),
    };
    // 90 requests/s arrive in z1 (two replicas), 55 in z2 (two), 55 in z3 (one).
    let rates = [45.0, 45.0, 27.5, 27.5, 55.0];
    let served = workloads[0].pods.iter().zip(rates).map(|(pod, rate)| PodTraffic {
        pod: pod.name.clone(),
        requests: Rps::saturating(rate),
        p95: None,
        errors: Share::default(),
    });
    let traffic = Traffic {
        window: Span::from_seconds(60),
        edges: vec![edge],
        pods: served.collect(),
        by_node: Vec::new(),
    };
    let source = Source::Simulator;
    let snapshot = Snapshot {
        api_version: ApiVersion::V1Alpha1,
        taken_at: NOW,
        nodes: nodes.collect(),
        usage: Facts::Fresh { as_of: NOW, source, value: usage.collect() },
        traffic: Facts::Fresh { as_of: NOW, source, value: traffic },
        latency: Facts::Fresh { as_of: NOW, source, value: Latency::default() },
        workloads,
        hosts,
        mesh: Mesh::Routable,
        steering: Steering::default(),
        quiet: false,
        warnings: Vec::new(),
        memory: crate::memory::Memory::default(),
    };
    assert_eq!(snapshot.problems(), []);
    Fixture {
        snapshot,
        policy: loose_skew(),
        memory: Memory::default(),
        planned: Planned {
            plan: Plan { at: NOW, ..Plan::default() },
            report: Report { at: NOW, ..Report::default() },
        },
    }
}

pub(super) fn scale(name: &str, from: u32, to: u32, victims: &[&str]) -> Why {
    Why::Scale(ScaleWhy {
        workload: id(name),
        trigger: Trigger::Utilisation,
        from,
        to,
        utilisation: None,
        p95: None,
        placements: Vec::new(),
        victims: victims.iter().map(|name| pod(name)).collect(),
    })
}

pub(super) fn moved() -> Why {
    Why::Move(MoveWhy::GivenUp { cause: AbortCause::TimedOut })
}

pub(super) fn route(purpose: RoutePurpose, delta: f64, step: f64) -> Why {
    Why::Route(RouteWhy {
        host: "cart.shop.svc.cluster.local".parse().unwrap(),
        purpose,
        delta,
        step,
        largest: None,
        cross_zone_before: Percent::ZERO,
        cross_zone_after: Percent::ZERO,
        peak_before: None,
        peak_after: None,
        effect: None,
    })
}

pub(super) fn add() -> Fixture {
    let nodes = vec!["n6".parse().unwrap(), "n3".parse().unwrap()];
    let action = Action::AddReplicas { workload: id("cart"), observed: 5, nodes };
    fixture().and(action, scale("cart", 5, 7, &[]))
}

pub(super) fn remove() -> Fixture {
    let victims = vec![pod("cart-0")];
    let action = Action::RemoveReplicas { workload: id("cart"), observed: 5, victims };
    fixture().and(action, scale("cart", 5, 4, &["cart-0"]))
}

pub(super) fn remove_from_stateful_set() -> Fixture {
    let mut fixture = fixture();
    // Two in z3, so that the last one can go.
    fixture.pod("pay-1").node = Some("n6".parse().unwrap());
    let victims = vec![pod("pay-2")];
    let action = Action::RemoveReplicas { workload: id("pay"), observed: 3, victims };
    fixture.and(action, scale("pay", 3, 2, &["pay-2"]))
}

pub(super) fn start() -> Fixture {
    let action = Action::StartMove {
        workload: id("cart"),
        observed: 5,
        way: MoveWay::Surge,
        victim: pod("cart-0"),
        from: "n1".parse().unwrap(),
        to: "n6".parse().unwrap(),
    };
    fixture().and(action, moved())
}

/// `cart-0` moves from `n1` to `n6`; its replacement is Ready.
pub(super) fn moving() -> Fixture {
    let mut fixture = fixture();
    let known_pods = fixture.workload("cart").pods.iter().map(|pod| pod.name.clone()).collect();
    let record = MoveInFlight {
        started_at: Timestamp::from_millis(9_900_000),
        way: MoveWay::Surge,
        victim: pod("cart-0"),
        from: "n1".parse().unwrap(),
        to: "n6".parse().unwrap(),
        replicas_before: 5,
        known_pods,
        predicted_saving: 1.0,
        ending: None,
    };
    fixture.memory.workloads.entry(id("cart")).or_default().in_flight = Some(record);
    let cart = fixture.workload("cart");
    cart.desired = 6;
    cart.pods.push(Pod {
        name: pod("cart-5"),
        node: Some("n6".parse().unwrap()),
        phase: PodPhase::Ready,
        created_at: Timestamp::from_millis(9_900_000),
        ready_since: Some(Timestamp::from_millis(9_950_000)),
        traces: Traces::default(),
    });
    fixture
}

pub(super) fn finish() -> Fixture {
    let action = Action::FinishMove {
        workload: id("cart"),
        observed: 6,
        victim: pod("cart-0"),
        replacement: pod("cart-5"),
    };
    moving().and(action, moved())
}

pub(super) fn abort() -> Fixture {
    let action = Action::AbortMove {
        workload: id("cart"),
        observed: 6,
        surge: Some(pod("cart-5")),
        cause: AbortCause::TimedOut,
    };
    moving().and(action, moved())
}

/// The minimum of the autoscaler is raised for a move.
pub(super) fn hold() -> Fixture {
    let mut fixture = start();
    fixture.policy.moves.autoscaled = AutoscaledMoves::Hold;
    let kind = AutoscalerKind::Hpa;
    fixture.workload("cart").autoscaler = Some(Autoscaler { kind, min: 2, max: 9, held: None });
    match fixture.action() {
        Action::StartMove { way, .. } => *way = MoveWay::Hold,
        other => panic!("{other}"),
    }
    fixture
}

/// It is given back, the replacement being Ready.
pub(super) fn give_back() -> Fixture {
    let mut fixture = moving();
    fixture.record().way = MoveWay::Hold;
    let held = Some(HeldMinimum { before: 2, raised: 6 });
    let kind = AutoscalerKind::Hpa;
    fixture.workload("cart").autoscaler = Some(Autoscaler { kind, min: 6, max: 9, held });
    let action = Action::GiveBackMinimum {
        workload: id("cart"),
        observed: 6,
        goes: Some(pod("cart-0")),
        ending: Some(MoveEnding::Finish { replacement: pod("cart-5") }),
    };
    fixture.and(action, moved())
}

/// The count is as before again, and the victim is gone.
pub(super) fn close() -> Fixture {
    let mut fixture = moving();
    let cart = fixture.workload("cart");
    cart.desired = 5;
    cart.pods.retain(|pod| pod.name.name() != "cart-0");
    let action = Action::CloseMove { workload: id("cart"), observed: 5, end: MoveEnd::Done };
    fixture.and(action, moved())
}

/// A replica carries a mark, and none is to go.
pub(super) fn unmark() -> Fixture {
    let mut fixture = fixture();
    fixture.workload("cart").pods[1].traces.victim = true;
    let action = Action::Unmark { workload: id("cart"), observed: 5, pods: vec![pod("cart-1")] };
    fixture.and(action, Why::TidyUp(TidyWhy::Marked))
}

/// A replica waits for the node that it was told to run on.
pub(super) fn release() -> Fixture {
    let mut fixture = fixture();
    let waiting = &mut fixture.workload("cart").pods[1];
    waiting.traces.steered =
        Some(Steered { node: "n2".parse().unwrap(), since: Timestamp::from_millis(5000) });
    (waiting.phase, waiting.node, waiting.ready_since) = (PodPhase::Pending, None, None);
    let action = Action::Release { workload: id("cart"), pods: vec![pod("cart-1")] };
    fixture.and(action, Why::TidyUp(TidyWhy::NoRoom { waited: Span::from_seconds(200) }))
}

fn set(
    fixture: Fixture,
    from: RouteTable,
    to: RouteTable,
    purpose: RoutePurpose,
    why: Why,
) -> Fixture {
    let Host { name: host, rule, .. } = fixture.snapshot.hosts[0].clone();
    let first = rule == Rule::None;
    let action = Action::SetRoutes { host, workload: id("cart"), from, to, first, purpose };
    fixture.and(action, why)
}

/// A delta of 40 makes a step of 17.
pub(super) fn improve() -> Fixture {
    let to = table([[67, 17, 16], [20, 57, 23], [25, 25, 50]]);
    let why = route(RoutePurpose::Improve, 75.0, 20.0);
    set(fixture(), live(), to, RoutePurpose::Improve, why)
}

/// The first write of a host: what the mesh does is 40, 40, 20 for every caller.
pub(super) fn first_write() -> Fixture {
    let mut fixture = fixture();
    fixture.host().rule = Rule::None;
    let from = table([[40, 40, 20]; 3]);
    let to = table([[60, 30, 10], [30, 50, 20], [30, 35, 35]]);
    let why = route(RoutePurpose::Improve, 100.0, 20.0);
    set(fixture, from, to, RoutePurpose::Improve, why)
}

pub(super) fn decay() -> Fixture {
    let to = table([[50, 30, 20], [40, 40, 20], [40, 30, 30]]);
    let why = route(RoutePurpose::Decay, 120.0, 20.0);
    let mut fixture = fixture();
    fixture.snapshot.traffic = Facts::Missing { reason: "nobody answers".to_owned() };
    let host = fixture.snapshot.hosts[0].name.clone();
    let stale_since = NOW.as_millis() - fixture.policy.balancer.stale_after.as_millis();
    fixture.memory.hosts.entry(host).or_default().stale_since =
        Some(Timestamp::from_millis(stale_since));
    set(fixture, live(), to, RoutePurpose::Decay, why)
}

/// A step towards every replica alike while the workload is rolled out.
pub(super) fn rollout() -> Fixture {
    let mut fixture = fixture();
    let backend = fixture.host().backends[0].clone();
    let workloads = fixture.snapshot.workloads.iter_mut();
    workloads.filter(|workload| workload.id == backend).for_each(|workload| {
        workload.rollout = crate::model::Rollout::InProgress;
    });
    let to = table([[50, 30, 20], [40, 40, 20], [40, 30, 30]]);
    let why = route(RoutePurpose::Rollout, 120.0, 20.0);
    set(fixture, live(), to, RoutePurpose::Rollout, why)
}

pub(super) fn cover() -> Fixture {
    let mut fixture = fixture();
    let partial = table([[60, 40, 0], [30, 40, 30], [30, 30, 40]]);
    fixture.host().rule = Rule::Ours(partial.clone());
    let to = table([[59, 40, 1], [30, 40, 30], [30, 30, 40]]);
    let why = route(RoutePurpose::Cover, 2.0, 5.0);
    set(fixture, partial, to, RoutePurpose::Cover, why)
}

pub(super) fn undo() -> Fixture {
    let mut fixture = fixture();
    let before = table([[90, 5, 5], [5, 90, 5], [5, 5, 90]]);
    let host = fixture.snapshot.hosts[0].name.clone();
    let memory = fixture.memory.hosts.entry(host).or_default();
    memory.before = Some(before.clone());
    memory.written_at = Some(Timestamp::from_millis(NOW.as_millis() - 60_000));
    memory.expectation = Some(Expectation {
        since: Timestamp::from_millis(NOW.as_millis() - 300_000),
        p95_before: None,
        errors_before: Share::ZERO,
        others_p95_before: None,
        demand_before: Rps::saturating(200.0),
    });
    let why = route(RoutePurpose::Undo, 220.0, 20.0);
    set(fixture, live(), before, RoutePurpose::Undo, why)
}

/// A valid plan of each kind, by name.
pub(super) fn valid_plans() -> Vec<(&'static str, Fixture)> {
    vec![
        ("add", add()),
        ("remove", remove()),
        ("remove from a stateful set", remove_from_stateful_set()),
        ("start", start()),
        ("finish", finish()),
        ("abort", abort()),
        ("close", close()),
        ("give back", give_back()),
        ("unmark", unmark()),
        ("release", release()),
        ("improve", improve()),
        ("first write", first_write()),
        ("decay", decay()),
        ("rollout", rollout()),
        ("cover", cover()),
        ("undo", undo()),
    ]
}

/// Settings with room between what is even and what is forbidden, so that tests can tell
/// them apart.
fn loose_skew() -> Policy {
    let mut policy = Policy::default();
    policy.fault_tolerance.max_skew = 3;
    policy
}
